"""What a web demo needs besides its page, without a server."""

import json
import os
import sys
import time
import zipfile

import cv2
import numpy as np
import pytest
import torch

from glus_mm.apis import GLUSInferencer
from glus_mm.models.inference import VideoFileReader
from glus_mm.models.selectors import BaseKeyFrameSelector, KeyFrames
from glus_mm.utils.masks import decode_rle
from glus_mm.visualization import OverlayVideoWriter
from programs import ROOT

sys.path.insert(0, str(ROOT / 'demo'))

from web_parts import (
    Preview,
    SegmentationResult,
    SegmentationService,
    TemporaryStore,
    WebInputError,
    WebLimits,
    open_limited_video,
)


def write_video(path, frames, fps=10.0):
    with OverlayVideoWriter(path, fps) as writer:
        for frame in frames:
            writer.write(frame)
    return path


@pytest.fixture
def store():
    with TemporaryStore(1 << 20, 60) as store:
        yield store


@pytest.fixture
def video(frames, tmp_path):
    return write_video(tmp_path / 'clip.mp4', frames)


def service(model, store, **limits):
    return SegmentationService(GLUSInferencer(model), store, WebLimits(**limits))


def entry(store, name, size, age=0.0):
    path = store.root / name
    path.write_bytes(bytes(size))
    os.utime(path, (time.time() - age, ) * 2)
    return path


def test_limits_and_what_is_left(store):
    assert WebLimits(max_upload_mb=3).max_upload_bytes == 3 << 20
    with pytest.raises(ValueError, match='expected a finite max_frames above 0, got 0'):
        WebLimits(max_frames=0)
    for value in (float('inf'), float('nan'), -1.0):
        with pytest.raises(ValueError, match='expected a finite max_upload_mb above 0, got'):
            WebLimits(max_upload_mb=value)
    with TemporaryStore(10, 10) as other:
        (other.new_folder() / 'x').write_bytes(b'1')
        assert other.root.is_dir() and other.root != store.root
    assert not other.root.exists()
    other.trim()
    other.close()


def test_the_oldest_files_go_first(store):
    old, new = entry(store, 'old', 600_000, age=20), entry(store, 'new', 300_000, age=10)
    store.trim()
    assert old.exists() and new.exists()
    store.trim(reserve=200_000)
    assert not old.exists() and new.exists()


def test_files_in_use_are_kept_longest(store):
    used, other = entry(store, 'used', 600_000, age=20), entry(store, 'other', 300_000, age=10)
    store.touch(used)
    store.touch('/elsewhere')
    store.trim(reserve=200_000)
    assert used.exists() and not other.exists()


def test_old_files_and_folders_go(store):
    old = entry(store, 'old', 1, age=61)
    folder = store.new_folder()
    (folder / 'masks.zip').write_bytes(b'1')
    os.utime(folder, (time.time() - 61, ) * 2)
    store.sweep(0.05)
    for _ in range(600):
        if not folder.exists() and not old.exists():
            break
        time.sleep(0.05)
    assert list(store.root.iterdir()) == []


@pytest.mark.parametrize(('max_fps', 'expected'), [
    (None, list(range(12))), (30, list(range(12))), (5, [0, 2, 4, 6, 8, 10]),
    (4, [0, 2, 5, 7, 10])])
def test_frames_are_left_out_evenly(tmp_path, max_fps, expected):
    frames = [np.full((32, 48, 3), 20 * t, dtype=np.uint8) for t in range(12)]
    reader = open_limited_video(write_video(tmp_path / 'v.mp4', frames), WebLimits(), max_fps)
    assert list(reader.order) == expected
    assert reader.fps == (max_fps if max_fps in (4, 5) else 10)
    assert reader.frame_names == tuple(f'{t:05d}' for t in expected)
    values = [int(reader.read(t).mean().round()) for t in range(len(reader))]
    assert np.abs(np.array(values) - [20 * t for t in expected]).max() <= 3
    reader.close()


@pytest.mark.parametrize(('limits', 'match'), [
    (dict(max_frames=11), 'at most 11 frames to segment, got 12'),
    (dict(max_frames=1), 'at most 10 frames'),
    (dict(max_seconds=0.9), r'at most 10 frames, which are 1 seconds')])
def test_videos_beyond_the_limits(tmp_path, limits, match):
    path = write_video(tmp_path / 'v.mp4', [np.zeros((32, 48, 3), dtype=np.uint8)] * 12)
    with pytest.raises(WebInputError, match=match) as caught:
        open_limited_video(path, WebLimits(**limits))
    assert str(tmp_path) not in str(caught.value)


def test_large_frames_are_scaled_down(tmp_path):
    path = write_video(tmp_path / 'v.mp4', [np.full((90, 160, 3), 77, dtype=np.uint8)] * 3)
    reader = open_limited_video(path, WebLimits(max_megapixels=0.005))
    assert reader.scaled == (90, 160) and reader.shape == (52, 94)
    assert np.abs(reader.read(2).astype(int) - 77).max() < 3
    assert open_limited_video(path, WebLimits()).scaled is None


@pytest.mark.parametrize('content', [b'', b'no video', b'\0' * 5000, b'GIF89a' + b'\xff' * 99])
def test_what_is_no_video(tmp_path, content):
    path = tmp_path / 'v.mp4'
    path.write_bytes(content)
    with pytest.raises(WebInputError, match='expected a video file') as caught:
        open_limited_video(path, WebLimits())
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize(('text', 'match'), [
    ('', 'expected an expression'), (' \n\t\n', 'expected an expression'),
    ('a\nb\nc', 'at most 2 expressions, one on each line, got 3'),
    ('x' * 10_000, 'got 10000 characters'), ('x' * 1500, 'at most 1000 characters, but got 1500'),
    ('a\n[SEG]', r"line 2: expected no '\[SEG\]'"), ('lone \ud800', 'valid Unicode'),
    (None, 'expected text, got NoneType')])
def test_texts_that_cannot_be_used(model, store, text, match):
    with pytest.raises(WebInputError, match=match):
        service(model, store, max_texts=2).parse_texts(text)


def test_requests_that_are_refused(model, store, video):
    assert service(model, store).parse_texts(' the red box \n\nthe sky\r\n') == (
        'the red box', 'the sky')
    with pytest.raises(WebInputError, match='upload one, or pick a sample'):
        list(service(model, store).segment(None, 'the red box'))
    with pytest.raises(WebInputError, match='took more than 1e-06 seconds'):
        list(service(model, store, max_work_seconds=1e-6).segment(video, 'the red box'))


def test_a_run_gives_previews_a_result_and_the_masks_of_the_inferencer(model, store, video):
    texts = ('the red box', '<b>the sky</b>')
    *previews, result = service(model, store).segment(video, '\n'.join(texts))
    assert previews and all(isinstance(preview, Preview) for preview in previews)
    first = previews[0]
    assert first.frame_idx == 0 and first.done == 2 and first.total == 10
    assert first.image.shape[1] == 640 and first.image.shape[0] > 480, 'a legend stands below'
    assert isinstance(result, SegmentationResult) and result.texts == texts
    assert result.num_frames == 5 and result.fps == 10 and result.notes == ()
    assert result.curves is None and result.key_frames == (0, 0)
    assert store.root in result.folder.parents
    overlay = VideoFileReader(result.overlay)
    assert len(overlay) == 5 and overlay.shape[1] == 640
    assert cv2.imread(str(result.frame(99))).shape == cv2.imread(str(result.frame(-1))).shape

    expected = GLUSInferencer(model)(video, texts)
    document = json.loads(result.masks_json.read_text())
    assert [item['expression'] for item in document['expressions']] == list(texts)
    assert document['size'] == [48, 64] and document['frames'] == [f'{t:05d}' for t in range(5)]
    with zipfile.ZipFile(result.masks_zip) as archive:
        assert len(archive.namelist()) == 12
        assert json.loads(archive.read('expressions.json')) == list(texts)
        for e, item in enumerate(document['expressions']):
            assert item['expected_iou'] is None
            for t, name in enumerate(document['frames']):
                png = cv2.imdecode(np.frombuffer(archive.read(f'{e}/{name}.png'), np.uint8),
                                   cv2.IMREAD_UNCHANGED)
                mask = expected['masks'][e][t]
                assert (png == mask * 255).all()
                assert (decode_rle(item['masks'][t]) == mask).all()


def test_words_that_the_model_was_never_taught_are_told(model, store, video, monkeypatch, logged):
    """On the page, and in the log of every program that calls the inferencer."""
    asked = SegmentationService(GLUSInferencer(model), store)
    *_, result = asked.segment(video, 'the sky')
    assert result.notes == (), 'nothing is known of what it was taught'
    monkeypatch.setattr(model, 'cfg', dict(train_dataloader=dict(dataset=dict(
        type='glus_mm.MovingShapesDataset'))), raising=False)
    note = "was trained on coloured shapes only, and was never taught: 'sky'"
    assert [list(asked.segment(video, text))[-1].notes for text in ('the circle', 'the sky')] == [
        (), (f'The model {note}.',)]
    assert [line for line in logged if 'taught' in line] == [f'the model {note}']


def test_scores_are_shown_where_the_model_learned_them(model, store, video, monkeypatch):
    untrained = service(model, store)
    *_, result = untrained.segment(video, 'the red box')
    item, = json.loads(result.masks_json.read_text())['expressions']
    assert item['expected_iou'] is None and item['presence'] is None
    plain = cv2.imread(str(result.frame(0)))
    expected = GLUSInferencer(model)(video, ['the red box'])
    monkeypatch.setattr(model, 'trained_scores', ('scores', ))
    *_, result = service(model, store).segment(video, 'the red box')
    assert result.curve_title == 'expected IoU of the mask'
    assert result.curves == pytest.approx(expected['scores'], abs=1e-6)
    item, = json.loads(result.masks_json.read_text())['expressions']
    assert item['expected_iou'] == pytest.approx(expected['scores'][0], abs=1e-4)
    assert (cv2.imread(str(result.frame(0))) != plain).any(), 'the legend has the score'


class LastFrameSelector(BaseKeyFrameSelector):
    """The last frame, whose score is the highest; the first one has none."""

    def select(self, reader, data_sample):
        scores = torch.arange(len(reader)).float().repeat(len(data_sample), 1) / 10
        scores[:, 0] = float('nan')
        return KeyFrames([len(reader) - 1] * len(data_sample), scores)


def test_scores_of_a_selector_are_shown(model, store, video):
    inferencer = GLUSInferencer(model, LastFrameSelector())
    *previews, result = SegmentationService(inferencer, store).segment(video, 'the red box')
    assert previews[0].frame_idx == 4, 'propagation starts there'
    assert result.key_frames == (4, ) and result.curve_title == 'key-frame score'
    assert np.isnan(result.curves[0, 0]) and result.curves[0, 4] == pytest.approx(0.4)
    assert json.loads(result.masks_json.read_text())['expressions'][0]['key_frame'] == 4


@pytest.fixture
def large_store():
    with TemporaryStore(64 << 20, 3600) as store:
        yield store


def test_a_click_gives_new_files(model, large_store, video):
    """In pixels of the drawn frame, which is ten times as large; the old files stay."""
    asked = service(model, large_store, max_open_videos=1)
    *_, result = asked.segment(video, 'the red box\nthe sky')
    before = result.masks_zip.read_bytes()
    new, changed = asked.refine(result, 1, 2, (205, 305), 0)
    assert changed == [2, 3, 4] and new.folder != result.folder and new.texts == result.texts
    assert result.masks_zip.read_bytes() == before
    click, = json.loads(new.masks_json.read_text())['expressions'][1]['clicks']
    assert click == dict(frame=2, points=[[20.5, 30.5]], labels=[0], box=None)
    with pytest.raises(WebInputError, match='inside of the frame'):
        asked.refine(new, 1, 2, (205, 481), 0)
    last, _ = asked.undo(new)
    assert last.masks_json.read_text() == result.masks_json.read_text()
    *_, other = asked.segment(video, 'the red box')
    with pytest.raises(WebInputError, match='1 others were opened since; press Segment again'):
        asked.refine(last, 0, 0, (5, 5), 1)
    asked.refine(other, 0, 0, (5, 5), 1)


def test_frames_without_seg_are_told(half_deaf, store, video):
    *_, result = service(half_deaf, store).segment(video, 'the red box\nthe sky')
    with zipfile.ZipFile(result.masks_zip) as archive:
        masks = [cv2.imdecode(np.frombuffer(archive.read(name), np.uint8), cv2.IMREAD_UNCHANGED)
                 for name in archive.namelist() if name.startswith('1/')]
    empty = [not mask.any() for mask in masks]
    assert result.notes == (
        f'"the sky": the model answered without a mask on {sum(empty)} of 5 frames.', )
    assert sum(empty) > 2


def test_a_video_that_breaks_off(model, store, tmp_path):
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 255, (48, 64, 3)).astype(np.uint8) for _ in range(60)]
    whole = write_video(tmp_path / 'whole.mp4', noise).read_bytes()
    cut = tmp_path / 'cut.mp4'
    cut.write_bytes(whole[:len(whole) // 5])
    if not VideoFileReader(cut).breaks_off:
        pytest.fail('expected a file that breaks off')
    *_, result = service(model, store).segment(cut, 'the red box')
    assert 0 < result.num_frames < 60 and 'breaks off' in result.notes[0]
    assert len(VideoFileReader(result.overlay)) == result.num_frames


def test_closing_and_removing(model, store, video):
    events = service(model, store).segment(video, 'the red box')
    assert next(events).done == 1
    events.close()
    assert [path for path in store.root.iterdir() if path.name.startswith('run_')] == []
    *_, result = service(model, store).segment(video, 'the red box')
    assert result.num_frames == 5
    *_, result = service(model, store).segment(video, 'the red box')
    store.trim(reserve=1 << 30)
    assert result.frame(0) is None
