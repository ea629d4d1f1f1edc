"""Lists of videos and texts of one's own: what they hold, and as a data set."""

import json
import os
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from os import PathLike
from os.path import splitdrive
from pathlib import Path
from typing import Any

from glus_mm.datasets.base_ref_vos_dataset import BaseRefVOSDataset
from glus_mm.registry import DATASETS
from glus_mm.utils.json_file import unique_pairs
from glus_mm.video import IMAGE_SUFFIXES, VideoFileReader, is_url, open_reader, read_header

_KEYS = ('video', 'texts', 'key_frames', 'id')
_MAX_LISTED = 8


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
        lines = Path(path).expanduser().read_text(encoding='utf-8').split('\n')
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
        video = video if is_url(video) else str(Path(video).expanduser())
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


@DATASETS.register_module()
class VideoListDataset(BaseRefVOSDataset):
    """The videos of a list (:func:`read_requests`), for ``tools/test.py`` to write masks of.

    ``ann_file`` is the list. The number of a text is its expression's id, so that masks are
    ``<id>/<text number>/<frame>.png``. Each video is opened when the list is read, to count its
    frames: one that cannot be opened, or breaks off, stops the test, where
    ``tools/segment_many.py`` records it and goes on with the others. There is no ground truth:
    ``RefVOSMetric(format_only=True)``.

    For the arguments see :class:`BaseRefVOSDataset`; ``test_mode`` must be True.

    Raises:
        FileNotFoundError: the list or a video is missing.
        ValueError: a line, a video or a key frame cannot be used; names file and video.
    """

    METAINFO: dict = dict(dataset='video_list')
    ANN_FILE: str = 'videos.jsonl'
    DATA_PREFIX: dict = {}
    TEST_ONLY: str = 'a list of videos has no masks to train on'

    def load_data_list(self) -> list[dict]:
        """Read the list; as in the base class, and each video has its ``source``."""
        self.masks = self.open_masks({})
        return [self._open(request) for request in read_requests(self.ann_file)]

    def parse_target(self, exp_id: str, entry: dict, video: dict, where: str) -> dict:
        """No text has an object that is known; see the base class."""
        return dict(object_ids=(), anno_ids=(), kind=None)

    def _open(self, request: VideoRequest) -> dict:
        where = f'{self.ann_file}: video {request.id!r}'
        try:
            reader = open_reader(request.video)
        except (OSError, ValueError) as error:
            kind = FileNotFoundError if isinstance(error, FileNotFoundError) else ValueError
            raise kind(f'{where}: {error}') from error
        with closing(reader):
            if reader.breaks_off:
                raise ValueError(f'{where}: {reader.breaks_off}')
            names = tuple(reader.frame_names)
            paths = [request.video] if isinstance(reader, VideoFileReader) else [
                str(path) for path in reader.paths]
        late = [frame for frame in request.key_frames or () if frame >= len(names)]
        if late:
            raise ValueError(f"{where}, key 'key_frames': expected positions below {len(names)}, "
                             f'its frames, got {late[0]}')
        video = dict(dataset=self._metainfo['dataset'], video_id=request.id, frame_names=names,
                     img_paths=paths, source=request.video, ori_shape=None)
        if request.key_frames is not None:
            video['key_frames'] = list(request.key_frames)
        return dict(video, expressions=[
            self._parse_expression(str(number), {self.TEXT_KEY: text}, video)
            for number, text in enumerate(request.texts)])
