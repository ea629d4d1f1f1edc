"""Segment a video into a folder: what ``glus-mm segment`` and the demo do."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from glus_mm.apis.glus_inferencer import GLUSInferencer, video_name
from glus_mm.apis.video_results import write_contact_sheet, write_overlay
from glus_mm.text.prompt import clean_expression
from glus_mm.utils.paths import ensure_writable_dir, ensure_writable_file
from glus_mm.video import open_reader

# Frames per second of an overlay where the video does not say.
FOLDER_FPS = 10.0
OVERLAY, SHEET = 'overlay.mp4', 'contact_sheet.png'


class SegmentJob:
    """One video, some texts and a folder for the results, checked before a model is built.

    Use it as a context manager; it holds the video open.

    Args:
        video: path of a video file or of a folder of images.
        texts: (E) referring expressions.
        out_dir: folder for the results; masks become ``<video>/<text number>/<frame>.png``.
        key_frames: (E) 0-based frames where propagation starts; None lets the model choose.
        fps: frames per second of the overlay; None takes those of the video, 10 for a folder.
        overlay: whether ``overlay.mp4`` is written beside ``contact_sheet.png``.

    Raises:
        FileNotFoundError: there is no such video.
        OSError: the folder cannot be written.
        ValueError: a text, key frame or number cannot be used, or a result would overwrite the
            video.
    """

    def __init__(self, video: str | PathLike, texts: Sequence[str], out_dir: str | PathLike,
                 key_frames: Sequence[int] | None = None, fps: float | None = None,
                 overlay: bool = True) -> None:
        for text in texts:
            clean_expression(text)
        if key_frames is not None and len(key_frames) != len(texts):
            raise ValueError(f'expected --key-frame for none or each of {len(texts)} texts, got '
                             f'{len(key_frames)}')
        if fps is not None and not 0 < fps < float('inf'):
            raise ValueError(f'expected a positive --fps, got {fps:g}')
        self.video, self.texts = video, list(texts)
        self.key_frames, self.overlay = key_frames, overlay
        self.reader = open_reader(video)
        try:
            self.fps = fps or getattr(self.reader, 'fps', FOLDER_FPS)
            late = [k for k in key_frames or [] if not 0 <= k < len(self.reader)]
            if late:
                raise ValueError(f'expected --key-frame in 0..{len(self.reader) - 1}, the frames '
                                 f'of {video}, got {late[0]}')
            self.out_dir = ensure_writable_dir(out_dir)
            for name in (OVERLAY, SHEET):
                if ensure_writable_file(self.out_dir / name).resolve() == Path(video).resolve():
                    raise ValueError(
                        f'expected another --out-dir: {name} would overwrite {video}')
        except BaseException:
            self.reader.close()
            raise

    def run(self, inferencer: GLUSInferencer, progress: bool = False) -> dict:
        """Segment, then draw.

        Args:
            inferencer: holds the model.
            progress: show progress bars on standard error.

        Returns:
            What the inferencer gives; the masks are in files.

        Raises:
            OSError: a frame cannot be read, or a result cannot be written.
            ValueError: a frame cannot be decoded or has another size.
        """
        out = inferencer(self.reader, self.texts, self.key_frames, self.out_dir,
                         progress=progress)
        write_contact_sheet(self.out_dir / SHEET, self.reader, self.texts, self.out_dir)
        if self.overlay:
            write_overlay(self.out_dir / OVERLAY, self.fps, self.reader, self.texts, self.out_dir,
                          progress)
        return out

    def summary(self, out: dict) -> str:
        """Two lines that say what was done and where the results are.

        Args:
            out: what :meth:`run` gave.
        """
        masks = self.out_dir / video_name(self.reader)
        overlay = f'   overlay: {self.out_dir / OVERLAY}' if self.overlay else ''
        return (f'{len(self.texts)} texts on {len(self.reader)} frames of {self.video}; '
                f'[SEG] on {out["is_seg"].sum()} of {out["is_seg"].size} masks\n'
                f'masks: {masks}   contact sheet: {self.out_dir / SHEET}{overlay}')

    def __enter__(self) -> 'SegmentJob':
        return self

    def __exit__(self, *exc: object) -> None:
        self.reader.close()
