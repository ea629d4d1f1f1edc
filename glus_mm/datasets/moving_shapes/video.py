"""From a scene to the frames, masks and expressions of a video."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from glus_mm.datasets.moving_shapes.expressions import Expression, sample_expressions
from glus_mm.datasets.moving_shapes.scene import (
    COLOURS,
    NUM_FRAMES,
    MovingObject,
    get_variant,
    sample_scene,
)
from glus_mm.utils.checked import checked

_SUPERSAMPLING = 4
_SHIFT = 4  # fractional bits of the coordinates that OpenCV takes
_OUTLINE = (22, 22, 26)
_OUTLINE_PIXELS = 1.2
_FLASH_INSET = 0.13  # coloured rim of a lit object, in diameters
SPLIT_CODES = {'train': 0, 'valid_u': 1}


def _outline_of(shape: str) -> np.ndarray:
    """(K, 2) float polygon around its centroid, in diameters; areas are alike between shapes."""
    if shape == 'circle':
        turns = np.arange(48) * (2 * np.pi / 48)
        return 0.5 * np.stack([np.cos(turns), np.sin(turns)], axis=1)
    if shape == 'square':
        return 0.45 * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], dtype=np.float64)
    if shape == 'diamond':
        return np.array([[0, -0.68], [0.5, 0], [0, 0.68], [-0.5, 0]])
    if shape == 'triangle':
        turns = np.deg2rad([-90, 30, 150])
        return 0.69 * np.stack([np.cos(turns), np.sin(turns)], axis=1)
    if shape == 'star':
        turns = np.deg2rad(-90 + 36 * np.arange(10))
        radii = np.where(np.arange(10) % 2 == 0, 0.67, 0.3)
        return radii[:, None] * np.stack([np.cos(turns), np.sin(turns)], axis=1)
    raise ValueError(f'expected a shape with an outline, got {shape!r}')


def render_scene(size: tuple[int, int], objects: Sequence[MovingObject],
                 rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw every frame.

    Args:
        size: H and W.
        objects: O objects, the last one in front.
        rng: owned randomness: background and shades.

    Returns:
        Frames uint8 (T, H, W, 3) RGB and masks bool (O, T, H, W) of
        the pixels of each object that no object in front of it covers.
    """
    (height, width), num_frames = size, len(objects[0].centres)
    background = _draw_background(rng, height, width)
    # One shade a colour: look-alikes must not differ by it.
    shades = {name: np.clip(np.array(rgb) + rng.uniform(-12, 12, 3), 0, 255)
              for name, rgb in COLOURS.items()}
    frames = np.empty((num_frames, height, width, 3), dtype=np.uint8)
    masks = np.zeros((len(objects), num_frames, height, width), dtype=bool)
    for t in range(num_frames):
        canvas = background.copy()
        for i, item in enumerate(objects):
            if t < item.enters:
                continue
            covered = _draw_object(canvas, item, t, shades[item.colour])
            masks[:i, t] &= ~covered
            masks[i, t] = covered
        frames[t] = np.clip(np.rint(canvas), 0, 255).astype(np.uint8)
    return frames, masks


def _draw_background(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """float32 (H, W, 3): a muted gradient with smooth noise and, in half the videos, stripes."""
    level = rng.uniform(70, 160)
    ends = level + rng.uniform(-25, 25, (2, 1)) + rng.uniform(-14, 14, (2, 3))
    angle = rng.uniform(0, 2 * np.pi)
    ys, xs = np.mgrid[0:height, 0:width].astype(np.float64)
    along = np.cos(angle) * xs / width + np.sin(angle) * ys / height
    along = (along - along.min()) / np.ptp(along)
    image = ends[0] + along[..., None] * (ends[1] - ends[0])
    cells = int(rng.integers(4, 10))
    coarse = rng.uniform(-1, 1, (cells, cells)).astype(np.float32)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    image += rng.uniform(6, 15) * smooth[..., None]
    if rng.random() < 0.5:
        angle = rng.uniform(0, np.pi)
        phase = (np.cos(angle) * xs + np.sin(angle) * ys) * (2 * np.pi / rng.uniform(9, 24))
        image += rng.uniform(4, 9) * np.sin(phase)[..., None]
    image += rng.uniform(-3, 3, (height, width, 1))
    return np.clip(image, 25, 195).astype(np.float32)


def _draw_object(canvas: np.ndarray, item: MovingObject, frame: int,
                 shade: np.ndarray) -> np.ndarray:
    """Blend one object into ``canvas`` (in place) and return its bool (H, W) pixels."""
    height, width = canvas.shape[:2]
    half = int(np.ceil(0.72 * item.diameter)) + 2
    corner = np.floor(item.centres[frame]).astype(int) - half
    centre = item.centres[frame] - corner
    left, top = np.maximum(corner, 0)
    right, bottom = min(corner[0] + 2 * half, width), min(corner[1] + 2 * half, height)
    window = (slice(top - corner[1], bottom - corner[1]),
              slice(left - corner[0], right - corner[0]))
    inner = 1 - 2 * _OUTLINE_PIXELS / (0.8 * item.diameter)
    layers = [(1.0, np.array(_OUTLINE)), (inner, shade)]
    if item.flashes_at(frame):
        layers.append((inner - 2 * _FLASH_INSET, np.array((255, 255, 255))))
    patch = canvas[top:bottom, left:right]
    covered = np.zeros((height, width), dtype=bool)
    for scale, colour in layers:
        alpha = _coverage(item, scale, centre, 2 * half)[window]
        patch += (alpha[..., None] / 255.0) * (colour.astype(np.float32) - patch)
        if scale == 1.0:
            covered[top:bottom, left:right] = alpha >= 128
    return covered


def _coverage(item: MovingObject, scale: float, centre: np.ndarray, side: int) -> np.ndarray:
    """float32 (side, side) in 0..255: how much of each pixel the scaled outline covers."""
    turn = np.deg2rad(item.angle)
    rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    points = _outline_of(item.shape) @ rotation * (scale * item.diameter) + centre
    # A pixel's centre has the coordinate i + 0.5 here, and i on OpenCV's grid.
    points = np.rint((points * _SUPERSAMPLING - 0.5) * (1 << _SHIFT)).astype(np.int32)
    fine = np.zeros((side * _SUPERSAMPLING, side * _SUPERSAMPLING), dtype=np.uint8)
    cv2.fillPoly(fine, [points], 255, lineType=cv2.LINE_8, shift=_SHIFT)
    coarse = cv2.resize(fine, (side, side), interpolation=cv2.INTER_AREA)
    return coarse.astype(np.float32)


@dataclass(frozen=True)
class MovingShapesVideo:
    """Pixels and truth of one video.

    Args:
        video_id: folder name, unique in a split.
        theme: what the scene was drawn for: 'slow', 'moving' or 'crossing'.
        frames: uint8 (T, H, W, 3) RGB.
        masks: bool (O, T, H, W), visible pixels.
        objects: O objects in z-order, the last one in front.
        expressions: their ``targets`` index ``objects``.
    """
    video_id: str
    theme: str
    frames: np.ndarray
    masks: np.ndarray
    objects: tuple[MovingObject, ...]
    expressions: tuple[Expression, ...]

    @property
    def frame_names(self) -> tuple[str, ...]:
        """Names of the T frames, without extension."""
        return tuple(f'{t:05d}' for t in range(len(self.frames)))


def generate_video(seed: int, split: str, index: int, variant: str = 'default',
                   num_frames: int = NUM_FRAMES) -> MovingShapesVideo:
    """Generate a video; its arguments alone determine every pixel and every word.

    Args:
        seed: seed of the data set, >= 0.
        split: a key of ``SPLIT_CODES``.
        index: number of the video in its split, >= 0.
        variant: a key of ``VARIANTS``. Defaults to 'default'.
        num_frames: number of frames T. More than 12 show the same scene, with the same
            expressions, in slower motion. Defaults to 12.

    Raises:
        ValueError: the split or the variant is unknown, a number is negative, or there would be
            fewer frames than 12.
    """
    checked(sorted(SPLIT_CODES), split=split)
    checked(0, seed=seed, index=index)
    checked(NUM_FRAMES, num_frames=num_frames)
    chances = get_variant(variant)
    # A 0 at the end would change the stream.
    code = (chances.code,) if chances.code else ()
    rng = np.random.default_rng([seed, SPLIT_CODES[split], index, *code])
    scene = sample_scene(rng, chances)
    objects = tuple(item.over(num_frames) for item in scene.objects)
    frames, masks = render_scene(scene.size, objects, rng)
    expressions = sample_expressions(scene, rng, chances)
    prefix = split if variant == 'default' else f'{split}-{variant}'
    return MovingShapesVideo(
        video_id=f'{prefix}_{index:05d}', theme=scene.theme, frames=frames, masks=masks,
        objects=objects, expressions=tuple(expressions))
