"""Segment a video frame by frame, so that two schedules of work can take turns."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from official_order import OfficialPropagator

from glus_mm.models import GLUS
from glus_mm.models.propagators import BasePropagator
from glus_mm.video import FrameReader
from inference_benchmark.model import make_sample
from inference_benchmark.part_timer import PartTimer


@dataclass
class Outcome:
    """One expression on one frame.

    Attributes:
        seg_token: (C).
        is_seg: whether ``[SEG]`` came.
        margin: the logit of ``[SEG]``, as all others are 0.
        stability: of mask token 0, None where the decoder does not ask for it.
        low_res: (h, w) logits.
        mask: bool (H, W).
    """

    seg_token: np.ndarray
    is_seg: bool
    margin: float
    stability: float | None
    low_res: np.ndarray
    mask: np.ndarray


class Run:
    """Segment a video with one schedule, step by step, and time it.

    Args:
        model: the model; its ``test_cfg`` is set before each step, so that runs may take turns.
        reader: the frames.
        expressions: number E.
        options: fields of ``test_cfg`` that differ from the model's.
        keep: whether the outcomes are kept.
        official: work in the official order.
    """

    def __init__(self, model: GLUS, reader: FrameReader, expressions: int, options: dict,
                 keep: bool = True, official: bool = False) -> None:
        self.model = model
        self.timer = PartTimer(model)
        self.outcomes: dict[tuple[int, int], Outcome] = {}
        self.count = self.count_seg = 0
        self.foreground = 0.0
        self.frames: set[int] = set()
        self.keep = keep
        self._cfg = replace(model.test_cfg, **options)
        self._seen: dict[str, list[float]] = dict(margin=[], stability=[])
        propagator = OfficialPropagator() if official else model.propagator
        self._steps = self._segment(propagator, reader, expressions)

    def step(self) -> int:
        """Do what the next yield of the model needs; returns the number of masks, 0 at the end."""
        self.model.test_cfg = self._cfg
        for values in self._seen.values():
            values.clear()
        handles = self._hook() if self.keep else []
        with torch.inference_mode(), self.timer.watch():
            item = next(self._steps, None)
            if item is not None:
                masks = item[2].masks.cpu().numpy()
        for undo in handles:
            undo()
        if item is None:
            return 0
        t, exps, pred = item
        self.frames.add(t)
        self.count += len(exps)
        self.count_seg += int(pred.is_seg.sum())
        self.foreground += float(masks.mean((1, 2)).sum())
        if self.keep:
            self._record(t, exps, pred, masks)
        return len(exps)

    def _segment(self, propagator: BasePropagator, reader: FrameReader, expressions: int
                 ) -> Iterator:
        session = self.model.init_session(reader, make_sample(expressions))
        yield from propagator.segment(self.model, session, [0] * expressions)

    def _hook(self) -> Sequence:
        """Watch the logit of ``[SEG]`` and the stability of masks."""
        decoder, seen = self.model.mask_head.sam2.sam_mask_decoder, self._seen
        seg_id, stability = self.model.mllm.tokenizer.seg_id, decoder._get_stability_scores

        def logits(module, args: tuple, out: torch.Tensor) -> None:
            rows = out[:, -1] if out.dim() == 3 else out
            seen['margin'].extend(rows[:, seg_id].float().tolist())

        def scores(mask_logits: torch.Tensor) -> torch.Tensor:
            out = stability(mask_logits)
            seen['stability'].extend(out.flatten().tolist())
            return out

        decoder._get_stability_scores = scores
        handle = self.model.mllm.lm_head.register_forward_hook(logits)
        return [handle.remove, lambda: delattr(decoder, '_get_stability_scores')]

    def _record(self, frame_idx: int, exps: Sequence[int], pred, masks: np.ndarray) -> None:
        stability = iter(self._seen['stability'])
        for i, e in enumerate(exps):
            is_seg = bool(pred.is_seg[i])
            self.outcomes[e, frame_idx] = Outcome(
                pred.seg_tokens[i].double().cpu().numpy().copy(), is_seg, self._seen['margin'][i],
                next(stability, None) if is_seg else None,
                pred.low_res_logits[i].cpu().numpy().copy(), masks[i].copy())


def interleave(runs: Sequence[Run], seconds: float | None = None,
               say: Callable[[Sequence[Run]], None] | None = None) -> None:
    """Let runs take turns, a step at a time where they are equally far.

    The one that has done the smaller part of its masks goes next, so that whatever else happens on
    the machine hits all of them.

    Args:
        runs: the runs; each has ``total`` masks to do.
        seconds: stop where all are equally far and have taken so long together.
        say: called after each step with the runs.
    """
    going = list(runs)
    while going:
        progress = [run.count / run.total for run in runs]
        late = seconds is not None and sum(run.timer.wall for run in runs) > seconds
        if late and min(progress) == max(progress):
            return
        run = min(going, key=lambda run: run.count / run.total)
        if not run.step():
            going.remove(run)
        elif say is not None:
            say(runs)
