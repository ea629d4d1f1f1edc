"""Frame readers: files, folders, arrays and iterators; random access, bounds, broken input."""

import pickle

import av
import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from glus_mm.datasets.transforms.loading import LoadRefVOSFrames, OpenFrameReader
from glus_mm.video import (
    ArrayReader,
    FrameError,
    ImageFolderReader,
    SpooledReader,
    VideoFileReader,
    find_videos,
    open_reader,
    read_image,
)

NUM_FRAMES = 24
SHAPE = (48, 64)


def make_frame(index):
    """A grey frame whose brightness tells its position, also after lossy coding."""
    return np.full((*SHAPE, 3), 10 * index, np.uint8)


def position(frame):
    return round(float(frame.mean()) / 10)


@pytest.fixture
def frames():
    return [make_frame(i) for i in range(NUM_FRAMES)]


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / 'frames'
    path.mkdir()
    for i in range(5):
        cv2.imwrite(str(path / f'{i:05d}.png'), make_frame(i))
    (path / 'notes.txt').write_text('no image')
    return path


@pytest.fixture(scope='module')
def video(tmp_path_factory, write_video):
    return write_video(tmp_path_factory.mktemp('video') / 'video.mp4',
                       [make_frame(i) for i in range(NUM_FRAMES)])


def test_folder_without_images(tmp_path):
    (tmp_path / 'notes.txt').write_text('no image')
    with pytest.raises(ValueError, match=f'a folder with images.*{tmp_path.name} has none'):
        open_reader(tmp_path)
    with pytest.raises(ValueError, match='at least one frame'):
        ImageFolderReader([])


def test_folders(folder):
    reader = open_reader(str(folder))
    assert isinstance(reader, ImageFolderReader)
    assert reader.frame_names == tuple(f'{i:05d}' for i in range(5)) and len(reader) == 5
    assert reader.shape == SHAPE
    assert [position(reader.read(i)) for i in (4, 0, 3)] == [4, 0, 3]
    (folder / '00002.png').write_bytes(b'broken')
    reader = open_reader(folder)
    assert position(reader.read(1)) == 1
    with pytest.raises(FrameError, match=r'frame 2 \(00002\) of .*00002.png') as error:
        reader.read(2)
    assert error.value.frame_idx == 2
    (folder / '00003.png').unlink()
    with pytest.raises(FileNotFoundError, match='00003.png') as error:
        reader.read(3)
    assert isinstance(error.value, FrameError) and error.value.frame_idx == 3


def test_frames_of_another_size(folder, frames):
    cv2.imwrite(str(folder / '00003.png'), np.zeros((20, 20, 3), np.uint8))
    reader = open_reader(folder)
    reader.read(0)
    with pytest.raises(ValueError, match=r'frame 3 \(00003\).*\(48, 64\).*got \(20, 20\)'):
        reader.read(3)
    assert position(reader.read(4)) == 4, 'the size of the first frame still counts'
    reader = ArrayReader([frames[0], frames[1].transpose(1, 0, 2)])
    assert reader.shape == SHAPE
    with pytest.raises(ValueError, match=r'frame 1 .*got \(64, 48\)'):
        reader.read(1)


@pytest.mark.parametrize('index', [-1, 5])
def test_positions_outside_the_video(folder, index):
    with pytest.raises(IndexError, match=rf'{folder.name} has frames 0\.\.4, not {index}'):
        open_reader(folder).read(index)


def test_arrays_and_other_sources(frames, tmp_path):
    reader = open_reader(frames)
    assert isinstance(reader, ArrayReader) and len(reader) == NUM_FRAMES
    assert reader.read(3) is frames[3], 'nothing is copied'
    assert reader.frame_names[:2] == ('00000', '00001')
    assert open_reader(reader) is reader
    with pytest.raises(ValueError, match='at least one frame'):
        open_reader([])
    with pytest.raises(FileNotFoundError, match='no.mp4'):
        open_reader(tmp_path / 'no.mp4')
    for read in (open_reader, lambda source: find_videos([source])):
        with pytest.raises(ValueError, match='the path of a video, got an empty one'):
            read('')
    for source in (3, None, make_frame(0), {'a': 1}):
        with pytest.raises(TypeError, match=f'got {type(source).__name__}'):
            open_reader(source)


@pytest.mark.parametrize('bad', [
    make_frame(0).astype(np.float32), make_frame(0)[..., 0], torch.zeros(4, 4, 3).byte(), 'text'])
def test_arrays_of_another_kind(frames, bad):
    with pytest.raises(ValueError, match='frame 2: expected an RGB frame'):
        open_reader([*frames[:2], bad])
    with pytest.raises(ValueError, match='frame 2 of the iterator: expected an RGB frame'):
        open_reader(iter([*frames[:2], bad]))


def test_video_file_in_another_process(video):
    reader = open_reader(video)
    assert isinstance(reader, VideoFileReader)
    assert len(reader) == NUM_FRAMES and reader.shape == SHAPE and reader.fps == 10
    reader.read(9)
    copy = pickle.loads(pickle.dumps(reader))
    assert position(copy.read(4)) == 4 and position(reader.read(10)) == 10
    assert copy.frame_names == reader.frame_names
    reader.close()
    assert position(reader.read(7)) == 7, 'a closed file is opened again'
    with pytest.raises(ValueError, match='cache_size must be at least 1, got 0'):
        VideoFileReader(video, cache_size=0)


@pytest.mark.parametrize('cut', [40, 200])
def test_truncated_video_file(video, tmp_path, cut):
    whole, short = tmp_path / 'whole.mp4', tmp_path / 'short.mp4'
    # With the index in front, so that the rest can still be opened.
    with av.open(str(video)) as source, av.open(
            str(whole), 'w', options={'movflags': '+faststart'}) as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    short.write_bytes(whole.read_bytes()[:-cut])
    reader = open_reader(short)
    number = len(reader)
    assert 0 < number < NUM_FRAMES and position(reader.read(number - 1)) == number - 1
    assert reader.breaks_off == (f'{short} breaks off: its header states 24 frames, but frame '
                                 f'{number} cannot be decoded')
    assert open_reader(whole).breaks_off is None


def test_video_file_that_is_cut_off_while_it_is_read(video, tmp_path):
    path = tmp_path / 'clip.mp4'
    path.write_bytes(video.read_bytes())
    reader = open_reader(path)
    path.write_bytes(video.read_bytes()[:-1500])
    with pytest.raises(ValueError, match=r'clip\.mp4'):
        reader.read(NUM_FRAMES - 1)


@pytest.fixture
def spool_place(tmp_path, monkeypatch):
    """Where temporary stores are made."""
    place = tmp_path / 'spool'
    place.mkdir()
    monkeypatch.setattr('tempfile.tempdir', str(place))
    return place


def test_iterator_is_spooled_without_loss_and_cleaned_up(frames, spool_place):
    noise = np.random.default_rng(0).integers(0, 256, (*SHAPE, 3), dtype=np.uint8)
    reader = open_reader(frame for frame in [*frames[:3], noise])
    assert isinstance(reader, SpooledReader) and len(reader) == 4
    assert len(list(spool_place.rglob('*.png'))) == 4
    assert np.array_equal(reader.read(3), noise)
    assert position(reader.read(1)) == 1
    reader.close()
    assert not list(spool_place.iterdir())
    reader.close()


def test_spools_that_are_given_up(frames, spool_place):
    with pytest.raises(ValueError, match='temporary store of 300 bytes.* at frame [1-9]'):
        SpooledReader(iter(frames), max_bytes=300)
    assert not list(spool_place.iterdir())
    def broken():
        yield from frames[:2]
        raise ConnectionError('camera is gone')

    with pytest.raises(ConnectionError, match='camera is gone'):
        open_reader(broken())
    with pytest.raises(ValueError, match='at least one frame'):
        open_reader(iter([]))
    assert not list(spool_place.iterdir())


def test_a_folder_is_read_in_natural_order(tmp_path):
    """Numbers without leading zeros, as ffmpeg's %d writes them."""
    for i in range(1, 13):
        cv2.imwrite(str(tmp_path / f'frame_{i}.png'), make_frame(i))
    reader = open_reader(tmp_path)
    assert reader.frame_names == tuple(f'frame_{i}' for i in range(1, 13))
    assert [position(reader.read(i)) for i in range(12)] == list(range(1, 13))


@pytest.mark.parametrize('names', [('1.png', '01.png'), ('7.jpg', '7.png')])
def test_a_folder_whose_order_is_not_clear(tmp_path, names):
    for name in (*names, '9.png'):
        cv2.imwrite(str(tmp_path / name), make_frame(1))
    with pytest.raises(ValueError, match='images whose names say their order') as error:
        open_reader(tmp_path)
    assert all(name in str(error.value) for name in names)


def write_rotated(path):
    """A file of 4 x 6 pixels that a viewer shows as 6 x 4: EXIF orientation 6."""
    pixels = np.zeros((4, 6, 3), np.uint8)
    pixels[0, 0] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(path, quality=100, subsampling=0, exif=exif)
    return path


def test_own_images_are_shown_upright_and_those_of_data_sets_as_stored(tmp_path):
    """Masks of data sets were drawn on stored pixels; a viewer turns what a camera has tagged."""
    path = write_rotated(tmp_path / '0.jpg')
    upright, stored = read_image(path), read_image(path, upright=False)
    assert upright.shape == (6, 4, 3) and stored.shape == (4, 6, 3)
    assert upright[0, 3].min() > 200 and stored[0, 0].min() > 200
    assert open_reader(tmp_path).read(0).shape == (6, 4, 3)
    sample = dict(img_paths=[str(path)], video_id='v', dataset='d', ori_shape=(4, 6))
    reader = OpenFrameReader().transform(dict(sample))['reader']
    assert reader.read(0).shape == (4, 6, 3)
    found = LoadRefVOSFrames().transform(dict(
        sample, context_frame_ids=[0], query_frame_ids=[0]))
    assert found['query_imgs'][0].shape == (4, 6, 3)
