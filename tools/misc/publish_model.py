"""Make a checkpoint of training fit to ship: complete, weights alone, in half precision.

What a checkpoint leaves to the file that its training started from is put in, LoRA adapters are
merged, for which their config is needed, and what only losses use is left out. Several checkpoints
that hold different parts of a model are put together. A merged weight is W + alpha / r * B @ A,
computed in float32; the result is loaded with the config of the training, which then puts fresh
adapters on top (they change nothing), or with ``--cfg-options model.mllm.lora=None``.

Examples::

    python tools/misc/publish_model.py work_dirs/run/iter_2500.pth checkpoints/model.pth
    python tools/misc/publish_model.py work_dirs/run/iter_30000.pth model.pth --dtype bf16 \
        --config work_dirs/run/config.py
    python tools/misc/publish_model.py sam2/iter_3000.pth vision/iter_2000.pth parts.pth
"""

import argparse

from glus_mm.apis.config_text import fill_tokenizers
from glus_mm.apis.pretrained import resolve_base
from glus_mm.conversion.plain_weights import DTYPES, joined_state, write_weights
from glus_mm.utils.command_line import read_config, refuse, require_file
from glus_mm.utils.config_input import ConfigOptions
from glus_mm.utils.paths import ensure_writable_file


def main() -> None:
    """Check what was asked for, then write the file."""
    parser = argparse.ArgumentParser(description='Strip a checkpoint to its weights')
    parser.add_argument('sources', nargs='+', metavar='source', help='checkpoint of training')
    parser.add_argument('target', help='file to write')
    parser.add_argument('--dtype', choices=list(DTYPES), default='fp16',
                        help='type of the weights; keep: those they have (default: %(default)s)')
    parser.add_argument('--config', metavar='CONFIG',
                        help='config of the training, needed to merge LoRA adapters')
    parser.add_argument('--base', metavar='FILE',
                        help='what the training started from, if it has moved')
    parser.add_argument('--cfg-options', nargs='+', action=ConfigOptions, metavar='K=V',
                        help='override config values')
    args = parser.parse_args()
    with refuse(parser):
        for source in args.sources:
            require_file(source, 'checkpoint')
        ensure_writable_file(args.target)
        cfg, base = None, args.base
        if args.config is not None:
            cfg = read_config(args.config, args.cfg_options)
            base = base or resolve_base(cfg, args.sources[0], cfg.get('load_from'))
            fill_tokenizers(cfg, args.sources[0], cfg.get('load_from'))
        size = write_weights(
            joined_state(args.sources, cfg, base), args.target, DTYPES[args.dtype])
    print(f'wrote {args.target}: {size / 1e6:.2f} MB')


if __name__ == '__main__':
    main()
