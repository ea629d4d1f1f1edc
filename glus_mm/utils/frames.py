"""Positions of frames in a video: the clips that context frames are drawn from."""

import numpy as np

PROBES = ('still', 'reverse', 'shuffle', 'swap')
"""Names of the probes that show frames in another order, or ask for them by other words."""


def clip_bounds(num_frames: int, num_clips: int) -> list[tuple[int, int]]:
    """Divide a video into equal clips.

    Args:
        num_frames: length T of the video, at least 1.
        num_clips: number of clips, at least 0.

    Returns:
        ``[start, end)`` of each clip; a clip is empty where the video is shorter than the number
        of clips.

    Raises:
        ValueError: there is no frame, or a negative number of clips.
    """
    if num_frames < 1 or num_clips < 0:
        raise ValueError(f'expected at least 1 frame and 0 clips, got {num_frames} and {num_clips}')
    edges = np.linspace(0, num_frames, num_clips + 1, dtype=int).tolist()
    return list(zip(edges[:-1], edges[1:]))


def clip_centres(num_frames: int, num_clips: int) -> list[int]:
    """Context frames of inference: the centre of each clip.

    The official rule: the offset is half of ``ceil(num_frames / num_clips)``, limited to the
    clip's last frame. A video shorter than the number of clips gives repeats, and where the first
    clip is empty the rule's -1 means the last frame.

    Returns:
        Tc positions, 0-based.
    """
    bounds = clip_bounds(num_frames, num_clips)
    offset = -(-num_frames // num_clips) // 2 if num_clips else 0
    return [min(start + offset, end - 1) % num_frames for start, end in bounds]
