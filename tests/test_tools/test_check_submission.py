"""Zips for the servers: what check_submission.py accepts, and what it refuses."""

import io
import json
import re
import stat
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
from mmengine.logging import MMLogger
from PIL import Image

from glus_mm.evaluation.metrics import RefVOSMetric
from glus_mm.evaluation.submissions import write_submission
from programs import ROOT

TOOL = ROOT / 'tools' / 'analysis_tools' / 'check_submission.py'
SIZE = (12, 16)
VIDEOS = {'v1': (['0', '1'], ['00000', '00005']), 'v2': (['0'], ['00000', '00010', '00020'])}
PREFIX = {'mevis': '', 'ref-youtube-vos': 'Annotations/'}


def png(pixels=None, mode='L', image_format='PNG', size=SIZE):
    if pixels is None:
        pixels = np.zeros(size, np.uint8)
        pixels[2:5, 3:9] = 255
    data = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(data, format=image_format)
    return data.getvalue()


def meta(videos):
    return json.dumps({'videos': {
        video: {'frames': frames, 'expressions': {exp: {'exp': 'a box'} for exp in exps}}
        for video, (exps, frames) in videos.items()}})


def write_annotation(root, layout, images=True):
    """The split of a server; for Ref-YouTube-VOS with a video of the test split."""
    folder = root / 'JPEGImages'
    if layout == 'mevis':
        (root / 'meta_expressions.json').write_text(meta(VIDEOS))
    else:
        folder = root / 'valid' / 'JPEGImages'
        tested = {'t': (['0'], ['00000'])}
        for split, videos in (('valid', {**VIDEOS, **tested}), ('test', tested)):
            (root / 'meta_expressions' / split).mkdir(parents=True)
            (root / 'meta_expressions' / split / 'meta_expressions.json').write_text(meta(videos))
    for video, (_, frames) in VIDEOS.items() if images else ():
        (folder / video).mkdir(parents=True)
        for frame in frames:
            (folder / video / f'{frame}.jpg').write_bytes(png(mode='RGB', image_format='JPEG'))


def entries(layout='mevis'):
    return {f'{PREFIX[layout]}{video}/{exp}/{frame}.png': png()
            for video, (exps, frames) in VIDEOS.items() for exp in exps for frame in frames}


def pack(path, content):
    with zipfile.ZipFile(path, 'w') as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return path


@pytest.fixture
def call(call_tool, monkeypatch):
    # A logger of an earlier test writes to a stream that is closed by now.
    monkeypatch.setattr(MMLogger, '_instance_dict', OrderedDict())

    def run(*args):
        status, out, error = call_tool(TOOL, *args)
        return status, out + error

    return run


@pytest.mark.parametrize('layout', PREFIX)
def test_what_is_written_is_accepted(call, tmp_path, layout):
    write_annotation(tmp_path, layout)
    masks = tmp_path / 'masks'
    for name, data in entries().items():
        (masks / name).parent.mkdir(parents=True, exist_ok=True)
        (masks / name).write_bytes(data)
    path = write_submission(masks, layout, [(v, *parts) for v, parts in VIDEOS.items()])
    assert path == masks / f'{layout}.zip'
    status, text = call(path, '--ann', tmp_path, '--format', layout)
    assert status == 0
    assert 'fit for upload, 2 videos, 3 expressions, 7 masks' in text
    assert f'split has {140 if layout == "mevis" else 202} videos' in text
    assert 'no images' not in text


def test_folders_may_be_listed(call, tmp_path):
    write_annotation(tmp_path, 'ref-youtube-vos')
    content = {'Annotations/': b'', 'Annotations/v1/': b'', 'Annotations/v1/0/': b'',
               **entries('ref-youtube-vos')}
    path = pack(tmp_path / 'a.zip', content)
    assert call(path, '--ann', tmp_path, '--format', 'ref-youtube-vos')[0] == 0


def test_what_to_pack(tmp_path, call):
    with pytest.raises(FileNotFoundError):
        write_submission(tmp_path, 'mevis', [('v', ['0'], ['00000'])])
    assert not list(tmp_path.iterdir())
    # MeViSv2's zip is MeViS's.
    write_annotation(tmp_path, 'mevis')
    for name, data in entries().items():
        (tmp_path / 'masks' / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / 'masks' / name).write_bytes(data)
    found = call(tmp_path / 'v2.zip', '--format', 'mevis-v2', '--ann', tmp_path,
                 '--pack', tmp_path / 'masks')
    assert found[0] == 0
    with zipfile.ZipFile(tmp_path / 'v2.zip') as archive:
        assert set(archive.namelist()) == set(entries())
    (tmp_path / 'masks' / 'v1' / '1' / '00005.png').unlink()
    found = call(tmp_path / 'again.zip', '--format', 'mevis-v2', '--ann', tmp_path,
                 '--pack', tmp_path / 'masks')
    assert found[0] == 2 and not (tmp_path / 'again.zip').exists()


def replace(name, data):
    return lambda content: content.__setitem__(name, data)


def grey():
    pixels = np.zeros(SIZE, np.uint8)
    pixels[3, 3] = 128
    return pixels


FIRST = 'v1/0/00000.png'
PLACE = r"video 'v1', expression '0', frame '00000'"
PROBLEMS = {
    'a frame is missing': (lambda c: c.pop('v2/0/00010.png'),
                           r"video 'v2', expression '0': expected 3 masks, 1 .* 'v2/0/00010.png'"),
    'an expression is missing': (lambda c: [c.pop(n) for n in list(c) if n.startswith('v1/1')],
                                 r"video 'v1', expression '1': expected 2 masks, 2 are missing"),
    'everything is missing': (lambda c: c.clear(), r"video 'v1', expression '0': .* 2 are missing"),
    'a frame too many': (replace('v1/0/00001.png', png()),
                         r"entry 'v1/0/00001.png': expected only"),
    'an expression too many': (replace('v1/7/00000.png', png()), r"entry 'v1/7/00000.png'"),
    'a video too many': (replace('x/0/00000.png', png()), r"entry 'x/0/00000.png'"),
    'a text': (replace('readme.txt', b''), r"entry 'readme.txt': expected only masks"),
    'rubbish of a Mac': (replace('__MACOSX/._v1', b''), r"entry '__MACOSX/._v1'"),
    'a folder too many': (replace('empty/', b''), r"entry 'empty/': expected only folders"),
    'in a folder': (lambda c: [c.__setitem__(f'Annotations/{n}', c.pop(n)) for n in list(c)],
                    r"entry 'Annotations/v1/0/00000.png': expected only masks"),
    'a path that climbs': (replace('../evil.png', png()), r"entry '../evil.png': .*relative path"),
    'a path that climbs inside': (replace('v1/../../e.png', png()), r"relative path"),
    'an absolute path': (replace('/etc/passwd', b''), r"entry '/etc/passwd': .*relative path"),
    'a path of Windows': (replace('v1\\0\\00000.png', png()), r'relative path'),
    'a drive': (replace('C:/v1/0/00000.png', png()), r'relative path'),
    'no image': (replace(FIRST, b'x'), PLACE),
    'empty': (replace(FIRST, b''), PLACE + '.*an empty file'),
    'cut': (replace(FIRST, png()[:-30]), PLACE),
    'a JPEG': (replace(FIRST, png(image_format='JPEG')), PLACE),
    'a palette': (replace(FIRST, png(mode='P')), 'mode L for ' + PLACE + ', got mode P'),
    'colours': (replace(FIRST, png(mode='RGB')), PLACE + ', got mode RGB'),
    'one bit': (replace(FIRST, png(mode='1')), PLACE + ', got mode 1'),
    'values of one': (replace(FIRST, png(np.ones(SIZE, np.uint8))), '0 and 255 for .*got 1'),
    'grey': (replace(FIRST, png(grey())), f'0 and 255 for {PLACE}, got 128'),
    'another size': (replace(FIRST, png(size=(16, 12))), r'\(12, 16\) for ' + PLACE),
    'far too large': (replace(FIRST, png() + b'\0' * 100000), 'at most .* bytes for ' + PLACE),
}


@pytest.mark.parametrize('name', PROBLEMS)
def test_problems(call, tmp_path, name):
    edit, message = PROBLEMS[name]
    write_annotation(tmp_path, 'mevis')
    content = entries()
    edit(content)
    path = pack(tmp_path / 'a.zip', content)
    before = sorted(tmp_path.rglob('*'))
    status, text = call(path, '--ann', tmp_path, '--format', 'mevis')
    assert status == 1 and 'not fit for upload' in text
    assert re.search(message, text), text
    assert 'Traceback' not in text
    assert sorted(tmp_path.rglob('*')) == before, 'nothing is unpacked'


def test_all_problems_are_listed(call, tmp_path):
    write_annotation(tmp_path, 'mevis')
    content = entries()
    content.update({FIRST: b'x', 'v2/0/00020.png': png(grey())})
    del content['v2/0/00000.png']
    path = pack(tmp_path / 'a.zip', content)
    status, text = call(path, '--ann', tmp_path, '--format', 'mevis')
    assert status == 1 and '3 problems' in text
    text = call(path, '--ann', tmp_path, '--format', 'mevis', '--max-problems', 2)[1]
    assert '2 or more problems' in text


def test_duplicates_links_and_encryption(call, tmp_path):
    write_annotation(tmp_path, 'mevis')
    path = tmp_path / 'a.zip'
    with zipfile.ZipFile(path, 'w') as archive:
        for name, data in entries().items():
            info = zipfile.ZipInfo(name)
            if name == 'v1/1/00000.png':
                info.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(info, data)
        with pytest.warns(UserWarning, match='Duplicate'):
            archive.writestr(FIRST, png())
    data = bytearray(path.read_bytes())
    data[data.rindex(b'PK\x01\x02') + 8] |= 1  # of the last entry, the second FIRST
    status, text = call(path, '--ann', tmp_path, '--format', 'mevis')
    assert status == 1
    assert f"entry '{FIRST}': expected it once, got it twice" in text
    assert "entry 'v1/1/00000.png': expected a file, got a symbolic link" in text
    path.write_bytes(bytes(data))
    assert 'expected no encryption' in call(path, '--ann', tmp_path, '--format', 'mevis')[1]


def test_damaged_entry(call, tmp_path):
    write_annotation(tmp_path, 'mevis')
    path = pack(tmp_path / 'a.zip', entries())
    data = bytearray(path.read_bytes())
    data[data.index(b'IDAT') + 10] ^= 1
    path.write_bytes(bytes(data))
    status, text = call(path, '--ann', tmp_path, '--format', 'mevis')
    assert status == 1 and 'cannot be unpacked: Bad CRC-32' in text


@pytest.mark.parametrize('images', [True, False])
def test_sizes_without_images(call, tmp_path, images):
    """Without images, the masks of a video must at least agree."""
    write_annotation(tmp_path, 'mevis', images)
    larger = {name: png(size=(24, 32)) if name.startswith('v2') else data
              for name, data in entries().items()}
    path = pack(tmp_path / 'a.zip', larger)
    status, text = call(path, '--ann', tmp_path, '--format', 'mevis')
    assert status == (1 if images else 0)
    assert ('no images' in text) != images
    larger['v2/0/00020.png'] = png()
    pack(path, larger)
    status, text = call(path, '--ann', tmp_path, '--format', 'mevis')
    assert status == 1
    assert f"expression '0', frame '{'00000' if images else '00020'}'" in text


def test_no_zip_and_no_annotation(call, tmp_path):
    write_annotation(tmp_path, 'mevis')
    path = tmp_path / 'a.zip'
    for content, message in ((None, 'expected a zip file, got nothing there'),
                             (b'', 'expected a zip file'), (b'x' * 100, 'expected a zip file')):
        if content is not None:
            path.write_bytes(content)
        status, text = call(path, '--ann', tmp_path, '--format', 'mevis')
        assert status == 2 and message in text and 'Traceback' not in text
    pack(path, entries())
    status, text = call(path, '--ann', tmp_path / 'no', '--format', 'mevis')
    assert status == 2 and 'no: expected a folder with annotations' in text
    status, text = call(path, '--ann', tmp_path, '--format', 'ref-youtube-vos')
    assert status == 2 and 'meta_expressions' in text


def test_mose(tmp_path, call):
    """Label maps, one for each frame, mode P or L."""
    write_annotation(tmp_path, 'mevis')
    labels = np.zeros(SIZE, np.uint8)
    labels[2:4], labels[7] = 1, 3
    for video, (_, frames) in VIDEOS.items():
        (tmp_path / 'masks' / video).mkdir(parents=True)
        for frame in frames:
            (tmp_path / 'masks' / video / f'{frame}.png').write_bytes(
                png(labels, 'P' if video == 'v1' else 'L'))
    options = ('--format', 'mose-v2', '--ann', tmp_path, '--pack', tmp_path / 'masks')
    assert call(tmp_path / 'mose.zip', *options)[0] == 0
    with zipfile.ZipFile(tmp_path / 'mose.zip') as archive:
        assert 'v2/00010.png' in archive.namelist() and len(archive.namelist()) == 5
    (tmp_path / 'masks' / 'v2' / '00010.png').write_bytes(png(labels, 'RGB'))
    status, log = call(tmp_path / 'mose.zip', *options)
    assert status == 1
    assert "expected a PNG file of mode P or L for video 'v2', frame '00010', got mode RGB" in log
    content = {f'v1/{frame}.png': png(labels) for frame in VIDEOS['v1'][1]}
    status, log = call(pack(tmp_path / 'part.zip', content), *options[:4])
    assert status == 1 and "video 'v2': expected 3 masks, 3 are missing" in log
    with pytest.raises(ValueError, match="zip must be one of .'mevis-v2', 'mevis', 'ref"):
        RefVOSMetric(zip='mose-v2', output_dir=str(tmp_path / 'out'))
