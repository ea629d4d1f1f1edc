"""tools/test.py goes on after an interruption, with the figures of a run without one."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import programs
from glus_mm.datasets.moving_shapes import write_split
from programs import ROOT

CONFIG = ROOT / 'configs' / 'glus' / 'glus_tiny_moving-shapes.py'
CHECKPOINT = ROOT / 'checkpoints' / 'glus_tiny_moving-shapes.pth'
NUM_VIDEOS = 6
# Holds process 1 after its first video, which is recorded by then, until it may go on.
HOLD = '''
import os
import time
from pathlib import Path

from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class HoldHook(Hook):
    priority = 'LOWEST'

    def after_test_iter(self, runner, *args, **kwargs):
        if get_rank() == 1:
            Path(f'held_{os.getpid()}').touch()
            end = time.monotonic() + 240
            while not Path('go').exists():
                assert time.monotonic() < end
                time.sleep(0.02)
'''
pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def options(tmp_path_factory):
    """The shipped model on six videos with 1 to 3 expressions."""
    root = tmp_path_factory.mktemp('moving_shapes')
    write_split(root, NUM_VIDEOS, seed=5, split='valid_u', mp4=False)
    path = root / 'valid_u' / 'meta_expressions.json'
    meta = json.loads(path.read_text())
    for i, video in enumerate(meta['videos'].values()):
        video['expressions'] = dict(list(video['expressions'].items())[:1 + i % 3])
    path.write_text(json.dumps(meta))
    return ['--cfg-options', f'test_dataloader.dataset.data_root={root / "valid_u"}']


@pytest.fixture(scope='module')
def call(tmp_path_factory):
    """Run tools/test.py in this process, once for several tests; gives what it logged."""
    before = os.getcwd()
    module = programs.load(ROOT / 'tools' / 'test.py')

    def run(*args):
        programs.forget_runs()
        argv, sys.argv = sys.argv, ['test.py', str(CONFIG), str(CHECKPOINT), *map(str, args)]
        try:
            module.main()
        finally:
            sys.argv = argv
        work_dir = Path(args[args.index('--work-dir') + 1])
        return max(work_dir.glob('*/*.log'), key=lambda p: p.stat().st_mtime_ns).read_text()

    os.chdir(tmp_path_factory.mktemp('place'))
    yield run
    os.chdir(before)
    programs.forget_runs()


def outputs(folder):
    """Options for masks and overlays."""
    return '--out', folder / 'masks', '--show-dir', folder / 'overlays'


@pytest.fixture(scope='module')
def whole(call, options, tmp_path_factory):
    """Figures of a run without interruption, and its work folder."""
    folder = tmp_path_factory.mktemp('whole')
    log = call('--work-dir', folder, '--dump', folder / 'f.json', *outputs(folder), *options)
    assert f'tested {NUM_VIDEOS} videos in' in log
    return (folder / 'f.json').read_text(), folder


def records(folder):
    """The files of finished videos and the time each was written."""
    return {path.name: path.stat().st_mtime_ns for path in folder.glob('finished/*/*.json')}


def test_finished_videos_are_not_tested_again(call, options, whole, tmp_path):
    figures, folder = whole
    assert 0 < json.loads(figures)['dataset']['J&F'] < 1
    written = sorted(folder.glob('finished/*/*.json'))
    assert len(written) == NUM_VIDEOS
    written[0].unlink()
    written[3].write_text(written[3].read_text()[:50])
    (written[0].parent / f'.{written[0].name}.part').write_text('{')
    before = records(folder)
    gone = [json.loads(path.read_text())['video_id'] for path in (written[1], written[4])]
    shutil.rmtree(folder / 'masks' / gone[0])
    shutil.rmtree(folder / 'overlays' / gone[1])
    log = call('--work-dir', folder, '--dump', tmp_path / 'f.json', '--resume', *outputs(folder),
               *options)
    assert (tmp_path / 'f.json').read_text() == figures, 'value for value'
    assert f'{NUM_VIDEOS - 4} of {NUM_VIDEOS} videos were finished before' in log
    assert 'damaged, the video is tested again' in log and 'tested 4 videos in' in log
    assert '2 finished videos are tested again, as their masks or overlays are gone' in log
    assert list((folder / 'masks' / gone[0]).glob('*/*.png')) and list(
        (folder / 'overlays' / gone[1]).glob('*.png'))
    after = records(folder)
    assert {name for name in after if after[name] != before.get(name)} == \
        {written[i].name for i in (0, 1, 3, 4)}


def test_another_sampler_cannot_be_resumed(call, options, tmp_path, capfd):
    with pytest.raises(SystemExit):
        call('--work-dir', tmp_path, '--resume', *options,
             'test_dataloader.sampler.type=DefaultSampler')
    assert 'sampler is DefaultSampler and not BalancedVideoSampler' in capfd.readouterr().err


def with_a_killed_process(options, folder, max_restarts):
    """Test on two processes, one of which is killed after its first video; status and log."""
    (folder / 'hold.py').write_text(HOLD)
    # Beside the work folder, into which a run writes its config under the same name.
    config = folder.with_name(f'{folder.name}_held.py')
    config.write_text(
        f"_base_ = ['{CONFIG}']\ncustom_imports = dict(imports=['hold'])\n"
        "custom_hooks = [dict(type='HoldHook')]\n")
    process = programs.start(
        ROOT / 'tools' / 'test.py', config, CHECKPOINT, '--work-dir', folder, '--dump',
        folder / 'f.json', *options, cwd=folder, processes=2, restarts=max_restarts,
        stderr=subprocess.STDOUT)
    deadline = time.monotonic() + 300
    while not (held := list(folder.glob('held_*'))):
        assert process.poll() is None, process.stdout.read()[-4000:]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    before = records(folder)
    os.kill(int(held[0].name.removeprefix('held_')), signal.SIGKILL)
    (folder / 'go').touch()
    out, _ = process.communicate(timeout=600)
    assert 0 < len(before) < NUM_VIDEOS
    return process.returncode, out, before


def test_a_killed_process_is_restarted(options, whole, tmp_path):
    status, out, before = with_a_killed_process(options, tmp_path, 1)
    assert status == 0, out[-4000:]
    after = records(tmp_path)
    assert len(after) == NUM_VIDEOS and before.items() <= after.items()
    assert 'videos were finished before' in out
    assert (tmp_path / 'f.json').read_text() == whole[0], 'value for value'


def test_a_killed_process_ends_the_others_and_one_goes_on(call, options, whole, tmp_path):
    status, out, before = with_a_killed_process(options, tmp_path, 0)
    assert status == 1 and 'process 1 failed first, with status -9' in out, out[-4000:]
    assert not (tmp_path / 'f.json').exists()
    call('--work-dir', tmp_path, '--resume', '--dump', tmp_path / 'f.json', *options)
    assert before.items() <= records(tmp_path).items(), 'the lock was taken over'
    assert (tmp_path / 'f.json').read_text() == whole[0], 'value for value'
