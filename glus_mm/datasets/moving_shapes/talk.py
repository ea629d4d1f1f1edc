"""Questions and answers about a MovingShapes video, verified on the simulated truth.

The truth has to be seen on the frames that a model is shown: one of each quarter of the video, at
random. "First" and "last" therefore mean the whole first and last quarter, and who flashes is asked
only where the flash covers a quarter. Nothing is asked whose answer a viewer might dispute.
"""
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from .expressions import POSITION_MARGIN, SIZE_RATIO
from .scene import COLOURS, DIRECTIONS, NUM_FRAMES, SHAPES, MovingObject, motion_of

QUARTERS = 4
# How near a centre may come to the border between two thirds of a side, as a part of the side.
PLACE_MARGIN = 0.03
# Kind -> how many pairs of a video that asks for 24 are of it; others fill up what is missing.
QUOTAS = {'caption': 1, 'motion': 7, 'place': 4, 'relation': 3, 'event': 2, 'order': 2,
          'count': 2, 'existence': 2, 'looks': 1}
NUMBERS = ('no', 'one', 'two', 'three', 'four', 'five', 'six')
# (row, column) of thirds
PLACES = {
    (0, 0): 'at the top left', (0, 1): 'at the top', (0, 2): 'at the top right',
    (1, 0): 'on the left', (1, 1): 'in the middle', (1, 2): 'on the right',
    (2, 0): 'at the bottom left', (2, 1): 'at the bottom', (2, 2): 'at the bottom right'}
# Relation -> (axis of (x, y), sign)
RELATIONS = {'left of': (0, -1), 'right of': (0, 1), 'over': (1, -1), 'under': (1, 1)}


@dataclass(frozen=True)
class Pair:
    """A question and its answer.

    Args:
        question, answer: in the words of the 'tiny' tokenizer, where there are some.
        kind: a key of ``QUOTAS``.
    """
    question: str
    answer: str
    kind: str


def sample_talk(objects: Sequence[MovingObject], size: tuple[int, int], rng: np.random.Generator,
                number: int) -> list[Pair]:
    """Draw from all valid pairs, balanced over the kinds, and over the answers of a kind.

    Args:
        objects: the truth.
        size: (H, W) of the frames.
        rng: owned randomness.
        number: at most so many.

    Returns:
        In random order, no question twice.
    """
    candidates = list(enumerate_talk(objects, size))
    candidates = [candidates[i] for i in rng.permutation(len(candidates))]
    groups: dict[str, list[list[Pair]]] = {kind: [] for kind in QUOTAS}
    for kind, answers in groups.items():
        by_answer: dict[str, list[Pair]] = {}
        for pair in candidates:
            if pair.kind == kind:
                by_answer.setdefault(pair.answer, []).append(pair)
        answers.extend(by_answer.values())
    chosen: list[Pair] = []
    scale = number / sum(QUOTAS.values())
    for kind, quota in QUOTAS.items():
        chosen += _draw(groups[kind], max(1, round(quota * scale)))
    rest = [pair for pair in candidates if pair not in chosen]
    chosen = (chosen + rest)[:number] if len(chosen) < number else chosen
    return [chosen[i] for i in rng.permutation(len(chosen))[:number]]


def _draw(groups: list[list[Pair]], number: int) -> list[Pair]:
    """Take pairs from groups in turn, so that each answer comes up about equally often."""
    queues = [list(group) for group in groups]
    chosen: list[Pair] = []
    while len(chosen) < number and any(queues):
        for queue in queues:
            if queue and len(chosen) < number:
                chosen.append(queue.pop())
    return chosen


def enumerate_talk(objects: Sequence[MovingObject], size: tuple[int, int]) -> Iterator[Pair]:
    """All pairs that are true and clear in a video, in a fixed order.

    Args:
        objects: the truth.
        size: (H, W) of the frames.
    """
    truth = _Truth(objects, size)
    for maker in (_caption, _looks, _place, _relation, _motion, _event, _order, _count,
                  _existence):
        kind = maker.__name__[1:]
        for question, answer in maker(truth):
            yield Pair(question, answer, kind)


class _Truth:
    """What is known of a video's objects, and how they are called."""

    def __init__(self, objects: Sequence[MovingObject], size: tuple[int, int]) -> None:
        self.objects = list(objects)
        self.sides = np.array([size[1], size[0]], dtype=np.float64)
        self.motions = [None if item.enters else motion_of(item.centres, size)
                        for item in objects]
        looks = [(item.colour, item.shape) for item in objects]
        shapes = [item.shape for item in objects]
        # Objects that one name tells from all others, by that name.
        self.named: dict[str, int] = {}
        for i, (colour, shape) in enumerate(looks):
            if looks.count((colour, shape)) == 1:
                self.named[f'the {colour} {shape}'] = i
            if shapes.count(shape) == 1:
                self.named[f'the {shape}'] = i

    def place(self, i: int, quarter: int) -> str | None:
        """Where an object is during a quarter; None where it is not in one third all the time."""
        item, length = self.objects[i], NUM_FRAMES // QUARTERS
        if item.enters > quarter * length:
            return None
        parts = item.centres[quarter * length:(quarter + 1) * length] / self.sides
        thirds = np.floor(parts * 3).astype(int)
        near = np.abs(parts[..., None] - np.array([1 / 3, 2 / 3])).min() < PLACE_MARGIN
        if near or (thirds != thirds[0]).any():
            return None
        return PLACES[int(thirds[0, 1]), int(thirds[0, 0])]

    def of(self, noun: str) -> list[int]:
        """The objects that a noun names: 'shape', 'circle', 'red shape' or 'red circle'."""
        words = noun.split()
        return [i for i, item in enumerate(self.objects)
                if words[-1] in ('shape', item.shape) and words[0] in (*words[-1:], item.colour)]

    def nouns(self) -> list[str]:
        """Every noun that names an object, and some that name none but are near to one."""
        shapes = [s for s in SHAPES if self.of(s)]
        colours = [c for c in COLOURS if self.of(f'{c} shape')]
        near = [f'{c} {s}' for c in COLOURS for s in SHAPES
                if (c in colours or s in shapes)]
        return ['shape', *shapes, *(f'{c} shape' for c in colours), *near]

    def listing(self, members: Sequence[int]) -> str:
        """Name objects by their looks, in the order of shapes and colours: 'a red circle and ...'.
        """
        looks = [(self.objects[i].colour, self.objects[i].shape) for i in members]
        parts = [_counted(looks.count((colour, shape)), f'{colour} {shape}')
                 for shape in SHAPES for colour in COLOURS if (colour, shape) in looks]
        return _joined(parts)


def _counted(number: int, noun: str) -> str:
    if number == 1:
        return f'{"an" if noun[0] == "o" else "a"} {noun}'
    return f'{NUMBERS[number]} {noun}s'


def _joined(parts: Sequence[str]) -> str:
    return ' and '.join([', '.join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def _caption(truth: _Truth) -> Iterator[tuple[str, str]]:
    """All objects, with place and motion where they are clear."""
    parts = []
    for i, item in sorted(enumerate(truth.objects), key=lambda entry: (
            SHAPES.index(entry[1].shape), list(COLOURS).index(entry[1].colour))):
        words = [_counted(1, f'{item.colour} {item.shape}'), truth.place(i, 0)]
        if truth.motions[i] is not None:
            words.append('standing still' if truth.motions[i] == 'still'
                         else f'moving {truth.motions[i]}')
        parts.append(' '.join(filter(None, words)))
    yield 'What are these shapes?', _joined(parts)


def _looks(truth: _Truth) -> Iterator[tuple[str, str]]:
    for colour in COLOURS:
        if truth.of(f'{colour} shape'):
            yield f'What is {colour}?', truth.listing(truth.of(f'{colour} shape'))
    for shape in SHAPES:
        if truth.of(shape):
            yield f'which {shape}s are there?', truth.listing(truth.of(shape))
    for (one, i), (two, j) in permutations(truth.named.items(), 2):
        ratio = truth.objects[i].diameter / truth.objects[j].diameter
        if truth.objects[i].shape == truth.objects[j].shape and \
                max(ratio, 1 / ratio) >= SIZE_RATIO:
            yield f'is {one} bigger, or {two}?', f'{one if ratio > 1 else two} is bigger'


def _place(truth: _Truth) -> Iterator[tuple[str, str]]:
    for name, i in truth.named.items():
        for when, quarter in (('first', 0), ('last', QUARTERS - 1)):
            place = truth.place(i, quarter)
            if place is not None:
                yield f'Where is {name} {when}?', f'{name} is {place}'


def _relation(truth: _Truth) -> Iterator[tuple[str, str]]:
    for (one, i), (two, j) in permutations(truth.named.items(), 2):
        first, second = truth.objects[i], truth.objects[j]
        if i == j or first.enters or second.enters:
            continue
        gaps = (first.centres - second.centres) / truth.sides
        for relation, (axis, sign) in RELATIONS.items():
            if (np.abs(gaps[:, axis]) < POSITION_MARGIN).any() or np.ptp(np.sign(gaps[:, axis])):
                continue
            holds = sign * gaps[0, axis] > 0
            yield f'is {one} {relation} {two}?', 'yes' if holds else 'no'


def _motion(truth: _Truth) -> Iterator[tuple[str, str]]:
    for name, i in truth.named.items():
        if truth.motions[i] is not None:
            yield f'how does {name} move?', f'{name} ' + (
                'stays still' if truth.motions[i] == 'still' else f'moves {truth.motions[i]}')
    for noun in truth.nouns():
        members = truth.of(noun)
        motions = [truth.motions[i] for i in members]
        if not members or None in motions:
            continue
        for direction in DIRECTIONS:
            yield (f'is there {_counted(1, noun)} moving {direction}?',
                   'yes' if direction in motions else 'no')
        if noun == 'shape':
            for direction in DIRECTIONS:
                moving = [i for i in members if truth.motions[i] == direction]
                yield f'What moves {direction}?', truth.listing(moving) if moving else 'no shape'
            still = [i for i in members if truth.motions[i] == 'still']
            yield 'What stays still?', truth.listing(still) if still else 'no shape'


def _event(truth: _Truth) -> Iterator[tuple[str, str]]:
    lit = [i for i, item in enumerate(truth.objects) if item.flash is not None]
    length = NUM_FRAMES // QUARTERS
    for i in lit:
        start, end = truth.objects[i].flash
        quarters = range(-(-start // length), end // length)
        if not quarters:
            return
    yield 'What flashes?', truth.listing(lit) if lit else 'no shape'
    for noun in truth.nouns():
        members = truth.of(noun)
        if members:
            yield (f'is there {_counted(1, noun)} that flashes?',
                   'yes' if set(lit) & set(members) else 'no')


def _order(truth: _Truth) -> Iterator[tuple[str, str]]:
    for name, i in truth.named.items():
        first, last = truth.place(i, 0), truth.place(i, QUARTERS - 1)
        if first is not None and last is not None and first != last:
            yield f'Where does {name} go?', f'{name} is {first} then {last}'
    late = [i for i, item in enumerate(truth.objects) if item.enters]
    length = NUM_FRAMES // QUARTERS
    if late and all(length <= truth.objects[i].enters <= NUM_FRAMES - length for i in late):
        yield 'which shapes are not there at first?', truth.listing(late)


def _count(truth: _Truth) -> Iterator[tuple[str, str]]:
    for noun in truth.nouns():
        number = len(truth.of(noun))
        if ' ' not in noun or number:
            yield (f'how many {noun}s are there?',
                   f'{NUMBERS[number]} {noun}{"" if number == 1 else "s"}')


def _existence(truth: _Truth) -> Iterator[tuple[str, str]]:
    for noun in truth.nouns():
        if noun != 'shape':
            yield f'is there {_counted(1, noun)}?', 'yes' if truth.of(noun) else 'no'
