"""Check a zip of masks before it is uploaded to the MeViS or the Ref-YouTube-VOS server.

Every video, expression and frame must be there once and nothing else, each mask of mode L, of the
size of its video, with the values 0 and 255. What is wrong goes to stderr; the exit status is 1
then, and 2 if the zip or the annotation cannot be read.

Example::

    python tools/analysis_tools/check_submission.py outputs/masks/mevis.zip --format mevis \\
        --ann data/mevis/valid
"""

import argparse
import sys

from tqdm import tqdm

from glus_mm.apis.mask_evaluation import open_submission_videos
from glus_mm.evaluation.submissions import SUBMISSION_FORMATS, check_submission


def parse_args() -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description='Check a zip of masks before it is uploaded')
    parser.add_argument('zip', metavar='ZIP')
    parser.add_argument('--ann', required=True, metavar='ROOT',
                        help='mevis: the folder of the split valid; ref-youtube-vos: the folder '
                        'with meta_expressions/ and valid/')
    parser.add_argument('--format', required=True, choices=sorted(SUBMISSION_FORMATS))
    parser.add_argument('--max-problems', type=int, default=20, metavar='N',
                        help='stop after so many (default: %(default)s)')
    return parser, parser.parse_args()


def main() -> None:
    """Check and say what is wrong."""
    parser, args = parse_args()
    problems: list[str] = []
    try:
        videos = open_submission_videos(args.format, args.ann)
        num_expressions = sum(len(video.exp_ids) for video in videos)
        with tqdm(total=num_expressions, unit='expression', desc=args.format) as bar:
            for problem in check_submission(args.zip, args.format, videos):
                if not problem:
                    bar.update()
                    continue
                problems.append(problem)
                if len(problems) >= args.max_problems:
                    break
    except (OSError, ValueError) as error:
        parser.exit(2, f'{parser.prog}: error: {error}\n')
    for problem in problems:
        print(problem, file=sys.stderr)
    expected = SUBMISSION_FORMATS[args.format].num_videos
    if len(videos) != expected:
        print(f'note: the server\'s split has {expected} videos, {args.ann} has {len(videos)}',
              file=sys.stderr)
    if any(video.size is None for video in videos):
        print(f'note: {args.ann} has no images; sizes were only compared within each video',
              file=sys.stderr)
    if problems:
        more = ' or more' if len(problems) >= args.max_problems else ''
        parser.exit(1, f'{args.zip}: {len(problems)}{more} problems, not fit for upload\n')
    frames = sum(len(video.exp_ids) * len(video.frame_names) for video in videos)
    print(f'{args.zip}: fit for upload, {len(videos)} videos, {num_expressions} expressions, '
          f'{frames} masks')


if __name__ == '__main__':
    main()
