"""Overlay videos can be read back, whatever the size of their frames."""

import av
import numpy as np
import pytest
from PIL import Image

from glus_mm.models.inference import VideoFileReader
from glus_mm.visualization import OverlayVideoWriter


def frames(height, width, count=5):
    ramp = np.linspace(40, 200, width).astype(np.uint8)
    return [np.broadcast_to(ramp[None, :, None] // 2 + 20 * t, (height, width, 3)).copy()
            for t in range(count)]


@pytest.mark.parametrize(('shape', 'size'), [((48, 64), (64, 48)), ((51, 63), (64, 52))])
def test_frames_come_back(tmp_path, shape, size):
    path = tmp_path / 'new' / 'out.mp4'
    written = frames(*shape)
    with OverlayVideoWriter(path, fps=6.5) as writer:
        for frame in written:
            writer.write(frame)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == 'h264'
        assert stream.codec_context.pix_fmt == 'yuv420p'
        assert (stream.width, stream.height) == size and stream.average_rate == 6.5
    reader = VideoFileReader(path)
    assert len(reader) == len(written)
    for t, frame in enumerate(written):
        decoded = reader.read(t)[:shape[0], :shape[1]]
        assert np.abs(decoded.astype(int) - frame).mean() < 6


def test_files(tmp_path):
    path = tmp_path / 'out.mp4'
    path.write_text('older')
    with OverlayVideoWriter(path, 5) as writer:
        assert path.read_text() == 'older'
        writer.write(frames(16, 16)[0])
    assert len(VideoFileReader(path)) == 1
    path = tmp_path / 'out.mp4'
    with pytest.raises(RuntimeError, match='stopped'), OverlayVideoWriter(path, 5) as writer:
        writer.write(frames(16, 16)[0])
        raise RuntimeError('stopped')
    assert len(VideoFileReader(path)) == 1


def test_what_is_refused(tmp_path):
    writer = OverlayVideoWriter(tmp_path / 'out.mp4', 5)
    writer.close()
    writer.close()
    assert not list(tmp_path.iterdir()), 'without frames nothing is written'
    with OverlayVideoWriter(tmp_path / 'out.mp4', 5) as writer:
        writer.write(frames(16, 16)[0])
        with pytest.raises(ValueError, match=r'\(16, 16\) as the first one, got \(18, 16\)'):
            writer.write(frames(18, 16)[0])
        with pytest.raises(ValueError, match='expected an RGB frame'):
            writer.write(np.zeros((16, 16), dtype=np.uint8))
    (tmp_path / 'file').write_text('')
    with pytest.raises(NotADirectoryError):
        OverlayVideoWriter(tmp_path / 'file' / 'out.mp4', 5)
    with pytest.raises(IsADirectoryError):
        OverlayVideoWriter(tmp_path, 5)
    with pytest.raises(ValueError, match='an .mp4, .gif or .webm file, got .*out.avi'):
        OverlayVideoWriter(tmp_path / 'out.avi', 5)


@pytest.mark.parametrize('fps', [0, -1, float('nan'), float('inf'), 1e300, 1e-300, 10**400])
def test_frame_rate_is_checked(tmp_path, fps):
    with pytest.raises(ValueError, match='positive number of frames per second'):
        OverlayVideoWriter(tmp_path / 'out.mp4', fps)


def test_a_gif(tmp_path):
    path = tmp_path / 'out.gif'
    colors = [(230, 159, 0), (86, 180, 233), (204, 121, 167)]
    with OverlayVideoWriter(path, 10) as writer:
        for color in colors:
            writer.write(np.full((31, 45, 3), color, dtype=np.uint8))
    with Image.open(path) as gif:
        assert gif.size == (45, 31) and gif.n_frames == 3
        assert gif.info['loop'] == 0 and gif.info['duration'] == 100
        for t, color in enumerate(colors):
            gif.seek(t)
            assert np.abs(np.asarray(gif.convert('RGB')).astype(int) - color).max() <= 4
    with OverlayVideoWriter(tmp_path / 'out.gif', 5, max_gif_pixels=2 * 16 * 16) as writer:
        for frame in frames(16, 16, 2):
            writer.write(frame)
        with pytest.raises(ValueError, match='too large for a GIF .* write an .mp4'):
            writer.write(frames(16, 16)[0])
