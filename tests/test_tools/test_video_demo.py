"""demo/video_demo.py: its files, and what it refuses in one line."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import programs
from glus_mm.apis import GLUSInferencer, init_model
from glus_mm.datasets.moving_shapes import write_split
from glus_mm.models.inference import VideoFileReader

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / 'demo' / 'video_demo.py'
CONFIG = ROOT / 'configs' / 'glus' / 'glus_tiny_moving-shapes.py'
OPTIONS = {
    'model.mllm.llm.num_hidden_layers': 1,
    'model.mllm.vision_tower.num_hidden_layers': 1,
    'model.mask_head.sam2.d_model': 64,
}
TEXTS = ['the red circle', 'the leftmost shape']


@pytest.fixture(scope='module')
def video(tmp_path_factory):
    folder = write_split(tmp_path_factory.mktemp('data'), 1, seed=7, split='valid_u')
    return next((folder / 'videos').glob('*.mp4'))


@pytest.fixture(scope='module')
def checkpoint(video, tmp_path_factory):
    """Random weights that generate [SEG], stored as fp16."""
    torch.manual_seed(0)
    model = init_model(CONFIG, cfg_options=OPTIONS)
    seen = []
    hook = model.mllm.lm_head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    reader = VideoFileReader(video)
    GLUSInferencer(model)([reader.read(t) for t in range(4)], TEXTS)
    hook.remove()
    weight = model.mllm.lm_head.weight.data
    weight.zero_()
    weight[model.mllm.tokenizer.seg_id] = torch.cat(seen).mean(0)
    path = tmp_path_factory.mktemp('checkpoint') / 'model.pth'
    torch.save(dict(state_dict=model.half().state_dict()), path)
    return path


def arguments(video, checkpoint, out_dir, *further):
    options = [f'{key}={value}' for key, value in OPTIONS.items()]
    return [str(a) for a in (video, CONFIG, checkpoint, '--out-dir', out_dir, *further,
                             '--cfg-options', *options)]


@pytest.fixture
def refuse(refusal):
    """Call the demo, which has to refuse; return what it says."""

    def run(*args):
        # A progress bar that has begun stands before it.
        *before, error = refusal(DEMO, *args).splitlines()
        assert error.startswith('video_demo.py: error: ')
        assert all('mask/s' in line or not line for line in before), 'one line only'
        return error

    return run


@pytest.mark.slow
def test_the_demo_as_a_user_calls_it(video, checkpoint, tmp_path):
    out = tmp_path / 'out'
    call = arguments(video, checkpoint, out, '--text', TEXTS[0], '--text', TEXTS[1],
                     '--key-frame', 0, '--key-frame', 5)
    done = programs.run(DEMO, *call, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert '2 texts on 12 frames' in done.stdout and '[SEG] on 24 of 24 masks' in done.stdout
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


@pytest.mark.parametrize(('further', 'words'), [
    (('--key-frame', 0, '--key-frame', 1), '--key-frame for none or each of 1 text, got 2'),
    (('--key-frame', 12), '--key-frame in 0..11'),
    (('--device', 'cuda:99'), 'device that can be used here')])
def test_what_cannot_be_used(refuse, video, checkpoint, tmp_path, further, words):
    """Texts, videos and folders are checked as by ``glus-mm segment``, see its tests."""
    out = tmp_path / 'out'
    assert words in refuse(*arguments(video, checkpoint, out, '--text', 'a', *further))
    assert not list(out.rglob('*'))


def test_the_video_is_not_overwritten(refuse, video, checkpoint, tmp_path):
    own = tmp_path / 'overlay.mp4'
    own.write_bytes(video.read_bytes())
    assert 'would overwrite' in refuse(*arguments(own, checkpoint, tmp_path, '--text', 'a'))
    assert own.read_bytes() == video.read_bytes()


def test_a_frame_that_breaks_in_the_middle(refuse, checkpoint, tmp_path):
    clip = tmp_path / 'clip'
    clip.mkdir()
    for t in range(3):
        cv2.imwrite(str(clip / f'{t:05d}.png'), np.full((32, 32, 3), 99, dtype=np.uint8))
    (clip / '00001.png').write_bytes(b'no image')
    error = refuse(*arguments(clip, checkpoint, tmp_path / 'out', '--text', 'a', '--no-video'))
    assert '00001.png' in error and 'cannot be decoded' in error
