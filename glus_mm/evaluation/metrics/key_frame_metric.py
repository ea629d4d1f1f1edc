"""Pseudo-labels for key-frame selectors, how good key frames are, and the files of both."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger
from mmengine.structures import BaseDataElement

from glus_mm.evaluation.functional import region_similarity
from glus_mm.evaluation.metrics.sample_scorers import check_path_names, check_sample, iter_masks
from glus_mm.registry import METRICS
from glus_mm.utils.checked import checked
from glus_mm.utils.json_file import write_json
from glus_mm.utils.key_frames import KeyFrameFile, ScoreFile
from glus_mm.utils.paths import ensure_writable_dir, ensure_writable_file

ABSENT = ('zero', 'one')


class _PlainMetric(BaseMetric):
    """What is kept of a video is ready for JSON, for an interrupted test."""

    default_prefix = None

    def process(self, data_batch: Any, data_samples: Sequence[dict | BaseDataElement]) -> None:
        """Take the videos of a batch.

        Args:
            data_samples: for each video a ``RefVOSDataSample``, or what its ``to_dict()`` returns;
                which fields it needs, the class says.

        Raises:
            ValueError: a sample lacks what is needed, or an id cannot be part of a path.
        """
        self.results += [
            self._result(sample.to_dict() if isinstance(sample, BaseDataElement) else sample)
            for sample in data_samples]

    def _result(self, sample: dict) -> dict:
        """What is kept of a video."""
        raise NotImplementedError

    def dump_result(self, result: dict) -> dict:
        """What is kept of a video as JSON has it."""
        return result

    def load_result(self, content: dict) -> dict:
        """Turn what :meth:`dump_result` returned back."""
        return content


@METRICS.register_module()
class FrameIoUMetric(_PlainMetric):
    """Write the IoU of every frame of every expression: pseudo-labels, or the truth for a test.

    Samples have ``pred_masks`` and ``gt_rles``. ``tools/test.py --resume`` goes on with the videos
    that an interrupted run has not finished.

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

    def _result(self, sample: dict) -> dict:
        check_sample(sample, with_gt=True)
        check_path_names(sample)
        ious = {exp_id: [
            0.0 if self.absent == 'zero' and not gt.any() else round(region_similarity(gt, pred), 6)
            for _, pred, gt in iter_masks(sample, exp, with_gt=True)]
            for exp, exp_id in enumerate(sample['exp_ids'])}
        return dict(dataset=sample.get('dataset'), video_id=sample['video_id'],
                    frames=list(sample['frame_names']), expressions=ious)

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

    Samples have ``key_frame_ids`` and, where the selector has scores, ``pred_frame_scores``; with
    ``gt_scores`` there are figures.

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

    def _result(self, sample: dict) -> dict:
        if sample.get('key_frame_ids') is None:
            raise ValueError(f'expected key_frame_ids, which a key-frame selector gives, in '
                             f'video {sample.get("video_id")!r}, got only {sorted(sample)}')
        rows = {name: None if sample.get(key) is None else [_plain(row) for row in np.asarray(
            sample[key], np.float64)] for name, key in (('scores', 'pred_frame_scores'),
                                                        ('ious', 'gt_scores'))}
        return dict(
            dataset=sample.get('dataset'), video_id=sample['video_id'],
            frames=list(sample['frame_names']), exp_ids=list(sample['exp_ids']),
            kinds=list(sample.get('kinds') or [None] * len(sample['exp_ids'])),
            key_frame_ids=[int(k) for k in sample['key_frame_ids']], **rows)

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
        rows = [dict(kind=kind, key=key, **{
            name: video[name] and video[name][e] for name in ('scores', 'ious')})
            for video in videos.values()
            for e, (kind, key) in enumerate(zip(video['kinds'], video['key_frame_ids']))]
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
        write_json(self.out_dir / 'key_frames.json', dict(
            format=KeyFrameFile.FORMAT, dataset=dataset, key_frames=names))
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


def key_frame_figures(rows: Sequence[dict]) -> dict[str, float | int]:
    """Compare key frames and scores with the IoU of each frame.

    Args:
        rows: for each expression ``key``, the position of its key frame, ``ious`` (T), and
            ``scores`` (T), nan where a frame has none, or None for a selector without scores.

    Returns:
        - ``expressions`` and ``varying``, those whose IoU is not the same on all frames;
        - in percent, means over expressions: ``iou_key`` of the key frame, ``iou_first`` of the
          first frame, ``iou_mean`` over the frames, what a random choice gives, ``iou_best``;
        - ``spearman``, the rank correlation of scores and IoUs over all frames of all
          expressions, and ``spearman_within``, the mean of those over the frames of each varying
          expression (0 where the scores are equal, as their order then says nothing);
        - ``scored``, the share of frames with a score, in percent.

        The last two only where there are scores.
    """
    ious = [np.asarray(row['ious'], dtype=np.float64) for row in rows]
    varying = [iou.min() < iou.max() for iou in ious]
    figures = dict(
        expressions=len(rows), varying=sum(varying),
        iou_key=_percent([iou[row['key']] for row, iou in zip(rows, ious)]),
        iou_first=_percent([iou[0] for iou in ious]),
        iou_mean=_percent([iou.mean() for iou in ious]),
        iou_best=_percent([iou.max() for iou in ious]))
    if any(row['scores'] is None for row in rows):
        return figures
    scores = [np.asarray(row['scores'], dtype=np.float64) for row in rows]
    within = [_spearman(s, iou) for s, iou, varies in zip(scores, ious, varying) if varies]
    return dict(
        figures, spearman=_spearman(np.concatenate(scores), np.concatenate(ious)),
        spearman_within=float(np.mean(within)) if within else 0.0,
        scored=_percent([np.isfinite(np.concatenate(scores)).mean()]))


def _spearman(scores: np.ndarray, ious: np.ndarray) -> float:
    """Rank correlation over the frames that have a score; 0 where one side does not vary."""
    known = np.isfinite(scores)
    scores, ious = scores[known], ious[known]
    if len(scores) < 2 or np.ptp(scores) == 0 or np.ptp(ious) == 0:
        return 0.0
    from scipy.stats import spearmanr  # takes half a second, which others need not wait

    return float(spearmanr(scores, ious).statistic)


def _percent(values: Sequence[float]) -> float:
    return 100 * float(np.mean(values))


def write_scores(path: Path, dataset: str | None, videos: Mapping[str, dict]) -> None:
    """Write the layout of :class:`ScoreFile`.

    Args:
        path: the file to write.
        dataset: name of the data set.
        videos: ``frames`` and ``expressions`` of each video; a score of nan becomes null.

    Raises:
        OSError: the file cannot be written.
    """
    write_json(path, dict(format=ScoreFile.FORMAT, dataset=dataset, videos={
        video_id: dict(frames=list(video['frames']), expressions={
            exp_id: _plain(scores, 6) for exp_id, scores in video['expressions'].items()})
        for video_id, video in sorted(videos.items())}))


def write_official_scores(root: Path, videos: Mapping[str, dict]) -> None:
    """Write ``<root>/<video>/<exp>.json``; arguments as for :func:`write_scores`."""
    for video_id, video in videos.items():
        folder = root / video_id
        folder.mkdir(parents=True, exist_ok=True)
        for exp_id, scores in video['expressions'].items():
            (folder / f'{exp_id}.json').write_text(json.dumps(_plain(scores, 6)), encoding='utf-8')


def by_video(results: Sequence[dict], where: str) -> dict[str, dict]:
    """Bring the results of all processes into one order.

    Args:
        results: one entry per video, with ``video_id``; a repeated one counts once.
        where: what they are for, for the error.

    Returns:
        The entries by the video's id, sorted.

    Raises:
        ValueError: two videos have one id, or they are of several data sets; a file of scores or
            key frames could not tell them apart.
    """
    names = {video['dataset'] for video in results}
    if len(names) > 1:
        raise ValueError(f'{where}: expected videos of one data set, got those of '
                         f'{sorted(map(str, names))}; treat each by itself')
    videos: dict[str, dict] = {}
    for video in results:
        if videos.setdefault(video['video_id'], video) != video:
            raise ValueError(f'{where}: expected an id for each video, got two videos '
                             f'{video["video_id"]!r} that differ')
    return {key: videos[key] for key in sorted(videos)}


def write_official_key_frames(path: Path, names: Mapping[str, dict[str, str]]) -> None:
    """Write the official layout of key frames, ``{"<video>_<exp>": frame number}``.

    Raises:
        OSError: the file cannot be written.
        ValueError: a frame's name is no number, or two expressions would have one key.
    """
    content = {}
    for video_id in sorted(names):
        for exp_id, name in names[video_id].items():
            key = f'{video_id}_{exp_id}'
            if not name.isdecimal():
                raise ValueError(f'the official layout needs frames whose names are numbers, got '
                                 f'{name!r} in video {video_id!r}')
            if key in content:
                raise ValueError(f'the official layout has one key, {key!r}, for two expressions, '
                                 f'one of them {exp_id!r} of video {video_id!r}')
            content[key] = int(name)
    write_json(path, content)


def _plain(scores: Any, digits: int | None = None) -> list[float | None]:
    """As JSON holds them: null for nan."""
    return [None if s is None or np.isnan(s) else float(s) if digits is None
            else round(float(s), digits) for s in scores]
