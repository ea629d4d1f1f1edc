"""Parts of benchmark_inference.py."""

from inference_benchmark.model import build_model, emit_seg_always, make_frames, make_sample
from inference_benchmark.runs import PARTS, Agreement, Run, interleave

__all__ = ['PARTS', 'Agreement', 'Run', 'build_model', 'emit_seg_always', 'interleave',
           'make_frames', 'make_sample']
