"""Referring expressions of a MovingShapes scene, verified on the simulated truth."""
import dataclasses
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from .scene import COLOURS, DIRECTIONS, SHAPES, VARIANTS, Scene, Variant, motion_of

KINDS = ('appearance', 'position', 'motion', 'event', 'look-alike', 'group', 'no-target')
# Those that only variants have.
VARIANT_KINDS = ('late',)
MAX_EXPRESSIONS = 10
# Rare kinds choose first; appearance, the most common one, fills what is left and prefers objects
# that have expressions of another kind already, so that objects get several.
_ORDER = ('late', 'look-alike', 'event', 'motion', 'position', 'group', 'no-target', 'appearance')
# Least distance between centres, as a part of the side.
POSITION_MARGIN = 0.08
START_MARGIN = 0.30
SIZE_RATIO = 1.3
# name -> (axis of (x, y), sign of the extreme)
_SIDES = {'left': (0, -1), 'right': (0, 1), 'top': (1, -1), 'bottom': (1, 1)}
_POSITION_TEXTS = {
    'left': ('the leftmost {}', 'the {} on the far left'),
    'right': ('the rightmost {}', 'the {} on the far right'),
    'top': ('the topmost {}', 'the {} at the very top'),
    'bottom': ('the bottommost {}', 'the {} at the very bottom'),
}
_START_TEXTS = {
    'left': ('the {} that starts on the left', 'the {} first seen on the left'),
    'right': ('the {} that starts on the right', 'the {} first seen on the right'),
    'top': ('the {} that starts at the top', 'the {} first seen at the top'),
    'bottom': ('the {} that starts at the bottom', 'the {} first seen at the bottom'),
}
_EVENT_TEXTS = ('the {} that flashes', 'the {} that lights up', 'the flashing {}')
_STILL_TEXTS = ('the {} that stays still', 'the {} standing still')
_MOTION_TEXTS = ('the {} moving {}', 'the {} that moves {}')
# Every word of an expression.
_WORDS = frozenset(' '.join([
    'the big small shape that is all both shapes', *COLOURS, *SHAPES, *(f'{s}s' for s in SHAPES),
    *DIRECTIONS, *_EVENT_TEXTS, *_STILL_TEXTS, *_MOTION_TEXTS,
    *(text for texts in (*_POSITION_TEXTS.values(), *_START_TEXTS.values()) for text in texts),
]).split()) - {'{}'}


@dataclass(frozen=True)
class Expression:
    """One referring expression.

    Args:
        text: the words.
        kind: one of ``KINDS`` or ``VARIANT_KINDS``.
        targets: indices of the objects it refers to, ascending.
        weight: how readily it is kept; relative to others of its kind.
    """
    text: str
    kind: str
    targets: tuple[int, ...]
    weight: float = 1.0


def unknown_words(texts: Iterable[str]) -> list[str]:
    """Words that no expression has, which a model of MovingShapes was therefore never taught.

    Returns:
        In lower case, in their order, each once.
    """
    words = re.findall(r"[^\W_]+(?:['’-][^\W_]+)*", ' '.join(texts).lower())
    return [word for word in dict.fromkeys(words) if word not in _WORDS]


def sample_expressions(scene: Scene, rng: np.random.Generator,
                       variant: Variant = VARIANTS['default']) -> list[Expression]:
    """Keep up to ``MAX_EXPRESSIONS`` of all valid expressions, balanced over the kinds.

    Args:
        scene: the truth.
        rng: owned randomness.
        variant: how many of each kind. Defaults to the default's.

    Returns:
        In random order, no text twice.
    """
    candidates = enumerate_expressions(scene)
    kept: list[Expression] = []
    uses = np.zeros(len(scene.objects))
    for kind in _ORDER:
        if not variant.quotas.get(kind):
            continue
        of_kind = [item for item in candidates if item.kind == kind]
        if kind == 'position':
            # All but one, drawn, of those among the objects of one shape are dropped.
            others = [item for item in of_kind if 'shape' not in item.text]
            of_kind = [item for item in of_kind if 'shape' in item.text]
            if others:
                of_kind.append(others[int(rng.integers(len(others)))])
        room = min(variant.quotas[kind], MAX_EXPRESSIONS - len(kept))
        chosen = _pick(rng, of_kind, room, uses if kind == 'appearance' else None)
        for item in chosen:
            uses[list(item.targets)] += 1
        kept.extend(chosen)
    return [kept[i] for i in rng.permutation(len(kept))]


def _pick(rng: np.random.Generator, candidates: list[Expression], count: int,
          uses: np.ndarray | None = None) -> list[Expression]:
    """Weighted draw without replacement that goes round the targets before it repeats one."""
    scores = {item: rng.random() ** (1.0 / item.weight) for item in candidates}
    if uses is not None:
        for item in candidates:
            scores[item] += 0.25 * min(1.0, uses[item.targets[0]])
    chosen: list[Expression] = []
    while len(chosen) < count and len(chosen) < len(candidates):
        seen = [item.targets for item in chosen]
        best = max((item for item in candidates if item not in chosen),
                   key=lambda item: scores[item] - 2.0 * seen.count(item.targets))
        chosen.append(best)
    return chosen


def enumerate_expressions(scene: Scene) -> list[Expression]:
    """All expressions of all kinds that are true and unambiguous in a scene.

    Returns:
        In a fixed order.
    """
    nouns = _nouns(scene)
    makers: tuple[Callable, ...] = (_appearance, _position, _motion, _event, _look_alike, _group,
                                    _no_target)
    found: list[Expression] = []
    for maker in makers:
        found.extend(maker(scene, nouns))
    # Names of objects that enter late are a kind of their own; what else is said of them goes.
    late = [any(scene.objects[i].enters for i in item.targets) for item in found]
    return [dataclasses.replace(item, kind='late') if is_late else item
            for item, is_late in zip(found, late) if not is_late or item.kind == 'appearance']


def _nouns(scene: Scene) -> dict[str, tuple[int, ...]]:
    """Noun phrase -> the objects it names: 'shape', 'circle', 'red shape', 'red circle'."""
    nouns: dict[str, tuple[int, ...]] = {}
    for i, item in enumerate(scene.objects):
        for noun in ('shape', item.shape, f'{item.colour} shape', f'{item.colour} {item.shape}'):
            nouns[noun] = nouns.get(noun, ()) + (i,)
    return nouns


def _specific(noun: str) -> float:
    """Weight of a noun where several objects share it: the fewer it leaves, the smaller."""
    if noun == 'shape':
        return 1.5
    return 1.0 if noun in SHAPES else 0.5


def _appearance(scene: Scene, nouns: dict[str, tuple[int, ...]]) -> list[Expression]:
    found = []
    for noun, members in nouns.items():
        if len(members) == 1 and noun != 'shape':
            colour, _, shape = noun.rpartition(' ')
            full = bool(colour) and shape != 'shape'
            found.append(Expression(f'the {noun}', 'appearance', members, 2.0 if full else 1.0))
            if full:
                text = f'the {shape} that is {colour}'
                found.append(Expression(text, 'appearance', members, 1.0))
        elif len(members) > 1 and noun != 'shape':
            order = sorted(members, key=lambda i: scene.objects[i].diameter)
            sizes = [scene.objects[i].diameter for i in order]
            if sizes[-1] >= SIZE_RATIO * sizes[-2]:
                found.append(Expression(f'the big {noun}', 'appearance', (order[-1],), 1.5))
            if sizes[1] >= SIZE_RATIO * sizes[0]:
                found.append(Expression(f'the small {noun}', 'appearance', (order[0],), 1.5))
    return found


def _extreme(points: np.ndarray, side: float, sign: int, margin: float) -> int:
    """Index of the object that is extreme by the margin on every frame of (M, T), or -1."""
    values = sign * points
    best = int(values[:, 0].argmax())
    others = np.delete(values, best, axis=0).max(axis=0)
    return best if (values[best] - others >= margin * side).all() else -1


def _position(scene: Scene, nouns: dict[str, tuple[int, ...]]) -> list[Expression]:
    found = []
    for noun, members in nouns.items():
        if len(members) < 2 or (noun != 'shape' and noun not in SHAPES):
            continue
        centres = np.stack([scene.objects[i].centres for i in members])
        for side, (axis, sign) in _SIDES.items():
            best = _extreme(centres[..., axis], scene.size[1 - axis], sign, POSITION_MARGIN)
            if best < 0:
                continue
            # "the star on the far left" need not be the leftmost of the stars: plain nouns only.
            texts = _POSITION_TEXTS[side] if noun == 'shape' else _POSITION_TEXTS[side][:1]
            for text, weight in zip(texts, (1.0, 0.6)):
                weight = weight if noun == 'shape' else 0.35
                found.append(Expression(text.format(noun), 'position', (members[best],), weight))
    return found


def _motion(scene: Scene, nouns: dict[str, tuple[int, ...]]) -> list[Expression]:
    motions = [motion_of(item.centres, scene.size) for item in scene.objects]
    found = []
    for noun, members in nouns.items():
        names = [motions[i] for i in members]
        if len(members) < 2 or None in names:
            continue
        for i, name in zip(members, names):
            if names.count(name) > 1:
                continue
            texts = _STILL_TEXTS if name == 'still' else _MOTION_TEXTS
            for text, weight in zip(texts, (1.0, 0.4)):
                found.append(Expression(text.format(noun, name), 'motion', (i,),
                                        weight * _specific(noun)))
    return found


def _event(scene: Scene, nouns: dict[str, tuple[int, ...]]) -> list[Expression]:
    found = []
    for noun, members in nouns.items():
        lit = [i for i in members if scene.objects[i].flash is not None]
        if len(members) < 2 or len(lit) != 1:
            continue
        for text in _EVENT_TEXTS:
            found.append(Expression(text.format(noun), 'event', (lit[0],), _specific(noun)))
    return found


def _look_alike(scene: Scene, nouns: dict[str, tuple[int, ...]]) -> list[Expression]:
    found = []
    for noun, members in nouns.items():
        if len(members) != 2 or not _meet(scene, *members):
            continue
        starts = np.stack([scene.objects[i].centres[:1] for i in members])
        for side, (axis, sign) in _SIDES.items():
            best = _extreme(starts[..., axis], scene.size[1 - axis], sign, START_MARGIN)
            if best < 0:
                continue
            for text, weight in zip(_START_TEXTS[side], (1.0, 0.5)):
                weight = weight if noun.split()[0] in COLOURS else 0.5 * weight
                found.append(Expression(text.format(noun), 'look-alike', (members[best],), weight))
    return found


def _meet(scene: Scene, one: int, two: int) -> bool:
    """Whether two objects are alike, apart at first, and occlude one another later."""
    first, second = scene.objects[one], scene.objects[two]
    if (first.shape, first.colour) != (second.shape, second.colour):
        return False
    if max(first.diameter, second.diameter) > 1.05 * min(first.diameter, second.diameter):
        return False
    gaps = np.linalg.norm(first.centres - second.centres, axis=1) / first.diameter
    return bool(gaps[0] > 1.3 and gaps[2:-2].min() < 0.85)


def _group(scene: Scene, nouns: dict[str, tuple[int, ...]]) -> list[Expression]:
    found = []
    for noun, members in nouns.items():
        # At most half of the objects, or naming everything would be a fair answer.
        if not 2 <= len(members) <= len(scene.objects) // 2:
            continue
        found.append(Expression(f'all {noun}s', 'group', members))
        if len(members) == 2:
            found.append(Expression(f'both {noun}s', 'group', members, 0.6))
    return found


def _no_target(scene: Scene, nouns: dict[str, tuple[int, ...]]) -> list[Expression]:
    found = []
    for colour in COLOURS:
        for shape in SHAPES:
            # Something shares the shape or the colour, or no one would have to look twice.
            if f'{colour} {shape}' in nouns or not {shape, f'{colour} shape'} & nouns.keys():
                continue
            found.append(Expression(f'the {colour} {shape}', 'no-target', (), 2.0))
            found.append(Expression(f'the {shape} that is {colour}', 'no-target', (), 1.0))
    return found
