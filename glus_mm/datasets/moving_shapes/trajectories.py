"""Paths of MovingShapes objects: (T, 2) arrays of x and y in pixels.

``size`` is (H, W) everywhere; ``margin`` is how near a centre may come to the border, in pixels.
"""

import numpy as np

from .moving_object import NUM_FRAMES

# direction -> (axis of (x, y), sign)
DIRECTIONS = {'left': (0, -1), 'right': (0, 1), 'up': (1, -1), 'down': (1, 1)}
# A mover covers at least this part of the side it moves along ...
MIN_TRAVEL = 0.45
# ... and what counts as moving or as staying still when expressions are verified.
CLEAR_TRAVEL = 0.40
MAX_SIDEWAYS = 0.15
MAX_STILL = 0.01
_TIMES = np.linspace(0.0, 1.0, NUM_FRAMES)


def _sides(size: tuple[int, int]) -> np.ndarray:
    """(2,) float: the length of the x and of the y axis."""
    return np.array([size[1], size[0]], dtype=np.float64)


def still_path(rng: np.random.Generator, size: tuple[int, int], margin: float) -> np.ndarray:
    """A path that stays on one random point.

    Args:
        rng: owned randomness.
        size: (H, W).
        margin: least distance of the centre from the border.

    Returns:
        (T, 2) float.
    """
    point = rng.uniform(margin, _sides(size) - margin)
    return np.repeat(point[None], NUM_FRAMES, axis=0)


def drift_path(rng: np.random.Generator, size: tuple[int, int], margin: float) -> np.ndarray:
    """A slow drift of at most 9 % of each side: too little to be called a motion.

    Args:
        rng: owned randomness.
        size: (H, W).
        margin: least distance of the centre from the border.

    Returns:
        (T, 2) float.
    """
    sides = _sides(size)
    start = rng.uniform(margin, sides - margin)
    shift = rng.uniform(-0.09, 0.09, 2) * sides
    path = start + _TIMES[:, None] * shift
    return np.clip(path, margin, sides - margin)


def straight_path(rng: np.random.Generator, size: tuple[int, int], margin: float,
                  direction: str) -> np.ndarray:
    """A monotone path in one direction with a mild change of speed.

    Args:
        rng: owned randomness.
        size: (H, W).
        margin: least distance of the centre from the border.
        direction: a key of ``DIRECTIONS``.

    Returns:
        (T, 2) float; the travel is 45 to 72 % of the side.
    """
    axis, sign = DIRECTIONS[direction]
    sides = _sides(size)
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
