"""Configs of the published size: parameters, types, what is trained, and the schedule in steps."""

import pytest
import torch
from accelerate import init_empty_weights
from mmengine import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS

from glus_mm.registry import MODELS
from programs import ROOT

CONFIGS = ROOT / 'configs'
STANDARD = 'glus_lisa-7b_sam2-l_4xb2-3k_mevis-ref-youtube-vos'
ADDITIONAL = 'glus_lisa-7b_sam2-l_4xb2-5k_mevis-ref-youtube-vos-davis-revos-lv-vis'
# Of LISA-7B-v1: LLaMA's 32000, <im_patch>, <im_start>, <im_end>, [SEG].
VOCABULARY = 32004
LLAMA_LAYERS, EMBEDDINGS = 6_476_267_520, VOCABULARY * 4096
SAM2_LARGE, CLIP_LARGE = 224_430_130, 303_179_776
PROJECTOR, SEG_PROJECTOR = 1024 * 4096 + 4096, 4096 * 4096 + 4096 + 4096 * 256 + 256
LORA = 32 * 2 * 8 * (4096 + 4096)
pytestmark = pytest.mark.usefixtures('scope')


def load(name):
    return Config.fromfile(CONFIGS / 'glus' / f'{name}.py')


def full_size(name):
    """The whole model, without data."""
    cfg = load(name)
    # The shipped tokenizer stands in for LISA's; the vocabulary is that of LISA.
    cfg.model.mllm.update(tokenizer='tiny', llm=dict(cfg.model.mllm.llm, vocab_size=VOCABULARY))
    with init_empty_weights():
        return MODELS.build(cfg.model)


def count(parameters):
    return sum(p.numel() for p in parameters)


def trained(module):
    return [p for p in module.parameters() if p.requires_grad]


@pytest.mark.slow
def test_full_size_for_testing():
    model = full_size('glus_lisa-7b_sam2-l')
    mllm = model.mllm
    assert count(mllm.llm.parameters()) == LLAMA_LAYERS + EMBEDDINGS + 4096
    assert count(mllm.lm_head.parameters()) == EMBEDDINGS
    assert count(mllm.vision_tower.parameters()) == CLIP_LARGE
    assert count(mllm.projector.parameters()) == PROJECTOR
    assert count(mllm.seg_projector.parameters()) == SEG_PROJECTOR
    assert count(model.mask_head.parameters()) == SAM2_LARGE
    assert count(model.parameters()) == 7_288_086_834
    assert not trained(model)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert all(p.is_meta for p in model.parameters())


@pytest.mark.slow
def test_full_size_for_training():
    model = full_size(STANDARD)
    mllm, decoder = model.mllm, model.mask_head.sam2.sam_mask_decoder
    assert count(trained(mllm)) == LORA + 2 * EMBEDDINGS + PROJECTOR + SEG_PROJECTOR
    assert count(trained(mllm.llm)) == LORA + EMBEDDINGS
    image_part = [*decoder.conv_s0.parameters(), *decoder.conv_s1.parameters()]
    assert count(trained(model.mask_head)) == count(decoder.parameters()) - count(image_part)
    assert not any(p.requires_grad for p in image_part)
    assert {p.dtype for p in trained(model)} == {torch.float32}
    for part in (mllm.vision_tower, model.mask_head.sam2.image_encoder,
                 model.mask_head.sam2.memory_attention, mllm.llm.layers[0].mlp):
        assert {p.dtype for p in part.parameters()} == {torch.bfloat16}
    assert load(STANDARD).model.mllm.gradient_checkpointing
    assert not model.mask_head.detach_memory
    assert model.loss_contrastive.datasets == {'mevis'}


def rates(cfg):
    """The learning rate of each optimizer step."""
    wrapper = build_optim_wrapper(torch.nn.Linear(1, 1), cfg.optim_wrapper)
    schedulers = [PARAM_SCHEDULERS.build(dict(item, optimizer=wrapper))
                  for item in cfg.param_scheduler]
    accumulate = cfg.optim_wrapper.accumulative_counts
    for i in range(cfg.train_cfg.max_iters):
        if i % accumulate == accumulate - 1:
            yield wrapper.get_lr()['lr'][0]
            wrapper.optimizer.step()
        for scheduler in schedulers:
            scheduler.step()


# With accumulation the schedulers step before the optimizer's first step.
@pytest.mark.filterwarnings('ignore:Detected call of `scheduler.step')
@pytest.mark.parametrize(('name', 'steps'), [(STANDARD, 3000), (ADDITIONAL, 5000)])
def test_schedule_in_optimizer_steps(name, steps):
    """Up to the full rate in 100 steps, then down to 0; at most one step beside the official."""
    lr = list(rates(load(name)))
    assert len(lr) == steps
    step = torch.arange(steps)
    official = 3e-4 * torch.minimum(step / 100, (steps - step) / (steps - 100))
    assert (torch.tensor(lr) - official).abs().max() <= 3e-4 / 100
    assert max(lr) == pytest.approx(3e-4, rel=1e-3) and lr.index(max(lr)) in (99, 100)
    assert lr[0] < 3e-6 and lr[-1] < 3e-7


def test_the_batch_and_the_best():
    for name in (STANDARD, ADDITIONAL):
        cfg = load(name)
        processes, batch = name.split('_')[3].split('-')[0].split('xb')
        assert int(batch) == cfg.train_dataloader.batch_size
        assert int(processes) * int(batch) * cfg.optim_wrapper.accumulative_counts == 80
        optimizer = cfg.optim_wrapper.optimizer
        assert (optimizer.type, optimizer.lr, optimizer.betas, optimizer.weight_decay) == (
            'AdamW', 3e-4, (0.9, 0.95), 0)
        assert cfg.optim_wrapper.clip_grad == dict(max_norm=1.0)
    cfg = load(f'{STANDARD}_val')
    assert cfg.default_hooks.checkpoint.save_best == 'J&F' and cfg.train_cfg.val_interval > 0
    assert cfg.val_evaluator.type == 'RefVOSMetric' and cfg.val_dataloader.dataset.test_mode


def test_data_and_switches():
    standard, additional = load(STANDARD), load(ADDITIONAL)
    assert standard.train_dataloader.sampler.ratios == [1, 1]
    assert additional.train_dataloader.sampler.ratios == [40, 150, 4, 30, 30]
    kinds = [item.type for item in additional.train_dataloader.dataset.datasets]
    assert kinds == ['MeViSDataset', 'RefYouTubeVOSDataset', 'RefDAVISDataset', 'ReVOSDataset',
                     'LVVISDataset']
    assert [item.type for item in standard.train_dataloader.dataset.datasets] == kinds[:2]
    assert standard.model.loss_contrastive.loss_weight == 0.1
    assert additional.model.get('loss_contrastive') is None
    cfg, standard = load(f'{STANDARD}_official'), load(STANDARD)
    assert cfg.model.mask_head.detach_memory
    pipeline = cfg.train_dataloader.dataset.pipeline
    assert [t.overlap for t in pipeline if t.type == 'LoadRefVOSMasks'] == ['sum']
    loss = MODELS.build(cfg.model.loss_contrastive)
    assert loss.positives == 'frame' and loss.same_object_negatives and loss.min_tokens == 2
    for key in ('optim_wrapper', 'param_scheduler', 'train_cfg', 'load_from', 'default_hooks'):
        assert cfg[key] == standard[key], key
    assert cfg.model.mllm == standard.model.mllm
