"""Where the objects of a video are: truth for losses that only training has."""

import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from glus_mm.registry import TRANSFORMS
from glus_mm.utils.checked import checked
from glus_mm.utils.image import VISION_CROPS
from glus_mm.utils.masks import decode_rle


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
