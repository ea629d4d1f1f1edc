"""Positions of context frames; ``dev/check_official.py`` compares them with the official ones."""

import pytest

from glus_mm.models.propagators.live_session import SeenFrames
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


def test_seen_frames():
    """Bounded, evenly spaced, and the offline choice as long as all frames are kept."""
    seen = SeenFrames(max_size=8)
    for t in range(8):
        assert seen.wants_next()
        seen.add(f'frame {t}')
        assert seen.choose(4) == clip_centres(t + 1, 4)
    assert [seen[t] for t in seen.choose(4)] == [f'frame {t}' for t in (1, 3, 5, 7)]
    assert seen.choose(0) == []
    seen = SeenFrames(max_size=8)
    for t in range(1000):
        seen.add(t if seen.wants_next() else None)
        assert len(seen) <= 8 and seen.num_seen == t + 1
        for chosen, centre in zip(seen.choose(4), clip_centres(t + 1, 4)):
            assert seen[chosen] == chosen and abs(chosen - centre) <= seen.step
    assert seen.step == 128
    with pytest.raises(ValueError, match='at least 2, got 1'):
        SeenFrames(1)
