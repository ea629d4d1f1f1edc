"""Counts what ``model.test_cfg.compile`` compiles anew as expressions and memories come.

The tiny model with random weights segments one video after another; nothing but tracing runs, as
guards do not depend on the backend. Needs neither a compiler nor a GPU. Example::

    python dev/count_recompiles.py
"""

import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'tools' / 'analysis_tools'))
from inference_benchmark import (
    build_model,
    emit_seg_always,
    make_frames,
    make_sample,
)

from glus_mm.video import ArrayReader

FRAMES = 14
VIDEOS = [(number, cache) for cache in ('none', 'turns') for number in (1, 1, 2, 8, 3)]


def count_graphs() -> Counter:
    """Let ``torch.compile`` count the graphs of each part; the counter grows."""
    graphs, compiled = Counter(), torch.compile

    def counting(function, mode: str | None = None):
        owner = getattr(function, '__self__', None)
        name = type(owner).__name__ if owner is not None else function.__name__

        def backend(graph: torch.fx.GraphModule, inputs: list):
            graphs[name] += 1
            return graph

        return compiled(function, backend=backend)

    torch.compile = counting
    return graphs


def main() -> None:
    """Count."""
    graphs = count_graphs()
    model = build_model('tiny', 'float32', 'cpu', {
        'test_cfg.compile': True, 'train_cfg.attention': 'window'}).prepare()
    frames = make_frames(FRAMES, (96, 96))
    emit_seg_always(model, frames[:2], 1)
    torch._dynamo.reset()
    graphs.clear()
    for number, cache in VIDEOS:
        model.test_cfg = replace(model.test_cfg, prefetch=0, window_cache=cache)
        session = model.init_session(ArrayReader(frames), make_sample(number))
        print(f"{number} expressions, window_cache='{cache}'")
        before = graphs.copy()
        with torch.inference_mode():
            for t, _, _ in model.segment(session):
                if graphs != before:
                    print(f'  frame {t}: ' + ', '.join(
                        f'{name} {count}' for name, count in (graphs - before).items()))
                    before = graphs.copy()
    print('all: ' + ', '.join(f'{name} {count}' for name, count in graphs.items()))


if __name__ == '__main__':
    main()
