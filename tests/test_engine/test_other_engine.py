"""MMEngine and onedl-mmengine train to the same bits, and go on from one another's checkpoints.

``make test-onedl`` runs this on the one and names the Python that has the other.
"""

import json
import os
import subprocess
import sys

import pytest
import torch

from glus_mm.datasets.moving_shapes import write_split
from programs import ROOT

CONFIG = ROOT / 'configs' / 'glus' / 'glus_tiny_moving-shapes.py'
OTHER = os.environ.get('OTHER_ENGINE')
pytestmark = [pytest.mark.slow, pytest.mark.skipif(
    OTHER is None, reason='OTHER_ENGINE does not name a Python with the other engine')]


def train(python, folder, data, resume=None):
    """Train for 6 iterations; return the losses of those that ran, and the last weights."""
    options = [
        'model.mllm.vision_tower.hidden_size=16', 'model.mllm.vision_tower.num_hidden_layers=1',
        'model.mllm.llm.hidden_size=32', 'model.mllm.llm.num_hidden_layers=1',
        'model.mask_head.image_size=64', 'model.mask_head.sam2.d_model=32',
        'train_dataloader.dataset.pipeline.3.sam_size=64', 'load_from=None',
        'train_cfg.max_iters=6', 'train_dataloader.num_workers=0', 'randomness.seed=3',
        'train_dataloader.persistent_workers=False', 'train_dataloader.batch_size=2',
        'default_hooks.logger.interval=1', 'default_hooks.checkpoint.interval=3',
        f'train_dataloader.dataset.data_root={data / "train"}']
    done = subprocess.run(
        [python, ROOT / 'tools' / 'train.py', CONFIG, '--work-dir', folder,
         *(['--resume', resume] if resume else []), '--cfg-options', *options],
        env=dict(os.environ, OMP_NUM_THREADS='1', PYTHONPATH=str(ROOT)), capture_output=True,
        text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    log, = folder.rglob('scalars.json')
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    weights = torch.load(folder / 'iter_6.pth', weights_only=True)['state_dict']
    return {entry['step']: {key: value for key, value in entry.items() if 'loss' in key}
            for entry in entries}, weights


def test_the_engines_agree(tmp_path):
    write_split(tmp_path, 3, seed=5, split='train', mp4=False)
    pythons = dict(here=sys.executable, there=OTHER)
    engines = {name: subprocess.run(
        [python, '-c', 'import mmengine; print(mmengine.__version__)'], check=True,
        capture_output=True, text=True).stdout for name, python in pythons.items()}
    assert engines['here'] != engines['there']
    runs = {name: train(python, tmp_path / name, tmp_path) for name, python in pythons.items()}
    losses, weights = runs['here']
    assert len(losses) == 6 and len({str(entry) for entry in losses.values()}) == 6
    # Each goes on from a checkpoint of the other.
    runs |= {f'{name}_resumed': train(
        pythons[name], tmp_path / f'{name}_resumed', tmp_path, tmp_path / source / 'iter_3.pth')
        for name, source in (('here', 'there'), ('there', 'here'))}
    for name, (other_losses, other_weights) in runs.items():
        assert other_losses == {step: losses[step] for step in other_losses}, name
        assert len(other_losses) == (3 if name.endswith('resumed') else 6)
        assert weights.keys() == other_weights.keys()
        assert all(torch.equal(weights[key], other_weights[key]) for key in weights), name
