"""Write a model in the layout of the official GLUS checkpoints; LoRA adapters are merged.

Example::

    python tools/model_converters/mm2hf.py work_dirs/RUN/CONFIG.py work_dirs/RUN/iter_3000.pth \
        GLUS-mine --dtype bfloat16
"""

import argparse

from mmengine import Config

from glus_mm.apis.config_text import fill_tokenizers
from glus_mm.conversion import export_official
from glus_mm.utils.command_line import require_file
from glus_mm.utils.precision import DTYPES


def main() -> None:
    """Export."""
    parser = argparse.ArgumentParser(description='Write a model in the official layout')
    parser.add_argument('config', metavar='CONFIG', help='config file of the model')
    parser.add_argument('checkpoint', metavar='CHECKPOINT', help='its weights')
    parser.add_argument('out_dir', metavar='OUT_DIR', help='new folder for the checkpoint')
    parser.add_argument('--max-shard-size', metavar='SIZE', default='10GB',
                        help='largest weight file (default: %(default)s)')
    parser.add_argument('--safetensors', action='store_true',
                        help='write .safetensors files instead of .bin')
    parser.add_argument('--dtype', choices=sorted(DTYPES),
                        help='cast the weights (default: each keeps its type)')
    parser.add_argument('--vision-tower', metavar='NAME',
                        help="what config.json names (default: OpenAI's tower of this size; one of "
                             'another size is written into OUT_DIR/clip)')
    parser.add_argument('--force', action='store_true',
                        help='replace the files of an earlier export in OUT_DIR')
    args = parser.parse_args()
    try:
        require_file(args.config, 'config')
        cfg = Config.fromfile(args.config)
        fill_tokenizers(cfg, args.checkpoint, cfg.get('load_from'))
        export_official(
            cfg, args.checkpoint, args.out_dir, max_shard_size=args.max_shard_size,
            safe_serialization=args.safetensors, vision_tower=args.vision_tower,
            dtype=args.dtype, force=args.force)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    print(f'wrote {args.out_dir}')


if __name__ == '__main__':
    main()
