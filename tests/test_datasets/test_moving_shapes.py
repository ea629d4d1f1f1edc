"""MovingShapes: bytes, layout, and every sentence checked against what the files show."""

import hashlib
import itertools
import json
import re
from collections import Counter

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask

import programs
from glus_mm.datasets.moving_shapes import KINDS, generate_video, unknown_words, write_split
from programs import ROOT

SEED, NUM_VIDEOS, NUM_FRAMES = 7, 14, 12
COLOUR_WORDS = ('red', 'orange', 'yellow', 'green', 'blue', 'purple')
# word of a sentence -> (axis of (x, y), sign of the extreme or of the motion)
SIDE_WORDS = {
    'leftmost': (0, -1), 'far left': (0, -1), 'on the left': (0, -1), 'left': (0, -1),
    'rightmost': (0, 1), 'far right': (0, 1), 'on the right': (0, 1), 'right': (0, 1),
    'topmost': (1, -1), 'very top': (1, -1), 'at the top': (1, -1), 'up': (1, -1),
    'bottommost': (1, 1), 'very bottom': (1, 1), 'at the bottom': (1, 1), 'down': (1, 1),
}


@pytest.fixture(scope='module')
def split(tmp_path_factory):
    """A written split: a list of (meta record, masks (O, T, H, W), frames, true objects)."""
    folder = write_split(tmp_path_factory.mktemp('ms'), NUM_VIDEOS, SEED, 'valid_u', mp4=False)
    meta = json.loads((folder / 'meta_expressions.json').read_text())['videos']
    tracks = json.loads((folder / 'mask_dict.json').read_text())
    videos, first = [], 0
    for i, (video_id, record) in enumerate(meta.items()):
        truth = generate_video(SEED, 'valid_u', i)
        objects = truth.objects
        masks = np.stack([[_decode(rle, record) for rle in tracks[str(first + k)]]
                          for k in range(len(objects))])
        assert np.array_equal(masks, truth.masks)
        for expression in record['expressions'].values():
            assert expression['anno_id'] == [first + k for k in expression['obj_id']]
        frames = np.stack([_read_rgb(folder / 'JPEGImages' / video_id / f'{name}.jpg')
                           for name in record['frames']])
        videos.append((record, masks, frames, objects))
        first += len(objects)
    assert first == len(tracks)
    assert {item['kind'] for record, *_ in videos for item in record['expressions'].values()} == {
        *KINDS}
    return videos


def _decode(rle, record):
    if rle is None:
        return np.zeros((record['height'], record['width']), dtype=bool)
    assert rle['size'] == [record['height'], record['width']] and isinstance(rle['counts'], str)
    return coco_mask.decode(rle).astype(bool)


def _read_rgb(path):
    return cv2.imread(str(path))[..., ::-1]


def _digest(folder):
    files = sorted(p for p in folder.rglob('*') if p.suffix in ('.json', '.jpg'))
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def _centroids(masks):
    """(O, T, 2) x and y of the visible pixels."""
    height, width = masks.shape[2:]
    area = masks.sum((2, 3))
    x = (masks * np.arange(width)).sum((2, 3)) / area
    y = (masks * np.arange(height)[:, None]).sum((2, 3)) / area
    return np.stack([x, y], axis=-1)


def _named(text, objects):
    """Objects that the noun of a sentence names, and the words that it is made of."""
    words = [word[:-1] if word.endswith('s') else word for word in text.split()]
    colours = [word for word in words if word in COLOUR_WORDS]
    return [i for i, item in enumerate(objects)
            if ('shape' in words or item.shape in words)
            and (not colours or item.colour in colours)]


def _sentences(split, kind):
    for record, masks, frames, objects in split:
        for expression in record['expressions'].values():
            if expression['kind'] == kind:
                yield expression['exp'], expression['obj_id'], masks, frames, objects


def _side(text):
    longest = max((word for word in SIDE_WORDS if re.search(rf'\b{word}\b', text)), key=len)
    return SIDE_WORDS[longest]


def test_same_bytes_for_same_seed_and_any_workers(tmp_path):
    first = _digest(write_split(tmp_path / 'a', 3, 1, 'train', mp4=False))
    assert first == _digest(write_split(tmp_path / 'b', 3, 1, 'train', mp4=False, workers=2))
    others = [_digest(write_split(tmp_path / 'c', 3, 2, 'train', mp4=False)),
              _digest(write_split(tmp_path / 'd', 3, 1, 'valid_u', mp4=False))]
    for other in others:
        assert not set(first.values()) & set(other.values())
    smaller = _digest(write_split(tmp_path / 'e', 2, 1, 'train', mp4=False))
    images = [name for name in smaller if name.endswith('.jpg')]
    assert len(images) == 2 * NUM_FRAMES
    assert all(smaller[name] == first[name] for name in images)


def test_layout_and_sizes(split):
    assert len(split) == NUM_VIDEOS
    for record, masks, frames, objects in split:
        assert set(itertools.chain(*(item['obj_id'] for item in record['expressions'].values()))) \
            <= set(range(len(masks)))
        assert set(record) == {'expressions', 'frames', 'height', 'width'}
        assert record['frames'] == [f'{t:05d}' for t in range(NUM_FRAMES)]
        height, width = record['height'], record['width']
        assert height != width and height % 2 == width % 2 == 0
        assert frames.shape == (NUM_FRAMES, height, width, 3)
        assert 4 <= len(objects) <= 6
        assert 3 <= len(record['expressions']) <= 10
        texts = [item['exp'] for item in record['expressions'].values()]
        assert len(set(texts)) == len(texts)
        for item in record['expressions'].values():
            assert set(item) == {'exp', 'obj_id', 'anno_id', 'kind'} and item['kind'] in KINDS
            assert (item['kind'] == 'no-target') == (item['obj_id'] == [])
            assert (item['kind'] == 'group') == (len(item['obj_id']) > 1)


def test_masks_are_visible_pixels(split):
    for _, masks, frames, _ in split:
        assert masks.sum(0).max() == 1, 'a pixel belongs to one object at most'
        whole = masks.sum((2, 3)).max(1)
        assert (masks.sum((2, 3)) > 0.2 * whole[:, None]).all()
        # The background is muted and has a texture, objects are no part of it.
        background = frames[~masks.any(0)].astype(int)
        assert np.ptp(background, axis=1).mean() < 45 and background.std(0).min() > 2


def test_colours_and_flashes_show_in_the_images(split):
    names = list(COLOUR_WORDS)
    hues = np.array([0, 16, 27, 66, 112, 142])  # OpenCV's hue, 0..179
    kernel = np.ones((7, 7), np.uint8)
    for _, masks, frames, objects in split:
        for item, track in zip(objects, masks):
            for t in range(NUM_FRAMES):
                inside = cv2.erode(track[t].astype(np.uint8), kernel).astype(bool)
                if inside.sum() < 20:
                    continue
                white = (frames[t][inside].min(1) > 200).mean()
                if item.flashes_at(t):
                    assert white > 0.3
                    continue
                assert white < 0.02
                colour = np.median(frames[t][inside], axis=0).astype(np.uint8)
                hue = int(cv2.cvtColor(colour[None, None], cv2.COLOR_RGB2HSV)[0, 0, 0])
                gaps = np.minimum(abs(hues - hue), 180 - abs(hues - hue))
                assert names[int(gaps.argmin())] == item.colour


def test_appearance_names_one_object(split):
    for text, ids, masks, _, objects in _sentences(split, 'appearance'):
        named = _named(text, objects)
        whole = masks.sum((2, 3)).max(1)
        if 'big' in text.split():
            assert all(whole[ids[0]] > 1.4 * whole[i] for i in named if i != ids[0]), text
        elif 'small' in text.split():
            assert all(whole[i] > 1.4 * whole[ids[0]] for i in named if i != ids[0]), text
        else:
            assert named == ids, text


def test_position_holds_on_every_frame(split):
    for text, ids, masks, _, objects in _sentences(split, 'position'):
        axis, sign = _side(text)
        named = _named(text, objects)
        assert ids[0] in named and len(named) > 1
        # Occlusion moves a visible centroid, so the files are asked for less than the truth.
        for centres, least in ((_centroids(masks), 0.03),
                               (np.stack([item.centres for item in objects]), 0.08)):
            along = sign * centres[..., axis] / masks.shape[3 - axis]
            rest = along[[i for i in named if i != ids[0]]].max(0)
            assert (along[ids[0]] - rest >= least - 1e-9).all(), text


def test_motion_is_clear_and_only_of_the_target(split):
    for text, ids, masks, _, objects in _sentences(split, 'motion'):
        named = _named(text, objects)
        assert ids[0] in named and len(named) > 1, 'another object shares the noun'
        sides = np.array([masks.shape[3], masks.shape[2]])
        path = _centroids(masks)[ids[0]] / sides
        truth = np.stack([item.centres for item in objects]) / sides
        if 'still' in text.split():
            assert np.ptp(truth[ids[0]], axis=0).max() < 0.01
            assert all(np.ptp(truth[i], axis=0).max() > 0.4 for i in named if i != ids[0])
            continue
        axis, sign = _side(text)
        assert sign * (path[-1] - path[0])[axis] > 0.33, text
        assert (sign * np.diff(truth[ids[0], :, axis]) > 0).all(), text
        for i in named:
            shift = sign * (truth[i, -1] - truth[i, 0])[axis]
            assert i == ids[0] or shift < 0.2, f'{text}: object {i} does the same'


def test_events_and_look_alikes(split):
    for text, ids, _, _, objects in _sentences(split, 'event'):
        named = _named(text, objects)
        assert ids[0] in named and len(named) > 1, 'another object shares the noun'
        assert [i for i in named if objects[i].flash is not None] == ids, text
        start, stop = objects[ids[0]].flash
        assert stop - start in (3, 4) and 0 <= start and stop <= NUM_FRAMES
        assert set(range(start, stop)) & {1, 4, 7, 10}, 'no test context frame shows it'
    for text, ids, masks, _, objects in _sentences(split, 'look-alike'):
        named = _named(text, objects)
        assert len(named) == 2 and ids[0] in named, text
        one, other = objects[ids[0]], objects[sum(named) - ids[0]]
        assert (one.shape, one.colour, one.diameter, one.angle) == \
            (other.shape, other.colour, other.diameter, other.angle)
        axis, sign = _side(text)
        paths = _centroids(masks)
        gap = sign * (paths[ids[0], 0] - paths[sum(named) - ids[0], 0])[axis]
        assert gap > 0.28 * masks.shape[3 - axis], text
        whole = masks[named].sum((2, 3))
        assert (whole[:, 2:-2].min() < 0.95 * whole.max()), 'no occlusion in the middle'


def test_groups_and_words(split):
    for text, ids, _, _, objects in _sentences(split, 'group'):
        assert _named(text, objects) == ids, text
        assert 2 <= len(ids) <= len(objects) // 2
        assert len(ids) == 2 or not text.startswith('both')
    for text, ids, _, _, objects in _sentences(split, 'no-target'):
        assert ids == [] and _named(text, objects) == [], text
        words = set(text.split())
        assert any({item.shape, item.colour} & words for item in objects), text
    texts = [expression['exp'] for record, *_ in split
             for expression in record['expressions'].values()]
    assert unknown_words(texts) == []
    assert unknown_words(['The PURPLE elephant, standing still', 'an elephant’s 2 circles!']) == [
        'elephant', 'an', 'elephant’s', '2']
    assert unknown_words(['', '?!']) == []


@pytest.mark.slow
def test_kinds_directions_and_sizes_are_balanced():
    kinds, motions, sides, ranks, number = Counter(), Counter(), Counter(), [], 40
    for i in range(number):
        video = generate_video(SEED, 'valid_u', i)
        areas = video.masks.sum((1, 2, 3))
        for item in video.expressions:
            text, kind, ids = item.text, item.kind, item.targets
            kinds[kind] += 1
            if kind == 'motion':
                motions.update({'left', 'right', 'up', 'down', 'still'} & set(text.split()))
            if kind == 'position':
                sides[_side(text)] += 1
            if len(ids) == 1:
                ranks.append((areas > areas[ids[0]]).sum() / (len(areas) - 1))
    # Over 300 videos every kind has more than 70 in 100; 40 videos scatter around that.
    assert set(kinds) == set(KINDS) and min(kinds.values()) >= 0.45 * number, kinds
    assert min(kinds[k] for k in ('motion', 'event', 'position')) >= 0.8 * number, kinds
    assert len(motions) == 5 and min(motions.values()) >= 0.08 * sum(motions.values()), motions
    assert len(sides) == 4 and min(sides.values()) >= 0.12 * sum(sides.values()), sides
    assert 0.4 < np.mean(ranks) < 0.6, 'the target is as often large as small'


def test_mp4_shows_the_frames(tmp_path):
    folder = write_split(tmp_path, 1, 5, 'train')
    video = generate_video(5, 'train', 0)
    capture = cv2.VideoCapture(str(folder / 'videos' / f'{video.video_id}.mp4'))
    for frame in video.frames:
        read, image = capture.read()
        assert read and image.shape == frame.shape
        assert np.abs(image[..., ::-1].astype(int) - frame).mean() < 8
    assert not capture.read()[0]


def test_a_longer_video_shows_the_same_in_slower_motion():
    short = generate_video(3, 'train', 5)
    # Every tenth frame of 111 is a frame of the 12.
    long = generate_video(3, 'train', 5, num_frames=111)
    assert np.array_equal(long.frames[::10], short.frames)
    assert np.array_equal(long.masks[:, ::10], short.masks)
    assert long.expressions == short.expressions
    for item, before in zip(long.objects, short.objects):
        assert np.abs(np.diff(item.centres, axis=0)).max() < \
            np.abs(np.diff(before.centres, axis=0)).max() / 9.9 + 1e-9
        assert [item.flashes_at(10 * t) for t in range(12)] == \
            [before.flashes_at(t) for t in range(12)]


@pytest.mark.parametrize('arguments, message', [
    (dict(num_videos=0), 'num_videos must be .*got 0'),
    (dict(workers=0), 'workers must be .*got 0'),
    (dict(split='test'), "got 'test'"),
    (dict(seed=-1), 'got -1'),
    (dict(talk=-2), 'talk must be .*at least 0, got -2'),
    (dict(num_frames=11), 'expected num_frames >= 12.*got 11'),
    (dict(talk=3, num_frames=24), 'and 12 with talk.*got 24'),
])
def test_bad_arguments(tmp_path, arguments, message):
    call = dict(num_videos=1, seed=0, split='train', mp4=False, workers=1)
    with pytest.raises(ValueError, match=message):
        write_split(tmp_path, **{**call, **arguments})
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope='module')
def command():
    path = ROOT / 'tools' / 'dataset_converters' / 'moving_shapes.py'
    module = programs.load(path)
    return module.main


def test_command_refuses_a_used_folder_unless_told(tmp_path, command, capsys):
    call = [str(tmp_path), '--videos', '2', '--seed', '4', '--split', 'valid_u', '--no-mp4']
    assert command(call) == 0
    before = _digest(tmp_path)
    assert command(call[:2] + ['1'] + call[3:]) == 1
    assert 'expected an empty folder' in capsys.readouterr().err
    assert _digest(tmp_path) == before
    note = tmp_path / 'valid_u' / 'note.txt'
    note.write_text('mine')
    assert command(call[:2] + ['1'] + call[3:] + ['--overwrite']) == 0
    assert len(list((tmp_path / 'valid_u' / 'JPEGImages').iterdir())) == 1
    assert note.read_text() == 'mine'


def test_command_reports_bad_input(tmp_path, command, capsys):
    file = tmp_path / 'file'
    file.write_text('')
    assert command([str(file), '--videos', '1']) == 1
    assert str(file) in capsys.readouterr().err
    for extra, message in ((['--videos', '0'], '--videos'), (['--split', 'test'], '--split')):
        with pytest.raises(SystemExit):
            command([str(tmp_path / 'new'), '--videos', '1', *extra])
        assert message in capsys.readouterr().err
    assert not (tmp_path / 'new').exists()
