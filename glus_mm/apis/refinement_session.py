"""Texts and clicks: the masks of a video that a person corrects."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing
from numbers import Integral, Real
from os import PathLike
from typing import Any

import numpy as np
import torch
from torch import Tensor

from glus_mm.apis.result_files import ResultFiles
from glus_mm.apis.segmentation import Segmentation
from glus_mm.models.inference import MaskPrediction, VideoSession
from glus_mm.models.inference.together import alone
from glus_mm.models.propagators import GLUSPropagator
from glus_mm.models.segmentors import GLUS
from glus_mm.utils.masks import encode_mask
from glus_mm.utils.paths import ensure_writable_dir

# Labels by which SAM-2 knows the corners of a box.
_BOX = (2, 3)


def check_takes_clicks(model: GLUS) -> None:
    """Raise unless the model's masks can be refined.

    Raises:
        ValueError: another propagator than GLUS's own makes its masks, or its prompts depend on
            one another.
    """
    if type(model.propagator) is not GLUSPropagator or model.token_update is not None:
        raise ValueError('clicks refine what GLUS itself propagates: expected '
                         'model.test_cfg.propagator=None and model.token_update=None, got '
                         f'{type(model.propagator).__name__} and {model.token_update}')


class RefinementSession(AbstractContextManager['RefinementSession']):
    """The masks of a video, which clicks and boxes correct; from :meth:`GLUSInferencer.session`.

    Clicks join the seg token as prompts of the same mask decoder. The clicked frame's memory is
    made anew, and the propagation goes on from there: away from the key frame, in both directions
    where the key frame itself was clicked. The language model does not run again. Frames between
    the key frame and the clicked one keep their masks; they are run through once more, without
    being shown, as their memories are not kept.

    A model follows clicks if it was trained with some (``model.train_cfg.click_prob``), a box only
    if its SAM-2 knows boxes, which published ones do and the shipped tiny one does not.

    Args:
        model: a GLUS.
        session: state of the video.
        out: its results, empty so far.
        name: of the video.
        record: keeps a prediction of the first pass in ``out``.
        owns_reader: whether :meth:`close` closes the video.

    Attributes:
        out (Segmentation): what :meth:`GLUSInferencer.__call__` returns, always up to date, with
            ``clicks``.
    """

    def __init__(self, model: GLUS, session: VideoSession, out: Segmentation, name: str,
                 record: Callable[[int, list[int], MaskPrediction], None],
                 owns_reader: bool) -> None:
        self.model, self.out, self.name = model, out, name
        self._session, self._owns_reader = session, owns_reader
        texts, num_frames = out.texts, len(session.reader)
        # What the MLLM said; small beside the masks.
        self._said: list[list[Any]] = [[None] * num_frames for _ in texts]
        self._history: list[tuple[int, dict[int, tuple]]] = []
        with closing(model.segment(session, out.key_frames)) as predictions:
            for t, exps, pred in predictions:
                record(t, list(exps), pred)
                for e, *said in zip(exps, pred.seg_tokens, pred.is_seg, pred.presence):
                    self._said[e][t] = tuple(said)
        out.error = session.reader.breaks_off
        out.clicks = {e: [] for e in range(len(texts))}

    def refine(self, expression: int | str, frame: int,
               points: Sequence[tuple[float, float]] = (), labels: Sequence[int] | None = None,
               box: tuple[float, float, float, float] | None = None) -> list[int]:
        """Correct the mask of an expression on a frame, and what follows from it.

        Refinements of one frame add up; of several boxes the last one counts.

        Args:
            expression: its number or its text.
            frame: 0-based position.
            points: (x, y) in pixels of the video, each inside of the frame.
            labels: of each point, 1 on the object, 0 off it; all 1 by default.
            box: corners (x0, y0, x1, y1) of a box around the object, likewise.

        Returns:
            The frames whose masks were made anew, ascending.

        Raises:
            ValueError: there is no such expression or frame, or a point or box that cannot be
                used; nothing has changed then.
        """
        e = self._number(expression)
        click = self._checked(frame, points, labels, box)
        self.out.clicks[e].append(click)
        try:
            changed = self._propagate(e, click['frame'])
        except BaseException:
            self.out.clicks[e].pop()
            raise
        self._history.append((e, changed))
        return sorted(changed)

    def undo(self, expression: int | str | None = None) -> list[int]:
        """Take the last refinement back.

        Args:
            expression: its number or its text, the last of which is meant; None for the last of
                all.

        Returns:
            The frames whose masks are as before, ascending.

        Raises:
            ValueError: there is no such expression, or nothing to take back.
        """
        chosen = None if expression is None else self._number(expression)
        place = next((i for i in reversed(range(len(self._history)))
                      if chosen in (None, self._history[i][0])), None)
        if place is None:
            of = '' if chosen is None else f' of {self.out.texts[chosen]!r}'
            raise ValueError(f'there is no refinement{of} to undo')
        e, before = self._history.pop(place)
        self.out.clicks[e].pop()
        return sorted(self._put(e, before))

    def save(self, out_dir: str | PathLike, format: str = 'png') -> None:
        """Write the masks, and ``results.json`` with the clicks.

        Args:
            out_dir, format: as for :meth:`GLUSInferencer.__call__`.

        Raises:
            OSError: a place cannot be written.
            ValueError: masks would overwrite one another.
        """
        reader, texts = self._session.reader, self.out.texts
        with ResultFiles(ensure_writable_dir(out_dir), self.name, reader, texts, format) as files:
            for t in range(len(reader)):
                none = torch.empty(0)
                files(t, list(range(len(texts))), MaskPrediction(
                    torch.from_numpy(self.out.frame_masks(t)), none, none,
                    torch.from_numpy(self.out.is_seg[:, t]),
                    torch.from_numpy(self.out.scores[:, t]), none))
            files.finish(self.out, self.model)

    def close(self) -> None:
        """Close the video; the results stay."""
        if self._owns_reader:
            self._session.reader.close()

    def __exit__(self, *args: object) -> None:
        self.close()

    def _number(self, expression: int | str) -> int:
        texts = self.out.texts
        if isinstance(expression, str) and expression in texts:
            return texts.index(expression)
        if isinstance(expression, (int, np.integer)) and not isinstance(expression, bool) \
                and 0 <= expression < len(texts):
            return int(expression)
        raise ValueError(f'expected one of the texts {list(texts)} or its number from 0 to '
                         f'{len(texts) - 1}, got {expression!r:.80}')

    def _checked(self, frame: int, points: Sequence[tuple[float, float]],
                 labels: Sequence[int] | None, box: tuple[float, float, float, float] | None
                 ) -> dict[str, Any]:
        """A refinement as ``results.json`` has it."""
        num_frames, (height, width) = len(self._session.reader), self._session.reader.shape
        if not _are_numbers([frame], 1, Integral) or not 0 <= frame < num_frames:
            raise ValueError(f'expected a frame from 0 to {num_frames - 1}, got {frame!r:.80}')
        points = list(_tuples(points, 2, 'points as pairs (x, y)'))
        if labels is None:
            labels = [1] * len(points)
        if not _are_numbers(labels, len(points), Integral) or not {*labels} <= {0, 1}:
            raise ValueError(f'expected for each of {len(points)} points a label, 1 on the object '
                             f'or 0 off it, got {labels!r:.80}')
        if not points and box is None:
            raise ValueError('expected a point or a box, got none')
        corners: list[tuple] = []
        if box is not None:
            ends, = _tuples([box], 4, 'a box (x0, y0, x1, y1)')
            corners = [ends[:2], ends[2:]]
        for x, y in [*points, *corners]:
            if not (0 <= x < width and 0 <= y < height):
                raise ValueError(f'expected points (x, y) inside of the frame, x below {width} and '
                                 f'y below {height}, got {(x, y)!r:.80}')
        if corners and not all(low < high for low, high in zip(*corners)):
            raise ValueError('expected a box (x0, y0, x1, y1) with x0 < x1 and y0 < y1, got '
                             f'{ends}')
        return dict(frame=int(frame), points=[[float(x), float(y)] for x, y in points],
                    labels=list(map(int, labels)),
                    box=None if box is None else list(map(float, box)))

    def _prompts(self, e: int) -> dict[tuple[int, int], tuple[Tensor, Tensor]]:
        """All clicks of an expression as the mask head takes them."""
        height, width = self._session.reader.shape
        scale = self.model.mask_head.image_size / torch.tensor([width, height])
        by_frame: dict[int, list[dict]] = {}
        for click in self.out.clicks[e]:
            by_frame.setdefault(click['frame'], []).append(click)
        prompts = {}
        for t, some in by_frame.items():
            boxes = [click['box'] for click in some if click['box'] is not None][-1:]
            places = [box[i:i + 2] for box in boxes for i in (0, 2)]
            places += [point for click in some for point in click['points']]
            labels = list(_BOX) * len(boxes) + [n for click in some for n in click['labels']]
            prompts[e, t] = torch.tensor(places) * scale, torch.tensor(labels)
        return prompts

    @torch.inference_mode()
    def _propagate(self, e: int, frame: int) -> dict[int, tuple]:
        """Make the masks from a frame on anew; gives back what they were, by frame."""
        reader, key = self._session.reader, self.out.key_frames[e]
        prompts, given = self._prompts(e), {e: self._said[e]}
        ways = []
        if frame >= key:
            ways.append(range(key, len(reader)))
        if frame < key or (frame == key and key > 0):
            ways.append(range(key, -1, -1))
        made: dict[int, tuple] = {}
        for frames in ways:
            self._session.keep_features(range(min(frames), max(frames) + 1))
            with closing(alone(self.model.propagator.single_pass(
                    self.model, self._session, {e: key}, frames, given, prompts))) as steps:
                for t, _, pred in steps:
                    if t not in made and (t - frame) * frames.step >= 0:
                        made[t] = (encode_mask(pred.masks[0].cpu().numpy()),
                                   float(pred.scores[0]), bool(pred.is_seg[0]))
        return self._put(e, made)

    def _put(self, e: int, values: dict[int, tuple]) -> dict[int, tuple]:
        """Exchange masks, scores and whether there is a ``[SEG]`` of some frames."""
        rles, scores, is_seg = self.out.kept_masks()[e].rles, self.out.scores, self.out.is_seg
        before = {t: (rles[t], scores[e, t], is_seg[e, t]) for t in values}
        for t, value in values.items():
            rles[t], scores[e, t], is_seg[e, t] = value
        return before


def _are_numbers(values: Any, count: int, kind: type = Real) -> bool:
    return isinstance(values, (Sequence, np.ndarray)) and len(values) == count and all(
        isinstance(value, kind) and not isinstance(value, (bool, np.bool_)) for value in values)


def _tuples(values: Any, size: int, expected: str) -> Iterator[tuple]:
    """Some numbers each, or an error that says what was expected."""
    if not isinstance(values, (Sequence, np.ndarray)) or isinstance(values, str):
        raise ValueError(f'expected {expected}, got {values!r:.80}')
    for value in values:
        if not _are_numbers(value, size):
            raise ValueError(f'expected {expected}, got {value!r:.80}')
        yield tuple(value)
