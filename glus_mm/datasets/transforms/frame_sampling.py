"""Which frames and expressions of a video make a sample."""

import difflib
from collections.abc import Mapping, Sequence

import numpy as np
from mmcv.transforms import BaseTransform

from glus_mm.registry import TRANSFORMS
from glus_mm.utils.checked import checked
from glus_mm.utils.frames import PROBES, clip_bounds, clip_centres
from glus_mm.video import ReorderedReader

STRATEGIES = ('global_local', 'global', 'local', 'random', 'among')
MAX_FRAMES = 512
"""Of a sample: at 64 tokens a frame as many positions, 32,768, as a large LLM has."""


@TRANSFORMS.register_module()
class SampleContextQueryFrames(BaseTransform):
    """Choose context frames, query frames and expressions.

    The strategies are those of the paper's Tables 1 and 4:

    - ``'global_local'``: one random frame of each of ``num_context`` equal clips as context, and
      ``num_query`` consecutive query frames from a random start (GLUS);
    - ``'global'``: the same context, and one random frame of each of ``num_query`` clips to query;
    - ``'local'``: no context, consecutive query frames; ``num_context`` has no effect;
    - ``'random'``: random context frames and random query frames, each in the order of time;
    - ``'among'``: the same context as ``'global'``, and query frames that are drawn from it (the
      key-frame selector's official training, whose target is one of its reference frames, as it
      is at inference).

    A video shorter than a window works: clips that hold no frame repeat a neighbour, consecutive
    frames repeat the last one, random ones are drawn with replacement.

    When testing, all frames are query frames, and all expressions stay, in their order. The
    context is the model's own matter, ``model.test_cfg.num_context``: a number that is stated here
    too has to be the same, which ``tools/test.py`` checks, and ``context_frame_ids`` are then the
    centres of so many clips (none by default). In which order the frames are gone through is said
    by ``model.test_cfg.propagator``; other strategies than ``'global_local'`` and ``'local'`` are
    refused.

    Required keys: ``frame_names``, ``expressions`` and, unless testing, ``rng``; with
    ``kind_weights`` also ``known_kinds`` where the data set has a list of its kinds.
    Added keys: ``context_frame_ids`` (Tc) and ``query_frame_ids`` (Tq), lists of 0-based
    positions; in training ``video_expressions``, those of before. Modified: ``expressions``.

    Args:
        num_context: number of context frames Tc, at least 0; None is 4 in training.
        num_query: number of query frames Tq in training, at least 1; with the context frames at
            most :data:`MAX_FRAMES`.
        num_expressions: at most this many expressions in training, drawn without replacement.
        strategy: one of the above.
        kind_weights: in training, how readily an expression of each kind is drawn, where the data
            set states kinds; kinds that are not named are never drawn. None draws uniformly. A
            test has all expressions and takes none.
        test_mode: choose for testing.

    Raises:
        ValueError: a number is out of its range; the strategy is unknown, or none of a test; a
            kind with a weight is none of the data set's; or a video has no expression of a kind
            with a weight.
    """

    def __init__(self,
                 num_context: int | None = None,
                 num_query: int = 4,
                 num_expressions: int = 3,
                 strategy: str = 'global_local',
                 kind_weights: Mapping[str, float] | None = None,
                 test_mode: bool = False) -> None:
        if num_context is None:
            num_context = 0 if test_mode else 4
        checked(0, num_context=num_context)
        checked(1, num_query=num_query, num_expressions=num_expressions)
        checked(STRATEGIES, strategy=strategy)
        if num_context + num_query > MAX_FRAMES:
            raise ValueError(f'expected num_context + num_query of at most {MAX_FRAMES} frames, '
                             f'got {num_context!r} + {num_query!r}')
        if test_mode and strategy not in ('global_local', 'local'):
            raise ValueError('a test passes through all frames as model.test_cfg.propagator says: '
                             f'expected no strategy with test_mode=True, got {strategy!r}')
        if test_mode and kind_weights is not None:
            raise ValueError('a test has all expressions of a video: expected no kind_weights with '
                             f'test_mode=True, got {kind_weights}')
        if strategy == 'among' and num_context < 1:
            raise ValueError("strategy='among' draws the query frames from the context: expected "
                             f'num_context of at least 1, got {num_context}')
        self.num_context = 0 if strategy == 'local' else num_context
        self.num_query = num_query
        self.num_expressions = num_expressions
        self.strategy = strategy
        if kind_weights is not None and not all(w > 0 for w in kind_weights.values()):
            raise ValueError(f'kind_weights must be positive, got {kind_weights}')
        self.kind_weights = kind_weights
        self.test_mode = test_mode

    def transform(self, results: dict) -> dict:
        """Choose; see the class."""
        num_frames = len(results['frame_names'])
        if self.test_mode:
            results['context_frame_ids'] = clip_centres(num_frames, self.num_context)
            results['query_frame_ids'] = list(range(num_frames))
            return results
        rng, expressions = results['rng'], results['expressions']
        weights = self._weights(results)
        number = min(self.num_expressions, np.count_nonzero(weights))
        chosen = rng.choice(
            len(expressions), number, replace=False, p=weights / weights.sum())
        results['video_expressions'] = expressions
        results['expressions'] = [expressions[i] for i in chosen]
        context = results['context_frame_ids'] = (
            _random if self.strategy == 'random' else one_per_clip)(
                num_frames, self.num_context, rng)
        results['query_frame_ids'] = self._query(num_frames, context, rng)
        return results

    def _weights(self, results: dict) -> np.ndarray:
        if self.kind_weights is None:
            return np.ones(len(results['expressions']))
        known = results.get('known_kinds')
        unknown = [] if known is None else [kind for kind in self.kind_weights if kind not in known]
        if unknown:  # they would never be drawn, and nobody told
            near = difflib.get_close_matches(str(unknown[0]), sorted(known), 1, cutoff=0.5)
            hint = f'; did you mean {near[0]!r}?' if near else ''
            raise ValueError(
                f'kind_weights: expected kinds of the data set {results.get("dataset")!r}, '
                f'{sorted(known)}, got {unknown[0]!r}{hint}')
        kinds = [expression['kind'] for expression in results['expressions']]
        weights = np.array([self.kind_weights.get(kind, 0.0) for kind in kinds])
        if not weights.any():
            raise ValueError(f"video {results['video_id']!r}: expected an expression of the kinds "
                             f'{sorted(self.kind_weights)}, got {sorted(set(map(str, kinds)))}')
        return weights

    def _query(self, num_frames: int, context: list[int],
               rng: np.random.Generator) -> list[int]:
        if self.strategy == 'among':
            places = _random(len(context), self.num_query, rng)
            return [context[place] for place in places]
        if self.strategy == 'random':
            return _random(num_frames, self.num_query, rng)
        if self.strategy == 'global':
            return one_per_clip(num_frames, self.num_query, rng)
        start = int(rng.integers(max(num_frames - self.num_query, 0) + 1))
        return [min(start + i, num_frames - 1) for i in range(self.num_query)]


def one_per_clip(num_frames: int, number: int, rng: np.random.Generator) -> list[int]:
    """One uniform position in each of ``number`` equal clips; an empty clip takes its start.

    Args:
        num_frames: length of the video.
        number: of clips.
        rng: source of the draws.
    """
    bounds = clip_bounds(num_frames, number)
    return [int(rng.integers(start, max(end, start + 1))) for start, end in bounds]


def _random(num_frames: int, number: int, rng: np.random.Generator) -> list[int]:
    return np.sort(rng.choice(num_frames, number, replace=number > num_frames)).tolist()


@TRANSFORMS.register_module()
class ProbeVideo(BaseTransform):
    """Change a test sample as the probes of motion in PixFoundation 2.0 do (arXiv 2509.02807).

    The truth follows the pictures, so that J&F says what the change costs:

    - ``'still'``: the frame in the middle of the video at every position, and its truth. What is
      right of a motion expression here was found without motion.
    - ``'reverse'``: the video backward, frames with their names and their truth: every picture
      keeps its target, although "moving left" is now said of an object that moves right. A model
      that uses motion loses the expressions about directions and keeps the others.
    - ``'shuffle'``: the context frames in another order, drawn for each video; query frames and
      truth stay.
    - ``'swap'``: each expression is asked for by the words of another one of the video with which
      it shares no object, drawn at random, and scored against its own target: what is right here
      was found without words. Expressions without a target, or without such another one, are left
      out.

    Required keys: ``reader``, ``gt_rles``, ``expressions``, ``frame_names``, ``rng``. Modified: the
    first four. It stands behind the transforms that load, before ``PackRefVOSInputs``.

    Args:
        probe: one of the above.

    Raises:
        ValueError: there is no such probe, or the data set has no masks.
    """

    def __init__(self, probe: str) -> None:
        checked(PROBES, probe=probe)
        self.probe = probe

    def transform(self, results: dict) -> dict:
        """Change; see the class."""
        if 'gt_rles' not in results:
            raise ValueError(f'the probe {self.probe!r} needs masks: expected gt_rles of video '
                             f'{results["video_id"]!r}, got a data set without ground truth')
        if self.probe == 'swap':
            expressions = results['expressions']
            texts = swapped_texts(expressions, results['rng'])
            results['gt_rles'] = [rles for item, rles in zip(expressions, results['gt_rles'])
                                  if item['exp_id'] in texts]
            results['expressions'] = [dict(item, exp=texts[item['exp_id']]) for item in expressions
                                      if item['exp_id'] in texts]
            return results
        frames = list(range(len(results['frame_names'])))
        seed = None
        if self.probe == 'still':
            frames = [len(frames) // 2] * len(frames)
        elif self.probe == 'reverse':
            frames.reverse()
            results['frame_names'] = results['frame_names'][::-1]
        else:
            seed = int(results['rng'].integers(2**32))
        results['reader'] = ReorderedReader(results['reader'], frames, seed)
        results['gt_rles'] = [[rles[t] for t in frames] for rles in results['gt_rles']]
        return results


def swapped_texts(expressions: Sequence[Mapping], rng: np.random.Generator) -> dict[str, str]:
    """For each expression of a video, the words of another one that means none of its objects.

    Args:
        expressions: those of one video, as the data sets have them.
        rng: draws which other one.

    Returns:
        By ``exp_id``; expressions without a target, or without such another one, are left out.
    """
    texts = {}
    for item in expressions:
        own = set(item['object_ids'])
        others = [other['exp'] for other in expressions
                  if own and other['object_ids'] and own.isdisjoint(other['object_ids'])]
        if others:
            texts[item['exp_id']] = others[int(rng.integers(len(others)))]
    return texts
