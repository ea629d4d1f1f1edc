"""Which frames a key-frame selector sees beside the one that it scores."""


def reference_frames(target: int, num_frames: int, num_reference: int) -> list[int]:
    """Every ``ceil(T / (n - 1))``-th frame, phased so that the target is among them.

    The official rule of inference. Frames whose positions differ by a multiple of the distance
    have the same reference frames, which are these very frames.

    Args:
        target: 0-based position of the frame to score.
        num_frames: length T of the video.
        num_reference: n, the most there can be, at least 2.

    Returns:
        Positions in the order of time, at most ``num_reference``.

    Raises:
        ValueError: a number is out of its range.
    """
    if num_reference < 2:
        raise ValueError(f'expected at least 2 reference frames, got {num_reference}')
    if not 0 <= target < num_frames:
        raise ValueError(f'expected a frame in 0..{num_frames - 1}, got {target}')
    step = -(-num_frames // (num_reference - 1))
    return list(range(target % step, num_frames, step))
