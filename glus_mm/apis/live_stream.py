"""Masks of a live source, frame by frame."""

import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from queue import Empty, Queue
from threading import Lock, Thread
from typing import Generic, TypeVar

import numpy as np
import torch

from glus_mm.models.inference.test_cfg import explain_out_of_memory
from glus_mm.models.propagators.live_session import LiveSession
from glus_mm.models.segmentors import GLUS
from glus_mm.utils.checked import checked

Item = TypeVar('Item')
ON_STALL = ('raise', 'end')


class BackgroundIterator(Generic[Item]):
    """Yield ``(position, item)`` of an iterator that a thread reads, one item ahead.

    Args:
        source: what is read, by one thread only.
        timeout: seconds to wait for an item; None waits for ever.
        keep_latest: an item that was not asked for in time is replaced by the next one; else the
            source waits.

    Raises:
        ValueError: ``timeout`` is not positive.
    """

    def __init__(self, source: Iterable[Item], timeout: float | None = None,
                 keep_latest: bool = False) -> None:
        if timeout is not None and not timeout > 0:
            raise ValueError(f'timeout must be positive or None, got {timeout!r}')
        self.timeout = timeout
        self.keep_latest = keep_latest
        # Position and item; at the end what the source has raised, or None.
        self._items: Queue[tuple[int, Item] | Exception | None] = Queue(1)
        self._ended = self._closed = False
        self._last = -1
        Thread(target=self._read, args=(iter(source), ), daemon=True).start()

    def _read(self, source: Iterator[Item]) -> None:
        error = None
        try:
            for item in enumerate(source):
                if self.keep_latest:
                    self._drop()
                self._items.put(item)
                if self._closed:
                    self._drop()
                    break
        except Exception as failed:  # noqa: BLE001 - raised where the items are asked for
            error = failed
        self._items.put(error)

    def _drop(self) -> None:
        """Take away the item that waits."""
        with suppress(Empty):
            self._items.get_nowait()

    def __iter__(self) -> 'BackgroundIterator[Item]':
        return self

    def __next__(self) -> tuple[int, Item]:
        """Wait for the next item.

        Raises:
            TimeoutError: none came in time. The next call waits again.
            Exception: what the source has raised, after its last item.
        """
        if self._ended or self._closed:
            raise StopIteration
        try:
            item = self._items.get(timeout=self.timeout)
        except Empty:
            after = 'its start' if self._last < 0 else f'frame {self._last}'
            raise TimeoutError(f'expected a frame of the source within {self.timeout:g} s '
                               f'after {after}, got none: it has stalled') from None
        if isinstance(item, tuple):
            self._last = item[0]
            return item
        self._ended = True
        raise item or StopIteration

    def close(self) -> None:
        """Let the thread end with the item that it waits for."""
        self._closed = True
        self._drop()


@dataclass(frozen=True)
class LiveText:
    """A text of a live stream; ``LiveStream.drop`` takes it.

    Attributes:
        key: number of the text in its stream, never used again.
        text: the referring expression.
    """

    key: int
    text: str


@dataclass(frozen=True)
class LiveFrame:
    """Masks of one frame for the ``E`` texts that are followed at that time.

    Attributes:
        frame_idx: position in the source; some are missing where frames are skipped.
        image: the frame, RGB uint8 (H, W, 3).
        texts: (E) in the order in which they were added.
        masks: bool (E, H, W).
        scores: float32 (E), the IoU that the mask decoder expects, 0 without ``[SEG]``.
        is_seg: bool (E), whether a ``[SEG]`` was generated; where not, the mask is empty.
        presence: float32 (E), the probability of ``[SEG]``.
    """

    frame_idx: int
    image: np.ndarray
    texts: tuple[LiveText, ...]
    masks: np.ndarray
    scores: np.ndarray
    is_seg: np.ndarray
    presence: np.ndarray


class LiveStream(AbstractContextManager['LiveStream']):
    """Iterate over it for the masks of a source; :meth:`add` and :meth:`drop` texts meanwhile.

    Made by :meth:`GLUSInferencer.stream`; see there for arguments and errors. ``add`` and ``drop``
    may be called from other threads; they take effect with the next frame that begins. Ends with
    its source. After a frame that cannot be used it is at its end; a source that has stalled may
    be asked again.
    """

    def __init__(self, model: GLUS, source: Iterable[np.ndarray], texts: Sequence[str],
                 timeout: float | None, on_stall: str, skip_late: bool,
                 context_frames: Sequence[np.ndarray] | None, context_growth: float) -> None:
        checked(ON_STALL, on_stall=on_stall)
        self.on_stall = on_stall
        self._lock = Lock()
        with torch.inference_mode():
            self._session = LiveSession(model, context_frames, context_growth)
        self._texts: dict[int, LiveText] = {}
        self._ended = False
        for text in texts:
            self.add(text)
        self._frames: Iterator[tuple[int, np.ndarray]]
        if timeout is None and not skip_late:
            self._frames = enumerate(source)
        else:
            self._frames = BackgroundIterator(source, timeout, skip_late)
            # A stream that nobody holds any more must not keep its thread.
            weakref.finalize(self, self._frames.close)

    @property
    def texts(self) -> tuple[LiveText, ...]:
        """The texts that are followed now."""
        with self._lock:
            return tuple(self._texts.values())

    def add(self, text: str) -> LiveText:
        """Follow one more text, from the next frame on.

        Args:
            text: a referring expression; the same one may be followed twice.

        Returns:
            What the stream knows it by.

        Raises:
            TypeError: it is no string.
            ValueError: it cannot be used.
        """
        if not isinstance(text, str):
            raise TypeError(f'expected a text, got {text!r:.200}')
        with self._lock:
            live = LiveText(self._session.add(text), text)
            self._texts[live.key] = live
        return live

    def drop(self, text: LiveText) -> None:
        """Follow a text no more; its memory is given back.

        Args:
            text: what :meth:`add` returned, or one of :attr:`texts`.

        Raises:
            ValueError: this stream does not follow it, as it was dropped before, say.
        """
        with self._lock:
            if self._texts.get(getattr(text, 'key', -1)) is not text:
                following = ', '.join(repr(live.text) for live in self._texts.values()) or 'none'
                raise ValueError(f'expected a text that this stream follows, and each to be '
                                 f'dropped once, got {text!r}; it follows {following}')
            del self._texts[text.key], self._session.tracks[text.key]

    def __iter__(self) -> 'LiveStream':
        return self

    def __next__(self) -> LiveFrame:
        """Wait for the next frame and segment it.

        Raises:
            FrameError: it is no RGB uint8 image, or has another size than those before.
            TimeoutError: the source has stalled.
            torch.OutOfMemoryError: the memory does not suffice; says which option to lower.
        """
        if self._ended:
            raise StopIteration
        try:
            position, image = next(self._frames)
        except TimeoutError:
            if self.on_stall == 'raise':
                raise
            self.close()
            raise StopIteration from None
        except Exception:
            # The end of the source, or its own error.
            self.close()
            raise
        try:
            with self._lock, torch.inference_mode():
                texts = tuple(self._texts.values())
                with explain_out_of_memory(self._session.model.test_cfg, len(texts)):
                    pred = self._session.step(image)
        except Exception:
            self.close()
            raise
        return LiveFrame(position, image, texts, pred.masks.cpu().numpy(),
                         pred.scores.float().cpu().numpy(), pred.is_seg.cpu().numpy(),
                         pred.presence.float().cpu().numpy())

    def close(self) -> None:
        """End the stream; its source is not asked any more."""
        self._ended = True
        if isinstance(self._frames, BackgroundIterator):
            self._frames.close()

    def __exit__(self, *args: object) -> None:
        self.close()
