"""GLUS itself: the MLLM prompts SAM-2 on every frame, forward and backward from the key frame."""

from collections import defaultdict
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

import torch
from torch import Tensor

from glus_mm.models.heads import HeadOutput
from glus_mm.models.inference import MaskPrediction, VideoSession
from glus_mm.models.inference.together import Steps, Work, alone
from glus_mm.models.mllms.base_mllm import SegTokens
from glus_mm.models.propagators.base_propagator import BasePropagator, Track
from glus_mm.models.propagators.frame_encoder import FrameEncoder
from glus_mm.models.segmentors import GLUS
from glus_mm.registry import MODELS


@MODELS.register_module()
class GLUSPropagator(BasePropagator):
    """A seg token for every frame, with memory of the frames before (paper, sections 4.1, 4.2).

    From its key frame an expression is propagated forward to the end and backward to the start,
    each with an empty memory bank and a new conversation, as the official code does.

    All expressions go through the video together, in one pass forward and one backward, each
    from its key frame on, so that they share what is computed of a frame.

    Attributes:
        source: what gives a pass the features of its frames.
    """

    source: type[FrameEncoder] = FrameEncoder

    def segment(self, model: GLUS, session: VideoSession, key_frames: Sequence[int]
                ) -> Iterator[tuple[int, list[int], MaskPrediction]]:
        """See :meth:`BasePropagator.segment`."""
        return alone(self.steps(model, session, key_frames))

    @torch.no_grad()
    def steps(self, model: GLUS, session: VideoSession, key_frames: Sequence[int]) -> Steps:
        """See :meth:`BasePropagator.steps`."""
        keys = dict(enumerate(key_frames))
        backward = {e: key for e, key in keys.items() if key > 0}
        first = min(key_frames)
        session.keep_features(range(first, max(key_frames) + 1) if backward else range(0))
        yield from self.single_pass(model, session, keys, range(first, len(session.reader)))
        if backward:
            yield from self.single_pass(model, session, backward,
                                  range(max(backward.values()), -1, -1), skip_starts=True)

    def propagate(self, model: GLUS, session: VideoSession, exp_indices: Sequence[int],
                  start: int = 0, reverse: bool = False
                  ) -> Iterator[tuple[int, MaskPrediction]]:
        """See :meth:`GLUS.propagate`."""
        frames = range(start, -1, -1) if reverse else range(start, len(session.reader))
        steps = self.single_pass(model, session, dict.fromkeys(exp_indices, start), frames)
        with closing(alone(steps)) as predictions:
            for t, _, pred in predictions:
                yield t, pred

    @torch.no_grad()
    def single_pass(
            self, model: GLUS, session: VideoSession, starts: dict[int, int], frames: range,
            given: Mapping[int, Sequence[tuple[Tensor, Tensor, Tensor]]] | None = None,
            clicks: Mapping[tuple[int, int], tuple[Tensor, Tensor]] | None = None,
            skip_starts: bool = False) -> Steps:
        """Go through the frames once, in one direction.

        Args:
            session: state of the video.
            starts: expression to the frame where it joins in.
            frames: positions; the first is the first of ``starts``.
            given: what the MLLM said in an earlier pass, which then does not run: expression to
                (T) seg token (C), whether it is a ``[SEG]``, and its probability.
            clicks: expression and frame to clicks of a user, positions (K, 2) as (x, y) in pixels
                of the mask head's input and labels (K), see :meth:`MemoryHead.forward`. A
                clicked frame gets a mask whatever the MLLM says.
            skip_starts: the masks of ``starts`` are there, from the other direction.

        Yields:
            ``(frame_idx, exp_indices, prediction)`` for the expressions that have joined in, and
            the work that it takes.
        """
        stride = model.test_cfg.memory_stride
        tracks = [Track(e, session.expressions[e], start, model.mask_head.new_memory(stride))
                  for e, start in starts.items()]
        with closing(self.source(model, session, frames, vision=given is None)) as features:
            yield from features.open()
            for place, t in enumerate(frames):
                active = [track for track in tracks if track.step or track.start == t]
                if given is not None:
                    for track in active:
                        track.tokens.append(given[track.expression][t])
                pred = yield from self.advance(
                    model, features, active, frames, place, session.reader.shape, clicks)
                new = [i for i, track in enumerate(active) if not skip_starts or track.start != t]
                if new:
                    yield (t, [active[i].expression for i in new],
                           pred if len(new) == len(active) else pred.select(new))

    def advance(self, model: GLUS, features: FrameEncoder, tracks: Sequence[Track],
                frames: range, place: int, size: tuple[int, int],
                clicks: Mapping[tuple[int, int], tuple[Tensor, Tensor]] | None = None
                ) -> Generator[Work, Any, MaskPrediction]:
        """Bring tracks one frame on: their seg tokens, where they have none yet, and their masks.

        Args:
            features: of the frames.
            tracks: N of them, at least one; they are changed.
            frames: positions of the pass, in order.
            place: which of them comes.
            size: (H, W) of a frame.
            clicks: see :meth:`single_pass`.

        Yields:
            The work that it takes.

        Returns:
            The masks of the N tracks. A track without ``[SEG]`` and clicks stores no memory.
        """
        lacking = [track for track in tracks if not track.tokens]
        yield from self._fill_tokens(model, features, lacking, frames, place)
        seg = SegTokens(*(torch.stack(rows) for rows in
                          zip(*[track.tokens.popleft() for track in tracks])))
        is_seg = seg.is_seg
        points = _points(clicks, tracks, frames[place], is_seg.device) if clicks else None
        if points is not None:
            is_seg = is_seg | (points[1] >= 0).any(1)

        def decode(rows: Tensor) -> Generator[Work, Any, HeadOutput]:
            chosen = [tracks[i] for i in rows.tolist()]
            return features.decode(
                frames[place], seg.tokens[rows], [track.memory for track in chosen],
                [track.step for track in chosen],
                None if points is None else tuple(values[rows] for values in points))

        pred = yield from model.predict_masks(seg, is_seg, size, decode)
        for track in tracks:
            track.step += 1
        return pred

    def _fill_tokens(self, model: GLUS, features: FrameEncoder, tracks: Sequence[Track],
                     frames: range, place: int) -> Generator[Work, Any, None]:
        """Run the MLLM on the windows of tracks, or their new turn on top of those that they keep.

        Those whose window has the same frames are batched. Where answers enter the history, those
        of a block of frames are not known before it is run: each is taken to be the last one, and
        the block ends at the first frame that answers otherwise.
        """
        cfg, turns = model.test_cfg, model.test_cfg.window_cache == 'turns'
        new, groups = min(cfg.window_stride, len(frames) - place), defaultdict(list)
        for track in tracks:
            groups[0 if turns else min(track.step, cfg.window - new)].append(track)
        for old, group in groups.items():
            window = frames[place - old:place + new]
            for i in range(0, len(group), cfg.max_expressions):
                chunk = group[i:i + cfg.max_expressions]
                prompts = []
                for track in chunk:
                    answers = track.answers[len(track.answers) - old:]
                    # A turn that is kept ends with the answer that it got.
                    prompts.append([model.mllm.prompt(
                        track.text, cfg.num_context, old + ahead + 1, None
                        if model.existence == 'mask' else answers + track.answers[-1:] * ahead)
                        for ahead in ([1] if turns else range(new))])
                seg, kept = yield from features.seg_tokens(
                    prompts, window, [track.kept for track in chunk] if turns else None)
                is_seg = seg.accepted(cfg.seg_threshold)
                for track, state, *rows in zip(chunk, kept, seg.tokens, is_seg, seg.presence):
                    track.kept, made = state, list(zip(*rows))
                    if model.existence == 'answer':
                        said, likely = rows[1].tolist(), track.answers[-1]
                        number = next((i for i, answer in enumerate(said, 1) if answer != likely),
                                      len(said))
                        track.answers = (track.answers + said[:number])[-cfg.window:]
                        made = made[:number]
                    track.tokens.extend(made)


def _points(clicks: Mapping[tuple[int, int], tuple[Tensor, Tensor]], tracks: Sequence[Track],
            frame_idx: int, device: torch.device) -> tuple[Tensor, Tensor] | None:
    """The clicks on a frame, of all tracks; None where there are none."""
    found = {i: clicks[key] for i, track in enumerate(tracks)
             if (key := (track.expression, frame_idx)) in clicks}
    if not found:
        return None
    most = max(len(labels) for _, labels in found.values())
    coords, labels = torch.zeros(len(tracks), most, 2), torch.full((len(tracks), most), -1)
    for i, (places, kinds) in found.items():
        coords[i, :len(kinds)], labels[i, :len(kinds)] = places, kinds
    return coords.to(device), labels.to(device)
