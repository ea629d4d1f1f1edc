"""Scores data samples as label maps, one per frame of a sequence."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from glus_mm.evaluation.davis_annotations import DAVISAnnotations
from glus_mm.evaluation.metrics.sample_masks import iter_masks
from glus_mm.evaluation.metrics.sample_scorer import SampleScorer
from glus_mm.evaluation.mose_annotations import MOSEAnnotations
from glus_mm.evaluation.predictions import write_label_png
from glus_mm.evaluation.protocols import (
    LabelFrame,
    MOSEv2Protocol,
    ObjectProtocol,
    RefDAVISProtocol,
    Track,
)
from glus_mm.evaluation.protocols.ref_davis import ANNOTATORS, merge_masks, place_of


class SequenceSampleScorer(SampleScorer):
    """Scores the objects of a sequence.

    In DAVIS the expressions are those of Ref-DAVIS17; in MOSE an expression is an object, and its
    id the number. Writes palette PNGs, ``<sequence>/<frame>.png``, below ``anno_<a>/`` for all four
    annotations.

    Args:
        protocol: what is measured.
        annotation: the true label maps; None = nothing is scored.
        annotator: which annotation's expressions are used, 0..3, where the protocol uses one.
        output_dir: see :class:`SampleScorer`.

    Raises:
        ValueError: there is no such annotation.
    """

    def __init__(self, protocol: ObjectProtocol,
                 annotation: DAVISAnnotations | MOSEAnnotations | None, annotator: int,
                 output_dir: Path | None) -> None:
        super().__init__(output_dir)
        if annotator not in range(len(ANNOTATORS)):
            raise ValueError(f'annotator: expected 0 to {len(ANNOTATORS) - 1}, got {annotator!r}')
        self.protocol = protocol
        self.annotation = annotation
        self.several = isinstance(protocol, RefDAVISProtocol)
        self.numbered = isinstance(protocol, MOSEv2Protocol)
        self.annotators = range(len(ANNOTATORS)) if self.several else (annotator, )

    def score(self, sample: dict) -> list[Track]:
        """Score and write; see the base class."""
        sequence = sample['video_id']
        known = self.annotation.frames.get(sequence)
        if known is None:
            raise ValueError(f'{self.annotation.list_file}: expected video {sequence!r} among the '
                             f'{len(self.annotation.frames)} sequences, got none of that name')
        if known != tuple(sample['frame_names']):
            raise ValueError(f'expected the {len(known)} frames of {self.annotation.folder} in '
                             f'video {sequence!r}, got {len(sample["frame_names"])} frames, '
                             f'{sample["frame_names"][0]!r} to {sample["frame_names"][-1]!r}')
        objects = self.annotation.objects(sequence)
        tracks = []
        for annotator in self.annotators:
            frames = self._frames(sample, annotator, max(objects))
            part = ANNOTATORS[annotator] if self.several else None
            tracks += [Track(sample.get('dataset') or '', sequence, str(score.number),
                             score.values, part=part, notes=score.notes)
                       for score in self.protocol.score(frames, max(objects))
                       if score.number in objects]
        return tracks

    def write(self, sample: dict) -> None:
        """Write; see the base class."""
        for annotator in self.annotators:
            for name, labels in self._labels(sample, annotator):
                self._write(sample, annotator, name, labels)

    def _frames(self, sample: dict, annotator: int, num_objects: int) -> Iterator[LabelFrame]:
        counted = self.protocol.frames_to_score(len(sample['frame_names']))
        limit = self.protocol.max_label(num_objects)
        for t, (name, labels) in enumerate(self._labels(sample, annotator)):
            self._write(sample, annotator, name, labels)
            if labels.max() > limit:
                raise ValueError(f'expected expressions for at most {limit} objects of video '
                                 f'{sample["video_id"]!r}, got object {labels.max()}')
            if t in counted:
                gt = self.annotation.labels(sample['video_id'], name, labels.shape)
                yield LabelFrame(gt, labels)

    def _labels(self, sample: dict, annotator: int) -> Iterator[tuple[str, np.ndarray]]:
        """Name and label map of each frame, from the expressions of one annotation."""
        where = f'video {sample["video_id"]!r}'
        places = [(int(exp_id), 0) if self.numbered else place_of(exp_id, where)
                  for exp_id in sample['exp_ids']]
        chosen = [(number, exp) for exp, (number, a) in enumerate(places) if a == annotator]
        if not chosen:
            raise ValueError(f'{where}: expected expressions of {ANNOTATORS[annotator]}, got only '
                             f'{list(sample["exp_ids"])}')
        streams = [iter_masks(sample, exp, with_gt=False) for _, exp in chosen]
        for masks in zip(*streams, strict=True):
            yield masks[0][0], merge_masks(
                [(number, mask) for (number, _), (_, mask, _) in zip(chosen, masks)],
                masks[0][1].shape)

    def _write(self, sample: dict, annotator: int, name: str, labels: np.ndarray) -> None:
        if self.output_dir is not None:
            parent = self.output_dir / ANNOTATORS[annotator] if self.several else self.output_dir
            folder = parent / sample['video_id']
            folder.mkdir(parents=True, exist_ok=True)
            write_label_png(folder / f'{name}.png', labels)
