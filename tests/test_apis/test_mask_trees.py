"""Whatever is wrong with a tree of predictions is an error that names the place.

Each of the corruptions is done to a tree of each layout. Before, the tree evaluates; after, it must
be refused with a message of one line that says file, video and expression, and what was expected.
"""

import json
import os
import shutil
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from glus_mm.apis.mask_evaluation import evaluate_masks

VIDEO, FRAME = '0a1b2c3d4e5f', '00005'
# Annotation, predictions, and the folder with the predictions that are corrupted.
LAYOUTS = {
    'mevis': ('mevis/valid_u', 'pred', f'{VIDEO}/1'),
    'revos': ('revos', 'pred', f'{VIDEO}/1'),
    'reason-vos': ('reasonvos', 'pred', f'{VIDEO}/2'),
    'ref-davis-glus': ('refdavis', 'pred_refdavis_exp', 'boat-a/1'),
    'ref-davis': ('davis', 'pred_davis', 'anno_1/boat-a'),
    'davis-semi': ('davis', 'pred_davis/anno_0', 'boat-a'),
    'davis-unsup': ('davis', 'pred_davis/anno_0', 'boat-a'),
    'long-rvos': ('longrvos/valid', 'longrvos/pred', 'vid004/1'),
    'ref-sav': ('ref_sav/valid', 'ref_sav/pred', 'sav_000001/1'),
    'groundmore': ('groundmore', 'groundmore/pred', 'x_y-z_0100_0107/1'),
    'mose-v2': ('mose', 'mose/pred', 'm1small'),
}
FRAMES = {'ref-sav': '00004', 'groundmore': '0000004'}
BINARY = ('mevis', 'revos', 'reason-vos', 'ref-davis-glus', 'long-rvos', 'ref-sav', 'groundmore')
LABELS = ('ref-davis', 'davis-semi', 'davis-unsup', 'mose-v2')
ALL = BINARY + LABELS


def cut_down(root):
    """Leave two small videos in each annotation, so that a run takes little time."""
    for name in ('mevis/valid_u/meta_expressions.json', 'revos/meta_expressions_valid_.json',
                 'reasonvos/meta_expressions.json'):
        content = json.loads((root / name).read_text())
        for video in ('b7_under_score', 'c480p0000001', 'd4edgecases0'):
            content['videos'].pop(video, None)
        if 'reasonvos' in name:
            del content['videos'][VIDEO]['expressions'][2]
        (root / name).write_text(json.dumps(content))
    shutil.rmtree(root / 'pred' / 'c480p0000001')
    # The keys of this mask_dict.json count all expressions, so that all videos stay; the last one
    # becomes small.
    (root / 'davis' / 'ImageSets' / '2017' / 'val.txt').write_text('boat-a\ndog-b\n')
    for folder in (*root.glob('pred_davis/anno_*'), ):
        for sequence in ('car-c', 'late-d'):
            shutil.rmtree(folder / sequence)
    # Videos and expressions without missing masks.
    keep(root / 'longrvos/valid/meta_expressions.json', ('vid004', ))
    for video in ('vid000', 'vid002', 'vid003', 'vid005'):
        shutil.rmtree(root / 'longrvos/pred' / video)
    keep(root / 'ref_sav/valid/meta_expressions_valid.json', ('sav_000001', 'sav_000002'))
    keep(root / 'groundmore/test_v2.json', ('x_y-z_0100_0107', ), 'questions', '2')
    for folder in ('abcd_0010_0015', 'x_y-z_0100_0107/2'):
        shutil.rmtree(root / 'groundmore/pred' / folder)
    for video in (root / 'mose/Annotations').iterdir():
        if video.name not in ('m1small', 'm5tiny'):
            shutil.rmtree(video)
            shutil.rmtree(root / 'mose/pred' / video.name, ignore_errors=True)


def keep(path, videos, key='expressions', but=None):
    """Keep some videos of an annotation, and of them all expressions but one."""
    content = json.loads(path.read_text())
    content['videos'] = {video: content['videos'][video] for video in videos}
    for video in content['videos'].values():
        video[key].pop(but, None)
    path.write_text(json.dumps(content))


@pytest.fixture(scope='module')
def sources(evaluators, recent_evaluators, tmp_path_factory):
    root = tmp_path_factory.mktemp('sources')
    for part in (*evaluators.iterdir(), *recent_evaluators.iterdir()):
        (shutil.copytree if part.is_dir() else shutil.copy)(part, root / part.name)
    cut_down(root)
    return root


class Tree:
    """A tree of predictions to corrupt."""

    def __init__(self, root, part, frame=FRAME):
        self.root = root
        self.folder = root / part
        self.file = self.folder / f'{frame}.png'

    @property
    def pixels(self):
        return np.asarray(Image.open(self.file))

    def save(self, image):
        image.save(self.file, format='PNG')


@pytest.fixture
def corrupt(sources, tmp_path):
    """Copy a tree, corrupt it, and return the error's message and the tree."""

    def run(protocol, edit, **options):
        ann, pred, part = LAYOUTS[protocol]
        # Links, which cost nothing, but for the files that may be written into.
        shutil.copytree(sources / pred, tmp_path / 'pred', copy_function=os.link)
        tree = Tree(tmp_path / 'pred', part, FRAMES.get(protocol, FRAME))
        shutil.rmtree(tree.folder)
        shutil.copytree(sources / pred / part, tree.folder)
        edit(tree)
        before = sorted(str(path) for path in tmp_path.rglob('*'))
        with pytest.raises((ValueError, OSError)) as error:
            evaluate_masks(protocol, sources / ann, tree.root, **options)
        assert sorted(str(path) for path in tmp_path.rglob('*')) == before, 'nothing is written'
        message = str(error.value)
        assert 'expected' in message and '\n' not in message
        assert str(tmp_path) in message
        return message, tree

    return run


def write(data):
    return lambda tree: tree.file.write_bytes(data)


def cut(share):
    def edit(tree):
        data = tree.file.read_bytes()
        tree.file.write_bytes(data[:int(len(data) * share)])
    return edit


def flip(tree):
    data = bytearray(tree.file.read_bytes())
    data[data.index(b'IDAT') + 12] ^= 0x10
    tree.file.write_bytes(bytes(data))


def convert(mode):
    return lambda tree: tree.save(Image.fromarray(tree.pixels).convert(mode))


def sixteen_bit(tree):
    tree.save(Image.fromarray(tree.pixels.astype(np.uint16) * 257))


def reshape(change):
    def edit(tree):
        image = Image.fromarray(change(tree.pixels))
        tree.save(image)
    return edit


def as_format(name):
    def edit(tree):
        data = BytesIO()
        Image.fromarray(tree.pixels).convert('L').save(data, format=name)
        tree.file.write_bytes(data.getvalue())
    return edit


def to_folder(tree):
    tree.file.unlink()
    tree.file.mkdir()


def to_dangling_link(tree):
    tree.file.unlink()
    os.symlink('nowhere.png', tree.file)


# What is done to one file; all name it, its video and expression (or sequence), and its frame.
FILES = {
    'empty': write(b''),
    'text': write(b'no image'),
    'a web page': write(b'<html>404</html>'),
    'head only': write(b'\x89PNG\r\n\x1a\n'),
    'cut in half': cut(0.5),
    'cut to nine tenths': cut(0.9),
    'a bit flipped': flip,
    'a JPEG': as_format('JPEG'),
    'a TIFF': as_format('TIFF'),
    'colours': convert('RGB'),
    'colours with alpha': convert('RGBA'),
    'grey with alpha': convert('LA'),
    'one bit': convert('1'),
    'sixteen bits': sixteen_bit,
    'transposed': reshape(lambda pixels: pixels.T),
    'half as large': reshape(lambda pixels: pixels[::2, ::2]),
    'a row less': reshape(lambda pixels: pixels[:-1]),
    'a column more': reshape(lambda pixels: np.pad(pixels, ((0, 0), (0, 1)))),
    'one pixel': reshape(lambda pixels: pixels[:1, :1]),
    'missing': lambda tree: tree.file.unlink(),
    'a folder': to_folder,
    'a link to nothing': to_dangling_link,
}


@pytest.mark.parametrize('name', FILES)
@pytest.mark.parametrize('protocol', ALL)
def test_file(corrupt, protocol, name):
    message, tree = corrupt(protocol, FILES[name])
    assert str(tree.file) in message
    assert_names_place(message, protocol)
    assert f'frame {FRAMES.get(protocol, FRAME)!r}' in message


def assert_names_place(message, protocol):
    parts = LAYOUTS[protocol][2].split('/')
    if protocol in BINARY:
        assert f'video {parts[0]!r}, expression {parts[1]!r}' in message
    else:
        assert f'sequence {parts[-1]!r}' in message
        assert protocol != 'ref-davis' or parts[0] in message


def rename_frame(name):
    """Rename a frame; ``{}`` stands for its name."""
    return lambda tree: tree.file.rename(tree.folder / name.format(tree.file.stem))


def add_file(name):
    return lambda tree: shutil.copy(tree.file, tree.folder / name.format(tree.file.stem))


def replace_folder(tree):
    shutil.rmtree(tree.folder)
    tree.folder.write_text('')


def empty_folder(tree):
    shutil.rmtree(tree.folder)
    tree.folder.mkdir()


def number_from_one(tree):
    for file in sorted(tree.folder.iterdir(), reverse=True):
        file.rename(tree.folder / f'{int(file.stem) + 1:05d}.png')


# What is done to the folder of an expression or sequence; all name it, its video and expression.
FOLDERS = {
    'missing': lambda tree: shutil.rmtree(tree.folder),
    'empty': empty_folder,
    'a file': replace_folder,
    'renamed': lambda tree: tree.folder.rename(tree.folder.with_name('renamed')),
    'with a frame too many': add_file('00099.png'),
    'with a frame of another name': rename_frame('5.png'),
    'with a capital suffix': rename_frame('{}.PNG'),
    'with a JPEG': rename_frame('{}.jpg'),
    'with a backup': add_file('{}.png~'),
    'with a text': lambda tree: (tree.folder / 'notes.txt').write_text(''),
    'with a folder': lambda tree: (tree.folder / 'more').mkdir(),
    'numbered from one': number_from_one,
    'one level too deep': lambda tree: shutil.move(tree.folder, tree.folder.with_name('x'))
    and shutil.move(tree.folder.with_name('x'), tree.folder / 'x'),
}


@pytest.mark.parametrize('name', FOLDERS)
@pytest.mark.parametrize('protocol', ALL)
def test_folder(corrupt, protocol, name):
    message, tree = corrupt(protocol, FOLDERS[name])
    if name == 'renamed':
        assert str(tree.folder.parent / 'renamed') in message
        assert protocol in LABELS or f'video {tree.folder.parent.name!r}' in message
    else:
        assert str(tree.folder) in message
        assert_names_place(message, protocol)


def move_up(tree):
    """Leave one level out, as if the frames lay beside the expressions."""
    for file in tree.folder.iterdir():
        file.rename(tree.folder.parent / file.name)
    tree.folder.rmdir()


def swap_for_file(tree):
    shutil.rmtree(tree.root)
    tree.root.write_text('')


def one_level_higher(tree):
    tree.root.rename(tree.root.with_name('moved'))
    tree.root.mkdir()
    shutil.move(tree.root.with_name('moved'), tree.root / 'inside')


TREES = {
    'missing': lambda tree: shutil.rmtree(tree.root),
    'a file': swap_for_file,
    'empty': lambda tree: shutil.rmtree(tree.root) or tree.root.mkdir(),
    'one level higher': one_level_higher,
    'with a frame beside the folders': lambda tree: shutil.copy(tree.file, tree.folder.parent),
    'with frames one level higher': move_up,
    'with an empty folder': lambda tree: (tree.folder.parent / '77').mkdir(),
}


@pytest.mark.parametrize('name', TREES)
@pytest.mark.parametrize('protocol', ALL)
def test_tree(corrupt, protocol, name):
    message, tree = corrupt(protocol, TREES[name])
    assert str(tree.root) in message


def copy_folder(name, change=lambda folder: None):
    def edit(tree):
        new = tree.folder.with_name(name)
        shutil.copytree(tree.folder, new)
        change(new)
    return edit


EXTRA_EXPRESSIONS = {
    'no number': copy_folder('extra'),
    'a copy': copy_folder('1 (copy)'),
    'a frame less': copy_folder('44', lambda folder: max(folder.iterdir()).unlink()),
    'a frame more': copy_folder('44', lambda folder: shutil.copy(
        max(folder.iterdir()), folder / '00099.png')),
}


@pytest.mark.parametrize('name', EXTRA_EXPRESSIONS)
@pytest.mark.parametrize('protocol', BINARY)
def test_extra_expression(corrupt, protocol, name):
    message, tree = corrupt(protocol, EXTRA_EXPRESSIONS[name])
    assert f'video {tree.folder.parent.name!r}' in message
    assert 'expected only the folders' in message


@pytest.mark.parametrize('protocol', ALL)
def test_extra_predictions_can_be_refused(corrupt, protocol):
    message, _ = corrupt(protocol, copy_folder('44'), extra='error')
    assert '44' in message or f'{VIDEO}/' in message or 'b7_under_score' in message


def test_extra_annotator(corrupt):
    message, tree = corrupt('ref-davis', lambda tree: shutil.copytree(
        tree.root / 'anno_1', tree.root / 'anno_4'))
    assert str(tree.root / 'anno_4') in message and "'anno_0', 'anno_1'" in message


@pytest.mark.parametrize('value', [4, 20, 21, 254, 255])
@pytest.mark.parametrize('protocol', LABELS)
def test_labels(corrupt, sources, protocol, value):
    def edit(tree):
        pixels = tree.pixels.copy()
        pixels[0, 0] = value
        tree.save(Image.fromarray(pixels))

    if protocol == 'mose-v2' or value <= 20 and protocol != 'davis-semi':
        return  # proposals: up to 20 of them are allowed; of MOSE other numbers are background
    message, tree = corrupt(protocol, edit)
    assert f'got {value}' in message and str(tree.file) in message
    assert_names_place(message, protocol)


@pytest.mark.parametrize('protocol', BINARY)
def test_palette(corrupt, protocol):
    message, tree = corrupt(protocol, convert('P'))
    assert 'mode L' in message and 'mode P' in message
    assert_names_place(message, protocol)


def to_one(tree):
    for file in tree.folder.iterdir():
        pixels = np.asarray(Image.open(file))
        Image.fromarray((pixels > 0).astype(np.uint8)).save(file)


@pytest.mark.parametrize('options', [{}, dict(pred_values=255)])
def test_values_of_one_where_255_is_said(corrupt, options):
    message, _ = corrupt('revos', to_one, **options)
    assert 'value 255' in message and 'highest value 1' in message and 'pred_values=1' in message
    assert_names_place(message, 'revos')


def test_values_of_one(sources, tmp_path):
    """J and F do not care; A and R are what masks of 255 give with pred_values=1."""
    shutil.copytree(sources / 'pred', tmp_path / 'pred')
    for folder in (tmp_path / 'pred' / VIDEO).iterdir():
        to_one(Tree(tmp_path / 'pred', f'{VIDEO}/{folder.name}'))
    for protocol, options in (('mevis', {}), ('revos', dict(pred_values=1))):
        results = [evaluate_masks(protocol, sources / LAYOUTS[protocol][0], root / 'pred',
                                  **options).document() for root in (tmp_path, sources)]
        assert results[0] == results[1]
    with pytest.raises(ValueError, match='highest value 1'):
        evaluate_masks('mevis', sources / 'mevis/valid_u', tmp_path / 'pred', pred_values=255)


def test_what_is_left_alone(sources, tmp_path):
    """Hidden files, files beside the videos, and predictions nobody asked for."""
    shutil.copytree(sources / 'pred', tmp_path / 'pred')
    (tmp_path / 'pred' / 'mevis.zip').write_bytes(b'')
    (tmp_path / 'pred' / '.DS_Store').write_bytes(b'')
    (tmp_path / 'pred' / VIDEO / '0' / '.DS_Store').write_bytes(b'')
    (tmp_path / 'pred' / '__MACOSX').mkdir()
    (tmp_path / 'pred' / VIDEO / 'seconds.json').write_text('{}')
    found, expected = (evaluate_masks('mevis', sources / 'mevis/valid_u', root / 'pred').document()
                       for root in (tmp_path, sources))
    assert found == expected
    assert found['notes']['not_asked_for'] == ['b7_under_score', 'd4edgecases0', f'{VIDEO}/4']


# The annotations that the data sets do not read as well, which are spoilt in test_datasets.
def edit_json(name, change):
    def edit(root):
        content = json.loads((root / name).read_text())
        change(content)
        (root / name).write_text(json.dumps(content))
    return edit


LABEL_FOLDER = 'davis/Annotations_unsupervised/480p/boat-a'


def edit_labels(change, frame=FRAME):
    def edit(root):
        file = root / LABEL_FOLDER / f'{frame}.png'
        image = Image.open(file)
        image.load()
        change(image).save(file)
    return edit


def write_list(text):
    return lambda root: (root / 'davis/ImageSets/2017/val.txt').write_text(text)


FOREGROUND = 'revos/mask_dict_foreground.json'
MASKS = f'reasonvos/Annotations/MeViS_{VIDEO}_2'
ANNOTATIONS = {
    'no list': ('davis-unsup', lambda root: (root / 'davis/ImageSets/2017/val.txt').unlink(),
                'val.txt: expected the list'),
    'empty list': ('davis-unsup', write_list('\n'), 'val.txt: expected at least one sequence'),
    'path in the list': ('davis-unsup', write_list('../boat-a'), "val.txt: .*'../boat-a'"),
    'absolute path in the list': ('davis-unsup', write_list('/etc'), "val.txt: .*'/etc'"),
    'twice in the list': ('davis-unsup', write_list('boat-a\nboat-a'), "val.txt: .*'boat-a' twice"),
    'unknown in the list': ('davis-unsup', write_list('bear'), "bear: .*sequence 'bear'"),
    'binary list': ('davis-unsup', lambda root: (
        root / 'davis/ImageSets/2017/val.txt').write_bytes(b'\xff\xfe\x00'), 'val.txt: expected'),
    'no folder': ('davis-unsup', lambda root: shutil.rmtree(root / LABEL_FOLDER),
                  "boat-a: .*sequence 'boat-a'"),
    'empty folder': ('davis-unsup', lambda root: (
        shutil.rmtree(root / LABEL_FOLDER), (root / LABEL_FOLDER).mkdir()),
        "boat-a: .*at least one PNG .*'boat-a'"),
    'a text beside the labels': ('davis-unsup', lambda root: (
        root / LABEL_FOLDER / 'notes.txt').write_text(''), 'notes.txt: expected only PNG'),
    'labels without a frame': ('davis-unsup', lambda root: (
        root / LABEL_FOLDER / f'{FRAME}.png').unlink(), f'{FRAME}.png: expected only .*boat-a'),
    'grey labels': ('davis-unsup', edit_labels(lambda image: image.convert('L')),
                    f"{FRAME}.png: expected a PNG file of mode P for sequence 'boat-a', frame"),
    'coloured labels': ('davis-unsup', edit_labels(lambda image: image.convert('RGB')),
                        f'{FRAME}.png: .* got mode RGB'),
    'labels of another size': ('davis-unsup', edit_labels(lambda image: image.crop((0, 0, 9, 9))),
                               f"{FRAME}.png: .*'boat-a', frame '{FRAME}', got \\(9, 9\\)"),
    'no object': ('davis-unsup', edit_labels(lambda image: image.point([0] * 256), '00000'),
                  "00000.png: expected at least one object .*'boat-a'"),
    'broken labels': ('davis-unsup', lambda root: (
        root / LABEL_FOLDER / f'{FRAME}.png').write_bytes(b'x'), f"{FRAME}.png: .*'boat-a'"),
    'foreground without the video': ('revos', edit_json(FOREGROUND, lambda d: d.pop(VIDEO)),
                                     f"foreground.json: video '{VIDEO}': expected"),
    'foreground without masks': ('revos', edit_json(
        FOREGROUND, lambda d: d[VIDEO].pop('masks_rle')), f"'{VIDEO}': expected the key 'masks_"),
    'foreground a frame short': ('revos', edit_json(
        FOREGROUND, lambda d: d[VIDEO]['masks_rle'].pop()), f"'{VIDEO}', .* 12 frames, got 11"),
    'foreground no RLE': ('revos', edit_json(
        FOREGROUND, lambda d: d[VIDEO]['masks_rle'].__setitem__(3, 'x')), f"'{VIDEO}', frame 3"),
    'foreground of another size': ('revos', edit_json(
        FOREGROUND, lambda d: d[VIDEO]['masks_rle'][3].update(size=[9, 9])),
        f"'{VIDEO}', frame 3: .*120, 160.*9, 9"),
    'foreground corrupt': ('revos', edit_json(
        FOREGROUND, lambda d: d[VIDEO]['masks_rle'][3].update(counts='PPPP0')),
        f"'{VIDEO}', frame 3: .*runs"),
    'foreground no JSON': ('revos', lambda root: (root / FOREGROUND).write_text('{'),
                           'foreground.json'),
    'no masks': ('reason-vos', lambda root: shutil.rmtree(root / MASKS),
                 f"video '{VIDEO}', expression '2': .*_2"),
    'no annotation': ('mevis', lambda root: shutil.rmtree(root / 'mevis'), 'valid_u: expected a'),
    'no expressions file': ('mevis', lambda root: (
        root / 'mevis/valid_u/meta_expressions.json').unlink(), 'meta_expressions.json'),
    'no mask file': ('mevis', lambda root: (root / 'mevis/valid_u/mask_dict.json').unlink(),
                     'expected the true masks at .*mask_dict.json'),
    'Long-RVOS without masks': ('long-rvos', lambda root: shutil.rmtree(
        root / 'longrvos/valid/Annotations'), 'expected the true masks at .*Annotations'),
    'MOSE without a list': ('mose-v2', lambda root: (root / 'mose/meta.json').unlink(),
                            'meta.json'),
    'MOSE without masks': ('mose-v2', lambda root: shutil.rmtree(root / 'mose/Annotations'),
                           'Annotations: expected'),
    'MOSE, no list of videos': ('mose-v2', lambda root: (root / 'mose/meta.json').write_text('{}'),
                                "meta.json: expected .*'videos'"),
    'MOSE, a video not listed': ('mose-v2', edit_json('mose/meta.json', lambda d: d['videos'].pop(
        'm1small')), "meta.json: video 'm1small': expected an entry"),
    'MOSE, no objects': ('mose-v2', edit_json('mose/meta.json', lambda d: d['videos'][
        'm1small'].update(objects=['x'])), "'m1small', key 'objects'"),
    'MOSE, a frame too few': ('mose-v2', lambda root: (
        root / 'mose/Annotations/m1small/00003.png').unlink(), "'m1small', key 'length'.*8, got 9"),
    'MOSE, labels in colours': ('mose-v2', lambda root: Image.new('RGB', (83, 61)).save(
        root / 'mose/Annotations/m1small/00003.png'), "00003.png: .*'m1small'.*mode RGB"),
    'MOSE, a text': ('mose-v2', lambda root: (
        root / 'mose/Annotations/m1small/notes.txt').write_text(''), "notes.txt: expected only"),
}


@pytest.mark.parametrize('name', ANNOTATIONS)
def test_annotation(sources, tmp_path, name):
    protocol, edit, expected = ANNOTATIONS[name]
    ann, pred, _ = LAYOUTS[protocol]
    top = ann.split('/')[0]
    shutil.copytree(sources / top, tmp_path / top)
    edit(tmp_path)
    with pytest.raises((ValueError, OSError), match=expected):
        evaluate_masks(protocol, tmp_path / ann, sources / pred)


@pytest.mark.parametrize('protocol', ALL)
def test_whole_trees_evaluate(sources, protocol):
    ann, pred, _ = LAYOUTS[protocol]
    assert evaluate_masks(protocol, sources / ann, sources / pred).summary.dataset
