"""Scores the masks of data samples, and writes them on the way."""

from collections import deque
from collections.abc import Iterator
from os.path import splitdrive
from pathlib import Path

import numpy as np
import torch
from pycocotools import mask as coco_mask

from glus_mm.evaluation.davis_annotations import DAVISAnnotations, MOSEAnnotations
from glus_mm.evaluation.predictions import write_label_png
from glus_mm.evaluation.protocols import (
    ExpressionFrame,
    ExpressionProtocol,
    LabelFrame,
    MOSEv2Protocol,
    ObjectProtocol,
    RefDAVISProtocol,
    Track,
)
from glus_mm.evaluation.protocols.object_protocol import (
    ANNOTATORS,
    merge_masks,
    object_and_annotation,
)
from glus_mm.utils.masks import decode_rle, merge_rles, write_mask_png

_REQUIRED = ('video_id', 'exp_ids', 'frame_names', 'pred_masks')
_REQUIRED_WITH_GT = ('object_ids', 'gt_rles')


def check_sample(sample: dict, with_gt: bool) -> None:
    """Check that a sample is whole, as far as that can be told without decoding a mask.

    Args:
        sample: what ``RefVOSDataSample.to_dict()`` returns.
        with_gt: whether ground truth is needed.

    Raises:
        ValueError: a field is absent, or does not have one entry per expression or frame.
    """
    where = f'video {sample.get("video_id")!r}'
    missing = [key for key in _REQUIRED + _REQUIRED_WITH_GT * with_gt if sample.get(key) is None]
    if missing:
        hint = ''
        if 'gt_rles' in missing:
            hint = '; a split without ground truth can only be written: format_only=True'
        raise ValueError(f'expected the data sample of {where} to have '
                         f'{", ".join(missing)}, got only {sorted(sample)}{hint}')
    exp_ids = sample['exp_ids']
    if len(set(exp_ids)) != len(exp_ids):
        raise ValueError(f'expected distinct expression ids in {where}, got {list(exp_ids)}')
    if not sample['frame_names']:
        raise ValueError(f'expected at least one frame in {where}, got none')
    for key in ('kinds', 'object_ids', 'gt_rles', 'pred_masks', 'pred_seg'):
        value = sample.get(key)
        if value is not None and len(value) != len(exp_ids):
            raise ValueError(f'expected {key} of {where} to have one entry for each of its '
                             f'{len(exp_ids)} expressions, got {len(value)}')


def check_path_names(sample: dict) -> None:
    """Refuse ids that, as parts of a path, would lead out of the output folder.

    Raises:
        ValueError: an expression's or a frame's name, or a part of the video's id between slashes,
            is empty, '.' or '..', or has a separator, a null character or, on Windows, a drive.
    """
    # ReVOS has videos in folders of folders.
    names = [('video id', part) for part in sample['video_id'].split('/')]
    names += [('expression id', exp_id) for exp_id in sample['exp_ids']]
    names += [('frame name', name) for name in sample['frame_names']]
    for what, name in names:
        if (name in ('', '.', '..') or any(char in name for char in '/\\\0')
                or splitdrive(name)[0]):
            raise ValueError(f'expected a {what} that can be the name of a file, got {name!r} in '
                             f'video {sample["video_id"]!r}')


def iter_masks(sample: dict, exp: int,
               with_gt: bool) -> Iterator[tuple[str, np.ndarray, np.ndarray | None]]:
    """Decode the masks of one expression frame by frame.

    Args:
        sample: a checked sample.
        exp: position of the expression in the sample.
        with_gt: whether to decode ground truth.

    Yields:
        Name of the frame; predicted mask, bool (H, W); None, or how many of the expression's
        objects cover a pixel, uint8 (H, W).

    Raises:
        ValueError: a mask is missing, or its size is not that of the video; names the video, the
            expression and the frame.
    """
    exp_id, frame_names = sample['exp_ids'][exp], sample['frame_names']
    sources = {'prediction': sample['pred_masks'][exp]}
    if with_gt:
        sources['ground truth'] = sample['gt_rles'][exp]
    for what, rles in sources.items():
        if rles is not None and len(rles) > len(frame_names):
            raise ValueError(f'expected a {what} for each of the {len(frame_names)} frames of '
                             f'video {sample["video_id"]!r}, expression {exp_id!r}, got '
                             f'{len(rles)}')
    size = sample.get('ori_shape')
    for t, name in enumerate(frame_names):
        masks = {}
        for what, rles in sources.items():
            where = f'{what} of video {sample["video_id"]!r}, expression {exp_id!r}, frame {name!r}'
            rle = rles[t] if rles is not None and t < len(rles) else None
            if rle is None:
                raise ValueError(f'expected a mask, got none: {where}')
            size = tuple(rle['size']) if size is None else tuple(size)
            if tuple(rle['size']) != size:
                raise ValueError(f'expected a mask of size {size}, got {tuple(rle["size"])}: '
                                 f'{where}')
            # ``objects`` are there where some of an expression's overlap.
            masks[what] = decode_rle(rle) if what == 'prediction' else sum(
                coco_mask.decode(part) for part in rle.get('objects') or [rle])
        yield name, masks['prediction'], masks.get('ground truth')


class ExpressionSampleScorer:
    """Scores each expression of a video; writes ``<video>/<expression>/<frame>.png``, 0 and 255.

    Args:
        protocol: what is measured.
        output_dir: folder for the masks; None = they are not written.
        with_gt: whether there is a truth; without, masks are only written.
    """

    def __init__(self, protocol: ExpressionProtocol, output_dir: Path | None,
                 with_gt: bool) -> None:
        self.protocol, self.output_dir, self.with_gt = protocol, output_dir, with_gt

    def score(self, sample: dict) -> list[Track]:
        """Score the predictions of a video and write them, one frame at a time.

        Args:
            sample: a checked sample.

        Raises:
            ValueError: masks are missing or of another size.
            OSError: a mask cannot be written.
        """
        kinds = sample.get('kinds') or [None] * len(sample['exp_ids'])
        tracks = []
        for exp in range(len(kinds)):
            said = self._said(sample, exp)
            frames = self._frames(sample, exp, said)
            if not self.with_gt:
                deque(frames, 0)
                continue
            values, predicted = self.protocol.score(frames)
            seg = sample.get('pred_seg')
            without_seg = None if seg is None else int(
                (~torch.as_tensor(seg[exp]).to('cpu', torch.bool)).sum())
            tracks.append(Track(
                sample.get('dataset') or '', sample['video_id'], sample['exp_ids'][exp], values,
                kinds[exp], bool(sample['object_ids'][exp]), predicted,
                notes={'frames_without_seg': without_seg}, frames=said))
        return tracks

    @staticmethod
    def _said(sample: dict, exp: int) -> dict[str, list[float]]:
        """What the model says of each frame; nothing where it says not all of it.

        ``visible`` and ``painted``, whether there is anything in the true and in the predicted
        mask, are still empty.
        """
        fields = dict(presence='pred_presence', expected_iou='pred_scores', seg='pred_seg')
        if any(sample.get(field) is None for field in fields.values()):
            return {}
        said = {name: torch.as_tensor(sample[field][exp]).float().tolist()
                for name, field in fields.items()}
        if not np.isfinite(said['presence']).all():
            return {}
        return dict(said, visible=[], painted=[])

    def _frames(self, sample: dict, exp: int, said: dict[str, list[float]]
                ) -> Iterator[ExpressionFrame]:
        """The frames, none without a truth; what is in them is noted in ``said`` if wanted."""
        for t, (name, pred, gt) in enumerate(iter_masks(sample, exp, self.with_gt)):
            if self.output_dir is not None:
                folder = self.output_dir / sample['video_id'] / sample['exp_ids'][exp]
                folder.mkdir(parents=True, exist_ok=True)
                write_mask_png(folder / f'{name}.png', pred)
            if gt is None:
                continue
            if said:
                said['visible'].append(float(gt.any()))
                said['painted'].append(float(pred.any()))
            area = _foreground_area(sample, t) if self.protocol.needs_foreground else None
            yield ExpressionFrame(gt, pred.view(np.uint8) * np.uint8(255), area)


def _foreground_area(sample: dict, frame: int) -> int:
    """Area of all objects of a video's expressions together, in pixels."""
    rles = []
    for exp_id, track in zip(sample['exp_ids'], sample['gt_rles']):
        if frame >= len(track) or track[frame] is None:
            raise ValueError(f'expected a mask, got none: ground truth of video '
                             f'{sample["video_id"]!r}, expression {exp_id!r}, frame '
                             f'{sample["frame_names"][frame]!r}')
        rles.append(track[frame])
    return int(coco_mask.area(merge_rles(rles, tuple(rles[0]['size']))))


class SequenceSampleScorer:
    """Scores the objects of a sequence.

    In DAVIS the expressions are those of Ref-DAVIS17; in MOSE an expression is an object, and its
    id the number. Writes palette PNGs, ``<sequence>/<frame>.png``, below ``anno_<a>/`` for all four
    annotations.

    Args:
        protocol: what is measured.
        annotation: the true label maps; None = masks are only written.
        annotator: which annotation's expressions are used, 0..3, where the protocol uses one.
        output_dir: see :class:`ExpressionSampleScorer`.

    Raises:
        ValueError: there is no such annotation.
    """

    def __init__(self, protocol: ObjectProtocol,
                 annotation: DAVISAnnotations | MOSEAnnotations | None, annotator: int,
                 output_dir: Path | None) -> None:
        if annotator not in range(len(ANNOTATORS)):
            raise ValueError(f'annotator: expected 0 to {len(ANNOTATORS) - 1}, got {annotator!r}')
        self.protocol, self.annotation, self.output_dir = protocol, annotation, output_dir
        self.several = isinstance(protocol, RefDAVISProtocol)
        self.numbered = isinstance(protocol, MOSEv2Protocol)
        self.annotators = range(len(ANNOTATORS)) if self.several else (annotator, )

    def score(self, sample: dict) -> list[Track]:
        """Score and write; see :class:`ExpressionSampleScorer`, likewise for the errors."""
        sequence = sample['video_id']
        if self.annotation is None:
            for annotator in self.annotators:
                deque(self._labels(sample, annotator), 0)
            return []
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

    def _frames(self, sample: dict, annotator: int, num_objects: int) -> Iterator[LabelFrame]:
        counted = self.protocol.frames_to_score(len(sample['frame_names']))
        limit = self.protocol.max_label(num_objects)
        for t, (name, labels) in enumerate(self._labels(sample, annotator)):
            if labels.max() > limit:
                raise ValueError(f'expected expressions for at most {limit} objects of video '
                                 f'{sample["video_id"]!r}, got object {labels.max()}')
            if t in counted:
                gt = self.annotation.labels(sample['video_id'], name, labels.shape)
                yield LabelFrame(gt, labels)

    def _labels(self, sample: dict, annotator: int) -> Iterator[tuple[str, np.ndarray]]:
        """Name and label map of each frame, from the expressions of one annotation; written."""
        where = f'video {sample["video_id"]!r}'
        places = [(int(exp_id), 0) if self.numbered else object_and_annotation(exp_id, where)
                  for exp_id in sample['exp_ids']]
        chosen = [(number, exp) for exp, (number, a) in enumerate(places) if a == annotator]
        if not chosen:
            raise ValueError(f'{where}: expected expressions of {ANNOTATORS[annotator]}, got only '
                             f'{list(sample["exp_ids"])}')
        streams = [iter_masks(sample, exp, with_gt=False) for _, exp in chosen]
        for masks in zip(*streams, strict=True):
            name, size = masks[0][0], masks[0][1].shape
            labels = merge_masks([(number, mask) for (number, _), (_, mask, _)
                                  in zip(chosen, masks)], size)
            if self.output_dir is not None:
                parent = self.output_dir / (ANNOTATORS[annotator] if self.several else '')
                folder = parent / sample['video_id']
                folder.mkdir(parents=True, exist_ok=True)
                write_label_png(folder / f'{name}.png', labels)
            yield name, labels
