"""Segment a list of videos: shared out to processes, resumable, one result line for each."""

import json
import logging
import shutil
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from mmengine.dist import barrier, broadcast_object_list, get_dist_info, is_main_process
from mmengine.logging import print_log

from glus_mm.apis.glus_inferencer import GLUSInferencer
from glus_mm.apis.result_files import FORMATS, masks_path
from glus_mm.apis.segmentation import IncompleteVideoError
from glus_mm.datasets.video_list import VideoRequest, read_requests
from glus_mm.engine.finished_videos import FinishedVideos
from glus_mm.engine.run_fingerprint import fingerprint
from glus_mm.utils.balance import balance
from glus_mm.utils.checked import checked
from glus_mm.utils.checkpoint_files import atomic_file
from glus_mm.utils.paths import ensure_writable_dir

__all__ = ['VideoListSegmenter', 'VideoRequest', 'holds_results', 'read_requests']

LINES, PARTS = 'results.jsonl', '.results'


def holds_results(out_dir: str | PathLike) -> bool:
    """Whether a folder has results of an earlier run, also of one that was interrupted."""
    return Path(out_dir, LINES).exists() or bool(FinishedVideos(Path(out_dir) / PARTS).read())


class VideoListSegmenter:
    """Segment a list of videos into a folder, and write a result line for each.

    Videos go through the model as many at once as ``model.test_cfg.max_tracks`` has room for.
    Masks are ``masks/<id>/<text number>/<frame>.png`` (mode L, 0 and 255) or in a file of another
    format, beside ``masks/<id>/results.json``. A result line has ``id``, ``video``,
    ``texts``, ``status`` (``'done'`` or ``'error'``), ``seconds``, and

    - if done ``frames``, ``key_frames``, ``masks`` (the path in the folder) and
      ``frames_without_seg``, a number for each text;
    - else ``error``, and for a video that breaks off also ``frame``, the first frame that cannot
      be used, and ``masks``, where those before it are.

    Each result is a file in ``.results/`` as soon as it is there (:class:`FinishedVideos`), which a
    resumed run goes by; at the end the main process puts them together in ``results.jsonl``.

    Args:
        inferencer: segments a video.
        out_dir: folder for masks and results.
        format: ``'png'``, ``'rle'``, ``'coco'`` or ``'ytvis'``, see :class:`GLUSInferencer`.
        fingerprint: what else the masks depend on, such as config and weights: results of
            another one are made anew.

    Raises:
        OSError: the folder cannot be written.
        ValueError: unknown format.
    """

    def __init__(self, inferencer: GLUSInferencer, out_dir: str | PathLike, format: str = 'png',
                 fingerprint: str = '') -> None:
        checked(FORMATS, format=format)
        self.inferencer = inferencer
        self.out_dir = ensure_writable_dir(out_dir)
        self.format = format
        self.fingerprint = fingerprint
        self.path = self.out_dir / LINES
        self._store = FinishedVideos(self.out_dir / PARTS)

    def run(self, requests: Sequence[VideoRequest], resume: bool = False,
            progress: Callable[[dict], None] | None = None) -> dict[str, dict]:
        """Segment this process's share; all processes call it with the same list.

        Args:
            requests: the videos.
            resume: keep results of an earlier run in this folder that went well and ask for the
                same; else all are removed first.
            progress: called with each result of this process.

        Returns:
            All results by id, on the main process once all have finished; elsewhere none.
        """
        rank, world_size = get_dist_info()
        plan = [0, []]
        if is_main_process():
            if not resume:
                self.path.unlink(missing_ok=True)
                self._store.clear()
            left = self._unfinished(requests)
            costs = [requests[i].estimate() for i in left]
            plan = [len(left), [[left[i] for i in part] for part in balance(costs, world_size)]]
        broadcast_object_list(plan)
        if resume:
            print_log(f'{len(requests) - plan[0]} of {len(requests)} videos were finished before',
                      'current')
        for mark, record in self._segment([requests[i] for i in plan[1][rank]]):
            self._store.add('', record['id'], mark, record)
            if progress is not None:
                progress(record)
        barrier()
        if not is_main_process():
            return {}
        found = self._store.read()
        records = {request.id: found['', request.id][1] for request in requests
                   if ('', request.id) in found}
        with atomic_file(self.path) as part:
            part.write_text(''.join(json.dumps(record, ensure_ascii=False) + '\n'
                                    for record in records.values()), encoding='utf-8')
        return records

    def _unfinished(self, requests: Sequence[VideoRequest]) -> list[int]:
        """Positions of the videos without a result that is done and still holds."""
        found, left, changed = self._store.read(), [], 0
        for i, request in enumerate(requests):
            mark, record = found.get(('', request.id), ('', {}))
            is_done = record.get('status') == 'done'
            if not is_done or mark != self._digest(request) or \
                    not (self.out_dir / record['masks']).exists():
                left.append(i)
                changed += is_done
        if changed:
            print_log(f'{changed} results are of another model, video or request, or without '
                      'their masks, and are made anew', 'current', logging.WARNING)
        return left

    def _digest(self, request: VideoRequest) -> str:
        return fingerprint([self.fingerprint, self.format, request.state()])

    def _segment(self, requests: Sequence[VideoRequest]) -> Iterator[tuple[str, dict[str, Any]]]:
        """Fingerprints and result lines as videos end; what goes wrong with one is its result."""
        folder, starts, digests = self.out_dir / 'masks', {}, {}

        def calls() -> Iterator[dict[str, Any]]:
            for i, request in enumerate(requests):
                starts[i], digests[i] = time.time(), self._digest(request)
                # Masks of an earlier run would lie among the new ones.
                shutil.rmtree(folder / request.id, ignore_errors=True)
                (folder / f'{request.id}.jsonl').unlink(missing_ok=True)
                yield dict(video=request.video, texts=request.texts, out_dir=folder,
                           key_frames=request.key_frames, name=request.id, format=self.format)

        for i, out in self.inferencer.many(calls()):
            request = requests[i]
            record = dict(id=request.id, video=request.video, texts=list(request.texts))
            place = f'masks/{masks_path(request.id, self.format)}'
            if isinstance(out, IncompleteVideoError):
                record.update(status='error', error=str(out), frame=out.frame_idx,
                              masks=place)
            elif isinstance(out, Exception):
                # There is no telling what a file can do to a decoder; all of it goes to the log.
                record.update(status='error', error=f'{type(out).__name__}: {out}')
                told = ''.join(traceback.format_exception(out))
                print_log(f'{request.id}: {told}', 'current', logging.ERROR)
            else:
                record.update(frames=len(out['frame_names']), key_frames=out['key_frames'],
                              masks=place, status='done',
                              frames_without_seg=(~out['is_seg']).sum(1).tolist())
            yield digests[i], dict(record, seconds=round(time.time() - starts[i], 3))
