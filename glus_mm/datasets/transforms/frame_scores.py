"""What a key-frame selector is to predict."""

import numpy as np
from mmcv.transforms import BaseTransform

from glus_mm.registry import TRANSFORMS
from glus_mm.utils.key_frames import open_scores


@TRANSFORMS.register_module()
class LoadFrameScores(BaseTransform):
    """Attach pseudo-labels: the IoU of the query frames of each chosen expression.

    In training it follows ``SampleContextQueryFrames``, which draws the frames; a data set of which
    only the first N videos are labelled takes ``indices=N``. When testing, all frames are query
    frames, and the scores are the truth for ``KeyFrameMetric``.

    Required keys: ``dataset``, ``video_id``, ``frame_names``, ``expressions``, ``query_frame_ids``.
    Added key: ``gt_scores``, float32 (E, Tq).

    Args:
        file: what ``FrameIoUMetric`` wrote, or a folder in the official layout,
            ``<video>/<exp>.json``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a video, an expression or a score is missing in it, or it is that of another
            data set; names file, video and expression.
    """

    def __init__(self, file: str) -> None:
        self.file = str(file)
        # Read on first use, so that a config can be built before its labels are made.
        self._scores = None

    def transform(self, results: dict) -> dict:
        """Attach; see the class."""
        if self._scores is None:
            self._scores = open_scores(self.file)
        rows = []
        for expression in results['expressions']:
            scores = self._scores.get(results['dataset'], results['video_id'],
                                      expression['exp_id'], results['frame_names'])
            row = scores[results['query_frame_ids']]
            if np.isnan(row).any():
                frame = results['query_frame_ids'][int(np.isnan(row).argmax())]
                raise ValueError(f'{self.file}: video {results["video_id"]!r}, expression '
                                 f'{expression["exp_id"]!r}: expected a score of frame '
                                 f'{results["frame_names"][frame]!r}, got none')
            rows.append(row)
        results['gt_scores'] = np.array(rows, dtype=np.float32)
        return results
