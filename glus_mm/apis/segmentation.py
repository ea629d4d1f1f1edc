"""What a segmented video gives, whole or broken off; its masks are decoded when looked at."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from glus_mm.apis.result_files import SCHEMA, coco_document, numbers
from glus_mm.utils.masks import decode_rle
from glus_mm.version import __version__
from glus_mm.video import FrameError, FrameReader

if TYPE_CHECKING:
    import supervision

# Along the frames of an (E, T) table, and along those of a list of frames.
_TABLES = ('scores', 'is_seg', 'made', 'presence', 'key_frame_scores')
_TRACKS = ('masks', 'low_res_logits', 'seg_tokens')
_FRAMES = ('frame_names', 'frame_ids', 'timestamps')


class RLEMaskSequence(Sequence[np.ndarray | None]):
    """The masks of one expression, held as COCO RLE.

    ``sequence[t]`` decodes a bool mask (H, W), a new array each time; a slice gives another
    sequence without decoding.

    Args:
        rles: (T) COCO RLEs; None, which stays None, where a video broke off before the frame.

    Attributes:
        rles: (T) what the masks are decoded from, ready for JSON.
    """

    def __init__(self, rles: Sequence[dict | None]) -> None:
        self.rles: list[dict | None] = list(rles)

    def __len__(self) -> int:
        return len(self.rles)

    @overload
    def __getitem__(self, index: int) -> np.ndarray | None: ...

    @overload
    def __getitem__(self, index: slice) -> 'RLEMaskSequence': ...

    def __getitem__(self, index: int | slice) -> 'np.ndarray | RLEMaskSequence | None':
        """Decode the mask (H, W) of a frame, or cut out a part of the video."""
        if isinstance(index, slice):
            return RLEMaskSequence(self.rles[index])
        return _decode(self.rles[index])

    def __iter__(self) -> Iterator[np.ndarray | None]:
        """Decode the masks one by one."""
        return map(_decode, self.rles)

    def __repr__(self) -> str:
        """Length only: there may be thousands of masks."""
        return f'{type(self).__name__}({len(self)} masks)'


def _decode(rle: dict | None) -> np.ndarray | None:
    return None if rle is None else decode_rle(rle)


@dataclass
class Segmentation:
    """The masks of a video for some texts.

    ``len(out)`` is the number of frames; ``out[3:9]`` are some of them, ``out[3]`` is one, and
    iterating gives one after the other, each a Segmentation. Every attribute is also a key, as in
    ``out['masks'][e][t]``, and ``out['expressions']`` is ``texts``; ``'presence' in out`` tells
    whether there is one.

    Attributes:
        texts: (E) referring expressions.
        masks: ``masks[e][t]`` is a bool array (H, W), decoded on access from RLE; None where the
            video broke off before. None as a whole where masks were handed over and not kept.
        scores: float32 (E, T), the IoU that the mask decoder expects, 0 without ``[SEG]``.
        is_seg: bool (E, T), whether a ``[SEG]`` was generated; where not, the mask is empty.
        made: bool (E, T), whether the frame was reached: all but where the video breaks off.
        frame_names: (T).
        frame_ids: (T) 0-based positions in the whole video, which ``key_frames`` and ``clicks``
            refer to.
        name: of the video.
        source: where its frames came from.
        size: (H, W); (0, 0) where no frame can be decoded.
        fps: frames per second; None where nothing says.
        timestamps: (T) seconds from the first frame; None for images.
        key_frames: (E) where propagation started; empty where none was chosen yet.
        key_frame_scores: float32 (E, T), what the selector expects of each frame; None unless it
            chose the key frames and has scores.
        presence: float32 (E, T), the probability of ``[SEG]``; None where the model does not tell.
        trained_scores: which of ``scores`` and ``presence`` the model was trained to give; the
            others mean little.
        clicks: number of a text to its refinements, each with ``frame``, ``points``, ``labels``
            and ``box``.
        low_res_logits: ``[e][t]`` float32 (h, w), what the masks are made from, if it was asked
            for; None where no ``[SEG]`` was generated.
        seg_tokens: ``[e][t]`` float32 (C), likewise.
        error: why masks are missing, if some are.
    """

    texts: tuple[str, ...]
    masks: list[RLEMaskSequence] | None
    scores: np.ndarray
    is_seg: np.ndarray
    made: np.ndarray
    frame_names: tuple[str, ...]
    frame_ids: Sequence[int]
    name: str
    source: str
    size: tuple[int, int]
    fps: float | None
    timestamps: Sequence[float | None] | None
    key_frames: list[int] = field(default_factory=list)
    key_frame_scores: np.ndarray | None = None
    presence: np.ndarray | None = None
    trained_scores: tuple[str, ...] = ()
    clicks: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    low_res_logits: list[list[np.ndarray | None]] | None = None
    seg_tokens: list[list[np.ndarray | None]] | None = None
    error: str | None = None

    @classmethod
    def begin(cls, name: str, texts: Sequence[str], reader: FrameReader,
              trained_scores: Sequence[str], keep_masks: bool = True) -> 'Segmentation':
        """Make one in which no frame was reached yet.

        Args:
            name: of the video.
            texts: (E).
            reader: its frames.
            trained_scores: see above.
            keep_masks: whether masks will be held.
        """
        num_frames = len(reader)
        times = None if not reader.time_base else [
            None if (at := reader.time(t)) is None else round(float(at), 9)
            for t in range(num_frames)]
        try:
            size = reader.shape
        except FrameError:  # told where the frames are read
            size = 0, 0
        return cls(
            tuple(texts),
            [RLEMaskSequence([None] * num_frames) for _ in texts] if keep_masks else None,
            np.zeros((len(texts), num_frames), np.float32),
            np.zeros((len(texts), num_frames), bool), np.zeros((len(texts), num_frames), bool),
            tuple(reader.frame_names), range(num_frames), name, reader.source, size, reader.fps,
            times, trained_scores=tuple(trained_scores))

    def __len__(self) -> int:
        return len(self.frame_names)

    def __iter__(self) -> Iterator['Segmentation']:
        """One frame after the other."""
        return (self[t] for t in range(len(self)))

    @overload
    def __getitem__(self, index: str) -> Any: ...

    @overload
    def __getitem__(self, index: int | slice) -> 'Segmentation': ...

    def __getitem__(self, index: int | slice | str) -> Any:
        if isinstance(index, str):
            if index != 'masks' and index not in self:
                there = [item.name for item in fields(self) if item.name in self]
                raise KeyError(f'expected one of {there}, got {index!r}')
            return getattr(self, _attribute(index))
        if not isinstance(index, slice):
            position = range(len(self))[index]
            index = slice(position, position + 1)
        cut: dict[str, Any] = {}
        for key in (*_TABLES, *_TRACKS, *_FRAMES):
            value = getattr(self, key)
            if value is not None:
                cut[key] = (value[:, index] if key in _TABLES else value[index] if key in _FRAMES
                            else [track[index] for track in value])
        return replace(self, **cut)

    def __contains__(self, key: object) -> bool:
        return getattr(self, _attribute(key), None) is not None

    def get(self, key: str, default: Any = None) -> Any:
        """What ``out[key]`` is, or ``default`` where it is not there."""
        return self[key] if key in self else default

    def frame_masks(self, frame: int = 0) -> np.ndarray:
        """The masks of all texts on a frame, bool (E, H, W); empty where there is none.

        Args:
            frame: 0-based position in this result.

        Raises:
            ValueError: the masks were handed over and not kept.
        """
        masks = np.zeros((len(self.texts), *self.size), bool)
        for mask, track in zip(masks, self.kept_masks()):
            value = track[frame]
            if value is not None:
                mask[:] = value
        return masks

    def to_supervision(self, frame: int = 0) -> 'supervision.Detections':
        """The masks of a frame for the package ``supervision``, whose annotators draw them.

        Args:
            frame: 0-based position in this result.

        Returns:
            A detection for each text that has a mask on the frame: ``class_id`` and ``tracker_id``
            are its number, ``data['class_name']`` is the text, ``confidence`` its score where the
            model was trained to give some.

        Raises:
            ImportError: ``supervision`` is not installed.
            ValueError: the masks were handed over and not kept.
        """
        try:
            import supervision
        except ImportError as error:
            raise ImportError('expected the package supervision, which is not installed: '
                              'pip install supervision') from error
        masks = self.frame_masks(frame)
        there = np.flatnonzero(masks.any((1, 2)))
        return supervision.Detections(
            xyxy=supervision.mask_to_xyxy(masks[there]).astype(np.float32), mask=masks[there],
            confidence=self.scores[there, frame] if 'scores' in self.trained_scores else None,
            class_id=there, tracker_id=there,
            data={'class_name': np.array(self.texts, dtype=object)[there].astype(str)})

    def to_coco(self) -> dict[str, Any]:
        """The masks as a COCO document, as ``format='coco'`` writes it: a frame is an image.

        Raises:
            ValueError: the masks were handed over and not kept.
        """
        return coco_document(self, [track.rles for track in self.kept_masks()])

    def to_dict(self) -> dict[str, Any]:
        """What ``results.json`` says of the video and its texts; docs/inference.md describes it.

        ``model`` and the places of masks are None here.
        """
        trained, made = self.trained_scores, self.made
        texts = []
        for e, text in enumerate(self.texts):
            texts.append(dict(
                text=text, id=e, masks=None,
                key_frame=int(self.key_frames[e]) if self.key_frames else None,
                clicks=self.clicks.get(e, []),
                seg=[bool(seg) if done else None for seg, done in zip(self.is_seg[e], made[e])],
                score=numbers(self.scores[e], made[e]) if 'scores' in trained else None,
                presence=numbers(self.presence[e], made[e])
                if self.presence is not None and 'presence' in trained else None,
                key_frame_score=None if self.key_frame_scores is None
                else numbers(self.key_frame_scores[e])))
        height, width = self.size
        return dict(
            schema=SCHEMA, glus_mm=__version__, complete=self.error is None, error=self.error,
            video=dict(
                name=self.name, source=self.source, width=width, height=height,
                num_frames=len(self), fps=self.fps, frames=list(self.frame_names),
                timestamps=None if self.timestamps is None else list(self.timestamps)),
            model=None, masks=None, texts=texts)

    def kept_masks(self) -> list[RLEMaskSequence]:
        """``masks``, which have to be there.

        Raises:
            ValueError: they were handed over and not kept.
        """
        if self.masks is None:
            raise ValueError(f'expected a result that holds its masks, but those of {self.name} '
                             'were handed over: leave out_dir and callback away')
        return self.masks


def _attribute(key: object) -> str:
    """The attribute that a key means."""
    return 'texts' if key == 'expressions' else str(key)


class IncompleteVideoError(ValueError):
    """A video breaks off, or a frame of it cannot be used; what was segmented is kept.

    Args:
        message: what is wrong, and where.
        frame_idx: 0-based position of the first frame that cannot be used.
        result: see below.

    Attributes:
        frame_idx (int): likewise.
        result (Segmentation): what ``GLUSInferencer`` would have returned, as far as it goes:
            a mask is None where the frame was not reached.
    """

    def __init__(self, message: str, frame_idx: int, result: Segmentation) -> None:
        super().__init__(message)
        self.frame_idx = frame_idx
        self.result = result
