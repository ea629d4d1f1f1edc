"""Standard-SFT as shipped, but tiny: from LISA, LoRA, mixed data, two processes, then a test."""

import json

import pytest
import torch
from mmengine import Config

import programs
from glus_mm.conversion import convert_lisa
from glus_mm.datasets.moving_shapes import write_split
from programs import ROOT

OFFICIAL = ROOT / 'tests' / 'data' / 'official_glus_tiny'
CONFIG = ROOT / 'configs' / 'glus' / 'glus_lisa-7b_sam2-l_4xb2-3k_mevis-ref-youtube-vos.py'
SIDE = 128


@pytest.fixture
def weights(tiny_lisa, tmp_path):
    """What lisa2mm makes of a tiny LISA and SAM-2."""
    folder, sam2 = tiny_lisa
    convert_lisa(folder, tmp_path / 'start', clip=str(OFFICIAL / 'clip'),
                 sam2=str(OFFICIAL / 'sam2_tiny_a.yaml'), sam2_checkpoint=str(sam2))
    return tmp_path / 'start'


@pytest.fixture
def config(tmp_path, weights):
    """The shipped config at the sizes of the tiny weights, on MovingShapes."""
    for split, number in (('train', 3), ('valid_u', 1)):
        write_split(tmp_path / 'data', number, seed=1, split=split, mp4=False)
    cfg = Config.fromfile(CONFIG)
    made = Config.fromfile(weights / 'config.py').model
    cfg.model.mllm.update(llm=made.mllm.llm, vision_tower=made.mllm.vision_tower)
    cfg.model.mask_head.update(sam2=made.mask_head.sam2, image_size=SIDE)
    loader = cfg.train_dataloader
    loader.update(num_workers=0, persistent_workers=False)
    for transform in loader.dataset.pipeline:
        if transform.type == 'ResizeForEncoders':
            transform.sam_size = SIDE
    loader.dataset.datasets = [
        dict(type='MeViSDataset', data_root=str(tmp_path / 'data' / 'train'))
        for _ in loader.dataset.datasets]
    cfg.test_dataloader.dataset.data_root = str(tmp_path / 'data' / 'valid_u')
    cfg.load_from = str(weights)
    cfg.train_cfg.max_iters = 4
    cfg.optim_wrapper.accumulative_counts = 2
    cfg.param_scheduler = []
    cfg.default_hooks.logger.interval = 1
    cfg.dump(tmp_path / 'config.py')
    return tmp_path / 'config.py'


@pytest.mark.slow
def test_train_with_two_processes_then_test(config, weights, tmp_path, run_tool):
    done = programs.run(ROOT / 'tools' / 'train.py', config, '--work-dir', 'run', cwd=tmp_path,
                        processes=2)
    log = done.stdout + done.stderr
    assert done.returncode == 0, log[-6000:]
    assert 'Iter(train) [4/4]' in log and 'loss_contrastive' in log
    assert 'has no LoRA adapters' in log
    start = torch.load(weights / 'model.pth', weights_only=True)['state_dict']
    saved = torch.load(tmp_path / 'run' / 'iter_4.pth', weights_only=True)['state_dict']
    check_weights(start, saved)
    # The tokenizer is that of load_from, as there is none beside the checkpoint.
    run_tool('test', config, 'run/iter_4.pth', '--work-dir', 'test', '--dump', 'figures.json')
    assert json.loads((tmp_path / 'figures.json').read_text())['dataset']


def check_weights(start, saved):
    """What is named as trainable moved and is float32, all else is as it was."""
    moved = set()
    for name, value in saved.items():
        assert value.isfinite().all(), name
        before = start.get(name.replace('.base_layer', ''))
        if 'lora_' in name:
            moved.add(name.split('.')[-2])
            assert value.dtype == torch.float32
        elif not torch.equal(value, before.to(value.dtype)):
            moved.add('.'.join(name.split('.')[:3]))
            assert value.dtype == torch.float32, name
        else:
            assert 'projector' not in name and 'lm_head' not in name, name
    assert moved >= {'mllm.llm.embed_tokens', 'mllm.lm_head.weight', 'mllm.projector.weight',
                     'mllm.seg_projector.0', 'mask_head.sam2.sam_mask_decoder', 'default'}
    assert {name.split('.')[1] for name in moved if name.startswith('mask_head')} == {'sam2'}
    assert not moved & {'mask_head.sam2.memory_attention', 'mask_head.sam2.memory_encoder',
                        'mask_head.sam2.image_encoder', 'mllm.llm.layers', 'mllm.vision_tower'}
