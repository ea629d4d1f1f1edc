"""Segment a video by texts and show the result; ``glus-mm segment`` does the same.

Writes into the output folder: masks as ``<video>/<text number>/<frame>.png``, the overlay as
``overlay.mp4`` and eight frames of every text as ``contact_sheet.png``. Example::

    python demo/video_demo.py video.mp4 configs/glus/glus_tiny_moving-shapes.py \
        checkpoints/glus_tiny_moving-shapes.pth --text "the red circle" --out-dir outputs/video
"""

import argparse

from glus_mm.apis import GLUSInferencer, SegmentJob, init_model
from glus_mm.cli.segment import add_video_options, job_options
from glus_mm.cli.user_error import USAGE, UserError, user_errors


def parse_args() -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description='Segment a video by texts')
    parser.add_argument('video', metavar='VIDEO_OR_DIR', help='video file or folder of images')
    parser.add_argument('config', metavar='CONFIG', help='config file')
    parser.add_argument('checkpoint', metavar='CHECKPOINT',
                        help='checkpoint file, folder written by tools/model_converters, or name '
                             'of a repository on the hub')
    add_video_options(parser)
    return parser, parser.parse_args()


def main() -> None:
    """Check what was asked for, segment, then draw."""
    parser, args = parse_args()
    # One line and no traceback for what a user can mend. Once the work goes on, other errors
    # than those of files and frames are bugs and keep their traceback.
    try:
        with user_errors(USAGE, ImportError, KeyError, TypeError):
            job = SegmentJob(args.video, out_dir=args.out_dir, **job_options(args))
            inferencer = GLUSInferencer(
                init_model(args.config, args.checkpoint, args.device, args.cfg_options))
        with user_errors(USAGE), job:
            out = job.run(inferencer, progress=True)
    except UserError as error:
        parser.exit(error.status, f'{parser.prog}: error: {error}\n')
    print(job.summary(out))


if __name__ == '__main__':
    main()
