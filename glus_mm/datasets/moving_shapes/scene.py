"""What happens in a MovingShapes video: its theme, its objects and their paths."""
from dataclasses import dataclass

import numpy as np

from .moving_object import CLEARANCE, COLOURS, EXTENT, NUM_FRAMES, SHAPES, MovingObject
from .trajectories import DIRECTIONS, crossing_paths, drift_path, still_path, straight_path
from .variants import THEMES, VARIANTS, Variant

# (H, W), even for H.264 and never square.
SIZES = ((96, 128), (112, 144), (128, 96), (108, 144), (144, 112))
# Diameters as parts of the short side: most objects, and where sizes are named.
_DIAMETERS = {'slow': (0.25, 0.35), 'moving': (0.25, 0.33), 'crossing': (0.25, 0.33)}
_SMALL, _BIG = (0.22, 0.24), (0.335, 0.36)
_MAX_SCENES = 200
_MAX_PATHS = 40


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
            path = _one_path(rng, motions[i], size, EXTENT * diameters[i])
            if _is_clear(path, diameters[i], paths, diameters, spacing):
                paths.append(path)
                break
        else:
            return None
    return paths


def _one_path(rng: np.random.Generator, motion: str, size: tuple[int, int],
              margin: float) -> np.ndarray:
    if motion == 'drift':
        return drift_path(rng, size, margin)
    if motion == 'still':
        return still_path(rng, size, margin)
    return straight_path(rng, size, margin, motion)


def _is_clear(path: np.ndarray, diameter: float, others: list[np.ndarray],
              diameters: np.ndarray, spacing: float) -> bool:
    for other, other_diameter in zip(others, diameters):
        least = spacing * CLEARANCE * (diameter + other_diameter)
        if np.linalg.norm(path - other, axis=1).min() < least:
            return False
    return True


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
