"""Make the weights that the training of a key-frame selector starts from.

They are those of the MLLM in a checkpoint of GLUS (or of any model with an MLLM of that size), a
new row for [SCORE] in its vocabulary, and a random score MLP. Without training the file is the
'untrained selector' of comparisons (model.test_cfg.need_token=False).

Example::

    python tools/model_converters/glus2selector.py checkpoints/glus_tiny_moving-shapes.pth \
        configs/selectors/key-frame-selector_tiny_moving-shapes.py work_dirs/selector_init.pth
"""

import argparse

import torch

from glus_mm.apis import init_model
from glus_mm.conversion.plain_weights import DTYPES, plain_state, write_weights
from glus_mm.conversion.selector import selector_state
from glus_mm.utils.command_line import read_config, refuse, require_file
from glus_mm.utils.config_input import ConfigOptions
from glus_mm.utils.paths import ensure_writable_file


def main() -> None:
    """Check what was asked for, then write the file."""
    parser = argparse.ArgumentParser(description='Make a key-frame selector from a checkpoint')
    parser.add_argument('source', metavar='CHECKPOINT', help='checkpoint with the MLLM')
    parser.add_argument('config', metavar='CONFIG', help='config of the selector')
    parser.add_argument('target', metavar='OUT', help='file to write')
    parser.add_argument('--seed', type=int, default=0,
                        help='of the new MLP (default: %(default)s)')
    parser.add_argument('--source-config', metavar='CONFIG',
                        help='config of the checkpoint, needed where it has LoRA adapters')
    parser.add_argument('--cfg-options', nargs='+', action=ConfigOptions, metavar='K=V',
                        help='override values of the config')
    args = parser.parse_args()
    with refuse(parser):
        require_file(args.source, 'checkpoint')
        ensure_writable_file(args.target)
        cfg = read_config(args.config, dict({'model.mllm.lora': None,
                                             'model.mllm.trainable': None},
                                            **(args.cfg_options or {})))
        source_cfg = None if args.source_config is None else read_config(args.source_config)
        torch.manual_seed(args.seed)
        model = init_model(cfg)
        state = selector_state(plain_state(args.source, source_cfg), model, args.source)
        size = write_weights(state, args.target, DTYPES['keep'])
    print(f'wrote {args.target}: {size / 1e6:.2f} MB')


if __name__ == '__main__':
    main()
