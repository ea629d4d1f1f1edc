"""Frames and masks, from disk."""

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from pycocotools import mask as coco_mask

from glus_mm.registry import TRANSFORMS
from glus_mm.utils.checked import checked
from glus_mm.utils.image import VISION_CROPS, read_image
from glus_mm.utils.key_frames import open_scores
from glus_mm.utils.masks import decode_rle, merge_rles
from glus_mm.video import ImageFolderReader, open_reader

OVERLAPS = ('or', 'sum')


def _check_shape(found: tuple[int, int], expected: tuple[int, int] | None, where: str) -> None:
    if expected is not None and tuple(found) != tuple(expected):
        raise ValueError(f'{where}: expected a frame of size (H, W) = {tuple(expected)}, as the '
                         f'annotation or the frames before it, got {tuple(found)}')


@TRANSFORMS.register_module()
class LoadRefVOSFrames(BaseTransform):
    """Read the context and query frames of a sample; each file once.

    Required keys: ``img_paths``, ``context_frame_ids``, ``query_frame_ids``, ``ori_shape``.
    Added keys: ``context_imgs``, ``query_imgs``: lists of uint8 (H, W, 3) in RGB; a frame that is
    used twice is the same array. Modified: ``ori_shape``, taken from the frames.

    Args:
        same_size: refuse a frame of another size than the rest; False for talk, whose images are
            of any size.

    Raises:
        FileNotFoundError: a frame is missing.
        ValueError: a frame cannot be decoded or has another size than the rest.
    """

    def __init__(self, same_size: bool = True) -> None:
        self.same_size = same_size

    def transform(self, results: dict) -> dict:
        """Read; see the class."""
        images: dict[int, np.ndarray] = {}
        for frame_idx in (*results['context_frame_ids'], *results['query_frame_ids']):
            if frame_idx in images:
                continue
            path = results['img_paths'][frame_idx]
            images[frame_idx] = read_image(path, upright=False)
            shape = images[frame_idx].shape[:2]
            if self.same_size:
                _check_shape(shape, results.get('ori_shape'), f'{path} of video '
                             f'{results["video_id"]!r}')
            results['ori_shape'] = shape
        results['context_imgs'] = [images[i] for i in results['context_frame_ids']]
        results['query_imgs'] = [images[i] for i in results['query_frame_ids']]
        return results


@TRANSFORMS.register_module()
class LoadRefVOSMasks(BaseTransform):
    """Decode the masks of the chosen expressions on the query frames.

    The objects of an expression are united. An expression without objects has empty masks.

    Required keys: ``mask_store``, ``expressions``, ``query_frame_ids``, ``ori_shape``.
    Added key: ``gt_masks``, uint8 (E, Tq, H, W).

    Args:
        overlap: ``'or'``, or ``'sum'`` for the official behaviour, where pixels of two objects
            have the value 2.

    Raises:
        ValueError: ``overlap`` is unknown; the data set has no masks; a mask has not the size of
            its frame or is corrupt.
    """

    def __init__(self, overlap: str = 'or') -> None:
        checked(OVERLAPS, overlap=overlap)
        self.overlap = overlap

    def transform(self, results: dict) -> dict:
        """Decode; see the class."""
        store, shape = results['mask_store'], results['ori_shape']
        if store is None:
            raise ValueError(f'video {results["video_id"]!r} of {results["dataset"]}: expected a '
                             f'data set with masks, got one without ground truth')
        expressions, frame_ids = results['expressions'], results['query_frame_ids']
        masks = np.zeros((len(expressions), len(frame_ids), *shape), dtype=np.uint8)
        for e, expression in enumerate(expressions):
            for t, frame_idx in enumerate(frame_ids):
                for rle in store.rles(expression, frame_idx, shape):
                    if self.overlap == 'sum':
                        masks[e, t] += decode_rle(rle)
                    else:
                        masks[e, t] |= decode_rle(rle)
        results['gt_masks'] = masks
        return results


@TRANSFORMS.register_module()
class OpenFrameReader(BaseTransform):
    """Hand over the frames of a video unread, for testing.

    Required keys: ``img_paths``, ``ori_shape``. Optional: ``source``, a video file or a folder to
    open instead. Added key: ``reader``, a ``FrameReader``. Modified: ``ori_shape``, taken from the
    first frame.

    Raises:
        FileNotFoundError: the first frame is missing.
        ValueError: it has another size than the annotation says, or cannot be decoded.
    """

    def transform(self, results: dict) -> dict:
        """Open; see the class."""
        source = results.get('source')
        reader = (ImageFolderReader(results['img_paths'], upright=False) if source is None
                  else open_reader(source))
        _check_shape(reader.shape, results.get('ori_shape'),
                     f'{results["img_paths"][0]} of video {results["video_id"]!r}')
        results.update(reader=reader, ori_shape=tuple(reader.shape))
        return results


@TRANSFORMS.register_module()
class LoadRefVOSGroundTruth(BaseTransform):
    """Collect the masks of all expressions on all frames, undecoded, for testing.

    Required keys: ``mask_store``, ``expressions``, ``frame_names``, ``ori_shape``.
    Added key: ``gt_rles``, a list (E) of lists (T) of COCO RLEs, the objects of an expression
    united; it is not added where the data set has no masks. Where some of the objects overlap, the
    RLE has a further key ``objects``, their own RLEs: ReVOS's A and R add them up.

    Raises:
        ValueError: a mask has not the size of its frame or is corrupt.
    """

    def transform(self, results: dict) -> dict:
        """Collect; see the class."""
        store, shape = results['mask_store'], results['ori_shape']
        if store is not None:
            results['gt_rles'] = []
            for expression in results['expressions']:
                track = []
                for frame_idx in range(len(results['frame_names'])):
                    rles = store.rles(expression, frame_idx, shape)
                    track.append(merge_rles(rles, shape))
                    if len(rles) > 1 and coco_mask.area(rles).sum() > coco_mask.area(track[-1]):
                        track[-1]['objects'] = rles  # where they overlap, what they were
                results['gt_rles'].append(track)
        return results


@TRANSFORMS.register_module()
class LoadKeyMasks(BaseTransform):
    """Give each expression its true mask on the first frame that shows its target.

    That is how semi-supervised segmentation starts. Propagators that start from a mask take it in
    place of GLUS's own; before that frame masks are empty.

    Required keys: ``mask_store``, ``expressions``, ``frame_names``, ``ori_shape``.
    Added keys: ``key_frame_ids``, a list (E) of 0-based positions, and ``key_masks``, a list (E)
    of COCO RLEs.

    Raises:
        ValueError: the data set has no masks, or no frame shows a target.
    """

    def transform(self, results: dict) -> dict:
        """Look for them; see the class."""
        store, shape = results['mask_store'], results['ori_shape']
        where = f'video {results["video_id"]!r}'
        if store is None:
            raise ValueError(f'{where}: expected a data set with masks, got none to start from')
        results['key_frame_ids'], results['key_masks'] = [], []
        for expression in results['expressions']:
            for frame_idx in range(len(results['frame_names'])):
                rles = store.rles(expression, frame_idx, shape)
                if rles:
                    results['key_frame_ids'].append(frame_idx)
                    results['key_masks'].append(merge_rles(rles, shape))
                    break
            else:
                raise ValueError(f'{where}, expression {expression["exp_id"]!r}: expected a frame '
                                 'that shows the target, got none')
        return results


@TRANSFORMS.register_module()
class LoadFrameScores(BaseTransform):
    """Attach pseudo-labels: the IoU of the query frames of each chosen expression.

    In training it follows ``SampleContextQueryFrames``, which draws the frames; a data set of which
    only the first N videos are labelled takes ``indices=N``. When testing, all frames are query
    frames, and the scores are the truth for ``KeyFrameMetric``.

    Required keys: ``dataset``, ``video_id``, ``frame_names``, ``expressions``, ``query_frame_ids``.
    Added key: ``gt_scores``, float32 (E, Tq).

    Args:
        file: what ``FrameIoUMetric`` wrote, or a folder in the official layout,
            ``<video>/<exp>.json``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a video, an expression or a score is missing in it, or it is that of another
            data set; names file, video and expression.
    """

    def __init__(self, file: str) -> None:
        self.file = str(file)
        # Read on first use, so that a config can be built before its labels are made.
        self._scores = None

    def transform(self, results: dict) -> dict:
        """Attach; see the class."""
        if self._scores is None:
            self._scores = open_scores(self.file)
        rows = []
        for expression in results['expressions']:
            scores = self._scores.get(results['dataset'], results['video_id'],
                                      expression['exp_id'], results['frame_names'])
            row = scores[results['query_frame_ids']]
            if np.isnan(row).any():
                frame = results['query_frame_ids'][int(np.isnan(row).argmax())]
                raise ValueError(f'{self.file}: video {results["video_id"]!r}, expression '
                                 f'{expression["exp_id"]!r}: expected a score of frame '
                                 f'{results["frame_names"][frame]!r}, got none')
            rows.append(row)
        results['gt_scores'] = np.array(rows, dtype=np.float32)
        return results


@TRANSFORMS.register_module()
class LoadObjects(BaseTransform):
    """Load the objects of a video, on the grid of visual tokens.

    They are those that some expression refers to, or all, where the data set lists them.

    Required keys: ``mask_store``, ``video_expressions``, ``context_frame_ids``,
    ``query_frame_ids``, ``ori_shape``; it stands behind the transform that samples frames and the
    one that reads them. Optional: ``objects``, a list of dicts with ``anno_id``, ``colour``,
    ``shape`` and ``flash`` (first frame lit and the one after the last, or None); the object ids
    count it.

    Added keys, over the O objects and the F = Tc + Tq frames of the prompt, context first:
    ``object_names``, the ids that the expressions' ``object_ids`` have; ``object_cells`` float32
    (O, F, G, G), how much of the cell of each visual token an object covers; ``object_centres``
    float32 (O, F, 2), x and y of its visible pixels' centroid as parts of the frame's sides, nan
    where it is not visible; ``object_sizes`` float32 (O, F), the root of its visible part of the
    frame. Where ``objects`` is there also ``object_words``, a list (O) of dicts, and ``object_lit``
    bool (O, F).

    Args:
        grid: G, visual tokens along a side of the frame as the vision tower sees it.
        vision_crop: as for :class:`ResizeForEncoders`.

    Raises:
        ValueError: an argument is out of its range, or the data set has no masks.
    """

    def __init__(self, grid: int, vision_crop: str = 'center') -> None:
        checked(1, grid=grid)
        checked(VISION_CROPS, vision_crop=vision_crop)
        self.grid = grid
        self.vision_crop = vision_crop

    def transform(self, results: dict) -> dict:
        """Load; see the class."""
        store, shape = results['mask_store'], tuple(results['ori_shape'])
        if store is None:
            raise ValueError(f'video {results["video_id"]!r} of {results["dataset"]}: expected a '
                             f'data set with masks, got one without ground truth')
        found = [(object_id, anno_id, expression) for expression in results['video_expressions']
                 for object_id, anno_id in zip(expression['object_ids'], expression['anno_ids'])]
        listed = results.get('objects') or ()
        found += [(str(number), str(item['anno_id']), dict(results['video_expressions'][0],
                                                           exp_id=f'object {number}'))
                  for number, item in enumerate(listed)]
        owners = {object_id: dict(expression, object_ids=(object_id, ), anno_ids=(anno_id, ))
                  for object_id, anno_id, expression in found}
        frames = [*results['context_frame_ids'], *results['query_frame_ids']]
        cells = np.zeros((len(owners), len(frames), self.grid, self.grid), dtype=np.float32)
        centres = np.full((len(owners), len(frames), 2), np.nan, dtype=np.float32)
        sizes = np.zeros((len(owners), len(frames)), dtype=np.float32)
        for o, owner in enumerate(owners.values()):
            for f, frame_idx in enumerate(frames):
                for rle in store.rles(owner, frame_idx, shape):
                    mask = decode_rle(rle)
                    if mask.any():
                        ys, xs = np.nonzero(mask)
                        centres[o, f] = (xs.mean() + 0.5) / shape[1], (ys.mean() + 0.5) / shape[0]
                        sizes[o, f] = np.sqrt(mask.mean())
                        cells[o, f] = self._cells(mask)
        results.update(object_names=list(owners), object_cells=cells, object_centres=centres,
                       object_sizes=sizes)
        if listed:
            known = [listed[int(object_id)] for object_id in owners]
            results['object_words'] = [
                {name: item[name] for name in ('colour', 'shape')} for item in known]
            results['object_lit'] = np.array(
                [[item['flash'] is not None and item['flash'][0] <= f < item['flash'][1]
                  for f in frames] for item in known], dtype=bool).reshape(len(known), len(frames))
        return results

    def _cells(self, mask: np.ndarray) -> np.ndarray:
        """Share of each cell (G, G) that a mask (H, W) covers, in what the vision tower sees."""
        if self.vision_crop == 'center':
            height, width = mask.shape
            side = min(height, width)
            top, left = (height - side) // 2, (width - side) // 2
            mask = mask[top:top + side, left:left + side]
        # Twelve samples along a cell: INTER_AREA is exact for a whole number of pixels only.
        fine = cv2.resize(mask.astype(np.float32), (self.grid * 12, self.grid * 12),
                          interpolation=cv2.INTER_LINEAR)
        return cv2.resize(fine, (self.grid, self.grid), interpolation=cv2.INTER_AREA)
