"""Segment a list of videos: shared out to processes, resumable, one result line for each."""

import json
import logging
import os
import shutil
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from os import PathLike
from os.path import splitdrive
from pathlib import Path
from typing import Any

from mmengine.dist import barrier, broadcast_object_list, get_dist_info, is_main_process
from mmengine.logging import print_log

from glus_mm.apis.glus_inferencer import GLUSInferencer
from glus_mm.apis.result_files import FORMATS, masks_place
from glus_mm.apis.segmentation import IncompleteVideoError
from glus_mm.engine.finished_videos import FinishedVideos
from glus_mm.engine.run_fingerprint import fingerprint
from glus_mm.utils.balance import balance
from glus_mm.utils.checked import checked
from glus_mm.utils.checkpoint_files import atomic_file
from glus_mm.utils.json_file import unique_pairs
from glus_mm.utils.paths import ensure_writable_dir
from glus_mm.video import IMAGE_SUFFIXES, read_header

__all__ = ['VideoListSegmenter', 'VideoRequest', 'holds_results', 'read_requests']

_KEYS = ('video', 'texts', 'key_frames', 'id')
_MAX_LISTED = 8
LINES, PARTS = 'results.jsonl', '.results'


@dataclass(frozen=True)
class VideoRequest:
    """One line of a list of videos.

    Attributes:
        id: names the results; unique in the list.
        video: path of a video file or of a folder of images.
        texts: (E) referring expressions.
        key_frames: (E) 0-based positions; None lets the selector choose.
    """

    id: str
    video: str
    texts: tuple[str, ...]
    key_frames: tuple[int, ...] | None = None

    def state(self) -> list:
        """What the result depends on, for its :func:`fingerprint`."""
        return [*asdict(self).values(), self._images()]

    def estimate(self) -> int:
        """Frames x expressions, from a video's header or the names in a folder; at least 1."""
        frames = len(self._images())
        if os.path.isfile(self.video):
            with suppress(ValueError):
                frames = read_header(self.video).num_frames
        return max(frames, 1) * len(self.texts)

    def _images(self) -> list[str]:
        """The frames of a folder; none of a file."""
        path = Path(self.video)
        return sorted(str(file) for file in (path.iterdir() if path.is_dir() else ())
                      if file.suffix.lower() in IMAGE_SUFFIXES)


def read_requests(path: str | PathLike) -> list[VideoRequest]:
    """Read a list of videos.

    Args:
        path: a JSONL file; each line is ``{"video": path, "texts": [...]}`` and may have
            ``"key_frames"``, one for each text, and ``"id"``, by default the name of the file
            without its suffix or of the folder. Relative paths start from the working folder.
            Empty lines are skipped. Whether the videos can be used is not looked at.

    Returns:
        The requests, at least one.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: lines are not as they should be, each is named; or there is none.
    """
    expected = 'expected a list of videos (JSONL)'
    try:
        lines = Path(path).expanduser().read_text(encoding='utf-8').splitlines()
    except (FileNotFoundError, IsADirectoryError) as error:
        raise FileNotFoundError(f'{expected}, got no file: {path}') from error
    except UnicodeDecodeError as error:
        raise ValueError(f'{expected}, got no UTF-8 text: {path}') from error
    requests, problems, first = [], [], {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            request = _parse(line)
            if request.id in first:
                raise ValueError(f'expected ids that differ, got {request.id!r} as in line '
                                 f'{first[request.id]}; give each an "id"')
            first[request.id] = number
            requests.append(request)
        except (TypeError, ValueError) as error:
            problems.append(f'line {number}: {error}')
    if problems:
        more = len(problems) - _MAX_LISTED
        lines = '1 line' if len(problems) == 1 else f'{len(problems)} lines'
        raise ValueError('\n  '.join([f'{lines} of {path} cannot be used:',
                                      *problems[:_MAX_LISTED], *[f'and {more} more'] * (more > 0)]))
    if not requests:
        raise ValueError(f'expected at least one video in {path}, got none')
    return requests


def _parse(line: str) -> VideoRequest:
    try:
        entry = json.loads(line, object_pairs_hook=unique_pairs)
        # A lone half of a pair cannot be written again.
        json.dumps(entry, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise ValueError(f'expected JSON, got {line[:60]!r} ({error.msg})') from error
    except RecursionError as error:
        raise ValueError(f'expected JSON, got {line[:60]!r}, which is nested too deeply') from error
    except UnicodeEncodeError as error:
        raise ValueError(f'expected valid Unicode, got {line[:60]!r} ({error.reason})') from error
    if not isinstance(entry, dict):
        raise TypeError(f'expected an object {{"video": ..., "texts": [...]}}, got {line[:60]!r}')
    unknown = sorted(set(entry) - set(_KEYS))
    if unknown:
        raise ValueError(f'expected keys out of {list(_KEYS)}, got {unknown}')
    video, texts = entry.get('video'), entry.get('texts')
    if not isinstance(video, str) or not video:
        raise TypeError(f'expected "video" to be a path, got {video!r}')
    texts = [texts] if isinstance(texts, str) else texts
    if not isinstance(texts, list) or not texts or not all(isinstance(t, str) for t in texts):
        raise TypeError(f'expected "texts" to be a list of strings, got {texts!r:.80}')
    try:
        video = str(Path(video).expanduser())
        name = entry.get('id', _name(video))
    except OSError as error:
        raise ValueError(f'expected "video" to be a path, got {video[:60]!r} of {len(video)} '
                         f'characters ({error.strerror})') from error
    _check_id(name)
    return VideoRequest(name, video, tuple(texts),
                        _check_key_frames(entry.get('key_frames'), texts))


def _name(video: str) -> str:
    path = Path(video)
    return path.name if path.is_dir() or not path.suffix else path.stem


def _check_id(name: Any) -> None:
    if not isinstance(name, str) or name.strip('. ') == '' or splitdrive(name)[0] or any(
            char in name for char in '/\\\0'):
        raise ValueError(f'expected an "id" that can be the name of a folder, got {name!r}')


def _check_key_frames(key_frames: Any, texts: list[str]) -> tuple[int, ...] | None:
    if key_frames is None:
        return None
    if not isinstance(key_frames, list) or len(key_frames) != len(texts) or not all(
            type(k) is int and k >= 0 for k in key_frames):
        raise ValueError(f'expected "key_frames" to be a list of {len(texts)} positions of at '
                         f'least 0, one for each text, got {key_frames!r:.80}')
    return tuple(key_frames)


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
        return self._merge([request.id for request in requests])

    def _merge(self, ids: Sequence[str]) -> dict[str, dict]:
        """Write ``results.jsonl`` in the order of the list, once all processes have ended."""
        found = self._store.read()
        records = {name: found['', name][1] for name in ids if ('', name) in found}
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
            if not is_done or mark != self._digest(request):
                left.append(i)
                changed += is_done
        if changed:
            print_log(f'{changed} results are of another model, video or request, and are made '
                      'anew', 'current', logging.WARNING)
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
            if isinstance(out, IncompleteVideoError):
                record.update(status='error', error=str(out), frame=out.frame_idx,
                              masks=self._place(request))
            elif isinstance(out, Exception):
                # There is no telling what a file can do to a decoder; all of it goes to the log.
                record.update(status='error', error=f'{type(out).__name__}: {out}')
                told = ''.join(traceback.format_exception(out))
                print_log(f'{request.id}: {told}', 'current', logging.ERROR)
            else:
                record.update(frames=len(out['frame_names']), key_frames=out['key_frames'],
                              masks=self._place(request), status='done',
                              frames_without_seg=(~out['is_seg']).sum(1).tolist())
            yield digests[i], dict(record, seconds=round(time.time() - starts[i], 3))

    def _place(self, request: VideoRequest) -> str:
        """Where in the folder the masks of a video are."""
        return f'masks/{masks_place(request.id, self.format)}'
