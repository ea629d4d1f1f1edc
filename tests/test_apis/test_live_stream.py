"""GLUSInferencer.stream: sources that end, stall or change, and texts that come and go."""

import gc
import threading

import numpy as np
import pytest

from glus_mm.apis import GLUSInferencer
from glus_mm.apis.live_stream import BackgroundIterator
from glus_mm.models.inference import FrameError
from glus_mm.utils.frames import clip_centres

TEXTS = ['the red box', 'the box moving right']


@pytest.fixture
def infer(model):
    return GLUSInferencer(model)


class Camera:
    """Stops after a frame until it is released, and then gives another one; tells where it is."""

    def __init__(self, frame):
        self.frame = frame
        self.stalled, self.released, self.ended = (threading.Event() for _ in range(3))

    def __iter__(self):
        yield self.frame
        self.stalled.set()
        self.released.wait(60)
        yield self.frame
        self.ended.set()


def test_masks_frame_by_frame_equal_the_offline_ones(infer, frames):
    expected = infer(frames, TEXTS)
    shown = []

    def camera():
        for frame in frames:
            shown.append(frame)
            yield frame

    stream = infer.stream(camera(), TEXTS, context_frames=[frames[t] for t in clip_centres(5, 4)])
    for t, live in enumerate(stream):
        assert len(shown) == t + 1, 'a frame is segmented before the next one is asked for'
        assert live.frame_idx == t and live.image is frames[t]
        assert [text.text for text in live.texts] == TEXTS
        assert live.masks.dtype == bool and live.scores.dtype == np.float32
        for e in range(2):
            np.testing.assert_array_equal(live.masks[e], expected['masks'][e][t])
        np.testing.assert_allclose(live.scores, expected['scores'][:, t], atol=1e-5)
        assert live.is_seg.all()
    assert t == 4 and list(stream) == []


def test_texts_are_added_and_dropped_meanwhile(infer, frames):
    seen = []
    with infer.stream(iter(frames)) as stream:
        for live in stream:
            seen.append([text.text for text in live.texts])
            assert live.masks.shape == (len(live.texts), 48, 64)
            if live.frame_idx == 0:
                box = stream.add('the red box')
            if live.frame_idx == 1:
                again = stream.add('the red box')
                assert box != again and stream.texts == (box, again)
            if live.frame_idx == 3:
                stream.drop(box)
    assert seen == [[], ['the red box'], ['the red box'] * 2, ['the red box'] * 2,
                    ['the red box']]
    with pytest.raises(ValueError, match=r"each to be dropped once, got LiveText\(key=0.*follows "
                                         r"'the red box'$"):
        stream.drop(box)
    stream.drop(again)
    with pytest.raises(ValueError, match='it follows none'):
        stream.drop(again)
    with pytest.raises(ValueError, match="got 'the red box'"):
        stream.drop('the red box')


def test_a_source_that_stalls(infer, frames):
    camera = Camera(frames[0])
    stream = infer.stream(iter(camera), TEXTS[:1], timeout=1)
    assert camera.stalled.wait(30) and next(stream).frame_idx == 0
    with pytest.raises(TimeoutError, match=r'within 1 s after frame 0, got none.*stalled'):
        next(stream)
    camera.released.set()
    assert camera.ended.wait(30)
    assert [live.frame_idx for live in stream] == [1], 'it goes on and ends with the source'

    camera = Camera(frames[0])
    stream = infer.stream(iter(camera), TEXTS[:1], timeout=1, on_stall='end')
    assert camera.stalled.wait(30) and [live.frame_idx for live in stream] == [0]
    camera.released.set()


def test_a_source_that_fails(infer, frames):
    def camera():
        yield frames[0]
        raise OSError('the camera is gone')

    for timeout in (None, 30):
        stream = infer.stream(camera(), TEXTS[:1], timeout=timeout)
        next(stream)
        with pytest.raises(OSError, match='the camera is gone'):
            next(stream)
        assert list(stream) == []
    stream = infer.stream([frames[0], frames[1][:40]], TEXTS[:1])
    next(stream)
    with pytest.raises(FrameError, match=r'frame 1 .*\(48, 64\).*got \(40, 64\)'):
        next(stream)
    assert list(stream) == []


def test_late_frames_are_skipped(infer, frames):
    """A source that waits for nobody: what is asked for after its end is its latest frame."""
    ended = threading.Event()

    def camera():
        yield from frames
        ended.set()

    stream = infer.stream(camera(), TEXTS[:1], skip_late=True)
    assert ended.wait(30)
    found = list(stream)
    assert [live.frame_idx for live in found] == [4] and found[0].image is frames[4]


def test_an_abandoned_stream_lets_its_source_go(infer, frames):
    asked = []

    def camera():
        while True:
            asked.append(1)
            yield frames[0]

    before = threading.enumerate()
    stream = infer.stream(camera(), timeout=30)
    next(stream)
    reader, = (thread for thread in threading.enumerate()
               if thread not in before and thread.name.endswith('(_read)'))
    del stream
    gc.collect()
    reader.join(30)
    assert not reader.is_alive() and len(asked) <= 4


def test_closing_ends_those_who_wait_and_gives_nothing_more():
    go, asked = threading.Event(), threading.Event()

    def source():
        asked.set()
        go.wait(30)
        yield from range(3)

    iterator, found = BackgroundIterator(source(), timeout=30), []
    waiter = threading.Thread(target=lambda: found.extend(iterator))
    waiter.start()
    assert asked.wait(30)
    iterator.close()
    go.set()
    waiter.join(10)
    assert not waiter.is_alive() and len(found) <= 1
    assert next(iterator, 'the end') == 'the end'


def test_reading_ahead_is_bounded():
    asked = []

    def source():
        for i in range(100):
            asked.append(i)
            yield i

    iterator = BackgroundIterator(source(), timeout=30)
    assert next(iterator) == (0, 0) and next(iterator) == (1, 1)
    assert len(asked) <= 4
    iterator.close()


@pytest.mark.parametrize(('kwargs', 'error', 'match'), [
    (dict(source='video.mp4'), TypeError, 'iterator of RGB arrays as a live source, got str'),
    (dict(source=3), TypeError, 'got int'),
    (dict(texts=[' ']), ValueError, r'texts\[0\]: .*some text'),
    (dict(timeout=0), ValueError, 'timeout must be positive or None, got 0'),
    (dict(on_stall='wait'), ValueError, "on_stall must be one of .*got 'wait'"),
    (dict(context_frames=[]), ValueError, 'expected 4 context frames.*got 0'),
    (dict(context_growth=0), ValueError, 'context_growth must be at least 1'),
])
def test_wrong_arguments(infer, frames, kwargs, error, match):
    with pytest.raises(error, match=match):
        infer.stream(**dict(dict(source=iter(frames)), **kwargs))
    with pytest.raises(TypeError, match='expected a text, got 3'):
        infer.stream(iter(frames)).add(3)
