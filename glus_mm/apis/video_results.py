"""Draw what was segmented: an overlay video and a sheet of frames, from the masks' files."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from glus_mm.apis.glus_inferencer import mask_path, video_name
from glus_mm.utils.frames import clip_centres
from glus_mm.video import FrameReader
from glus_mm.visualization import OverlayVideoWriter, RefVOSLocalVisualizer, contact_sheet

SHEET_COLUMNS = 8
SHEET_TILE_WIDTH = 240


def read_masks(out_dir: str | PathLike, reader: FrameReader, num_texts: int,
               frame_idx: int) -> np.ndarray:
    """Read the masks of one frame from the files that ``GLUSInferencer`` wrote.

    Args:
        out_dir: its output folder.
        reader: the video.
        num_texts: E, number of texts.
        frame_idx: 0-based position of the frame.

    Returns:
        Bool (E, H, W).

    Raises:
        FileNotFoundError: a mask is not there.
    """
    masks = []
    for e in range(num_texts):
        path = mask_path(Path(out_dir), video_name(reader), e, reader.frame_names[frame_idx])
        mask = cv2.imdecode(np.fromfile(path, dtype=np.uint8), cv2.IMREAD_GRAYSCALE)
        masks.append(mask > 127)
    return np.stack(masks)


def write_overlay(path: str | PathLike, fps: float, reader: FrameReader, texts: Sequence[str],
                  out_dir: str | PathLike, progress: bool = False) -> None:
    """Write a video with the masks drawn over its frames.

    Frame by frame and after the segmentation: key frames make masks come out of order.

    Args:
        path: the mp4.
        fps: frames per second.
        reader: the video.
        texts: (E) expressions.
        out_dir: where the masks are.
        progress: show a progress bar on standard error.

    Raises:
        OSError: a frame or a mask cannot be read, or the video cannot be written.
        ValueError: ``fps`` is not positive.
    """
    visualizer = RefVOSLocalVisualizer('overlay', legend_position='below')
    with OverlayVideoWriter(path, fps) as writer:
        for t in tqdm(range(len(reader)), desc='drawing', unit='frame', disable=not progress):
            masks = read_masks(out_dir, reader, len(texts), t)
            writer.write(visualizer.draw_frame(reader.read(t), masks, list(texts)))


def write_contact_sheet(path: str | PathLike, reader: FrameReader, texts: Sequence[str],
                        out_dir: str | PathLike) -> None:
    """Put evenly spaced frames on a sheet, one row for each text.

    Args:
        path: the PNG.
        reader: the video.
        texts: (E) expressions.
        out_dir: where the masks are.

    Raises:
        OSError: a frame or a mask cannot be read, or the sheet cannot be written.
    """
    visualizer = RefVOSLocalVisualizer('sheet', min_width=SHEET_TILE_WIDTH)
    frames = sorted(set(clip_centres(len(reader), SHEET_COLUMNS)))
    rows: list[list[np.ndarray]] = [[] for _ in texts]
    for t in frames:
        image = _shrink(reader.read(t))
        masks = [_shrink(np.float32(mask)) >= 0.5
                 for mask in read_masks(out_dir, reader, len(texts), t)]
        for e, text in enumerate(texts):
            rows[e].append(visualizer.draw_frame(
                image, masks[e:e + 1], [text], [visualizer.color(e)],
                caption=reader.frame_names[t], legend=False))
    sheet = contact_sheet([tile for row in rows for tile in row], len(frames),
                          row_titles=list(texts),
                          row_colors=[visualizer.color(e) for e in range(len(texts))])
    _, data = cv2.imencode('.png', cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))
    Path(path).write_bytes(data.tobytes())


def _shrink(image: np.ndarray) -> np.ndarray:
    """Scale a frame or a float mask down to the width of a tile; narrower ones stay."""
    height, width = image.shape[:2]
    if width <= SHEET_TILE_WIDTH:
        return image
    size = (SHEET_TILE_WIDTH, max(1, round(height * SHEET_TILE_WIDTH / width)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)
