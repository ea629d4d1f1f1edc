"""A training step, its batch and its contrastive loss, as the official code has them."""

import random
import re
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from torch import Tensor, nn

from glus_mm.conversion.official_weights import to_ours
from glus_mm.datasets import (
    BuildConversation,
    LoadRefVOSFrames,
    LoadRefVOSMasks,
    MeViSDataset,
    PackRefVOSInputs,
    ResizeForEncoders,
)
from glus_mm.models import GLUS, ObjectContrastiveLoss
from glus_mm.text.prompt import get_template
from official_checks.fixture import Arrays, OfficialFixture
from official_checks.report import FixtureError, Report

TEMPLATE = 'llava_v1'
TOLERANCE = 1e-5
ANNOTATION = 'train/mevis/train/meta_expressions.json'
DATASET = 'mevis'
LOSS_TOLERANCE = 1e-4
NORM_TOLERANCE = 1e-3
ZERO_NORM_TOLERANCE = 1e-4
LOSSES = (('loss_ce', 'ce_loss'), ('loss_mask_bce', 'mask_bce_loss'),
          ('loss_mask_dice', 'mask_dice_loss'))
DECODER = 'mask_head.sam2.sam_mask_decoder.'
# The official code counts conv_s0 and conv_s1 among the trained parameters, but runs them without
# gradients. The pattern leaves them out: only their names begin with c.
TRAINED_DECODER = 'sam2.sam_mask_decoder.[!c]*'
PLAIN = ('llm.*', 'lm_head.*', 'projector.*', 'seg_projector.*')
ADAPTED = ('llm.*lora_*', 'llm.embed_tokens.*', 'lm_head.*', 'projector.*', 'seg_projector.*')


class RecordedDraws:
    """Stands in for the random generator of a sample: gives the recorded indices in their order.

    Args:
        draws: what each call of :meth:`integers` returns.
    """

    def __init__(self, draws: Sequence[Sequence[int]]) -> None:
        self._draws = iter(draws)

    def integers(self, high: int, size: int) -> np.ndarray:
        """Return the next recorded indices, ``size`` of them below ``high``."""
        draw = np.array(next(self._draws))
        if draw.shape != (size, ) or draw.max() >= high:
            raise FixtureError(f'expected {size} recorded indices below {high}, got {draw}')
        return draw


class RecordedChoice:
    """First transform of a sample: frames, expressions and texts that the official loader drew.

    Args:
        samples: ``samples`` of the fixture's expected.json.
        conversations: all of its conversations, in the order of the samples' expressions.
        num_context: context frames.
    """

    def __init__(self, samples: Sequence[dict], conversations: Sequence[str],
                 num_context: int) -> None:
        self.samples = {sample['video']: sample for sample in samples}
        self.num_context = num_context
        template = get_template(TEMPLATE)
        self.questions = [question.split('\n')[1] for question in template.questions]
        self.answers = template.answers
        self.conversations, rest = {}, iter(conversations)
        for sample in samples:
            self.conversations[sample['video']] = [next(rest) for _ in sample['str_ids']]

    def __call__(self, results: dict) -> dict:
        """Fill in what the sampling transforms would."""
        sample = self.samples[results['video_id']]
        position = {name: i for i, name in enumerate(results['frame_names'])}
        frames = [position[re.split(r'[/.]', name)[-2]] for name in sample['frame_files']]
        results['context_frame_ids'] = frames[:self.num_context]
        results['query_frame_ids'] = frames[self.num_context:]
        expressions = {item['exp_id']: item for item in results['expressions']}
        # An id is <data set>_<video>_<expression>.
        results['expressions'] = [expressions[i.split('_', 2)[2]] for i in sample['str_ids']]
        results['rng'] = RecordedDraws([
            indices for texts in zip(sample['sampled_classes'], sample['questions'],
                                     self.conversations[sample['video']], strict=True)
            for indices in self._indices(*texts)])
        return results

    def _indices(self, expression: str, questions: Sequence[str], conversation: str
                 ) -> tuple[list[int], list[int]]:
        known = [question.replace('{x}', expression.lower()) for question in self.questions]
        answers = re.findall(r'ASSISTANT: (.*?)</s>', conversation)
        return ([_position(known, question.split('\n')[1]) for question in questions],
                [_position(self.answers, answer) for answer in answers])


def _position(known: Sequence[str], text: str) -> int:
    if text not in known:
        raise FixtureError(f'expected a text of the official templates {list(known)}, '
                           f'got {text!r}')
    return known.index(text)


def make_batch(fixture: OfficialFixture, model: GLUS) -> tuple[dict, list]:
    """The recorded batch, made by our data set and pipeline.

    Returns:
        Inputs and data samples, preprocessed.
    """
    record = fixture.json('train/expected.json')
    choice = RecordedChoice(
        record['samples'], record['conversations'], record['context_frame_num'])
    dataset = MeViSDataset(
        data_root=str(fixture.path('train/mevis/train')), min_frames=4, pipeline=[
            choice, LoadRefVOSFrames(), LoadRefVOSMasks(overlap='sum'),
            ResizeForEncoders(model.mllm.image_size, model.mask_head.image_size),
            BuildConversation(str(fixture.path('checkpoint')), TEMPLATE), PackRefVOSInputs()])
    index = {dataset.get_data_info(i)['video_id']: i for i in range(len(dataset))}
    batch = pseudo_collate([dataset[index[sample['video']]] for sample in record['samples']])
    batch = model.data_preprocessor(batch, True)
    return batch['inputs'], batch['data_samples']


def check_batch(fixture: OfficialFixture, report: Report, inputs: dict, samples: list) -> None:
    """Compare the batch: token ids, labels, images and masks."""
    record, arrays = fixture.json('train/expected.json'), fixture.arrays('train/inputs.npz')
    num_context = record['context_frame_num']
    rows = [ids for video in inputs['input_ids'] for ids in video]
    labels = [ids for video in inputs['labels'] for ids in video]
    lengths = arrays['attention_masks'].sum(1)
    report.same('lengths of the conversations', [len(row) for row in rows], lengths)
    report.same('conversations per video, cumulative',
                np.cumsum([0, *map(len, inputs['input_ids'])]), arrays['offset'])
    for i, length in enumerate(lengths):
        report.same('token ids', rows[i], arrays['input_ids'][i, :length])
        report.same('labels', labels[i], arrays['labels'][i, :length])
    for b, sample in enumerate(samples):
        vision, sam = inputs['clip_imgs'][b], inputs['sam_imgs'][b]
        report.close('images of the vision tower', vision[..., ::8, ::8],
                     arrays['images_clip_s8'][b], 1e-5)
        report.close('images of SAM-2', sam[..., ::64, ::64],
                     arrays['images_s64'][b, num_context:], 1e-4)
        for name, images, key, start in (('vision tower', vision, 'images_clip_sum', 0),
                                         ('SAM-2', sam, 'images_sum', num_context)):
            official = np.array(record['image_hash'][key][b][start:]) / images[0].numel()
            report.close(f'mean of the images of {name}', images.double().mean((1, 2, 3)),
                         official, 1e-5)
        report.same("masks, overlap='sum'", sample.gt_masks, arrays[f'masks_b{b}'])


class OfficialDraws(ObjectContrastiveLoss):
    """Draws with Python's global ``random`` in the official order, and remembers what it drew.

    Attributes:
        negatives: positions of all tokens that counted since they were last cleared.
        positives: likewise, one per token.
    """

    def __init__(self, loss_weight: float) -> None:
        super().__init__(loss_weight=loss_weight, datasets=[DATASET])
        self.negatives: list[list[int]] = []
        self.positives: list[int] = []

    def forget(self) -> None:
        """Clear what it remembers."""
        self.negatives.clear()
        self.positives.clear()

    def draw(self, num_negatives: Tensor, num_positives: Tensor, generator: torch.Generator
             ) -> tuple[Tensor, Tensor]:
        """Draw token by token, its negatives before its positive."""
        negatives, positives = [], []
        for available, matching in zip(num_negatives.tolist(), num_positives.tolist()):
            negatives.append([random.randint(0, available - 1)
                              for _ in range(self.num_negatives)])
            positives.append(random.choice(range(matching)))
        self.negatives += negatives
        self.positives += positives
        return torch.tensor(negatives), torch.tensor(positives)


def identities(fixture: OfficialFixture, rows: Sequence[tuple[str, str, str, str]]
               ) -> dict[str, list]:
    """Keyword arguments of the loss for rows (data set, video, expression, frame).

    Frames are identified by their positions, as GLUS does. The fixture's data set says which
    objects an expression refers to; videos that it does not know are only there to be negatives.
    """
    videos = fixture.json(ANNOTATION)['videos']
    columns: dict[str, list] = dict(video_ids=[], exp_ids=[], object_ids=[], frame_ids=[])
    for dataset, video, exp, frame in rows:
        known = videos.get(video, dict(frames=[], expressions={}))
        columns['video_ids'].append(f'{dataset}/{video}')
        columns['exp_ids'].append(exp)
        columns['object_ids'].append(known['expressions'].get(exp, dict(obj_id=[0]))['obj_id'])
        columns['frame_ids'].append(
            known['frames'].index(frame) if frame in known['frames'] else frame)
    return columns


def filled_loss(fixture: OfficialFixture, report: Report, loss_weight: float) -> OfficialDraws:
    """The loss with the recorded content of its bank."""
    official = fixture.json('train/expected.json')['contrastive']
    tokens = torch.from_numpy(fixture.arrays('train/contrastive.npz')['prefill_tokens'])
    # An id is <data set>_<video>_<expression>.
    rows = [(*str_id.split('_', 2), frame) for str_id, frame in official['prefill']]
    loss = OfficialDraws(loss_weight)
    loss(tokens, **identities(fixture, rows))
    report.same('tokens in the bank', len(loss.bank), official['bank_size_after_prefill'])
    loss.forget()
    return loss


def check_draws(report: Report, loss: OfficialDraws, calls: Sequence[Mapping]) -> None:
    """Compare the positions that were drawn with those of the official calls that had a loss."""
    counting = [call for call in calls if call['loss'] is not None]
    report.same('tokens that count', len(loss.positives), len(counting))
    report.same('negatives that are drawn', loss.negatives, [call['neg'] for call in counting])
    report.same('positives that are drawn', loss.positives, [call['pos'] for call in counting])


def check_units(fixture: OfficialFixture, report: Report) -> None:
    """Single tokens against the recorded bank: loss and gradient."""
    official = fixture.json('train/expected.json')['contrastive']
    arrays = fixture.arrays('train/contrastive.npz')
    loss = filled_loss(fixture, report, loss_weight=1.0)
    loss.min_tokens = 1
    for row, unit in enumerate(official['unit']):
        loss.forget()
        random.seed(unit['seed'])
        token = torch.tensor(arrays['query_tokens'][unit['token_row']][None], requires_grad=True)
        name = (unit['dataset'], unit['video'], unit['exp_id'], unit['frame_id'])
        value = loss(token, **identities(fixture, [name]), store=False)
        check_draws(report, loss, [unit])
        value.backward()
        if unit['loss'] is not None:
            report.close('losses of single tokens', value.item(), unit['loss'], TOLERANCE)
        else:
            report.same('losses of tokens that do not count', value.item(), 0.0)
        report.close('gradients of single tokens', token.grad[0], arrays['unit_grads'][row],
                     TOLERANCE)


ZERO_NORM = 1e-5
"""Gradients of a smaller official norm cancel out, and what is left of them is rounding."""
WITHOUT_GRADIENT = (f'{DECODER}conv_s0.', f'{DECODER}conv_s1.')
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
    arrays, seg_id = fixture.arrays('train/preds.npz'), record['seg_token_idx']
    for key, name in FULL_GRADIENTS:
        report.direction('whole gradients', model.get_parameter(name).grad, arrays[key],
                         NORM_TOLERANCE)
    report.direction('whole gradients', model.mllm.lm_head.weight.grad[seg_id],
                     arrays['grad_lm_head_seg_row'], NORM_TOLERANCE)
    report.part = 'train/contrastive'
    # After the tokens of the batch went into the bank.
    check_draws(report, model.loss_contrastive, contrast['calls'])
    report.same('tokens in the bank', len(model.loss_contrastive.bank), contrast['bank_size_after'])
    report.relative('contrastive loss', contrastive.item(), contrast['losses']['contrastive_loss'],
                    TOLERANCE)
    check_losses(report, model, dict(losses, loss_contrastive=contrastive), contrast['losses'])
    contrastive.backward()
    for name, norm in contrast['grad_norms'].items():
        report.relative('gradient norms', model.get_parameter(our_name(name)).grad.norm().item(),
                        norm, NORM_TOLERANCE)


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
