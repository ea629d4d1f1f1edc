"""Positions of context frames: equal to the official function's, for many lengths."""

import json
from pathlib import Path

import pytest

from glus_mm.utils.frames import clip_bounds, clip_centres

REPO = Path(__file__).resolve().parents[2]
FIXTURE = REPO / 'tests' / 'data' / 'official_glus_tiny' / 'tables.json'
TABLE = json.loads(FIXTURE.read_text())['context_frames[ctx][num_frames]']


@pytest.mark.parametrize('num_context', sorted(TABLE))
def test_centres_equal_official(num_context):
    table = TABLE[num_context]
    assert min(map(int, table)) < int(num_context) < max(map(int, table))
    for num_frames, expected in table.items():
        num_frames = int(num_frames)
        # -1 is the official index of the last frame.
        expected = [index % num_frames for index in expected]
        assert clip_centres(num_frames, int(num_context)) == expected, num_frames


def test_bounds_cover_the_video_once():
    for num_frames in (1, 2, 5, 12, 97):
        for num_clips in (1, 2, 4, 7):
            bounds = clip_bounds(num_frames, num_clips)
            assert len(bounds) == num_clips
            covered = [i for start, end in bounds for i in range(start, end)]
            assert covered == list(range(num_frames))
            lengths = [end - start for start, end in bounds]
            assert max(lengths) - min(lengths) <= 1


def test_no_clips():
    assert clip_bounds(5, 0) == [] and clip_centres(5, 0) == []


@pytest.mark.parametrize('args', [(0, 4), (5, -1)])
def test_impossible_numbers(args):
    with pytest.raises(ValueError, match='expected at least 1 frame and 0 clips, got'):
        clip_centres(*args)
