"""A step of training: the batch that our pipeline makes, losses, outputs and gradients."""

import random
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from glus_mm.conversion.official_weights import to_ours
from glus_mm.models import GLUS
from official_checks.batch import check_batch, make_batch
from official_checks.contrastive import check_in_step, filled_loss
from official_checks.fixture import Arrays, OfficialFixture
from official_checks.report import FixtureError, Report

LOSS_TOLERANCE = 1e-4
NORM_TOLERANCE = 1e-3
ZERO_NORM = 1e-5
"""Gradients of a smaller official norm cancel out, and what is left of them is rounding."""
ZERO_NORM_TOLERANCE = 1e-4
LOSSES = (('loss_ce', 'ce_loss'), ('loss_mask_bce', 'mask_bce_loss'),
          ('loss_mask_dice', 'mask_dice_loss'))
DECODER = 'mask_head.sam2.sam_mask_decoder.'
# The official code counts conv_s0 and conv_s1 among the trained parameters, but runs them without
# gradients. The pattern leaves them out: only their names begin with c.
TRAINED_DECODER = 'sam2.sam_mask_decoder.[!c]*'
WITHOUT_GRADIENT = (f'{DECODER}conv_s0.', f'{DECODER}conv_s1.')
PLAIN = ('llm.*', 'lm_head.*', 'projector.*', 'seg_projector.*')
ADAPTED = ('llm.*lora_*', 'llm.embed_tokens.*', 'lm_head.*', 'projector.*', 'seg_projector.*')
FULL_GRADIENTS = (
    ('grad_text_fc2_bias', 'mllm.seg_projector.2.bias'),
    ('grad_mm_projector_weight', 'mllm.projector.weight'),
    ('grad_layer0_q', 'mllm.llm.layers.0.self_attn.q_proj.weight'),
    ('grad_dec_final_q', f'{DECODER}transformer.final_attn_token_to_image.q_proj.weight'))


def our_name(name: str) -> str:
    """Our name of an official parameter, with peft's prefix or without."""
    ours = to_ours(name.removeprefix('base_model.model.'))
    if ours is None:
        raise FixtureError(f'expected the name of an official parameter, got {name!r}')
    return ours


def training_model(fixture: OfficialFixture, options: Mapping | None = None,
                   trainable: Sequence[str] = PLAIN) -> GLUS:
    """The model with the switches of the official training, and every dropout at 0."""
    record = fixture.json('train/expected.json')
    model = fixture.model({
        'model.mllm.trainable': list(trainable),
        'model.mask_head.trainable': [TRAINED_DECODER],
        'model.mask_head.detach_memory': True,
        'model.train_cfg.memory_stride': record['mem_stride'],
        **(options or {})}).train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if hasattr(module, 'dropout_p'):
            module.dropout_p = 0.0
    return model


def check_losses(report: Report, model: GLUS, losses: Mapping[str, Tensor],
                 official: Mapping[str, float]) -> Tensor:
    """Compare the losses and their sum, which is returned."""
    total = model.parse_losses(dict(losses))[0]
    for ours, theirs in LOSSES:
        report.relative('losses: CE, BCE, dice', losses[ours].item(), official[theirs],
                        LOSS_TOLERANCE)
    report.relative('total loss', total.item(), official['loss'], LOSS_TOLERANCE)
    return total


def check_gradients(report: Report, model: GLUS, official: Mapping[str, float | None]) -> None:
    """Compare norms of the gradients; None means that there is no gradient."""
    grads = {name: p.grad.norm().item() for name, p in model.named_parameters()
             if p.grad is not None}
    norms = {our_name(name): norm for name, norm in official.items() if norm is not None}
    report.same('parameters with a gradient', set(grads), set(norms))
    for name in sorted(set(grads) & set(norms)):
        if norms[name] < ZERO_NORM:
            report.close(f'gradient norms below {ZERO_NORM:g}', grads[name], norms[name],
                         ZERO_NORM_TOLERANCE)
        else:
            report.relative('gradient norms', grads[name], norms[name], NORM_TOLERANCE)


def check_outputs(report: Report, arrays: Arrays, decoded: Sequence[tuple[Tensor, Tensor]],
                  num_videos: int) -> None:
    """Compare seg embeddings (N, C) and logits (N, h, w) of every query frame."""
    for t, (tokens, logits) in enumerate(decoded):
        official = np.concatenate([arrays[f'seg_f{t}_b{b}'][:, 0] for b in range(num_videos)])
        report.close('seg embeddings', tokens.detach(), official, 1e-3)
        every = next((key.split('_')[2][1:] for key in arrays if key.startswith('low_res_s')),
                     None)
        if every is None:
            report.state('logits in half precision', 'not in this copy')
            continue
        step = int(every)
        official = np.concatenate([arrays[f'low_res_s{step}_f{t}_b{b}'][:, 0]
                                   for b in range(num_videos)])
        report.close(f'logits stored in half precision (_s{step})',
                     logits.detach()[:, ::step, ::step], official, 8e-2)


def check_step(fixture: OfficialFixture, report: Report) -> None:
    """One step with all of the LLM trained: batch, losses, outputs and gradients.

    The contrastive loss is computed in the same forward pass, as it changes nothing but the sum,
    and its gradients come after the others were compared.
    """
    record = fixture.json('train/expected.json')
    contrast = record['contrastive']['in_forward']
    model = training_model(fixture)
    inputs, samples = make_batch(fixture, model)
    check_batch(fixture, report, inputs, samples)
    report.part = 'train/contrastive'
    model.loss_contrastive = filled_loss(
        fixture, report, record['loss_weights']['contrastive'])
    decoded = []
    handle = model.mask_head.register_forward_hook(
        lambda _, args, out: decoded.append((args[1], out.low_res_logits)))
    random.seed(contrast['random_seed_before_forward'])
    losses = model(inputs, samples, mode='loss')
    handle.remove()
    contrastive = losses.pop('loss_contrastive')
    report.part = 'train/plain'
    total = check_losses(report, model, losses, record['plain']['losses'])
    check_outputs(report, fixture.arrays('train/preds.npz'), decoded, len(samples))
    total.backward(retain_graph=True)
    check_gradients(report, model, record['plain']['grad_norms'])
    check_whole_gradients(fixture, report, model)
    report.part = 'train/contrastive'
    check_in_step(report, model.loss_contrastive, contrastive, contrast)
    check_losses(report, model, dict(losses, loss_contrastive=contrastive), contrast['losses'])
    contrastive.backward()
    for name, norm in contrast['grad_norms'].items():
        report.relative('gradient norms', model.get_parameter(our_name(name)).grad.norm().item(),
                        norm, NORM_TOLERANCE)


def check_whole_gradients(fixture: OfficialFixture, report: Report, model: GLUS) -> None:
    """Compare the gradients that are stored as a whole."""
    arrays = fixture.arrays('train/preds.npz')
    for key, name in FULL_GRADIENTS:
        report.direction('whole gradients', model.get_parameter(name).grad, arrays[key],
                         NORM_TOLERANCE)
    seg_id = fixture.json('train/expected.json')['seg_token_idx']
    report.direction('whole gradients', model.mllm.lm_head.weight.grad[seg_id],
                     arrays['grad_lm_head_seg_row'], NORM_TOLERANCE)


def check_without_memory(fixture: OfficialFixture, report: Report) -> None:
    """The losses of a step without the memory bank."""
    model = training_model(fixture, {'model.train_cfg.use_memory': False})
    with torch.no_grad():
        losses = model(*make_batch(fixture, model), mode='loss')
    official = fixture.json('train/expected.json')['not_use_mem_bank_losses']
    check_losses(report, model, losses, official)


def check_lora(fixture: OfficialFixture, report: Report) -> None:
    """The same step with low-rank adapters."""
    official = fixture.json('train/expected.json')['lora']
    arrays = fixture.arrays('train/lora.npz')
    model = training_model(fixture, {'model.mllm.lora': dict(
        r=official['r'], alpha=official['alpha'], dropout=0.0)}, ADAPTED)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    names = {our_name(name) for name in official['trainable']}
    report.same('trained parameters', trained,
                {name for name in names if not name.startswith(WITHOUT_GRADIENT)})
    adapters = {our_name(key): torch.from_numpy(arrays[key]) for key in arrays
                if not key.startswith('grad/')}
    set_adapters(model, adapters, official['alpha'] / official['r'])
    inputs, samples = make_batch(fixture, model)
    losses = model(inputs, samples, mode='loss')
    check_losses(report, model, losses, official['losses']).backward()
    norms = dict(official['grad_norms'], **dict.fromkeys(official['grad_none']))
    check_gradients(report, model, norms)
    for name in adapters:
        key = next(key for key in arrays
                   if key.startswith('grad/') and our_name(key[len('grad/'):]) == name)
        report.direction('gradients of the adapters', model.get_parameter(name).grad,
                         arrays[key], NORM_TOLERANCE)


@torch.no_grad()
def set_adapters(model: GLUS, adapters: Mapping[str, Tensor], scale: float) -> None:
    """Set A and B, and take them out of the base weights, which are stored merged."""
    for name, value in adapters.items():
        model.get_parameter(name).copy_(value)
        if '.lora_A.' in name:
            layer = name.split('.lora_A.')[0]
            base = model.get_parameter(f'{layer}.base_layer.weight')
            base -= scale * adapters[name.replace('.lora_A.', '.lora_B.')] @ value
