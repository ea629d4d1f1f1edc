"""Draw what was segmented, from the masks' files: overlays, cut-outs, a sheet of frames."""

from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import cast

import cv2
import numpy as np
from tqdm import tqdm

from glus_mm.utils.frames import clip_centres
from glus_mm.utils.video_writer import OverlayVideoWriter
from glus_mm.video import FrameReader
from glus_mm.visualization import RefVOSLocalVisualizer, contact_sheet
from glus_mm.visualization.local_visualizer import write_image
from glus_mm.visualization.sheets import shrink_frame

SHEET_COLUMNS = 8
SHEET_TILE_WIDTH = 240
LEGENDS = ('below', 'none')
CUTOUTS = ('png', 'webm')
# Gives the masks of a frame, bool (E, H, W).
Masks = Callable[[int], np.ndarray]


def overlay_drawer(texts: Sequence[str], legend: str = 'below'
                   ) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """A function that draws masks (E, H, W) over a frame.

    Args:
        texts: (E) expressions.
        legend: ``'below'`` the frame, which is enlarged where it is too narrow for text, or
            ``'none'``, which keeps its size.
    """
    visualizer = RefVOSLocalVisualizer('overlay', legend_position='below',
                                       min_width=480 if legend == 'below' else 1)

    def draw(image: np.ndarray, masks: np.ndarray) -> np.ndarray:
        return visualizer.draw_frame(image, masks, list(texts), legend=legend == 'below')

    return draw


def write_overlay(path: str | PathLike, fps: float | None, reader: FrameReader,
                  texts: Sequence[str], masks: Masks, progress: bool = False,
                  legend: str = 'below', audio: str | PathLike | None = None) -> None:
    """Write a video with the masks drawn over its frames, or a picture for a video of one.

    Frame by frame and after the segmentation: key frames make masks come out of order.

    Args:
        path: the mp4 or PNG.
        fps: frames per second; None keeps the time of each frame.
        reader: the video.
        texts: (E) expressions.
        masks: gives those of a frame.
        progress: show a progress bar on standard error.
        legend: see :func:`overlay_drawer`.
        audio: a file whose sound is kept.

    Raises:
        OSError: a frame or a mask cannot be read, or the video cannot be written.
        ValueError: ``fps`` is not positive.
    """
    draw = overlay_drawer(texts, legend)
    if Path(path).suffix == '.png':
        write_image(Path(path), draw(reader.read(0), masks(0)))
        return
    with _open_writer(path, fps, reader, audio) as writer:
        for t in tqdm(range(len(reader)), desc='drawing', unit='frame', disable=not progress):
            writer.write(draw(reader.read(t), masks(t)), _time(reader, t, fps))


def write_cutouts(folder: Path, fps: float | None, reader: FrameReader, num_texts: int,
                  masks: Masks, kind: str, progress: bool = False) -> None:
    """Cut out what each text means: its pixels are opaque, all others transparent.

    Args:
        folder: gets ``<text number>/<frame>.png``, RGBA, or ``<text number>.webm``, VP9 with
            alpha.
        fps: frames per second of a webm; None keeps the time of each frame.
        reader: the video.
        num_texts: E.
        masks: gives those of a frame.
        kind: ``'png'`` or ``'webm'``.
        progress: show a progress bar on standard error.

    Raises:
        OSError: a frame or a mask cannot be read, or a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    writers = [] if kind == 'png' else [
        _open_writer(folder / f'{e}.webm', fps, reader) for e in range(num_texts)]
    try:
        for t in tqdm(range(len(reader)), desc='cutting', unit='frame', disable=not progress):
            image = reader.read(t)
            for e, mask in enumerate(masks(t)):
                cut = np.dstack([image, mask.astype(np.uint8) * 255])
                if writers:
                    writers[e].write(cut, _time(reader, t, fps))
                    continue
                path = folder / str(e) / f'{reader.frame_names[t]}.png'
                path.parent.mkdir(exist_ok=True)
                _, data = cv2.imencode('.png', cv2.cvtColor(cut, cv2.COLOR_RGBA2BGRA))
                path.write_bytes(data.tobytes())
    finally:
        for writer in writers:
            writer.close()


def _open_writer(path: str | PathLike, fps: float | None, reader: FrameReader,
                 audio: str | PathLike | None = None) -> OverlayVideoWriter:
    if fps is not None:
        return OverlayVideoWriter(path, fps)
    # Whoever gives no rate has a video file, which states one.
    return OverlayVideoWriter(path, cast(float, reader.fps), time_base=reader.time_base,
                              audio=audio)


def _time(reader: FrameReader, frame_idx: int, fps: float | None):
    return reader.time(frame_idx) if fps is None else None


def write_contact_sheet(path: str | PathLike, reader: FrameReader, texts: Sequence[str],
                        masks: Masks) -> None:
    """Put evenly spaced frames on a sheet, one row for each text.

    Args:
        path: the PNG.
        reader: the video.
        texts: (E) expressions.
        masks: gives those of a frame.

    Raises:
        OSError: a frame or a mask cannot be read, or the sheet cannot be written.
    """
    visualizer = RefVOSLocalVisualizer('sheet', min_width=SHEET_TILE_WIDTH)
    frames = sorted(set(clip_centres(len(reader), SHEET_COLUMNS)))
    rows: list[list[np.ndarray]] = [[] for _ in texts]
    for t in frames:
        image, shown = reader.read(t), masks(t)
        height, width = image.shape[:2]
        if width > SHEET_TILE_WIDTH:
            image, shown = shrink_frame(image, shown, (
                SHEET_TILE_WIDTH, max(1, round(height * SHEET_TILE_WIDTH / width))))
        for e, text in enumerate(texts):
            rows[e].append(visualizer.draw_frame(
                image, shown[e:e + 1], [text], [visualizer.color(e)],
                caption=reader.frame_names[t], legend=False))
    sheet = contact_sheet([tile for row in rows for tile in row], len(frames),
                          row_titles=list(texts),
                          row_colors=[visualizer.color(e) for e in range(len(texts))])
    write_image(Path(path), sheet)
