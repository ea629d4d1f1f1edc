"""Segment videos by texts."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from glus_mm.apis.initialization import init_model
from glus_mm.apis.live_stream import LiveStream
from glus_mm.apis.refinement_session import RefinementSession, check_takes_clicks
from glus_mm.apis.segmentation import Segmentation
from glus_mm.apis.video_run import Callback, Video, VideoRun, check_texts, video_name
from glus_mm.models.inference.test_cfg import explain_out_of_memory
from glus_mm.models.segmentors import GLUS
from glus_mm.models.selectors import BaseKeyFrameSelector
from glus_mm.registry import INFERENCERS
from glus_mm.video import FrameError


@INFERENCERS.register_module()
class GLUSInferencer:
    """Segment videos with one model; what belongs to a video lives in the call.

    Args:
        model: from :func:`init_model`; it is put into eval mode. Or a name that this takes,
            such as ``'glus-s'`` or ``'org/name'`` on the hub; the model is then on the CPU.
        selector: chooses the key frames of texts that come without, a
            :class:`BaseKeyFrameSelector` or a model with its ``select(reader, data_sample)``; by
            default the one of ``model.test_cfg.selector``.

    Examples:
        >>> model = init_model('configs/glus/glus_tiny_moving-shapes.py', 'model.pth')
        >>> out = GLUSInferencer(model)('video.mp4', texts=['the red circle'])
        >>> out.masks[0][5]  # first text, sixth frame: bool (H, W)

    Raises:
        TypeError: ``model`` or ``selector`` is another kind of object.
    """

    def __init__(self, model: GLUS | str | PathLike,
                 selector: BaseKeyFrameSelector | None = None) -> None:
        if isinstance(model, (str, PathLike)):
            model = init_model(model)
        if not callable(getattr(model, 'segment', None)):
            raise TypeError('expected a model that segments videos, such as init_model returns, '
                            f'got {type(model).__name__}')
        if selector is not None and not callable(getattr(selector, 'select', None)):
            raise TypeError('expected a key-frame selector, an object with select(reader, '
                            f'data_sample), got {type(selector).__name__}')
        self.model = model.eval().prepare()
        self.selector = model.selector if selector is None else selector
        if isinstance(selector, nn.Module):
            selector.eval()

    def __call__(self,
                 video: Video,
                 texts: str | Sequence[str],
                 key_frames: Sequence[int] | None = None,
                 out_dir: str | PathLike | None = None,
                 return_logits: bool = False,
                 callback: Callback | None = None,
                 progress: bool = False,
                 name: str | None = None,
                 format: str = 'png') -> Segmentation:
        """Segment every frame of a video for every text.

        Args:
            video: path of a video file or of a folder of images, a list of RGB uint8 arrays
                (H, W, 3), an iterator of them (written to a bounded temporary store, which is
                removed afterwards), or a frame reader, which stays open.
            texts: (E) referring expressions; one string is one text. More than
                ``model.test_cfg.max_expressions`` are worked off in chunks.
            key_frames: (E) 0-based positions where propagation starts, forward and backward; by
                default the selector chooses, the first frame unless told otherwise.
            out_dir: masks are written to ``<out_dir>/<video>/<exp>/<frame>.png`` (mode L, 0 and
                255) as they come, and in the end ``<out_dir>/<video>/results.json``, which says
                what they are. ``<video>`` is the name of the file without its suffix or of
                the folder, ``video`` for frames in memory; ``<exp>`` counts the texts from 0.
            return_logits: keep what the masks are made from, too.
            callback: called as ``callback(frame_idx, exp_indices, prediction)`` for every frame
                of every group of texts that share a key frame; tensors are on the model's device.
            progress: show a progress bar on standard error.
            name: what ``<video>`` is instead.
            format: ``'png'``; ``'rle'`` for one file ``<out_dir>/<video>.jsonl`` with COCO RLEs
                instead, see :class:`ResultFiles`; ``'coco'`` or ``'ytvis'`` for a document of
                that kind, ``<out_dir>/<video>/<format>.json``.

        Returns:
            The masks; None with ``out_dir`` or ``callback``: they are handed over and not kept.

        Raises:
            FileNotFoundError: there is no such video.
            IncompleteVideoError: the video breaks off, or a frame cannot be decoded or has another
                size. Masks that were made before have been handed over, or are in ``.result``.
            OSError: ``out_dir`` cannot be written; found before the work.
            torch.OutOfMemoryError: the memory does not suffice; says which option to lower.
            TypeError: an argument is of another kind.
            ValueError: a text, a key frame or the video cannot be used.
        """
        with torch.inference_mode(), VideoRun(
                self.model, self.selector, video, texts, key_frames, out_dir, return_logits,
                callback, name, format) as run:
            try:
                with explain_out_of_memory(self.model.test_cfg, len(run.texts)), tqdm(
                        total=len(run.texts) * len(run.reader), unit='mask',
                        disable=not progress) as bar:
                    for t, exps, pred in self.model.segment(*run.open()):
                        run.take(t, exps, pred)
                        bar.update(len(exps))
            except FrameError as error:
                return run.finish(error)
            return run.finish()

    def session(self, video: Video, texts: str | Sequence[str],
                key_frames: Sequence[int] | None = None, name: str | None = None,
                callback: Callback | None = None) -> RefinementSession:
        """Segment a video and keep it open, so that its masks can be refined by clicks.

        Args:
            video, texts, key_frames, name: as for the call.
            callback: likewise, for the first masks; they are kept all the same.

        Returns:
            The session, with the masks of all frames; close it when they are good.

        Raises:
            IncompleteVideoError: as for the call.
            OSError: there is no such video.
            torch.OutOfMemoryError: as for the call.
            ValueError: a text, a key frame or the video cannot be used, or
                ``model.test_cfg.propagator`` takes no clicks.

        Examples:
            >>> with GLUSInferencer(model).session('video.mp4', ['the red circle']) as session:
            ...     session.refine('the red circle', 12, points=[(40, 31)])
            ...     session.save('out')
        """
        check_takes_clicks(self.model)
        run = VideoRun(self.model, self.selector, video, texts, key_frames, name=name)

        def record(*prediction: Any) -> None:
            run.record(*prediction)
            if callback is not None:
                callback(*prediction)

        try:
            with torch.inference_mode(), explain_out_of_memory(
                    self.model.test_cfg, len(run.texts)):
                return RefinementSession(self.model, run.open()[0], run.out, run.name, record,
                                         owns_reader=run.reader is not video)
        except BaseException as error:
            run.close()
            if isinstance(error, FrameError):
                run.finish(error)
            raise

    @torch.inference_mode()
    def many(self, requests: Iterable[Mapping[str, Any]]
             ) -> Iterator[tuple[int, Segmentation | Exception]]:
        """Segment several videos, as many at once as ``model.test_cfg.max_tracks`` has room for.

        Each has the masks that a call for it alone would give.

        Args:
            requests: of each video the arguments of a call, all but ``progress``. They are taken,
                and videos are opened, as there is room.

        Yields:
            ``(number, result)`` in the order in which videos end: what a call returns, or the
            error that it would raise, a ValueError where an earlier one has its name and
            ``out_dir``; the other videos go on.
        """
        runs: dict[int, VideoRun] = {}
        failed: dict[int, Exception] = {}

        places: set[Path] = set()

        def begin(number: int, request: Mapping[str, Any]) -> tuple[Any, list[int]]:
            folder = request.get('out_dir')
            if folder is not None:
                name = request.get('name') or video_name(request.get('video', ''))
                place = Path(folder).absolute() / name
                if place in places:
                    raise ValueError('expected videos with different names for one out_dir, got '
                                     f'another one for {place}; give each a name')
                places.add(place)
            runs[number] = VideoRun(self.model, self.selector, **request)
            return runs[number].open()

        sizes = {}

        def videos() -> Iterator[tuple[int, int, Callable]]:
            for number, request in enumerate(requests):
                texts = request.get('texts')
                sizes[number] = len(texts) if isinstance(texts, (list, tuple)) else 1
                yield number, sizes[number], partial(begin, number, request)

        def result(number: int, error: Exception | None) -> Segmentation | Exception:
            error = failed.pop(number, error)
            with ExitStack() as stack:
                run = runs.pop(number, None)
                if run is not None:
                    stack.enter_context(run)
                try:
                    with explain_out_of_memory(self.model.test_cfg, sizes.pop(number)):
                        if run is not None and (error is None or isinstance(error, FrameError)):
                            return run.finish(error)
                        assert error is not None  # there is no run
                        raise error
                except Exception as told:  # noqa: BLE001 - the others go on
                    return told

        try:
            for number, item in self.model.segment_together(videos()):
                if not isinstance(item, tuple):
                    yield number, result(number, item)
                elif number not in failed:
                    try:
                        runs[number].take(*item)
                    except Exception as error:  # noqa: BLE001 - what cannot be written
                        failed[number] = error
        finally:
            for run in runs.values():
                run.close()

    def stream(self,
               source: Iterable[np.ndarray],
               texts: str | Sequence[str] = (),
               timeout: float | None = None,
               on_stall: str = 'raise',
               skip_late: bool = False,
               context_frames: Sequence[np.ndarray] | None = None,
               context_growth: float = 1.25) -> LiveStream:
        """Segment a live source, such as a camera, frame by frame as it comes.

        Each text is propagated forward from the frame that it is added at. Departure from the
        paper: context frames are drawn from what has been seen so far, not from the whole video,
        which has not happened yet. With the offline run's own context frames as
        ``context_frames`` the masks are those of the offline run. Memory does not grow with the
        number of frames.

        Args:
            source: yields RGB uint8 arrays (H, W, 3), all of one size.
            texts: referring expressions to begin with; there may be none.
            timeout: seconds to wait for a frame; None waits for ever. With a timeout the source
                is read in a thread.
            on_stall: what to do when none comes: ``'raise'`` a TimeoutError, after which the
                stream may be asked again, or ``'end'`` the stream.
            skip_late: leave out frames that come while another one is segmented, to keep up with
                a camera; else the source waits. The source is read in a thread.
            context_frames: images that show what the video is about, as many as
                ``model.test_cfg.num_context``; they stay the context for good.
            context_growth: draw context frames anew whenever the number of frames has grown by
                this factor; 1 does so at every frame, which costs a prefix each time.

        Returns:
            An iterator of :class:`LiveFrame` that texts are added to and dropped from.

        Raises:
            TypeError: an argument is of another kind.
            ValueError: a text or another argument cannot be used.

        Examples:
            >>> stream = GLUSInferencer(model).stream(camera, ['the red circle'], timeout=5)
            >>> for frame in stream:
            ...     show(frame.image, frame.masks)
            ...     if frame.frame_idx == 100:
            ...         star = stream.add('the star')
            ...     if frame.frame_idx == 200:
            ...         stream.drop(star)
        """
        if isinstance(source, (str, bytes, PathLike, np.ndarray, dict)) or not isinstance(
                source, Iterable):
            raise TypeError('expected an iterator of RGB arrays as a live source, got '
                            f'{type(source).__name__}')
        texts = check_texts(self.model, texts) if texts else ()
        return LiveStream(self.model, source, texts, timeout, on_stall, skip_late, context_frames,
                          context_growth)
