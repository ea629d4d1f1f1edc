"""Scores data samples with one binary mask per expression and frame."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from pycocotools import mask as coco_mask

from glus_mm.evaluation.metrics.sample_masks import count_frames_without_seg, iter_masks
from glus_mm.evaluation.metrics.sample_scorer import SampleScorer
from glus_mm.evaluation.protocols import ExpressionFrame, ExpressionProtocol, Track
from glus_mm.utils.masks import merge_rles, write_mask_png


class ExpressionSampleScorer(SampleScorer):
    """Scores each expression of a video; writes ``<video>/<expression>/<frame>.png``, 0 and 255.

    Args:
        protocol: what is measured.
        output_dir: see :class:`SampleScorer`.
    """

    def __init__(self, protocol: ExpressionProtocol, output_dir: Path | None) -> None:
        super().__init__(output_dir)
        self.protocol = protocol

    def score(self, sample: dict) -> list[Track]:
        """Score and write; see the base class."""
        num_expressions = len(sample['exp_ids'])
        kinds = sample.get('kinds') or [None] * num_expressions
        tracks = []
        for exp, without_seg in enumerate(count_frames_without_seg(sample)):
            said = self._said(sample, exp)
            values, predicted = self.protocol.score(self._frames(sample, exp, said))
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

    def write(self, sample: dict) -> None:
        """Write; see the base class."""
        for exp in range(len(sample['exp_ids'])):
            for name, pred, _ in iter_masks(sample, exp, with_gt=False):
                self._write(sample, exp, name, pred)

    def _frames(self, sample: dict, exp: int, said: dict[str, list[float]]
                ) -> Iterator[ExpressionFrame]:
        """The frames; what is in them is noted in ``said`` where that is wanted."""
        for t, (name, pred, gt) in enumerate(iter_masks(sample, exp, with_gt=True)):
            self._write(sample, exp, name, pred)
            if said:
                said['visible'].append(float(gt.any()))
                said['painted'].append(float(pred.any()))
            area = _foreground_area(sample, t) if self.protocol.needs_foreground else None
            yield ExpressionFrame(gt, pred.view(np.uint8) * np.uint8(255), area)

    def _write(self, sample: dict, exp: int, name: str, pred: np.ndarray) -> None:
        if self.output_dir is not None:
            folder = self.output_dir / sample['video_id'] / sample['exp_ids'][exp]
            folder.mkdir(parents=True, exist_ok=True)
            write_mask_png(folder / f'{name}.png', pred)


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
