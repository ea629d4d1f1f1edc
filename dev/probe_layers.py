"""Where a GLUS knows what: linear probes of every stage, on videos they were not fitted to.

For objects of the test set, linear maps read from each stage (vision tower, projector, each layer
of the LLM, seg token):

- place: the centroid; mean error in % of the sides, the smaller the better;
- colour, shape, and whether the object is lit now or was lit on a context frame;
- direction: still, left, right, up or down over the context, from one frame and from two.

All but places are balanced accuracies in %. The table ends with chance levels; --out writes every
number. Place and direction are read off masks, for any data set; colour, shape and flashes need
the ``objects.json`` that MovingShapes writes. Half of the videos each are read by probes that were
fitted to the other half.

**Object tokens**: the mean of the tokens of a frame, weighted by how much of the object each of
them covers, in the vision tower, behind the projector, and behind each layer of the LLM. The
probe ``direction, two frames`` reads those of two neighbouring context frames side by side; all
others read one frame. ``direction`` and ``lit before`` (another frame of the context shows the
object lit, this one does not) are read off query frames, which see the context in the LLM only:
before it, they are what one picture gives away.

**Answer**: the state behind each layer at the position that predicts ``[SEG]``, and the seg token,
for expressions of one object. Expressions whose words say it are left out.

Example::

    python dev/probe_layers.py configs/glus/glus_tiny_moving-shapes.py \\
        checkpoints/glus_tiny_moving-shapes.pth --out outputs/probes.json
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from study import DIRECTIONS, ObjectTrack, StudyVideo, load_study, study_parser, test_set, videos_of
from torch import Tensor

from glus_mm.models import GLUS, LlavaMLLM
from glus_mm.text.prompt import IMAGE_TOKEN_INDEX
from glus_mm.utils.command_line import refuse
from glus_mm.utils.image import vision_tower_image

PENALTIES = 10.0 ** np.arange(-1, 6)
NUM_QUERY = 3
"""Query frames of a video, evenly spread, each in a conversation of its own."""
TOWER, PROJECTOR, SEG = 'vision tower', 'projector', 'seg token'
PROBES = PLACE, COLOUR, SHAPE, LIT, WAS_LIT, ONE, TWO = (
    'place', 'colour', 'shape', 'lit now', 'lit before', 'direction', 'direction, two frames')
# Where an expression says it itself, nothing can be learned about what was seen.
_SAID = {
    PLACE: re.compile(r'left|right|top|bottom|middle|centre|center|up\b|down\b'),
    LIT: re.compile(r'flash|light'), WAS_LIT: re.compile(r'flash|light'),
    ONE: re.compile(rf'\b({"|".join(DIRECTIONS)})\b|mov(e|ing)|stand')}


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


Results = dict[tuple[str, str], ProbeResult]


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
    half = _places(videos) % 2
    names = [name for name in sorted(set(labels)) if all(
        ((labels == name) & (half == h)).sum() >= min_count for h in (0, 1))]
    if len(names) < 2:
        return None
    kept = np.isin(labels, names)
    labels, half, videos = labels[kept], half[kept], videos[kept]
    target = np.stack([labels == name for name in names], 1).astype(np.float64)
    weights = (target / target.sum(0)).sum(1) * len(labels) / len(names)
    right = _read(features[kept], target, weights, half, videos).argmax(1) == target.argmax(1)
    recall = [right[labels == name].mean() for name in names]
    return ProbeResult(100 * float(np.mean(recall)), 100 / len(names), len(labels))


def probe_places(features: np.ndarray, places: np.ndarray, videos: Sequence[int]
                 ) -> ProbeResult | None:
    """Read places (n, 2), parts of the sides; see :func:`probe_classes`.

    Returns:
        None with fewer than 8 samples in a half.
    """
    videos = np.asarray(videos)
    half = _places(videos) % 2
    if min((half == 0).sum(), (half == 1).sum()) < 8:
        return None
    found = _read(features, places, np.ones(len(places)), half, videos)
    guess = np.stack([places[half != h].mean(0) for h in half])
    error, chance = (100 * float(np.linalg.norm(values - places, axis=1).mean())
                     for values in (found, guess))
    return ProbeResult(error, chance, len(places))


def _places(videos: np.ndarray) -> np.ndarray:
    """Position of each sample's video among them all, so that no video is in two parts."""
    return np.unique(videos, return_inverse=True)[1]


def _read(features: np.ndarray, target: np.ndarray, weights: np.ndarray, half: np.ndarray,
          videos: np.ndarray) -> np.ndarray:
    """What ridge regressions, fitted to one half each, read of the other half: (n, k).

    The penalty is chosen on every third video of the half that is fitted to.
    """
    out = np.empty_like(target, dtype=np.float64)
    for h in (0, 1):
        fit, test = np.flatnonzero(half != h), np.flatnonzero(half == h)
        inner, best = _places(videos[fit]) % 3 == 0, len(PENALTIES) // 2
        if inner.any() and not inner.all():
            seen, held = fit[~inner], fit[inner]
            best = int(np.argmin([
                (weights[held, None] * (values - target[held]) ** 2).sum() for values in
                _ridge(features[seen], target[seen], weights[seen], features[held], PENALTIES)]))
        out[test], = _ridge(features[fit], target[fit], weights[fit], features[test],
                            PENALTIES[best:best + 1])
    return out


def _ridge(x: np.ndarray, y: np.ndarray, weights: np.ndarray, new: np.ndarray,
           penalties: np.ndarray) -> list[np.ndarray]:
    """Weighted ridge regression for some penalties; values (m, k) of ``new``."""
    x, new = x.astype(np.float64), new.astype(np.float64)
    share = weights[:, None] / weights.sum()
    mean, middle = (share * x).sum(0), (share * y).sum(0)
    scale = np.sqrt((share * (x - mean) ** 2).sum(0)) + 1e-6
    root = np.sqrt(weights)[:, None]
    # One decomposition serves all penalties.
    u, s, vt = np.linalg.svd(root * (x - mean) / scale, full_matrices=False)
    right, left = u.T @ (root * (y - middle)), (new - mean) / scale @ vt.T
    return [left @ ((s / (s ** 2 + value))[:, None] * right) + middle for value in penalties]


class FeatureReader:
    """Collect samples of all stages and probes, video by video.

    Args:
        model: a GLUS on a :class:`LlavaMLLM`, whose visual tokens have places.

    Attributes:
        samples: by stage and probe (n) of a feature, its label and the number of the video.

    Raises:
        ValueError: the MLLM's visual tokens have no places.
    """

    def __init__(self, model: GLUS) -> None:
        if not isinstance(model.mllm, LlavaMLLM):
            raise ValueError('expected an MLLM whose visual tokens have places in the frame, a '
                             f'LlavaMLLM, got {type(model.mllm).__name__}')
        self.model = model
        self.layers = [f'LLM {i + 1}' for i in range(len(model.mllm.llm.layers))]
        self.samples: dict[tuple[str, str], list[tuple]] = defaultdict(list)

    @torch.inference_mode()
    def add_video(self, video: StudyVideo) -> None:
        """Add a video.

        Raises:
            ValueError: the data set has no masks.
        """
        mllm, reader, tracks = self.model.mllm, video.reader, video.tracks
        context = reader.context_frames(self.model.test_cfg.num_context)
        queries = sorted({int((i + 0.5) * len(reader) / NUM_QUERY) for i in range(NUM_QUERY)})
        frames = list(dict.fromkeys([*context, *queries]))
        images = np.stack([vision_tower_image(reader.read(t), mllm.image_size, mllm.vision_crop)
                           for t in frames])
        images = self.model.data_preprocessor.normalize_vision(
            torch.from_numpy(images).permute(0, 3, 1, 2))
        patches = dict(zip(frames, mllm._patch_tokens(images)))
        visual = dict(zip(frames, mllm.encode_images(images)))
        covers = {(track.anno_id, t): self._cover(track.masks[t]) for track in tracks
                  for t in frames if track.masks[t] is not None}
        by_id = {track.anno_id: track for track in tracks}
        expressions = video.info['expressions']
        single = [item for item in expressions if len(item['anno_ids']) == 1]
        for q in queries:
            shown = [*context, q]
            tokens = torch.stack([visual[t] for t in shown])
            for i, item in enumerate(single or expressions[:1]):
                prompt = mllm.prompt(item['exp'], len(context), 1)
                with self._states() as states:
                    seg = mllm.next_seg_tokens([prompt], tokens)
                if i == 0:  # what is shown does not depend on the words behind it
                    at_images = _at_images(prompt, states, tokens.shape[1], len(shown))
                    for track in tracks:
                        found = {place: {
                            TOWER: _mean(patches[t], cover[0]),
                            PROJECTOR: _mean(visual[t], cover[1]),
                            **{name: _mean(at[place], cover[1])
                               for name, at in zip(self.layers, at_images)}}
                            for place, t in enumerate(shown)
                            if (cover := covers.get((track.anno_id, t))) is not None
                            and cover[0].any()}
                        self._add_tokens(video.number, track, shown, found, q == queries[0])
                if single:
                    states = [*(state[-1] for state in states), seg.tokens[0]]
                    self._add_answer(video.number, item['exp'], by_id[item['anno_ids'][0]],
                                     shown, states)

    def _cover(self, mask: np.ndarray) -> tuple[Tensor, Tensor]:
        """How much of each patch, and of each visual token, an object covers."""
        mllm = self.model.mllm
        image = np.repeat(mask[..., None].astype(np.uint8) * 255, 3, 2)
        image = vision_tower_image(image, mllm.image_size, mllm.vision_crop)[..., 0] / 255
        patch = mllm.vision_tower.config.patch_size
        side = mllm.image_size // patch
        share = torch.from_numpy(image).float().view(side, patch, side, patch).mean((1, 3))
        return share.flatten(), mllm._pool(share.view(1, -1, 1))[0, :, 0]

    def _add_tokens(self, number: int, track: ObjectTrack, shown: list[int],
                    found: dict[int, dict[str, np.ndarray]], with_context: bool) -> None:
        """Samples of object tokens: of the query frame, and once for a video of the context."""
        last = len(shown) - 1
        for place, features in found.items():
            if place == last or with_context:
                self._add(number, features, _look(track, shown[place]))
        if last in found:
            self._add(number, found[last], _over_time(track, shown))
        for place in range(last - 1 if with_context else 0):
            if place in found and place + 1 in found:
                pair = {stage: np.concatenate([found[place][stage], found[place + 1][stage]])
                        for stage in found[place]}
                self._add(number, pair, {TWO: track.direction(shown[:-1])})

    def _add_answer(self, number: int, text: str, track: ObjectTrack, shown: list[int],
                    states: Sequence[Tensor]) -> None:
        """Samples of the position that predicts the answer, and of the seg token."""
        if track.masks[shown[-1]] is None:
            return
        truth = {**_look(track, shown[-1]), **_over_time(track, shown)}
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
                if label is not None:
                    self.samples[stage, probe].append((feature, label, number))

    @contextmanager
    def _states(self) -> Iterator[list[Tensor]]:
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

    def results(self) -> Results:
        """Fit and read all probes for which there are samples enough."""
        results = {}
        for (stage, probe), samples in self.samples.items():
            features, labels, videos = zip(*samples)
            read = probe_places if probe == PLACE else probe_classes
            result = read(np.stack(features), np.stack(labels), videos)
            if result is not None:
                results[stage, probe] = result
        return results


def _look(track: ObjectTrack, frame: int) -> dict:
    """The truth of one picture of an object."""
    record, lit = track.record or {}, track.is_lit(frame)
    return {PLACE: track.centre(frame), COLOUR: record.get('colour'), SHAPE: record.get('shape'),
            LIT: None if lit is None else str(lit)}


def _over_time(track: ObjectTrack, shown: Sequence[int]) -> dict:
    """The truth of an object on the last frame that the frames before it tell."""
    lit = [track.is_lit(t) for t in shown]
    return {WAS_LIT: str(any(lit[:-1])) if lit[-1] is False else None,
            ONE: track.direction(shown)}


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


def format_markdown(results: Results, layers: list[str]) -> str:
    """Lay the figures out as a Markdown table, with what is chance at the end."""
    probes = [probe for probe in PROBES if any(key[1] == probe for key in results)]
    names = [f'{probe}, error in %' if probe == PLACE else probe for probe in probes]
    lines = ['| stage | ' + ' | '.join(names) + ' |', '|---|' + '---:|' * len(probes)]
    answers = [f'answer, {name}' for name in layers]
    rows = [(stage, stage, 'figure', 1) for stage in [TOWER, PROJECTOR, *layers, *answers, SEG]]
    rows += [(f'{title}, {what}', stage, name, digits)
             for what, stage in (('object tokens', PROJECTOR), ('answers', SEG))
             for title, name, digits in (('chance', 'chance', 1), ('samples', 'number', 0))]
    for title, stage, name, digits in rows:
        cells = [f'{getattr(results[stage, probe], name):.{digits}f}'
                 if (stage, probe) in results else '-' for probe in probes]
        lines.append(f'| {title} | ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines)


def main() -> None:
    """Read, fit, print the table."""
    parser = study_parser(__doc__)
    args = parser.parse_args()
    with refuse(parser):
        cfg, model = load_study(args)
        features = FeatureReader(model)
        for video in videos_of(test_set(cfg), args.videos):
            features.add_video(video)
    results = features.results()
    print(format_markdown(results, features.layers))
    if args.out is not None:
        Path(args.out).write_text(json.dumps([
            dict(stage=stage, probe=probe, **asdict(result))
            for (stage, probe), result in results.items()], indent=1) + '\n', encoding='utf-8')


if __name__ == '__main__':
    main()
