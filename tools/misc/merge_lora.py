"""Merge the LoRA adapters of a checkpoint into its weights: a plain, complete checkpoint.

A merged weight is W + alpha / r * B @ A, computed in float32, in the type of W. The result is
loaded with the config of the training, which then puts fresh adapters on top (they change
nothing), or with ``--cfg-options model.mllm.lora=None``.

Example::

    python tools/misc/merge_lora.py work_dirs/run/config.py work_dirs/run/iter_30000.pth merged.pth
"""

import argparse

from mmengine import DictAction

from glus_mm.apis.config_text import fill_tokenizers
from glus_mm.apis.pretrained import resolve_base
from glus_mm.conversion.plain_weights import DTYPES, plain_state, write_weights
from glus_mm.utils.command_line import read_config, require_file
from glus_mm.utils.paths import ensure_writable_file


def main() -> None:
    """Check what was asked for, then write the file."""
    parser = argparse.ArgumentParser(description='Merge LoRA adapters into the weights')
    parser.add_argument('config', metavar='CONFIG', help='config of the training')
    parser.add_argument('source', metavar='CHECKPOINT', help='checkpoint of the training')
    parser.add_argument('target', metavar='OUT', help='file to write')
    parser.add_argument('--dtype', choices=list(DTYPES), default='keep',
                        help='type of the weights (default: %(default)s the types they have)')
    parser.add_argument('--base', metavar='FILE',
                        help='what the training started from, if it has moved')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='K=V',
                        help='override config values')
    args = parser.parse_args()
    try:
        cfg = read_config(args.config, args.cfg_options)
        require_file(args.source, 'checkpoint')
        ensure_writable_file(args.target)
        base = args.base or resolve_base(cfg, args.source, cfg.get('load_from'))
        fill_tokenizers(cfg, args.source, cfg.get('load_from'))
        size = write_weights(plain_state(args.source, cfg, base), args.target, DTYPES[args.dtype])
    except (OSError, KeyError, ValueError) as error:
        parser.error(str(error.args[0] if isinstance(error, KeyError) else error))
    print(f'wrote {args.target}: {size / 1e6:.2f} MB')


if __name__ == '__main__':
    main()
