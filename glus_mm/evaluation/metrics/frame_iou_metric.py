"""Pseudo-labels for key-frame selectors: the IoU of every frame."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger
from mmengine.structures import BaseDataElement

from glus_mm.evaluation.frame_score_output import (
    by_video,
    write_official_scores,
    write_scores,
)
from glus_mm.evaluation.functional import region_similarity
from glus_mm.evaluation.metrics.sample_scorers import check_path_names, check_sample, iter_masks
from glus_mm.registry import METRICS
from glus_mm.utils.checked import checked
from glus_mm.utils.paths import ensure_writable_dir, ensure_writable_file

ABSENT = ('zero', 'one')


@METRICS.register_module()
class FrameIoUMetric(BaseMetric):
    """Write the IoU of every frame of every expression: pseudo-labels, or the truth for a test.

    ``tools/test.py --resume`` goes on with the videos that an interrupted run has not finished.

    Args:
        out_file: the JSON file, read by ``LoadFrameScores`` and, for its best frames, by
            ``FileKeyFrameSelector``; see :class:`glus_mm.utils.key_frames.ScoreFile`.
        official_dir: write the official layout, ``<video>/<exp>.json``, into this folder too.
        absent: IoU of a frame that shows none of the expression's objects and has an empty
            prediction. ``'zero'``: nothing can be propagated from such a frame. ``'one'`` is J's
            convention, under which the best key frame may be one without the object.
        collect_device: see :class:`RefVOSMetric`.
        prefix: what to put, with a '/', before each key.

    Raises:
        ValueError: ``absent`` is unknown.
        OSError: an output cannot be written. This is found here, before any work.
    """

    default_prefix = None

    def __init__(self,
                 out_file: str,
                 official_dir: str | None = None,
                 absent: str = 'zero',
                 collect_device: str = 'cpu',
                 prefix: str | None = None) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        checked(ABSENT, absent=absent)
        self.absent = absent
        self.out_file = ensure_writable_file(out_file)
        self.official_dir = None if official_dir is None else ensure_writable_dir(official_dir)

    def process(self, data_batch: Any, data_samples: Sequence[dict | BaseDataElement]) -> None:
        """Measure the videos of a batch.

        Args:
            data_samples: for each video a ``RefVOSDataSample`` with ``pred_masks`` and
                ``gt_rles``, or what its ``to_dict()`` returns.

        Raises:
            ValueError: masks are missing or of another size, or an id cannot be part of a path.
        """
        for sample in data_samples:
            if isinstance(sample, BaseDataElement):
                sample = sample.to_dict()
            check_sample(sample, with_gt=True)
            check_path_names(sample)
            self.results.append(dict(
                dataset=sample.get('dataset'),
                video_id=sample['video_id'],
                frames=list(sample['frame_names']),
                expressions={exp_id: self._ious(sample, exp)
                             for exp, exp_id in enumerate(sample['exp_ids'])}))

    def _ious(self, sample: dict, exp: int) -> list[float]:
        ious = []
        for _, pred, gt in iter_masks(sample, exp, with_gt=True):
            nothing = self.absent == 'zero' and not gt.any()
            ious.append(0.0 if nothing else round(region_similarity(gt, pred), 6))
        return ious

    def dump_result(self, result: dict) -> dict:
        """Return what is kept of a video, which is ready for JSON, for an interrupted test."""
        return result

    def load_result(self, content: dict) -> dict:
        """Turn what :meth:`dump_result` returned back, after JSON too."""
        return content

    def compute_metrics(self, results: list[dict]) -> dict[str, float | int]:
        """Write the file.

        Args:
            results: one entry per video, in any order; repeated ones count once.

        Returns:
            ``videos``, ``expressions``, and in percent ``iou``, the mean over all frames, and
            ``iou_best``, the mean over expressions of that of their best frame.

        Raises:
            OSError: a file cannot be written.
            ValueError: the videos are those of several data sets, or two have one id.
        """
        videos = by_video(results, str(self.out_file))
        write_scores(self.out_file, results[0]['dataset'], videos)
        if self.official_dir is not None:
            write_official_scores(Path(self.official_dir), videos)
        rows = [np.array(row) for video in videos.values() for row in video['expressions'].values()]
        MMLogger.get_current_instance().info(
            'IoUs of %d videos, %d expressions written to %s', len(videos), len(rows),
            self.out_file)
        return dict(videos=len(videos), expressions=len(rows),
                    iou=100 * float(np.concatenate(rows).mean()),
                    iou_best=100 * float(np.mean([row.max() for row in rows])))
