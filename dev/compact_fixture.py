"""Make the copy of the official fixture that the tests bring along, small and in two shards.

The layout stays, so that ``dev/check_official.py`` runs on either. Changed are:

- the checkpoint: two ``.bin`` files with an index instead of one file, the same tensors;
- logits stored in half precision: every 4th pixel of the masks, and the key says so (``_s4``).
  All pixels of the thresholded masks and every 8th one of the logits in float32 stay;
- arrays without elements are left out.

Example::

    python dev/compact_fixture.py fixtures/official_glus_tiny tests/data/official_glus_tiny
"""

import argparse
import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from glus_mm.utils.command_line import require_file
from glus_mm.utils.paths import ensure_writable_dir

CHECKPOINT = Path('checkpoint') / 'pytorch_model.bin'
NUM_SHARDS = 2
HALF_STEP = 4


def compact(source: Path, target: Path) -> int:
    """Write the copy.

    Args:
        source: folder of the full fixture.
        target: folder to write; other files in it stay.

    Returns:
        The size of what was written in bytes.
    """
    for path in sorted(source.rglob('*')):
        copy = target / path.relative_to(source)
        if path.is_dir():
            continue
        copy.parent.mkdir(parents=True, exist_ok=True)
        if path.relative_to(source) == CHECKPOINT:
            _write_shards(torch.load(path, weights_only=True), copy)
        elif path.suffix == '.npz':
            with np.load(path) as arrays:
                np.savez_compressed(copy, **_thin_out(arrays))
        else:
            shutil.copyfile(path, copy)
    return sum(path.stat().st_size for path in target.rglob('*') if path.is_file())


def _thin_out(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Take every ``HALF_STEP``-th pixel of arrays (..., h, w) in half precision."""
    kept = {}
    for key, array in arrays.items():
        # The step in pixels is part of the key: low_res_masks_s2, low_res_s2_f0_b1.
        match = re.search(r'_s(\d+)', key)
        if array.dtype == np.float16 and match and int(match[1]) < HALF_STEP:
            step = HALF_STEP // int(match[1])
            key = key.replace(match[0], f'_s{HALF_STEP}')
            array = array[..., ::step, ::step]
        if array.size:
            kept[key] = array
    return kept


def _write_shards(state: Mapping[str, torch.Tensor], path: Path) -> None:
    """Write a state dict as transformers shards it, the keys in their order."""
    total = sum(tensor.nbytes for tensor in state.values())
    shards: list[dict[str, torch.Tensor]] = [{} for _ in range(NUM_SHARDS)]
    done = 0
    for key, tensor in state.items():
        # A clone, as a view would bring its whole storage along.
        shards[done * NUM_SHARDS // total][key] = tensor.clone()
        done += tensor.nbytes
    names = [f'{path.stem}-{i:05d}-of-{NUM_SHARDS:05d}{path.suffix}'
             for i in range(1, NUM_SHARDS + 1)]
    for name, shard in zip(names, shards):
        torch.save(shard, path.with_name(name))
    index = dict(metadata=dict(total_size=total),
                 weight_map={key: name for name, shard in zip(names, shards) for key in shard})
    path.with_name(f'{path.name}.index.json').write_text(
        json.dumps(index, indent=2) + '\n', encoding='utf-8')


def main() -> None:
    """Check what was asked for, then write."""
    parser = argparse.ArgumentParser(description='Make a small copy of the official fixture')
    parser.add_argument('source', help='folder of the full fixture')
    parser.add_argument('target', help='folder to write')
    args = parser.parse_args()
    try:
        require_file(str(Path(args.source) / CHECKPOINT), 'checkpoint')
        size = compact(Path(args.source), ensure_writable_dir(args.target))
    except (OSError, ValueError) as error:
        parser.error(str(error))
    print(f'wrote {args.target}: {size / 1e6:.1f} MB')


if __name__ == '__main__':
    main()
