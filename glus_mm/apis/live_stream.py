"""Masks of a live source, frame by frame."""

import weakref
from collections.abc import Iterable, Iterator, Sequence
from threading import Lock

import numpy as np
import torch

from glus_mm.apis.background_iterator import BackgroundIterator
from glus_mm.apis.live_frame import LiveFrame, LiveText
from glus_mm.models.inference.out_of_memory import explain_out_of_memory
from glus_mm.models.propagators.live_session import LiveSession
from glus_mm.models.segmentors import GLUS
from glus_mm.utils.checked import checked

ON_STALL = ('raise', 'end')


class LiveStream:
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
        """Itself."""
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

    def __enter__(self) -> 'LiveStream':
        """Itself; the block's end closes it."""
        return self

    def __exit__(self, *args: object) -> None:
        """Close it."""
        self.close()
