"""Whatever is wrong in an annotation tree is an error that names the file and the place.

Every corruption is applied to a fresh copy of a data set's layout; then all samples are made, for
training or for testing. Nothing may pass, and nothing may fail deep inside.
"""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from dataset_layouts import LAYOUTS, Layout, masks_pipeline, test_pipeline as pipeline_for_testing
from PIL import Image

from glus_mm.video import FrameError, MissingFrameError

PLAIN_ERRORS = (ValueError, FileNotFoundError, TypeError, FrameError, MissingFrameError)
VIDEO = 'vid_a'
BAD_NAMES = ['', '.', '..', '../x', '/etc/x', 'a\\b', 'a\0b', 'a\nb', 'x/../y', '\ud800', 'x' * 300]
NOT_A_DICT = [None, 3, 'text', ['a'], True]
NOT_A_LIST = [None, 3, 'text', {'a': 1}, False]


@dataclass(frozen=True)
class Corruption:
    """A way to spoil a tree.

    Attributes:
        name: for the test's id.
        change: spoils the tree of a layout.
        tokens: what the error must name, beside the word 'expected'; ``{video}``, ``{ann}`` and
            ``{masks}`` stand for the layout's.
        fits: to which layouts it applies.
        modes: in which of 'train' and 'test' it is one.
    """

    name: str
    change: Callable[[Path, Layout], None]
    tokens: tuple[str, ...] = ('{ann}', '{video}')
    fits: Callable[[Layout], bool] = lambda layout: True
    modes: tuple[str, ...] = ('train', 'test')


CORRUPTIONS: list[Corruption] = []


def add(name: str, *args, **kwargs) -> None:
    CORRUPTIONS.append(Corruption(name, *args, **kwargs))


def by_json(layout: Layout) -> bool:
    return layout.masks.endswith('.json')


def by_png(layout: Layout) -> bool:
    return not by_json(layout)


def of(*names: str) -> Callable[[Layout], bool]:
    return lambda layout: layout.dataset.__name__ in names


def masked_by(path: str) -> Callable[[Layout], bool]:
    return lambda layout: layout.masks == path


is_reason, is_long, is_davis = of('ReasonVOSDataset'), of('LongRVOSDataset'), of('RefDAVISDataset')
has_types = of('ReVOSDataset', 'RefSAVDataset')
by_anno_id, by_palette = masked_by('mask_dict.json'), masked_by('train/Annotations')


def needs_all_png(layout: Layout) -> bool:
    """A frame without a file is an error."""
    return by_png(layout) and not is_long(layout)


def edit_json(path: Path, change: Callable[[dict], None]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def on_meta(change: Callable[[dict, Layout], None]) -> Callable:
    return lambda root, layout: edit_json(root / layout.ann_file, lambda c: change(c, layout))


def on_video(change: Callable[[dict, Layout], None]) -> Callable:
    return on_meta(lambda c, layout: change(c['videos'][layout.prefix + VIDEO], layout))


def on_expression(change: Callable[[dict, Layout], None]) -> Callable:
    """Change the second expression."""
    return on_video(lambda v, layout: change(
        v['expressions'][1 if isinstance(v['expressions'], list) else '1'], layout))


def on_masks(change: Callable[[dict], None]) -> Callable:
    return lambda root, layout: edit_json(root / layout.masks, change)


def on_track(change: Callable[[list], None]) -> Callable:
    """Change the masks of the first annotation that vid_a has."""
    return on_masks(lambda c: change(c[next(iter(c))]))


def on_rle(change: Callable[[dict], None], frame: int = 3) -> Callable:
    return on_track(lambda track: change(track[frame]))


def mask_file(root: Path, layout: Layout, frame: str = '00015') -> Path:
    """A PNG of object 2 of vid_a."""
    folder = 'mevis_vid_a_2' if is_reason(layout) else VIDEO
    if is_long(layout):
        folder = f'{VIDEO}/2'
    return root / layout.masks / folder / f'{frame}.png'


def image_file(root: Path, layout: Layout, frame: str = '00015') -> Path:
    return root / layout.images / (layout.prefix + VIDEO) / f'{frame}.jpg'


def setter(key: str, value: object) -> Callable:
    return lambda entry, layout: entry.update({key: value})


def rename(key: str) -> Callable:
    """Rename vid_a to something at the same place."""

    def change(content: dict, layout: Layout) -> None:
        content['videos'] = {key if name == layout.prefix + VIDEO else name: video
                             for name, video in content['videos'].items()}

    return change


# ---- the annotation: videos and frames ----

add('no videos', on_meta(lambda c, _: c.pop('videos')), ('{ann}', "'videos'"))
for value in (None, [], 3, 'x'):
    add(f'videos {value}', on_meta(setter('videos', value)), ('{ann}', "'videos'", 'dict'))
add('videos {}', on_meta(setter('videos', {})), ('{ann}', 'at least one video'))
for value in NOT_A_DICT:
    add(f'video {value}', on_meta(lambda c, layout, v=value: c['videos'].update(
        {layout.prefix + VIDEO: v})))
for name in BAD_NAMES:
    add(f'video id {name[:9]!r}', on_meta(rename(name)), ('{ann}', 'plain file name'))
    add(f'frame {name[:9]!r}', on_video(lambda v, _, n=name: v['frames'].__setitem__(2, n)),
        ('{ann}', '{video}', "'frames'", 'plain file name'))
add('video id with slash', on_meta(rename('a/b')), ('{ann}', "'a/b'", 'plain file name'),
    lambda layout: not layout.prefix)
add('no frames', on_video(lambda v, _: v.pop('frames')), ('{ann}', '{video}', "'frames'"))
for value in [*NOT_A_LIST, []]:
    add(f'frames {value}', on_video(setter('frames', value)), ('{ann}', '{video}', "'frames'"))
for value in (7, None, ['00000'], {}, 0.5, True):
    add(f'frame {value}', on_video(lambda v, _, x=value: v['frames'].__setitem__(0, x)),
        ('{ann}', '{video}', "'frames'", 'plain file name'))
add('frame twice', on_video(lambda v, _: v['frames'].__setitem__(3, v['frames'][1])),
    ('{ann}', '{video}', 'unique', '00005'), lambda layout: not is_reason(layout))
add('a frame too many', on_video(lambda v, _: v['frames'].append('00500')), ('{video}', '00500'),
    by_png)
add('a frame too many', on_video(lambda v, _: v['frames'].append('00500')),
    ('{ann}', '{masks}', '{video}', '7', '6'), by_json)
add('a frame too few', on_video(lambda v, _: v['frames'].pop()),
    ('{ann}', '{masks}', '{video}', '5', '6'), by_json)
for shape in ((24, None), (24, '40'), (0, 40), (24.0, 40), (True, 40), (-24, 40)):
    add(f'size {shape}', on_video(lambda v, _, s=shape: v.update(height=s[0], width=s[1])),
        ('{ann}', '{video}', 'positive integers'))
add('size of another video', on_video(lambda v, _: v.update(height=40, width=24)),
    ('{video}', '(24, 40)', '(40, 24)'))

# ---- the annotation: expressions ----

add('no expressions', on_video(lambda v, _: v.pop('expressions')),
    ('{ann}', '{video}', "'expressions'"))
for value in (None, 3, 'text', True):
    add(f'expressions {value}', on_video(setter('expressions', value)),
        ('{ann}', '{video}', "'expressions'"))
add('expressions of the other type', on_video(lambda v, _: v.update(
    expressions=[] if isinstance(v['expressions'], dict) else {})), ('{ann}', '{video}'))
add('expressions empty', on_video(lambda v, _: v['expressions'].clear()),
    ('{ann}', '{video}', 'at least one'))
for value in NOT_A_DICT:
    add(f'expression {value}', on_video(lambda v, _, x=value: v['expressions'].__setitem__(
        1 if isinstance(v['expressions'], list) else '1', x)), ('{ann}', '{video}', "'1'"))
for name in BAD_NAMES:
    add(f'exp id {name[:9]!r}', on_video(lambda v, _, n=name: v.update(expressions={
        n if key == '1' else key: item for key, item in v['expressions'].items()})),
        ('{ann}', '{video}'), lambda layout: not is_reason(layout))
    add(f'exp id {name[:9]!r}', on_expression(setter('exp_id', name)), ('{ann}', '{video}'),
        is_reason)
add('exp id twice', on_expression(setter('exp_id', 0)), ('{ann}', '{video}', "'0' twice"),
    is_reason)
for value in (None, 1.0, [], True):
    add(f'exp id {value}', on_expression(setter('exp_id', value)),
        ('{ann}', '{video}', "'exp_id'"), is_reason)
add('no text', on_expression(lambda e, layout: e.pop(layout.text_key)),
    ('{ann}', '{video}', "expression '1'", 'key'))
for value in (None, 3, ['a'], {}, '', '   ', '.', 'x' * 2000, 'a [SEG] b', '<image>', '<IM_START>x',
              'go</s>', 'a <unk>', 'a\ud800b', '[seg]'):
    add(f'text {str(value)[:9]!r}', on_expression(lambda e, layout, x=value: e.update(
        {layout.text_key: x})), ('{ann}', '{video}', "expression '1'", 'key'))

# ---- the annotation: objects ----

for key in ('obj_id', 'anno_id'):
    add(f'no {key}', on_expression(lambda e, _, k=key: e.pop(k)),
        ('{ann}', '{video}', "expression '1'", f"'{key}'"),
        by_anno_id if key == 'anno_id' else lambda layout: True)
    for value in (None, 3, 'x', {}, True, [None], [1.5], [[1]], [True], [{}], [1, 1]):
        add(f'{key} {value}', on_expression(setter(key, value)),
            ('{ann}', '{video}', "expression '1'", f"'{key}'"), by_anno_id)
for value in (None, 1.5, True, [], [1], {}, 'x', '', '-1', -1, 0, 255, 256, 10 ** 30, '1.0', '²'):
    add(f'obj_id {value}', on_expression(setter('obj_id', value)),
        ('{ann}', '{video}', "expression '1'", "'obj_id'"),
        lambda layout: by_palette(layout) or is_davis(layout))
for value in (None, 1.5, True, [], [1], {}, '', '../x', '/x', 'a\0b', '..'):
    add(f'obj_id {value!r}', on_expression(setter('obj_id', value)),
        ('{ann}', '{video}', "expression '1'", "'obj_id'"),
        lambda layout: is_reason(layout) or is_long(layout))
for value in (None, 3, '', [], True):
    add(f'type {value!r}', on_expression(setter('type', value)),
        ('{ann}', '{video}', "expression '1'", "'type'"), is_long)
add('obj_id without masks', on_expression(setter('obj_id', 99)),
    ('{video}', "expression '1'", '99', '{masks}'), lambda layout: by_palette(layout)
    and not is_davis(layout))
add('obj_id without masks', on_expression(setter('obj_id', 99)),
    ('{ann}', '{video}', "expression '1'", '99', '{masks}'), is_reason)
add('anno_id without masks', on_expression(setter('anno_id', [99])),
    ('{ann}', '{video}', "expression '1'", "'99'", '{masks}'), by_anno_id)
add('anno_id of a longer video', on_expression(setter('anno_id', [11])),
    ('{ann}', '{video}', "expression '1'", "'11'", '5', '6', '{masks}'), by_anno_id)
add('two obj_ids, one anno_id', on_expression(setter('obj_id', [1, 2])),
    ('{ann}', '{video}', "expression '1'", "one 'anno_id' per 'obj_id'"), by_anno_id)
add('kind 3', on_expression(setter('kind', 3)), ('{ann}', '{video}', "expression '1'", "'kind'"),
    lambda layout: not is_reason(layout) and not is_long(layout) and not has_types(layout))
for value in (None, 3, -1, '0', 1.0, True, []):
    add(f'type_id {value}', on_expression(setter('type_id', value)),
        ('{ann}', '{video}', "expression '1'", "'type_id'"),
        has_types)
for value in (None, 3, '../x', '/x', ''):
    add(f'source {value}', on_video(setter('source', value)), ('{ann}', '{video}', "'source'"),
        is_reason)
add('another source', on_video(setter('source', 'BURST')), ('{ann}', '{video}', 'BURST_vid_a'),
    is_reason)
add('three annotations of an object', on_video(lambda v, _: v['expressions'].pop('7')),
    ('{ann}', 'video'), is_davis, ('test', ))
add('annotations mixed up', on_expression(setter('obj_id', 2)),
    ('{ann}', '{video}', "'obj_id'", 'fours'), is_davis, ('test', ))

# ---- JSON as such ----


def spoil_text(which: str, change: Callable[[bytes], bytes]) -> Callable:
    def spoil(root: Path, layout: Layout) -> None:
        path = root / getattr(layout, which)
        path.write_bytes(change(path.read_bytes()))

    return spoil


def cut(seed: int) -> Callable[[bytes], bytes]:
    """Break off somewhere."""
    return lambda data: data[:int(np.random.default_rng(seed).integers(1, len(data) - 1))]


def double_key(data: bytes) -> bytes:
    """Repeat the first key of the innermost place that has one."""
    place = data.rindex(b'{')
    return data[:place + 1] + b'"a": 1, "a": 2, ' + data[place + 1:]


def become_folder(which: str) -> Callable:
    def spoil(root: Path, layout: Layout) -> None:
        (root / getattr(layout, which)).unlink()
        (root / getattr(layout, which)).mkdir()

    return spoil


for which, token in (('ann_file', '{ann}'), ('masks', '{masks}')):
    fits = by_json if which == 'masks' else lambda layout: True
    for seed in range(6):
        add(f'{which} cut {seed}', spoil_text(which, cut(seed)), (token, 'JSON'), fits)
    for name, change in {
            'empty': lambda data: b'', 'a list': lambda data: b'[1, 2]',
            'null': lambda data: b'null', 'deep': lambda data: b'{"videos": ' + b'[' * 100000,
            'no UTF-8': lambda data: b'{"\xff": ' + data + b'}',
            'UTF-16': lambda data: data.decode().encode('utf-16'),
            'two objects': lambda data: data + data, 'a key twice': double_key,
            'no JSON': lambda data: b'<html>', 'NaN': lambda data: b'NaN',
            'many digits': lambda data: b'{"videos": ' + b'1' * 5000 + b'}'}.items():
        add(f'{which} {name}', spoil_text(which, change), (token, 'JSON'), fits)
add('no annotation', lambda root, layout: (root / layout.ann_file).unlink(), ('{ann}', 'JSON'))
add('annotation is a folder', become_folder('ann_file'), ('{ann}', 'JSON'))

# ---- masks in JSON ----

add('no masks', lambda root, layout: (root / layout.masks).unlink(), ('{ann}', '{masks}'), by_json,
    ('train', ))
add('masks are a folder', become_folder('masks'), ('{ann}', '{masks}'), by_json, ('train', ))
add('an annotation is missing', on_masks(lambda c: c.pop(next(iter(c)))), ('{ann}', '{masks}'),
    by_json)
add('a mask too many', on_track(lambda t: t.append(None)), ('{ann}', '{masks}', '{video}', '7'),
    by_json)
add('a mask too few', on_track(lambda t: t.pop()), ('{ann}', '{masks}', '{video}', '5'), by_json)
for value in NOT_A_LIST:
    add(f'track {value}', on_masks(lambda c, x=value: c.update({next(iter(c)): x})),
        ('{masks}', 'anno', 'list'), by_json)
for value in (3, 'x', [], {}, {'size': [24, 40]}, {'counts': 'a'}, True):
    add(f'rle {value}', on_track(lambda t, x=value: t.__setitem__(3, x)),
        ('{masks}', 'anno', 'frame 3', 'RLE'), by_json)
for value in (None, 24, [24], [24, 40, 1], [24.0, 40], ['24', 40], [0, 40], [-24, 40], [True, 40]):
    add(f'rle size {value}', on_rle(lambda r, x=value: r.update(size=x)),
        ('{masks}', 'anno', 'frame 3', 'size'), by_json)
for value in (None, [5, 5], '', 3, 'é', {}):
    add(f'rle counts {value}', on_rle(lambda r, x=value: r.update(counts=x)),
        ('{masks}', 'anno', 'frame 3', 'counts'), by_json)
for size in ([40, 24], [24, 41], [48, 80], [10 ** 9, 10 ** 9]):
    add(f'rle of size {size}', on_rle(lambda r, x=size: r.update(size=x)),
        ('{masks}', '{video}', 'expression', 'anno', 'frame 3', '(24, 40)'), by_json)
for text in ('~~~', 'P' * 9, '0', 'oooo', '1', ' ', 'a' * 5000):
    add(f'rle runs {text[:9]}', on_rle(lambda r, x=text: r.update(counts=x)),
        ('{masks}', '{video}', 'expression', 'anno', 'frame 3', '24 x 40'), by_json)


def garble(seed: int) -> Callable[[dict], None]:
    """Drop, repeat or replace a character."""

    def change(entry: dict) -> None:
        rng, text = np.random.default_rng(seed), entry['counts']
        place = int(rng.integers(len(text)))
        middle = ('', 2 * text[place], chr((ord(text[place]) - 48 + 7) % 64 + 48))[seed % 3]
        entry['counts'] = text[:place] + middle + text[place + 1:]

    return change


for seed in range(9):
    add(f'rle garbled {seed}', on_rle(garble(seed)),
        ('{masks}', '{video}', 'expression', 'anno', 'frame 3', '24 x 40'), by_json)

# ---- masks in PNG files ----


def replace_png(make: Callable[[Path], None]) -> Callable:
    return lambda root, layout: make(mask_file(root, layout))


def convert(mode: str) -> Callable:
    return replace_png(lambda path: Image.open(path).convert(mode).save(path))


def resize(path: Path, size: tuple[int, int]) -> None:
    Image.open(path).resize(size).save(path)


def flip(path: Path, seed: int) -> None:
    """Change one byte after the header."""
    data = bytearray(path.read_bytes())
    place = int(np.random.default_rng(seed).integers(8, len(data)))
    data[place] ^= 1 << seed % 8
    path.write_bytes(bytes(data))


PNG = ('{masks}', '{video}', 'expression', '00015.png')
add('no folder of masks', lambda root, layout: shutil.rmtree(root / layout.masks),
    ('{ann}', '{masks}'), by_palette, ('train', ))
add('no masks of a video', lambda root, layout: shutil.rmtree(mask_file(root, layout).parent),
    ('{ann}', '{masks}', '{video}', 'expression'), needs_all_png)
add('no masks of a whole video', lambda root, layout: shutil.rmtree(
    root / layout.masks / VIDEO), ('{ann}', '{masks}', '{video}', 'expression'), is_long)
add('no mask', replace_png(Path.unlink), PNG, needs_all_png)
add('mask is a folder', replace_png(lambda path: (path.unlink(), path.mkdir())), PNG, by_png)
for mode in ('RGB', 'RGBA', 'LA'):
    add(f'mask of mode {mode}', convert(mode), (*PNG, 'mode'), by_png)
add('mask of 16 bits', replace_png(lambda path: Image.fromarray(
    np.ones((24, 40), dtype=np.uint16)).save(path)), (*PNG, 'mode'), by_png)
for mode in ('L', '1'):
    add(f'mask of mode {mode}', convert(mode), (*PNG, 'mode'), by_palette)
for size in ((24, 40), (41, 24), (20, 12)):
    add(f'mask of size {size}', replace_png(lambda path, s=size: resize(path, s)),
        (*PNG, '(24, 40)'), by_png)
for name, data in {'empty': b'', 'text': b'abc', 'header': b'\x89PNG\r\n\x1a\n'}.items():
    add(f'mask {name}', replace_png(lambda path, d=data: path.write_bytes(d)), PNG, by_png)
add('mask is a JPEG', replace_png(lambda path: Image.open(path).convert('L').save(
    path, format='JPEG')), PNG, by_png)
for seed in range(6):
    add(f'mask cut {seed}', replace_png(lambda path, s=seed: path.write_bytes(
        cut(s)(path.read_bytes()))), PNG, by_png)
for seed in range(12):
    add(f'mask flipped {seed}', replace_png(lambda path, s=seed: flip(path, s)), PNG, by_png)


def without_object(root: Path, layout: Layout) -> None:
    for path in mask_file(root, layout).parent.iterdir():
        image = Image.open(path)
        indices = np.array(image)
        indices[indices == 2] = 0
        spoilt = Image.fromarray(indices)
        spoilt.putpalette(image.getpalette())
        spoilt.save(path)


add('object on no frame', without_object, ('{masks}', '{video}', "'2'", 'none'), by_palette)

# ---- images ----

IMAGE = ('{video}', '00015.jpg')


def write_image(path: Path, shape: tuple[int, ...]) -> None:
    cv2.imwrite(str(path), np.zeros(shape, dtype=np.uint8))


add('no images', lambda root, layout: shutil.rmtree(root / layout.images),
    ('JPEGImages', '.jpg'), lambda layout: 'JPEGImages' in layout.images)
add('no images of a video', lambda root, layout: shutil.rmtree(
    image_file(root, layout).parent), ('{video}', '.jpg'))
add('no image', lambda root, layout: image_file(root, layout).unlink(), IMAGE)
add('image is a folder', lambda root, layout: (
    image_file(root, layout).unlink(), image_file(root, layout).mkdir()), IMAGE)
for name, data in {'empty': b'', 'text': b'abc', 'header': b'\xff\xd8\xff\xe0'}.items():
    add(f'image {name}', lambda root, layout, d=data: image_file(
        root, layout).write_bytes(d), IMAGE)
for shape in ((40, 24, 3), (24, 41, 3), (12, 20, 3)):
    add(f'image of size {shape}', lambda root, layout, s=shape: write_image(
        image_file(root, layout), s), ('{video}', '00015', '(24, 40)'))


# Each corruption in each layout, for training and for testing; else in one after the other.
EXHAUSTIVE = bool(os.environ.get('GLUS_MM_EXHAUSTIVE'))


def cases() -> list:
    result = []
    for number, corruption in enumerate(CORRUPTIONS):
        for mode in corruption.modes:
            names = [name for name, layout in LAYOUTS.items()
                     if corruption.fits(layout) and (mode == 'test' or layout.train)]
            for i, name in enumerate(names):
                if EXHAUSTIVE or i == number % len(names):
                    label = f'{name}-{mode}-{corruption.name}'.encode('ascii', 'backslashreplace')
                    result.append(pytest.param(name, mode, corruption, id=label.decode()))
    return result


CASES = cases()


@pytest.fixture(scope='module')
def trees(tmp_path_factory):
    """Every layout, unspoilt."""
    root = tmp_path_factory.mktemp('trees')
    for name, layout in LAYOUTS.items():
        layout.write(root / name)
    return root


def make_all_samples(layout: Layout, root: Path, mode: str) -> None:
    options = dict(pipeline=masks_pipeline(num_query=8))
    if mode == 'test':
        options.update(test_mode=True, pipeline=pipeline_for_testing())
    dataset = layout.build(root, **options)
    for i in range(len(dataset)):
        item = dataset[i]
        if mode == 'test':
            reader = item['inputs']['reader']
            for t in range(len(reader)):
                reader.read(t)


def test_there_are_enough():
    done = [case.values for case in CASES]
    assert len(done) >= 500
    assert {(name, mode) for name, mode, _ in done} == {
        (name, mode) for name, layout in LAYOUTS.items() for mode in ('train', 'test')
        if mode == 'test' or layout.train}


@pytest.mark.parametrize('mode', ['train', 'test'])
@pytest.mark.parametrize('name', LAYOUTS)
def test_nothing_is_wrong_with_what_is_not_spoilt(trees, name, mode):
    if mode == 'test' or LAYOUTS[name].train:
        make_all_samples(LAYOUTS[name], trees / name, mode)


@pytest.mark.parametrize('name, mode, corruption', CASES)
def test_error_names_file_and_place(trees, tmp_path, name, mode, corruption):
    layout, root = LAYOUTS[name], tmp_path / 'tree'
    shutil.copytree(trees / name, root)
    corruption.change(root, layout)
    with pytest.raises(Exception) as info:
        make_all_samples(layout, root, mode)
    error, text = info.value, str(info.value)
    assert type(error) in PLAIN_ERRORS, repr(error)
    assert 'expected' in text
    for token in corruption.tokens:
        wanted = token.format(video=layout.prefix + VIDEO, ann=Path(layout.ann_file).name,
                              masks=Path(layout.masks).name) if token[0] == '{' else token
        assert wanted in text
