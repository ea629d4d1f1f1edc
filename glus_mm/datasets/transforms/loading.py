"""Frames and masks, from disk."""

import numpy as np
from mmcv.transforms import BaseTransform
from pycocotools import mask as coco_mask

from glus_mm.registry import TRANSFORMS
from glus_mm.utils.checked import checked
from glus_mm.utils.image import read_image
from glus_mm.utils.masks import decode_rle, merge_rles
from glus_mm.video import ImageFolderReader

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

    Required keys: ``img_paths``, ``ori_shape``. Added key: ``reader``, a ``FrameReader``.
    Modified: ``ori_shape``, taken from the first frame.

    Raises:
        FileNotFoundError: the first frame is missing.
        ValueError: it has another size than the annotation says.
    """

    def transform(self, results: dict) -> dict:
        """Open; see the class."""
        reader = ImageFolderReader(results['img_paths'], upright=False)
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
            results['gt_rles'] = [[
                _unite(store.rles(expression, frame_idx, shape), shape)
                for frame_idx in range(len(results['frame_names']))
            ] for expression in results['expressions']]
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


def _unite(rles: list[dict], shape: tuple[int, int]) -> dict:
    """Unite the masks of some objects; where they overlap, note what they were."""
    union = merge_rles(rles, shape)
    if len(rles) > 1 and coco_mask.area(rles).sum() > coco_mask.area(union):
        union['objects'] = rles
    return union
