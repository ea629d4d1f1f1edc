"""Probes of motion and words for any system: what is written, and how its masks are scored."""

import json
import runpy
import shutil
from pathlib import Path

import numpy as np
import pytest

from glus_mm.apis.mask_evaluation import open_expressions, score_probes, write_probes
from glus_mm.datasets import MeViSDataset
from glus_mm.datasets.moving_shapes import write_split
from glus_mm.evaluation.probe_table import (
    PROBES,
    difference_lines,
    probe_differences,
    probe_table,
)
from glus_mm.utils.masks import decode_rle, write_mask_png
from programs import ROOT


@pytest.fixture(scope='module')
def source(tmp_path_factory):
    return write_split(tmp_path_factory.mktemp('source'), 2, seed=3, split='valid_u', mp4=False)


@pytest.fixture(scope='module')
def probes(source, tmp_path_factory):
    return write_probes('mevis', source, tmp_path_factory.mktemp('probes'))


def read(root):
    """Videos of a data set: expressions, pictures, and masks of each expression and frame."""
    annotation = open_expressions('mevis', root)
    found = {}
    for video in annotation.videos:
        size = annotation.size(video)
        found[video['video_id']] = (
            {item['exp_id']: item for item in video['expressions']},
            [Path(path).read_bytes() for path in video['img_paths']],
            {item['exp_id']: [annotation.target(video, item, t, size) > 0
                              for t in range(len(video['frame_names']))]
             for item in video['expressions']})
    return found


def write_masks(root, masks):
    for video, by_exp in masks.items():
        for exp, track in by_exp.items():
            folder = root / video / exp
            folder.mkdir(parents=True)
            for t, mask in enumerate(track):
                write_mask_png(folder / f'{t:05d}.png', mask)


@pytest.mark.parametrize('probe', ['video', 'still', 'reverse', 'shuffle'])
def test_truth_follows_the_pictures(source, probes, probe):
    plain, found = read(source), read(probes / probe)
    assert found.keys() == plain.keys()
    for video, (expressions, pictures, masks) in plain.items():
        # JPEG files of one video differ, so that they tell which frame is shown.
        order = [pictures.index(picture) for picture in found[video][1]]
        number = len(pictures)
        expected = {'video': list(range(number)), 'still': [number // 2] * number,
                    'reverse': list(range(number))[::-1]}
        if probe == 'shuffle':
            assert sorted(order) == list(range(number)) and order != sorted(order)
        else:
            assert order == expected[probe]
        assert {exp: (item['exp'], item['kind']) for exp, item in found[video][0].items()} == {
            exp: (item['exp'], item['kind']) for exp, item in expressions.items()}
        for exp, track in masks.items():
            np.testing.assert_array_equal(found[video][2][exp], [track[t] for t in order])


@pytest.mark.parametrize('probe', ['still', 'reverse'])
def test_the_same_as_a_test_of_a_model(source, probes, probe):
    """``test.py --probe`` shows a model what other systems find in the files."""
    transforms = [dict(type='glus_mm.OpenFrameReader'), dict(type='glus_mm.LoadRefVOSGroundTruth')]
    shown = MeViSDataset(data_root=str(source), test_mode=True, pipeline=[
        *transforms, dict(type='glus_mm.ProbeVideo', probe=probe)])
    written = MeViSDataset(data_root=str(probes / probe), test_mode=True, pipeline=transforms)
    for one, other in zip(shown, written, strict=True):
        assert one['video_id'] == other['video_id']
        for t in range(len(one['frame_names'])):
            np.testing.assert_array_equal(one['reader'].read(t), other['reader'].read(t))
        for mine, theirs in zip(one['gt_rles'], other['gt_rles'], strict=True):
            np.testing.assert_array_equal([decode_rle(rle) for rle in mine],
                                          [decode_rle(rle) for rle in theirs])


def test_swapped_words_mean_another_object(source, probes):
    plain, found = read(source), read(probes / 'swap')
    assert found
    for video, (expressions, pictures, masks) in found.items():
        originals = plain[video][0]
        assert pictures == plain[video][1]
        for exp, item in expressions.items():
            assert item['object_ids'] == originals[exp]['object_ids'] != ()
            meant = [set(other['object_ids']) for other in originals.values()
                     if other['exp'] == item['exp']]
            assert all(objects.isdisjoint(item['object_ids']) for objects in meant)
            np.testing.assert_array_equal(masks[exp], plain[video][2][exp])
        for exp in originals.keys() - expressions.keys():
            own = set(originals[exp]['object_ids'])
            assert not own or all(own & set(other['object_ids']) or not other['object_ids']
                                  for other in originals.values())


def test_links_and_copies_and_seeds(source, probes, tmp_path):
    image = next((probes / 'reverse' / 'JPEGImages').rglob('*.jpg'))
    assert image.is_symlink()
    copies = write_probes('mevis', source, tmp_path / 'copies', ('shuffle', ), copy=True, seed=1)
    assert sorted(path.name for path in copies.iterdir()) == ['shuffle', 'video']
    assert not any(path.is_symlink() for path in copies.rglob('*'))
    again = write_probes('mevis', source, tmp_path / 'again', ('swap', 'shuffle'))
    for probe in ('swap', 'shuffle'):
        for name in ('meta_expressions.json', 'mask_dict.json'):
            assert (again / probe / name).read_bytes() == (probes / probe / name).read_bytes()
    assert (copies / 'shuffle' / 'mask_dict.json').read_bytes() != (
        probes / 'shuffle' / 'mask_dict.json').read_bytes()


def test_other_layouts(evaluators, tmp_path):
    """ReVOS, one of whose videos gets an id with parts; its images are empty files here."""
    root = tmp_path / 'revos'
    shutil.copytree(evaluators / 'revos', root)
    for name in ('meta_expressions_valid_.json', 'mask_dict_foreground.json'):
        content = json.loads((root / name).read_text())
        videos = content.get('videos', content)
        videos['UVO/x'] = videos.pop('c480p0000001')
        (root / name).write_text(json.dumps(content))
        if name.startswith('meta'):
            for video, entry in videos.items():
                (root / 'JPEGImages' / video).mkdir(parents=True)
                for frame in entry['frames']:
                    (root / 'JPEGImages' / video / f'{frame}.jpg').touch()
    out = write_probes('revos', root, tmp_path / 'out')
    before = {item['exp_id']: item for item in next(
        video for video in open_expressions('revos', root).videos
        if video['video_id'] == 'UVO/x')['expressions']}
    expressions, _, masks = read(out / 'reverse')['UVO--x']
    assert {exp: item['exp'] for exp, item in expressions.items()} == {
        exp: item['exp'] for exp, item in before.items()}
    assert any(np.any(track) for track in masks.values())


def test_scores(probes, tmp_path, monkeypatch, capsys):
    """A system that follows pictures and ignores words, but for the videos as they are."""
    own = {name: {video: masks for video, (_, _, masks) in read(probes / name).items()}
           for name in ('video', *PROBES)}
    for name in ('video', 'swap'):
        write_masks(tmp_path / name, own[name])
    # These it takes for the videos as they are.
    for name in ('still', 'reverse'):
        write_masks(tmp_path / name, own['video'])
    runs = score_probes(probes, tmp_path)
    assert list(runs) == ['video', 'still', 'reverse', 'swap']
    figures = {name: run.summary.in_percent() for name, run in runs.items()}
    assert figures['video']['J&F'] == figures['swap']['J&F'] == 100 > figures['still']['J&F']
    lines = probe_table(figures).splitlines()
    assert lines[0] == '| J&F in % | n | video | still | reverse | swap | n of swap |'
    number = figures['swap']['expressions']
    assert lines[-1].startswith('| all with a target | ') and lines[-1].endswith(f'| {number} |')
    differences = probe_differences({name: run.tracks for name, run in runs.items()},
                                    runs['video'].protocol.track_figures)
    assert 100 * differences['still'].mean == pytest.approx(figures['still']['J&F'] - 100)
    assert differences['swap'].mean == 0 and differences['swap'].expressions == number
    text = difference_lines(differences)
    assert 'too few videos for an interval; 2 videos' in text
    tool = str(ROOT / 'tools' / 'analysis_tools' / 'eval_masks.py')
    monkeypatch.setattr('sys.argv', [tool, '--protocol', 'mevis', '--probes', '--ann', str(probes),
                                     '--pred', str(tmp_path), '--out', str(tmp_path / 'f.json')])
    runpy.run_path(tool, run_name='__main__')
    assert capsys.readouterr().out == f'{probe_table(figures)}\n\n{text}\n'
    assert list(json.loads((tmp_path / 'f.json').read_text())) == list(runs)


def test_what_cannot_be_written_or_scored(source, probes, tmp_path):
    (tmp_path / 'full').mkdir()
    (tmp_path / 'full' / 'file').touch()
    with pytest.raises(FileExistsError, match='full: expected an empty folder'):
        write_probes('mevis', source, tmp_path / 'full')
    with pytest.raises(ValueError, match="probes: expected some of still.*got .'still', 'mirror'"):
        write_probes('mevis', source, tmp_path / 'a', ('still', 'mirror'))
    shutil.copytree(source, tmp_path / 'b')
    lost = next((tmp_path / 'b' / 'JPEGImages').rglob('00005.jpg'))
    lost.unlink()
    with pytest.raises(FileNotFoundError, match=r"00005.jpg: expected the image of video 'valid_u"):
        write_probes('mevis', tmp_path / 'b', tmp_path / 'out')
    meta = json.loads((source / 'meta_expressions.json').read_text())
    for entry in meta['videos'].values():
        entry['expressions'] = {'0': next(iter(entry['expressions'].values()))}
    shutil.copytree(source, tmp_path / 'c')
    (tmp_path / 'c' / 'meta_expressions.json').write_text(json.dumps(meta))
    with pytest.raises(ValueError, match='swap: expected expressions of one video with different'):
        write_probes('mevis', tmp_path / 'c', tmp_path / 'out2')
    (tmp_path / 'pred' / 'still').mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="masks in the folders 'video' and some of"):
        score_probes(probes, tmp_path / 'pred')
    (tmp_path / 'pred' / 'video').mkdir()
    with pytest.raises(FileNotFoundError, match='the annotation of a probe'):
        score_probes(source, tmp_path / 'pred')


def test_the_tool(source, tmp_path, monkeypatch, capsys):
    tool = str(ROOT / 'tools' / 'dataset_converters' / 'probes.py')
    monkeypatch.setattr('sys.argv', [tool, str(tmp_path / 'out'), '--protocol', 'mevis', '--ann',
                                     str(source), '--probes', 'still'])
    runpy.run_path(tool, run_name='__main__')
    assert (tmp_path / 'out' / 'still' / 'mask_dict.json').is_file()
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(tool, run_name='__main__')
    assert stop.value.code == 2 and 'expected an empty folder' in capsys.readouterr().err
