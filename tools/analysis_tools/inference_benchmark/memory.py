"""Peak memory while a video file is segmented."""

from os import PathLike
from pathlib import Path

import cv2
import torch

from glus_mm.models import GLUS
from glus_mm.video import VideoFileReader
from inference_benchmark.model import make_frames, make_sample

SHAPE = (96, 128)
WARMUP = 40
"""Frames after which caches are full and libraries have set up what they need."""


def write_video(path: str | PathLike, frames: int) -> None:
    """Write a video file that repeats a few frames."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'mp4v'), 25.0, SHAPE[::-1])
    if not writer.isOpened():
        raise OSError(f'cannot write a video to {path}')
    some = make_frames(50, SHAPE)
    for t in range(frames):
        writer.write(cv2.cvtColor(some[t % len(some)], cv2.COLOR_RGB2BGR))
    writer.release()


@torch.inference_mode()
def measure_memory(model: GLUS, video: str, expressions: int) -> dict[str, float]:
    """Segment a video file; masks are handed over and not kept.

    Returns:
        ``peak_gb``, the largest resident set (Linux), ``early_gb``, the same of the first
        ``WARMUP`` frames, and on a GPU ``device_peak_gb``.
    """
    reader = VideoFileReader(video)
    session = model.init_session(reader, make_sample(expressions))
    figures = dict(frames=float(len(reader)))
    for number, _ in enumerate(model.segment(session)):
        if number + 1 == WARMUP:
            figures['early_gb'] = peak_resident_gb()
    figures['peak_gb'] = peak_resident_gb()
    if torch.cuda.is_available():
        figures['device_peak_gb'] = torch.cuda.max_memory_allocated() / 1e9
    return figures


def peak_resident_gb() -> float:
    """Largest resident set of this process so far."""
    for line in Path('/proc/self/status').read_text().splitlines():
        if line.startswith('VmHWM:'):
            return int(line.split()[1]) * 1024 / 1e9
    raise OSError('expected VmHWM in /proc/self/status, got none')
