"""Segment a video by texts and show the result.

Writes into the output folder: masks as ``<video>/<text number>/<frame>.png``, the overlay as
``overlay.mp4`` and eight frames of every text as ``contact_sheet.png``. Example::

    python demo/video_demo.py video.mp4 configs/glus/glus_tiny_moving-shapes.py \
        checkpoints/glus_tiny_moving-shapes.pth --text "the red circle" --out-dir outputs/video
"""

import argparse
import os
from pathlib import Path

import cv2
import numpy as np
from mmengine import DictAction
from tqdm import tqdm

from glus_mm.apis import GLUSInferencer, init_model
from glus_mm.apis.glus_inferencer import mask_path, video_name
from glus_mm.models.inference import FrameReader, open_reader
from glus_mm.models.mllms.prompt import clean_expression
from glus_mm.utils.frames import clip_centres
from glus_mm.utils.paths import ensure_writable_dir, ensure_writable_file
from glus_mm.visualization import OverlayVideoWriter, RefVOSLocalVisualizer, contact_sheet

SHEET_COLUMNS = 8
SHEET_TILE_WIDTH = 240
FOLDER_FPS = 10.0


def parse_args() -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description='Segment a video by texts')
    parser.add_argument('video', metavar='VIDEO_OR_DIR', help='video file or folder of images')
    parser.add_argument('config', metavar='CONFIG', help='config file')
    parser.add_argument('checkpoint', metavar='CHECKPOINT',
                        help='checkpoint file, folder written by tools/model_converters, or name '
                             'of a repository on the hub')
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
                             f'{FOLDER_FPS:g} for a folder)')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='K=V',
                        help='override config values: a.b=1 c="[1,2]"')
    return parser, parser.parse_args()


def prepare(args: argparse.Namespace) -> tuple[GLUSInferencer, FrameReader, Path]:
    """Check what was asked for, the quick things first, then build the model."""
    for text in args.text:
        clean_expression(text)
    if args.key_frame is not None and len(args.key_frame) != len(args.text):
        raise ValueError(f'expected --key-frame for none or each of {len(args.text)} texts, got '
                         f'{len(args.key_frame)}')
    if args.fps is not None and not 0 < args.fps < float('inf'):
        raise ValueError(f'expected a positive --fps, got {args.fps:g}')
    reader = open_reader(args.video)
    late = [k for k in args.key_frame or [] if not 0 <= k < len(reader)]
    if late:
        raise ValueError(f'expected --key-frame in 0..{len(reader) - 1}, the frames of '
                         f'{args.video}, got {late[0]}')
    out_dir = ensure_writable_dir(args.out_dir)
    for name in ('overlay.mp4', 'contact_sheet.png'):
        if ensure_writable_file(out_dir / name).resolve() == Path(args.video).resolve():
            raise ValueError(f'expected another --out-dir: {name} would overwrite {args.video}')
    model = init_model(args.config, args.checkpoint, args.device, args.cfg_options)
    return GLUSInferencer(model), reader, out_dir


def read_masks(out_dir: Path, reader: FrameReader, num_texts: int, frame_idx: int) -> np.ndarray:
    """Masks (E, H, W) of a frame, from the files that were written."""
    masks = []
    for e in range(num_texts):
        path = mask_path(out_dir, video_name(reader), e, reader.frame_names[frame_idx])
        mask = cv2.imdecode(np.fromfile(path, dtype=np.uint8), cv2.IMREAD_GRAYSCALE)
        masks.append(mask > 127)
    return np.stack(masks)


def write_overlay(path: Path, fps: float, reader: FrameReader, texts: list[str],
                  out_dir: Path) -> None:
    """Draw frame by frame; key frames make masks come out of order, so this is a second pass."""
    visualizer = RefVOSLocalVisualizer('overlay')
    with OverlayVideoWriter(path, fps) as writer:
        for t in tqdm(range(len(reader)), desc='drawing', unit='frame'):
            masks = read_masks(out_dir, reader, len(texts), t)
            writer.write(visualizer.draw_frame(reader.read(t), masks, texts))


def write_contact_sheet(path: Path, reader: FrameReader, texts: list[str],
                        out_dir: Path) -> None:
    """Put evenly spaced frames on a sheet, one row for each text."""
    visualizer = RefVOSLocalVisualizer('sheet', min_width=SHEET_TILE_WIDTH)
    frames = sorted(set(clip_centres(len(reader), SHEET_COLUMNS)))
    rows: list[list[np.ndarray]] = [[] for _ in texts]
    for t in frames:
        image = shrink(reader.read(t))
        masks = [shrink(np.float32(mask)) >= 0.5
                 for mask in read_masks(out_dir, reader, len(texts), t)]
        for e, text in enumerate(texts):
            rows[e].append(visualizer.draw_frame(
                image, masks[e:e + 1], [text], [visualizer.color(e)],
                caption=reader.frame_names[t], legend=False))
    sheet = contact_sheet([tile for row in rows for tile in row], len(frames), row_titles=texts,
                          row_colors=[visualizer.color(e) for e in range(len(texts))])
    _, data = cv2.imencode('.png', cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))
    path.write_bytes(data.tobytes())


def shrink(image: np.ndarray) -> np.ndarray:
    """Scale a frame or a float mask down to the width of a tile; narrower ones stay."""
    height, width = image.shape[:2]
    if width <= SHEET_TILE_WIDTH:
        return image
    size = (SHEET_TILE_WIDTH, max(1, round(height * SHEET_TILE_WIDTH / width)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def main() -> None:
    """Check what was asked for, segment, then draw."""
    parser, args = parse_args()
    # OpenCV's decoder would print its own line beside ours.
    os.environ.setdefault('OPENCV_FFMPEG_LOGLEVEL', '-8')
    # One line and no traceback for what a user can mend. Once the work goes on, other errors
    # than those of files and frames are bugs and keep their traceback.
    try:
        inferencer, reader, out_dir = prepare(args)
    except (OSError, KeyError, TypeError, ValueError) as error:
        stop(parser, error)
    try:
        out = inferencer(reader, args.text, args.key_frame, out_dir, progress=True)
        write_contact_sheet(out_dir / 'contact_sheet.png', reader, args.text, out_dir)
        if not args.no_video:
            fps = args.fps or getattr(reader, 'fps', FOLDER_FPS)
            write_overlay(out_dir / 'overlay.mp4', fps, reader, args.text, out_dir)
    except (OSError, ValueError) as error:
        stop(parser, error)
    finally:
        reader.close()
    print(f'{len(args.text)} texts on {len(reader)} frames of {args.video}; '
          f'[SEG] on {out["is_seg"].sum()} of {out["is_seg"].size} masks')
    print(f'masks: {out_dir / video_name(reader)}   contact sheet: '
          f'{out_dir / "contact_sheet.png"}'
          + ('' if args.no_video else f'   overlay: {out_dir / "overlay.mp4"}'))


def stop(parser: argparse.ArgumentParser, error: Exception) -> None:
    """Leave with the message alone and exit code 2."""
    message = error.args[0] if isinstance(error, KeyError) and error.args else error
    parser.exit(2, f'{parser.prog}: error: {message}\n')


if __name__ == '__main__':
    main()
