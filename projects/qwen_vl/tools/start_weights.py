"""Write the checkpoint that a training starts from: Qwen's weights and the stock ones of SAM-2.

Example::

    PYTHONPATH=projects/qwen_vl python projects/qwen_vl/tools/start_weights.py \
        projects/qwen_vl/configs/qwen2_5-vl-3b_sam2-l_4xb2-3k_mevis-ref-youtube-vos.py \
        work_dirs/qwen2_5-vl-3b_sam2-l.pth
"""

import argparse

import torch
from mmengine import Config

from glus_mm.apis import init_model
from glus_mm.conversion.sam2_weights import read_sam2_weights
from glus_mm.utils.paths import ensure_writable_file


def main() -> None:
    """Build the model of a config, which loads Qwen by name, put SAM-2 in, and save."""
    parser = argparse.ArgumentParser(description='Write the weights that a training starts from')
    parser.add_argument('config', metavar='CONFIG')
    parser.add_argument('out', metavar='OUT.pth')
    parser.add_argument('--sam2-checkpoint', metavar='FILE',
                        help='stock weights of SAM-2; the published ones by default')
    args = parser.parse_args()
    out = ensure_writable_file(args.out)
    cfg = Config.fromfile(args.config)
    _, sam2 = read_sam2_weights(cfg.model.mask_head.sam2, args.sam2_checkpoint)
    model = init_model(cfg, cfg_options={'model.mllm.lora': None})
    # Of a video predictor's parts the head uses those that it has.
    result = model.mask_head.sam2.load_state_dict(sam2, strict=False)
    if result.missing_keys:
        raise SystemExit(f'{args.sam2_checkpoint or cfg.model.mask_head.sam2}: expected all '
                         f'weights of the head, got none for {result.missing_keys}')
    torch.save(dict(state_dict=model.state_dict()), out)


if __name__ == '__main__':
    main()
