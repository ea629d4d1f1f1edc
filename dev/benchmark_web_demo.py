"""Measure how long a visitor of the web demo waits: for the first mask and for the whole result.

Starts ``demo/web_demo.py`` with the shipped tiny checkpoint, uploads clips of three seconds through
Gradio's client and prints a table; the upload counts. ``CPU`` is what the server's processor worked
meanwhile: on a machine that does other work, too, the time on the clock is longer than alone.
Example::

    python dev/benchmark_web_demo.py
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from glus_mm.datasets.moving_shapes import generate_video
from glus_mm.visualization import OverlayVideoWriter

DEMO = Path(__file__).resolve().parents[1] / 'demo' / 'web_demo.py'
SECONDS = 3
TEXTS = ('the orange triangle', 'the circle that is yellow', 'both blue shapes')
START_SECONDS = 300
# Frames per second of the clip, those that are segmented at most (0 = all), number of texts.
CASES = ((12, 12, 1), (12, 12, 3), (25, 12, 1), (25, 0, 1), (25, 0, 3))


@dataclass
class Figures:
    """What one visit took, in seconds.

    Args:
        first: until the first picture with a mask.
        whole: until the overlay video and the downloads were there.
        cpu: worked by the server.
    """

    first: float
    whole: float
    cpu: float


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description='Measure how long a visitor of the demo waits')
    parser.add_argument('--size', type=int, nargs=2, default=(640, 480), metavar=('W', 'H'),
                        help='size of the clips (default: 640 480)')
    parser.add_argument('--repeat', type=int, default=1, metavar='N',
                        help='visits of each kind; the fastest counts (default: %(default)s)')
    return parser.parse_args()


def write_clip(path: Path, fps: int, size: tuple[int, int]) -> None:
    """Write three seconds of a MovingShapes video, its frames repeated and enlarged."""
    frames = generate_video(777, 'valid_u', 46).frames
    with OverlayVideoWriter(path, fps) as writer:
        for position in np.linspace(0, len(frames) - 1, SECONDS * fps).round().astype(int):
            writer.write(cv2.resize(frames[position], size, interpolation=cv2.INTER_CUBIC))


def start_server() -> tuple[subprocess.Popen, str]:
    """Start the demo on a free port; returns its process and address."""
    server = subprocess.Popen([sys.executable, str(DEMO), '--port', '0'], text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + START_SECONDS
    for line in server.stdout:
        address = re.search(r'http://\S+', line)
        if address:
            return server, address[0]
        if time.monotonic() > deadline:
            break
    server.kill()
    raise RuntimeError('the demo did not start; run demo/web_demo.py to see why')


def cpu_seconds(pid: int) -> float:
    """Processor time of a process so far; nan where the system does not tell."""
    try:
        fields = Path(f'/proc/{pid}/stat').read_text().rsplit(')', 1)[1].split()
    except OSError:
        return float('nan')
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


def visit(address: str, pid: int, clip: Path, text: str, fps: int) -> Figures:
    """Upload a clip, type, and wait for the result."""
    from gradio_client import Client, handle_file

    client = Client(address, verbose=False)
    start, cpu = time.monotonic(), cpu_seconds(pid)
    job, first = client.submit(handle_file(str(clip)), text, fps, api_name='/segment'), None
    for values in job:
        if first is None and 'masks' in str(values[0]):
            first = time.monotonic() - start
    whole = time.monotonic() - start
    if 'Done' not in job.outputs()[-1][0]:
        raise RuntimeError(f'expected a result, got {job.outputs()[-1][0]}')
    return Figures(whole if first is None else first, whole, cpu_seconds(pid) - cpu)


def main() -> None:
    """Measure every case."""
    args = parse_args()
    server, address = start_server()
    try:
        with tempfile.TemporaryDirectory() as folder:
            print(f'{SECONDS} s clips, {args.size[0]} x {args.size[1]}, tiny checkpoint, '
                  f'{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}')
            print('| clip | frames segmented | texts | first mask s | whole s | CPU s |')
            print('|---|---:|---:|---:|---:|---:|')
            for fps, at_most, num_texts in CASES:
                clip = Path(folder) / f'{fps}.mp4'
                if not clip.exists():
                    write_clip(clip, fps, tuple(args.size))
                best = min((visit(address, server.pid, clip, '\n'.join(TEXTS[:num_texts]), at_most)
                            for _ in range(args.repeat)), key=lambda figures: figures.whole)
                segmented = SECONDS * min(fps, at_most or fps)
                print(f'| {fps} fps | {segmented} | {num_texts} | {best.first:.1f} | '
                      f'{best.whole:.1f} | {best.cpu:.1f} |', flush=True)
    finally:
        server.terminate()
        server.wait(timeout=30)


if __name__ == '__main__':
    main()
