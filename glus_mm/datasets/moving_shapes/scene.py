"""The truth of a generated video: its objects, where they move, how they look; by which chances."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from glus_mm.utils.checked import checked

NUM_FRAMES = 12  # of a scene's truth, and of a video unless it is to be longer
SHAPES = ('circle', 'square', 'triangle', 'star', 'diamond')
# RGB. Six hues that stay apart after JPEG's chroma subsampling; white is kept for flashes.
COLOURS = {
    'red': (214, 32, 38),
    'orange': (250, 140, 20),
    'yellow': (246, 228, 60),
    'green': (34, 166, 62),
    'blue': (36, 84, 226),
    'purple': (150, 46, 190),
}
# Half the extent of the widest shape, in diameters: how near a centre may come to the border.
EXTENT = 0.62
# Radius used to keep objects apart, in diameters.
CLEARANCE = 0.55
# direction -> (axis of (x, y), sign)
DIRECTIONS = {'left': (0, -1), 'right': (0, 1), 'up': (1, -1), 'down': (1, 1)}
# A mover covers at least this part of the side it moves along ...
MIN_TRAVEL = 0.45
# ... and what counts as moving or as staying still when expressions are verified.
CLEAR_TRAVEL = 0.40
MAX_SIDEWAYS = 0.15
MAX_STILL = 0.01
# (H, W), even for H.264 and never square.
SIZES = ((96, 128), (112, 144), (128, 96), (108, 144), (144, 112))
# Diameters as parts of the short side: most objects, and where sizes are named.
_DIAMETERS = {'slow': (0.25, 0.35), 'moving': (0.25, 0.33), 'crossing': (0.25, 0.33)}
_SMALL, _BIG = (0.22, 0.24), (0.335, 0.36)
_MAX_SCENES = 200
_MAX_PATHS = 40
THEMES = ('slow', 'moving', 'crossing')
# How many objects share each shape, per number of objects: alike nouns in every video.
_PATTERNS = {
    4: ((2, 2), (2, 1, 1), (3, 1)),
    5: ((2, 2, 1), (3, 2), (3, 1, 1)),
    6: ((2, 2, 2), (3, 2, 1), (3, 3)),
}


@dataclass(frozen=True)
class Variant:
    """The chances by which scenes and expressions are drawn; the default values are the default.

    Attributes:
        code: part of the seed of each video, unique among the variants; 0 adds nothing.
        themes: chance of each of ``THEMES``.
        flash: theme -> chance that an object flashes.
        counts: theme -> chance of 4, 5 and 6 objects.
        patterns: number of objects -> how many share
            each shape; at most 5, as there are 5 motions.
        palette: how many colours a video draws from, 1 to 6.
        diameters: range of all diameters as parts of the short side;
            None is that of the theme, with some that are clearly smaller or larger.
        late: how many objects enter in the last third of the video, if so many have a look
            of their own.
        quotas: kind -> how many expressions of it a video may keep.
    """

    code: int = 0
    themes: tuple[float, ...] = (0.40, 0.33, 0.27)
    flash: Mapping[str, float] = field(
        default_factory=lambda: {'slow': 0.70, 'moving': 0.60, 'crossing': 0.40})
    counts: Mapping[str, tuple[float, ...]] = field(default_factory=lambda: {
        'slow': (0.3, 0.45, 0.25), 'moving': (0.5, 0.4, 0.1), 'crossing': (0.5, 0.4, 0.1)})
    patterns: Mapping[int, tuple[tuple[int, ...], ...]] = field(
        default_factory=lambda: dict(_PATTERNS))
    palette: int = 4
    diameters: tuple[float, float] | None = None
    late: int = 0
    quotas: Mapping[str, int] = field(default_factory=lambda: {
        'appearance': 3, 'position': 3, 'motion': 3, 'event': 2, 'look-alike': 3, 'group': 1,
        'no-target': 1, 'late': 0})


_NONE = dict.fromkeys(THEMES, 0.0)
VARIANTS = {
    'default': Variant(),
    # An object among alike ones flashes in 3 or 4 of the 12 frames; on the others only the context
    # tells which one it was.
    'elsewhere': Variant(
        code=1, themes=(0.6, 0.4, 0.0), flash=dict.fromkeys(THEMES, 1.0),
        patterns={4: ((3, 1), (2, 2)), 5: ((3, 2), (4, 1)), 6: ((3, 3), (4, 2))},
        quotas={'event': 4, 'appearance': 1, 'position': 1, 'no-target': 1}),
    # Two objects of one look meet and pass, or turn back, in every video.
    'crossing': Variant(
        code=2, themes=(0.0, 0.0, 1.0), flash=_NONE,
        quotas={'look-alike': 5, 'appearance': 1, 'position': 1, 'no-target': 1}),
    # Most objects have one shape, in two colours at most, and each moves in another way.
    'crowd': Variant(
        code=3, themes=(0.0, 1.0, 0.0), flash=_NONE,
        counts=dict.fromkeys(THEMES, (0.0, 0.6, 0.4)),
        patterns={5: ((5,), (4, 1)), 6: ((5, 1), (4, 2))}, palette=2, diameters=(0.20, 0.26),
        quotas={'motion': 5, 'position': 3, 'appearance': 2}),
    # Two objects, told by their looks, enter in the last third; the first frames do not show them.
    'late': Variant(
        code=4, themes=(0.6, 0.4, 0.0), flash=_NONE, patterns={
            4: ((2, 1, 1), (1, 1, 1, 1)), 5: ((2, 2, 1), (2, 1, 1, 1)), 6: ((2, 2, 1, 1),)},
        late=2, quotas={'late': 5, 'appearance': 2, 'position': 1, 'no-target': 1}),
}


def get_variant(name: str) -> Variant:
    """Look a variant up.

    Args:
        name: a key of ``VARIANTS``.

    Raises:
        ValueError: there is none of this name.
    """
    checked(sorted(VARIANTS), variant=name)
    return VARIANTS[name]


@dataclass(frozen=True)
class MovingObject:
    """One object and its simulated truth.

    Args:
        shape: one of ``SHAPES``.
        colour: a key of ``COLOURS``.
        diameter: diameter of the circle with about the same area, in pixels.
        angle: rotation in degrees, constant over the video.
        centres: (T, 2) float, x and y of the centroid in pixels on every frame.
        flash: first frame of the flash and the frame after its last one.
        enters: first frame that shows it; before, it is not there. Defaults to 0.
    """
    shape: str
    colour: str
    diameter: float
    angle: float
    centres: np.ndarray
    flash: tuple[int, int] | None = None
    enters: int = 0

    def flashes_at(self, frame: int) -> bool:
        """Whether the object is lit on a frame.

        Args:
            frame: 0-based position in the video.

        Returns:
            True inside the flash interval.
        """
        return self.flash is not None and self.flash[0] <= frame < self.flash[1]

    def over(self, num_frames: int) -> 'MovingObject':
        """The same course in more frames: slower, and along the same path.

        Returns:
            The object; its centres lie on straight lines between those of this one,
            and what happens on one frame here happens on all frames that are nearest to it.
        """
        before = len(self.centres)
        if num_frames == before:
            return self
        times = np.linspace(0, before - 1, num_frames)
        nearest = np.floor(times + 0.5)
        centres = np.stack([np.interp(times, np.arange(before), axis)
                            for axis in self.centres.T], axis=1)
        enters, *flash = np.searchsorted(nearest, [self.enters, *(self.flash or ())]).tolist()
        return replace(self, centres=centres, enters=enters, flash=tuple(flash) or None)


_TIMES = np.linspace(0.0, 1.0, NUM_FRAMES)


def _sides(size: tuple[int, int]) -> np.ndarray:
    """(2,) float: the length of the x and of the y axis."""
    return np.array([size[1], size[0]], dtype=np.float64)


def motion_path(rng: np.random.Generator, size: tuple[int, int], margin: float,
                motion: str) -> np.ndarray:
    """A path that shows a motion.

    Args:
        rng: owned randomness.
        size: (H, W).
        margin: least distance of the centre from the border.
        motion: ``'still'`` stays on one random point; ``'drift'`` is slow and at most 9 % of each
            side, too little to be called a motion; a key of ``DIRECTIONS`` is monotone, with a mild
            change of speed, over 45 to 72 % of the side.

    Returns:
        (T, 2) float.
    """
    sides = _sides(size)
    if motion in ('still', 'drift'):
        start = rng.uniform(margin, sides - margin)
        if motion == 'still':
            return np.repeat(start[None], NUM_FRAMES, axis=0)
        shift = rng.uniform(-0.09, 0.09, 2) * sides
        return np.clip(start + _TIMES[:, None] * shift, margin, sides - margin)
    axis, sign = DIRECTIONS[motion]
    room = sides[axis] - 2 * margin
    travel = min(rng.uniform(MIN_TRAVEL, 0.72) * sides[axis], room)
    start = margin + rng.uniform(0.0, room - travel + 1e-9)
    ease = rng.uniform(-0.3, 0.3)
    progress = _TIMES + ease * np.sin(2 * np.pi * _TIMES) / (2 * np.pi)
    along = start + travel * progress
    path = np.empty((NUM_FRAMES, 2))
    path[:, axis] = along if sign > 0 else sides[axis] - along
    other = 1 - axis
    across = rng.uniform(margin, sides[other] - margin)
    across = across + _TIMES * rng.uniform(-0.04, 0.04) * sides[other]
    path[:, other] = np.clip(across, margin, sides[other] - margin)
    return path


def crossing_paths(rng: np.random.Generator, size: tuple[int, int], margin: float,
                   diameter: float) -> tuple[np.ndarray, np.ndarray]:
    """Two paths that meet in the middle of the video and pass, or turn back, partly occluded.

    Their lanes differ by a part of the diameter, so that one who watches every frame can tell the
    two apart at any time; about one pair in three turns back, so that the side at the end does not
    give the side at the start away.

    Args:
        rng: owned randomness.
        size: (H, W).
        margin: least distance of the centre from the border.
        diameter: diameter of both objects, in pixels.

    Returns:
        Two (T, 2) float arrays: the first starts on the left or
        at the top.
    """
    axis = int(rng.integers(2))
    sides = _sides(size)
    turn_back = rng.random() < 0.33
    room = sides[axis] - 2 * margin
    inset = rng.uniform(0.0, 0.12, 2) * room
    first_start, second_start = margin + inset[0], sides[axis] - margin - inset[1]
    if turn_back:
        gap = rng.uniform(0.0, 0.35) * diameter
        meet = (first_start + second_start) / 2 + rng.uniform(-0.06, 0.06) * room
        hump = np.sin(np.pi * _TIMES)
        first = first_start + (meet - gap / 2 - first_start) * hump
        second = second_start + (meet + gap / 2 - second_start) * hump
        offset = rng.uniform(0.4, 0.7) * diameter
    else:
        inset = rng.uniform(0.0, 0.12, 2) * room
        first = first_start + _TIMES * (sides[axis] - margin - inset[0] - first_start)
        second = second_start + _TIMES * (margin + inset[1] - second_start)
        offset = rng.uniform(0.25, 0.65) * diameter
    other = 1 - axis
    lane = rng.uniform(margin, sides[other] - margin - offset)
    lanes = [lane, lane + offset]
    if rng.random() < 0.5:
        lanes.reverse()
    paths = np.empty((2, NUM_FRAMES, 2))
    paths[0, :, axis], paths[1, :, axis] = first, second
    paths[0, :, other], paths[1, :, other] = lanes
    return paths[0], paths[1]


def motion_of(centres: np.ndarray, size: tuple[int, int]) -> str | None:
    """The motion that a path clearly shows.

    Args:
        centres: (T, 2) float.
        size: (H, W).

    Returns:
        ``'still'``, a key of ``DIRECTIONS``, or None where a viewer might disagree.
    """
    parts = centres / _sides(size)
    spread = np.ptp(parts, axis=0)
    if (spread <= MAX_STILL).all():
        return 'still'
    for direction, (axis, sign) in DIRECTIONS.items():
        steps = sign * np.diff(parts[:, axis])
        if (steps > 0).all() and steps.sum() >= CLEAR_TRAVEL and spread[1 - axis] <= MAX_SIDEWAYS:
            return direction
    return None


@dataclass(frozen=True)
class Scene:
    """The simulated truth of a video.

    Args:
        size: (H, W).
        theme: one of ``THEMES``; only a statistic, expressions are verified on the objects.
        objects: in z-order, the last one in front.
    """
    size: tuple[int, int]
    theme: str
    objects: tuple[MovingObject, ...]


def sample_scene(rng: np.random.Generator, variant: Variant = VARIANTS['default']) -> Scene:
    """Draw a theme, a size and objects whose paths do not crowd one another.

    The demanded spacing shrinks slowly with the number of scenes rejected, so that the search is
    bounded.

    Args:
        rng: owned randomness.
        variant: the chances. Defaults to the default's.

    Raises:
        RuntimeError: no scene of so many objects was found within the tries.
    """
    theme = str(rng.choice(THEMES, p=variant.themes))
    size = SIZES[int(rng.integers(len(SIZES)))]
    count = int(rng.choice((4, 5, 6), p=variant.counts[theme]))
    flashing = rng.random() < variant.flash[theme]
    for attempt in range(_MAX_SCENES):
        spacing = 1.0 - attempt / _MAX_SCENES
        looks, diameters = _sample_looks(rng, count, theme, min(size), variant)
        paths = _sample_paths(rng, looks, diameters, theme, size, spacing)
        if paths is None:
            continue
        flash_of = _sample_flasher(rng, looks, theme) if flashing else None
        length = 4 if rng.random() < 0.7 else 3
        start = int(rng.integers(NUM_FRAMES - length + 1))
        # One angle a shape: look-alikes must not differ by their tilt.
        angles = dict(zip(SHAPES, rng.uniform(-7, 7, len(SHAPES))))
        enters = _sample_entries(rng, looks, variant.late)
        objects = [
            MovingObject(shape, colour, float(diameter), float(angles[shape]), path,
                         (start, start + length) if i == flash_of else None, enters[i])
            for i, ((shape, colour), diameter, path) in enumerate(zip(looks, diameters, paths))
        ]
        # Roles follow the list's order up to here: shuffled, z-order and ids say nothing of them.
        order = rng.permutation(count)
        return Scene(size, theme, tuple(objects[i] for i in order))
    raise RuntimeError(f'expected a scene of {count} objects on {size} within {_MAX_SCENES} tries, '
                       f'got none (theme {theme!r})')


def _sample_looks(rng: np.random.Generator, count: int, theme: str, short: int,
                  variant: Variant) -> tuple[list[tuple[str, str]], np.ndarray]:
    """Shapes and colours with alike nouns, and diameters in pixels.

    Objects of one shape stand together; in a crossing scene the first two are look-alikes.
    """
    patterns = variant.patterns[count]
    pattern = patterns[int(rng.integers(len(patterns)))]
    shapes = rng.permutation(SHAPES)[:len(pattern)]
    palette = rng.permutation(list(COLOURS))[:variant.palette]
    looks: list[tuple[str, str]] = []
    diameters = rng.uniform(*(variant.diameters or _DIAMETERS[theme]), count) * short
    contrast = rng.random() < 0.35 and variant.diameters is None
    for number, shape in zip(pattern, shapes):
        first = len(looks)
        for _ in range(number):
            looks.append((str(shape), str(palette[int(rng.integers(variant.palette))])))
        if number == 1:
            continue
        twins = theme == 'crossing' and first == 0
        if twins or rng.random() < 0.35:
            looks[first + 1] = looks[first]
        if twins:
            diameters[first + 1] = diameters[first]
        elif contrast:
            odd, rest = (_SMALL, _BIG) if rng.random() < 0.5 else (_BIG, _SMALL)
            diameters[first] = rng.uniform(*odd) * short
            diameters[first + 1:first + number] = rng.uniform(*rest, number - 1) * short
            contrast = False
    return looks, diameters


def _sample_motions(rng: np.random.Generator, looks: list[tuple[str, str]]) -> list[str]:
    """One motion an object; objects of one shape move differently."""
    names = ['still', *DIRECTIONS]
    motions: list[str] = []
    for i, (shape, _) in enumerate(looks):
        taken = {motions[j] for j in range(i) if looks[j][0] == shape}
        free = [name for name in names if name not in taken]
        motions.append(free[int(rng.integers(len(free)))])
    return motions


def _sample_paths(rng: np.random.Generator, looks: list[tuple[str, str]], diameters: np.ndarray,
                  theme: str, size: tuple[int, int],
                  spacing: float) -> list[np.ndarray] | None:
    """Paths that keep ``spacing`` radii apart, or None where the tries were used up."""
    paths: list[np.ndarray] = []
    motions = ['drift'] * len(looks) if theme == 'slow' else _sample_motions(rng, looks)
    if theme == 'crossing':
        paths.extend(crossing_paths(rng, size, EXTENT * diameters[0], float(diameters[0])))
    for i in range(len(paths), len(looks)):
        for _ in range(_MAX_PATHS):
            path = motion_path(rng, size, EXTENT * diameters[i], motions[i])
            if all(np.linalg.norm(path - other, axis=1).min()
                   >= spacing * CLEARANCE * (diameters[i] + diameter)
                   for other, diameter in zip(paths, diameters)):
                paths.append(path)
                break
        else:
            return None
    return paths


def _sample_entries(rng: np.random.Generator, looks: list[tuple[str, str]],
                    late: int) -> list[int]:
    """The frame at which each object enters; late ones have a look that no other object has."""
    enters = [0] * len(looks)
    if late:
        single = [i for i, look in enumerate(looks) if looks.count(look) == 1]
        for i in rng.permutation(single)[:late]:
            enters[int(i)] = NUM_FRAMES - int(rng.integers(3, NUM_FRAMES // 3 + 1))
    return enters


def _sample_flasher(rng: np.random.Generator, looks: list[tuple[str, str]], theme: str) -> int:
    """The object that flashes: more often one of several of its shape, never one of the twins."""
    shapes = [shape for shape, _ in looks]
    first = 2 if theme == 'crossing' else 0
    weights = np.array([0.0 if i < first else (2.0 if shapes.count(shape) > 1 else 1.0)
                        for i, shape in enumerate(shapes)])
    return int(rng.choice(len(looks), p=weights / weights.sum()))
