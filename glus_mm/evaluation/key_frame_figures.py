"""Figures about key frames."""

from collections.abc import Sequence

import numpy as np


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
