"""All inference state of a live source, whose end is not known."""

import math
from collections import defaultdict, deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from glus_mm.models.heads.memory_head import SAM2Features
from glus_mm.models.inference.live_track import LiveTrack
from glus_mm.models.inference.seen_frames import SeenFrames
from glus_mm.models.inference.video_session import MaskPrediction
from glus_mm.models.mllms.base_mllm import SegTokens
from glus_mm.utils.image import check_frame, sam2_image, vision_tower_image
from glus_mm.video import FrameError

if TYPE_CHECKING:
    from glus_mm.models.segmentors.glus import GLUS

# Kept of what was seen; a multiple of any sensible number of context frames.
MAX_SEEN = 32


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
        ValueError: an argument cannot be used.
    """

    def __init__(self, model: 'GLUS', context_frames: Sequence[np.ndarray] | None = None,
                 context_growth: float = 1.25) -> None:
        if not context_growth >= 1:
            raise ValueError(f'context_growth must be at least 1, got {context_growth!r}')
        cfg = model.test_cfg
        if context_frames is not None and len(context_frames) != cfg.num_context:
            raise ValueError(f'expected {cfg.num_context} context frames, as '
                             f'model.test_cfg.num_context says, got {len(context_frames)}')
        self.model = model
        self.context_growth = context_growth
        self.tracks: dict[int, LiveTrack] = {}
        self._num_added = 0
        self._shape: tuple[int, int] | None = None
        self._window: deque[Tensor] = deque(maxlen=cfg.window)
        self._seen: SeenFrames[Tensor] | None = None
        self._context: Tensor | None = None
        self._prefix: Any = None
        self._redraw_at = 1
        if context_frames is None:
            self._seen = SeenFrames(max(MAX_SEEN, 2 * cfg.num_context))
        else:
            self._context = self._stack([
                self._encode_vision(check_frame(frame, f'context frame {i}'))
                for i, frame in enumerate(context_frames)])
        self.num_frames = 0

    def add(self, text: str) -> int:
        """Segment a text from the next frame on.

        Args:
            text: a referring expression.

        Returns:
            The key of its track, never used again.

        Raises:
            ValueError: the text cannot be used.
        """
        self.model.mllm.prompt(text, self.model.test_cfg.num_context, 1)
        key = self._num_added
        self.tracks[key] = LiveTrack(
            text, self.num_frames,
            self.model.mask_head.new_memory(
                self.model.test_cfg.memory_stride, keeps_derived=True))
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
        self._check(frame)
        self._look_at(frame)
        tracks = list(self.tracks.values())
        seg = self._seg_tokens(tracks)
        is_seg = seg.accepted(self.model.test_cfg.seg_threshold)
        pred = self._predict(frame, tracks, seg, is_seg)
        if self.model.existence == 'answer':
            for track, answer in zip(tracks, is_seg.tolist()):
                track.answers = [*track.answers, answer][-self.model.test_cfg.window:]
        self.num_frames += 1
        return pred

    def _check(self, frame: np.ndarray) -> None:
        try:
            check_frame(frame, f'frame {self.num_frames} of the stream')
        except ValueError as error:
            raise FrameError(str(error), self.num_frames) from error
        if self._shape is not None and frame.shape[:2] != self._shape:
            raise FrameError(
                f'frame {self.num_frames} of the stream: expected (H, W) = {self._shape} as the '
                f'frames before, got {frame.shape[:2]}', self.num_frames)
        self._shape = frame.shape[:2]

    def _look_at(self, frame: np.ndarray) -> None:
        """Visual tokens of a frame, for the window and for the context."""
        wanted = self._seen is not None and self._seen.wants_next()
        tokens = self._encode_vision(frame) if self.tracks or wanted else None
        # Only texts look at the window, each from its first frame on.
        if self.tracks:
            self._window.append(tokens)
        if self._seen is None:
            return
        self._seen.add(tokens)
        if self._seen.num_seen >= self._redraw_at:
            chosen = self._seen.choose(self.model.test_cfg.num_context)
            self._context = self._stack([self._seen[t] for t in chosen])
            self._prefix = None
            self._redraw_at = max(self._seen.num_seen + 1,
                                  math.ceil(self._seen.num_seen * self.context_growth))

    def _stack(self, tokens: list[Tensor]) -> Tensor | None:
        return torch.stack(tokens) if tokens else None

    def _encode_vision(self, frame: np.ndarray) -> Tensor:
        """Visual tokens (V, D) of one frame."""
        model = self.model
        image = vision_tower_image(frame, model.mllm.image_size, model.mllm.vision_crop)
        image = torch.from_numpy(image.copy()).permute(2, 0, 1)
        return model.mllm.encode_images(model.data_preprocessor.normalize_vision(image)[None])[0]

    def _seg_tokens(self, tracks: Sequence[LiveTrack]) -> SegTokens:
        """Seg tokens (E, C) of the newest frame.

        Tracks that look at equally many frames are batched.
        """
        cfg = self.model.test_cfg
        zero = self.model.data_preprocessor.sam_mean
        parts = [SegTokens(zero.new_zeros(0, self.model.mask_head.token_dim),
                           torch.zeros(0, dtype=torch.bool, device=zero.device))]
        groups = defaultdict(list)
        for e, track in enumerate(tracks):
            groups[min(cfg.window, self.num_frames - track.start + 1)].append(e)
        for turns, group in groups.items():
            for i in range(0, len(group), cfg.max_expressions):
                parts.append(self._next_seg_tokens(
                    [tracks[e] for e in group[i:i + cfg.max_expressions]], turns))
        # Without the empty ones the type is that of the model.
        parts = parts[1:] or parts
        order = torch.tensor(sum(groups.values(), []), dtype=torch.long).argsort().to(zero.device)
        return SegTokens(*(torch.cat([getattr(part, name) for part in parts])[order]
                           for name in ('tokens', 'is_seg', 'presence')))

    def _next_seg_tokens(self, tracks: Sequence[LiveTrack], turns: int) -> SegTokens:
        """Seg tokens of the newest frame for tracks that look at ``turns`` frames."""
        mllm, number = self.model.mllm, self.model.test_cfg.num_context
        keeps = self.model.test_cfg.window_cache == 'turns'
        if keeps:  # the turn before, which is answered by now, and the new one
            turns = 2
        answers = [None] * len(tracks)
        if self.model.existence == 'answer':  # the first turn of all is expected to have [SEG]
            answers = [track.answers[len(track.answers) - turns + 1:] if track.answers or not keeps
                       else [True] for track in tracks]
        prompts = [mllm.prompt(track.text, number, turns, said)
                   for track, said in zip(tracks, answers)]
        cut = mllm.split_prefix(prompts[0], number)
        visual = torch.stack(list(self._window)[-turns:])
        if self._prefix is None:
            context = visual[:0] if self._context is None else self._context
            self._prefix = mllm.prefill(prompts[0][:cut], context)
        if not keeps:
            return mllm.next_seg_tokens([p[cut:] for p in prompts], visual, self._prefix)
        seg, kept = mllm.next_turns(prompts, number, visual[-1:], self._prefix,
                                    [track.kept for track in tracks], self.model.test_cfg.window)
        for track, state in zip(tracks, kept):
            track.kept = state
        return seg

    def _predict(self, frame: np.ndarray, tracks: Sequence[LiveTrack], seg: SegTokens,
                 is_seg: Tensor) -> MaskPrediction:
        """Decode the tracks that have a ``[SEG]``; the others get an empty mask, no memory."""
        cfg, number, size = self.model.test_cfg, len(tracks), frame.shape[:2]
        tokens = seg.tokens
        side = self.model.mask_head.mask_side
        dtype = torch.promote_types(tokens.dtype, torch.float32)
        logits = tokens.new_full((number, side, side), float('-inf'), dtype=dtype)
        scores = tokens.new_zeros(number, dtype=dtype)
        masks = torch.zeros(number, *size, dtype=torch.bool, device=tokens.device)
        feats = self._sam_features(frame) if is_seg.any() else None
        said = is_seg.nonzero()[:, 0]
        for rows in said.split(cfg.max_expressions) if len(said) else ():
            chosen = [tracks[e] for e in rows.tolist()]
            pred = self.model.decode(
                feats, tokens[rows], [track.memory for track in chosen],
                [self.num_frames - track.start for track in chosen], store=cfg.use_memory)
            logits[rows] = pred.low_res_logits.to(dtype)
            scores[rows] = pred.scores.to(dtype)
            masks[rows] = F.interpolate(
                logits[rows][:, None], size, mode='bilinear', align_corners=False)[:, 0] > 0
        return MaskPrediction(masks, logits, tokens, is_seg, scores, seg.presence)

    def _sam_features(self, frame: np.ndarray) -> SAM2Features:
        """SAM-2's features of a frame, M = 1."""
        model = self.model
        image = sam2_image(frame, model.mask_head.image_size)
        return model.mask_head.extract_feat(model.data_preprocessor.normalize_sam(image)[None])
