"""Writing scores per frame and key frames, in our layout and in the official one."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from glus_mm.evaluation.json_document import write_document
from glus_mm.utils.key_frames import KeyFrameFile, ScoreFile


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
    write_document(path, dict(format=ScoreFile.FORMAT, dataset=dataset, videos={
        video_id: dict(frames=list(video['frames']), expressions={
            exp_id: _plain(scores) for exp_id, scores in video['expressions'].items()})
        for video_id, video in sorted(videos.items())}))


def write_official_scores(root: Path, videos: Mapping[str, dict]) -> None:
    """Write ``<root>/<video>/<exp>.json``; arguments as for :func:`write_scores`."""
    for video_id, video in videos.items():
        folder = root / video_id
        folder.mkdir(parents=True, exist_ok=True)
        for exp_id, scores in video['expressions'].items():
            (folder / f'{exp_id}.json').write_text(json.dumps(_plain(scores)), encoding='utf-8')


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


def write_key_frames(path: Path, dataset: str | None, names: Mapping[str, dict[str, str]]) -> None:
    """Write our layout of key frames.

    Args:
        path: the file to write.
        dataset: name of the data set.
        names: name of the frame by video and expression.

    Raises:
        OSError: the file cannot be written.
    """
    write_document(path, dict(format=KeyFrameFile.FORMAT, dataset=dataset,
                              key_frames={video: dict(names[video]) for video in sorted(names)}))


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
    write_document(path, content)


def _plain(scores: Any) -> list[float | None]:
    """As JSON holds them: six digits, null for nan."""
    return [None if s is None or np.isnan(s) else round(float(s), 6) for s in scores]
