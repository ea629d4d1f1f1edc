"""tools/segment_many.py with two processes, of which one is killed."""

import json
import os
import signal
import subprocess
import time

import pytest

import programs
from glus_mm.apis import GLUSInferencer, init_model
from glus_mm.datasets.moving_shapes import write_split
from glus_mm.utils.folder_lock import lock_folder
from programs import ROOT

CONFIG = ROOT / 'configs' / 'glus' / 'glus_tiny_moving-shapes.py'
CHECKPOINT = ROOT / 'checkpoints' / 'glus_tiny_moving-shapes.pth'
TEXTS = ['the red circle', 'the leftmost shape']
NUM_VIDEOS = 6
# Holds process 1 before its first video until it may go on.
HOLD = '''
import os
import time
from pathlib import Path

from mmengine.dist import get_rank

from glus_mm.models import GLUS
from glus_mm.registry import MODELS


@MODELS.register_module()
class HeldGLUS(GLUS):

    def init_session(self, *args, **kwargs):
        if get_rank() == 1:
            Path(f'held_{os.getpid()}').touch()
            end = time.monotonic() + 240
            while not Path('go').exists():
                assert time.monotonic() < end
                time.sleep(0.02)
        return super().init_session(*args, **kwargs)
'''


@pytest.fixture(scope='module')
def videos(tmp_path_factory):
    """A list of six folders of images and one file that is no video."""
    root = tmp_path_factory.mktemp('videos')
    write_split(root, NUM_VIDEOS, seed=5, split='valid_u', mp4=False)
    folders = sorted((root / 'valid_u' / 'JPEGImages').iterdir())
    (root / 'corrupt.mp4').write_bytes(b'no video at all')
    lines = [dict(video=str(root / 'corrupt.mp4'), texts=TEXTS)]
    lines += [dict(video=str(folder), texts=TEXTS[:1 + i % 2])
              for i, folder in enumerate(folders)]
    (root / 'list.jsonl').write_text(''.join(json.dumps(line) + '\n' for line in lines))
    return root / 'list.jsonl', lines


def start(tmp_path, *args):
    """Two processes under torchrun."""
    return programs.start(
        '-m', 'torch.distributed.run', '--nproc_per_node', '2', '--master_port',
        programs.free_port(), ROOT / 'tools' / 'segment_many.py', *args, '--launcher', 'pytorch',
        cwd=tmp_path, stderr=subprocess.STDOUT)


def finished(out):
    """Results of the videos that are done, by id."""
    results = [json.loads(path.read_text())['results'] for path in out.glob('.results/*.json')]
    return {record['id']: record for record in results if record['status'] == 'done'}


@pytest.mark.slow
def test_a_killed_process_and_a_corrupt_video(videos, tmp_path):
    path, lines = videos
    (tmp_path / 'hold.py').write_text(HOLD)
    (tmp_path / 'config.py').write_text(
        f"_base_ = ['{CONFIG}']\ncustom_imports = dict(imports=['hold'])\n"
        "model = dict(type='HeldGLUS')\n")
    args = (path, tmp_path / 'out', '--config', 'config.py', '--checkpoint', CHECKPOINT,
            '--format', 'rle')
    process = start(tmp_path, *args)
    deadline = time.monotonic() + 300
    while not (done := finished(tmp_path / 'out')) or not (held := list(tmp_path.glob('held_*'))):
        assert process.poll() is None, process.stdout.read()[-4000:]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(int(held[0].name.removeprefix('held_')), signal.SIGKILL)
    out, _ = process.communicate(timeout=300)
    assert process.returncode != 0, out[-4000:]
    done = finished(tmp_path / 'out')
    (tmp_path / 'go').touch()
    assert 0 < len(done) < NUM_VIDEOS and not (tmp_path / 'out' / 'results.jsonl').exists()

    process = start(tmp_path, *args, '--resume')
    out, _ = process.communicate(timeout=600)
    assert process.returncode == 0, out[-4000:]
    assert f'{len(done)} of {NUM_VIDEOS + 1} videos were finished before' in out
    results = [json.loads(line) for line in (tmp_path / 'out' / 'results.jsonl').open()]
    assert [record['video'] for record in results] == [line['video'] for line in lines]
    assert results[0]['status'] == 'error' and 'corrupt.mp4' in results[0]['error']
    assert {record['status'] for record in results[1:]} == {'done'}
    assert done.items() <= {record['id']: record for record in results}.items(), 'not done again'
    infer = GLUSInferencer(init_model(CONFIG, CHECKPOINT))
    for record, line in zip(results[1::3], lines[1::3]):
        masks = [json.loads(mask) for mask in (tmp_path / 'out' / record['masks']).open()]
        found = {(mask['exp'], mask['frame']): mask['counts'] for mask in masks}
        expected = infer(line['video'], line['texts'])['masks']
        assert found == {(e, t): rle['counts'] for e, track in enumerate(expected)
                         for t, rle in enumerate(track.rles)}


@pytest.fixture
def call(call_tool, monkeypatch):
    """Run the tool in this process: exit status and what it printed."""
    programs.forget_runs()
    monkeypatch.chdir(ROOT)

    def run(*args):
        status, out, error = call_tool(ROOT / 'tools' / 'segment_many.py', *args)
        return status, out + error

    return run


def test_one_process(call, videos, tmp_path):
    """The exit status, the defaults, and a folder that has results already."""
    _, lines = videos
    small, out = tmp_path / 'small.jsonl', tmp_path / 'out'
    small.write_text(json.dumps(lines[0]) + '\n' + json.dumps(dict(lines[1], id='shapes')) + '\n')
    code, text = call(small, out)
    assert code == 1 and '1 of 2 videos are done, 1 with errors' in text
    assert len(list((out / 'masks' / 'shapes' / '0').glob('*.png'))) > 4
    code, text = call(small, out)
    assert code == 2 and 'an earlier run' in text and '--resume goes on with it' in text
    with lock_folder(out, beat=0.1):
        code, text = call(small, out, '--overwrite')
    assert code == 2 and 'in which no other run works' in text
    code, text = call(small, out, '--resume', '--device', 'nowhere')
    assert code == 2 and 'nowhere' in text
    code, text = call(tmp_path / 'none.jsonl', out)
    assert code == 2 and 'none.jsonl' in text
    small.write_text(json.dumps(dict(lines[1], id='shapes')) + '\n')
    code, text = call(small, out, '--resume')
    assert code == 0 and '1 of 1 videos were finished before' in text
