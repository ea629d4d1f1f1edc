"""Make a checkpoint of training small enough to ship: weights only, in half precision.

Example::

    python tools/misc/publish_model.py work_dirs/run/iter_2500.pth checkpoints/model.pth
"""

import argparse
import os
from pathlib import Path

import torch

from glus_mm.utils.checkpoint import model_state_of
from glus_mm.utils.command_line import require_file
from glus_mm.utils.paths import ensure_writable_file

DTYPES = dict(fp16=torch.float16, bf16=torch.bfloat16, fp32=torch.float32)


def publish(source: str, target: str, dtype: torch.dtype) -> int:
    """Write the weights of ``source`` to ``target``.

    Args:
        source: a checkpoint with ``state_dict``, read without unpickling objects.
        target: the file to write; it appears whole or not at all.
        dtype: what floating-point tensors are cast to.

    Returns:
        The size of the file in bytes.

    Raises:
        ValueError: a value is not finite, or becomes so in ``dtype``.
    """
    checkpoint = torch.load(source, map_location='cpu', weights_only=True)
    state = {}
    for name, tensor in model_state_of(checkpoint, source).items():
        cast = tensor.to(dtype) if tensor.is_floating_point() else tensor
        if not torch.isfinite(cast.float()).all():
            raise ValueError(f'{source}: expected finite weights, but {name} is not in {dtype}')
        state[name] = cast.clone()
    part = Path(target).with_suffix('.part')
    torch.save(dict(state_dict=state), part)
    os.replace(part, target)
    return Path(target).stat().st_size


def main() -> None:
    """Check what was asked for, then write the file."""
    parser = argparse.ArgumentParser(description='Strip a checkpoint to its weights')
    parser.add_argument('source', help='checkpoint of training')
    parser.add_argument('target', help='file to write')
    parser.add_argument('--dtype', choices=sorted(DTYPES), default='fp16')
    args = parser.parse_args()
    try:
        require_file(args.source, 'checkpoint')
        ensure_writable_file(args.target)
        size = publish(args.source, args.target, DTYPES[args.dtype])
    except (OSError, ValueError) as error:
        parser.error(str(error))
    print(f'wrote {args.target}: {size / 1e6:.2f} MB')


if __name__ == '__main__':
    main()
