"""Check a zip of masks before it is uploaded to the server of MeViS, MOSE or Ref-YouTube-VOS.

Every video, expression and frame must be there once and nothing else, each mask of mode L, of the
size of its video, with the values 0 and 255 (MOSE: label maps, mode P or L). What is wrong goes to
stderr; the exit status is 1 then, and 2 if the zip or the annotation cannot be read.

Example::

    python tools/analysis_tools/check_submission.py outputs/masks/mevis.zip --format mevis \\
        --ann data/mevis/valid

``--pack DIR`` first makes the zip of the masks in a folder, whoever wrote them.
"""

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from glus_mm.apis.mask_evaluation import open_submission_videos
from glus_mm.evaluation.submissions import (
    SUBMISSION_FORMATS,
    check_submission,
    write_submission,
)


def main() -> None:
    """Check and say what is wrong."""
    parser = argparse.ArgumentParser(description='Check a zip of masks before it is uploaded')
    parser.add_argument('zip', metavar='ZIP')
    parser.add_argument('--ann', required=True, metavar='ROOT',
                        help='mevis, mevis-v2: the folder of the split valid; mose-v2: the folder '
                        'with JPEGImages/; ref-youtube-vos: that with meta_expressions/ and valid/')
    parser.add_argument('--format', required=True, choices=sorted(SUBMISSION_FORMATS))
    parser.add_argument('--pack', metavar='DIR',
                        help='make ZIP of DIR/<video>/<expression>/<frame>.png, or of '
                        'DIR/<video>/<frame>.png for mose-v2')
    parser.add_argument('--max-problems', type=int, default=20, metavar='N',
                        help='stop after so many (default: %(default)s)')
    args = parser.parse_args()
    problems: list[str] = []
    try:
        videos = open_submission_videos(args.format, args.ann)
        if args.pack is not None:
            write_submission(Path(args.pack), args.format, [
                (video.video_id, video.exp_ids, video.frame_names) for video in videos],
                Path(args.zip))
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
