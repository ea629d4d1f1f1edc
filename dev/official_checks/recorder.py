"""Watch what a model computes while it segments, without changing it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from glus_mm.models import GLUS
from glus_mm.models.inference import MaskPrediction, VideoSession
from glus_mm.models.inference.together import Work


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


class _Pending:
    """What the modules of the current frame did, one row per expression, chunk by chunk."""

    def __init__(self) -> None:
        self.ids: list[list[int]] = []
        self.hidden: list[Tensor] = []
        self.logits: list[Tensor] = []
        self.ious: list[Tensor] = []

    def clear(self) -> None:
        """Forget the frame."""
        for rows in (self.ids, self.hidden, self.logits, self.ious):
            rows.clear()


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
        for owner, name in ((model, 'init_session'), (model.propagator, 'sweep'),
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
    init_session, sweep = model.init_session, model.propagator.sweep
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

    def wrapped_sweep(model: GLUS, session: VideoSession, starts: dict[int, int], frames: range,
                      skip_starts: bool = False):
        # The official code decodes the first frame in both directions.
        steps, answer = sweep(model, session, starts, frames), None
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
            pending.clear()
            rows = [i for i, e in enumerate(exps) if not skip_starts or starts[e] != t]
            if rows:
                yield t, [exps[i] for i in rows], MaskPrediction(**{
                    name: getattr(pred, name)[rows]
                    for name in MaskPrediction.__dataclass_fields__})
            answer = None

    model.init_session, model.propagator.sweep = wrapped_init, wrapped_sweep
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


def encode(model: GLUS, images: Tensor) -> dict[str, Tensor]:
    """Pooled features (M, V, width) and visual tokens (M, V, D) of images (M, 3, P, P)."""
    seen = {}
    handle = model.mllm.projector.register_forward_hook(
        lambda _, args, out: seen.update(pooled=args[0], tokens=out))
    with torch.no_grad():
        model.mllm.encode_images(images)
    handle.remove()
    return seen
