"""Count the functions of the package that a training step and an inference step pass through.

Of the embedded default, on one video that is generated; each function counts once. Loading the
video is counted apart. Example::

    python dev/count_functions.py
"""

import sys
import tempfile
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.optim import OptimWrapper
from mmengine.registry import init_default_scope
from mmengine.runner import load_checkpoint

import glus_mm
from glus_mm.datasets.moving_shapes import write_split
from glus_mm.registry import DATASETS, MODELS, SCOPE

ROOT = Path(glus_mm.__file__).parent


def count(work: Callable[[], object]) -> str:
    """Run something; tell how many functions in how many files of the package it entered."""
    seen = set()

    def note(frame, event, arg) -> None:
        code = frame.f_code
        if event == 'call' and code.co_filename.startswith(f'{ROOT}/') \
                and not code.co_name.startswith('<'):
            seen.add((code.co_filename, code.co_name, code.co_firstlineno))

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return f'{len(seen)} functions in {len({file for file, *_ in seen})} files'


def main() -> None:
    """Build, run and print."""
    cfg = Config.fromfile(ROOT.parent / 'configs/glus/glus_tiny_moving-shapes.py')
    init_default_scope(SCOPE)
    model = MODELS.build(cfg.model)
    # With the shipped weights: those of random ones say no [SEG], and no mask is decoded.
    load_checkpoint(model, str(ROOT.parent / 'checkpoints/glus_tiny_moving-shapes.pth'))
    with tempfile.TemporaryDirectory() as folder:
        data = str(write_split(Path(folder), 1, seed=1, split='train', mp4=False))
        train, test = (DATASETS.build(dict(cfg[f'{phase}_dataloader'].dataset, data_root=data))
                       for phase in ('train', 'test'))
        wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=1e-3))
        for name, data, step in (
                ('training step', train, lambda batch: model.train().train_step(batch, wrapper)),
                ('inference step', test, lambda batch: model.eval().test_step(batch))):
            batch = pseudo_collate([data[0]])
            alone = count(partial(step, batch))
            print(f'{name}: {alone}; with its data: '
                  + count(lambda data=data, step=step: step(pseudo_collate([data[0]]))))


if __name__ == '__main__':
    main()
