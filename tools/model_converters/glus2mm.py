"""Convert an official GLUS checkpoint (GLUS-S, GLUS-A, ...) into a folder that glus_mm runs.

Example::

    python tools/model_converters/glus2mm.py GLUS-S checkpoints/glus-s
    python demo/video_demo.py VIDEO checkpoints/glus-s/config.py checkpoints/glus-s/model.pth \
        --text "the cat" --out-dir outputs
"""

import argparse

from glus_mm.conversion import convert_glus


def main() -> None:
    """Convert."""
    parser = argparse.ArgumentParser(description='Convert an official GLUS checkpoint')
    parser.add_argument('hf_dir', metavar='HF_DIR', help='folder of the official checkpoint')
    parser.add_argument('out_dir', metavar='OUT_DIR',
                        help='new folder for config.py, model.pth and the tokenizer')
    parser.add_argument('--clip', metavar='DIR_OR_NAME',
                        help='vision tower (default: the one that config.json names)')
    parser.add_argument('--sam2', metavar='NAME_OR_YAML', default='sam2_hiera_l',
                        help='config of SAM-2 (default: %(default)s)')
    parser.add_argument('--context', type=int, default=4, metavar='N',
                        help='context frames (default: %(default)s)')
    parser.add_argument('--query', type=int, default=4, metavar='N',
                        help='query frames in the window (default: %(default)s)')
    parser.add_argument('--memory-stride', type=int, default=3, metavar='N',
                        help='distance of the older memories (default: %(default)s)')
    parser.add_argument('--force', action='store_true',
                        help='replace the files of an earlier conversion in OUT_DIR')
    args = parser.parse_args()
    try:
        convert_glus(
            args.hf_dir, args.out_dir, clip=args.clip, sam2=args.sam2, num_context=args.context,
            num_query=args.query, memory_stride=args.memory_stride, force=args.force)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    print(f'wrote {args.out_dir}')


if __name__ == '__main__':
    main()
