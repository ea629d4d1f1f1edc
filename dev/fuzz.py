"""Damage whatever people hand over, and look at what becomes of it.

    python dev/fuzz.py --cases 1000 [--seed 0] [--kind annotations frames ...] [--show]

Every case is a copy of sound input with one corruption, read by the code that users call, in a
process of its own with a time limit. What comes out is one of:

- refusal: a ``ValueError``, ``TypeError``, ``KeyError`` or ``OSError`` whose first line says where;
- harmless: it is accepted, with the result of the sound input, or with another one for a reason
  that the case states (a smaller annotation is an annotation too);
- raw: any other exception, a message that does not say where, or the end of the process;
- silent: it is accepted with another result;
- hang: no end within the time limit.

The last three are faults; the exit status is 1 if there are any.
"""

import argparse
import hashlib
import json
import os
import pickle
import random
import re
import select
import shutil
import signal
import string
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import torch
from accelerate import init_empty_weights
from mmengine import Config
from mmengine.registry import DefaultScope
from PIL import Image
from torch import nn

from glus_mm.apis.mask_evaluation.annotated_expressions import open_expressions
from glus_mm.apis.mask_evaluation.compare_masks import MaskComparison, read_figures
from glus_mm.apis.refinement_session import RefinementSession
from glus_mm.datasets import (
    COCOClassDataset,
    ConversationDataset,
    GroundMoReDataset,
    LoadRefVOSFrames,
    LoadRefVOSGroundTruth,
    LoadRefVOSMasks,
    LongRVOSDataset,
    MeViSDataset,
    MOSEDataset,
    OpenFrameReader,
    ReasonSegDataset,
    RefCOCODataset,
    RefSAVDataset,
    SampleContextQueryFrames,
)
from glus_mm.datasets.mask_sources import BinaryMaskStore
from glus_mm.datasets.video_list import read_requests
from glus_mm.engine.finished_videos import FinishedVideos
from glus_mm.evaluation.davis_annotations import MOSEAnnotations
from glus_mm.models.segmentors.hub_mixin import HubMixin
from glus_mm.registry import MODELS
from glus_mm.utils.base_weights import complete_state
from glus_mm.utils.checkpoint import check_finite, check_fit
from glus_mm.utils.checkpoint_files import read_checkpoint
from glus_mm.utils.command_line import read_config
from glus_mm.utils.key_frames import KeyFrameFile
from glus_mm.utils.masks import decode_rle, encode_mask, write_label_png
from glus_mm.video import open_reader

ROOT = Path(__file__).resolve().parents[1]
LIMIT = 60.0  # seconds; a sound case takes milliseconds, on a busy machine seconds
FAULTS = ('raw', 'silent', 'hang')
CLASSES = ('refusal', 'harmless', *FAULTS)
REFUSALS = (ValueError, TypeError, KeyError, OSError)
JUNK = [None, True, 3, -1, 2.5, float('nan'), float('inf'), 10**400, '', 'text', [], ['a'], {},
        {'a': 1}, [[[]]], '\ud800', 'x' * 300]
OTHER_MASK = 'a sound code of another mask: nothing in the file tells'
EXTREME = [float('nan'), float('inf'), 1e308, 10**400, 2**63, 2**31, 0.5, -1, 0]


Damage = Callable[[Path], Any]
"""Spoils what a reader has written into an empty folder, before it is read."""
Made = tuple[str, Damage, tuple[str, ...], str | None]
"""What the maker of a kind gives: the fields of a case but kind and run."""


@dataclass(frozen=True)
class Case:
    """One corruption.

    Attributes:
        kind: of what.
        what: the corruption in words.
        run: damages a copy in an empty folder and reads it; gives the result.
        names: one of these has to be in the first line of a refusal.
        reason: why another result than that of the sound input is right; None: it is a fault.
    """

    kind: str
    what: str
    run: Callable[[Path], Any]
    names: tuple[str, ...]
    reason: str | None = None


def digest(value: Any) -> str:
    """What tells results apart."""
    if isinstance(value, np.ndarray):
        value = [str(value.dtype), value.shape, value.tobytes()]
    if isinstance(value, torch.Tensor):
        return digest(value.float().numpy())
    if isinstance(value, dict):
        value = [[str(key), digest(item)] for key, item in value.items()]
    if isinstance(value, (list, tuple)):
        value = ' '.join(digest(item) for item in value)
    return hashlib.sha256(repr(value).encode('utf-8', 'surrogatepass')).hexdigest()[:16]


# Damage

def damage_bytes(content: bytes, draw: random.Random) -> tuple[bytes, str]:
    """One way to spoil a file: cut, emptied, overwritten, flipped, doubled, replaced."""
    place = draw.randrange(max(len(content), 1))
    number = draw.randrange(1, 9)
    return draw.choice([
        lambda: (content[:place], f'cut at byte {place}'),
        lambda: (b'', 'emptied'),
        lambda: (content[:place] + bytes(b ^ (1 << draw.randrange(8))
                                         for b in content[place:place + number])
                 + content[place + number:], f'{number} bytes from {place} have flipped bits'),
        lambda: (content[:place] + bytes(number) + content[place + number:],
                 f'{number} bytes from {place} are 0'),
        lambda: (content[:place] + content[place + number:],
                 f'{number} bytes at {place} are missing'),
        lambda: (draw.randbytes(len(content)), 'random bytes'),
        lambda: (b'<html>404 not found</html>', 'a page of a web server'),
        lambda: (b'version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n',
                 'a pointer of git lfs'),
    ])()


def paths_in(value: Any, path: tuple = ()) -> Iterator[tuple]:
    """Every place in a JSON document."""
    items = value.items() if isinstance(value, dict) else (
        enumerate(value) if isinstance(value, list) else ())
    for key, child in items:
        yield (*path, key)
        yield from paths_in(child, (*path, key))


def kind_of(value: Any) -> str:
    """Type of a value as JSON has it."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return 'number'
    return type(value).__name__


def damage_json(document: Any, draw: random.Random) -> tuple[str, str]:
    """Put a value of another type somewhere, or spoil the text."""
    if draw.random() < 0.25:
        text = json.dumps(document)
        place = draw.randrange(len(text))
        return draw.choice([
            (text[:place], f'cut at character {place}'),
            ('\ufeff' + text, 'with a byte order mark'),
            ('[' * 100_000, '100,000 brackets'),
            (text[:-1], 'without its last character'),
            ('', 'empty'),
            (text.replace('{', '{"\\ud800": 1, ', 1), 'a lone surrogate as a key'),
        ])
    document = json.loads(json.dumps(document))
    place = draw.choice(list(paths_in(document)))
    old = place_in(document, place)
    junk = draw.choice([value for value in JUNK if kind_of(value) != kind_of(old)])
    place_in(document, place[:-1])[place[-1]] = junk
    return json.dumps(document), f'{".".join(map(str, place))} is {junk!r:.40}'


def damage_numbers(document: Any, draw: random.Random) -> tuple[str, str]:
    """Make a number of a document an extreme one; else, or without numbers, as damage_json."""
    document = json.loads(json.dumps(document))
    numbers = [place for place in paths_in(document) if kind_of(place_in(document, place)) ==
               'number']
    if not numbers or draw.random() < 0.6:
        return damage_json(document, draw)
    place, value = draw.choice(numbers), draw.choice(EXTREME)
    place_in(document, place[:-1])[place[-1]] = value
    return json.dumps(document), f'{".".join(map(str, place))} is {value!r:.40}'


def place_in(document: Any, place: tuple) -> Any:
    """What stands at a place of a document."""
    for key in place:
        document = document[key]
    return document


def reason_of(what: str, reasons: dict[str, str]) -> str | None:
    """The reason whose pattern is found in the words of a corruption."""
    reasons = {'order mark': 'JSON with a byte order mark is the same JSON', **reasons}
    return next((text for key, text in reasons.items() if re.search(key, what)), None)


def write(path: Path, content: bytes | str) -> Path:
    """Write a file, lone surrogates as they are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else
                     content.encode('utf-8', 'surrogatepass'))
    return path


def files(contents: dict[str, bytes | str]) -> Damage:
    """Write files into a folder, by their names."""
    return lambda folder: [write(folder / name, content) for name, content in contents.items()]


def spoil(path: Path, seed: int, as_json: bool = False) -> None:
    """Damage a file that is there."""
    draw = random.Random(seed)
    write(path, damage_numbers(json.loads(path.read_text()), draw)[0] if as_json else
          damage_bytes(path.read_bytes(), draw)[0])


def nothing(folder: Path) -> None:
    """No damage: the reader gives the result of the sound input."""


# What is read

SHAPE, FRAMES = (12, 16), ('00000', '00001', '00002')


def mask_of(frame: int) -> np.ndarray:
    """A sound mask, (H, W)."""
    mask = np.zeros(SHAPE, dtype=bool)
    mask[2:7, 3 + frame:9 + frame] = True
    return mask


def annotation() -> dict:
    """Sound annotation of two videos."""
    return {'videos': {video: {'frames': list(FRAMES), 'expressions': {
        '0': {'exp': 'the red box', 'obj_id': ['1'], 'anno_id': [f'{video}1']},
        '1': {'exp': 'both boxes', 'obj_id': ['1', '2'], 'anno_id': [f'{video}1', f'{video}2']}}}
        for video in ('a', 'b')}}


def codes() -> dict:
    """Sound masks of them."""
    return {f'{video}{i}': [encode_mask(mask_of(t)) if t + i < 4 else None for t in range(3)]
            for video in ('a', 'b') for i in (1, 2)}


def read_mevis(folder: Path, damage: Damage = nothing) -> Any:
    """What a data set in the layout of MeViS gives: its list and all of its masks."""
    write(folder / 'meta_expressions.json', json.dumps(annotation()))
    write(folder / 'mask_dict.json', json.dumps(codes()))
    damage(folder)
    dataset = MeViSDataset(data_root=str(folder), pipeline=[], min_frames=1)
    found = []
    for i in range(len(dataset)):
        info = dataset.get_data_info(i)
        found.append([info['video_id'], info['frame_names']])
        for expression in info['expressions']:
            found.append([expression['exp_id'], expression['exp']])
            found += [decode_rle(rle) for t in range(len(info['frame_names']))
                      for rle in dataset.masks.rles(expression, t, SHAPE)]
    return found


def json_file(draw: random.Random, name: str, document: Any, reasons: dict[str, str],
              damage: Callable = damage_numbers, names: tuple[str, ...] = ()) -> Made:
    """A JSON file with one value of another type, or spoilt text."""
    text, what = damage(document, draw)
    return what, files({name: text}), (name, *names), reason_of(what, reasons)


def rle(draw: random.Random) -> Made:
    """The run-length codes of masks."""
    document = codes()
    if draw.random() < 0.5:
        text, what = damage_json(document, draw)
        reason = 'null: not in sight' if what.endswith(' is None') else None
    else:
        key, t = draw.choice(sorted(document)), 0
        counts = document[key][t]['counts']
        place = draw.randrange(len(counts))
        damaged = draw.choice([
            counts[:place], counts[:place] + draw.choice(string.printable) + counts[place + 1:],
            counts + counts, counts[:place] + chr(draw.randrange(128, 900)) + counts[place:],
            'P' * 10_000, counts[::-1]])
        document[key][t]['counts'] = damaged
        text, what = json.dumps(document), f'{key}.{t}.counts is {damaged!r:.40}'
        reason = OTHER_MASK if _is_sound(damaged) else None
    return what, files({'mask_dict.json': text}), ('mask_dict.json', ), reason


def _is_sound(counts: str) -> bool:
    """Whether a code is the one that its own mask has."""
    runs, number, shift = [], 0, 0
    for value in (ord(char) - 48 for char in counts):
        if not 0 <= value < 64:
            return False
        number |= (value & 31) << shift
        shift += 5
        if not value & 32:
            number -= (value & 16) // 16 << shift
            runs.append(number + (runs[-2] if len(runs) > 2 else 0))
            number = shift = 0
    return not shift and min(runs, default=-1) >= 0 and sum(runs) == SHAPE[0] * SHAPE[1]


def read_frames(folder: Path, damage: Damage = nothing) -> Any:
    """All frames of a folder of PNG files of which every bit counts."""
    files(frame_images())(folder)
    damage(folder)
    reader = open_reader(folder)
    return [reader.read(i) for i in range(len(reader))]


def frame_images() -> dict[str, bytes]:
    """A sound folder of frames, as PNG, of which every bit counts."""
    draw = np.random.default_rng(3)
    return {f'{name}.png': cv2.imencode('.png', draw.integers(0, 256, (*SHAPE, 3), np.uint8))[
        1].tobytes() for name in FRAMES}


def frames(draw: random.Random) -> Made:
    """A folder of images."""
    images = frame_images()
    name = draw.choice(sorted(images))
    if draw.random() < 0.6:
        content, what = damage_bytes(images[name], draw)
        return f'{name}: {what}', files({name: content}), (name.split('.')[0], ), None
    kind = draw.choice(['size', 'grey', 'folder', 'fifo', 'link', 'large', 'jpeg', 'sixteen'])

    def damage(folder: Path) -> None:
        path = folder / name
        path.unlink()
        if kind in ('size', 'grey', 'sixteen'):
            cv2.imwrite(str(path), {
                'size': np.zeros((5, 7, 3), np.uint8), 'grey': np.full(SHAPE, 7, np.uint8),
                'sixteen': np.full((*SHAPE, 3), 700, np.uint16)}[kind])
        elif kind == 'folder':
            path.mkdir()
        elif kind == 'fifo':
            os.mkfifo(path)
        elif kind == 'link':
            path.symlink_to(path)
        elif kind == 'large':
            jpeg = bytearray(cv2.imencode('.jpg', np.zeros((*SHAPE, 3), np.uint8))[1].tobytes())
            at = jpeg.index(b'\xff\xc0') + 5
            jpeg[at:at + 4] = b'\xff\xdc\xff\xdc'
            path.write_bytes(jpeg)
        else:
            Image.new('RGB', SHAPE[::-1]).save(path, 'JPEG')

    reason = 'another image of the same size is a frame' if kind in (
        'grey', 'sixteen', 'jpeg') else None
    # The second of two sizes is the one that is told.
    return f'{name}: {kind}', damage, (
        name.split('.')[0], *['(H, W)'] * (kind == 'size')), reason


def mask_png(frame: int) -> bytes:
    """A sound mask as a PNG file."""
    return cv2.imencode('.png', mask_of(frame).astype(np.uint8) * 255)[1].tobytes()


def read_masks(folder: Path, damage: Damage = nothing) -> Any:
    """All masks of a folder with one PNG for each frame."""
    files({f'1/{name}.png': mask_png(t) for t, name in enumerate(FRAMES)})(folder)
    damage(folder)
    store = BinaryMaskStore(folder)
    expression = dict(video_id='v', exp_id='0', anno_ids=('1', ), frame_names=FRAMES)
    return [decode_rle(code) for t in range(len(FRAMES))
            for code in store.rles(expression, t, SHAPE)]


def png_masks(draw: random.Random) -> Made:
    """Masks as PNG files."""
    name = draw.choice(FRAMES)
    content, what = damage_bytes(mask_png(FRAMES.index(name)), draw)
    damage, names = files({f'1/{name}.png': content}), (f'{name}.png', )
    if draw.random() < 0.3:
        what = mode = draw.choice(['RGB', 'RGBA', 'I;16', 'LA', 'size', 'JPEG', 'GIF'])

        def damage(folder: Path) -> None:
            image = Image.fromarray(mask_of(0).astype(np.uint8) * 255)
            image = image.resize((5, 5)) if mode == 'size' else image if mode in (
                'JPEG', 'GIF') else image.convert('I' if mode == 'I;16' else mode)
            image.save(folder / '1' / f'{name}.png', mode if mode in ('JPEG', 'GIF') else 'PNG')

    return f'{name}.png: {what}', damage, names, None


def small_model() -> nn.Module:
    """With float and integer entries."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(40, 30), nn.BatchNorm1d(30))


def read_weights(folder: Path, damage: Damage = nothing) -> Any:
    """As init_model does, up to the filled model."""
    model, path = small_model(), folder / 'model.pth'
    torch.save(dict(state_dict=model.state_dict()), path)
    damage(folder)
    state = complete_state(read_checkpoint(path), path)
    check_fit(model, state, str(path))
    check_finite(state, str(path))
    model.load_state_dict(state, strict=False)
    return [value.clone() for value in model.state_dict().values()]


class Thing:
    """An object in a pickle."""


CHANGES: dict[str, Callable[[Any], Any]] = {
    'missing': lambda v: None, 'nan': lambda v: v.float() * float('nan'),
    'inf': lambda v: v.float() + float('inf'), 'bytes': lambda v: v.to(torch.uint8),
    'bool': lambda v: v > 0, 'complex': lambda v: v.to(torch.complex64),
    'other shape': lambda v: v.reshape(-1)[:1], 'empty': lambda v: v.reshape(-1)[:0],
    'sparse': lambda v: v.float().reshape(1, -1).to_sparse(), 'meta': lambda v: v.to('meta'),
    'a list': lambda v: v.tolist(), 'text': lambda v: 'text', 'None': lambda v: None,
    'bfloat16': lambda v: v.to(torch.bfloat16), 'float64': lambda v: v.double(),
    'object': lambda v: Thing(), 'parameter': lambda v: nn.Parameter(v.float()),
}


def checkpoints(draw: random.Random) -> Made:
    """A file of weights."""
    state = small_model().state_dict()
    key = draw.choice(['0.weight', '1.running_var', '1.weight', '1.num_batches_tracked'])
    legacy = draw.random() < 0.15

    def pack(folder: Path, content: Any) -> Path:
        path = folder / 'model.pth'
        torch.save(content, path, _use_new_zipfile_serialization=not legacy)
        return path

    if draw.random() < 0.55:
        number = draw.randrange(1 << 30)
        what = damage_bytes(bytes(6000), random.Random(number))[1]
        reason = ('files of torch before 1.6 have no checksums: publish_model.py writes new ones'
                  if legacy else None)
        return f'{"legacy " * legacy}file: {what}', lambda folder: spoil(
            pack(folder, dict(state_dict=state)), number), ('model.pth', ), reason
    name = draw.choice(sorted(CHANGES))
    other = draw.choice([None, None, None, 'base 3', 'base {}', 'base path', 'state list',
                         'no state', 'keys are numbers', 'list'])

    def damage(folder: Path) -> None:
        damaged: Any = dict(state, **{key: CHANGES[name](state[key])})
        if name == 'missing':
            damaged.pop(key)
        pack(folder, {
            None: dict(state_dict=damaged), 'base 3': dict(state_dict=state, base=3),
            'base {}': dict(state_dict=state, base={}),
            'base path': dict(state_dict=state, base=dict(
                path='no.pth', relative='no.pth', parameters={'0.weight': ['0.weight', 'x']})),
            'state list': dict(state_dict=list(state.values())), 'no state': dict(meta=1),
            'keys are numbers': dict(state_dict=dict(enumerate(state.values()))),
            'list': list(state.values())}[other])

    reason = 'a type in which weights are stored; they are rounded to it' if other is None and (
        name in ('bfloat16', 'float64')) else None
    if other is None and key == '1.num_batches_tracked' and name in ('bytes', 'bool'):
        reason = 'an integer of another width'
    return other or f'{key}: {name}', damage, ('model.pth', ), reason


KEY_FRAMES = (
    {'format': 'glus_mm.key_frames', 'dataset': 'd',
     'key_frames': {'a': {'0': '00001', '1': '00002'}}},
    {'a_0': 1, 'a_1': 2},
    {'format': 'glus_mm.frame_scores', 'dataset': 'd', 'scores': {
        'a': {'0': [0.1, 0.9, 0.2], '1': [0.1, 0.2, 0.9]}}})


def read_key_frames(folder: Path, damage: Damage = nothing) -> Any:
    """The key frame of every expression of one video."""
    write(folder / 'frames.json', json.dumps(KEY_FRAMES[0]))
    damage(folder)
    file = KeyFrameFile(folder / 'frames.json')
    return [file.frame_id('d', 'a', str(e), FRAMES) for e in range(2)]


def key_frames(draw: random.Random) -> Made:
    """A file of key frames, in each of its layouts."""
    layout = draw.choice(KEY_FRAMES)
    if 'scores' in layout and draw.random() < 0.3:
        junk = draw.choice([None, float('nan'), float('inf'), 10**400, -float('inf')])
        layout = json.loads(json.dumps(layout))
        layout['scores']['a']['0'] = [junk] * 3
        text, what = json.dumps(layout), f'all scores are {junk!r:.40}'
    else:
        text, what = damage_json(layout, draw)
    return what, files({'frames.json': text}), ('frames.json', ), reason_of(
        what, {'^dataset is None$': 'the data set of a file need not be stated'})


LINES = tuple(json.dumps({'video': f'clips/{name}.mp4', 'texts': ['the cat', 'the dog'],
                          'key_frames': [0, 3], 'id': name}) for name in 'abc')


def read_list(folder: Path, damage: Damage = nothing) -> Any:
    """The requests of a list."""
    write(folder / 'list.jsonl', '\n'.join(LINES))
    damage(folder)
    return [[r.id, r.video, r.texts, r.key_frames] for r in read_requests(folder / 'list.jsonl')]


def list_lines(draw: random.Random) -> Made:
    """A list of videos for tools/segment_many.py."""
    if draw.random() < 0.7:
        text, what = damage_json(json.loads(LINES[1]), draw)
        if '\n' in text:
            text = ' '.join(text.splitlines())
    else:
        text, what = draw.choice([
            ('{"video": "a.mp4", "video": "b.mp4", "texts": ["x"]}', 'a key twice'),
            (json.dumps({'video': 'x' * 5000, 'texts': ['a']}), 'a path of 5,000 characters'),
            ('{"video": "\\ud800.mp4", "texts": ["a"]}', 'a lone surrogate in the path'),
            ('{"video": "b.mp4", "texts": ["\\ud800"]}', 'a lone surrogate in a text'),
            ('{"video": "b\\u0000.mp4", "texts": ["a"]}', 'a zero byte in the path'),
            (LINES[0], 'the same id twice'), ('nonsense', 'no JSON'), ('{"video": 1e999}', '1e999'),
            ('[' * 100_000 + ']' * 100_000, '100,000 brackets'),
            (json.dumps({'video': 'b.mp4', 'texts': ['a'], 'id': '../../b'}), 'an id with dots')])
    return what, files({'list.jsonl': '\n'.join([LINES[0], text, LINES[2]])}), (
        'list.jsonl', 'line 2'), reason_of(what, {
            '^(id|key_frames) is None$': 'it need not be given',
            '^texts is [\'"]': 'one text may stand without brackets',
            '^empty$': 'empty lines are skipped'})


BASE = str(ROOT / 'configs' / 'glus' / 'glus_tiny_moving-shapes_val.py')


def read_typo(folder: Path, damage: Callable[[Path], tuple] = lambda folder: (BASE, {}, True)
              ) -> str:
    """A config, checked; where asked for its model is built, which checks what has no ``type``."""
    path, options, build = damage(folder)
    cfg = read_config(str(path), options)
    if build:
        with DefaultScope.overwrite_default_scope('glus_mm'), init_empty_weights():
            MODELS.build(cfg.model)
    return cfg.pretty_text


def config_typos(draw: random.Random) -> Made:
    """A letter in a key of a config."""
    found = [place for place in paths_in(json.loads(json.dumps(
        Config.fromfile(BASE).to_dict()))) if isinstance(place[-1], str)
        and place[-1] not in ('type', 'default_scope') and 'kind_weights' not in place
        and 'custom_keys' not in place]  # checked with the data, with the model
    place = draw.choice(found)
    key = place[-1]
    at, letter = draw.randrange(len(key)), draw.choice(string.ascii_lowercase)
    typo = draw.choice([key[:at] + letter + key[at:], key[:at] + key[at + 1:],
                        key[:at] + letter + key[at + 1:]]) or 'x'

    def damage(folder: Path) -> tuple:
        if len(place) > 1 and place[0] not in ('mllm', 'mask_head', 'vis_backends',
                                               'train_pipeline', 'test_pipeline'):
            return BASE, {'.'.join(map(str, (*place[:-1], typo))): 1}, place[0] == 'model'
        value: Any = 1
        for part in reversed((*place[1:-1], typo) if len(place) > 1 else ()):
            value = [value] if isinstance(part, int) else {part: value}
        if not typo.isidentifier():
            raise ValueError('leaf.py: no name of Python')
        name = place[0] if len(place) > 1 else typo
        return write(folder / 'leaf.py', f'_base_ = [{BASE!r}]\n{name} = {value!r}\n'), {}, False

    reason = 'the letter is the one that was there' if typo == key else None
    return f'{".".join(map(str, place))} -> {typo}', damage, (typo, 'leaf.py'), reason


# Data sets, each in its layout

GROUND = 'a_0010_0025'
TESTING = [SampleContextQueryFrames(test_mode=True), OpenFrameReader(), LoadRefVOSGroundTruth()]
TRAINING = [SampleContextQueryFrames(num_context=0, num_query=1, num_expressions=20),
            LoadRefVOSFrames(), LoadRefVOSMasks()]
LAYOUTS: dict[str, tuple[type, str, dict]] = {
    'long_rvos': (LongRVOSDataset, 'meta_expressions.json', {'videos': {'a': {
        'frames': list(FRAMES), 'expressions': {
            '0': {'exp': 'the red box', 'obj_id': 1, 'type': 'static'}}}}}),
    'ref_sav': (RefSAVDataset, 'meta_expressions_valid.json', {'videos': {'a': {
        'frames': list(FRAMES), 'height': SHAPE[0], 'width': SHAPE[1], 'expressions': {
            '0': {'exp': 'a box', 'obj_id': [1], 'anno_id': ['a1'], 'type_id': 1}}}}}),
    'groundmore': (GroundMoReDataset, 'test_v2.json', {'videos': {GROUND: {'questions': {
        '0': {'question': 'What moves?', 'obj_id': '1', 'q_type': 'Causal',
              'action_start': '0:10', 'action_end': '0:12'}}}}}),
    'mose': (MOSEDataset, 'meta.json', {'videos': {'a': {'objects': ['1', '2'], 'length': 3}}})}


def image(frame: int = 0) -> bytes:
    """A frame as a PNG file, which is read under any name."""
    return cv2.imencode('.png', np.full((*SHAPE, 3), 20 * frame, np.uint8))[1].tobytes()


def write_layout(name: str, folder: Path) -> list[Path]:
    """Write what belongs to the annotation of a data set; gives the files with its masks."""
    masks = []
    for t, frame in enumerate(FRAMES):
        labels = mask_of(t).astype(np.uint8)
        labels[9:11, :4] = 2
        images, place = {
            'long_rvos': ('JPEGImages/a', f'Annotations/a/1/{frame}.png'),
            'ref_sav': ('videos/a', 'mask_dict.json'),
            'groundmore': (f'annotations/{GROUND}/images',
                           f'annotations/{GROUND}/masks/{t:07d}.png'),
            'mose': ('JPEGImages/a', f'Annotations/a/{frame}.png')}[name]
        number = f'{t:07d}' if name == 'groundmore' else frame
        write(folder / images / f'{number}.jpg', image(t))
        path = folder / place
        if name == 'ref_sav':
            write(path, json.dumps({'a1': [encode_mask(mask_of(t)) for t in range(3)]}))
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            if name == 'long_rvos':
                Image.fromarray(mask_of(t).astype(np.uint8) * 255).save(path)
            else:
                write_label_png(path, labels)
        masks.append(path)
    return masks


def read_layout(folder: Path, damage: Damage = nothing, *, name: str) -> Any:
    """All that a test has of a data set."""
    kind, ann_file, document = LAYOUTS[name]
    write_layout(name, folder)
    write(folder / ann_file, json.dumps(document))
    damage(folder)
    dataset = kind(data_root=str(folder), test_mode=True, pipeline=TESTING, serialize_data=False)
    found = []
    for item in map(dataset.__getitem__, range(len(dataset))):
        found += [item['video_id'], item['frame_names'], item['gt_rles'], [
            [e['exp_id'], e['exp'], e['kind']] for e in item['expressions']]]
    if name == 'mose':
        truth = MOSEAnnotations(folder)
        found += [truth.frames, [truth.objects(video) for video in truth.frames]]
    return found


def layouts(draw: random.Random, name: str) -> Made:
    """Annotation or masks of a data set."""
    _, ann_file, document = LAYOUTS[name]
    text, what = damage_numbers(document, draw)
    damage, spoilt, seed = files({ann_file: text}), draw.random() < 0.3, draw.randrange(1 << 30)
    if spoilt:
        what = f'masks: {damage_bytes(bytes(200), random.Random(seed))[1]}'

        def damage(folder: Path) -> None:
            masks = write_layout(name, folder)
            spoil(masks[seed % len(masks)], seed)

    reason = reason_of(what, {
        r'obj_id is \[\]': 'no object: an expression that refers to nothing',
        'obj_id is': 'an object that has no mask is out of sight on all frames',
        'type_id is 0': 'another kind', **({'masks: ': OTHER_MASK} if name == 'ref_sav' else {})})
    return what, damage, (ann_file, 'nnotations', 'mask_dict.json', '.jpg'), reason


def refs() -> list:
    """Sound expressions of REFER."""
    return [{'ref_id': n, 'ann_id': 10 + n, 'image_id': 5, 'split': 'train', 'sentences': [
        {'sent_id': 2 * n, 'sent': f'box {n}'}, {'sent_id': 2 * n + 1, 'sent': f'the box {n}'}]}
        for n in range(3)]


def instances() -> dict:
    """Sound instances of COCO, of each form that masks have there."""
    runs = [int(n) for n in np.diff(np.flatnonzero(np.diff(
        mask_of(1).T.ravel().astype(int), prepend=2, append=2)))]
    masks = [[[3.0, 2.0, 9.0, 2.0, 9.0, 7.0, 3.0, 7.0]], encode_mask(mask_of(0)),
             {'size': list(SHAPE), 'counts': runs}]
    return {'images': [{'id': 5, 'file_name': '5.jpg', 'height': SHAPE[0], 'width': SHAPE[1]}],
            'annotations': [{'id': 10 + n, 'image_id': 5, 'category_id': 1, 'segmentation': mask}
                            for n, mask in enumerate(masks)],
            'categories': [{'id': 1, 'name': 'box'}]}


SHAPES = {'text': ['the box', 'a red box'], 'shapes': [
    {'label': 'target', 'points': [[3, 2], [9, 2], [9, 7], [3, 7]]},
    {'label': 'ignore', 'points': [[4.5, 3], [6, 3], [6, 5]]}]}


def read_images(folder: Path, damage: Damage = nothing, *, kind: type) -> Any:
    """Expressions and masks of a data set of images."""
    files({'refs.json': json.dumps(refs()), 'instances.json': json.dumps(instances()),
           'train/5.json': json.dumps(SHAPES), '5.jpg': image(), 'train/5.jpg': image()})(folder)
    damage(folder)
    ann_file = 'refs.p' if (folder / 'refs.p').exists() else 'refs.json'
    options: dict[str, Any] = {
        ReasonSegDataset: {},
        COCOClassDataset: dict(ann_file='instances.json', data_prefix=dict(img='')),
        RefCOCODataset: dict(ann_file=ann_file, data_prefix=dict(img='', mask='instances.json')),
    }[kind]
    dataset = kind(data_root=str(folder), pipeline=TRAINING, serialize_data=False, **options)
    return [[sorted(zip([[e['exp_id'], e['exp']] for e in item['expressions']],
                        map(digest, item['gt_masks'])))]
            for item in map(dataset.__getitem__, range(len(dataset)))]


IMAGES = {'refcoco': (RefCOCODataset, ('refs.json', 'instances.json', 'refs.p')),
          'coco': (COCOClassDataset, ('instances.json', )),
          'reason_seg': (ReasonSegDataset, ('train/5.json', ))}


def images(draw: random.Random, which: str) -> Made:
    """Annotations of images: REFER, COCO, ReasonSeg."""
    name = draw.choice(IMAGES[which][1])
    if name == 'refs.p':
        content, what = damage_bytes(pickle.dumps(refs(), 2), draw)
        reason = 'a pickle has no checksums; another text or number is one'
    else:
        content, what = damage_numbers({
            'refs.json': refs(), 'instances.json': instances()}.get(name, SHAPES), draw)
        reason = reason_of(what, {
            'sent_id is': 'an id is any integer',
            r'(points|segmentation)\.\d\.\d is (-1|0|0\.5)$': 'another polygon of the image'})
    return f'{name}: {what}', files({name: content}), (name, '5.jpg'), reason


TALK = [{'id': name, key: value, 'conversations': [
    {'from': 'human', 'value': f'<{key}>\nWhat is it?'}, {'from': 'gpt', 'value': 'A cat.'}]}
    for name, key, value in (('one', 'image', 'a.jpg'), (2, 'video', 'clip'))]


def read_talk(folder: Path, damage: Damage = nothing) -> Any:
    """Items of conversations."""
    write(folder / 'talk.json', json.dumps(TALK))
    write(folder / 'clip' / '0.jpg', b'')
    damage(folder)
    dataset = ConversationDataset(str(folder), ann_file='talk.json', serialize_data=False)
    keys = ('video_id', 'frame_names', 'media', 'expressions')
    return [[dataset.get_data_info(i)[key] for key in keys] for i in range(len(dataset))]


# What comes from other people or from a run before

@MODELS.register_module()
class FuzzHub(HubMixin):
    """The smallest model that the hub can have."""

    def __init__(self, width: int) -> None:
        super().__init__()
        if type(width) is not int or not 0 < width < 100:
            raise ValueError(f'config.json: width must be in 1..99, got {width!r}')
        self.layer = nn.Linear(width, width)


def read_hub(folder: Path, damage: Damage = nothing) -> Any:
    """A model from a folder of save_pretrained."""
    torch.manual_seed(0)
    model = FuzzHub(6)
    model.cfg = Config(dict(model=dict(type='FuzzHub', width=6)))
    model.save_pretrained(folder / 'hub')
    damage(folder)
    return list(FuzzHub.from_pretrained(folder / 'hub').state_dict().values())


def hub(draw: random.Random) -> Made:
    """A folder of save_pretrained."""
    name = draw.choice(['config.json', 'model.safetensors', 'model.safetensors'])
    seed = draw.randrange(1 << 30)
    return f'{name}, damage {seed}', lambda folder: spoil(
        folder / 'hub' / name, seed, name == 'config.json'), (name, 'config.json', '/hub'), None


CLICK = dict(expression='the red box', frame=1, points=[[3, 4], [5.5, 6]], labels=[1, 0],
             box=[1, 1, 9, 8])


def read_click(folder: Path, damage: Callable[[Path], str] = lambda folder: json.dumps(CLICK)
               ) -> Any:
    """A click as a session checks it, without a model."""
    session, click = RefinementSession.__new__(RefinementSession), json.loads(damage(folder))
    session.out = SimpleNamespace(texts=('the red box', 'a box'))
    reader = type('Reader', (), dict(shape=SHAPE, __len__=lambda self: 3))()
    session._session = SimpleNamespace(reader=reader)
    return [session._number(click['expression']), session._checked(
        click['frame'], click['points'], click['labels'], click['box'])]


def clicks(draw: random.Random) -> Made:
    """A refinement by clicks, from a program that took it from a person."""
    text, what = damage_numbers(CLICK, draw)
    while ' is ' not in what:  # no file: what a program has is sound JSON
        text, what = damage_numbers(CLICK, draw)
    return what, lambda folder: text, (
        'a frame', 'points', 'a label', 'a box', 'one of the texts'), reason_of(what, {
            'labels is None': 'all are on the object', 'box is None': 'points alone',
            r'(box\.\d|points\.\d\.\d) is (0|0\.5)$': 'another place',
            r'labels\.\d is 0$': 'another label', 'frame is 0$': 'another frame'})


def figures_of(shift: float) -> dict:
    """Figures as ``eval_masks.py --out`` writes them."""
    keys = [f'{video}_{exp}' for video in 'ab' for exp in '01']
    scores = {key: 0.5 + shift + 0.01 * n for n, key in enumerate(keys)}
    return {'protocol': 'mevis', 'dataset': {'J&F': 0.5}, 'per_expression': {
        key: {'J': value, 'F': value, 'J&F': value, 'has_target': True, 'predicted': True}
        for key, value in scores.items()}, 'per_frame': {
            key: {'J&F': [value] * 3} for key, value in scores.items()}}


def read_comparison(folder: Path, damage: Damage = nothing) -> Any:
    """Compare two systems by their figures."""
    files({'meta_expressions.json': json.dumps(annotation()),
           'mask_dict.json': json.dumps(codes()), 'a.json': json.dumps(figures_of(0)),
           'b.json': json.dumps(figures_of(0.1))})(folder)
    damage(folder)
    compared = MaskComparison(open_expressions('mevis', folder), tuple(
        read_figures(folder / f'{name}.json', 'mevis') for name in 'ab'), ('a', 'b'), (None, None))
    return [compared.comparison.document(), compared.comparison.table(), compared._frames]


def read_records(folder: Path, damage: Damage = nothing) -> Any:
    """Results of a list of videos that a run left when it was killed.

    A record that is left out, with a warning, is a video that is done again.
    """
    store, sound = FinishedVideos(folder / 'records'), []
    for name in 'ab':
        path = store.add('', name, '0f', dict(id=name, status='done', frames=3))
        sound.append([name, *store.read()['', name]])
        if name == 'a':
            first = path
    damage(first)
    found = store.read()
    found = [[name, *found['', name]] for name in 'ab' if ('', name) in found]
    return sound if found == sound[1:] else found


def records(draw: random.Random) -> Made:
    """A record of a finished video."""
    seed, by_byte = draw.randrange(1 << 30), draw.random() < 0.5
    return f'{"bytes" if by_byte else "JSON"}, damage {seed}', lambda path: spoil(
        path, seed, not by_byte), (), None


KINDS: dict[str, tuple[Callable[[random.Random], Made], Callable[..., Any]]] = {
    'annotations': (partial(
        json_file, name='meta_expressions.json', document=annotation(), damage=damage_json,
        reasons={r'\.obj_id is \[\]': 'no object: an expression that refers to nothing'}),
        read_mevis),
    'rle': (rle, read_mevis),
    'frames': (frames, read_frames),
    'png_masks': (png_masks, read_masks),
    'checkpoints': (checkpoints, read_weights),
    'key_frames': (key_frames, read_key_frames),
    'list_lines': (list_lines, read_list),
    **{name: (partial(layouts, name=name), partial(read_layout, name=name)) for name in LAYOUTS},
    **{name: (partial(images, which=name), partial(read_images, kind=IMAGES[name][0]))
       for name in IMAGES},
    'talk': (partial(json_file, name='talk.json', document=TALK, reasons={
        r'\.id is -?\d+$': 'an id is a text or an integer',
        r"image is \['a'\]": 'a list of one name is a name'}), read_talk),
    'hub': (hub, read_hub),
    'clicks': (clicks, read_click),
    'figures': (partial(json_file, name='a.json', document=figures_of(0), names=('of a ', ),
                        reasons={r'J&F(\.\d)? is (0|0\.5)$': 'another figure'}),
                read_comparison),
    'records': (records, read_records),
    'config_typos': (config_typos, read_typo),
}


# Running

def attempt(run: Callable[[Path], Any], limit: float) -> tuple[str, str]:
    """Run in a process of its own; gives ('result' | 'error' | 'raw' | 'hang', text)."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read_end)
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        with tempfile.TemporaryDirectory(prefix='fuzz_') as folder:
            try:
                answer = ('result', digest(run(Path(folder))))
            except REFUSALS as error:
                text = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
                answer = ('error', f'{type(error).__name__}: {text}')
            except BaseException as error:  # noqa: BLE001 - that is what is looked for
                answer = ('raw', f'{type(error).__name__}: {error}')
            shutil.rmtree(folder, ignore_errors=True)
            os.write(write_end, pickle.dumps((answer[0], answer[1][:2000])))
            os._exit(0)
    os.close(write_end)
    try:
        if not select.select([read_end], [], [], limit)[0]:
            os.kill(pid, signal.SIGKILL)
            return 'hang', f'no end within {limit:g} s'
        with os.fdopen(os.dup(read_end), 'rb') as pipe:
            content = pipe.read()
    finally:
        os.close(read_end)
        status = os.waitpid(pid, 0)[1]
    return pickle.loads(content) if content else ('raw', f'the process ended with status {status}')


def classify(case: Case, baseline: str, limit: float = LIMIT) -> tuple[str, str]:
    """Class of a case, and what it said."""
    kind, text = attempt(case.run, limit)
    if kind == 'result':
        if text == baseline:
            return 'harmless', 'the result of the sound input'
        return ('silent', 'another result') if case.reason is None else ('harmless', case.reason)
    if kind == 'error':
        first = text.splitlines()[0]
        return ('refusal', first) if any(name in text for name in case.names) else (
            'raw', f'does not say where: {first}')
    return kind, text


def fuzz(cases: int, seed: int, kinds: list[str], limit: float = LIMIT
         ) -> Iterator[tuple[Case, str, str]]:
    """Make and classify cases, shared out evenly to the kinds.

    Yields:
        The case, its class, and what it said.
    """
    for k, kind in enumerate(kinds):
        make, read = KINDS[kind]
        # Here and not in a process of its own: what is imported for it need not be for each case.
        with tempfile.TemporaryDirectory(prefix='fuzz_') as folder:
            baseline = digest(read(Path(folder)))
        for i in range(cases // len(kinds) + (k < cases % len(kinds))):
            what, damage, *rest = make(random.Random(f'{seed} {kind} {i}'))
            case = Case(kind, what, partial(read, damage=damage), *rest)
            yield case, *classify(case, baseline, limit)


def main() -> int:
    """Run, print a table, and every fault; gives the exit status."""
    parser = argparse.ArgumentParser(description='Damage what people hand over')
    parser.add_argument('--cases', type=int, default=1000)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--kind', nargs='+', choices=sorted(KINDS), default=list(KINDS))
    parser.add_argument('--limit', type=float, default=LIMIT, help='seconds that a case may take')
    parser.add_argument('--show', action='store_true', help='print every case')
    args = parser.parse_args()
    start = time.perf_counter()
    table: dict[str, Counter] = {kind: Counter() for kind in args.kind}
    reasons: Counter = Counter()
    for case, outcome, text in fuzz(args.cases, args.seed, args.kind, args.limit):
        table[case.kind][outcome] += 1
        if outcome == 'harmless':
            reasons[text] += 1
        if args.show or outcome in FAULTS:
            print(f'{outcome:8} {case.kind}: {case.what}: {text!r:.240}', flush=True)
    total: Counter = sum(table.values(), Counter())
    print(f'{"":14}' + ''.join(f'{name:>10}' for name in CLASSES))
    for kind, counts in {**table, 'all': total}.items():
        print(f'{kind:14}' + ''.join(f'{counts[name]:>10}' for name in CLASSES))
    for reason, number in reasons.most_common():
        print(f'harmless {number:5}: {reason}')
    print(f'{total.total()} cases in {time.perf_counter() - start:.0f} s, seed {args.seed}')
    return int(any(total[name] for name in FAULTS))


if __name__ == '__main__':
    sys.exit(main())
