"""What a GLUS holds of the objects of a video, from the vision tower to the seg token."""

import re
from collections import defaultdict
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from glus_mm.models import GLUS
from glus_mm.text.prompt import IMAGE_TOKEN_INDEX
from glus_mm.utils.image import vision_tower_image
from glus_mm.video import FrameReader
from layer_probes.truth import DIRECTIONS, ObjectTrack

TOWER, PROJECTOR, SEG = 'vision tower', 'projector', 'seg token'
PLACE, COLOUR, SHAPE, LIT, WAS_LIT, ONE, TWO = (
    'place', 'colour', 'shape', 'lit now', 'lit before', 'direction', 'direction, two frames')
PROBES = (PLACE, COLOUR, SHAPE, LIT, WAS_LIT, ONE, TWO)
# Where an expression says it itself, nothing can be learned about what was seen.
_SAID = {
    PLACE: re.compile(r'left|right|top|bottom|middle|centre|center|up\b|down\b'),
    LIT: re.compile(r'flash|light'), WAS_LIT: re.compile(r'flash|light'),
    ONE: re.compile(rf'\b({"|".join(DIRECTIONS)})\b|mov(e|ing)|stand')}


@dataclass
class Samples:
    """Features of one stage with the truth of one probe.

    Attributes:
        features: (n) vectors.
        labels: (n) a class, or a place (x, y).
        videos: (n) numbers of the videos.
    """

    features: list[np.ndarray] = field(default_factory=list)
    labels: list = field(default_factory=list)
    videos: list[int] = field(default_factory=list)

    def add(self, feature: np.ndarray, label: object, video: int) -> None:
        """Add one, unless there is no truth."""
        if label is not None:
            self.features.append(feature)
            self.labels.append(label)
            self.videos.append(video)


class FeatureReader:
    """Collect samples of all stages and probes, video by video.

    **Object tokens**: the mean of the tokens of a frame, weighted by how much of the object each of
    them covers, in the vision tower, behind the projector, and behind each layer of the LLM. The
    probe ``direction, two frames`` reads those of two neighbouring context frames side by side; all
    others read one frame. ``direction`` and ``lit before`` (another frame of the context shows the
    object lit, this one does not) are read off query frames, which see the context in the LLM only:
    before it, they are what one picture gives away.

    **Answer**: the state behind each layer at the position that predicts ``[SEG]``, and the seg
    token, for expressions of one object. Expressions whose words say it are left out.

    Args:
        model: a GLUS on a :class:`LlavaMLLM`, whose visual tokens have places.
        num_query: query frames of a video, evenly spread, each in a conversation of its own.

    Attributes:
        samples: by stage and probe.
    """

    def __init__(self, model: GLUS, num_query: int = 3) -> None:
        self.model = model
        self.num_query = num_query
        self.samples: dict[tuple[str, str], Samples] = defaultdict(Samples)

    @property
    def layers(self) -> list[str]:
        """Names of the layers of the LLM."""
        return [f'LLM {i + 1}' for i in range(len(self.model.mllm.llm.layers))]

    @torch.inference_mode()
    def add_video(self, number: int, reader: FrameReader, expressions: Sequence[dict],
                  tracks: Sequence[ObjectTrack]) -> None:
        """Add a video.

        Args:
            number: of the video.
            reader: its frames.
            expressions: as the data set parses them.
            tracks: its objects.
        """
        mllm, length = self.model.mllm, len(reader)
        context = reader.context_frames(self.model.test_cfg.num_context)
        queries = sorted({int((i + 0.5) * length / self.num_query)
                          for i in range(self.num_query)})
        frames = list(dict.fromkeys([*context, *queries]))
        images = np.stack([vision_tower_image(reader.read(t), mllm.image_size, mllm.vision_crop)
                           for t in frames])
        images = self.model.data_preprocessor.normalize_vision(
            torch.from_numpy(images).permute(0, 3, 1, 2))
        patches, visual = mllm._patch_tokens(images), mllm.encode_images(images)
        patches = dict(zip(frames, patches))
        visual = dict(zip(frames, visual))
        covers = {(track.anno_id, t): self._cover(track.masks[t]) for track in tracks
                  for t in frames if track.masks[t] is not None}
        by_id = {track.anno_id: track for track in tracks}
        single = [item for item in expressions if len(item['anno_ids']) == 1]
        for q in queries:
            shown = [*context, q]
            tokens = torch.stack([visual[t] for t in shown])
            for i, item in enumerate(single or expressions[:1]):
                prompt = mllm.prompt(item['exp'], len(context), 1)
                with self._states() as states:
                    seg = mllm.next_seg_tokens([prompt], tokens)
                if i == 0:  # what is shown does not depend on the words behind it
                    at_frames = _at_images(prompt, states, tokens.shape[1], len(shown))
                    self._add_tokens(number, tracks, covers, context, q, patches, visual,
                                     at_frames, with_context=q == queries[0])
                if single:
                    self._add_answer(number, item['exp'], by_id[item['anno_ids'][0]], context, q,
                                     [*(state[-1] for state in states), seg.tokens[0]])

    def _cover(self, mask: np.ndarray) -> tuple[Tensor, Tensor]:
        """How much of each patch, and of each visual token, an object covers."""
        mllm = self.model.mllm
        image = np.repeat(mask[..., None].astype(np.uint8) * 255, 3, 2)
        image = vision_tower_image(image, mllm.image_size, mllm.vision_crop)[..., 0] / 255
        patch = mllm.vision_tower.config.patch_size
        side = mllm.image_size // patch
        share = torch.from_numpy(image).float().view(side, patch, side, patch).mean((1, 3))
        return share.flatten(), mllm._pool(share.view(1, -1, 1))[0, :, 0]

    def _add_tokens(self, number: int, tracks: Sequence[ObjectTrack], covers: dict,
                    context: list[int], query: int, patches: dict, visual: dict,
                    at_frames: list[Tensor], with_context: bool) -> None:
        """Samples of object tokens: of the query frame, and once for a video of the context."""
        shown = [*context, query]
        for track in tracks:
            found = {}
            for place, t in enumerate(shown):
                cover = covers.get((track.anno_id, t))
                if cover is None or not cover[0].any():
                    continue
                found[place] = {
                    TOWER: _mean(patches[t], cover[0]), PROJECTOR: _mean(visual[t], cover[1]),
                    **{name: _mean(states[place], cover[1])
                       for name, states in zip(self.layers, at_frames)}}
                if place < len(context) and not with_context:
                    continue
                self._add(number, found[place], _look(track, t))
            last = len(context)
            if last in found:
                lit = [track.is_lit(t) for t in shown]
                before = any(lit[:-1]) if lit[-1] is False else None
                self._add(number, found[last], {
                    ONE: track.direction(shown), WAS_LIT: None if before is None else str(before)})
            for place in range(len(context) - 1 if with_context else 0):
                if place in found and place + 1 in found:
                    pair = {stage: np.concatenate([found[place][stage], found[place + 1][stage]])
                            for stage in found[place]}
                    self._add(number, pair, {TWO: track.direction(context)})

    def _add_answer(self, number: int, text: str, track: ObjectTrack, context: list[int],
                    query: int, states: Sequence[Tensor]) -> None:
        """Samples of the position that predicts the answer, and of the seg token."""
        if track.masks[query] is None:
            return
        shown = [*context, query]
        truth = _look(track, query)
        lit = [track.is_lit(t) for t in shown]
        truth[WAS_LIT] = str(any(lit[:-1])) if lit[-1] is False else None
        truth[ONE] = track.direction(shown)
        for probe, label in truth.items():
            said = _SAID.get(probe)
            if (said.search(text) if said else isinstance(label, str) and label in text):
                truth[probe] = None
        names = [*(f'answer, {name}' for name in self.layers), SEG]
        self._add(number, {name: state.float().cpu().numpy()
                           for name, state in zip(names, states)}, truth)

    def _add(self, number: int, features: dict[str, np.ndarray], truth: dict) -> None:
        for probe, label in truth.items():
            for stage, feature in features.items():
                self.samples[stage, probe].add(feature, label, number)

    @contextmanager
    def _states(self):
        """The states (L, D) behind each layer of the LLM, of one sequence."""
        states: list[Tensor] = []

        def listen(module, args, output):
            output = output[0] if isinstance(output, tuple) else output
            states.append(output[0].float().cpu())

        handles = [layer.register_forward_hook(listen) for layer in self.model.mllm.llm.layers]
        try:
            yield states
        finally:
            for handle in handles:
                handle.remove()


def _look(track: ObjectTrack, frame: int) -> dict:
    """The truth of one picture of an object."""
    record, lit = track.record or {}, track.is_lit(frame)
    return {PLACE: track.centre(frame), COLOUR: record.get('colour'), SHAPE: record.get('shape'),
            LIT: None if lit is None else str(lit)}


def _mean(tokens: Tensor, weights: Tensor) -> np.ndarray:
    """Weighted mean (D) of tokens (V, D)."""
    tokens = tokens.float().cpu()
    return (weights[:, None] * tokens).sum(0).div(weights.sum()).numpy()


def _at_images(prompt: Sequence[int], states: Sequence[Tensor], per_image: int,
               number: int) -> list[Tensor]:
    """States (images, V, D) of each layer at the tokens of the images."""
    starts, place = [], 0
    for token in prompt:
        if token == IMAGE_TOKEN_INDEX:
            starts.append(place)
        place += per_image if token == IMAGE_TOKEN_INDEX else 1
    if len(starts) != number or any(len(state) != place for state in states):
        raise ValueError(f'expected {number} images and {place} positions in the prompt, got '
                         f'{len(starts)} and {[len(state) for state in states]}')
    return [torch.stack([state[start:start + per_image] for start in starts])
            for state in states]
