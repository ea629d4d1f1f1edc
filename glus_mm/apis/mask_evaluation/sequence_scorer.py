"""Scores label maps, one per frame of a sequence."""

from collections.abc import Iterator
from os import PathLike

import numpy as np

from glus_mm.apis.mask_evaluation.mask_scorer import MaskScorer, Scored
from glus_mm.evaluation.davis_annotations import DAVISAnnotations
from glus_mm.evaluation.mose_annotations import MOSEAnnotations
from glus_mm.evaluation.predictions import FrameFolder, PredictionTree
from glus_mm.evaluation.protocols import (
    LabelFrame,
    MOSEv2Protocol,
    ObjectProtocol,
    RefDAVISProtocol,
    Track,
)
from glus_mm.evaluation.protocols.object_protocol import ObjectScore
from glus_mm.evaluation.protocols.ref_davis import ANNOTATORS


class SequenceScorer(MaskScorer):
    """Scores ``<sequence>/<frame>.png``, or ``anno_<a>/<sequence>/<frame>.png``.

    A job is a sequence, once for each annotation of Ref-DAVIS17.

    Args:
        protocol: what is measured.
        ann_root: the folder with DAVIS 2017, or MOSE.
        pred_dir: the folder with the predictions.
        missing: see :class:`MaskScorer`.
        extra: likewise.

    Raises:
        OSError: a file is missing or cannot be read.
        ValueError: a file or folder is not as it should be.
    """

    def __init__(self, protocol: ObjectProtocol, ann_root: str | PathLike,
                 pred_dir: str | PathLike, missing: str = 'error', extra: str = 'warn') -> None:
        self.mose = isinstance(protocol, MOSEv2Protocol)
        self.annotation = MOSEAnnotations(ann_root) if self.mose else DAVISAnnotations(
            ann_root, protocol.annotation_folder)
        several = isinstance(protocol, RefDAVISProtocol)
        self.items = [(part, sequence) for part in (ANNOTATORS if several else (None, ))
                      for sequence in self.annotation.frames]
        folders = []
        for part, sequence in self.items:
            frames = self.annotation.frames[sequence]
            needed = tuple(frames[t] for t in protocol.frames_to_score(len(frames)))
            if not needed:
                raise ValueError(f'{ann_root}: expected more than {len(frames)} frames of sequence '
                                 f'{sequence!r}, of which {protocol.name} scores none')
            where = f'sequence {sequence!r}' if part is None else f'{part}, sequence {sequence!r}'
            folders.append(FrameFolder((part, sequence) if part else (sequence, ), needed, where,
                                       allowed=frames))
        source = PredictionTree(pred_dir, folders, siblings_alike=False, closed=several,
                                extra=extra, modes=('P', 'L'))
        super().__init__(protocol, source, missing)

    def num_frames(self, job: int) -> int:
        """The frames that count; see the base class."""
        return len(self.folders[self.jobs[job]].frames)

    def score(self, job: int) -> Scored:
        """Score one sequence; see the base class."""
        position = self.jobs[job]
        part, sequence = self.items[position]
        objects = self.annotation.objects(sequence)
        zeros = [0.0] * self.num_frames(job)
        unpredicted = self.unpredicted(position)
        if unpredicted:
            scores = [ObjectScore(number, dict.fromkeys(self.protocol.measures, zeros), {})
                      for number in objects]
        else:
            scores = self.protocol.score(self._frames(position, max(objects)), max(objects))
        tracks = [Track('mose_v2' if self.mose else 'davis', sequence, str(score.number),
                        score.values, video_unpredicted=unpredicted, part=part, notes=score.notes)
                  for score in scores if score.number in objects]
        return Scored(tracks, self.num_frames(job))

    def notes(self) -> dict:
        """Add which videos are scored 0; see the base class."""
        zero = [sequence for position, (_, sequence) in enumerate(self.items)
                if self.unpredicted(position)]
        return dict(super().notes(), **({'scored_zero': zero} if zero else {}))

    def unpredicted(self, position: int) -> bool:
        """Tell whether a sequence has no mask at all, and the protocol scores it 0."""
        return (self.missing == 'empty' and self.protocol.unpredicted_video_is_zero
                and len(self.scan.missing.get(position, ())) == len(self.folders[position].frames))

    def _frames(self, position: int, num_objects: int) -> Iterator[LabelFrame]:
        """Read the label maps of a sequence, frame by frame."""
        _, sequence = self.items[position]
        folder = self.folders[position]
        size = self.annotation.size(sequence)
        limit = self.protocol.max_label(num_objects)
        for frame in folder.frames:
            gt = self.annotation.labels(sequence, frame, size)
            if self.is_missing(position, frame):
                pred = np.zeros(size, dtype=np.uint8)
            else:
                pred = self.source.read(position, frame, size)
                if pred.max() > limit:
                    raise ValueError(f'{self.source.place(position, frame)}: expected numbers of '
                                     f'objects up to {limit} for {folder.where}, frame {frame!r}, '
                                     f'got {pred.max()}')
            yield LabelFrame(gt, pred)
