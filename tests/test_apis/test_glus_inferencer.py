"""GLUSInferencer: every source gives the same masks, and nothing is left behind."""

import tempfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from glus_mm.apis import GLUSInferencer, RLEMaskSequence
from glus_mm.apis.segmentation import IncompleteVideoError
from glus_mm.models.inference import ArrayReader, ImageFolderReader, VideoFileReader
from glus_mm.models.selectors import KeyFrames
from glus_mm.utils.frames import clip_centres
from glus_mm.utils.masks import encode_mask

TEXTS = ['the red box', 'the box moving right']


@pytest.fixture
def infer(model):
    return GLUSInferencer(model)


@pytest.fixture(scope='module')
def in_memory(model, frames):
    """What every other way to call it is compared with."""
    return GLUSInferencer(model)(frames, TEXTS, return_logits=True)


@pytest.fixture
def spool(tmp_path, monkeypatch):
    """The folder that temporary stores are made in."""
    folder = tmp_path / 'spool'
    folder.mkdir()
    monkeypatch.setattr(tempfile, 'tempdir', str(folder))
    return folder


def assert_same_masks(out, expected):
    assert len(out['masks']) == len(expected['masks'])
    for track, wanted in zip(out['masks'], expected['masks']):
        assert isinstance(track, RLEMaskSequence)
        assert track.rles == wanted.rles


def write_folder(folder, frames):
    folder.mkdir()
    for t, frame in enumerate(frames):
        cv2.imwrite(str(folder / f'frame_{t:03d}.png'), frame[..., ::-1])
    return folder


def test_result(in_memory, frames):
    assert in_memory['expressions'] == tuple(TEXTS)
    assert in_memory['frame_names'] == tuple(f'{t:05d}' for t in range(len(frames)))
    assert in_memory['is_seg'].all()
    assert in_memory['scores'].shape == (2, 5) and in_memory['scores'].dtype == np.float32
    mask = in_memory['masks'][1][4]
    assert mask.dtype == bool and mask.shape == frames[0].shape[:2]
    coverage = np.mean([mask.mean() for track in in_memory['masks'] for mask in track])
    assert 0.01 < coverage < 0.99, 'other random weights are needed for these tests to mean much'


def test_texts(infer, frames, in_memory):
    out = infer(frames, TEXTS[0])
    assert len(out['masks']) == 1
    assert out['masks'][0].rles == in_memory['masks'][0].rles
    assert 'low_res_logits' not in out
    assert len(infer(frames[:2], ['красный прямоугольник', '红色的方块'])['masks']) == 2
    with pytest.raises(TypeError, match='texts as a list of strings'):
        infer(frames, [3])
    with pytest.raises(TypeError, match='texts as a list of strings'):
        infer(frames, None)
    with pytest.raises(ValueError, match='at least one text'):
        infer(frames, [])
    with pytest.raises(ValueError, match=r'texts\[0\]: .*at most 1000 characters.*10000'):
        infer(frames, 'x' * 10000)
    with pytest.raises(TypeError, match='segments videos.*Linear'):
        GLUSInferencer(torch.nn.Linear(1, 1))


def test_mp4_equals_its_decoded_frames(infer, frames, tmp_path, write_video):
    path = tmp_path / 'clip.mp4'
    write_video(path, frames, fps=5)
    reader = VideoFileReader(path)
    decoded = [reader.read(t).copy() for t in range(len(reader))]
    reader.close()
    assert len(decoded) == len(frames)
    assert_same_masks(infer(str(path), TEXTS), infer(decoded, TEXTS))


def test_iterator_equals_list_and_is_removed(infer, frames, in_memory, spool):
    assert_same_masks(infer(iter(frames), TEXTS), in_memory)
    assert not list(spool.iterdir())
    seen = []

    def fail(frame_idx, exp_indices, prediction):
        seen.append(list(spool.iterdir()))
        raise RuntimeError('the callback failed')

    def broken():
        yield frames[0]
        raise OSError('the camera is gone')

    with pytest.raises(RuntimeError, match='the callback failed'):
        infer(iter(frames), TEXTS, callback=fail)
    assert len(seen) == 1 and len(seen[0]) == 1, 'the store must exist while it is read'
    with pytest.raises(OSError, match='the camera is gone'):
        infer(broken(), TEXTS)
    assert not list(spool.iterdir())


def test_what_is_wrong_is_found_before_an_iterator_is_read(infer, frames, tmp_path):
    iterator = iter(frames)
    with pytest.raises(ValueError, match=r'texts\[1\]: expected an expression with some text'):
        infer(iterator, ['the red box', '  '])
    (tmp_path / 'file').write_text('')
    with pytest.raises(NotADirectoryError, match='output folder'):
        infer(iterator, TEXTS, out_dir=tmp_path / 'file')
    assert next(iterator) is frames[0]


def test_reader_of_the_caller_stays_open(infer, frames, in_memory):
    class CountingReader(ArrayReader):
        closed = 0

        def close(self):
            self.closed += 1

    reader = CountingReader(frames)
    assert_same_masks(infer(reader, TEXTS), in_memory)
    assert reader.closed == 0


def test_out_dir_holds_the_same_masks(infer, frames, in_memory, tmp_path):
    folder = write_folder(tmp_path / 'my.clip', frames)
    out = infer(folder, TEXTS, out_dir=tmp_path / 'out')
    assert out['masks'] is None and out['frame_names'][0] == 'frame_000'
    files = sorted(p.relative_to(tmp_path / 'out') for p in (tmp_path / 'out').rglob('*.png'))
    assert len(files) == 10 and files[0] == Path('my.clip/0/frame_000.png')
    for e in range(2):
        for t in range(5):
            path = tmp_path / 'out' / 'my.clip' / str(e) / f'frame_{t:03d}.png'
            mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
            assert mask.dtype == np.uint8
            np.testing.assert_array_equal(mask, in_memory['masks'][e][t] * np.uint8(255))
    infer(frames[:1], TEXTS[:1], out_dir=tmp_path)  # frames in memory are called video
    assert (tmp_path / 'video' / '0' / '00000.png').is_file()


def test_callback_gets_every_mask(infer, frames, in_memory):
    calls = []

    def keep(frame_idx, exp_indices, prediction):
        calls.append((frame_idx, exp_indices, prediction.masks.numpy()))

    out = infer(frames, TEXTS, callback=keep)
    assert out['masks'] is None
    assert [call[:2] for call in calls] == [(t, [0, 1]) for t in range(5)]
    for t, exps, masks in calls:
        for e, mask in zip(exps, masks):
            np.testing.assert_array_equal(mask, in_memory['masks'][e][t])
    np.testing.assert_array_equal(out['scores'], in_memory['scores'])


def test_logits_make_the_masks(in_memory, model):
    for e in range(2):
        for t in range(5):
            logits = in_memory['low_res_logits'][e][t]
            assert logits.shape == (32, 32) and logits.dtype == np.float32
            full = torch.nn.functional.interpolate(
                torch.from_numpy(logits)[None, None], (48, 64), mode='bilinear',
                align_corners=False)[0, 0]
            np.testing.assert_array_equal(full.numpy() > 0, in_memory['masks'][e][t])
            token = in_memory['seg_tokens'][e][t]
            assert token.shape == (model.mask_head.token_dim, ) and token.dtype == np.float32


def test_without_seg_the_mask_is_empty_and_counted(half_deaf, frames, logged):
    out = GLUSInferencer(half_deaf)(frames, ['the red box', 'the sky'], return_logits=True)
    assert out['is_seg'].tolist() == [[True] * 5, [False] * 5]
    assert not any(mask.any() for mask in out['masks'][1])
    assert out['low_res_logits'][1] == [None] * 5 and out['seg_tokens'][1] == [None] * 5
    assert all(logits is not None for logits in out['low_res_logits'][0])
    assert out['scores'][1].tolist() == [0] * 5
    assert logged == ["no [SEG] on 5 of 10 masks, which are empty ('the sky': 5)"]


@pytest.mark.parametrize(('key_frames', 'error', 'match'), [
    ([0], ValueError, 'a key frame for each of 2 texts, got 1'),
    ([0, -1], ValueError, '0-based positions'),
    ([0, 5], ValueError, r'key frame in 0\.\.4 for each of 2 expressions'),
    ([0, 1.5], TypeError, 'list of integers'),
    (3, TypeError, 'list of integers'),
])
def test_key_frames_that_cannot_be_used(infer, frames, key_frames, error, match):
    with pytest.raises(error, match=match):
        infer(frames, TEXTS, key_frames=key_frames)


class LastFrame:
    """The last frame for every text, with scores that say so."""

    def __init__(self, with_scores):
        self.with_scores = with_scores
        self.seen = []

    def select(self, reader, data_sample):
        self.seen.append(data_sample.expressions)
        number, length = len(data_sample.expressions), len(reader)
        scores = torch.arange(length).repeat(number, 1) if self.with_scores else None
        return KeyFrames([length - 1] * number, scores)


def test_selector(model, infer, frames, in_memory):
    assert in_memory['key_frames'] == [0, 0] and 'key_frame_scores' not in in_memory
    selector = LastFrame(with_scores=True)
    out = GLUSInferencer(model, selector)(frames, TEXTS)
    assert selector.seen == [tuple(TEXTS)] and out['key_frames'] == [4, 4]
    np.testing.assert_array_equal(out['key_frame_scores'], np.float32([range(5)] * 2))
    assert out['key_frame_scores'].dtype == np.float32
    assert_same_masks(out, infer(frames, TEXTS, key_frames=[4, 4]))
    out = GLUSInferencer(model, LastFrame(with_scores=False))(frames, TEXTS)
    assert out['key_frames'] == [4, 4] and 'key_frame_scores' not in out
    out = GLUSInferencer(model, selector)(frames, TEXTS, key_frames=[0, 0])
    assert out['key_frames'] == [0, 0] and 'key_frame_scores' not in out
    assert len(selector.seen) == 1, 'who has key frames asks nobody'
    with pytest.raises(TypeError, match='key-frame selector.*got str'):
        GLUSInferencer(model, 'last')


def break_folder(folder, frames, how):
    """A folder of images whose fourth frame cannot be used."""
    path = write_folder(folder, frames) / 'frame_003.png'
    if how == 'size':
        cv2.imwrite(str(path), frames[3][:40])
    elif how == 'gone':
        reader = ImageFolderReader.from_folder(folder)
        path.unlink()
        return reader
    else:
        path.write_bytes(path.read_bytes()[:100])
    return folder


@pytest.mark.parametrize(('how', 'match'), [
    ('size', r'frame 3 \(frame_003\) of .*clip: expected \(H, W\) = \(48, 64\).*got \(40, 64\)'),
    ('content', r'frame 3 \(frame_003\) of .*cannot be decoded'),
    ('gone', r'frame 3 \(frame_003\) of .*No such file')])
def test_a_frame_that_cannot_be_used(infer, in_memory, frames, tmp_path, how, match):
    """The masks before it are kept; context frames, which are read first, are whole here."""
    assert 3 not in clip_centres(5, 4)
    video = break_folder(tmp_path / 'clip', frames, how)
    with pytest.raises(IncompleteVideoError, match=match + r'.* 6 of 10 masks were made') as error:
        infer(video, TEXTS)
    assert error.value.frame_idx == 3
    for e, track in enumerate(error.value.result['masks']):
        assert track.rles == [*in_memory['masks'][e].rles[:3], None, None]
        assert track[3] is None and list(track)[4] is None
    with pytest.raises(IncompleteVideoError, match=f'are in {tmp_path / "out"}'):
        infer(video, TEXTS, out_dir=tmp_path / 'out')
    files = sorted(path.name for path in (tmp_path / 'out' / 'clip' / '1').iterdir())
    assert files == [f'frame_{t:03d}.png' for t in range(3)]


def test_a_video_file_that_breaks_off(infer, frames, tmp_path, write_video):
    whole, short = tmp_path / 'whole.mp4', tmp_path / 'short.mp4'
    write_video(whole, frames * 6, fps=5, container_options={'movflags': '+faststart'})
    short.write_bytes(whole.read_bytes()[:whole.stat().st_size // 2])
    number = len(VideoFileReader(short))
    assert 0 < number < 29
    with pytest.raises(IncompleteVideoError, match=rf'short.mp4 breaks off: its header states 30 '
                       rf'frames, but frame {number} cannot be decoded. {number} of {number} '
                       rf'masks were made') as error:
        infer(short, TEXTS[:1])
    assert error.value.frame_idx == number
    assert len(error.value.result['masks'][0]) == number
    assert error.value.result['masks'][0][number - 1].shape == (48, 64)


@pytest.mark.parametrize('error', [
    torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2 GiB'),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to")])
def test_memory_that_does_not_suffice(infer, frames, error):
    def callback(*args):
        raise error

    with pytest.raises(torch.OutOfMemoryError, match=r'for 2 expressions at a time; lower '
                       r'model.test_cfg.max_expressions below 2 \(now 16.*then '
                       r'model.test_cfg.window \(now 3') as found:
        infer(frames, TEXTS, callback=callback)
    assert str(error).splitlines()[0] in str(found.value)
    with pytest.raises(torch.OutOfMemoryError, match=r'1 expressions at a time; lower '
                                                     r'model.test_cfg.window'):
        infer(frames, TEXTS[:1], callback=callback)


def test_other_errors_stay_what_they_are(infer, frames):
    def callback(*args):
        raise RuntimeError('something else')

    with pytest.raises(RuntimeError, match='^something else$'):
        infer(frames, TEXTS, callback=callback)


def test_mask_sequence_decodes_on_access():
    masks = [np.eye(3, dtype=bool) * (t % 2 == 0) for t in range(4)]
    sequence = RLEMaskSequence([encode_mask(mask) for mask in masks])
    assert len(sequence) == 4 and repr(sequence) == 'RLEMaskSequence(4 masks)'
    np.testing.assert_array_equal(sequence[-2], masks[2])
    np.testing.assert_array_equal(list(sequence[1:]), masks[1:])
    with pytest.raises(IndexError):
        sequence[4]
