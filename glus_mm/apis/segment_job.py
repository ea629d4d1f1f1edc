"""Segment a video into a folder: what ``glus-mm segment`` and the demo do."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from glus_mm.apis.glus_inferencer import GLUSInferencer
from glus_mm.apis.result_files import FORMATS, RESULTS, masks_place, open_masks
from glus_mm.apis.segmentation import Segmentation
from glus_mm.apis.video_results import (
    CUTOUTS,
    LEGENDS,
    write_contact_sheet,
    write_cutouts,
    write_overlay,
)
from glus_mm.apis.video_run import video_name
from glus_mm.text.prompt import clean_expression
from glus_mm.utils.paths import ensure_writable_dir, ensure_writable_file
from glus_mm.utils.video_writer import check_fps
from glus_mm.video import IMAGE_SUFFIXES, FrameReader, VideoFileReader, open_reader

# Frames per second of an overlay where the video does not say.
FOLDER_FPS = 10.0
OVERLAY, SHEET = 'overlay.mp4', 'contact_sheet.png'


class SegmentJob:
    """One video, some texts and a folder for the results, checked before a model is built.

    Use it as a context manager; it holds the video open.

    Args:
        video: path of a video file, an image or a folder of images, the URL of a video file, or a
            reader of one of them.
        texts: (E) referring expressions.
        out_dir: folder for the results; masks become ``<video>/<text number>/<frame>.png``.
        key_frames: (E) 0-based frames where propagation starts; None lets the model choose.
        fps: frames per second of the overlay; None keeps the times of the video's frames, and is
            10 for a folder.
        overlay: whether ``overlay.mp4``, for an image ``overlay.png``, is written beside
            ``contact_sheet.png``.
        format: of the masks, see :class:`GLUSInferencer`.
        cutout: ``'png'`` or ``'webm'`` writes what each text means, all else transparent, below
            ``<video>/cutout``; None does not.
        legend: of the overlay, ``'below'`` or ``'none'``.
        name: what ``<video>`` is instead of the name of the file.

    Raises:
        FileNotFoundError: there is no such video.
        OSError: the folder cannot be written.
        ValueError: a text, key frame or number cannot be used, or a result would overwrite the
            video.
    """

    def __init__(self, video: str | PathLike | FrameReader, texts: Sequence[str],
                 out_dir: str | PathLike, key_frames: Sequence[int] | None = None,
                 fps: float | None = None, overlay: bool = True, format: str = 'png',
                 cutout: str | None = None, legend: str = 'below', name: str | None = None
                 ) -> None:
        for text in texts:
            clean_expression(text)
        if key_frames is not None and len(key_frames) != len(texts):
            raise ValueError(f'expected --key-frame for none or each of '
                             f'{count(len(texts), "text")}, got {len(key_frames)}')
        if fps is not None:
            check_fps(fps, '--fps')
        for value, known, option in ((format, FORMATS, 'format'), (legend, LEGENDS, 'legend'),
                                     (cutout, (None, *CUTOUTS), 'cutout')):
            if value not in known:
                raise ValueError(f'{option} must be one of {known}, got {value!r}')
        self.texts, self.format, self.cutout, self.legend = list(texts), format, cutout, legend
        self.key_frames, self.overlay = key_frames, overlay
        self.reader = open_reader(video)
        self.video = self.reader.source
        self.name = name or video_name(self.reader)
        try:
            self.fps = fps or (FOLDER_FPS if self.reader.time_base is None else None)
            late = [k for k in key_frames or [] if not 0 <= k < len(self.reader)]
            if late:
                raise ValueError(f'expected --key-frame in 0..{len(self.reader) - 1}, the frames '
                                 f'of {self.video}, got {late[0]}')
            self.out_dir = ensure_writable_dir(out_dir)
            for file in (self._overlay, SHEET):
                if ensure_writable_file(self.out_dir / file).resolve() == \
                        Path(self.video).resolve():
                    raise ValueError(
                        f'expected another --out-dir: {file} would overwrite {self.video}')
        except BaseException:
            self.reader.close()
            raise

    @property
    def _overlay(self) -> str:
        """A picture is drawn as a picture."""
        image = Path(self.video).suffix.lower() in IMAGE_SUFFIXES and len(self.reader) == 1
        return 'overlay.png' if image else OVERLAY

    def run(self, inferencer: GLUSInferencer, progress: bool = False) -> Segmentation:
        """Segment, then draw.

        Returns:
            What the inferencer gives; the masks are in files.

        Raises:
            OSError: a frame cannot be read, or a result cannot be written.
            ValueError: a frame cannot be decoded or has another size.
        """
        out = inferencer(self.reader, self.texts, self.key_frames, self.out_dir,
                         progress=progress, name=self.name, format=self.format)
        masks = open_masks(self.out_dir, self.name, self.reader.frame_names, len(self.texts),
                           self.format)
        write_contact_sheet(self.out_dir / SHEET, self.reader, self.texts, masks)
        if self.overlay:
            audio = self.video if isinstance(self.reader, VideoFileReader) else None
            write_overlay(self.out_dir / self._overlay, self.fps, self.reader, self.texts, masks,
                          progress, self.legend, audio)
        if self.cutout is not None:
            write_cutouts(self.out_dir / self.name / 'cutout', self.fps, self.reader,
                          len(self.texts), masks, self.cutout, progress)
        return out

    def summary(self, out: Segmentation) -> str:
        """Two lines that say what was done and where the results are."""
        masks = self.out_dir / masks_place(self.name, self.format)
        overlay = f'   overlay: {self.out_dir / self._overlay}' if self.overlay else ''
        return (f'{count(len(self.texts), "text")} on {count(len(self.reader), "frame")} of '
                f'{self.video}; [SEG] on {out.is_seg.sum()} of '
                f'{count(out.is_seg.size, "mask")}\n'
                f'masks: {masks}   results: {self.out_dir / self.name / RESULTS}   '
                f'contact sheet: {self.out_dir / SHEET}{overlay}')

    def __enter__(self) -> 'SegmentJob':
        return self

    def __exit__(self, *exc: object) -> None:
        self.reader.close()


def count(number: int, noun: str) -> str:
    """A number with its noun: ``1 text``, ``2 texts``."""
    return f'{number} {noun}{"" if number == 1 else "s"}'
