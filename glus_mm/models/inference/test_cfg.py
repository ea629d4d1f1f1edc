"""The settings of inference, checked when the model is built."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from glus_mm.utils.checked import checked
from glus_mm.utils.quantize import LLM_BITS

WINDOW_CACHE = ('none', 'turns')
# How torch's allocator for the CPU begins; it raises a plain RuntimeError.
_ON_THE_CPU = ("DefaultCPUAllocator: can't allocate memory", 'DefaultCPUAllocator: not enough')


@dataclass(frozen=True)
class GLUSTestCfg:
    """``model.test_cfg``; the defaults are the paper's (section B.3).

    Attributes:
        use_memory: False decodes every frame without the memory bank.
        memory_stride: distance of the older memories.
        seg_threshold: the least probability of ``[SEG]`` with which a frame gets a mask, 0..1.
            None, as published: it gets one where ``[SEG]`` is the most likely token.
            ``tools/analysis_tools/calibration.py`` finds a value.
        num_context: context frames Tc, the centres of equal clips.
        window: query frames in the sliding window.
        window_stride: frames that the window advances at a time, at most ``window``. 1 is the
            paper's. With s the MLLM runs once for s frames, and these see window - s to
            window - 1 frames before them instead of window - 1: an approximation, see
            docs/speed.md.
        window_cache: what stays of the window from one frame to the next. ``'none'``: nothing, as
            published: its turns are run anew for each frame. ``'turns'``: keys and values of the
            last ``window`` turns, so that only the new turn is run. Exact for a model that was
            trained with ``model.train_cfg.attention='window'``, an approximation for others, see
            docs/speed.md.
        max_expressions: expressions that are batched; more are worked off in chunks.
        max_tracks: expressions of several videos that are worked on together, each video with its
            own state: lists of videos and batches of a test go through the model as many at once
            as there is room for, in batches of at most ``max_expressions``. A video that has more
            goes alone, so that 1 takes them one by one. It needs a propagator that
            says what it waits for, as :class:`GLUSPropagator` does.
        feature_cache: frames whose features are kept from the forward for the backward pass,
            where expressions have key frames. As many as lie between the first and the last key
            frame, both included, make every frame be encoded once.
        prefetch: frames that are read, in one thread, and resized and normalised, in another one,
            ahead; 0 does without threads.
        compile: run the image encoders, the LLM, memory attention, memory encoder and mask decoder
            through ``torch.compile``, the LLM with its sequences padded to steps of length.
        llm_bits: 8 or 4 hold the linear layers of the LLM in so many bits, through bitsandbytes,
            once the weights are loaded; 16 leaves them as they are. The model must have nothing to
            train there (``mllm.trainable=[]``).
        selector: config of a :class:`BaseKeyFrameSelector`; the first frame by default. One with
            weights names them as ``checkpoint``, as they are no part of those of GLUS.
        propagator: config of a :class:`BasePropagator`; :class:`GLUSPropagator` by default.
    """

    use_memory: bool = True
    memory_stride: int = 3
    seg_threshold: float | None = None
    num_context: int = 4
    window: int = 4
    window_stride: int = 1
    window_cache: str = 'none'
    max_expressions: int = 16
    max_tracks: int = 1
    feature_cache: int = 32
    prefetch: int = 2
    compile: bool = False
    llm_bits: int = 16
    selector: dict | None = None
    propagator: dict | None = None

    def __post_init__(self) -> None:
        where = 'model.test_cfg.'
        checked(0, where, num_context=self.num_context, prefetch=self.prefetch)
        checked(1, where, memory_stride=self.memory_stride, window=self.window,
                window_stride=self.window_stride, max_expressions=self.max_expressions,
                max_tracks=self.max_tracks, feature_cache=self.feature_cache)
        checked(bool, where, use_memory=self.use_memory, compile=self.compile)
        checked(LLM_BITS, where, llm_bits=self.llm_bits)
        checked(WINDOW_CACHE, where, window_cache=self.window_cache)
        threshold = self.seg_threshold
        if threshold is not None and not (
                isinstance(threshold, (int, float)) and 0 <= threshold <= 1):
            raise ValueError('model.test_cfg.seg_threshold must be None or a number in 0..1, '
                             f'got {threshold!r}')
        if self.window_stride > self.window:
            raise ValueError(f'model.test_cfg.window_stride must be at most window, which is '
                             f'{self.window}, got {self.window_stride!r}')
        if self.window_cache == 'turns' and self.window_stride > 1:
            raise ValueError("model.test_cfg.window_cache='turns' runs the turn of each frame "
                             f'once: expected window_stride=1, got {self.window_stride!r}')


@contextmanager
def explain_out_of_memory(cfg: GLUSTestCfg, num_expressions: int) -> Iterator[None]:
    """Errors of the allocators in this block say which options to lower.

    Args:
        cfg: the settings.
        num_expressions: how many expressions are segmented.

    Raises:
        torch.OutOfMemoryError: in place of the allocator's own error, which is its cause.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise torch.OutOfMemoryError(_advice(cfg, num_expressions, error)) from error
    except RuntimeError as error:
        if not any(text in str(error) for text in _ON_THE_CPU):
            raise
        raise torch.OutOfMemoryError(_advice(cfg, num_expressions, error)) from error


def _advice(cfg: GLUSTestCfg, num_expressions: int, error: RuntimeError) -> str:
    batch = min(num_expressions, cfg.max_expressions)
    steps = []
    if batch > 1:
        steps.append(f'model.test_cfg.max_expressions below {batch} (now {cfg.max_expressions}; '
                     'more expressions are worked off in chunks, with the same masks)')
    if cfg.max_tracks > 1:
        steps.append(f'model.test_cfg.max_tracks (now {cfg.max_tracks}; fewer videos at once)')
    steps += [f'model.test_cfg.{name} (now {getattr(cfg, name)}; other masks)'
              for name in ('window', 'num_context') if getattr(cfg, name) > 1]
    first = str(error).splitlines()[0] if str(error) else type(error).__name__
    return (f'the memory does not suffice for {batch} expressions at a time; lower '
            f'{", then ".join(steps) or "the size of the model"}. {first}')
