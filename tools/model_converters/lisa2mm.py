"""Make the start of a GLUS training from LISA-7B-v1 and SAM-2, as the paper does.

Example::

    python tools/model_converters/lisa2mm.py LISA-7B-v1 checkpoints/lisa-7b_sam2-l \
        --sam2-checkpoint sam2_hiera_large.pt
"""

import argparse

from glus_mm.conversion import convert_lisa


def main() -> None:
    """Convert."""
    parser = argparse.ArgumentParser(
        description='Make the start of a GLUS training from LISA and SAM-2')
    parser.add_argument('hf_dir', metavar='HF_DIR', help='folder of the LISA checkpoint')
    parser.add_argument('out_dir', metavar='OUT_DIR',
                        help='new folder for config.py, model.pth and the tokenizer')
    parser.add_argument('--clip', metavar='DIR_OR_NAME',
                        help='vision tower (default: the one that config.json names)')
    parser.add_argument('--sam2', metavar='NAME_OR_YAML', default='sam2_hiera_l',
                        help='config of SAM-2 (default: %(default)s)')
    parser.add_argument('--sam2-checkpoint', metavar='FILE',
                        help='stock weights of SAM-2 (default: the published ones, from the hub)')
    parser.add_argument('--context', type=int, default=4, metavar='N',
                        help='context frames (default: %(default)s)')
    parser.add_argument('--query', type=int, default=4, metavar='N',
                        help='query frames in the window (default: %(default)s)')
    parser.add_argument('--memory-stride', type=int, default=3, metavar='N',
                        help='distance of the older memories (default: %(default)s)')
    parser.add_argument('--seed', type=int, default=0, metavar='N',
                        help='of the new projector of seg tokens (default: %(default)s)')
    parser.add_argument('--force', action='store_true',
                        help='replace the files of an earlier conversion in OUT_DIR')
    args = parser.parse_args()
    try:
        convert_lisa(
            args.hf_dir, args.out_dir, clip=args.clip, sam2=args.sam2,
            sam2_checkpoint=args.sam2_checkpoint, num_context=args.context,
            num_query=args.query, memory_stride=args.memory_stride, seed=args.seed,
            force=args.force)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    print(f'wrote {args.out_dir}')


if __name__ == '__main__':
    main()
