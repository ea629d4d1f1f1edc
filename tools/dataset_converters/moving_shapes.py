"""Generates MovingShapes, the embedded data set, in the MeViS layout.

Example:
    python tools/dataset_converters/moving_shapes.py data/moving_shapes \
        --videos 100 --seed 1 --split valid_u
"""
import argparse
import sys

from tqdm import tqdm

from glus_mm.datasets.moving_shapes import SPLIT_CODES, VARIANTS, write_split


def main(argv: list[str] | None = None) -> int:
    """Generate the split that the command line asks for.

    Returns:
        Exit status, 1 where the folder cannot be used.
    """
    parser = argparse.ArgumentParser(description='Generate a split of MovingShapes.')
    parser.add_argument('out', help='root of the data set; the split becomes a folder in it')
    parser.add_argument('--videos', type=int, required=True, help='number of videos')
    parser.add_argument('--seed', type=int, default=0, help='seed (default: 0)')
    parser.add_argument('--split', choices=sorted(SPLIT_CODES), default='train',
                        help='split (default: train)')
    parser.add_argument('--variant', choices=list(VARIANTS), default='default',
                        help='what the videos are like, see docs/moving_shapes.md '
                             '(default: %(default)s)')
    parser.add_argument('--frames', type=int, default=12, metavar='T',
                        help='frames of a video, at least 12: more show the same scenes in slower '
                             'motion (default: %(default)s)')
    parser.add_argument('--talk', type=int, nargs='?', const=24, default=0, metavar='PAIRS',
                        help='write talk.json too: conversations in the JSON of LLaVA with up to '
                             'so many questions a video (%(const)s if no number is given)')
    parser.add_argument('--no-mp4', action='store_true', help='write no mp4 files')
    parser.add_argument('--workers', type=int, default=1,
                        help='number of processes; the bytes do not depend on it (default: 1)')
    parser.add_argument('--overwrite', action='store_true', help='replace an earlier split')
    args = parser.parse_args(argv)
    for name, least in (('videos', 1), ('workers', 1), ('seed', 0), ('talk', 0),
                        ('frames', 12)):
        value = getattr(args, name)
        if value < least:
            parser.error(f'argument --{name}: expected a number >= {least}, got {value}')
    if args.talk and args.frames != 12:
        parser.error(f'argument --talk: expected --frames 12 with it, got {args.frames}')
    with tqdm(total=args.videos, unit='video') as bar:
        try:
            folder = write_split(args.out, args.videos, args.seed, args.split,
                                 mp4=not args.no_mp4, workers=args.workers,
                                 overwrite=args.overwrite, progress=bar.update,
                                 variant=args.variant, talk=args.talk,
                                 num_frames=args.frames)
        except OSError as error:
            bar.close()
            print(f'moving_shapes.py: error: {error}', file=sys.stderr)
            return 1
    print(f'wrote {args.videos} videos to {folder}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
