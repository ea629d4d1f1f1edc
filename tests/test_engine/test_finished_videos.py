"""Records of finished videos, and what tells runs apart."""

import os

import pytest
import torch
from mmengine import Config

from glus_mm.datasets.mask_sources import BinaryMaskStore
from glus_mm.engine.finished_videos import FinishedVideos, with_files
from glus_mm.engine.run_fingerprint import fingerprint, run_fingerprint, video_fingerprints
from glus_mm.utils.checkpoint_files import checkpoint_digest


class Videos(list):
    """The part of a data set that tells its list."""

    get_data_info = list.__getitem__


@pytest.fixture
def run(tmp_path):
    """``run(changes)``: fingerprint of a run whose config has these dotted values."""
    checkpoint = tmp_path / 'model.pth'
    torch.save(dict(state_dict=dict(weight=torch.ones(3))), checkpoint)

    def of(changes=None, checkpoint=checkpoint):
        cfg = Config(dict(
            model=dict(type='GLUS', test_cfg=dict(window=4)), work_dir='a',
            test_dataloader=dict(num_workers=0, dataset=dict(type='MeViSDataset')),
            test_evaluator=dict(type='RefVOSMetric', output_dir=None, dump_file=None),
            default_hooks=dict(visualization=dict(draw=False))))
        cfg.merge_from_dict(changes or {})
        return run_fingerprint(cfg, str(checkpoint))

    return of


def test_what_changes_no_result_changes_no_fingerprint(run, tmp_path):
    assert len(run()) == 16
    assert run() == run({'work_dir': 'b', 'test_dataloader.num_workers': 4,
                         'test_dataloader.sampler': dict(type='BalancedVideoSampler'),
                         'test_evaluator.dump_file': 'f.json', 'env_cfg': dict(a=1)})
    for weights in (dict(weight=torch.ones(3)), dict(weight=torch.full((3, ), 1.0001))):
        torch.save(dict(state_dict=weights), tmp_path / 'other.pth')
        same = run(checkpoint=tmp_path / 'other.pth') == run()
        assert same == bool((weights['weight'] == 1).all()), 'content counts, not the name'


@pytest.mark.parametrize('changes', [
    {'model.test_cfg.window': 3}, {'test_evaluator.protocol': 'revos'},
    {'test_evaluator.output_dir': 'masks'}, {'test_dataloader.dataset.indices': 1},
    {'default_hooks.visualization.draw': True}])
def test_what_changes_results_changes_the_fingerprint(run, changes):
    assert run(changes) != run()


def test_other_videos():
    videos = [dict(video_id=name, frame_names=('0', '1'), expressions=['a'], sample_idx=i)
              for i, name in enumerate('vw')]
    first, second = video_fingerprints(Videos(videos))
    assert first != second and len(first) == 16
    changed = Videos([dict(videos[0], expressions=['b']), videos[1]])
    assert video_fingerprints(changed)[0] != first and video_fingerprints(changed)[1] == second
    alone = Videos([dict(videos[1], sample_idx=0)])
    assert video_fingerprints(alone) == [second], 'the others, and its place, do not count'


class VideosWithMasks(Videos):
    """Frames and masks as PNG, as data sets have them."""

    def __init__(self, folder):
        names = ('0', '1')
        super().__init__([dict(
            video_id='v', frame_names=names, img_paths=[str(folder / f'{n}.jpg') for n in names],
            expressions=[dict(exp='a', exp_id='0', video_id='v', frame_names=names,
                              anno_ids=('masks', ))])])
        self.masks = BinaryMaskStore(folder)


@pytest.mark.parametrize('name', ['1.jpg', 'masks/0.png', 'frames.json'])
def test_files_that_are_changed_in_place(run, tmp_path, name):
    """Frames, masks, and what the config names: here key frames."""
    (tmp_path / 'masks').mkdir()
    for file in ('0.jpg', '1.jpg', 'masks/0.png', 'masks/1.png', 'frames.json'):
        (tmp_path / file).write_text('{}')

    def mark():
        if name == 'frames.json':
            return run({'model.test_cfg.selector': dict(file=str(tmp_path / name))})
        return video_fingerprints(VideosWithMasks(tmp_path))[0]

    before = mark()
    assert mark() == before
    stat = (tmp_path / name).stat()
    os.utime(tmp_path / name, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    touched = mark()
    assert touched != before
    (tmp_path / name).write_text('{ }')
    os.utime(tmp_path / name, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert mark() != touched
    (tmp_path / name).unlink()
    assert mark() not in (before, touched)


def test_videos_whose_files_are_gone(tmp_path):
    """Masks, of DAVIS one level below, and overlays."""
    masks, overlays = tmp_path / 'masks', tmp_path / 'overlays'
    for path in ('masks/v/0', 'masks/anno_0/[w]', 'masks/x', 'overlays/v', 'overlays/[w]'):
        (tmp_path / path).mkdir(parents=True)
    records = {('a', name): ('mark', []) for name in ('v', '[w]', 'x', 'y')}
    assert list(with_files([masks, overlays], records)) == [('a', 'v'), ('a', '[w]')]
    assert with_files([], records) == records


def test_checkpoints_of_every_kind(tmp_path):
    assert checkpoint_digest(None) is None
    assert checkpoint_digest('https://a/b.pth') != checkpoint_digest('https://a/c.pth')
    old = tmp_path / 'old.pth'
    torch.save(dict(weight=torch.ones(3)), old, _use_new_zipfile_serialization=False)
    first = checkpoint_digest(old)
    torch.save(dict(weight=torch.zeros(3)), old, _use_new_zipfile_serialization=False)
    assert checkpoint_digest(old) != first


def test_records(tmp_path):
    store = FinishedVideos(tmp_path / 'finished')
    assert store.read() == {}
    value = 0.1 + 0.2
    names = [('a', 'v'), ('b', 'v'), ('a', 'V'), ('a', 'folder/v'), ('a', 'folder-v'),
             ('a', 'ö' * 99)]
    for i, (dataset, video) in enumerate(names):
        path = store.add(dataset, video, fingerprint(i), [dict(values=[value, i])])
        assert path.is_file() and len(path.name) < 100
    found = store.read()
    assert list(found.values()) and found == {
        name: (fingerprint(i), [dict(values=[value, i])]) for i, name in enumerate(names)}
    (tmp_path / 'finished' / '.half.json.part').write_text('{"dataset')
    for text in ('{"dataset', '[]', '{}', '3', '[' * 100_000,
                 path.read_text().replace('"values":[0', '"values":[1')):
        path.write_text(text)
        assert names[-1] not in store.read() and len(store.read()) == len(names) - 1
    with pytest.raises(ValueError, match='JSON compliant'):
        store.add('a', 'v', '', [float('nan')])
    assert store.read()['a', 'v'][1] == [dict(values=[value, 0])], 'what was there stays'
    store.clear()
    assert store.read() == {}
