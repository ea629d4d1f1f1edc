"""What makes an expression hard, read off the annotation and a few frames of its video."""

import os
from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from pycocotools import mask as coco_mask
from tqdm import tqdm

from glus_mm.apis.mask_evaluation.annotated_expressions import AnnotatedExpressions
from glus_mm.utils.masks import merge_rles

CAMERA_PAIRS = 6
"""Pairs of neighbouring frames of a video that are looked at for the motion of the camera."""
_CAMERA_WIDTH = 320
_MIN_POINTS = 8
# In pixels of the reduced image: a point that comes back elsewhere was lost on the way.
_MAX_RETURN = 1.0

AttributeTable = dict[tuple[str, str], dict[str, float | int | str | None]]
"""Attributes by video and expression."""


def expression_attributes(annotation: AnnotatedExpressions, progress: bool = False
                          ) -> AttributeTable:
    """Compute the attributes of all expressions.

    Args:
        annotation: expressions with their masks. Images are read where they are there.
        progress: show a progress bar.

    Returns:
        By video and expression the attributes of :data:`glus_mm.evaluation.slices.SLICE_RULES`;
        None where one does not exist: of masks without a target or with one that is never seen, of
        the camera without images.

    Raises:
        OSError: a file cannot be read.
        ValueError: a mask or an image is not as it should be.
    """
    table: AttributeTable = {}
    for video in tqdm(annotation.videos, desc='attributes', unit='video', disable=not progress):
        tracks, size = object_tracks(annotation, video), annotation.size(video)
        number = len(video['frame_names'])
        # (T, 4) x, y, width, height; a width of 0 where the object is not seen.
        boxes = {name: np.array([np.zeros(4) if rle is None else coco_mask.toBbox(rle)
                                 for rle in track]) for name, track in tracks.items()}
        hidden = {name: _occlusion(name, boxes) for name in boxes}
        of_video = {'camera': camera_motion(video['img_paths'], [*boxes.values()], size),
                    'frames': number}
        for expression in video['expressions']:
            names = expression['object_ids']
            found: dict[str, float | None] = dict.fromkeys(('size', 'first_seen', 'occlusion'))
            areas = np.zeros(number, dtype=np.int64)  # that the objects cover together
            for t, rles in enumerate(zip(*(tracks[name] for name in names if name in tracks))):
                visible = [rle for rle in rles if rle is not None]
                areas[t] = int(coco_mask.area(merge_rles(visible, size))) if visible else 0
            seen = np.flatnonzero(areas)
            if len(seen):
                mean = 100 * float(areas[seen].mean()) / (size[0] * size[1])
                shares = [hidden[name] for name in names if hidden[name] is not None]
                found = {'size': round(mean, 6),
                         'first_seen': round(100 * int(seen[0]) / number, 6),
                         'occlusion': round(100 * float(np.mean(shares)), 6)}
            table[video['video_id'], expression['exp_id']] = {
                'kind': expression['kind'], 'words': len(expression['exp'].split()),
                'look_alikes': len(boxes.keys() - set(names)), **found, **of_video}
    return table


def _occlusion(name: str, boxes: Mapping[str, np.ndarray]) -> float | None:
    """Mean over the frames from the first to the last on which an object is seen; None if never.

    Of a frame it is 1 where the object is not seen, else the largest share of its box that lies in
    another one's.
    """
    own = boxes[name]
    seen = np.flatnonzero(own[:, 2])
    if not len(seen):
        return None
    share = np.where(own[:, 2] > 0, 0.0, 1.0)
    for other_name, other in boxes.items():
        if other_name != name:
            low = np.maximum(own[:, :2], other[:, :2])
            high = np.minimum(own[:, :2] + own[:, 2:], other[:, :2] + other[:, 2:])
            both = np.prod(np.maximum(high - low, 0), axis=1)
            share = np.maximum(share, both / np.maximum(own[:, 2] * own[:, 3], 1))
    return float(share[seen[0]:seen[-1] + 1].mean())


def object_tracks(annotation: AnnotatedExpressions, video: dict) -> dict[str, list[dict | None]]:
    """Masks of all objects that expressions of a video refer to.

    Returns:
        By the object's id, a COCO RLE for each frame, its counts as bytes, or None where the object
        is not seen. Nothing where no mask states a size.

    Raises:
        OSError: a file cannot be read.
        ValueError: a mask is not as it should be.
    """
    size, tracks = annotation.size(video), {}
    for expression in video['expressions'] if size is not None else ():
        for object_id, anno_id in zip(expression['object_ids'], expression['anno_ids']):
            if object_id not in tracks:
                alone = dict(expression, object_ids=(object_id, ), anno_ids=(anno_id, ))
                tracks[object_id] = []
                for t in range(len(video['frame_names'])):
                    rle = merge_rles(annotation.masks.rles(alone, t, size), size)
                    rle['counts'] = rle['counts'].encode('ascii')
                    # Some files hold an empty mask where others have none.
                    tracks[object_id].append(rle if coco_mask.area(rle) else None)
    return tracks


def camera_motion(img_paths: Sequence[str], boxes: Sequence[np.ndarray],
                  size: tuple[int, int] | None) -> float | None:
    """How far the background moves from one frame to the next.

    Corners outside the boxes of annotated objects are followed by the optical flow of Lucas and
    Kanade through up to ``CAMERA_PAIRS`` pairs of neighbouring frames, spread evenly over the
    video, at about 320 pixels of width. The median length of their paths, which objects that
    nobody annotated hardly change, is averaged over the pairs.

    Args:
        img_paths: of all frames.
        boxes: of each annotated object (T, 4), x, y, width and height, 0 where it is not seen.
        size: ``(H, W)`` of the frames that the boxes are in.

    Returns:
        Percent of the frame's diagonal per frame; None where there is one frame only, an image is
        missing, or too few corners could be followed.

    Raises:
        ValueError: an image cannot be decoded.
    """
    number = min(CAMERA_PAIRS, len(img_paths) - 1)
    starts = [int((i + 0.5) * (len(img_paths) - 1) / number) for i in range(number)]
    paths = [img_paths[t + step] for t in starts for step in (0, 1)]
    if not paths or not all(map(os.path.isfile, paths)):
        return None
    images: dict[int, np.ndarray] = {}
    moves = []
    for start in starts:
        for t in (start, start + 1):
            if t not in images:
                images[t] = _read_grey(img_paths[t])
        first, second = images[start], images[start + 1]
        if first.shape != second.shape:
            raise ValueError(f'{img_paths[start + 1]}: expected an image of the size of the frame '
                             f'before, {first.shape}, got {second.shape}')
        background = np.ones(first.shape, dtype=np.uint8)
        for x, y, width, height in [track[start] for track in boxes if track[start, 2]]:
            scale = np.array(first.shape[::-1]) / size[::-1]
            low = np.floor(np.array([x, y]) * scale).astype(int)
            high = np.ceil(np.array([x + width, y + height]) * scale).astype(int)
            background[low[1]:high[1], low[0]:high[0]] = 0
        move = _median_move(first, second, background)
        if move is not None:
            moves.append(100 * move / float(np.hypot(*first.shape)))
    return round(float(np.mean(moves)), 6) if moves else None


def _read_grey(path: str) -> np.ndarray:
    """A grey image of about ``_CAMERA_WIDTH`` pixels; JPEGs are decoded at a fraction of theirs."""
    image = cv2.imread(path, cv2.IMREAD_REDUCED_GRAYSCALE_2)
    if image is not None and image.shape[1] < _CAMERA_WIDTH:
        image = cv2.imread(path, cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise ValueError(f'{path}: expected an image, got a file that cannot be decoded')
    scale = _CAMERA_WIDTH / image.shape[1]
    return image if scale >= 1 else cv2.resize(image, None, fx=scale, fy=scale,
                                               interpolation=cv2.INTER_AREA)


def _median_move(first: np.ndarray, second: np.ndarray, background: np.ndarray) -> float | None:
    """Median path in pixels of corners of the background; None with too few of them."""
    points = cv2.goodFeaturesToTrack(first, 200, 0.01, 7, mask=background)
    if points is None or len(points) < _MIN_POINTS:
        return None
    there, found, _ = cv2.calcOpticalFlowPyrLK(first, second, points, None)
    back, returned, _ = cv2.calcOpticalFlowPyrLK(second, first, there, None)
    followed = (found & returned).ravel().astype(bool) & (
        np.linalg.norm(back - points, axis=-1).ravel() < _MAX_RETURN)
    if followed.sum() < _MIN_POINTS:
        return None
    return float(np.median(np.linalg.norm(there - points, axis=-1).ravel()[followed]))
