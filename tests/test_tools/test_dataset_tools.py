"""Converters of annotations and the tool that reads all of a data set, as commands."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

import programs
from glus_mm.datasets import RefDAVISDataset
from glus_mm.utils.masks import decode_rle, encode_mask
from programs import ROOT

TOOLS = ROOT / 'tools'
SHAPE = (20, 30)
# Objects of each video; 10 comes before 2 among texts.
OBJECTS = {'bear': [1], 'crowd': list(range(1, 11)), 'dogs-scale': [1, 2]}


ref_davis, ref_davis_masks, revos_foreground, check_dataset = (
    programs.load(TOOLS / f'{name}.py').main for name in (
        'dataset_converters/ref_davis', 'dataset_converters/ref_davis_masks',
        'dataset_converters/revos_foreground', 'analysis_tools/check_dataset'))


def object_mask(obj: int, frame: int) -> np.ndarray:
    """A column for each object; the even ones are hidden on frame 1."""
    mask = np.zeros(SHAPE, dtype=bool)
    if obj % 2 or frame != 1:
        mask[frame:10 + frame, 2 * obj:2 * obj + 2] = True
    return mask


def write_davis(root: Path) -> Path:
    """DAVIS 2017 with the texts of Ref-DAVIS17, as they are downloaded."""
    for video, objects in OBJECTS.items():
        images = root / 'DAVIS/JPEGImages/480p' / video
        masks = root / 'DAVIS/Annotations_unsupervised/480p' / video
        images.mkdir(parents=True)
        masks.mkdir(parents=True)
        for t in range(3):
            cv2.imwrite(str(images / f'{t:05d}.jpg'), np.zeros((*SHAPE, 3), dtype=np.uint8))
            indices = np.zeros(SHAPE, dtype=np.uint8)
            for obj in objects:
                indices[object_mask(obj, t)] = obj
            indices[-1] = 255
            image = Image.fromarray(indices)
            image.putpalette([0, 0, 0] + [90] * 765)
            image.save(masks / f'{t:05d}.png')
    sets = root / 'DAVIS/ImageSets/2017'
    sets.mkdir(parents=True)
    (sets / 'train.txt').write_text('bear\n')
    (sets / 'val.txt').write_text('dogs-scale\ncrowd\n')
    texts = root / 'texts'
    texts.mkdir()
    for number, name in enumerate(('annot1', 'annot1_full_video', 'annot2', 'annot2_full_video')):
        lines = []
        for video, objects in OBJECTS.items():
            slip = 'dog-scale' if video == 'dogs-scale' and number == 1 else video
            lines += [f'{slip} {obj} "caf\u00e9 {video}  {obj} by {number}"' for obj in objects]
        (texts / f'Davis17_{name}.txt').write_bytes(
            '\n'.join(lines).encode('latin-1' if number > 1 else 'utf-8'))
    return root


@pytest.fixture
def davis(tmp_path):
    return write_davis(tmp_path)


@pytest.mark.parametrize('copy', [False, True])
def test_ref_davis_from_the_downloads_to_masks(davis, copy):
    out = davis / 'new' / 'DAVIS17'
    arguments = [str(davis / 'DAVIS'), str(davis / 'texts'), str(out)]
    assert ref_davis(arguments + ['--copy'] * copy) == 0
    assert (out / 'valid/JPEGImages/crowd').is_symlink() is not copy
    meta = json.loads((out / 'meta_expressions/valid/meta_expressions.json').read_text())
    crowd = meta['videos']['crowd']['expressions']
    assert [entry['obj_id'] for entry in crowd.values()][::4] == [
        '1', '10', '2', '3', '4', '5', '6', '7', '8', '9']
    assert crowd['6'] == {'exp': 'caf\u00e9 crowd 10 by 2', 'obj_id': '10'}
    assert meta['videos']['dogs-scale']['expressions']['1']['exp'] == \
        'caf\u00e9 dogs-scale 1 by 1'
    assert meta['videos']['crowd']['frames'] == ['00000', '00001', '00002']
    assert ref_davis_masks([str(out)]) == 0
    masks = json.loads((out / 'valid/mask_dict.json').read_text())
    assert list(masks) == [str(i) for i in range(48)]
    # The third key is expression 10 of the first video in sorted order.
    assert crowd['10']['obj_id'] == '2'
    assert masks['2'][1] is None
    assert np.array_equal(decode_rle(masks['2'][2]), object_mask(2, 2))
    options = dict(data_root=str(out), test_mode=True,
                   ann_file='meta_expressions/valid/meta_expressions.json')
    infos = []
    for path in ('valid/Annotations', 'valid/mask_dict.json'):
        dataset = RefDAVISDataset(
            data_prefix=dict(img='valid/JPEGImages', mask=path), **options)
        infos.append([[dataset.masks.rles(item, t, SHAPE) for t in range(3)] for i in range(2)
                      for item in dataset.get_data_info(i)['expressions']])
    assert infos[0] == infos[1] and len(infos[0]) == 48


def test_ref_davis_does_not_overwrite(davis, capsys):
    arguments = [str(davis / 'DAVIS'), str(davis / 'texts'), str(davis / 'out')]
    assert ref_davis(arguments) == 0 and ref_davis(arguments) == 1
    assert 'got one that is there' in capsys.readouterr().err
    assert ref_davis_masks([str(davis / 'out'), '--split', 'train']) == 0
    assert ref_davis_masks([str(davis / 'out'), '--split', 'train']) == 1
    assert '--overwrite replaces it' in capsys.readouterr().err
    assert ref_davis_masks([str(davis / 'out'), '--split', 'train', '--overwrite']) == 0


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding='latin-1')
    assert old in text
    path.write_text(text.replace(old, new), encoding='latin-1')


ANNOT1, ANNOT2 = 'texts/Davis17_annot1.txt', 'texts/Davis17_annot2_full_video.txt'
SETS = 'DAVIS/ImageSets/2017'


@pytest.mark.parametrize('spoil, message', [
    (lambda root: (root / ANNOT1).unlink(), 'Davis17_annot1.txt'),
    (lambda root: edit(root / ANNOT2, 'bear 1 ', 'bear one '), 'Davis17_annot2_full_video.txt, '
     'line 1: expected <video> <object>'),
    (lambda root: edit(root / ANNOT2, 'crowd 2 ', 'crowd 1 '), 'line 3: expected one expression'),
    (lambda root: edit(root / ANNOT2, 'crowd 2 ', 'crowd 11 '),
     "Davis17_annot1.txt: video 'crowd': "
     'expected an expression for object 11'),
    (lambda root: edit(root / ANNOT1, '"caf\u00c3\u00a9 bear  1 by 0"', '""'),
     'annot1.txt, line 1'),
    (lambda root: (root / SETS / 'val.txt').unlink(), 'val.txt'),
    (lambda root: (root / SETS / 'val.txt').write_text(''), 'val.txt: expected at least one video'),
    (lambda root: (root / SETS / 'val.txt').write_text('../x'), "val.txt: expected an id .*'../x'"),
    (lambda root: (root / SETS / 'val.txt').write_text('cat'), "video 'cat': expected frames in"),
    (lambda root: shutil.rmtree(root / 'DAVIS/Annotations_unsupervised/480p/bear'),
     "video 'bear': expected the folder"),
])
def test_ref_davis_says_what_is_wrong(davis, capsys, spoil, message):
    import re
    spoil(davis)
    assert ref_davis([str(davis / 'DAVIS'), str(davis / 'texts'), str(davis / 'out')]) == 1
    assert re.search(message, capsys.readouterr().err)
    # Nothing is left behind.
    assert sorted(path.name for path in davis.iterdir()) == ['DAVIS', 'texts']


def write_revos(root: Path) -> Path:
    masks = {str(obj): [encode_mask(object_mask(obj, t)) if object_mask(obj, t).any() else None
                        for t in range(3)] for obj in (1, 2, 3)}
    (root / 'mask_dict.json').write_text(json.dumps(masks))
    expressions = {'0': [1], '1': [1, 2], '2': []}
    for split, video in (('train', 'UVO/all/a'), ('valid', 'b')):
        (root / f'meta_expressions_{split}_.json').write_text(json.dumps({'videos': {video: {
            'height': SHAPE[0], 'width': SHAPE[1], 'frames': ['0', '1', '2'], 'expressions': {
                key: {'exp': 'x', 'obj_id': ids, 'anno_id': ids, 'type_id': 0}
                for key, ids in expressions.items()}}}}))
    return root


def test_revos_foreground(tmp_path, capsys):
    root = write_revos(tmp_path)
    assert revos_foreground([str(root)]) == 0
    written = json.loads((root / 'mask_dict_foreground.json').read_text())
    assert list(written) == ['UVO/all/a', 'b']
    for entry in written.values():
        for t in range(3):
            union = object_mask(1, t) | object_mask(2, t)
            assert np.array_equal(decode_rle(entry['masks_rle'][t]), union)
            assert entry['foreground_ratio'][t] == union.mean()
    assert revos_foreground([str(root)]) == 1
    assert '--overwrite' in capsys.readouterr().err
    assert revos_foreground([str(root), '--overwrite', '--ann', 'meta_expressions_valid_.json',
                             'meta_expressions_valid_.json']) == 1
    assert "no other annotation has, got 'b'" in capsys.readouterr().err
    (root / 'mask_dict.json').unlink()
    assert revos_foreground([str(root), '--overwrite']) == 1
    assert 'mask_dict.json' in capsys.readouterr().err
    assert len(list(root.iterdir())) == 3
    (tmp_path / 'empty').mkdir()
    assert revos_foreground([str(tmp_path / 'empty')]) == 1
    assert 'meta_expressions_train_.json' in capsys.readouterr().err


def test_revos_foreground_is_the_official_one(evaluators, tmp_path):
    out = tmp_path / 'foreground.json'
    assert revos_foreground([str(evaluators / 'revos'), '--out', str(out)]) == 0
    official = evaluators / 'revos' / 'mask_dict_foreground.json'
    assert json.loads(out.read_text()) == json.loads(official.read_text())


def write_config(path: Path, **dataset) -> str:
    path.write_text(f'train_dataloader = dict(dataset={dataset!r})\n')
    return str(path)


def test_check_dataset(davis, capsys):
    out = davis / 'out'
    assert ref_davis([str(davis / 'DAVIS'), str(davis / 'texts'), str(out), '--copy']) == 0
    part = dict(type='RefDAVISDataset', data_root=str(out), pipeline=[dict(type='NoSuch')],
                ann_file='meta_expressions/valid/meta_expressions.json',
                data_prefix=dict(img='valid/JPEGImages', mask='valid/Annotations'))
    config = write_config(davis / 'a.py', **part)
    assert check_dataset([config]) == 0
    assert 'ref_davis: 2 videos, 48 expressions, with masks' in capsys.readouterr().out
    mixed = write_config(davis / 'b.py', type='MixedRefVOSDataset', datasets=[part, part])
    assert check_dataset([mixed]) == 0
    (out / 'valid/JPEGImages/crowd/00001.jpg').write_bytes(b'x')
    (out / 'valid/Annotations/dogs-scale/00002.png').unlink()
    assert check_dataset([config]) == 1
    printed = capsys.readouterr()
    text = printed.out + printed.err
    assert 'crowd/00001.jpg' in text and text.count('dogs-scale/00002.png') == 8
    assert '9 errors' in text
    assert check_dataset([config, '--max-errors', '3']) == 1
    assert 'stopped after' in capsys.readouterr().out
    assert check_dataset([config, '--phase', 'test']) == 1
    assert 'expected test_dataloader' in capsys.readouterr().err
    assert check_dataset([str(davis / 'c.py')]) == 1
    assert 'expected a config file' in capsys.readouterr().err
    assert check_dataset([config, '--cfg-options', 'train_dataloader.dataset.data_root=no']) == 1
    assert 'meta_expressions.json' in capsys.readouterr().err
