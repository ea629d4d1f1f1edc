"""``glus-mm segment``: videos and texts in, masks and overlays out."""

import argparse
import sys
from collections.abc import Sequence
from itertools import chain, count
from pathlib import Path
from typing import Any

from glus_mm.cli.user_error import FAILED, USAGE, UserError, user_errors
from glus_mm.utils.config_input import ConfigOptions

DEFAULT_MODEL = 'glus_tiny_moving-shapes'
_EPILOG = """Results in the output folder (for several videos, in a folder of each):
  <video>/<text number>/<frame>.png   masks, 0 and 255; --format has others
  <video>/results.json                texts, key frames, times, model: what the masks are
  overlay.mp4                         the video with the masks drawn over it, with its sound
  contact_sheet.png                   eight frames, one row for each text

Examples:
  glus-mm segment video.mp4 --text "the red circle" --text "the leftmost shape" --out-dir out
  glus-mm segment video.mp4 --model glus-s --text "the cat that jumps" --out-dir out
  glus-mm segment "clips/*.mp4" more/ --text "a dog" --format coco --out-dir out
  glus-mm segment 0 --text "the person" --seconds 20 --out-dir out        # a camera
  glus-mm segment video.mp4 --model config.py --checkpoint iter_3000.pth --text "a dog" --out-dir o
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.epilog = _EPILOG
    parser.add_argument('videos', metavar='VIDEO', nargs='+',
                        help='video file, image, folder of images or of videos, pattern '
                             '("clips/*.mp4"), URL (http, rtsp), or number of a camera (0)')
    parser.add_argument('--model', default=DEFAULT_MODEL, metavar='M',
                        help='name of a model ("glus-mm info" lists them) or a config file '
                             '(default: %(default)s, which comes with the package and knows '
                             'coloured shapes only; for real videos take glus-s)')
    parser.add_argument('--checkpoint', metavar='C',
                        help='weights: a file, a folder written by "glus-mm convert", or a name on '
                             'the Hugging Face hub (default: those of the named model)')
    add_video_options(parser)
    parser.add_argument('--seconds', type=float, metavar='S',
                        help='how long to watch a live source (default: until it ends or Ctrl+C)')


def add_video_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that the command and ``demo/video_demo.py`` share.

    Args:
        parser: gets ``--text``, ``--out-dir``, ``--device``, ``--key-frame``, ``--no-video``,
            ``--fps``, ``--format``, ``--cutout``, ``--legend`` and ``--cfg-options``.
    """
    parser.add_argument('--text', action='append', required=True, metavar='T',
                        help='what to segment; give it once for each expression')
    parser.add_argument('--out-dir', required=True, metavar='D', help='folder for the results')
    parser.add_argument('--device', default='auto',
                        help='cpu, cuda, cuda:1, mps, or auto, the first of cuda, mps and cpu that '
                             'is there (default: %(default)s)')
    parser.add_argument('--key-frame', action='append', type=int, metavar='K',
                        help='0-based frame where propagation starts, one for each --text '
                             '(default: the first frame)')
    parser.add_argument('--no-video', action='store_true', help='write no overlay')
    parser.add_argument('--fps', type=float, metavar='F',
                        help='frames per second of the overlay, which then has no sound (default: '
                             "the times of the video's frames; 10 per second for a folder)")
    parser.add_argument('--format', choices=['png', 'rle', 'coco', 'ytvis'], default='png',
                        help='masks as PNG files, as lines of COCO RLE, or as one COCO or '
                             'YouTube-VIS document (default: %(default)s)')
    parser.add_argument('--cutout', choices=['png', 'webm'],
                        help='also write what each text means on transparent ground')
    parser.add_argument('--legend', choices=['below', 'none'], default='below',
                        help='where the overlay has its texts; with none it keeps the size of the '
                             'video (default: %(default)s)')
    parser.add_argument('--cfg-options', nargs='+', action=ConfigOptions, metavar='K=V',
                        help='override config values: a.b=1 c="[1,2]"')


def job_options(args: argparse.Namespace) -> dict[str, Any]:
    """What of :func:`add_video_options` a ``SegmentJob`` takes."""
    return dict(texts=args.text, key_frames=args.key_frame, fps=args.fps,
                overlay=not args.no_video, format=args.format, cutout=args.cutout,
                legend=args.legend)


def run(args: argparse.Namespace) -> None:
    """Check what was asked for, the quick things first, then segment and draw.

    Raises:
        UserError: something is wrong that the user can mend.
    """
    with user_errors(USAGE):
        if args.model != DEFAULT_MODEL and args.checkpoint is None and args.model.endswith('.py'):
            raise UserError(f'expected --checkpoint with the config {args.model}', USAGE)
        if args.seconds is not None and not 0 < args.seconds < float('inf'):
            raise UserError(f'expected a positive --seconds, got {args.seconds:g}', USAGE)
        # Before torch, whose import takes seconds.
        from glus_mm.utils.paths import ensure_writable_dir
        from glus_mm.video import LiveSource, find_videos, is_camera, open_source
        sources = find_videos(args.videos)
        args.out_dir = ensure_writable_dir(args.out_dir)
        cameras = [name for name in sources if is_camera(name) and not Path(name).exists()]
        if cameras and len(sources) > 1:
            raise UserError(f'expected one live source alone, got {len(sources)} videos with the '
                            f'camera {cameras[0]}', USAGE)
        videos, failed = list(zip(sources, _names(sources))), 0
        while True:
            try:
                first = open_source(videos[0][0])
                break
            except (OSError, ValueError) as error:
                if len(videos) == 1:
                    raise
                failed += _tell(error)
                del videos[0]
    is_live = isinstance(first, LiveSource)
    with user_errors(USAGE, ImportError, KeyError, TypeError):
        if is_live and len(sources) > 1:
            raise UserError(f'expected one live source alone, got {len(sources)} videos', USAGE)
        if is_live and (args.key_frame or args.cutout or args.fps or args.format != 'png'):
            raise UserError('--key-frame, --cutout, --fps and --format are for videos with an end, '
                            f'got a live source: {sources[0]}', USAGE)
        if not is_live and args.seconds is not None:
            raise UserError('--seconds is for live sources, got a video with an end: '
                            f'{videos[0][0]}', USAGE)
        _segment(args, videos, first, is_live, failed)
    if args.model == DEFAULT_MODEL and args.checkpoint is None:
        print(f'note: {DEFAULT_MODEL} was trained on coloured shapes only; for real videos take '
              '--model glus-s', file=sys.stderr)


def _segment(args: argparse.Namespace, videos: list[tuple[str, str]], first: Any, is_live: bool,
             failed: int) -> None:
    """Segment videos, each with its name, of which the first one is open; some failed before."""
    from glus_mm.apis import GLUSInferencer, LiveJob, SegmentJob, init_model

    def build() -> GLUSInferencer:
        return GLUSInferencer(init_model(args.model, args.checkpoint, args.device,
                                         args.cfg_options))

    if is_live:
        with LiveJob(first, args.text, args.out_dir, not args.no_video, args.legend,
                     args.seconds) as job:
            inferencer = build()
            with user_errors(FAILED):
                print('watching; Ctrl+C ends it', file=sys.stderr)
                out = job.run(inferencer, lambda frames: print(
                    f'\r{frames} frames', end='', file=sys.stderr, flush=True))
        print(job.summary(out))
        return
    total, out_dir, options = len(videos) + failed, args.out_dir, job_options(args)
    name = videos[0][1] if total > 1 else None
    job = SegmentJob(first, out_dir=out_dir / (name or ''), name=name, **options)
    inferencer = build()
    if total == 1:
        with user_errors(FAILED), job:
            out = job.run(inferencer, progress=True)
        print(job.summary(out))
        return
    for source, name in videos:
        try:
            with user_errors(FAILED):
                job = job or SegmentJob(source, out_dir=out_dir / name, name=name, **options)
                with job:
                    print(job.summary(job.run(inferencer, progress=True)))
        except UserError as error:  # the others go on
            failed += _tell(error)
        job = None
    print(f'{total - failed} of {total} videos are done')
    if failed:
        raise UserError(f'{failed} of {total} videos could not be segmented', FAILED)


def _tell(error: Exception) -> int:
    print(f'glus-mm segment: error: {error}', file=sys.stderr)
    return 1


def _names(sources: Sequence[str]) -> list[str]:
    """A name for the results of each; those that several have get a number."""
    names: dict[str, None] = {}
    for source in sources:
        path = Path(source)
        name = (path.resolve().name if path.is_dir() else path.stem) or 'video'
        choice = chain([name], (f'{name}-{i}' for i in count(2)))
        names[next(free for free in choice if free not in names)] = None
    return list(names)
