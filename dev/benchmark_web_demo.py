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
from pathlib import Path

import cv2
import numpy as np
import psutil
from gradio_client import Client, handle_file

from glus_mm.datasets.moving_shapes import generate_video
from glus_mm.visualization import OverlayVideoWriter

DEMO = Path(__file__).resolve().parents[1] / 'demo' / 'web_demo.py'
SECONDS, SIZE = 3, (640, 480)
TEXTS = ('the orange triangle', 'the circle that is yellow', 'both blue shapes')
# Frames per second of the clip, those that are segmented at most (0 = all), number of texts.
CASES = ((12, 12, 1), (12, 12, 3), (25, 12, 1), (25, 0, 1), (25, 0, 3))


def write_clip(path: Path, fps: int) -> None:
    """Write three seconds of a MovingShapes video, its frames repeated and enlarged."""
    frames = generate_video(777, 'valid_u', 46).frames
    with OverlayVideoWriter(path, fps) as writer:
        for position in np.linspace(0, len(frames) - 1, SECONDS * fps).round().astype(int):
            writer.write(cv2.resize(frames[position], SIZE, interpolation=cv2.INTER_CUBIC))


def visit(client: Client, server: psutil.Process, clip: Path, text: str, fps: int
          ) -> tuple[float, float, float]:
    """Upload a clip and type; seconds until the first mask and the result, and of the server."""
    start, before, first = time.monotonic(), server.cpu_times(), None
    job = client.submit(handle_file(str(clip)), text, fps, api_name='/segment')
    for values in job:
        if first is None and 'masks' in str(values[0]):
            first = time.monotonic() - start
    whole, after = time.monotonic() - start, server.cpu_times()
    if 'Done' not in job.outputs()[-1][0]:
        raise RuntimeError(f'expected a result, got {job.outputs()[-1][0]}')
    return (whole if first is None else first, whole,
            after.user + after.system - before.user - before.system)


def main() -> None:
    """Measure every case."""
    argparse.ArgumentParser(description=__doc__.partition('\n')[0]).parse_args()
    server = subprocess.Popen([sys.executable, str(DEMO), '--port', '0'], text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        address = next((found[0] for line in server.stdout
                        if (found := re.search(r'http://\S+', line))), None)
        if address is None:
            raise RuntimeError('the demo did not start; run demo/web_demo.py to see why')
        with tempfile.TemporaryDirectory() as folder:
            print(f'{SECONDS} s clips, {SIZE[0]} x {SIZE[1]}, tiny checkpoint, '
                  f'{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}')
            print('| clip | frames segmented | texts | first mask s | whole s | CPU s |')
            print('|---|---:|---:|---:|---:|---:|')
            for fps, at_most, num_texts in CASES:
                clip = Path(folder) / f'{fps}.mp4'
                write_clip(clip, fps)
                first, whole, cpu = visit(
                    Client(address, verbose=False), psutil.Process(server.pid), clip,
                    '\n'.join(TEXTS[:num_texts]), at_most)
                print(f'| {fps} fps | {SECONDS * min(fps, at_most or fps)} | {num_texts} | '
                      f'{first:.1f} | {whole:.1f} | {cpu:.1f} |', flush=True)
    finally:
        server.terminate()
        server.wait(timeout=30)


if __name__ == '__main__':
    main()
