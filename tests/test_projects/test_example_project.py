"""Another package with another default scope trains and tests with parts of glus_mm."""

import pytest

import programs
from glus_mm.datasets.moving_shapes import write_split
from programs import ROOT

PROJECT = ROOT / 'projects' / 'example_project'
SCRIPT = '''
import sys
from mmengine import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

cfg = Config.fromfile(sys.argv[1])
cfg.merge_from_dict({
    'work_dir': sys.argv[3], 'load_from': None, 'train_cfg.max_iters': 1,
    'train_dataloader.batch_size': 1, 'train_dataloader.num_workers': 0,
    'train_dataloader.persistent_workers': False,
    'train_dataloader.dataset.data_root': sys.argv[2] + '/train',
    'test_dataloader.dataset.data_root': sys.argv[2] + '/train'})
runner = Runner.from_cfg(cfg)
assert DefaultScope.get_current_instance().scope_name == 'example_project'
runner.train()
print('LOSS', type(runner.model.loss_mask_bce).__module__)
print('TRANSFORMS', *[type(t).__module__.split('.')[0]
                      for t in runner.train_dataloader.dataset.pipeline.transforms])
loop = runner.build_test_loop(cfg.test_cfg)
print('TEST', type(loop.dataloader.dataset[0]['inputs']['reader']).__module__,
      type(loop.evaluator.metrics[0]).__module__)
'''


@pytest.mark.slow
def test_trains_from_another_scope(tmp_path):
    write_split(tmp_path / 'data', 2, 0, 'train', mp4=False)
    done = programs.run(
        '-c', SCRIPT, PROJECT / 'configs' / 'glus_tiny_focal_moving-shapes.py',
        tmp_path / 'data', tmp_path / 'run', cwd=PROJECT)
    assert done.returncode == 0, done.stderr[-4000:]
    lines = dict(line.split(' ', 1) for line in done.stdout.splitlines()
                 if line.startswith(('LOSS ', 'TRANSFORMS ', 'TEST ')))
    assert lines['LOSS'] == 'example_project.focal_mask_loss'
    assert lines['TRANSFORMS'].split().count('example_project') == 1
    assert lines['TRANSFORMS'].split().count('glus_mm') == 6
    assert lines['TEST'].split()[0] == 'glus_mm.video'
    assert lines['TEST'].split()[1].startswith('glus_mm.evaluation.metrics')
    assert (tmp_path / 'run' / 'iter_1.pth').is_file()
