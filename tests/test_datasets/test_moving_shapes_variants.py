"""Variants of MovingShapes: each shows what it is for, and the default is as it was."""

import json
from collections import Counter

import pytest

from glus_mm.datasets.moving_shapes import (
    KINDS,
    VARIANT_KINDS,
    VARIANTS,
    generate_video,
    write_split,
)
from glus_mm.datasets.moving_shapes.scene import motion_of
from programs import ROOT

TOOL = ROOT / 'tools' / 'dataset_converters' / 'moving_shapes.py'
SEED, NUM_VIDEOS, NUM_FRAMES = 3, 12, 12
LAST_THIRD = range(8, NUM_FRAMES)
# The first training video of the shipped checkpoint.
DEFAULT = [
    ('the topmost diamond', 'position'),
    ('the flashing square', 'event'),
    ('the green shape that moves left', 'motion'),
    ('the square moving up', 'motion'),
    ('the green shape standing still', 'motion'),
    ('the diamond that is yellow', 'no-target'),
    ('the square that flashes', 'event'),
    ('all yellow shapes', 'group'),
]


def videos(variant):
    return [generate_video(SEED, 'train', i, variant) for i in range(NUM_VIDEOS)]


def kinds(video):
    return Counter(item.kind for item in video.expressions)


def test_default_is_as_before_there_were_variants():
    video = generate_video(0, 'train', 0)
    assert video.video_id == 'train_00000' and video.theme == 'moving'
    assert [(item.text, item.kind) for item in video.expressions] == DEFAULT
    assert not any(item.enters for i in range(NUM_VIDEOS)
                   for item in generate_video(SEED, 'train', i).objects)
    found = {item.kind for i in range(40) for item in generate_video(SEED, 'train', i).expressions}
    assert found == set(KINDS)


def test_objects_of_the_variants():
    for video in videos('elsewhere'):
        lit = [item for item in video.objects if item.flash is not None]
        assert len(lit) == 1 and lit[0].flash[1] - lit[0].flash[0] <= 4
        assert max(Counter(item.shape for item in video.objects).values()) >= 2
        assert kinds(video)['event'] >= 2
    counts = [kinds(video)['look-alike'] for video in videos('crossing')]
    assert sum(count > 0 for count in counts) >= 0.8 * NUM_VIDEOS and max(counts) <= 5
    for video in videos('crowd'):
        assert 5 <= len(video.objects) <= 6
        assert len({item.colour for item in video.objects}) <= 2
        shape, number = Counter(item.shape for item in video.objects).most_common(1)[0]
        assert number >= 4
        size = video.frames.shape[1:3]
        motions = [motion_of(item.centres, size) for item in video.objects if item.shape == shape]
        assert len(set(motions)) == number
        assert kinds(video)['motion'] >= 3


def test_late_targets_enter_in_the_last_third():
    number = 0
    for video in videos('late'):
        for item, masks in zip(video.objects, video.masks):
            shown = masks.any((1, 2)).tolist()
            assert shown == [t >= item.enters for t in range(NUM_FRAMES)]
            assert item.enters == 0 or item.enters in LAST_THIRD
        late = {i for i, item in enumerate(video.objects) if item.enters}
        assert len(late) <= 2
        for expression in video.expressions:
            assert (expression.kind == 'late') == bool(late & set(expression.targets))
            number += expression.kind == 'late'
    assert number >= 2 * NUM_VIDEOS and VARIANT_KINDS == ('late',)


def test_ids_and_bytes_tell_variants_apart(tmp_path):
    metas = {}
    for name in VARIANTS:
        folder = write_split(tmp_path / name, 2, SEED, 'valid_u', mp4=False, variant=name)
        metas[name] = json.loads((folder / 'meta_expressions.json').read_text())['videos']
    ids = [video for meta in metas.values() for video in meta]
    assert len(set(ids)) == 2 * len(VARIANTS)
    assert 'valid_u_00001' in metas['default'] and 'valid_u-crowd_00001' in metas['crowd']
    codes = [variant.code for variant in VARIANTS.values()]
    assert len(set(codes)) == len(codes) and VARIANTS['default'].code == 0
    images = {next((tmp_path / name).rglob('*.jpg')).read_bytes() for name in VARIANTS}
    assert len(images) == len(VARIANTS)


def test_the_tool_and_unknown_variants(tmp_path, call_tool):
    with pytest.raises(ValueError, match="variant must be one of .*'late'.*got 'early'"):
        generate_video(0, 'train', 0, 'early')
    with pytest.raises(ValueError, match='got \'early\''):
        write_split(tmp_path, 1, 0, 'train', variant='early')
    assert not list(tmp_path.iterdir())
    status, _, error = call_tool(TOOL, tmp_path, '--videos', '2', '--variant', 'late', '--no-mp4')
    assert status == 0, error
    written = json.loads((tmp_path / 'train' / 'meta_expressions.json').read_text())['videos']
    assert list(written) == ['train-late_00000', 'train-late_00001']
    truth = generate_video(0, 'train', 1, 'late')
    assert [item['exp'] for item in written['train-late_00001']['expressions'].values()] == [
        item.text for item in truth.expressions]
