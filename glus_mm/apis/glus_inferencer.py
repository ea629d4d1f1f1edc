"""Segment a video by texts."""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from numbers import Integral
from os import PathLike
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import torch
from mmengine.logging import print_log
from torch import nn
from tqdm import tqdm

from glus_mm.apis.incomplete_video_error import IncompleteVideoError
from glus_mm.apis.live_stream import LiveStream
from glus_mm.apis.refinement_session import RefinementSession, check_takes_clicks
from glus_mm.apis.result_files import FORMATS, ResultFiles
from glus_mm.apis.rle_mask_sequence import RLEMaskSequence
from glus_mm.models.inference import MaskPrediction, VideoSession
from glus_mm.models.inference.out_of_memory import explain_out_of_memory
from glus_mm.models.segmentors import GLUS
from glus_mm.models.selectors import BaseKeyFrameSelector
from glus_mm.registry import INFERENCERS
from glus_mm.structures import RefVOSDataSample
from glus_mm.utils.masks import encode_mask
from glus_mm.utils.paths import ensure_writable_dir
from glus_mm.video import FrameError, FrameReader, is_url, open_reader

Video = str | PathLike | Sequence[np.ndarray] | Iterable[np.ndarray] | FrameReader
Callback = Callable[[int, list[int], MaskPrediction], None]
# Frames whose masks wait to be written or encoded.
MAX_WAITING = 2


@INFERENCERS.register_module()
class GLUSInferencer:
    """Segment videos with one model; what belongs to a video lives in the call.

    Args:
        model: from :func:`init_model`; it is put into eval mode.
        selector: chooses the key frames of texts that come without, a
            :class:`BaseKeyFrameSelector` or a model with its ``select(reader, data_sample)``; by
            default the one of ``model.test_cfg.selector``.

    Examples:
        >>> model = init_model('configs/glus/glus_tiny_moving-shapes.py', 'model.pth')
        >>> out = GLUSInferencer(model)('video.mp4', texts=['the red circle'])
        >>> out['masks'][0][5]  # first text, sixth frame: bool (H, W)

    Raises:
        TypeError: ``model`` or ``selector`` is another kind of object.
    """

    def __init__(self, model: GLUS, selector: BaseKeyFrameSelector | None = None) -> None:
        if not callable(getattr(model, 'segment', None)):
            raise TypeError('expected a model that segments videos, such as init_model returns, '
                            f'got {type(model).__name__}')
        if selector is not None and not callable(getattr(selector, 'select', None)):
            raise TypeError('expected a key-frame selector, an object with select(reader, '
                            f'data_sample), got {type(selector).__name__}')
        self.model = model.eval()
        self.selector = model.selector if selector is None else selector
        if isinstance(selector, nn.Module):
            selector.eval()

    @torch.inference_mode()
    def __call__(self,
                 video: Video,
                 texts: str | Sequence[str],
                 key_frames: Sequence[int] | None = None,
                 out_dir: str | PathLike | None = None,
                 return_logits: bool = False,
                 callback: Callback | None = None,
                 progress: bool = False,
                 name: str | None = None,
                 format: str = 'png') -> dict:
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
                instead, see :class:`RLEMaskWriter`; ``'coco'`` or ``'ytvis'`` for a document of
                that kind, ``<out_dir>/<video>/<format>.json``.

        Returns:
            A dict with

            - ``expressions`` (E), ``frame_names`` (T), ``key_frames`` (E);
            - ``key_frame_scores`` float32 (E, T), what the selector expects of each frame, only
              where it chose the key frames and has scores;
            - ``masks``: ``[e][t]`` is a bool array (H, W), decoded on access from RLE. None with
              ``out_dir`` or ``callback``: masks are handed over and not kept;
            - ``scores`` float32 (E, T): the IoU that the mask decoder expects, 0 without [SEG];
            - ``presence`` float32 (E, T): the probability of [SEG], where the model tells;
            - ``is_seg`` bool (E, T): whether a [SEG] was generated; where not, the mask is empty;
            - ``trained_scores``: which of ``scores`` and ``presence`` the model was trained to
              give; the other ones mean little;
            - with ``return_logits`` ``low_res_logits``, ``[e][t]`` float32 (h, w), and
              ``seg_tokens``, ``[e][t]`` float32 (C); None where no [SEG] was generated.

        Raises:
            FileNotFoundError: there is no such video.
            IncompleteVideoError: the video breaks off, or a frame cannot be decoded or has another
                size. Masks that were made before have been handed over, or are in ``.result``.
            OSError: ``out_dir`` cannot be written; found before the work.
            torch.OutOfMemoryError: the memory does not suffice; says which option to lower.
            TypeError: an argument is of another kind.
            ValueError: a text, a key frame or the video cannot be used.
        """
        texts = self._check_texts(texts)
        key_frames = _check_key_frames(key_frames, texts)
        if format not in FORMATS:
            raise ValueError(f'format must be one of {FORMATS}, got {format!r}')
        if out_dir is not None:
            out_dir = ensure_writable_dir(out_dir)
        reader = open_reader(video)
        name = name or video_name(video)
        keepers, files = [], None
        with ExitStack() as stack:
            if reader is not video:
                stack.callback(reader.close)
            if out_dir is not None:
                files = stack.enter_context(ResultFiles(out_dir, name, reader, texts, format))
                keepers.append(files)
            out = _empty_result(texts, reader, return_logits,
                                keep=out_dir is None and callback is None)
            out['trained_scores'] = self.model.trained_scores
            made = np.zeros(out['is_seg'].shape, dtype=bool)
            keepers += [partial(_record, out), partial(_mark, made)]
            try:
                with explain_out_of_memory(self.model.test_cfg, len(texts)):
                    kept = stack.enter_context(closing(_keep_in_thread(
                        self._segment(reader, name, key_frames, out), keepers)))
                    total = len(texts) * len(reader)
                    with tqdm(total=total, unit='mask', disable=not progress) as bar:
                        for t, exps, pred in kept:
                            if callback is not None:
                                callback(t, list(exps), pred)
                            bar.update(len(exps))
            except FrameError as error:
                if files is not None:
                    files.finish(out, self.model, made, str(error))
                raise _incomplete(str(error), error.frame_idx, out, made, out_dir) from error
            if files is not None:
                files.finish(out, self.model, made, reader.breaks_off)
        if reader.breaks_off:
            raise _incomplete(reader.breaks_off, len(reader), out, made, out_dir)
        _finish(out)
        _log_missing_seg(out)
        return out

    def _segment(self, reader: FrameReader, name: str, key_frames: list[int] | None,
                 out: dict) -> Iterator[tuple[int, list[int], MaskPrediction]]:
        """Segment an open video; ``out`` gets the key frames."""
        session = self._open(reader, name, key_frames, out)
        return self.model.segment(session, out['key_frames'])

    def _open(self, reader: FrameReader, name: str, key_frames: list[int] | None, out: dict
              ) -> VideoSession:
        """Begin with a video; ``out`` gets the key frames."""
        sample = _data_sample(name, out['expressions'], reader)
        session = self.model.init_session(reader, sample)
        if key_frames is None:
            chosen = self.selector.select(reader, sample)
            key_frames = list(chosen.frame_ids)
            if chosen.scores is not None:
                out['key_frame_scores'] = torch.as_tensor(chosen.scores).float().cpu().numpy()
        out['key_frames'] = key_frames
        return session

    @torch.inference_mode()
    def session(self, video: Video, texts: str | Sequence[str],
                key_frames: Sequence[int] | None = None, name: str | None = None
                ) -> RefinementSession:
        """Segment a video and keep it open, so that its masks can be refined by clicks.

        Args:
            video: as for the call.
            texts: likewise.
            key_frames: likewise.
            name: likewise.

        Returns:
            The session, with the masks of all frames; close it when they are good.

        Raises:
            OSError: there is no such video, or a frame cannot be decoded.
            ValueError: a text, a key frame or the video cannot be used, or
                ``model.test_cfg.propagator`` takes no clicks.

        Examples:
            >>> with GLUSInferencer(model).session('video.mp4', ['the red circle']) as session:
            ...     session.refine('the red circle', 12, points=[(40, 31)])
            ...     session.save('out')
        """
        texts = self._check_texts(texts)
        key_frames = _check_key_frames(key_frames, texts)
        check_takes_clicks(self.model)
        reader = open_reader(video)
        name = name or video_name(video)
        out = _empty_result(texts, reader, return_logits=False, keep=True)
        out['trained_scores'] = self.model.trained_scores
        try:
            return RefinementSession(
                self.model, self._open(reader, name, key_frames, out), out, name,
                partial(_record, out), owns_reader=reader is not video)
        except BaseException:
            if reader is not video:
                reader.close()
            raise

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
        texts = self._check_texts(texts) if texts else ()
        return LiveStream(self.model, source, texts, timeout, on_stall, skip_late, context_frames,
                          context_growth)

    def _check_texts(self, texts: str | Sequence[str]) -> tuple[str, ...]:
        """The texts as a tuple, each one checked before the video is touched."""
        if isinstance(texts, str):
            texts = [texts]
        if not isinstance(texts, Sequence) or not all(isinstance(text, str) for text in texts):
            raise TypeError(f'expected texts as a list of strings, got {texts!r:.200}')
        if not texts:
            raise ValueError('expected at least one text, got an empty list')
        for i, text in enumerate(texts):
            try:
                self.model.mllm.prompt(text, self.model.test_cfg.num_context, 1)
            except ValueError as error:
                raise ValueError(f'texts[{i}]: {error}') from error
        return tuple(texts)


def video_name(video: Video) -> str:
    """Name of a video for the files that are made from it; ``'video'`` for frames in memory."""
    source = video.source if isinstance(video, FrameReader) else video
    if isinstance(source, (str, PathLike)) and Path(source).exists():
        path = Path(source).resolve()
        return (path.name if path.is_dir() else path.stem) or 'video'
    if isinstance(source, str) and is_url(source):
        return Path(urlsplit(source).path).stem or 'video'
    return 'video'


def _check_key_frames(key_frames: Sequence[int] | None, texts: tuple[str, ...]
                      ) -> list[int] | None:
    """Key frames as ints; their upper bound is checked once the video's length is known."""
    if key_frames is None:
        return None
    if isinstance(key_frames, (str, bytes)) or not hasattr(key_frames, '__len__') or not all(
            isinstance(k, Integral) and not isinstance(k, bool) for k in key_frames):
        raise TypeError(f'expected key_frames as a list of integers, got {key_frames!r}')
    if len(key_frames) != len(texts):
        raise ValueError(f'expected a key frame for each of {len(texts)} texts, got '
                         f'{len(key_frames)}: {list(key_frames)}')
    if any(k < 0 for k in key_frames):
        raise ValueError(f'expected 0-based positions as key_frames, got {list(key_frames)}')
    return [int(k) for k in key_frames]


def _data_sample(name: str, texts: tuple[str, ...], reader: FrameReader) -> RefVOSDataSample:
    ids = tuple(str(e) for e in range(len(texts)))
    return RefVOSDataSample(metainfo=dict(
        dataset='user', video_id=name, exp_ids=ids, expressions=texts,
        object_ids=tuple(() for _ in texts), kinds=tuple(None for _ in texts),
        frame_names=reader.frame_names, ori_shape=reader.shape))


def _keep_in_thread(predictions: Iterable[tuple[int, list[int], MaskPrediction]],
                    keepers: Sequence[Callback]
                    ) -> Iterator[tuple[int, list[int], MaskPrediction]]:
    """Hand predictions on; a thread writes and encodes them while the model works.

    What was made is kept, whatever ends the iteration.
    """

    def keep(item: tuple[int, list[int], MaskPrediction]) -> None:
        for keeper in keepers:
            keeper(*item)

    # Its end waits for what it was given.
    with ThreadPoolExecutor(1, thread_name_prefix='glus_mm') as pool:
        waiting = deque()
        for item in predictions:
            waiting.append(pool.submit(keep, item))
            yield item
            if len(waiting) > MAX_WAITING:
                waiting.popleft().result()
        for future in waiting:
            future.result()


def _empty_result(texts: tuple[str, ...], reader: FrameReader, return_logits: bool,
                  keep: bool) -> dict:
    num_exp, num_frames = len(texts), len(reader)

    def table() -> list[list]:
        return [[None] * num_frames for _ in range(num_exp)]

    out = dict(
        expressions=texts, frame_names=reader.frame_names, masks=table() if keep else None,
        scores=np.zeros((num_exp, num_frames), dtype=np.float32),
        is_seg=np.zeros((num_exp, num_frames), dtype=bool))
    if return_logits:
        out.update(low_res_logits=table(), seg_tokens=table())
    return out


def _record(out: dict, frame_idx: int, exps: list[int], pred: MaskPrediction) -> None:
    """Keep of the predictions of one frame what the result holds."""
    out['scores'][exps, frame_idx] = pred.scores.float().cpu().numpy()
    out['is_seg'][exps, frame_idx] = pred.is_seg.cpu().numpy()
    presence = getattr(pred, 'presence', None)
    if presence is not None and not presence.isnan().all():
        out.setdefault('presence', np.full_like(out['scores'], np.nan))[exps, frame_idx] = (
            presence.float().cpu().numpy())
    if out['masks'] is not None:
        for e, mask in zip(exps, pred.masks.cpu().numpy()):
            out['masks'][e][frame_idx] = encode_mask(mask)
    if 'seg_tokens' not in out:
        return
    for i, e in enumerate(exps):
        if out['is_seg'][e, frame_idx]:
            # Copies, as a view would keep the arrays of all expressions.
            for key, values in [('low_res_logits', pred.low_res_logits),
                                ('seg_tokens', pred.seg_tokens)]:
                out[key][e][frame_idx] = values[i].float().cpu().numpy().copy()


def _finish(out: dict) -> None:
    """Give the masks of a result their final form."""
    if out['masks'] is not None:
        out['masks'] = [RLEMaskSequence(rles) for rles in out['masks']]


def _mark(made: np.ndarray, frame_idx: int, exps: list[int], pred: MaskPrediction) -> None:
    made[exps, frame_idx] = True


def _incomplete(reason: str, frame_idx: int, out: dict, made: np.ndarray,
                out_dir: Path | None) -> IncompleteVideoError:
    """The error for a video that breaks off; the result so far is put into its final form."""
    _finish(out)
    kept = '' if out['masks'] is None else ' and are in .result of this error'
    kept = kept if out_dir is None else f' and are in {out_dir}'
    return IncompleteVideoError(
        f'{reason}. {made.sum()} of {made.size} masks were made{kept}', frame_idx, out)


def _log_missing_seg(out: dict) -> None:
    missing = (~out['is_seg']).sum(1).tolist()
    if any(missing):
        parts = ', '.join(f'{text!r:.60}: {n}' for text, n in zip(out['expressions'], missing)
                          if n)
        print_log(f'no [SEG] on {sum(missing)} of {out["is_seg"].size} masks, which are empty '
                  f'({parts})', 'current', logging.WARNING)
