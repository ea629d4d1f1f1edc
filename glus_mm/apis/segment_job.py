"""Segment a video or a live source into a folder: what ``glus-mm segment`` and the demo do."""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from fractions import Fraction
from os import PathLike
from pathlib import Path

import numpy as np

from glus_mm.apis.glus_inferencer import GLUSInferencer
from glus_mm.apis.result_files import (
    FORMATS,
    RESULTS,
    mask_path,
    masks_path,
    open_masks,
    remove_results,
    write_results,
)
from glus_mm.apis.segmentation import Segmentation
from glus_mm.apis.video_results import (
    CUTOUTS,
    LEGENDS,
    overlay_drawer,
    write_contact_sheet,
    write_cutouts,
    write_overlay,
)
from glus_mm.apis.video_run import video_name
from glus_mm.text.prompt import clean_expression
from glus_mm.utils.checked import checked
from glus_mm.utils.masks import write_mask_png
from glus_mm.utils.paths import ensure_writable_dir, ensure_writable_file
from glus_mm.utils.video_writer import OverlayVideoWriter, check_fps
from glus_mm.video import IMAGE_SUFFIXES, FrameReader, LiveSource, VideoFileReader, open_reader

# Frames per second of an overlay where the video does not say.
FOLDER_FPS = 10.0
OVERLAY, SHEET = 'overlay.mp4', 'contact_sheet.png'


class SegmentJob(AbstractContextManager['SegmentJob']):
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
        checked(FORMATS, format=format)
        checked(LEGENDS, legend=legend)
        checked((None, *CUTOUTS), cutout=cutout)
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
            # Sound has the times of the video's own frames.
            audio = self.video if self.fps is None and isinstance(
                self.reader, VideoFileReader) else None
            write_overlay(self.out_dir / self._overlay, self.fps, self.reader, self.texts, masks,
                          progress, self.legend, audio)
        if self.cutout is not None:
            write_cutouts(self.out_dir / self.name / 'cutout', self.fps, self.reader,
                          len(self.texts), masks, self.cutout, progress)
        return out

    def summary(self, out: Segmentation) -> str:
        """Two lines that say what was done and where the results are."""
        places = {'contact sheet': self.out_dir / SHEET}
        if self.overlay:
            places['overlay'] = self.out_dir / self._overlay
        return _summary(out, self.out_dir / masks_path(self.name, self.format),
                        self.out_dir / self.name, places)

    def __exit__(self, *exc: object) -> None:
        self.reader.close()


def count(number: int, noun: str) -> str:
    """A number with its noun: ``1 text``, ``2 texts``."""
    return f'{number} {noun}{"" if number == 1 else "s"}'


def _summary(out: Segmentation, masks: Path, folder: Path, places: dict[str, Path]) -> str:
    """What was done to a video, and where its masks, results and other files are."""
    places = {'masks': masks, 'results': folder / RESULTS, **places}
    return (f'{count(len(out.texts), "text")} on {count(len(out), "frame")} of {out.source}; [SEG] '
            f'on {out.is_seg.sum()} of {count(out.is_seg.size, "mask")}\n'
            + '   '.join(f'{name}: {place}' for name, place in places.items()))


# Times of a live overlay are kept to this; it is the unit of most streams.
_TIME_BASE = Fraction(1, 90_000)


class LiveJob(AbstractContextManager['LiveJob']):
    """A live source, some texts and a folder for the results; a context manager.

    Frames that come while another one is segmented are left out, and each mask and each frame of
    the overlay keeps the time of its frame. Departure from the paper: context frames are drawn
    from what was seen so far, see :meth:`GLUSInferencer.stream`.

    Args:
        source: what is watched.
        texts: (E) referring expressions.
        out_dir: folder for ``live/<text number>/<frame>.png``, ``live/results.json`` and
            ``overlay.mp4``.
        overlay: whether to write the overlay.
        legend: of the overlay, ``'below'`` or ``'none'``.
        seconds: how long to watch; None until the source ends or Ctrl+C.
        timeout: seconds to wait for a frame.

    Raises:
        OSError: the folder cannot be written.
        ValueError: a text cannot be used.
    """

    name = 'live'

    def __init__(self, source: LiveSource, texts: Sequence[str], out_dir: str | PathLike,
                 overlay: bool = True, legend: str = 'below', seconds: float | None = None,
                 timeout: float = 30.0) -> None:
        for text in texts:
            clean_expression(text)
        self.source, self.texts, self.seconds = source, list(texts), seconds
        self.timeout = timeout
        self.out_dir = ensure_writable_dir(out_dir)
        for e in range(len(texts)):
            ensure_writable_dir(self.out_dir / self.name / str(e))
        self.overlay = ensure_writable_file(self.out_dir / OVERLAY) if overlay else None
        self._draw = overlay_drawer(self.texts, legend)

    def run(self, inferencer: GLUSInferencer, shown: Callable[[int], None] | None = None
            ) -> Segmentation:
        """Segment until the source ends, the time is over, or Ctrl+C.

        Args:
            inferencer: holds the model.
            shown: called with the number of frames after each.

        Returns:
            What is known of the masks, which are in files.

        Raises:
            OSError: the source breaks off or stalls; ``results.json`` says so, if there are masks.
            ValueError: it has no frame, or one that cannot be used; likewise.
        """
        remove_results(self.out_dir, self.name, len(self.texts))
        names: list[str] = []
        times, is_seg, scores, shape, failed = [], [], [], (0, 0), None
        writer = None if self.overlay is None else OverlayVideoWriter(
            self.overlay, self.source.fps, time_base=_TIME_BASE)
        end = None if self.seconds is None else time.monotonic() + self.seconds
        with inferencer.stream(self.source, self.texts, timeout=self.timeout,
                               skip_late=True) as stream:
            try:
                for frame in stream:
                    name = f'{frame.frame_idx:06d}'
                    for e, mask in enumerate(frame.masks):
                        write_mask_png(mask_path(self.out_dir, self.name, e, name), mask)
                    at = self.source.times[frame.frame_idx]
                    if writer is not None:
                        writer.write(self._draw(frame.image, frame.masks),
                                     Fraction(at - self.source.times[int(names[0])])
                                     if names else Fraction(0))
                    names.append(name)
                    times.append(at)
                    is_seg.append(frame.is_seg)
                    scores.append(frame.scores)
                    shape = frame.image.shape[:2]
                    if shown is not None:
                        shown(len(names))
                    if end is not None and time.monotonic() >= end:
                        break
            except KeyboardInterrupt:
                pass
            except Exception as error:  # noqa: BLE001 - raised once results.json says so
                failed = error
            finally:
                if writer is not None:
                    writer.close()
        if failed and not names:
            raise failed
        if not names:
            raise ValueError(f'expected frames from {self.source.source}, but none came')
        seg = np.stack(is_seg, 1)
        out = Segmentation(
            tuple(self.texts), None, np.stack(scores, 1), seg, np.ones_like(seg), tuple(names),
            range(len(names)), self.name, self.source.source, shape, self.source.fps,
            [round(float(at - times[0]), 9) for at in times], [0] * len(self.texts),
            trained_scores=tuple(inferencer.model.trained_scores),
            error=None if failed is None else str(failed))
        write_results(self.out_dir, out, inferencer.model, 'png')
        if failed:
            raise failed
        return out

    def summary(self, out: Segmentation) -> str:
        """Two lines that say what was done and where the results are."""
        folder = self.out_dir / self.name
        return _summary(out, folder, folder,
                        {} if self.overlay is None else {'overlay': self.overlay})

    def __exit__(self, *exc: object) -> None:
        self.source.close()
