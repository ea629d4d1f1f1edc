"""One MovingShapes video, made from a seed, a split and an index."""
from dataclasses import dataclass

import numpy as np

from .expressions import Expression, sample_expressions
from .moving_object import NUM_FRAMES, MovingObject
from .render import render_scene
from .scene import sample_scene
from .variants import get_variant

SPLIT_CODES = {'train': 0, 'valid_u': 1}


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
    if split not in SPLIT_CODES:
        raise ValueError(f'expected split to be one of {sorted(SPLIT_CODES)}, got {split!r}')
    if seed < 0 or index < 0:
        raise ValueError(f'expected seed >= 0 and index >= 0, got seed={seed}, index={index}')
    if num_frames < NUM_FRAMES:
        raise ValueError(f'expected num_frames >= {NUM_FRAMES}, got {num_frames}')
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
