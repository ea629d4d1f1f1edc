"""The protocols of referring video object segmentation, as a metric of MMEngine."""

from array import array
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from mmengine.dist import get_world_size
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger
from mmengine.structures import BaseDataElement

from glus_mm.evaluation.davis_annotations import open_label_maps
from glus_mm.evaluation.metrics.sample_scorers import (
    ExpressionSampleScorer,
    SequenceSampleScorer,
    check_path_names,
    check_sample,
)
from glus_mm.evaluation.protocols import (
    PROTOCOLS,
    ObjectProtocol,
    ReVOSProtocol,
    Track,
)
from glus_mm.evaluation.protocols.expression_protocol import PRED_VALUES
from glus_mm.evaluation.submissions import SUBMISSION_FORMATS, write_submission
from glus_mm.registry import METRICS
from glus_mm.utils.checked import checked
from glus_mm.utils.json_file import write_json
from glus_mm.utils.paths import ensure_writable_dir, ensure_writable_file

PACKED = ('values', 'frames')
"""Fields of a track that hold a figure for each frame."""


@METRICS.register_module()
class RefVOSMetric(BaseMetric):
    """Score predicted masks by a protocol of the field, and write them where asked to.

    The protocols live in :mod:`glus_mm.evaluation.protocols` and are the same ones that
    ``tools/analysis_tools/eval_masks.py`` applies to files.

    A sample is one video with all its expressions. Its masks are decoded one frame at a time, and
    only figures are kept, 8 bytes for each of a frame's (J and F in most protocols). The figures
    of all processes come together on one of them, where they are sorted before they are averaged:
    the number of processes does not change a digit.

    The protocols for objects (``'ref-davis'``, ``'davis-unsup'``, ``'davis-semi'``) need videos and
    expressions of Ref-DAVIS17, ``'mose-v2'`` those of :class:`MOSEDataset`. The true label maps,
    with their void pixels, are read from ``ann_root``; ``'davis-unsup'`` and ``'davis-semi'`` score
    the expressions of one annotation, ``annotator``. ReVOS's A
    and R come in both conventions, for PNGs of 255 (``A_255``) and of 1 (``A_1``); R relates to all
    objects that the expressions of the video have.

    To keep the best checkpoint: ``save_best='J&F', rule='greater'`` of ``CheckpointHook``.

    Args:
        collect_device: 'cpu' gathers the figures through files below the working directory, 'gpu'
            through the process group, whatever its backend.
        prefix: what to put, with a '/', before each key; nothing if None.
        output_dir: folder for the masks: ``<video>/<exp>/<frame>.png``, mode L, 0 and 255. With a
            protocol for objects palette PNGs, ``<sequence>/<frame>.png``, below ``anno_0`` to
            ``anno_3`` for ``'ref-davis'``.
        dump_file: JSON file for all figures, down to the frames, as fractions of 1; the same
            document as that of ``eval_masks.py``.
        format_only: only write masks, without any ground truth; needs ``output_dir``.
        protocol: one of :data:`glus_mm.evaluation.protocols.PROTOCOLS`.
        ann_root: folder with DAVIS 2017, or MOSE, for the protocols for objects.
        annotator: 0..3, for ``'davis-unsup'`` and ``'davis-semi'``.
        zip: ``'mevis'``, ``'mevis-v2'`` or ``'ref-youtube-vos'``: pack the masks for that server,
            too, as ``<output_dir>/<zip>.zip``.

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
                 format_only: bool = False,
                 protocol: str = 'mevis',
                 ann_root: str | None = None,
                 annotator: int = 0,
                 zip: str | None = None) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        checked(('cpu', 'gpu'), collect_device=collect_device)
        checked(PROTOCOLS, protocol=protocol)
        if format_only and output_dir is None:
            raise ValueError('expected output_dir with format_only=True, which does nothing but '
                             'write masks, got None')
        if format_only and dump_file is not None:
            raise ValueError('expected no dump_file with format_only=True, which computes no '
                             f'figures, got {dump_file!r}')
        self._check_zip(zip, output_dir, protocol)
        self.format_only = format_only
        self.zip = zip
        self.output_dir = self.dump_file = None
        if output_dir is not None:
            self.output_dir = ensure_writable_dir(output_dir)
        if dump_file is not None:
            self.dump_file = ensure_writable_file(dump_file)
        if collect_device == 'cpu' and get_world_size() > 1:
            # MMEngine's place for the exchange; found unwritable only after the work otherwise.
            ensure_writable_dir('.dist_test')
        kind = PROTOCOLS[protocol]
        self.protocol = kind(PRED_VALUES) if kind is ReVOSProtocol else kind()
        self.scorer = self._build_scorer(ann_root, annotator)

    @staticmethod
    def _check_zip(zip: str | None, output_dir: str | None, protocol: str) -> None:
        if zip is None:
            return
        checked([name for name, layout in SUBMISSION_FORMATS.items() if not layout.labels],
                zip=zip)
        if output_dir is None:
            raise ValueError(f'expected output_dir with zip={zip!r}, which packs the masks that '
                             'are written, got None')
        if issubclass(PROTOCOLS[protocol], ObjectProtocol):
            raise ValueError(f'expected a protocol for expressions with zip={zip!r}, got '
                             f'{protocol!r}')

    def _build_scorer(self, ann_root: str | None, annotator: int
                      ) -> ExpressionSampleScorer | SequenceSampleScorer:
        if not isinstance(self.protocol, ObjectProtocol):
            return ExpressionSampleScorer(self.protocol, self.output_dir, not self.format_only)
        if ann_root is None and not self.format_only:
            raise ValueError(f'expected ann_root, the folder with DAVIS 2017 or MOSE, with '
                             f'protocol={self.protocol.name!r}, got None')
        annotation = None if self.format_only else open_label_maps(self.protocol, ann_root)
        return SequenceSampleScorer(self.protocol, annotation, annotator, self.output_dir)

    def process(self, data_batch: Any, data_samples: Sequence[dict | BaseDataElement]) -> None:
        """Score the videos of a batch, write their masks.

        Args:
            data_samples: for each video a ``RefVOSDataSample`` with ``pred_masks`` and, unless
                ``format_only``, ``gt_rles``, or what its ``to_dict()`` returns.

        Raises:
            ValueError: masks are missing or of another size (names video, expression and frame),
                or an id cannot be the name of a folder.
            OSError: a mask cannot be written.
        """
        needs_gt = not self.format_only and not isinstance(self.protocol, ObjectProtocol)
        for sample in data_samples:
            if isinstance(sample, BaseDataElement):
                sample = sample.to_dict()
            check_sample(sample, with_gt=needs_gt)
            if self.output_dir is not None:
                check_path_names(sample)
            self.results.append({
                'tracks': [_compact(asdict(track)) for track in self.scorer.score(sample)],
                'video_id': sample['video_id'],
                'exp_ids': list(sample['exp_ids']),
                'frame_names': list(sample['frame_names']) if self.zip else [],
            })

    def dump_result(self, result: dict) -> dict:
        """Make what is kept of a video ready for JSON, with every digit.

        Returns:
            The same of plain lists; :meth:`load_result` turns it back.
        """
        return dict(result, tracks=[
            dict(track, **{field: {name: list(values) for name, values in track[field].items()}
                           for field in PACKED})
            for track in result['tracks']])

    def load_result(self, content: dict) -> dict:
        """Turn what :meth:`dump_result` returned back, after JSON too."""
        return dict(content, tracks=[_compact(track) for track in content['tracks']])

    def compute_metrics(self, results: list[dict]) -> dict[str, float | int]:
        """Put together the videos of all processes.

        Args:
            results: one entry per video, in any order; repeated ones, with which samplers pad,
                count once.

        Returns:
            The figures that the protocol's ``summarise`` returns, in percent, those of parts as
            ``<part>/<figure>``; counts as they are, and 'frames_without_seg' where the samples
            tell. Nothing with ``format_only``.

        Raises:
            OSError: ``dump_file`` or the zip cannot be written.
        """
        logger = MMLogger.get_current_instance()
        if self.output_dir is not None:
            videos = {video['video_id']: video for video in results}
            count = sum(len(video['exp_ids']) for video in videos.values())
            logger.info('masks of %d expressions written to %s', count, self.output_dir)
            if self.zip is not None:
                path = write_submission(self.output_dir, self.zip, [
                    (video_id, videos[video_id]['exp_ids'], videos[video_id]['frame_names'])
                    for video_id in sorted(videos)])
                logger.info('packed for the %s server: %s', self.zip, path)
        if self.format_only:
            return {}
        by_key = {}
        for video in map(self.dump_result, results):
            for entry in video['tracks']:
                track = Track(**entry)
                by_key.setdefault(track.key, track)
        tracks = [by_key[key] for key in sorted(by_key)]
        summary = self.protocol.summarise(tracks)
        counts = [track.notes['frames_without_seg'] for track in tracks
                  if track.notes.get('frames_without_seg') is not None]
        if counts:
            summary.dataset['frames_without_seg'] = sum(counts)
            logger.info('frames without [SEG]: %d', sum(counts))
        logger.info('%s figures in percent, n %ss:\n%s', self.protocol.name, self.protocol.unit,
                    self.protocol.table(summary))
        if self.dump_file is not None:
            write_json(self.dump_file, self.protocol.document(tracks, summary))
            logger.info('figures written to %s', self.dump_file)
        return summary.in_percent()


def _compact(track: dict) -> dict:
    """A track with its figures packed: a list would take four times the memory."""
    return dict(track, **{field: {name: array('d', values)
                                  for name, values in track.get(field, {}).items()}
                          for field in PACKED})
