"""demo/video_demo.py: its files, and what it refuses in one line."""

import cv2
import numpy as np
import pytest

import programs
from glus_mm.datasets.moving_shapes import write_split
from glus_mm.models.inference import VideoFileReader
from programs import ROOT

DEMO = ROOT / 'demo' / 'video_demo.py'
MODEL = (ROOT / 'configs' / 'glus' / 'glus_tiny_moving-shapes.py',
         ROOT / 'checkpoints' / 'glus_tiny_moving-shapes.pth')


@pytest.fixture(scope='module')
def video(tmp_path_factory):
    folder = write_split(tmp_path_factory.mktemp('data'), 1, seed=7, split='valid_u')
    return next((folder / 'videos').glob('*.mp4'))


@pytest.fixture
def refuse(refusal):
    """Call the demo, which has to refuse; return what it says."""

    def run(video, out_dir, *further):
        # A progress bar that has begun stands before it.
        *before, error = refusal(DEMO, video, *MODEL, '--text', 'a', '--out-dir', out_dir,
                                 *further).splitlines()
        assert error.startswith('video_demo.py: error: ')
        assert all('mask/s' in line or not line for line in before), 'one line only'
        return error

    return run


@pytest.mark.slow
def test_the_demo_as_a_user_calls_it(video, tmp_path):
    out = tmp_path / 'out'
    done = programs.run(DEMO, video, *MODEL, '--out-dir', out, '--text', 'the red circle', '--text',
                        'the leftmost shape', '--key-frame', 0, '--key-frame', 5, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert '2 texts on 12 frames' in done.stdout and 'of 24 masks' in done.stdout
    assert '24/24' in done.stderr and '12/12' in done.stderr, 'progress bars'
    source = VideoFileReader(video)
    masks = sorted((out / video.stem).rglob('*.png'))
    assert len(masks) == 24
    mask = cv2.imread(str(masks[0]), cv2.IMREAD_UNCHANGED)
    assert mask.shape == source.shape and set(np.unique(mask)) <= {0, 255}
    overlay = VideoFileReader(out / 'overlay.mp4')
    assert len(overlay) == 12 and overlay.shape[1] == 480
    assert overlay.fps == pytest.approx(source.fps)
    sheet = cv2.imread(str(out / 'contact_sheet.png'))
    assert sheet.shape[1] == 8 * 244 + 4


def test_what_cannot_be_used(refuse, video, tmp_path):
    """Texts, videos and folders are checked as by ``glus-mm segment``, see its tests."""
    out = tmp_path / 'out'
    for further, words in (
            (('--key-frame', 0, '--key-frame', 1), '--key-frame for none or each of 1 text, got 2'),
            (('--key-frame', 12), '--key-frame in 0..11'),
            (('--device', 'cuda:99'), 'device that can be used here')):
        assert words in refuse(video, out, *further)
        assert not list(out.rglob('*'))
    own = tmp_path / 'overlay.mp4'
    own.write_bytes(video.read_bytes())
    assert 'would overwrite' in refuse(own, tmp_path)
    assert own.read_bytes() == video.read_bytes()
    clip = tmp_path / 'clip'
    clip.mkdir()
    for t in range(3):
        cv2.imwrite(str(clip / f'{t:05d}.png'), np.full((32, 32, 3), 99, dtype=np.uint8))
    (clip / '00001.png').write_bytes(b'no image')
    error = refuse(clip, out, '--no-video')
    assert '00001.png' in error and 'cannot be decoded' in error
