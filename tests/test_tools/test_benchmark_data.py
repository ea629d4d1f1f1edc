"""tools/analysis_tools/benchmark_data.py: what it counts, and what it refuses."""

import re

import pytest
from mmengine.registry import DefaultScope

import programs
from glus_mm.datasets.moving_shapes import write_split
from programs import ROOT

TOOL = ROOT / 'tools' / 'analysis_tools' / 'benchmark_data.py'
CONFIG = ROOT / 'configs' / 'glus' / 'glus_tiny_moving-shapes.py'
WASTEFUL = '''
from mmcv.transforms import BaseTransform

from glus_mm.registry import TRANSFORMS
from glus_mm.utils.image import read_image


@TRANSFORMS.register_module()
class ReadAllFrames(BaseTransform):

    def transform(self, results):
        for path in results['img_paths']:
            read_image(path)
        return results
'''


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('benchmark')
    write_split(folder, 2, seed=5, split='train', mp4=False)
    (folder / 'wasteful.py').write_text(WASTEFUL)
    (folder / 'config.py').write_text(
        f"_base_ = ['{CONFIG}']\ncustom_imports = dict(imports=['wasteful'])\n"
        "_base_.train_pipeline.insert(5, dict(type='ReadAllFrames'))\n"
        'train_dataloader = dict(dataset=dict(pipeline=_base_.train_pipeline))\n')
    return folder


def call(folder, config, *options):
    """In a process of its own, as the tool listens to what is opened for good."""
    return programs.run(TOOL, config, *options, cwd=folder)


@pytest.mark.slow
@pytest.mark.parametrize('wasteful', [False, True])
def test_benchmark(folder, wasteful):
    done = call(folder, folder / 'config.py' if wasteful else CONFIG, '--samples', '6',
                '--workers', '1', '--cfg-options',
                f'train_dataloader.dataset.data_root={folder}/train')
    assert done.returncode == 0, done.stderr[-3000:]
    text = done.stdout
    found = re.search(r'frames decoded: (\d+); frames that the samples use: (\d+) .* '
                      r'decoded but not used: (\d+)', text)
    opened, used, unused = map(int, found.groups())
    assert 6 * 4 < used <= 6 * 8
    if wasteful:
        assert opened > 6 * 10 and unused > 0 and 'ReadAllFrames' in text
    else:
        assert opened == used and unused == 0
    assert 'images for SAM-2: 24; different query frames: 24' in text
    shares = [float(share) for share in re.findall(r'^  .{34} +[\d.]+ +([\d.]+)%$', text, re.M)]
    assert len(shares) >= 8 and sum(shares[:-1]) == pytest.approx(100, abs=1)
    assert re.search(r'data loader, 1 workers, 8 samples in batches of 4: [\d.]+ samples/s', text)


@pytest.mark.parametrize(('options', 'expected'), [
    (['--samples', '0'], 'expected --samples of at least 1'),
    (['--workers', '-1'], '--workers of at least 0, got 200 and -1'),
    (['--cfg-options', 'train_dataloader=None'], 'expected train_dataloader, got none'),
    (['--cfg-options', 'train_dataloader.dataset.data_root=nowhere'], 'nowhere'),
])
def test_refused(capsys, options, expected):
    """Before anything is measured or listened to."""
    tool = programs.load(TOOL)
    with DefaultScope.overwrite_default_scope('glus_mm'), pytest.raises(SystemExit) as error:
        tool.main([str(CONFIG), *options])
    assert error.value.code == 2 and expected in capsys.readouterr().err
