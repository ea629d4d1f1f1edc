"""What can be read off a model's states: features, the truth about them, linear probes."""

import json
import re
from collections import defaultdict
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from mmengine.dataset import BaseDataset, ConcatDataset
from torch import Tensor

from glus_mm.datasets import BaseRefVOSDataset
from glus_mm.models import GLUS
from glus_mm.text.prompt import IMAGE_TOKEN_INDEX
from glus_mm.utils.image import vision_tower_image
from glus_mm.utils.masks import decode_rle
from glus_mm.video import FrameReader

PENALTIES = 10.0 ** np.arange(-1, 6)
DIRECTIONS = ('still', 'left', 'right', 'up', 'down')
# As parts of the side: how far a centroid goes that stays, and one that clearly moves.
STAYS, MOVES = 0.03, 0.15
TOWER, PROJECTOR, SEG = 'vision tower', 'projector', 'seg token'
PLACE, COLOUR, SHAPE, LIT, WAS_LIT, ONE, TWO = (
    'place', 'colour', 'shape', 'lit now', 'lit before', 'direction', 'direction, two frames')


@dataclass(frozen=True)
class ProbeResult:
    """What a probe reads.

    Attributes:
        figure: of classes, the mean over classes of the share that is right, in percent; of
            places, the mean distance in percent of the side.
        chance: the figure without features.
        number: samples.
    """

    figure: float
    chance: float
    number: int


def probe_classes(features: np.ndarray, labels: Sequence[str], videos: Sequence[int],
                  min_count: int = 4) -> ProbeResult | None:
    """Read classes, each with the same weight.

    Args:
        features: (n, d).
        labels: (n).
        videos: (n) the video of each sample: each half of the videos is read by a probe that was
            fitted to the other half.
        min_count: samples of a class that each half has to have; other classes are left out.

    Returns:
        None where there are not two such classes.
    """
    labels, videos = np.asarray(labels), np.asarray(videos)
    half = _halves(videos)
    names = [name for name in sorted(set(labels)) if all(
        ((labels == name) & (half == h)).sum() >= min_count for h in (0, 1))]
    if len(names) < 2:
        return None
    kept = np.isin(labels, names)
    labels, half, videos = labels[kept], half[kept], videos[kept]
    target = np.stack([labels == name for name in names], 1).astype(np.float64)
    weights = (target / target.sum(0)).sum(1) * len(labels) / len(names)
    scores = _read(features[kept], target, weights, half, videos)
    right = scores.argmax(1) == target.argmax(1)
    recall = [right[labels == name].mean() for name in names]
    return ProbeResult(100 * float(np.mean(recall)), 100 / len(names), len(labels))


def probe_places(features: np.ndarray, places: np.ndarray, videos: Sequence[int]
                 ) -> ProbeResult | None:
    """Read places.

    Args:
        features: (n, d).
        places: (n, 2) as parts of the sides.
        videos: (n), see :func:`probe_classes`.

    Returns:
        None with fewer than 8 samples in a half.
    """
    videos = np.asarray(videos)
    half = _halves(videos)
    if min((half == 0).sum(), (half == 1).sum()) < 8:
        return None
    found = _read(features, places, np.ones(len(places)), half, videos)
    guess = np.stack([places[half != h].mean(0) for h in half])

    def error(values: np.ndarray) -> float:
        return 100 * float(np.linalg.norm(values - places, axis=1).mean())

    return ProbeResult(error(found), error(guess), len(places))


def _halves(videos: np.ndarray) -> np.ndarray:
    """0 or 1 for each sample, so that no video is in both halves."""
    order = {video: i for i, video in enumerate(sorted(set(videos.tolist())))}
    return np.array([order[video] % 2 for video in videos.tolist()])


def _read(features: np.ndarray, target: np.ndarray, weights: np.ndarray, half: np.ndarray,
          videos: np.ndarray) -> np.ndarray:
    """What ridge regressions, fitted to one half each, read of the other half: (n, k).

    The penalty is chosen on every third video of the half that is fitted to.
    """
    out = np.empty_like(target, dtype=np.float64)
    for h in (0, 1):
        fit, test = np.flatnonzero(half != h), np.flatnonzero(half == h)
        order = {video: i for i, video in enumerate(sorted(set(videos[fit].tolist())))}
        inner = np.array([order[video] % 3 == 0 for video in videos[fit].tolist()])
        if inner.any() and not inner.all():
            tried = _ridge(features[fit[~inner]], target[fit[~inner]], weights[fit[~inner]],
                           features[fit[inner]])
            errors = [(weights[fit[inner], None] * (values - target[fit[inner]]) ** 2).sum()
                      for values in tried]
            best = int(np.argmin(errors))
        else:
            best = len(PENALTIES) // 2
        out[test] = _ridge(features[fit], target[fit], weights[fit], features[test], best)[0]
    return out


def _ridge(x: np.ndarray, y: np.ndarray, weights: np.ndarray, new: np.ndarray,
           penalty: int | None = None) -> list[np.ndarray]:
    """Weighted ridge regression, for all penalties or one of them; values (m, k) of ``new``."""
    x, new = x.astype(np.float64), new.astype(np.float64)
    share = weights[:, None] / weights.sum()
    mean, middle = (share * x).sum(0), (share * y).sum(0)
    scale = np.sqrt((share * (x - mean) ** 2).sum(0)) + 1e-6
    root = np.sqrt(weights)[:, None]
    # One decomposition serves all penalties.
    u, s, vt = np.linalg.svd(root * (x - mean) / scale, full_matrices=False)
    right = u.T @ (root * (y - middle))
    left = (new - mean) / scale @ vt.T
    chosen = PENALTIES if penalty is None else PENALTIES[penalty:penalty + 1]
    return [left @ ((s / (s ** 2 + value))[:, None] * right) + middle for value in chosen]


@dataclass(frozen=True)
class ObjectTrack:
    """One object of a video.

    Attributes:
        anno_id: its annotation.
        object_id: as the data set's expressions name it.
        masks: (T) bool (H, W); None where it cannot be seen.
        record: its entry of ``objects.json``, where the data set has one.
    """

    anno_id: str
    object_id: str
    masks: list[np.ndarray | None]
    record: dict | None = None

    def centre(self, frame_idx: int) -> np.ndarray | None:
        """Centroid (x, y) of the visible pixels as parts of the sides, or None."""
        mask = self.masks[frame_idx]
        if mask is None:
            return None
        ys, xs = mask.nonzero()
        return np.array([(xs.mean() + 0.5) / mask.shape[1], (ys.mean() + 0.5) / mask.shape[0]])

    def direction(self, frames: Sequence[int]) -> str | None:
        """The way it goes over some frames, one of :data:`DIRECTIONS`, or None where unclear.

        It stays still if its centroid stays within 3 % of the sides. It moves if it covers 15 %
        of a side without turning back, and not half as much of the other side.

        Args:
            frames: ascending positions.
        """
        centres = [centre for t in frames if (centre := self.centre(t)) is not None]
        if len(centres) < 2:
            return None
        centres = np.stack(centres)
        spread, way = np.ptp(centres, axis=0), centres[-1] - centres[0]
        if (spread <= STAYS).all():
            return 'still'
        axis = int(np.abs(way).argmax())
        size = abs(way[axis])
        if size < MOVES or spread[axis] > size + STAYS or spread[1 - axis] > size / 2:
            return None
        return (('left', 'right'), ('up', 'down'))[axis][int(way[axis] > 0)]

    def is_lit(self, frame_idx: int) -> bool | None:
        """Whether it flashes on a frame; None where the data set does not say."""
        if self.record is None:
            return None
        flash = self.record['flash']
        return flash is not None and flash[0] <= frame_idx < flash[1]


def video_of(dataset: BaseDataset | ConcatDataset, index: int) -> tuple[BaseRefVOSDataset, int]:
    """The data set that a video comes from, and its position there."""
    while isinstance(dataset, ConcatDataset):
        child, index = dataset._get_ori_dataset_idx(index)
        dataset = dataset.datasets[child]
    return dataset, index


def read_records(dataset: BaseRefVOSDataset) -> dict[str, list[dict]]:
    """``objects.json`` beside the annotation of a data set, by video; empty if there is none."""
    path = Path(dataset.ann_file).with_name('objects.json')
    return json.loads(path.read_text(encoding='utf-8')) if path.is_file() else {}


def object_tracks(dataset: BaseRefVOSDataset, index: int, reader: FrameReader,
                  records: Sequence[dict] = ()) -> list[ObjectTrack]:
    """The objects that the expressions of a video refer to.

    Args:
        dataset: with masks.
        index: position of the video.
        reader: its frames.
        records: its part of ``objects.json``.

    Returns:
        Each object once.

    Raises:
        ValueError: the data set has no masks.
    """
    info = dataset.get_data_info(index)
    if dataset.masks is None:
        raise ValueError(f'expected a data set with masks, got none of {info["video_id"]!r} '
                         f'({dataset.ann_file})')
    found: dict[str, ObjectTrack] = {}
    for expression in info['expressions']:
        for anno_id, object_id in zip(expression['anno_ids'], expression['object_ids']):
            if anno_id in found:
                continue
            one = dict(expression, anno_ids=(anno_id, ))
            masks = [_visible(dataset.masks.rles(one, t, reader.shape))
                     for t in range(len(reader))]
            found[anno_id] = ObjectTrack(anno_id, object_id, masks,
                                         records[int(object_id)] if records else None)
    return list(found.values())


def _visible(rles: list[dict]) -> np.ndarray | None:
    mask = decode_rle(rles[0]) if rles else None
    return mask if mask is not None and mask.any() else None


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
