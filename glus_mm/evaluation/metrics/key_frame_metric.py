"""Pseudo-labels for key-frame selectors, how good key frames are, and the files of both."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger
from mmengine.structures import BaseDataElement

from glus_mm.evaluation.frame_score_output import (
    by_video,
    key_frame_figures,
    write_key_frames,
    write_official_key_frames,
    write_official_scores,
    write_scores,
)
from glus_mm.evaluation.functional import region_similarity
from glus_mm.evaluation.metrics.sample_scorers import check_path_names, check_sample, iter_masks
from glus_mm.registry import METRICS
from glus_mm.utils.checked import checked
from glus_mm.utils.paths import ensure_writable_dir, ensure_writable_file

ABSENT = ('zero', 'one')


class _PlainMetric(BaseMetric):
    """What is kept of a video is ready for JSON, for an interrupted test."""

    default_prefix = None

    def dump_result(self, result: dict) -> dict:
        """What is kept of a video as JSON has it."""
        return result

    def load_result(self, content: dict) -> dict:
        """Turn what :meth:`dump_result` returned back."""
        return content


@METRICS.register_module()
class FrameIoUMetric(_PlainMetric):
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


@METRICS.register_module()
class KeyFrameMetric(_PlainMetric):
    """Compare predicted scores with the IoU of each frame, and write scores and key frames.

    Files in ``out_dir``: ``scores.json`` and ``key_frames.json``, which ``FileKeyFrameSelector``
    reads, and with ``official`` ``key_frames_official.json`` and ``scores_official/``.

    Args:
        out_dir: folder of the files; None writes none.
        official: write the official layouts too; frames must have numbers as names.
        collect_device: see :class:`RefVOSMetric`.
        prefix: what to put, with a '/', before each key.

    Raises:
        OSError: the folder cannot be written. This is found here, before any work.
    """

    def __init__(self,
                 out_dir: str | None = None,
                 official: bool = True,
                 collect_device: str = 'cpu',
                 prefix: str | None = None) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.out_dir = None if out_dir is None else ensure_writable_dir(out_dir)
        self.official = official

    def process(self, data_batch: Any, data_samples: Sequence[dict | BaseDataElement]) -> None:
        """Take what was predicted for a batch.

        Args:
            data_samples: for each video a ``RefVOSDataSample`` with ``key_frame_ids`` and, where
                the selector has scores, ``pred_frame_scores``; with ``gt_scores`` there are
                figures.

        Raises:
            ValueError: a sample has no key frames.
        """
        for sample in data_samples:
            if isinstance(sample, BaseDataElement):
                sample = sample.to_dict()
            if sample.get('key_frame_ids') is None:
                raise ValueError(f'expected key_frame_ids, which a key-frame selector gives, in '
                                 f'video {sample.get("video_id")!r}, got only {sorted(sample)}')
            self.results.append(dict(
                dataset=sample.get('dataset'), video_id=sample['video_id'],
                frames=list(sample['frame_names']), exp_ids=list(sample['exp_ids']),
                kinds=list(sample.get('kinds') or [None] * len(sample['exp_ids'])),
                key_frame_ids=[int(k) for k in sample['key_frame_ids']],
                scores=_plain(sample.get('pred_frame_scores')),
                ious=_plain(sample.get('gt_scores'))))

    def compute_metrics(self, results: list[dict]) -> dict[str, float | int]:
        """Put together the videos of all processes.

        Args:
            results: one entry per video; repeated ones count once.

        Returns:
            What :func:`key_frame_figures` says, ``<kind>/<figure>`` for each kind; without true
            IoUs only ``expressions``.

        Raises:
            OSError: a file cannot be written.
            ValueError: the videos are those of several data sets, two have one id, or names do
                not allow the official layout.
        """
        videos = by_video(results, 'key frames')
        if self.out_dir is not None:
            self._write(videos)
        rows = [row for video in videos.values() for row in _rows(video)]
        if not rows or any(row['ious'] is None for row in rows):
            return dict(expressions=len(rows))
        figures = key_frame_figures(rows)
        kinds = sorted({row['kind'] for row in rows if row['kind'] is not None})
        for kind in kinds:
            part = key_frame_figures([row for row in rows if row['kind'] == kind])
            figures.update({f'{kind}/{name}': value for name, value in part.items()})
        return figures

    def _write(self, videos: dict[str, dict]) -> None:
        dataset = next((video['dataset'] for video in videos.values()), None)
        names = {key: {exp_id: video['frames'][frame] for exp_id, frame
                       in zip(video['exp_ids'], video['key_frame_ids'])}
                 for key, video in videos.items()}
        write_key_frames(self.out_dir / 'key_frames.json', dataset, names)
        if self.official:
            write_official_key_frames(self.out_dir / 'key_frames_official.json', names)
        scored = {key: dict(frames=video['frames'],
                            expressions=dict(zip(video['exp_ids'], video['scores'])))
                  for key, video in videos.items() if video['scores'] is not None}
        if scored:
            write_scores(self.out_dir / 'scores.json', dataset, scored)
            if self.official:
                write_official_scores(self.out_dir / 'scores_official', scored)
        MMLogger.get_current_instance().info('key frames of %d videos written to %s', len(videos),
                                             self.out_dir)


def _plain(values: Any) -> list[list[float | None]] | None:
    """Lists as JSON holds them: null for nan."""
    if values is None:
        return None
    rows = np.asarray(values, dtype=np.float64)
    return [[None if np.isnan(value) else float(value) for value in row] for row in rows]


def _rows(video: dict) -> list[dict]:
    """One entry for each expression of a video."""
    return [dict(kind=video['kinds'][e], key=video['key_frame_ids'][e],
                 scores=None if video['scores'] is None else video['scores'][e],
                 ious=None if video['ious'] is None else video['ious'][e])
            for e in range(len(video['exp_ids']))]
