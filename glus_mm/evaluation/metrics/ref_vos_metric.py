"""J, F and J&F of referring video object segmentation."""

from collections.abc import Sequence
from typing import Any

from mmengine.dist import get_world_size
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger
from mmengine.structures import BaseDataElement

from glus_mm.evaluation.functional import boundary_accuracy, region_similarity
from glus_mm.evaluation.metrics.expression_result import ExpressionResult
from glus_mm.evaluation.metrics.sample_masks import (
    check_path_names,
    check_sample,
    count_frames_without_seg,
    iter_masks,
)
from glus_mm.evaluation.metrics.summary import format_table, summarise, write_json
from glus_mm.registry import METRICS
from glus_mm.utils.masks import write_mask_png
from glus_mm.utils.paths import ensure_writable_dir, ensure_writable_file


@METRICS.register_module()
class RefVOSMetric(BaseMetric):
    """Score predicted masks, and write them where asked to.

    The measures are those of the official MeViS script: J and F of every frame of the video, the
    mean over frames per expression, the plain mean over expressions; ``summarise`` lists the keys
    and says how expressions without a target count. The script silently drops an expression with
    a missing frame; here that is an error.

    A sample is one video with all its expressions. Its masks are decoded one frame at a time, and
    only figures are kept. The figures of all processes come together on one of them, where they
    are sorted before they are averaged: the number of processes does not change a digit.

    To keep the best checkpoint: ``save_best='J&F', rule='greater'`` of ``CheckpointHook``.

    Args:
        collect_device: 'cpu' gathers the figures through files below the working directory, 'gpu'
            through the process group, whatever its backend.
        prefix: what to put, with a '/', before each key; nothing if None.
        output_dir: folder for the masks, ``<video>/<exp>/<frame>.png``, mode L, 0 and 255.
        dump_file: JSON file for all figures, down to the frames; see ``write_json``.
        format_only: only write masks, without any ground truth; needs ``output_dir``.

    Raises:
        ValueError: the options do not fit together.
        OSError: an output cannot be written. This is found here, before any work.
    """

    default_prefix = None

    def __init__(self,
                 collect_device: str = 'cpu',
                 prefix: str | None = None,
                 output_dir: str | None = None,
                 dump_file: str | None = None,
                 format_only: bool = False) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        if collect_device not in ('cpu', 'gpu'):
            raise ValueError(f"expected collect_device 'cpu' or 'gpu', got {collect_device!r}")
        if format_only and output_dir is None:
            raise ValueError('expected output_dir with format_only=True, which does nothing but '
                             'write masks, got None')
        if format_only and dump_file is not None:
            raise ValueError('expected no dump_file with format_only=True, which computes no '
                             f'figures, got {dump_file!r}')
        self.format_only = format_only
        self.output_dir = self.dump_file = None
        if output_dir is not None:
            self.output_dir = ensure_writable_dir(output_dir)
        if dump_file is not None:
            self.dump_file = ensure_writable_file(dump_file)
        if collect_device == 'cpu' and get_world_size() > 1:
            # MMEngine's place for the exchange; found unwritable only after the work otherwise.
            ensure_writable_dir('.dist_test')

    def process(self, data_batch: Any, data_samples: Sequence[dict | BaseDataElement]) -> None:
        """Score the videos of a batch, write their masks.

        Args:
            data_batch: not used.
            data_samples: for each video a ``RefVOSDataSample`` with ``pred_masks`` and, unless
                ``format_only``, ``gt_rles``, or what its ``to_dict()`` returns.

        Raises:
            ValueError: masks are missing or of another size (names video, expression and frame),
                or an id cannot be the name of a folder.
            OSError: a mask cannot be written.
        """
        for sample in data_samples:
            if isinstance(sample, BaseDataElement):
                sample = sample.to_dict()
            check_sample(sample, with_gt=not self.format_only)
            if self.output_dir is not None:
                check_path_names(sample)
            self.results.append(self._process_video(sample))

    def compute_metrics(self, results: list[dict]) -> dict[str, float | int]:
        """Put together the videos of all processes.

        Args:
            results: one entry per video, in any order; repeated ones, with which samplers pad,
                count once.

        Returns:
            What ``summarise`` returns, and 'frames_without_seg' where the samples tell; nothing
            with ``format_only``.

        Raises:
            OSError: ``dump_file`` cannot be written.
        """
        logger = MMLogger.get_current_instance()
        by_key = {}
        for video in results:
            for row in _expression_results(video):
                by_key.setdefault(row.key, row)
        rows = [by_key[key] for key in sorted(by_key)]
        counts = [row.frames_without_seg for row in rows if row.frames_without_seg is not None]
        if self.output_dir is not None:
            logger.info('masks of %d expressions written to %s', len(rows), self.output_dir)
        if counts:
            logger.info('frames without [SEG]: %d', sum(counts))
        if self.format_only:
            return {}
        figures = summarise(rows)
        if counts:
            figures['frames_without_seg'] = sum(counts)
        logger.info('RefVOS figures in percent, n expressions:\n%s', format_table(figures))
        if self.dump_file is not None:
            write_json(self.dump_file, rows, figures)
            logger.info('figures written to %s', self.dump_file)
        return figures

    def _process_video(self, sample: dict) -> dict:
        """Figures of one video, in plain containers that are cheap to send."""
        num_expressions = len(sample['exp_ids'])
        result = {
            'dataset': sample.get('dataset') or '',
            'video_id': sample['video_id'],
            'exp_ids': list(sample['exp_ids']),
            'kinds': list(sample.get('kinds') or [None] * num_expressions),
            'has_target': [bool(ids) for ids in sample.get('object_ids') or [()] * num_expressions],
            'frames_without_seg': count_frames_without_seg(sample),
            'J': [],
            'F': [],
            'pred_any': [],
        }
        for exp, exp_id in enumerate(sample['exp_ids']):
            if self.output_dir is not None:
                folder = self.output_dir / sample['video_id'] / exp_id
                folder.mkdir(parents=True, exist_ok=True)
            region, boundary, pred_any = [], [], False
            for name, pred, gt in iter_masks(sample, exp, with_gt=not self.format_only):
                pred_any = pred_any or bool(pred.any())
                if gt is not None:
                    region.append(region_similarity(gt, pred))
                    boundary.append(boundary_accuracy(gt, pred))
                if self.output_dir is not None:
                    write_mask_png(folder / f'{name}.png', pred)
            result['J'].append(region)
            result['F'].append(boundary)
            result['pred_any'].append(pred_any)
        return result


def _expression_results(video: dict) -> list[ExpressionResult]:
    """Take one entry of the results apart."""
    columns = zip(video['exp_ids'], video['kinds'], video['has_target'], video['J'], video['F'],
                  video['pred_any'], video['frames_without_seg'])
    return [ExpressionResult(video['dataset'], video['video_id'], *column) for column in columns]
