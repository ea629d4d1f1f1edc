"""Measures what a process costs before it does anything: imports, and the first mask.

CPU seconds of new processes with one thread, which hardly depend on other work on the machine; run
it twice, so that files are in memory. Example::

    python dev/benchmark_start.py
"""

import argparse
import tempfile
from pathlib import Path

import cv2
import numpy as np
from benchmark_j_and_f import timed_run

LIBRARIES = 'import torch; from transformers import CLIPVisionModel, LlamaModel'
IMPORTS = {
    'torch': 'import torch',
    "torch and transformers' LLaMA and CLIP": LIBRARIES,
    'glus_mm.apis': 'from glus_mm.apis import GLUSInferencer, init_model',
}
# Looks for a mask 50 times a second.
SEGMENT = """
import sys, threading, time
from pathlib import Path

def watch(folder):
    while not any(folder.glob('*/*/*.png')):
        time.sleep(0.02)
    print(f'{time.process_time():.2f} to the first mask', flush=True)

threading.Thread(target=watch, args=(Path(sys.argv[2]), ), daemon=True).start()
from glus_mm.cli.main import main
main(['segment', sys.argv[1], '--text', 'the red circle', '--out-dir', sys.argv[2]])
"""
END = """
import time
print(f'{time.process_time():.2f} to the end of its work', flush=True)
"""
FRAMES = 12


def run(name: str, program: str, *arguments: str) -> None:
    """Run a program and print its CPU seconds: to the end of its own work, and of the process."""
    said, _, cpu = timed_run('-c', program + END, *arguments)
    print(f'{name}: ' + ', '.join(line for line in said.splitlines() if ' to the ' in line)
          + f', {cpu:.2f} of the process', flush=True)


def main() -> None:
    """Measure."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    for name, program in IMPORTS.items():
        run(name, program)
    with tempfile.TemporaryDirectory() as folder:
        frames = Path(folder, 'video')
        frames.mkdir()
        rng = np.random.default_rng(0)
        for t in range(FRAMES):
            cv2.imwrite(str(frames / f'{t:05d}.jpg'), rng.integers(0, 256, (128, 128, 3), np.uint8))
        run('glus-mm segment', SEGMENT, str(frames), str(Path(folder, 'out')))


if __name__ == '__main__':
    main()
