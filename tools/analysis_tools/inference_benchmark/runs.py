"""Runs of two schedules of work that take turns: their time, memory, and how far they agree."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from os import PathLike

import cv2
import numpy as np
import torch
from official_order import OfficialPropagator
from torch.nn import functional as F
from train_benchmark.model import PartTimer, resident_gb

from glus_mm.models import GLUS
from glus_mm.models.propagators import BasePropagator
from glus_mm.video import ArrayReader, FrameReader, VideoFileReader
from inference_benchmark.model import make_sample

PARTS = ('vision tower', 'SAM-2 encoder', 'LLM', 'memory attention', 'mask decoder',
         'memory encoder', 'rest')
SEG_TOLERANCE = 1e-4
PIXEL_TOLERANCE = 1e-4
LOGIT_TOLERANCE = 1e-3
MARGIN = 1e-4
SHAPE = (96, 128)


def run_timer(model: GLUS) -> PartTimer:
    """The parts of inference."""
    head, mllm = model.mask_head, model.mllm
    return PartTimer({
        'vision tower': [(mllm.vision_tower, 'forward')],
        'SAM-2 encoder': [(head.sam2.image_encoder, 'forward')],
        'LLM': [(mllm.llm, 'forward')], 'memory attention': [(head, '_condition')],
        'mask decoder': [(head, 'forward')], 'memory encoder': [(head, 'encode_memory')],
    }, next(model.parameters()).is_cuda, encoders=('vision tower', 'SAM-2 encoder'))


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
        frames: uint8 (H, W, 3); nothing of them is prepared while another run has its turn.
        expressions: number E.
        options: fields of ``test_cfg`` that differ from the model's.
        keep: whether the outcomes are kept.
        official: work in the official order.
    """

    def __init__(self, model: GLUS, frames: list[np.ndarray], expressions: int, options: dict,
                 keep: bool, official: bool = False) -> None:
        self.model = model
        self.timer = run_timer(model)
        self.outcomes: dict[tuple[int, int], Outcome] = {}
        self.total = expressions * len(frames)
        self.count = self.count_seg = 0
        self.foreground = 0.0
        self.frames: set[int] = set()
        self.keep = keep
        self._cfg = replace(model.test_cfg, **{'prefetch': 0, **options})
        self._seen: dict[str, list[float]] = dict(margin=[], stability=[])
        propagator = OfficialPropagator() if official else model.propagator
        self._steps = self._segment(propagator, ArrayReader(frames), expressions)

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
        runs: each is stepped until all its masks are done.
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


STABLE = 0.98
"""The threshold of SAM-2 below which it takes another mask token."""


@dataclass(frozen=True)
class Agreement:
    """What differs between two runs, where both have outcomes.

    Attributes:
        masks: number that was compared.
        pixels: of them all.
        different: pixels that differ.
        max_logit: the largest |logit| of a pixel that differs.
        max_seg: the largest difference of a seg embedding.
        max_low_res: the largest difference of low-resolution logits.
        other_seg: masks where only one run has a ``[SEG]``.
        close: (expression, frame) whose ``[SEG]`` or stability margin is below ``MARGIN``.
    """

    masks: int
    pixels: int
    different: int
    max_logit: float
    max_seg: float
    max_low_res: float
    other_seg: int
    close: list[tuple[int, int]]

    @classmethod
    def of(cls, ours: dict[tuple[int, int], Outcome], other: dict[tuple[int, int], Outcome]
           ) -> 'Agreement':
        """Compare outcomes by (expression, frame)."""
        keys = sorted(set(ours) & set(other))
        pairs = [(ours[key], other[key]) for key in keys]
        both = [(a, b) for a, b in pairs if a.is_seg and b.is_seg]
        wrong = [a.mask != b.mask for a, b in pairs]

        def largest(values: Iterable[np.ndarray]) -> float:
            return max((float(np.abs(value).max()) for value in values if value.size), default=0.0)

        return cls(
            len(keys), sum(w.size for w in wrong), sum(int(w.sum()) for w in wrong),
            largest(_full(a)[a.mask != b.mask] for a, b in both),
            largest(a.seg_token - b.seg_token for a, b in pairs),
            largest(a.low_res - b.low_res for a, b in both),
            sum(a.is_seg != b.is_seg for a, b in pairs),
            [key for key, pair in zip(keys, pairs) if any(
                abs(o.margin) < MARGIN or
                (o.stability is not None and abs(o.stability - STABLE) < MARGIN) for o in pair)])

    def holds(self, exactly: bool = False) -> bool:
        """Whether the runs agree as they must.

        Args:
            exactly: masks have to be identical, as in float64 at the tiny size.
        """
        if exactly:
            return self.masks > 0 and self.different == 0 and self.other_seg == 0
        return (self.masks > 0 and self.other_seg == 0 and self.max_seg <= SEG_TOLERANCE
                and self.different <= PIXEL_TOLERANCE * self.pixels
                and self.max_logit < LOGIT_TOLERANCE)

    def lines(self) -> list[str]:
        """In words."""
        return [
            f'masks compared {self.masks}: {self.different} of {self.pixels} pixels differ '
            f'({self.different / max(self.pixels, 1):.1e}), the largest |logit| there '
            f'{self.max_logit:.1e}',
            f'seg embeddings differ by at most {self.max_seg:.1e}, low-resolution logits by '
            f'{self.max_low_res:.1e}; [SEG] on one side only: {self.other_seg}',
            f'steps with a [SEG] or stability margin below {MARGIN:g}: '
            f'{", ".join(map(str, self.close)) or "none"}',
        ]


def _full(outcome: Outcome) -> np.ndarray:
    """Logits at the size of the video."""
    logits = torch.from_numpy(outcome.low_res)[None, None]
    return F.interpolate(
        logits, outcome.mask.shape, mode='bilinear', align_corners=False)[0, 0].numpy()


WARMUP = 40
"""Frames after which caches are full and libraries have set up what they need."""


def write_video(path: str | PathLike, frames: list[np.ndarray], count: int) -> None:
    """Write a video file of ``count`` frames that repeats some, RGB uint8 (H, W, 3)."""
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'mp4v'), 25.0, (width, height))
    if not writer.isOpened():
        raise OSError(f'cannot write a video to {path}')
    for t in range(count):
        writer.write(cv2.cvtColor(frames[t % len(frames)], cv2.COLOR_RGB2BGR))
    writer.release()


@torch.inference_mode()
def measure_memory(model: GLUS, video: str, expressions: int) -> dict[str, float]:
    """Segment a video file; masks are handed over and not kept.

    Returns:
        ``peak_gb``, the largest resident set (Linux), ``early_gb``, the same of the first
        ``WARMUP`` frames, and on a GPU ``device_peak_gb``.
    """
    reader = VideoFileReader(video)
    session = model.init_session(reader, make_sample(expressions))
    figures = dict(frames=float(len(reader)))
    for number, _ in enumerate(model.segment(session)):
        if number + 1 == WARMUP:
            figures['early_gb'] = resident_gb()
    figures['peak_gb'] = resident_gb()
    if torch.cuda.is_available():
        figures['device_peak_gb'] = torch.cuda.max_memory_allocated() / 1e9
    return figures
