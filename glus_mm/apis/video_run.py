"""One video on its way through a model: what is made of it is kept, written, handed over."""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from numbers import Integral
from os import PathLike
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import torch
from mmengine.logging import print_log

from glus_mm.apis.result_files import FORMATS, ResultFiles
from glus_mm.apis.segmentation import IncompleteVideoError, Segmentation
from glus_mm.models.inference import MaskPrediction, VideoSession
from glus_mm.models.segmentors import GLUS
from glus_mm.models.selectors import BaseKeyFrameSelector
from glus_mm.structures import RefVOSDataSample
from glus_mm.utils.checked import checked
from glus_mm.utils.masks import encode_mask
from glus_mm.utils.paths import ensure_writable_dir
from glus_mm.video import FrameError, FrameReader, is_url, open_reader

Video = str | PathLike | Sequence[np.ndarray] | Iterable[np.ndarray] | FrameReader
Callback = Callable[[int, list[int], MaskPrediction], None]
# Frames whose masks wait to be written or encoded.
MAX_WAITING = 2


class VideoRun(AbstractContextManager['VideoRun']):
    """What becomes of a video; see :class:`GLUSInferencer` for arguments, results and errors.

    Everything is checked here, before any work. A context manager: its end waits for what is still
    being written, whatever ended the work, and closes what it has opened.
    """

    def __init__(self, model: GLUS, selector: BaseKeyFrameSelector, video: Video,
                 texts: str | Sequence[str], key_frames: Sequence[int] | None = None,
                 out_dir: str | PathLike | None = None, return_logits: bool = False,
                 callback: Callback | None = None, name: str | None = None, format: str = 'png'
                 ) -> None:
        self.model, self.selector, self.callback = model, selector, callback
        self.texts = check_texts(model, texts)
        self.key_frames = _check_key_frames(key_frames, self.texts)
        checked(FORMATS, format=format)
        self.out_dir = None if out_dir is None else ensure_writable_dir(out_dir)
        self.reader = open_reader(video)
        self.name = name or video_name(video)
        self._files: ResultFiles | None = None
        self._waiting: deque = deque()
        with ExitStack() as stack:
            if self.reader is not video:
                stack.callback(self.reader.close)
            if self.out_dir is not None:
                self._files = stack.enter_context(ResultFiles(
                    self.out_dir, self.name, self.reader, self.texts, format))
            self.out = Segmentation.begin(self.name, self.texts, self.reader, model.trained_scores,
                                          keep_masks=out_dir is None and callback is None)
            if return_logits:
                self.out.low_res_logits = [[None] * len(self.reader) for _ in self.texts]
                self.out.seg_tokens = [[None] * len(self.reader) for _ in self.texts]
            # Closed first: it waits for what it was given.
            self._pool = stack.enter_context(
                ThreadPoolExecutor(1, thread_name_prefix='glus_mm'))
            self._stack = stack.pop_all()

    def open(self) -> tuple[VideoSession, list[int]]:
        """The state of the video, and the key frames, which may have to be chosen."""
        sample = RefVOSDataSample(metainfo=dict(
            dataset='user', video_id=self.name, exp_ids=tuple(map(str, range(len(self.texts)))),
            expressions=self.texts, object_ids=tuple(() for _ in self.texts),
            kinds=tuple(None for _ in self.texts), frame_names=self.reader.frame_names,
            ori_shape=self.reader.shape))
        session, key_frames = self.model.init_session(self.reader, sample), self.key_frames
        if key_frames is None:
            chosen = self.selector.select(self.reader, sample)
            key_frames = list(chosen.frame_ids)
            if chosen.scores is not None:
                self.out.key_frame_scores = torch.as_tensor(chosen.scores).float().cpu().numpy()
        self.out.key_frames = list(key_frames)
        return session, key_frames

    def take(self, frame_idx: int, exps: list[int], pred: MaskPrediction) -> None:
        """Keep the predictions of a frame, see :meth:`GLUS.segment`; a thread does it, so that an
        error may come later."""
        self._waiting.append(self._pool.submit(self._keep, frame_idx, exps, pred))
        if self.callback is not None:
            self.callback(frame_idx, list(exps), pred)
        if len(self._waiting) > MAX_WAITING:
            self._waiting.popleft().result()

    def finish(self, error: FrameError | None = None) -> Segmentation:
        """The result, once all frames were taken, or one could not be used.

        Args:
            error: what is wrong with that frame.

        Raises:
            IncompleteVideoError: for ``error``, or as the video breaks off; what was made before
                is kept.
        """
        if error is not None:
            self._pool.shutdown()
        while self._waiting and error is None:
            self._waiting.popleft().result()
        self.out.error = self.reader.breaks_off if error is None else str(error)
        if self._files is not None:
            self._files.finish(self.out, self.model)
        if self.out.error is not None:
            kept = '' if self.out.masks is None else ' and are in .result of this error'
            kept = kept if self.out_dir is None else f' and are in {self.out_dir}'
            raise IncompleteVideoError(
                f'{self.out.error}. {self.out.made.sum()} of {self.out.made.size} masks were made'
                f'{kept}', len(self.reader) if error is None else error.frame_idx,
                self.out) from error
        missing = (~self.out.is_seg).sum(1).tolist()
        if any(missing):
            parts = ', '.join(f'{text!r:.60}: {n}' for text, n in zip(self.texts, missing) if n)
            print_log(f'no [SEG] on {sum(missing)} of {self.out.is_seg.size} masks, which are '
                      f'empty ({parts})', 'current', logging.WARNING)
        return self.out

    def _keep(self, frame_idx: int, exps: list[int], pred: MaskPrediction) -> None:
        if self._files is not None:
            self._files(frame_idx, exps, pred)
        self.record(frame_idx, exps, pred)

    def record(self, frame_idx: int, exps: list[int], pred: MaskPrediction) -> None:
        """Keep of the predictions of a frame, see :meth:`GLUS.segment`, what the result holds."""
        out = self.out
        out.scores[exps, frame_idx] = pred.scores.float().cpu().numpy()
        out.is_seg[exps, frame_idx] = pred.is_seg.cpu().numpy()
        presence = getattr(pred, 'presence', None)
        if presence is not None and not presence.isnan().all():
            if out.presence is None:
                out.presence = np.full_like(out.scores, np.nan)
            out.presence[exps, frame_idx] = presence.float().cpu().numpy()
        if out.masks is not None:
            for e, mask in zip(exps, pred.masks.cpu().numpy()):
                out.masks[e].rles[frame_idx] = encode_mask(mask)
        for tracks, values in ((out.low_res_logits, pred.low_res_logits),
                               (out.seg_tokens, pred.seg_tokens)):
            if tracks is not None:
                for i, e in enumerate(exps):
                    if out.is_seg[e, frame_idx]:
                        # Copies, as a view would keep the arrays of all expressions.
                        tracks[e][frame_idx] = values[i].float().cpu().numpy().copy()
        out.made[exps, frame_idx] = True

    def close(self) -> None:
        """Wait for what is being written, and close what was opened."""
        self._stack.close()

    def __exit__(self, *exc: object) -> None:
        self.close()


def check_texts(model: GLUS, texts: str | Sequence[str]) -> tuple[str, ...]:
    """The texts as a tuple, each one checked before the video is touched.

    Words that the model was never taught are a warning, where that is known.

    Raises:
        TypeError: they are no list of strings.
        ValueError: there is none, or one cannot be used; the message has its number.
    """
    if isinstance(texts, str):
        texts = [texts]
    if not isinstance(texts, Sequence) or not all(isinstance(text, str) for text in texts):
        raise TypeError(f'expected texts as a list of strings, got {texts!r:.200}')
    if not texts:
        raise ValueError('expected at least one text, got an empty list')
    for i, text in enumerate(texts):
        try:
            model.mllm.prompt(text, model.test_cfg.num_context, 1)
        except ValueError as error:
            raise ValueError(f'texts[{i}]: {error}') from error
    untaught = untaught_words(model, texts)
    if untaught:
        print_log(f'the model {untaught}', 'current', logging.WARNING)
    return tuple(texts)


def untaught_words(model: GLUS, texts: Sequence[str]) -> str:
    """What to say of words that a model was never taught, where its data set tells its words.

    Args:
        model: its config names the data set.
        texts: (E) expressions.

    Returns:
        Such as ``"was trained on coloured shapes only, and was never taught: 'elephant'"``; empty
        where all are known, or where that cannot be told.
    """
    loader = (getattr(model, 'cfg', None) or {}).get('train_dataloader') or {}
    kind = str((loader.get('dataset') or {}).get('type'))
    if kind.rpartition('.')[2] != 'MovingShapesDataset':
        return ''
    from glus_mm.datasets.moving_shapes import unknown_words  # other models need no data sets

    unknown = ', '.join(map(repr, unknown_words(texts)))
    return unknown and f'was trained on coloured shapes only, and was never taught: {unknown}'


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
