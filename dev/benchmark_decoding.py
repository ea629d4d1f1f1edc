"""Decoding side by side: the PyAV reader and OpenCV's, which it replaced.

Writes two H.264 videos (480p and 1080p, key frames at most 250 frames apart), reads them forward,
backward and at random positions with both, and prints a table of CPU seconds, which other work on
the machine changes less than wall-clock time. Example::

    python dev/benchmark_decoding.py --frames 240 --random 40
"""

import argparse
import tempfile
import time
from collections import OrderedDict
from pathlib import Path

import cv2
import numpy as np

from glus_mm.utils.video_writer import OverlayVideoWriter
from glus_mm.video import VideoFileReader

SIZES = {'480p': (854, 480), '1080p': (1920, 1080)}


class OpenCVReader:
    """The reader of before: the file is decoded once to count its frames, and going back further
    than eight frames decodes it again from its start."""

    def __init__(self, path: Path, cache_size: int = 8) -> None:
        self.path, self.cache_size = str(path), cache_size
        self._cache: OrderedDict[int, np.ndarray] = OrderedDict()
        self._capture, self._next = None, 0
        capture, self.count = cv2.VideoCapture(self.path), 0
        while capture.grab():
            self.count += 1

    def __len__(self) -> int:
        return self.count

    def read(self, frame_idx: int) -> np.ndarray:
        """One frame in RGB."""
        if frame_idx in self._cache:
            return self._cache[frame_idx]
        keep_from = frame_idx
        if self._capture is None or frame_idx < self._next:
            self._capture, self._next = cv2.VideoCapture(self.path), 0
            keep_from = frame_idx - self.cache_size + 1
        while self._next < keep_from:
            self._capture.grab()
            self._next += 1
        while self._next <= frame_idx:
            self._cache[self._next] = cv2.cvtColor(self._capture.read()[1], cv2.COLOR_BGR2RGB)
            self._next += 1
            if len(self._cache) > self.cache_size:
                self._cache.popitem(last=False)
        return self._cache[frame_idx]


def write_clip(path: Path, size: tuple[int, int], frames: int) -> None:
    """A video with motion and texture."""
    width, height = size
    rng = np.random.default_rng(0)
    ground = cv2.resize(rng.integers(0, 255, (height // 8, width // 8, 3), dtype=np.uint8),
                        (width * 2, height * 2), interpolation=cv2.INTER_CUBIC)
    with OverlayVideoWriter(path, 30) as writer:
        for t in range(frames):
            left, top = (3 * t) % width, t % height
            writer.write(np.ascontiguousarray(ground[top:top + height, left:left + width]))


def main() -> None:
    """Write the clips, read them, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--frames', type=int, default=240)
    parser.add_argument('--random', type=int, default=40, help='positions that are read at random')
    args = parser.parse_args()
    positions = np.random.default_rng(1).integers(0, args.frames, args.random).tolist()
    orders = {'open': [], 'forward': range(args.frames),
              'backward': range(args.frames - 1, -1, -1), 'random': positions}
    print(f'{args.frames} frames, {args.random} at random; CPU seconds (wall)')
    print('| clip | what | OpenCV | PyAV |\n|---|---|---:|---:|')
    with tempfile.TemporaryDirectory() as folder:
        for name, size in SIZES.items():
            clip = Path(folder) / f'{name}.mp4'
            write_clip(clip, size, args.frames)
            for what, order in orders.items():
                cells = []
                for kind in (OpenCVReader, VideoFileReader):
                    start, wall = time.process_time(), time.perf_counter()
                    reader = kind(clip)
                    if what != 'open':
                        start, wall = time.process_time(), time.perf_counter()
                    for t in order:
                        reader.read(t)
                    cells.append(f'{time.process_time() - start:.2f} '
                                 f'({time.perf_counter() - wall:.2f})')
                print(f'| {name} | {what} | {" | ".join(cells)} |', flush=True)


if __name__ == '__main__':
    main()
