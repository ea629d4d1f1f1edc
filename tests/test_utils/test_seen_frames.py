"""SeenFrames: bounded, evenly spaced, and the offline choice as long as all frames are kept."""

import pytest

from glus_mm.models.inference.caches import SeenFrames
from glus_mm.utils.frames import clip_centres


def test_frames():
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
