"""``glus-mm segment``: a video and texts in, masks and an overlay out."""

import argparse
import sys

from mmengine import DictAction

from glus_mm.cli.user_error import FAILED, USAGE, UserError, user_errors

DEFAULT_MODEL = 'glus_tiny_moving-shapes'
_EPILOG = """Results in the output folder:
  <video>/<text number>/<frame>.png   masks, 0 and 255
  overlay.mp4                         the video with the masks drawn over it
  contact_sheet.png                   eight frames, one row for each text

Examples:
  glus-mm segment video.mp4 --text "the red circle" --text "the leftmost shape" --out-dir out
  glus-mm segment video.mp4 --model glus-s --device cuda --text "the cat that jumps" --out-dir out
  glus-mm segment video.mp4 --model config.py --checkpoint iter_3000.pth --text "a dog" --out-dir o
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command.

    Args:
        parser: of the command.
    """
    parser.epilog = _EPILOG
    parser.add_argument('video', metavar='VIDEO_OR_DIR', help='video file or folder of images')
    parser.add_argument('--model', default=DEFAULT_MODEL, metavar='M',
                        help='name of a model ("glus-mm info" lists them) or a config file '
                             '(default: %(default)s, which comes with the package and knows '
                             'coloured shapes only; for real videos take glus-s)')
    parser.add_argument('--checkpoint', metavar='C',
                        help='weights: a file, a folder written by "glus-mm convert", or a name on '
                             'the Hugging Face hub (default: those of the named model)')
    add_video_options(parser)


def add_video_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that the command and ``demo/video_demo.py`` share.

    Args:
        parser: gets ``--text``, ``--out-dir``, ``--device``, ``--key-frame``, ``--no-video``,
            ``--fps`` and ``--cfg-options``.
    """
    parser.add_argument('--text', action='append', required=True, metavar='T',
                        help='what to segment; give it once for each expression')
    parser.add_argument('--out-dir', required=True, metavar='D', help='folder for the results')
    parser.add_argument('--device', default='cpu', help='cpu, cuda, cuda:1 (default: %(default)s)')
    parser.add_argument('--key-frame', action='append', type=int, metavar='K',
                        help='0-based frame where propagation starts, one for each --text '
                             '(default: the first frame)')
    parser.add_argument('--no-video', action='store_true', help='write no overlay.mp4')
    parser.add_argument('--fps', type=float, metavar='F',
                        help='frames per second of the overlay (default: those of the video, '
                             '10 for a folder)')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='K=V',
                        help='override config values: a.b=1 c="[1,2]"')


def run(args: argparse.Namespace) -> None:
    """Check what was asked for, the quick things first, then segment and draw.

    Args:
        args: parsed arguments.

    Raises:
        UserError: something is wrong that the user can mend.
    """
    from glus_mm.apis import GLUSInferencer, SegmentJob, init_model

    with user_errors(USAGE, ImportError, KeyError, TypeError):
        if args.model != DEFAULT_MODEL and args.checkpoint is None and args.model.endswith('.py'):
            raise UserError(f'expected --checkpoint with the config {args.model}', USAGE)
        job = SegmentJob(args.video, args.text, args.out_dir, args.key_frame, args.fps,
                         overlay=not args.no_video)
        inferencer = GLUSInferencer(
            init_model(args.model, args.checkpoint, args.device, args.cfg_options))
    with user_errors(FAILED), job:
        out = job.run(inferencer, progress=True)
    print(job.summary(out))
    if args.model == DEFAULT_MODEL and args.checkpoint is None:
        print(f'note: {DEFAULT_MODEL} was trained on coloured shapes only; for real videos take '
              '--model glus-s', file=sys.stderr)
