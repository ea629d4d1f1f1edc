"""Video files of every kind: seeking, times, rotation, codecs, and what is broken."""

import contextlib
import gc
import http.server
import os
import re
import signal
import socketserver
import struct
import threading
import time
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from glus_mm import video as video_module
from glus_mm.video import (
    ImageFolderReader,
    LiveSource,
    VideoFileReader,
    open_reader,
    open_source,
)

SHAPE = (48, 64)


def make_frames(count, shape=SHAPE):
    """Frames of which the grey tells the position."""
    return [np.full((*shape, 3), 5 + 245 * t // count, np.uint8) for t in range(count)]


def greys(reader, order=None):
    return [int(reader.read(t).mean().round()) for t in order or range(len(reader))]


def quadrants():
    """A frame with another grey in each corner."""
    frame = np.zeros((*SHAPE, 3), np.uint8)
    frame[:24, :32], frame[:24, 32:], frame[24:, :32], frame[24:, 32:] = 20, 90, 160, 230
    return frame


CODECS = [
    ('mp4', 'libx264', 'yuv420p', {'g': '7', 'bf': '3'}),
    ('mp4', 'libx264', 'yuv420p', {'g': '7', 'bf': '3', 'x264-params': 'open-gop=1'}),
    ('mkv', 'libx264', 'yuv420p', {'g': '7', 'bf': '3'}), ('mov', 'mpeg4', 'yuv420p', {'g': '6'}),
    ('mp4', 'hevc', 'yuv420p', {'x265-params': 'keyint=7:log-level=none', 'crf': '4'}),
    ('mp4', 'libsvtav1', 'yuv420p', {'g': '8', 'crf': '4', 'preset': '12'}),
    ('webm', 'libvpx-vp9', 'yuv420p', {'g': '8', 'crf': '4', 'b': '0', 'deadline': 'realtime'}),
    ('webm', 'libvpx', 'yuv420p', {'g': '8', 'b': '2M', 'auto-alt-ref': '1', 'lag-in-frames': '9'}),
    ('avi', 'mpeg4', 'yuv420p', {'g': '6', 'bf': '2'}), ('avi', 'mjpeg', 'yuvj420p', {}),
    ('ts', 'libx264', 'yuv420p', {'g': '7', 'bf': '3'}), ('h264', 'libx264', 'yuv420p', {}),
    ('gif', 'gif', 'rgb8', {}), ('mkv', 'ffv1', 'yuv444p', {}), ('mov', 'qtrle', 'rgb24', {}),
]


@pytest.mark.parametrize(('suffix', 'codec', 'pixels', 'options'), CODECS)
def test_positions_are_those_of_reading_in_order(write_video, tmp_path, suffix, codec, pixels,
                                                 options):
    options = {'crf': '4', **options} if codec == 'libx264' else options
    path = write_video(tmp_path / f'clip.{suffix}', make_frames(20), codec=codec, pix_fmt=pixels,
                       options=options)
    reader = VideoFileReader(path, cache_size=3)
    assert len(reader) == 20 and reader.breaks_off is None
    whole = [reader.read(t) for t in range(20)]
    tolerance = 12 if codec == 'gif' else 8 if codec == 'mpeg4' else 4
    for t, frame in enumerate(whole):
        assert abs(frame.mean() - make_frames(20)[t].mean()) <= tolerance, t
    rng = np.random.default_rng(0)
    for t in [*reversed(range(20)), *rng.permutation(20), 19, 0]:
        assert np.array_equal(reader.read(int(t)), whole[t]), t
    if suffix != 'h264':  # which has no times
        assert float(reader.time(19)) == pytest.approx(1.9)


@pytest.mark.parametrize('suffix', ['mp4', 'mkv', 'ts'])
def test_times_of_a_variable_frame_rate_are_exact(write_video, tmp_path, suffix):
    times = [0, 33, 34, 200, 1200, 1233]
    path = write_video(tmp_path / f'clip.{suffix}', make_frames(6), times=times)
    reader = VideoFileReader(path)
    assert [reader.time(t) for t in range(6)] == [Fraction(at, 1000) for at in times]
    assert greys(reader, [5, 1, 3]) == pytest.approx([209, 45, 127], abs=3)


@pytest.mark.parametrize(('turn', 'expected'), [
    (dict(degrees=90), lambda a: np.rot90(a)), (dict(degrees=180), lambda a: np.rot90(a, 2)),
    (dict(degrees=-90), lambda a: np.rot90(a, 3)),
    (dict(degrees=0, hflip=True), lambda a: a[:, ::-1]),
    (dict(degrees=90, vflip=True), lambda a: np.rot90(a)[::-1])])
def test_rotation_of_the_file_is_applied(write_video, tmp_path, turn, expected):
    path = write_video(tmp_path / 'clip.mp4', [quadrants()] * 2, rotation=turn)
    reader = VideoFileReader(path)
    wanted = expected(quadrants())
    assert reader.shape == wanted.shape[:2]
    assert np.abs(reader.read(1).astype(int) - wanted).mean() < 3


def test_frames_are_counted_without_decoding(write_video, tmp_path, monkeypatch):
    path = write_video(tmp_path / 'clip.mp4', make_frames(9))

    def decode(*args):
        raise AssertionError('decoded')

    monkeypatch.setattr(video_module, '_frames', decode)
    assert len(VideoFileReader(path)) == 9


@pytest.mark.parametrize('count', [60, 120])
def test_reading_backward_is_linear(write_video, tmp_path, count, monkeypatch):
    path = write_video(tmp_path / 'clip.mp4', make_frames(count), options={'g': '12', 'crf': '9'})
    decoded = []
    frames = video_module._frames
    monkeypatch.setattr(video_module, '_frames', lambda *args: (
        decoded.append(1) or frame for frame in frames(*args)))
    reader = VideoFileReader(path, cache_size=4)
    greys(reader, range(count - 1, -1, -1))
    # A group of 12 is decoded for each 4 frames: on average two thirds of it.
    assert len(decoded) <= 2.1 * count and len(reader._cache) <= 4
    decoded.clear()
    reader = VideoFileReader(path)
    greys(reader, range(count - 1, -1, -1))
    assert len(decoded) <= 1.5 * count, 'by default a group fits'


def test_what_is_kept(write_video, tmp_path):
    path = write_video(tmp_path / 'clip.mp4', make_frames(60), options={'g': '6', 'crf': '9'})
    reader = VideoFileReader(path)
    reader.read(0)
    reader.read(57)
    assert min(set(reader._cache) - {0}) >= 54
    # As from the context frames to the first one; the bound is for who reads backward.
    path = write_video(tmp_path / 'clip.mp4', make_frames(60), options={'g': '30', 'crf': '9'})
    reader = VideoFileReader(path)
    greys(reader, (50, *range(45)))
    assert len(reader._cache) == 8
    greys(reader, range(44, 20, -1))
    assert len(reader._cache) > 20


def test_forked_processes(write_video, tmp_path):
    """As workers of a data loader are forked."""
    path = write_video(tmp_path / 'clip.mp4', make_frames(30), options={'g': '6', 'crf': '9'})
    reader = VideoFileReader(path, cache_size=2)
    expected = [reader.read(t).mean() for t in (3, 25)]
    child = os.fork()
    if not child:
        signal.alarm(120)
        good = [reader.read(t).mean() for t in (3, 25)] == expected
        del reader
        os._exit(0 if good else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert [reader.read(t).mean() for t in (3, 25)] == expected
    # One that nobody reads any more, and that the parent has not collected.
    path = write_video(tmp_path / 'clip.mp4', make_frames(30))
    gc.disable()
    try:
        reader = VideoFileReader(path)
        reader.read(3)
        del reader
        child = os.fork()
        if not child:
            signal.alarm(20)
            gc.collect()
            os._exit(0)
    finally:
        gc.enable()
    assert os.waitpid(child, 0)[1] == 0


def test_frames_that_are_kept_hold_no_threads(write_video, tmp_path):
    path = write_video(tmp_path / 'clip.mp4', make_frames(30))
    reader = VideoFileReader(path, cache_size=30)
    reader.read(0)
    before = len(os.listdir('/proc/self/task'))
    greys(reader)
    assert len(reader._cache) == 30 and len(os.listdir('/proc/self/task')) <= before
    # With its logging on, PyAV's callback can wait for the interpreter's lock for ever.
    assert av.logging.get_level() is None


def test_alpha_is_left_aside(write_video, tmp_path):
    rgba = np.concatenate([quadrants(), np.full((*SHAPE, 1), 60, np.uint8)], 2)
    for name, codec, pixels in (('a.mov', 'qtrle', 'argb'), ('a.mov', 'png', 'rgba'),
                                ('a.webm', 'libvpx-vp9', 'yuva420p')):
        options = {'crf': '4', 'b': '0', 'auto-alt-ref': '0'} if codec == 'libvpx-vp9' else {}
        path = write_video(tmp_path / name, [rgba] * 3, codec=codec, pix_fmt=pixels,
                           options=options)
        frame = VideoFileReader(path).read(2)
        assert np.abs(frame.astype(int) - quadrants()).mean() < 4, codec


@pytest.mark.parametrize('fps', [10_000, 0.1, Fraction(30000, 1001)])
def test_extreme_frame_rates(write_video, tmp_path, fps):
    reader = VideoFileReader(write_video(tmp_path / 'clip.mp4', make_frames(5), fps=fps))
    assert reader.fps == pytest.approx(float(fps))
    assert float(reader.time(4)) == pytest.approx(4 / float(fps))
    reader = VideoFileReader(write_video(tmp_path / 'one.mp4', make_frames(1), fps=fps))
    assert len(reader) == 1 and reader.read(0).shape == (*SHAPE, 3)


def test_pictures(tmp_path):
    from PIL import Image
    Image.fromarray(quadrants()).save(tmp_path / 'a.PNG')
    reader = open_reader(tmp_path / 'a.PNG')
    assert isinstance(reader, ImageFolderReader) and reader.frame_names == ('a', )
    assert np.array_equal(reader.read(0), quadrants()) and reader.time(0) is None


def refusal(path):
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        VideoFileReader(path)
    assert str(path) in str(error.value) and '\n' not in str(error.value)
    return str(error.value)


def test_what_is_no_video_is_named(write_video, tmp_path):
    (tmp_path / 'empty.mp4').touch()
    assert 'is empty' in refusal(tmp_path / 'empty.mp4')
    (tmp_path / 'text.mp4').write_text('no video at all ' * 99)
    assert 'cannot be opened' in refusal(tmp_path / 'text.mp4')
    os.mkfifo(tmp_path / 'pipe.mp4')
    assert 'no regular file' in refusal(tmp_path / 'pipe.mp4')
    sound = tmp_path / 'sound.m4a'
    with av.open(str(sound), 'w', format='mp4') as out:
        stream = out.add_stream('aac', rate=16000)
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), 'fltp', 'mono')
        samples.sample_rate, samples.pts = 16000, 0
        out.mux(stream.encode(samples))
        out.mux(stream.encode(None))
    assert 'only audio' in refusal(sound)
    # What a playlist names is not opened, whatever the playlist is called.
    clip = write_video(tmp_path / 'clip.ts', make_frames(3))
    for name, text in (('list.mp4', f'#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{clip}\n'
                        '#EXT-X-ENDLIST\n'), ('list.txt', f'ffconcat version 1.0\nfile {clip}\n')):
        (tmp_path / name).write_text(text)
        assert 'cannot be opened' in refusal(tmp_path / name)


def test_streams(write_video, tmp_path):
    parts = [write_video(tmp_path / f'{i}.h264', make_frames(4, shape))
             for i, shape in enumerate([SHAPE, (64, 80)])]
    path = tmp_path / 'mixed.h264'
    path.write_bytes(b''.join(part.read_bytes() for part in parts))
    reader = VideoFileReader(path)
    assert len(reader) == 8
    assert reader.read(3).shape == (*SHAPE, 3)
    with pytest.raises(ValueError, match=r'frame 4 .*\(48, 64\).*got \(64, 80\)'):
        reader.read(4)
    path = write_video(tmp_path / 'clip.mkv', [*np.random.default_rng(0).integers(
        0, 255, (40, *SHAPE, 3), dtype=np.uint8)])
    path.write_bytes(path.read_bytes()[:path.stat().st_size // 2])
    reader = VideoFileReader(path)
    assert 5 < len(reader) < 35
    assert f'its header states 4.00 s, but frame {len(reader)} cannot' in reader.breaks_off
    reader.read(len(reader) - 1)
    path = write_video(tmp_path / 'clip.mp4', make_frames(3))
    path.write_bytes(path.read_bytes().replace(b'avc1', b'evc1'))
    message = refusal(path)
    assert 'no decoder' in message and 'libx264' in message and 'evc' in message


@pytest.mark.parametrize('suffix', ['mp4', 'mkv', 'avi', 'ts'])
def test_damaged_files_give_frames_or_an_error_that_names_them(write_video, tmp_path, suffix):
    """Bytes changed, cut off, repeated and exchanged: nothing hangs, nothing else is raised."""
    frames = [*np.random.default_rng(1).integers(0, 255, (12, *SHAPE, 3), dtype=np.uint8)]
    options = {'movflags': '+faststart'} if suffix == 'mp4' else {}
    whole = write_video(tmp_path / f'whole.{suffix}', frames, options={'g': '4', 'crf': '30'},
                        container_options=options).read_bytes()
    rng = np.random.default_rng(2)
    kinds = {'read': 0, 'refused': 0}
    for i in range(60):
        data = bytearray(whole)
        a, b = sorted(rng.integers(0, len(data), 2).tolist())
        if i % 5 == 0:
            data = data[:a]
        elif i % 5 == 1:
            del data[a:min(b, a + 500)]
        elif i % 5 == 2:
            for place in rng.integers(0, len(data), 20):
                data[place] = rng.integers(256)
        elif i % 5 == 3:
            data[a:a] = data[a:min(b, a + 700)]
        else:
            size = min(200, len(data) - b)
            data[a:a + size], data[b:b + size] = data[b:b + size], data[a:a + size]
        path = tmp_path / f'bad.{suffix}'
        path.write_bytes(data)
        try:
            reader = VideoFileReader(path)
            for t in [*range(len(reader)), *reversed(range(len(reader)))]:
                try:
                    assert reader.read(t).shape == (*reader.shape, 3)
                except video_module.FrameError as error:
                    assert str(path) in str(error) and '\n' not in str(error)
            kinds['read'] += 1
        except ValueError as error:
            assert str(path) in str(error) and '\n' not in str(error)
            kinds['refused'] += 1
    assert kinds['read'] > 5 and kinds['refused'] > 0, kinds


def test_a_live_source_gives_frames_and_times(write_video, tmp_path, monkeypatch):
    times = [0, 40, 100, 300]
    path = write_video(tmp_path / 'clip.ts', make_frames(4), times=times)
    source = LiveSource(f'file://{path}')
    assert [int(frame.mean().round()) for frame in source] == pytest.approx(
        greys(VideoFileReader(path)), abs=1)
    assert list(source.times) == pytest.approx([0, 0.04, 0.1, 0.3])
    # FFmpeg's generator stands in for a camera, which it opens as it does one.
    monkeypatch.setitem(video_module._CAMERAS, 'Linux', ('lavfi', 'testsrc=size=64x48:rate=9'))
    monkeypatch.setattr('platform.system', lambda: 'Linux')
    camera = LiveSource('0')
    frames = iter(camera)
    assert next(frames).shape == next(frames).shape == (48, 64, 3)
    assert list(camera.times) == pytest.approx([0, 1 / 9]) and camera.fps == 9
    camera.close()
    monkeypatch.setitem(video_module._CAMERAS, 'Linux', ('v4l2', '/dev/video{}'))
    with pytest.raises(ValueError, match='/dev/video77 cannot be opened'):
        LiveSource('77')


def test_a_live_source_that_loses_packets_or_breaks_off(write_video, tmp_path, logged):
    data = write_video(tmp_path / 'clip.ts', make_frames(6)).read_bytes()
    # The second part does not go on from the first: what is between them counts as lost.
    (tmp_path / 'lossy.ts').write_bytes(data + data)
    assert len(list(LiveSource(f'file://{tmp_path}/lossy.ts'))) > 9
    recording = VideoFileReader(tmp_path / 'lossy.ts')
    assert 'lossy.ts is damaged: frames are missing in 1 place' in logged[-1]
    assert recording.breaks_off is None
    assert len(recording) > 9 and greys(recording)[-1] == pytest.approx(
        greys(VideoFileReader(tmp_path / 'clip.ts'))[-1], abs=1)

    class Cut(WebServer):

        def do_GET(self):
            self.answer('Content-Length', len(data) + 1)
            self.wfile.write(data)

    with (serve(http.server.HTTPServer, Cut) as (port, _),
          pytest.raises(OSError, match='clip.ts broke off: ')):
        list(LiveSource(f'http://127.0.0.1:{port}/clip.ts'))


class WebServer(http.server.BaseHTTPRequestHandler):

    def answer(self, header, value):
        self.send_response(200)
        self.send_header(header, value)
        self.end_headers()

    def log_message(self, *args):
        pass


@contextlib.contextmanager
def serve(kind, handler):
    """One connection, in a thread; yields the port, and what the handler knows as its server."""
    with kind(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        yield server.server_address[1], server


def test_jpegs_of_a_camera_have_the_times_of_their_arrival():
    class Camera(WebServer):

        def do_GET(self):
            self.answer('Content-Type', 'multipart/x-mixed-replace; boundary=frame')
            for n in range(31):
                if n == 30:
                    assert self.server.goes_on.wait(60)
                image = cv2.imencode('.jpg', np.full((*SHAPE, 3), n, np.uint8))[1].tobytes()
                self.wfile.write(b'--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n'
                                 b'\r\n%s\r\n' % (len(image), image))

    with serve(http.server.HTTPServer, Camera) as (port, server):
        server.goes_on = threading.Event()
        source = open_source(f'http://127.0.0.1:{port}/video')
        frames = iter(source)
        early = [next(frames) for _ in range(25)]
        time.sleep(0.3)
        server.goes_on.set()
        assert len([*early, *frames]) == len(source.times) == 31
    assert source.times[30] - source.times[24] > 0.3


class RTSPServer(socketserver.StreamRequestHandler):
    """Sends the packets of an H.264 file over TCP as a camera does, then hangs up."""

    def handle(self):
        answers = {'OPTIONS': ('Public: DESCRIBE, SETUP, PLAY', ''),
                   'DESCRIBE': ('Content-Type: application/sdp', (
                       'v=0\r\ns=camera\r\nm=video 0 RTP/AVP 96\r\n'
                       'a=rtpmap:96 H264/90000\r\na=control:track\r\n')),
                   'SETUP': ('Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1', ''),
                   'PLAY': ('Session: 1', '')}
        method = None
        while method != 'PLAY':
            request = b''.join(iter(self.rfile.readline, b'\r\n')).decode()
            method, number = request.split()[0], re.search('CSeq: ([0-9]+)', request)[1]
            header, body = answers[method]
            self.wfile.write(f'RTSP/1.0 200 OK\r\nCSeq: {number}\r\n{header}\r\nContent-Length: '
                             f'{len(body)}\r\n\r\n{body}'.encode())
        frame = 0
        for n, unit in enumerate(self.server.units):
            is_last = unit[0] & 31 in (1, 5)  # of its frame: a slice, here a whole picture
            rtp = struct.pack('>BBHII', 128, 96 + 128 * is_last, n, 9000 * frame, 7)
            rtp += unit.rstrip(b'\0')
            self.wfile.write(struct.pack('>cBH', b'$', 0, len(rtp)) + rtp)
            frame += is_last


def test_a_camera_in_the_network_that_hangs_up_has_broken_off(write_video, tmp_path):
    path = write_video(tmp_path / 'clip.h264', make_frames(6), codec='libx264', options={
        'crf': '4', 'tune': 'zerolatency', 'x264-params': 'sliced-threads=0'})
    with serve(socketserver.TCPServer, RTSPServer) as (port, server):
        server.units = path.read_bytes().split(b'\0\0\1')[1:]
        source = open_source(f'rtsp://127.0.0.1:{port}/camera')
        found = []
        with pytest.raises(OSError, match='/camera broke off: the server ended it'):
            found.extend(int(frame.mean().round()) for frame in source)  # kept up to the error
    assert found == pytest.approx(greys(VideoFileReader(path)), abs=1)
    # FFmpeg's parser takes the second for as early as the first.
    assert np.diff(source.times)[1:] == pytest.approx(0.1)
