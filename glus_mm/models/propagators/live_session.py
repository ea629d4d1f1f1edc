"""All inference state of a live source, whose end is not known."""

import math
from collections.abc import Generator, Sequence
from contextlib import closing
from typing import Any

import numpy as np
import torch
from torch import Tensor

from glus_mm.models.heads import SAM2Features
from glus_mm.models.inference import BoundedCache, MaskPrediction
from glus_mm.models.inference.together import Work, outcome
from glus_mm.models.mllms.base_mllm import SegTokens
from glus_mm.models.propagators.base_propagator import Track
from glus_mm.models.propagators.frame_encoder import FrameEncoder, vision_input
from glus_mm.models.propagators.glus_propagator import GLUSPropagator
from glus_mm.models.segmentors import GLUS
from glus_mm.utils.checked import checked
from glus_mm.utils.frames import clip_centres
from glus_mm.utils.image import check_frame
from glus_mm.video import FrameError

# Kept of what was seen; a multiple of any sensible number of context frames.
MAX_SEEN = 32


class SeenFrames:
    """Keep values of evenly spaced frames of a video that grows, in bounded memory.

    Every ``step``-th frame is kept. Once there are too many, every second one is dropped and
    ``step`` doubles. Memory is bounded, and the kept frames cover all that was seen.

    Args:
        max_size: the most values that are kept, at least 2.

    Raises:
        ValueError: ``max_size`` is below 2.
    """

    def __init__(self, max_size: int) -> None:
        checked(2, max_size=max_size)
        self.max_size = max_size
        self.num_seen = 0
        self.step = 1
        self._values: dict[int, Any] = {}

    def __len__(self) -> int:
        """Number of values that are kept now."""
        return len(self._values)

    def __getitem__(self, frame_idx: int) -> Any:
        """The value of a kept frame."""
        return self._values[frame_idx]

    def wants_next(self) -> bool:
        """Whether the value of the next frame will be kept."""
        return self.num_seen % self.step == 0

    def add(self, value: Any) -> None:
        """Count the next frame."""
        if self.wants_next():
            self._values[self.num_seen] = value
        self.num_seen += 1
        if len(self._values) > self.max_size:
            self.step *= 2
            self._values = {t: v for t, v in self._values.items() if t % self.step == 0}

    def choose(self, number: int) -> list[int]:
        """Kept frames nearest to where an offline run has its context frames.

        That is the centre of each of ``number`` equal clips of what was seen so far. As long as
        at most ``max_size`` frames were seen, the choice is that of an offline run over them.

        Args:
            number: how many; with few frames there are repeats.

        Returns:
            0-based positions.
        """
        return [min(self._values, key=lambda kept: abs(kept - centre))
                for centre in clip_centres(self.num_seen, number)]


class LiveSession:
    """Segment frame by frame, for texts that come and go.

    A text is propagated as :meth:`GLUS.propagate` does from the frame on that it was added at.
    Departure from the paper: its context frames come from the whole video, of which a live source
    has shown only the past. They are drawn from that, evenly, and drawn anew whenever the number
    of frames has grown by ``context_growth``. With ``context_frames`` they stay what they are.
    With ``window_cache='turns'`` a turn that is kept saw the context frames of its own time.

    Memory does not grow with the stream: visual tokens of the window and of at most
    :data:`MAX_SEEN` frames, one prefix, and a bounded memory bank for each text.

    Args:
        model: the model. Of ``model.test_cfg`` use_memory, memory_stride, num_context, window,
            window_cache and max_expressions count; the window advances by one frame.
        context_frames: (Tc) RGB uint8 images of any size that stand for the whole video; None
            draws them from what is seen.
        context_growth: at least 1; 1 draws them anew at every frame.

    Raises:
        ValueError: an argument cannot be used, or ``model.test_cfg.propagator`` is another one.
    """

    def __init__(self, model: GLUS, context_frames: Sequence[np.ndarray] | None = None,
                 context_growth: float = 1.25) -> None:
        if not context_growth >= 1:
            raise ValueError(f'context_growth must be at least 1, got {context_growth!r}')
        if type(model.propagator) is not GLUSPropagator:
            raise ValueError('a live source is propagated by GLUS itself: expected '
                             'model.test_cfg.propagator=None, got '
                             f'{type(model.propagator).__name__}')
        cfg = model.test_cfg
        if context_frames is not None and len(context_frames) != cfg.num_context:
            raise ValueError(f'expected {cfg.num_context} context frames, as '
                             f'model.test_cfg.num_context says, got {len(context_frames)}')
        self.model = model
        self.context_growth = context_growth
        self.tracks: dict[int, Track] = {}
        self.num_frames = 0
        # What a FrameEncoder asks of a session.
        self.prefetch = 0
        self.visual_tokens: BoundedCache[Tensor] = BoundedCache(cfg.window)
        self.sam_features: BoundedCache[SAM2Features] = BoundedCache(1)
        self.prefix: BoundedCache[Any] = BoundedCache(1)
        self.context: dict[int, Tensor] = {}
        self.context_frame_ids: list[int] = []
        self._seen: SeenFrames | None = None
        self._num_added = 0
        self._frame: np.ndarray | None = None
        self._shape: tuple[int, int] | None = None
        self._redraw_at = 1
        if context_frames is None:
            self._seen = SeenFrames(max(MAX_SEEN, 2 * cfg.num_context))
            return
        for t, frame in enumerate(context_frames):
            image = vision_input(model, check_frame(frame, f'context frame {t}'))
            self.context[t] = model.mllm.encode_images(image[None])[0]
        self.context_frame_ids = list(self.context)

    def add(self, text: str) -> int:
        """Segment a text from the next frame on.

        Returns:
            The key of its track, never used again.

        Raises:
            ValueError: the text cannot be used.
        """
        self.model.mllm.prompt(text, self.model.test_cfg.num_context, 1)
        key = self._num_added
        memory = self.model.mask_head.new_memory(self.model.test_cfg.memory_stride)
        self.tracks[key] = Track(key, text, self.num_frames, memory)
        self._num_added += 1
        return key

    @torch.no_grad()
    def step(self, frame: np.ndarray) -> MaskPrediction:
        """Segment the next frame.

        Args:
            frame: RGB uint8 (H, W, 3), of the size of the first one.

        Returns:
            Predictions for the E texts in the order of ``tracks``; E may be 0.

        Raises:
            FrameError: the frame is no such image or has another size. The session stays as it
                was.
        """
        try:
            check_frame(frame, f'frame {self.num_frames} of the stream')
        except ValueError as error:
            raise FrameError(str(error), self.num_frames) from error
        if self._shape is not None and frame.shape[:2] != self._shape:
            raise FrameError(
                f'frame {self.num_frames} of the stream: expected (H, W) = {self._shape} as the '
                f'frames before, got {frame.shape[:2]}', self.num_frames)
        self._shape = frame.shape[:2]
        pred = outcome(self._segment(frame))
        self.num_frames += 1
        return pred

    def frame(self, frame_idx: int) -> np.ndarray:
        """The newest frame, uint8 (H, W, 3), which is the only one that is asked for."""
        return self._frame

    def _segment(self, frame: np.ndarray) -> Generator[Work, Any, MaskPrediction]:
        model, seen, t, tracks = self.model, self._seen, self.num_frames, [*self.tracks.values()]
        self._frame = frame
        with closing(FrameEncoder(model, self, range(t, t + 1))) as features:
            tokens = None
            # Only texts look at the window, each from its first frame on.
            if tracks or seen is not None and seen.wants_next():
                tokens = yield from features.visual_tokens(t)
            if seen is not None:
                seen.add(tokens)
                if seen.num_seen >= self._redraw_at:
                    self.context_frame_ids = seen.choose(model.test_cfg.num_context)
                    self.context = {chosen: seen[chosen] for chosen in self.context_frame_ids}
                    self._redraw_at = max(
                        seen.num_seen + 1, math.ceil(seen.num_seen * self.context_growth))
            if tracks:
                return (yield from GLUSPropagator().advance(
                    model, features, tracks, range(t + 1), t, frame.shape[:2]))
            nothing = model.data_preprocessor.sam_mean.new_zeros(0, model.mask_head.token_dim)
            seg = SegTokens(nothing, torch.zeros_like(nothing[:, 0], dtype=torch.bool))
            return (yield from model.predict_masks(seg, seg.is_seg, frame.shape[:2], None))
