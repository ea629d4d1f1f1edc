"""What a model computes on its way through a video, beside the official code's."""

import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glus_mm.apis import GLUSInferencer
from glus_mm.models import GLUS
from glus_mm.models.inference import MaskPrediction, VideoSession
from glus_mm.models.inference.together import Work
from glus_mm.utils.image import vision_tower_image
from glus_mm.video import open_reader
from official_checks.fixture import OfficialFixture
from official_checks.report import FixtureError, Report

sys.path.append(str(Path(__file__).resolve().parents[2] / 'tools' / 'analysis_tools'))

from official_order import OFFICIAL

VARIANTS = ('', '_nomem', '_kf', '_gammabug', '_segfail')
SEG_TOLERANCE = 1e-3
LOGIT_TOLERANCE = 2e-2
HALF_TOLERANCE = 8e-2
FEATURE_TOLERANCE = 1e-3
VIDEO = 'video/frames'
PIXEL_TOLERANCE = 2e-3
"""Share of the pixels of a mask."""
SHARE_TOLERANCE = 1e-3
"""Of predicted IoU and of stability, which lie in 0..1."""
UNCACHED = 1
"""Which expression is segmented once more without caches."""


@dataclass
class Step:
    """One expression on one frame of a pass.

    Attributes:
        frame_idx: position in the video.
        input_ids: the whole prompt, prefix included.
        hidden: (D) state that predicts the next token.
        logits: (vocabulary) of the next token.
        is_seg: whether that is ``[SEG]``.
        seg_token: (C).
        low_res: (h, w) logits of the mask.
        mask: bool (H, W).
        ious: (4) that the decoder expects of its mask tokens; None without ``[SEG]``.
    """

    frame_idx: int
    input_ids: list[int]
    hidden: np.ndarray
    logits: np.ndarray
    is_seg: bool
    seg_token: np.ndarray
    low_res: np.ndarray
    mask: np.ndarray
    ious: np.ndarray | None


@dataclass
class Recording:
    """What was seen.

    Attributes:
        passes: (expression, first frame, reverse) to the steps.
        context_frame_ids: of the session.
        llm_states: outputs (N, L, D) of the LLM, at most ``limit``.
        memories: (expressions, memories of each) of every call of the memory attention.
        attended: its outputs (N, C, h, w), at most ``limit``.
        features: ``high_res`` and ``top`` features and images of the first frames, likewise.
        maskmem: outputs (N, mem_dim, h, w) of the memory encoder, likewise.
        limit: how many large tensors are kept of a kind.
    """

    limit: int = 0
    passes: dict[tuple[int, int, bool], list[Step]] = field(default_factory=dict)
    context_frame_ids: list[int] = field(default_factory=list)
    llm_states: list[Tensor] = field(default_factory=list)
    memories: list[tuple[int, int]] = field(default_factory=list)
    attended: list[Tensor] = field(default_factory=list)
    features: list[dict[str, Tensor]] = field(default_factory=list)
    maskmem: list[Tensor] = field(default_factory=list)

    def keep(self, kept: list, value: Tensor | dict) -> None:
        """Append a large value, up to the limit."""
        if len(kept) < self.limit:
            kept.append(value)


@dataclass
class _Pending:
    """What the modules of the current frame did, one row per expression, chunk by chunk."""

    ids: list[list[int]] = field(default_factory=list)
    hidden: list[Tensor] = field(default_factory=list)
    logits: list[Tensor] = field(default_factory=list)
    ious: list[Tensor] = field(default_factory=list)


@contextmanager
def record(model: GLUS, limit: int = 0) -> Iterator[Recording]:
    """Record all passes that the model makes inside of the ``with`` block.

    Methods of the model are wrapped and modules hooked; both is undone at the end. Expressions
    that are recorded together start on the same frame.

    Args:
        limit: how many large tensors of a kind are kept.
    """
    recording, pending = Recording(limit), _Pending()
    handles = _hook(model, recording, pending)
    _wrap(model, recording, pending)
    try:
        yield recording
    finally:
        for handle in handles:
            handle.remove()
        for owner, name in ((model, 'init_session'), (model.propagator, 'single_pass'),
                            (model.mask_head, '_attend'),
                            (model.mllm, 'prefill'), (model.mllm, 'next_seg_tokens')):
            delattr(owner, name)


def _hook(model: GLUS, recording: Recording, pending: _Pending) -> list:
    """Register the hooks; returns their handles."""

    def next_token(module: nn.Module, args: tuple, logits: Tensor) -> None:
        pending.hidden.extend(args[0].float())
        pending.logits.extend(logits.float())

    def encoder(module: nn.Module, args: tuple, out: dict) -> None:
        recording.keep(recording.features, dict(image=args[0], top=out['backbone_fpn'][-1]))

    def high_res(name: str):
        def hook(module: nn.Module, args: tuple, out: Tensor) -> None:
            if recording.features:
                recording.features[-1].setdefault(name, out)
        return hook

    mllm, sam = model.mllm, model.mask_head.sam2
    decoder = sam.sam_mask_decoder
    return [
        mllm.llm.register_forward_hook(
            lambda _, args, out: recording.keep(recording.llm_states, out.last_hidden_state)),
        mllm.lm_head.register_forward_hook(next_token),
        decoder.iou_prediction_head.register_forward_hook(
            lambda _, args, out: pending.ious.extend(out)),
        sam.memory_encoder.register_forward_hook(
            lambda _, args, out: recording.keep(recording.maskmem, out['vision_features'])),
        sam.image_encoder.register_forward_hook(encoder),
        decoder.conv_s0.register_forward_hook(high_res('high_res_0')),
        decoder.conv_s1.register_forward_hook(high_res('high_res_1')),
    ]


def _wrap(model: GLUS, recording: Recording, pending: _Pending) -> None:
    """Put recording methods in front of the model's own."""
    init_session, single_pass = model.init_session, model.propagator.single_pass
    attend = model.mask_head._attend
    prefill, next_seg_tokens = model.mllm.prefill, model.mllm.next_seg_tokens
    prefixes: dict[int, list[int]] = {}

    def wrapped_init(*args, **kwargs) -> VideoSession:
        session = init_session(*args, **kwargs)
        recording.context_frame_ids = list(session.context_frame_ids)
        return session

    def wrapped_prefill(prefix_ids: list[int], visual_tokens: Tensor):
        state = prefill(prefix_ids, visual_tokens)
        prefixes[id(state)] = list(prefix_ids)
        return state

    def wrapped_next(input_ids, visual_tokens: Tensor, prefix=None):
        start = [] if prefix is None else prefixes[id(prefix)]
        pending.ids.extend(start + list(ids) for ids in input_ids)
        return next_seg_tokens(input_ids, visual_tokens, prefix)

    def wrapped_attend(top: Tensor, top_pos: Tensor, stored: Tensor) -> Tensor:
        out = attend(top, top_pos, stored)
        recording.memories.append((len(top), len(stored) // top_pos[0, 0].numel()))
        recording.keep(recording.attended, out)
        return out

    def wrapped_pass(model: GLUS, session: VideoSession, starts: dict[int, int], frames: range,
                      skip_starts: bool = False):
        # The official code decodes the first frame in both directions.
        steps, answer = single_pass(model, session, starts, frames), None
        while True:
            try:
                item = steps.send(answer)
            except StopIteration:
                return
            if isinstance(item, Work):
                answer = yield item
                continue
            t, exps, pred = item
            for e, step in zip(exps, _steps(t, pred, pending)):
                key = (e, starts[e], frames.step < 0)
                recording.passes.setdefault(key, []).append(step)
            for rows in vars(pending).values():
                rows.clear()
            rows = [i for i, e in enumerate(exps) if not skip_starts or starts[e] != t]
            if rows:
                yield t, [exps[i] for i in rows], MaskPrediction(**{
                    name: getattr(pred, name)[rows]
                    for name in MaskPrediction.__dataclass_fields__})
            answer = None

    model.init_session, model.propagator.single_pass = wrapped_init, wrapped_pass
    model.mask_head._attend = wrapped_attend
    model.mllm.prefill, model.mllm.next_seg_tokens = wrapped_prefill, wrapped_next


def _steps(frame_idx: int, pred: MaskPrediction, pending: _Pending) -> Iterator[Step]:
    ious = iter(pending.ious)
    for row, is_seg in enumerate(pred.is_seg.tolist()):
        yield Step(
            frame_idx, pending.ids[row], pending.hidden[row].numpy(),
            pending.logits[row].numpy(), is_seg, pred.seg_tokens[row].numpy(),
            pred.low_res_logits[row].numpy(), pred.masks[row].numpy(),
            next(ious).numpy() if is_seg else None)


def prepare(fixture: OfficialFixture, record: dict, options: dict | None = None) -> GLUS:
    """Build the model of a variant as it was recorded."""
    cfg = 'model.test_cfg'
    model = fixture.model({
        f'{cfg}.num_context': record['context_frame_num'],
        f'{cfg}.window': record['question_frame_num'],
        f'{cfg}.memory_stride': record['mem_stride'],
        f'{cfg}.use_memory': not record['not_use_mem_bank'],
        'model.mask_head.official_gamma': not record['gamma_loaded'], **(options or {})})
    if 'lm_head_seg_row_multiplier' in record:
        with torch.no_grad():
            row = model.mllm.lm_head.weight[model.mllm.tokenizer.seg_id]
            row *= record['lm_head_seg_row_multiplier']
    return model


def check_variant(fixture: OfficialFixture, report: Report, variant: str) -> None:
    """Compare one recorded run of the official inference code.

    Args:
        report: gets the rows.
        variant: the end of the file's name, one of ``VARIANTS``.
    """
    name = f'inference/expected{variant}'
    official = fixture.json(f'{name}.json')
    arrays = fixture.arrays(f'{name}.npz')
    model = prepare(fixture, official)
    # The expressions as a data set gives them, each one once, in their order.
    video = next(iter(fixture.json('video/expressions.json')['videos'].values()))
    raw = {item['exp'].removesuffix('.'): item['exp'] for item in video['expressions'].values()}
    texts = [raw[text] for text in dict.fromkeys(call['exp'] for call in official['calls'])]
    key_frame = official.get('key_frame_index', 0)
    with record(model, limit=0 if variant else 4) as seen:
        result = GLUSInferencer(model)(
            str(fixture.path(VIDEO)), texts, key_frames=[key_frame] * len(texts),
            return_logits=True)
    for call in official['calls']:
        frames = call['query_frames']
        exp = [text.removesuffix('.') for text in texts].index(call['exp'])
        steps = seen.passes[exp, frames[0], len(frames) > 1 and frames[1] < frames[0]]
        report.same('context frames', seen.context_frame_ids, call['context_frames'])
        report.same('query frames', [step.frame_idx for step in steps], frames)
        prefix = f'call{call["call"]}'
        _check_tokens(report, steps, call, arrays[f'{prefix}/last_hidden_at_last_pos'])
        _check_masks(report, steps, call, arrays, prefix)
    if variant == '_kf':
        _check_key_frame_result(report, result['masks'], official, arrays)
    if not any(array.dtype == np.float16 for array in arrays.values()):
        report.state('logits stored in half precision', 'not in this copy')
    if not variant:
        _check_intermediates(fixture, report, model, seen, official['calls'][0])
        _check_uncached(fixture, report, official, texts, result)


def _check_tokens(report: Report, steps: Sequence[Step], call: dict, hidden: np.ndarray) -> None:
    """Prompt, next token and the state that predicts it, at every step."""
    for step, ids in zip(steps, call['input_ids']):
        report.same('token ids of the prompts', step.input_ids, ids)
    report.same('next tokens', [step.logits.argmax() for step in steps], call['new_token'])
    report.same('[SEG] generated', [step.is_seg for step in steps], call['seg_generated'])
    report.close('hidden state that predicts it', [step.hidden for step in steps], hidden,
                 SEG_TOLERANCE)
    seg_id = next((new for new, is_seg in zip(call['new_token'], call['seg_generated'])
                   if is_seg), None)
    if seg_id is not None:
        margins = [step.logits[seg_id] - np.delete(step.logits, seg_id).max() for step in steps]
        report.close('margin of [SEG]', margins, call['seg_logit_margin'], SEG_TOLERANCE)


def _check_masks(report: Report, steps: Sequence[Step], call: dict, arrays, prefix: str) -> None:
    """Seg tokens, logits and masks; official arrays have a row per decoded frame."""
    decoded = [step for step in steps if step.is_seg]
    low_res = np.stack([step.low_res for step in decoded])
    report.close('seg embeddings', [step.seg_token for step in decoded],
                 arrays[f'{prefix}/seg_embedding'], SEG_TOLERANCE)
    report.close('logits, every 8th pixel', low_res[:, ::8, ::8],
                 arrays[f'{prefix}/low_res_masks_s8_f32'], LOGIT_TOLERANCE)
    height, width = call['orig_size']
    full = F.interpolate(torch.from_numpy(low_res)[:, None], (height, width), mode='bilinear',
                         align_corners=False)[:, 0]
    report.close('logits at the size of the video', full[:, ::8, ::8],
                 arrays[f'{prefix}/full_logits_s8_f32'], LOGIT_TOLERANCE)
    for key in arrays:
        match = re.fullmatch(rf'{prefix}/low_res_masks_s(\d+)', key)
        if match:
            every = int(match[1])
            report.close(f'logits stored in half precision (_s{every})',
                         low_res[:, ::every, ::every], arrays[key], HALF_TOLERANCE)
    masks = unpack(arrays[f'{prefix}/full_masks_packed'], (height, width))
    _compare_masks(report, 'mask pixels, share of a mask', [step.mask for step in steps], masks)
    if len(decoded) < len(steps):
        empty = [step.mask.sum() for step in steps if not step.is_seg]
        report.same('pixels of masks without [SEG]', empty, [0] * len(empty))
    report.close('stability of mask token 0', [stability(logits) for logits in low_res],
                 call['stability_score'], SHARE_TOLERANCE)
    report.close('predicted IoU of mask tokens 0 to 3', [step.ious for step in decoded],
                 call['iou_pred_tokens0to3'], SHARE_TOLERANCE)


def _compare_masks(report: Report, name: str, ours: Sequence[np.ndarray],
                   official: Sequence[np.ndarray]) -> None:
    different = [(a != b).mean() for a, b in zip(ours, official, strict=True)]
    report.add(name, different, PIXEL_TOLERANCE, values=sum(mask.size for mask in ours))


def _check_uncached(fixture: OfficialFixture, report: Report, official: dict,
                    texts: Sequence[str], cached: dict) -> None:
    """Everything recomputed for each frame, one expression alone, against the batch of all."""
    report.part = 'inference/uncached'
    model = prepare(fixture, official, {'model.test_cfg.propagator': OFFICIAL,
                                        'model.test_cfg.max_expressions': 1})
    result = GLUSInferencer(model)(
        str(fixture.path(VIDEO)), [texts[UNCACHED]], return_logits=True)
    steps = range(len(result['frame_names']))
    report.same('[SEG] generated', result['is_seg'][0], cached['is_seg'][UNCACHED])
    for name, key, tolerance in (('seg embeddings', 'seg_tokens', SEG_TOLERANCE),
                                 ('logits', 'low_res_logits', LOGIT_TOLERANCE)):
        for t in steps:
            report.close(f'{name}, on - off', result[key][0][t], cached[key][UNCACHED][t],
                         tolerance)
    _compare_masks(report, 'mask pixels, share of a mask, on - off', list(result['masks'][0]),
                   list(cached['masks'][UNCACHED]))


def _check_key_frame_result(report: Report, masks: Sequence, official: dict, arrays) -> None:
    """The result of both directions: backward up to the key frame, forward after it.

    The official forward pass saves frame K + i under name i and the backward pass overwrites
    names 0..K, so that its PNG files are right where the backward pass wrote them.
    """
    key = official['key_frame_index']
    for exp, names in enumerate(official['png_names_written'].values()):
        report.same('names of the official PNG files', names,
                    [f'{t:05d}.png' for t in range(key + 1)])
        height, width = official['calls'][2 * exp]['orig_size']
        shape = (height, width)
        png = [unpack(arrays[f'png/exp{exp}/{t:05d}'][None], shape)[0] for t in range(key + 1)]
        _compare_masks(report, 'result up to the key frame, official PNG files',
                       masks[exp][:key + 1], png)
        forward = unpack(arrays[f'call{2 * exp}/full_masks_packed'], shape)[1:]
        _compare_masks(report, 'result after the key frame, forward pass', masks[exp][key + 1:],
                       forward)


def _check_intermediates(fixture: OfficialFixture, report: Report, model: GLUS, seen: Recording,
                         call: dict) -> None:
    """What the modules computed for the first expression on the first frames."""
    report.part = 'inference/intermediates'
    arrays = fixture.arrays('inference/intermediates.npz')
    reader = open_reader(fixture.path(VIDEO))
    frames = [reader.read(t) for t in (*call['context_frames'], call['query_frames'][0])]
    images = torch.from_numpy(np.stack([
        vision_tower_image(frame, model.mllm.image_size, model.mllm.vision_crop)
        for frame in frames])).permute(0, 3, 1, 2)
    vision: dict[str, Tensor] = {}
    handle = model.mllm.projector.register_forward_hook(
        lambda _, args, out: vision.update(clip_pooled=args[0], mm_projector_out=out))
    with torch.no_grad():
        model.mllm.encode_images(model.data_preprocessor.normalize_vision(images))
    handle.remove()
    for name, key in (('pooled vision features', 'clip_pooled'),
                      ('visual tokens', 'mm_projector_out')):
        report.close(name, vision[key], arrays[f'{key}_step1'], FEATURE_TOLERANCE)
    # The shared prefix, then what all expressions have in common of their first step, then the
    # rest of each.
    hidden = torch.cat([states[0] for states in seen.llm_states[:3]])
    official = arrays['hidden_states_call0_step1']
    report.close('hidden states of the first step', hidden[:len(official)], official,
                 FEATURE_TOLERANCE)
    first = seen.features[0]
    report.close('image of SAM-2', first['image'][..., ::32, ::32],
                 arrays['sam_image_in_s32_frame0'], 1e-4)
    for i, (name, every) in enumerate((('high_res_0', 16), ('high_res_1', 8), ('top', 4))):
        report.close(f'features of SAM-2, level {i}', first[name][..., ::every, ::every],
                     arrays[f'fpn{i}_s{every}_frame0'], FEATURE_TOLERANCE)
    _check_memory(report, seen, arrays)


def _check_memory(report: Report, seen: Recording, arrays) -> None:
    """Frame t is the t-th call of the memory attention; expression 0 is the first of the batch."""
    report.same('memories per frame', [count for _, count in seen.memories],
                arrays['memattn_num_memory_frames_call0'])
    for t in range(1, 4):
        attended = seen.attended[t - 1][:1].flatten(2).permute(2, 0, 1)
        report.close('memory attention, every 64th token', attended[::64],
                     arrays[f'memattn_out_s64_frame{t}'], FEATURE_TOLERANCE)
        report.same('memories per frame', seen.memories[t - 1][1],
                    arrays[f'memattn_num_memories_frame{t}'])
    for t in range(3):
        report.close('memory of a frame', seen.maskmem[t][:1, :, ::4, ::4],
                     arrays[f'maskmem_features_s4_frame{t}'], FEATURE_TOLERANCE)


def unpack(rows: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Masks bool (T, H, W) from the packed bits (T, bytes)."""
    bits = np.unpackbits(rows, axis=1)
    if bits.shape[1] < shape[0] * shape[1]:
        raise FixtureError(f'expected masks of {shape[0]} x {shape[1]} pixels, '
                           f'got {bits.shape[1]} bits')
    return bits[:, :shape[0] * shape[1]].reshape(-1, *shape).astype(bool)


def stability(logits: np.ndarray, delta: float = 0.05) -> float:
    """How much a mask (h, w) stays the same if its threshold moves by ``delta``."""
    return (logits > delta).sum() / (logits > -delta).sum()
