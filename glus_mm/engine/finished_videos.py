"""What is known of the videos that a test or a list has finished, one file each."""

import glob
import hashlib
import json
import logging
import shutil
import time
import zlib
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from mmengine.dist import all_gather_object, broadcast_object_list, get_dist_info, is_main_process
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner

from glus_mm.datasets.samplers import BalancedVideoSampler
from glus_mm.engine.hooks.visualization_hook import RefVOSVisualizationHook
from glus_mm.engine.run_fingerprint import run_fingerprint, video_fingerprints
from glus_mm.registry import HOOKS
from glus_mm.structures import RefVOSDataSample
from glus_mm.utils.checkpoint_files import atomic_file


class FinishedVideos:
    """A folder with one JSON file for each finished video.

    A file appears whole or not at all, so that what a killed process leaves is either a finished
    video or nothing. Several processes may write at once, each its own videos.

    Args:
        folder: where the files are; made with the first one.
    """

    def __init__(self, folder: str | PathLike) -> None:
        self.folder = Path(folder)

    def add(self, dataset: str, video_id: str, fingerprint: str, results: list | dict) -> Path:
        """Record a finished video.

        Args:
            dataset: name of its data set.
            video_id: the video.
            fingerprint: of what the results depend on, see :func:`fingerprint`.
            results: what is to be known of it, as JSON.

        Raises:
            OSError: it cannot be written.
            ValueError: a number is not finite.
        """
        record = dict(dataset=dataset, video_id=video_id, fingerprint=fingerprint,
                      results=results)
        record['checksum'] = _checksum(record)
        text = json.dumps(record, allow_nan=False, separators=(',', ':'))
        # A name that any file system takes; the digest tells apart what looks alike in it.
        readable = ''.join(c if c.isascii() and c.isalnum() else '-' for c in video_id)[:60]
        digest = hashlib.sha256(f'{dataset}\0{video_id}'.encode()).hexdigest()[:12]
        path = self.folder / f'{readable}_{digest}.json'
        self.folder.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as part:
            part.write_text(text + '\n', encoding='utf-8')
        return path

    def read(self) -> dict[tuple[str, str], tuple[str, list | dict]]:
        """Read all records.

        Returns:
            ``(fingerprint, results)`` by data set and video. A file that is damaged is left out
            with a warning.
        """
        records = {}
        for path in sorted(self.folder.glob('*.json')):
            try:
                record = json.loads(path.read_text(encoding='utf-8'))
                _verify(record)
                records[record['dataset'], record['video_id']] = (
                    record['fingerprint'], record['results'])
            except (AttributeError, ValueError, KeyError, TypeError, RecursionError) as error:
                print_log(f'the record of a finished video is damaged, the video is tested again: '
                          f'{path} ({error})', 'current', logging.WARNING)
        return records

    def clear(self) -> None:
        """Forget all videos."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _checksum(record: dict) -> int:
    """Of a record as JSON, which comes back from a file as it was."""
    return zlib.crc32(json.dumps(record).encode())


def _verify(record: dict) -> None:
    if record.pop('checksum') != _checksum(record):
        raise ValueError('its checksum is another one')


@HOOKS.register_module()
class FinishedVideosHook(Hook):
    """Record every video that a test finishes, and leave those out that it has finished before.

    The records lie in ``<work_dir>/finished/<fingerprint>/``. The fingerprint covers model,
    weights and metrics (:func:`run_fingerprint`), so that another run's results are never taken
    for this one's; each record has that of its video (:func:`video_fingerprints`), which is tested
    again where it has changed. What a video's figures need is in its record, each number with all
    its digits: a run that was interrupted and resumed prints the figures of one that was not, at
    any number of processes in both parts.

    It needs ``BalancedVideoSampler``, and metrics that keep one entry for each video and can write
    it as JSON (``dump_result``, ``load_result``), as ``RefVOSMetric`` does. With others nothing is
    recorded.

    Args:
        resume: go on from the records; False removes those of an earlier run with this
            fingerprint.
    """

    # After the overlays of a video are drawn: a recorded video lacks nothing.
    priority = 'VERY_LOW'

    def __init__(self, resume: bool = False) -> None:
        self.resume = resume
        self._store: FinishedVideos | None = None
        self._fingerprints: dict[tuple[str, str], str] = {}
        self._start = self._busy = 0.0
        self._num_before = 0

    def before_test(self, runner: Runner) -> None:
        """Take over what was finished; the rest is shared out anew.

        Raises:
            ValueError: the run is to be resumed, but its sampler or a metric cannot be.
            OSError: the checkpoint or a record cannot be read.
        """
        self._start, self._busy = time.perf_counter(), time.process_time()
        sampler = runner.test_loop.dataloader.sampler
        metrics = runner.test_loop.evaluator.metrics
        reason = _why_not(sampler, metrics)
        self._store = None
        if reason is not None:
            if self.resume:
                raise ValueError(f'expected a test that can be resumed: {reason}')
            print_log(f'finished videos are not recorded: {reason}', 'current', logging.INFO)
            return
        dataset = runner.test_loop.dataloader.dataset
        found = ['', [], {}]
        if is_main_process():
            name = run_fingerprint(runner.cfg, runner._load_from)
            store = FinishedVideos(Path(runner.work_dir) / 'finished' / name)
            if not self.resume:
                store.clear()
            # Where masks and overlays of each video are written.
            folders = [getattr(metric, 'output_dir', None) for metric in metrics]
            folders += [hook.out_dir for hook in runner.hooks if isinstance(
                hook, RefVOSVisualizationHook) and hook.draw and hook.interval == 1]
            records = with_files([Path(folder) for folder in folders if folder is not None],
                                 store.read())
            found = [name, video_fingerprints(dataset), records]
        # Nobody writes before this: the main process may just have removed the folder.
        broadcast_object_list(found)
        self._store = FinishedVideos(Path(runner.work_dir) / 'finished' / found[0])
        self._take_over(*found[1:], dataset, sampler, metrics)

    def _take_over(self, fingerprints: Sequence[str],
                   records: dict[tuple[str, str], tuple[str, list]], dataset: Sequence,
                   sampler: BalancedVideoSampler, metrics: Sequence[BaseMetric]) -> None:
        """Give the records to the metrics, a share to each process, and skip their videos."""
        positions = {}
        for i in range(len(dataset)):
            info = dataset.get_data_info(i)
            positions[str(info.get('dataset')), info['video_id']] = i
        self._fingerprints = {key: fingerprints[i] for key, i in positions.items()}
        known = sorted(key for key, (mark, _) in records.items()
                       if self._fingerprints.get(key) == mark)
        sampler.skip([positions[key] for key in known])
        rank, world_size = get_dist_info()
        for key in known[rank::world_size]:
            for metric, result in zip(metrics, records[key][1], strict=True):
                metric.results.append(metric.load_result(result))
        self._num_before = len(known)
        if self.resume:
            print_log(f'{len(known)} of {len(positions)} videos were finished before: '
                      f'{self._store.folder}', 'current', logging.INFO)

    def after_test_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None,
                        outputs: Sequence[RefVOSDataSample] | None = None) -> None:
        """Record the videos of a batch.

        Args:
            outputs: (B) data samples; the last B entries of each metric are theirs.
        """
        if self._store is None:
            return
        metrics = runner.test_loop.evaluator.metrics
        for i, sample in enumerate(outputs):
            place, key = i - len(outputs), (str(sample.get('dataset')), sample.video_id)
            self._store.add(*key, self._fingerprints.get(key, ''),
                            [metric.dump_result(metric.results[place]) for metric in metrics])

    def after_test_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Log how long it took from the first video to the last figure, on all processes."""
        number = len(runner.test_loop.dataloader.dataset) - self._num_before
        seconds = time.perf_counter() - self._start
        busy = all_gather_object(time.process_time() - self._busy)
        print_log(f'tested {number} videos in {seconds:.2f} s, in which the CPUs worked '
                  f'{", ".join(f"{value:.2f}" for value in busy)} s for the processes', 'current',
                  logging.INFO)


def with_files(folders: Sequence[Path], records: dict[tuple[str, str], tuple[str, list]]
               ) -> dict[tuple[str, str], tuple[str, list]]:
    """The records of videos whose files have not been taken away since.

    Args:
        folders: where each video has a folder of its own, or one in each folder there.
        records: as :meth:`FinishedVideos.read` gives them.
    """
    kept = {key: record for key, record in records.items() if all(
        (folder / key[1]).is_dir() or any(folder.glob(f'*/{glob.escape(key[1])}'))
        for folder in folders)}
    if len(kept) < len(records):
        print_log(f'{len(records) - len(kept)} finished videos are tested again, as their masks or '
                  f'overlays are gone from {", ".join(map(str, folders))}', 'current',
                  logging.WARNING)
    return kept


def _why_not(sampler: object, metrics: Sequence[BaseMetric]) -> str | None:
    """Why a test cannot be recorded; None if it can."""
    if not isinstance(sampler, BalancedVideoSampler):
        return (f'test_dataloader.sampler is {type(sampler).__name__} and not '
                f'BalancedVideoSampler')
    for metric in metrics:
        if not callable(getattr(metric, 'dump_result', None)):
            return f'{type(metric).__name__} in test_evaluator keeps nothing that can be recorded'
    return None
