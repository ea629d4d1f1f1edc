"""Positions of context frames; ``dev/check_official.py`` compares them with the official ones."""

import pytest

from glus_mm.utils.frames import clip_bounds, clip_centres


def test_clips():
    for num_frames in (1, 2, 5, 12, 97):
        for num_clips in (1, 2, 4, 7):
            bounds = clip_bounds(num_frames, num_clips)
            assert len(bounds) == num_clips
            covered = [i for start, end in bounds for i in range(start, end)]
            assert covered == list(range(num_frames))
            lengths = [end - start for start, end in bounds]
            assert max(lengths) - min(lengths) <= 1
    assert clip_bounds(5, 0) == [] and clip_centres(5, 0) == []


@pytest.mark.parametrize('args', [(0, 4), (5, -1)])
def test_impossible_numbers(args):
    with pytest.raises(ValueError, match='expected at least 1 frame and 0 clips, got'):
        clip_centres(*args)
