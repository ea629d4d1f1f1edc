"""What a run leaves in its folder: masks in every format, results.json, overlay, cut-outs."""

import json
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

import glus_mm
from glus_mm.apis import GLUSInferencer, IncompleteVideoError, SegmentJob
from glus_mm.apis.result_files import FORMATS, open_masks
from glus_mm.utils.masks import decode_rle
from glus_mm.video import VideoFileReader, open_reader

TEXTS = ['the red box', 'the thing']
TIMES = [0, 40, 200, 240, 1000]


@pytest.fixture(scope='module')
def video(frames, tmp_path_factory, write_video):
    """Five frames that are shown for different times, with sound."""
    return write_video(tmp_path_factory.mktemp('video') / 'clip.mp4', frames, times=TIMES, tone=1.2)


@pytest.fixture(scope='module')
def infer(model):
    return GLUSInferencer(model)


@pytest.fixture(scope='module')
def png(infer, video, tmp_path_factory):
    """A run with PNG masks, an overlay without a legend, and both kinds of cut-outs."""
    folder = tmp_path_factory.mktemp('png')
    with SegmentJob(video, TEXTS, folder, key_frames=[2, 0], legend='none', cutout='png') as job:
        out = job.run(infer)
        text = job.summary(out)
    return folder, out, text


def results(folder, name='clip'):
    return json.loads((folder / name / 'results.json').read_text())


def test_results_say_what_the_masks_are(png, video):
    folder, out, _ = png
    found = results(folder)
    assert found['schema'] == 'glus_mm.results/1' and found['glus_mm'] == glus_mm.__version__
    assert found['complete'] is True and found['error'] is None
    assert found['video'] == dict(
        name='clip', source=str(video), width=64, height=48, num_frames=5,
        fps=VideoFileReader(video).fps, frames=[f'{t:05d}' for t in range(5)],
        timestamps=[at / 1000 for at in TIMES])
    assert found['model']['type'] == 'GLUS' and found['model']['config'].endswith('glus_tiny.py')
    assert found['masks'] == dict(format='png', path='clip')
    for e, (text, key) in enumerate(zip(TEXTS, [2, 0])):
        entry = found['texts'][e]
        assert entry['text'] == text and entry['key_frame'] == key and entry['masks'] == str(e)
        assert entry['seg'] == out['is_seg'][e].tolist()
        # This model was not trained to score its masks, or to tell what is there.
        assert entry['score'] is None and entry['clicks'] == []


def test_masks_of_an_earlier_run_do_not_stay(infer, frames, tmp_path):
    note = tmp_path / 'video' / '1' / 'note.txt'
    infer(frames[:3], TEXTS, out_dir=tmp_path)
    note.write_text('mine')
    infer(frames[:2], TEXTS[:1], out_dir=tmp_path)
    assert sorted(path.name for path in (tmp_path / 'video').rglob('*') if path.is_file()) == [
        '00000.png', '00001.png', 'note.txt', 'results.json']
    # A document that leads elsewhere, or is no longer one, removes nothing but itself.
    outside = tmp_path / 'other.png'
    outside.touch()
    place = tmp_path / 'video' / 'results.json'
    document = json.loads(place.read_text())
    document['video']['frames'] = ['../../other', str(tmp_path / 'other')]
    for text in (json.dumps(document), '{"schema": 3}', '[]', 'nonsense'):
        place.write_text(text)
        infer(frames[:1], TEXTS[:1], out_dir=tmp_path)
        assert outside.exists() and len(results(tmp_path, 'video')['texts']) == 1
    assert (tmp_path / 'video' / '0' / '00001.png').exists()


def test_a_model_that_was_trained_to_score_shows_scores(infer, frames, tmp_path, monkeypatch):
    monkeypatch.setattr(infer.model, 'trained_scores', ('scores', ))
    out = infer(frames[:2], TEXTS, out_dir=tmp_path)
    found = results(tmp_path, 'video')
    assert found['texts'][1]['score'] == pytest.approx(out['scores'][1].tolist(), abs=1e-5)
    assert found['video']['timestamps'] is None and found['video']['fps'] is None


def test_results_of_a_video_that_breaks_off(infer, frames, tmp_path):
    broken = [*frames[:3], frames[3][:20], frames[4]]
    with pytest.raises(IncompleteVideoError):
        infer(broken, TEXTS[:1], out_dir=tmp_path)
    found = results(tmp_path, 'video')
    assert found['complete'] is False and 'frame 3' in found['error']
    assert [value is None for value in found['texts'][0]['seg']] == [False] * 3 + [True] * 2


@pytest.mark.parametrize('format', FORMATS[1:])
def test_every_format_holds_the_same_masks(png, infer, video, tmp_path, format):
    expected = open_masks(png[0], 'clip', [f'{t:05d}' for t in range(5)], 2, 'png')
    with SegmentJob(video, TEXTS, tmp_path, key_frames=[2, 0], overlay=False,
                    format=format) as job:
        job.run(infer)
    found = open_masks(tmp_path, 'clip', [f'{t:05d}' for t in range(5)], 2, format)
    for t in range(5):
        assert np.array_equal(found(t), expected(t))
    assert results(tmp_path)['masks']['format'] == format
    assert (tmp_path / results(tmp_path)['masks']['path']).is_file()
    assert not list((tmp_path / 'clip').glob('*/*.png'))


def test_coco_can_be_read_by_its_tools(infer, frames, half_deaf, tmp_path):
    for model, found in ((infer, 10), (GLUSInferencer(half_deaf), 5)):
        model(frames, ['the red box', 'the sky'], out_dir=tmp_path, format='coco')
        coco = COCO(str(tmp_path / 'video' / 'coco.json'))
        assert len(coco.getImgIds()) == 5 and len(coco.getAnnIds()) <= found
        assert [c['name'] for c in coco.loadCats(coco.getCatIds())] == ['the red box', 'the sky']
        for annotation in coco.loadAnns(coco.getAnnIds()):
            mask = coco.annToMask(annotation)
            ys, xs = np.nonzero(mask)
            assert annotation['area'] == mask.sum() and 'score' not in annotation
            x, y, width, height = annotation['bbox']
            assert (x, y) == (xs.min(), ys.min())
            assert (x + width, y + height) == (xs.max() + 1, ys.max() + 1)


def test_youtube_vis_has_tracks(infer, frames, tmp_path):
    infer(frames, TEXTS, out_dir=tmp_path, format='ytvis')
    document = json.loads((tmp_path / 'video' / 'ytvis.json').read_text())
    assert document['videos'][0]['length'] == 5
    assert document['videos'][0]['file_names'][1] == 'video/00001'
    for e, track in enumerate(document['annotations']):
        assert (track['id'], track['category_id'], track['iscrowd']) == (e + 1, e + 1, 0)
        for rle, area, box in zip(track['segmentations'], track['areas'], track['bboxes']):
            assert (rle is None) == (area is None) == (box is None)
            assert rle is None or decode_rle(rle).sum() == area


def test_the_overlay_keeps_times_size_and_sound(png, video):
    overlay = VideoFileReader(png[0] / 'overlay.mp4')
    assert [overlay.time(t) for t in range(5)] == [Fraction(at, 1000) for at in TIMES]
    assert overlay.shape == (48, 64)
    with av.open(str(video)) as source, av.open(str(png[0] / 'overlay.mp4')) as copy:
        packets = [[(float(packet.pts * packet.time_base), bytes(packet))
                    for packet in container.demux(audio=0) if packet.size]
                   for container in (source, copy)]
    # Up to the end of the last frame.
    assert packets[1] == packets[0][:len(packets[1])] and len(packets[1]) > 12


def test_the_legend_stands_below(infer, video, tmp_path):
    with SegmentJob(video, TEXTS[:1], tmp_path, fps=4) as job:
        text = job.summary(job.run(infer))
    overlay = VideoFileReader(tmp_path / 'overlay.mp4')
    assert overlay.shape[1] == 480 and overlay.shape[0] > 360 and overlay.fps == 4
    with av.open(overlay.path) as container:
        assert not container.streams.audio, 'which would not fit the other times'
    assert '1 text on 5 frames of' in text and '[SEG] on 5 of 5 masks' in text


def test_cut_outs_are_the_masks(png, infer, video, tmp_path):
    masks = open_masks(png[0], 'clip', [f'{t:05d}' for t in range(5)], 2, 'png')
    reader = VideoFileReader(video)
    for e in range(2):
        cut = cv2.imread(str(png[0] / 'clip' / 'cutout' / str(e) / '00003.png'), -1)
        assert np.array_equal(cut[..., 3], masks(3)[e] * np.uint8(255))
        assert np.array_equal(cut[..., 2::-1], reader.read(3))
    with SegmentJob(video, TEXTS, tmp_path, key_frames=[2, 0], overlay=False,
                    cutout='webm') as job:
        job.run(infer)
    path = tmp_path / 'clip' / 'cutout' / '0.webm'
    # FFmpeg's own decoder leaves the alpha away.
    with av.open(str(path)) as container:
        decoder = av.CodecContext.create('libvpx-vp9', 'r')
        decoder.extradata = container.streams.video[0].codec_context.extradata
        decoded = [frame for packet in container.demux(video=0) for frame in decoder.decode(packet)]
    assert [VideoFileReader(path).time(t) for t in range(5)] == [Fraction(at, 1000)
                                                                  for at in TIMES]
    for t, frame in enumerate(decoded):
        alpha = frame.to_ndarray(format='rgba')[..., 3] > 127
        wrong = alpha != masks(t)[0]
        assert wrong.mean() < 0.02, t


def test_an_image_gives_a_picture(infer, frames, tmp_path):
    path = tmp_path / 'photo.jpg'
    cv2.imwrite(str(path), frames[0][..., ::-1])
    with SegmentJob(path, TEXTS[:1], tmp_path / 'out') as job:
        text = job.summary(job.run(infer))
    assert '1 text on 1 frame of' in text and '[SEG] on 1 of 1 mask\n' in text
    assert cv2.imread(str(tmp_path / 'out' / 'overlay.png')).shape[1] == 480
    assert not (tmp_path / 'out' / 'overlay.mp4').exists()
    assert (tmp_path / 'out' / 'photo' / '0' / 'photo.png').is_file()
    for option in (dict(format='gif'), dict(legend='above'), dict(cutout='mp4')):
        with pytest.raises(ValueError, match=f'{next(iter(option))} must be one of'):
            SegmentJob(open_reader(frames), TEXTS, tmp_path, **option)
