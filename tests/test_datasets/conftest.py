"""A tiny data set in MeViS layout, written with cv2 and json only."""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from dataset_layouts import rle

# video: number of frames, (H, W)
VIDEOS = {'long': (12, (40, 56)), 'short': (2, (36, 24)), 'mid': (5, (32, 32))}


def _object_mask(shape: tuple[int, int], which: int, frame: int) -> np.ndarray:
    """Object 0 fills rows 4..11, object 1 rows 8..19; both step right by one pixel a frame."""
    mask = np.zeros(shape, dtype=bool)
    top, bottom = ((4, 12), (8, 20))[which]
    mask[top:bottom, 2 + frame:10 + frame] = True
    return mask


def _write_frame(path: Path, shape: tuple[int, int], frame: int) -> None:
    image = np.full((*shape, 3), 10 * frame, dtype=np.uint8)
    image[..., 2] = 200  # BGR: the red channel
    cv2.imwrite(str(path), image)


def _write_split(root: Path) -> Path:
    videos, masks = {}, {}
    for number, (video_id, (num_frames, shape)) in enumerate(VIDEOS.items()):
        names = [f'{3 * i:05d}' for i in range(num_frames)]
        folder = root / 'JPEGImages' / video_id
        folder.mkdir(parents=True)
        for i, name in enumerate(names):
            _write_frame(folder / f'{name}.jpg', shape, i)
        first, second = 10 * number, 10 * number + 1
        masks[str(first)] = [rle(_object_mask(shape, 0, i)) for i in range(num_frames)]
        masks[str(second)] = [
            None if i == 1 else rle(_object_mask(shape, 1, i)) for i in range(num_frames)
        ]
        entries = [('A red box.', [0], [first]), ('the lower box', [1], [second]),
                   ('both boxes', [0, 1], [first, second]), ('the blue box', [], [])]
        videos[video_id] = {
            'frames': names,
            'expressions': {
                str(i): {'exp': exp, 'obj_id': obj, 'anno_id': anno}
                for i, (exp, obj, anno) in enumerate(entries)
            }
        }
    videos['long'].update(height=40, width=56)
    videos['long']['expressions']['0']['kind'] = 'appearance'
    (root / 'meta_expressions.json').write_text(json.dumps({'videos': videos}))
    (root / 'mask_dict.json').write_text(json.dumps(masks))
    return root


@pytest.fixture
def mevis_root(tmp_path: Path) -> Path:
    """Folder of a split with the videos of ``VIDEOS``, 2 objects and 4 expressions each.

    Frame i is named ``3 * i``; object 1 is hidden on frame 1; expression 0 is object 0, 1 is
    object 1, 2 is both, 3 is none. Object ids of video n have the annotations 10n and 10n + 1.
    """
    return _write_split(tmp_path / 'train')


@pytest.fixture
def edit_json() -> Callable:
    """``edit_json(path, change)``: call ``change`` with the content of a JSON file, write it."""

    def edit(path: Path, change: Callable[[dict], None]) -> None:
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return edit


@pytest.fixture
def object_mask() -> Callable:
    """``object_mask(shape, which, frame)``: the true mask of an object, bool (H, W)."""
    return _object_mask
