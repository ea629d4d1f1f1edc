"""Draw masks and their expressions on frames."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from mmengine.dist import master_only
from mmengine.visualization import Visualizer
from mmengine.visualization.vis_backend import BaseVisBackend

from glus_mm.registry import VISUALIZERS
from glus_mm.structures import RefVOSDataSample
from glus_mm.utils.checked import checked
from glus_mm.utils.image import check_frame
from glus_mm.utils.masks import decode_rle
from glus_mm.visualization.legend import (
    Color,
    LegendEntry,
    draw_caption,
    draw_legend,
    font_size_for,
    legend_strip,
    title_strip,
)

# Okabe and Ito's colours, which people with any colour vision tell apart. Their darker ones are a
# little lighter here, and black is a light grey, as texts stand on a dark panel.
PALETTE: tuple[Color, ...] = (
    (230, 159, 0), (86, 180, 233), (204, 121, 167), (240, 228, 66), (0, 172, 126), (230, 106, 16),
    (64, 146, 214), (220, 220, 220))
# What a prediction hit, drew too much, and missed.
ERROR_COLORS: dict[str, Color] = {
    'true positive': (0, 172, 126), 'false positive': (230, 106, 16),
    'false negative': (86, 180, 233)}
_ERROR_ALPHA = 0.75
LEGEND_POSITIONS = ('inside', 'below')
_DARK = (20, 20, 20)
_MAX_RIMS = 3


@VISUALIZERS.register_module()
class RefVOSLocalVisualizer(Visualizer):
    """Draw the masks of several expressions on a frame, each in its colour, with a legend.

    Args:
        name: name of the instance.
        image: as in MMEngine.
        vis_backends: configs of MMEngine's backends; they get what :meth:`add_datasample` draws.
        save_dir: where backends store files.
        fig_save_cfg, fig_show_cfg: as in MMEngine.
        alpha: opacity of the masks, 0..1.
        min_width: narrower frames are enlarged to this width in pixels before drawing, so that
            text stays readable.
        palette: RGB colours; expression ``e`` gets colour ``e`` modulo their number.
        legend_position: ``'inside'`` the upper left corner, on half of the height at most, or
            ``'below'`` the frame, which covers nothing.
        expressions_per_row: :meth:`add_datasample` draws the frame again for every so many
            expressions, as more of them on one frame cannot be told apart.
    """

    def __init__(self,
                 name: str = 'visualizer',
                 image: np.ndarray | None = None,
                 vis_backends: dict | BaseVisBackend | list | None = None,
                 save_dir: str | None = None,
                 fig_save_cfg: dict | None = None,
                 fig_show_cfg: dict | None = None,
                 alpha: float = 0.45,
                 min_width: int = 480,
                 palette: Sequence[Color] = PALETTE,
                 legend_position: str = 'inside',
                 expressions_per_row: int = 4) -> None:
        super().__init__(
            name=name, image=image, vis_backends=vis_backends, save_dir=save_dir,
            fig_save_cfg=fig_save_cfg or dict(frameon=False),
            fig_show_cfg=fig_show_cfg or dict(frameon=False))
        checked(float, 'visualizer.', alpha=alpha)
        checked(1, 'visualizer.', min_width=min_width, expressions_per_row=expressions_per_row)
        checked(LEGEND_POSITIONS, 'visualizer.', legend_position=legend_position)
        if not palette or any(len(color) != 3 for color in palette):
            raise ValueError(f'visualizer.palette must hold RGB colours, got {palette!r}')
        self.expressions_per_row = expressions_per_row
        self.legend_position = legend_position
        self.alpha = alpha
        self.min_width = min_width
        self.palette = tuple(tuple(int(value) for value in color) for color in palette)

    def color(self, exp_idx: int) -> Color:
        """RGB of the expression at a position."""
        return self.palette[exp_idx % len(self.palette)]

    def draw_frame(self,
                   image: np.ndarray,
                   masks: np.ndarray,
                   expressions: Sequence[str],
                   colors: Sequence[Color] | None = None,
                   caption: str = '',
                   legend: bool = True,
                   scores: Sequence[float] | None = None) -> np.ndarray:
        """Draw masks, their outlines and a legend.

        Args:
            image: uint8 (H, W, 3) in RGB.
            masks: bool (E, H, W).
            expressions: (E) texts of the legend; an expression whose mask is empty on this frame
                gets a hollow box. Long ones are cut after two lines.
            colors: (E) RGB; those of the palette by default.
            caption: drawn into the lower right corner, such as the frame's name.
            legend: whether to draw the legend.
            scores: (E) confidences 0..1 for the legend, such as the IoU that the mask decoder
                expects.

        Returns:
            uint8 (H', W', 3) in RGB, the frame's own size unless it is narrower than
            ``min_width``; a legend below adds to its height.

        Raises:
            ValueError: sizes or numbers do not agree.
        """
        check_frame(image, 'the image to draw on')
        masks = np.asarray(masks)
        expected = (len(expressions), *image.shape[:2])
        if masks.shape != expected:
            raise ValueError(f'expected masks (E, H, W) = {expected} as the expressions and the '
                             f'image say, got {masks.shape}')
        if colors is None:
            colors = [self.color(e) for e in range(len(expressions))]
        elif len(colors) != len(expressions):
            raise ValueError(f'expected a colour for each of {len(expressions)} expressions, '
                             f'got {len(colors)}')
        scores = None if scores is None else [float(score) for score in scores]
        if scores is not None and len(scores) != len(expressions):
            raise ValueError(f'expected a score for each of {len(expressions)} expressions, got '
                             f'{len(scores)}')
        has_mask = [bool(mask.any()) for mask in masks]
        canvas, masks = self._enlarge(image, masks)
        canvas = self._outline(self._blend(canvas, masks, colors, self.alpha), masks, colors)
        entries = [LegendEntry(*of) for of in zip(expressions, colors, has_mask,
                                                  scores or [None] * len(expressions))]
        legend = legend and bool(entries)
        if legend and self.legend_position == 'inside':
            canvas = draw_legend(canvas, entries)
        if caption:
            canvas = draw_caption(canvas, caption)
        if legend and self.legend_position == 'below':
            canvas = np.concatenate([canvas, legend_strip(entries, canvas.shape[1])])
        return canvas

    def draw_errors(self, image: np.ndarray, gt_mask: np.ndarray, pred_mask: np.ndarray,
                    expression: str = '', caption: str = '') -> np.ndarray:
        """Draw where a prediction is right, where it has too much and what it misses.

        Args:
            image: uint8 (H, W, 3) in RGB.
            gt_mask: bool (H, W).
            pred_mask: bool (H, W).
            expression: stands above.
            caption: drawn into the lower right corner.

        Returns:
            uint8 (H', W', 3) in RGB; the frame is grey, and a legend below counts pixels.

        Raises:
            ValueError: sizes do not agree, or the image is none.
        """
        gt, pred = np.asarray(gt_mask) != 0, np.asarray(pred_mask) != 0
        if gt.shape != pred.shape:
            raise ValueError(f'expected two masks of one size, got {gt.shape} and {pred.shape}')
        masks = np.stack([gt & pred, pred & ~gt, gt & ~pred])
        colors = list(ERROR_COLORS.values())
        entries = [LegendEntry(f'{name}: {np.count_nonzero(mask)} px', color, bool(mask.any()))
                   for (name, color), mask in zip(ERROR_COLORS.items(), masks)]
        check_frame(image, 'the image to draw on')
        if gt.shape != image.shape[:2]:
            raise ValueError(f'expected masks of (H, W) = {image.shape[:2]} as the image says, got '
                             f'{gt.shape}')
        # On grey, so that the colours mean errors only, and without outlines, which would make
        # much of a sliver.
        grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        canvas, masks = self._enlarge(grey, masks)
        drawn = self._blend(canvas, masks, colors, _ERROR_ALPHA)
        if caption:
            drawn = draw_caption(drawn, caption)
        drawn = np.concatenate([drawn, legend_strip(entries, drawn.shape[1])])
        if not expression:
            return drawn
        strip = title_strip(expression, (255, 255, 255), drawn.shape[1],
                            font_size_for(drawn.shape[1]))
        return np.concatenate([strip, drawn])

    def _enlarge(self, image: np.ndarray, masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Bring a small frame and its masks, now uint8 0/1, to ``min_width``."""
        masks = (masks != 0).astype(np.uint8)
        height, width = image.shape[:2]
        if width >= self.min_width:
            return image.copy(), masks
        size = (self.min_width, max(1, round(height * self.min_width / width)))
        image = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC)
        # Half of the interpolated mask is its edge, without the stairs of its own pixels.
        large = [cv2.resize(m * np.float32(1), size, interpolation=cv2.INTER_LINEAR) >= 0.5
                 for m in masks]
        return image, np.array(large, dtype=np.uint8).reshape(len(masks), *image.shape[:2])

    @staticmethod
    def _blend(image: np.ndarray, masks: np.ndarray, colors: Sequence[Color],
               alpha: float) -> np.ndarray:
        """Lay colours over the masks (E, H, W); ``image`` is changed."""
        for mask, color in zip(masks, colors):
            inside = mask != 0
            mixed = image[inside] * (1 - alpha) + np.float32(color) * alpha
            image[inside] = mixed.round().astype(np.uint8)
        return image

    @staticmethod
    def _outline(image: np.ndarray, masks: np.ndarray, colors: Sequence[Color]) -> np.ndarray:
        """Draw the outlines of the masks (E, H, W); ``image`` is changed."""
        line = max(2, round(min(image.shape[:2]) / 240))
        for e, (mask, color) in enumerate(zip(masks, colors)):
            # Expressions that mean the same object, or one of a group, show as rims around one
            # another.
            same = sum(_alike(mask, later) for later in masks[e + 1:])
            contours, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
            if same:
                rim = line + 2 * (line + 1) * min(same, _MAX_RIMS)
                # Around the mask only, and not around a few pixels: it would be a blot.
                inside = mask != 0
                before = image[inside]
                _draw_lines(image, [c for c in contours if cv2.contourArea(c) > 4 * rim**2],
                            color, rim)
                image[inside] = before
            _draw_lines(image, contours, color, line)
        return image

    @master_only
    def add_datasample(self,
                       name: str,
                       image: np.ndarray,
                       data_sample: RefVOSDataSample | None = None,
                       draw_gt: bool = True,
                       draw_pred: bool = True,
                       show: bool = False,
                       wait_time: float = 0,
                       out_file: str | Path | None = None,
                       step: int = 0,
                       frame_idx: int = 0) -> None:
        """Draw one frame of a data sample, ground truth left and prediction right.

        The legend of the prediction has its ``pred_scores``, where the sample has some and does
        not say that the model was never trained to give them (``trained_scores``).

        Args:
            name: name of the image in the backends, title of the window.
            image: uint8 (H, W, 3) in RGB, the frame at ``frame_idx``.
            data_sample: the video with its expressions; without one the bare image is recorded.
            draw_gt: draw ``gt_rles``, or ``gt_masks`` where the frame is a query frame.
            draw_pred: draw ``pred_masks``.
            show: open a window.
            wait_time: seconds that it stays; 0 waits for a key.
            out_file: write the drawing there instead of handing it to the backends.
            step: global step in the backends.
            frame_idx: 0-based position of the frame in the video.

        Raises:
            OSError: ``out_file`` cannot be written.
        """
        count, sides = 0 if data_sample is None else len(data_sample), []
        if count and draw_gt:
            sides.append(('ground truth', gt_masks_of(data_sample, frame_idx), None))
        if count and draw_pred:
            trained = 'scores' in data_sample.get('trained_scores', ('scores', ))
            sides.append(('prediction', pred_masks_of(data_sample, frame_idx),
                          data_sample.pred_scores[:, frame_idx].tolist()
                          if trained and 'pred_scores' in data_sample else None))
        sides = [side for side in sides if side[1] is not None]
        colors = [self.color(e) for e in range(count)]
        rows = []
        for start in range(0, count if sides else 0, self.expressions_per_row):
            part = slice(start, start + self.expressions_per_row)
            panels = [self.draw_frame(
                image, masks[part], data_sample.expressions[part], colors[part], caption=title,
                scores=None if scores is None else scores[part])
                for title, masks, scores in sides]
            # Texts below may have more lines beside scores.
            height = max(panel.shape[0] for panel in panels)
            rows.append(np.concatenate([
                np.pad(panel, ((0, height - panel.shape[0]), (0, 0), (0, 0)))
                for panel in panels], axis=1))
        if not rows:
            rows.append(self.draw_frame(image, np.zeros((0, *image.shape[:2])), []))
        drawn = np.concatenate(rows)
        if show:
            self.show(drawn, win_name=name, wait_time=wait_time)
        if out_file is not None:
            write_image(Path(out_file), drawn)
        else:
            self.add_image(name, drawn, step)


def _draw_lines(image: np.ndarray, contours: Sequence[np.ndarray], color: Color,
                width: int) -> None:
    """Draw contours with a dark rim, which keeps them visible on a ground of their own colour."""
    for ink, thickness in ((_DARK, width + 2), (color, width)):
        cv2.drawContours(image, contours, -1, ink, thickness, cv2.LINE_AA)


def _alike(mask: np.ndarray, other: np.ndarray) -> bool:
    """Whether two masks (H, W) of 0/1 share more than half of the smaller one."""
    smaller = min(np.count_nonzero(mask), np.count_nonzero(other))
    return np.count_nonzero(mask & other) * 2 > smaller


def gt_masks_of(sample: RefVOSDataSample, frame_idx: int) -> np.ndarray | None:
    """True masks (E, H, W) of a frame, or None where the sample has none for it."""
    if 'gt_rles' in sample:
        return _decode(sample, sample.gt_rles, frame_idx)
    if 'gt_masks' in sample and frame_idx in sample.query_frame_ids:
        query = list(sample.query_frame_ids).index(frame_idx)
        return sample.gt_masks[:, query].cpu().numpy() != 0
    return None


def pred_masks_of(sample: RefVOSDataSample, frame_idx: int) -> np.ndarray | None:
    """Predicted masks (E, H, W) of a frame, or None where the sample has none."""
    if 'pred_masks' not in sample:
        return None
    return _decode(sample, sample.pred_masks, frame_idx)


def _decode(sample: RefVOSDataSample, tracks: Sequence[Sequence[dict | None]],
            frame_idx: int) -> np.ndarray:
    masks = np.zeros((len(tracks), *sample.ori_shape), dtype=bool)
    for mask, track in zip(masks, tracks):
        if track[frame_idx] is not None:
            mask[:] = decode_rle(track[frame_idx])
    return masks


def write_image(path: Path, image: np.ndarray) -> None:
    """Write an RGB image (H, W, 3) into a file, PNG unless its name says otherwise.

    Raises:
        OSError: it cannot be encoded or written.
    """
    ok, data = cv2.imencode(path.suffix or '.png', cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    if not ok:
        raise OSError(f'cannot encode an image for {path}')
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.tobytes())
