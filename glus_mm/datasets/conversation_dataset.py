"""Conversations about images and videos, without masks."""

import os
import os.path as osp
import re
from typing import Any

from mmengine.logging import print_log

from glus_mm.datasets.annotation_fields import check_name, get_field, parse_kind
from glus_mm.datasets.base_ref_vos_dataset import BaseRefVOSDataset
from glus_mm.registry import DATASETS
from glus_mm.text.prompt import IMAGE_TOKEN, VIDEO_TOKEN, check_message
from glus_mm.utils.json_file import read_json_list

ROLES = ('human', 'gpt')
IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png')
_FIELDS = {IMAGE_TOKEN: ('image', 'img'), VIDEO_TOKEN: ('video', 'video')}


@DATASETS.register_module()
class ConversationDataset(BaseRefVOSDataset):
    """Talk about images and videos, in the JSON of LLaVA and ShareGPT; for training.

    ::

        [{"id": "0001", "image": "coco/0001.jpg", "conversations": [
            {"from": "human", "value": "<image>\\nWhat is it?"}, {"from": "gpt", "value": "A cat."},
            {"from": "human", "value": "Is it asleep?"}, {"from": "gpt", "value": "No."}]},
         {"id": "0002", "video": "clips/0002", "conversations": [
            {"from": "human", "value": "<video>\\nWhat happens?"}, ...]}]

    One item is one entry. Person and model take turns. Each ``<image>`` in a question stands for
    the next of ``image`` (a file, or a list of files), each ``<video>`` for the next of ``video``
    (a folder with a video's frames as JPEG or PNG files, or a list of folders; the names give the
    order). Of other keys only the ``kind`` of a question is read. Entries that show nothing are
    left out, which is logged.

    Items have no masks: :class:`BuildTalk` is their first transform. They are mixed with data for
    referring segmentation by :class:`MixedRefVOSDataset`.

    For the arguments see :class:`BaseRefVOSDataset`: ``ann_file`` is the JSON file, and
    ``data_prefix`` has the folders that ``'img'`` and ``'video'`` of the entries lie in.
    ``exclude_ann_file`` and ``min_frames`` are of no use here.

    Raises:
        FileNotFoundError: the file, a folder of frames or, when an item is read, an image is
            missing.
        ValueError: an entry is not as it should be; the message names file and entry.
    """

    METAINFO: dict = dict(dataset='conversations')
    ANN_FILE: str = 'conversations.json'
    DATA_PREFIX: dict = dict(img='', video='')

    def load_data_list(self) -> list[dict]:
        """Parse the file.

        Returns:
            One plain dict per entry, as ``BaseRefVOSDataset`` has one per video: ``video_id`` is
            the entry's id; ``img_paths`` and ``frame_names`` are all images and all frames, in
            the order in which they are shown, ``media`` says what they belong to: triples of
            ``'<image>'`` or ``'<video>'``, its first position and the number of its images.
            ``expressions`` are the pairs of question (``exp``) and ``answer``.
        """
        entries = read_json_list(self.ann_file)
        frames: dict[str, list[str]] = {}
        items = [self._parse_entry(i, entry, frames) for i, entry in enumerate(entries)]
        shown = [item for item in items if item['media']]
        if len(shown) < len(items):
            print_log(f'{self.ann_file}: left out {len(items) - len(shown)} of {len(items)} '
                      f'entries that show neither an image nor a video', logger='current')
        return shown

    def _parse_entry(self, index: int, entry: Any, frames: dict[str, list[str]]) -> dict:
        where = f'{self.ann_file}: entry {index}'
        messages = get_field(entry, 'conversations', list, where)
        if 'id' in entry:
            if type(entry['id']) not in (int, str):
                raise ValueError(f"{where}, key 'id': expected text or an integer, got "
                                 f'{entry["id"]!r:.80}')
            where += f' (id {entry["id"]!r:.80})'
        pairs = _parse_messages(messages, where)
        marks = re.findall(f'{IMAGE_TOKEN}|{VIDEO_TOKEN}', ''.join(pair['exp'] for pair in pairs))
        names = {mark: _parse_media(entry, mark, marks.count(mark), where) for mark in _FIELDS}
        paths: list[str] = []
        media = []
        for mark in marks:
            path = osp.join(self.data_prefix[_FIELDS[mark][1]], names[mark].pop(0))
            files = [path]
            if mark == VIDEO_TOKEN:
                files = frames[path] if path in frames else _frames_of(path, where)
                frames[path] = files
            media.append((mark, len(paths), len(files)))
            paths += files
        return dict(
            dataset=self._metainfo['dataset'],
            video_id=str(entry.get('id', index)),
            entry=where,
            frame_names=tuple(osp.splitext(osp.basename(path))[0] for path in paths),
            img_paths=paths,
            media=media,
            ori_shape=None,
            expressions=pairs)


def _parse_messages(messages: list, where: str) -> list[dict]:
    """Questions and answers, in turn."""
    if not messages or len(messages) % 2:
        raise ValueError(f"{where}, key 'conversations': expected an answer to each question, got "
                         f'{len(messages)} messages')
    texts = []
    for i, message in enumerate(messages):
        place = f"{where}, key 'conversations', message {i}"
        role, text = (get_field(message, key, str, place) for key in ('from', 'value'))
        if role != ROLES[i % 2]:
            raise ValueError(f"{place}, key 'from': expected {ROLES[i % 2]!r}, as {ROLES[0]!r} and "
                             f'{ROLES[1]!r} take turns, got {role!r:.80}')
        try:
            check_message(text, ('question', 'answer')[i % 2])
        except ValueError as error:
            raise ValueError(f"{place}, key 'value': {error}") from error
        texts.append(text)
    return [dict(exp_id=str(i), exp=question, answer=answer, object_ids=(), anno_ids=(),
                 kind=parse_kind(messages[2 * i], f"{where}, key 'conversations', message {2 * i}"))
            for i, (question, answer) in enumerate(zip(texts[::2], texts[1::2]))]


def _parse_media(entry: dict, mark: str, number: int, where: str) -> list[str]:
    """Names in ``image`` or ``video``, one for each mark in the questions."""
    key, _ = _FIELDS[mark]
    value = entry.get(key, [])
    names = value if isinstance(value, list) else [value]
    for name in names:
        check_name(name, f'{where}, key {key!r}', nested=True)
    if len(names) != number:
        raise ValueError(f'{where}, key {key!r}: expected one for each of {number} {mark} in the '
                         f'questions, got {len(names)}')
    return list(names)


def _frames_of(folder: str, where: str) -> list[str]:
    """Paths of a video's frames, ordered by their names."""
    try:
        names = sorted(name for name in os.listdir(folder)
                       if name.lower().endswith(IMAGE_SUFFIXES))
    except OSError as error:
        raise FileNotFoundError(f"{where}, key 'video': expected a folder with the frames of a "
                                f'video at {folder}, got {error}') from error
    if not names:
        raise ValueError(f"{where}, key 'video': expected frames ({', '.join(IMAGE_SUFFIXES)}) in "
                         f'the folder {folder}, got none')
    return [osp.join(folder, name) for name in names]
