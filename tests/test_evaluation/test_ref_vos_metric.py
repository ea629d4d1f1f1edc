"""RefVOSMetric: official figures, aggregation, outputs, errors, several processes."""

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.dataset import DefaultSampler, pseudo_collate
from mmengine.evaluator import Evaluator
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch.utils.data import DataLoader, Dataset

from glus_mm.evaluation import RefVOSMetric, boundary_accuracy, region_similarity
from glus_mm.registry import METRICS
from glus_mm.structures import RefVOSDataSample
from glus_mm.utils.masks import decode_rle, encode_mask, merge_rles

REPO = Path(__file__).resolve().parents[2]
MINI = REPO / 'tests' / 'data' / 'evaluators_mini'
SHARED = Path(os.environ.get('GLUS_MM_FIXTURES', REPO.parent / 'shared'))
FIXTURE = SHARED / 'fixtures' / 'evaluators'
KINDS = ('appearance', 'motion', 'no-target')


def make_sample(video_id, gt, pred, kinds=None, object_ids=None, dataset='toy', **fields):
    """A data sample from masks (E)(T)(H, W)."""
    num_exp, num_frames = len(gt), len(gt[0])
    return RefVOSDataSample(
        metainfo=dict(
            dataset=dataset, video_id=video_id, exp_ids=tuple(str(e) for e in range(num_exp)),
            expressions=('a shape', ) * num_exp,
            object_ids=tuple(object_ids or [('1', )] * num_exp),
            kinds=tuple(kinds or [None] * num_exp), ori_shape=np.shape(gt)[2:],
            frame_names=tuple(f'{t:05d}' for t in range(num_frames))),
        gt_rles=[[encode_mask(mask) for mask in masks] for masks in gt],
        pred_masks=[[encode_mask(mask) for mask in masks] for masks in pred], **fields)


def random_sample(index, num_frames=4):
    """A video with three to five expressions, one in three without a target."""
    rng = np.random.default_rng(index)
    num_exp = 3 + index % 3
    kinds = [KINDS[e % 3] for e in range(num_exp)]
    gt = rng.random((num_exp, num_frames, 13, 18 + index)) < 0.5
    pred = gt ^ (rng.random(gt.shape) < rng.random((num_exp, 1, 1, 1)))
    for e, kind in enumerate(kinds):
        if kind == 'no-target':
            gt[e], pred[e] = False, pred[e] & (rng.random() < 0.5)
    return make_sample(f'video{index}', gt, pred, kinds,
                       [() if kind == 'no-target' else ('1', ) for kind in kinds],
                       pred_seg=torch.from_numpy(rng.random((num_exp, num_frames)) < 0.8))


def evaluate(metric, samples):
    """Run a metric as MMEngine's evaluator does, which hands dicts to it."""
    evaluator = Evaluator([metric])
    for sample in samples:
        evaluator.process([sample])
    return evaluator.evaluate(len(samples))


class VideoDataset(Dataset):
    """Videos that are segmented already."""

    def __init__(self, num_videos):
        self.num_videos = num_videos

    def __len__(self):
        return self.num_videos

    def __getitem__(self, index):
        return {'inputs': torch.zeros(1), 'data_samples': random_sample(index)}


def official_samples(meta_file, mask_file, read_pred):
    """Data samples of a folder in the MeViS layout."""
    annotations = json.loads(mask_file.read_text())
    for video_id, video in json.loads(meta_file.read_text())['videos'].items():
        gt, pred = [], []
        for exp_id, expression in video['expressions'].items():
            pred.append([read_pred(video_id, exp_id, t, f) for t, f in enumerate(video['frames'])])
            size = pred[0][0].shape
            tracks = [annotations[str(anno)] for anno in expression['anno_id']]
            gt.append([decode_rle(merge_rles([track[t] for track in tracks if track[t]], size))
                       for t in range(len(video['frames']))])
        yield make_sample(video_id, gt, pred, dataset='mevis')


def assert_equals_official(samples, expected, tmp_path):
    metrics = evaluate(RefVOSMetric(dump_file=str(tmp_path / 'out.json')), list(samples))
    dumped = json.loads((tmp_path / 'out.json').read_text())
    assert dumped['per_frame'] == expected['per_frame']
    assert set(dumped['per_expression']) == set(expected['per_expression'])
    for key, values in expected['per_expression'].items():
        for name in ('J', 'F'):
            assert dumped['per_expression'][key][name] == 100 * values[name]
    return metrics


def test_equals_official_on_golden_copy(tmp_path):
    preds = json.loads((MINI / 'pred_rles.json').read_text())
    expected = json.loads((MINI / 'expected.json').read_text())
    samples = official_samples(MINI / 'meta_expressions.json', MINI / 'mask_dict.json',
                               lambda video, exp, t, _: decode_rle(preds[video][exp][t]))
    metrics = assert_equals_official(samples, expected, tmp_path)
    values = list(expected['per_expression'].values())
    assert metrics['J'] == 100 * np.mean([value['J'] for value in values])
    assert metrics['F'] == 100 * np.mean([value['F'] for value in values])


@pytest.mark.skipif(not FIXTURE.is_dir(),
                    reason='the official fixture is not here (set GLUS_MM_FIXTURES)')
def test_equals_official_on_whole_fixture(tmp_path):
    expected = json.loads((FIXTURE / 'expected.json').read_text())['mevis']

    def read(video, exp, _, frame):
        return cv2.imread(str(FIXTURE / 'pred' / video / exp / f'{frame}.png'),
                          cv2.IMREAD_UNCHANGED)

    folder = FIXTURE / 'mevis' / 'valid_u'
    samples = official_samples(folder / 'meta_expressions.json', folder / 'mask_dict.json', read)
    metrics = assert_equals_official(samples, expected, tmp_path)
    assert [round(metrics[key] / 100, 6) for key in ('J', 'F', 'J&F')] == [
        .641214, .603633, .622423]
    for key, value in expected['dataset'].items():
        assert metrics[key] == pytest.approx(100 * value, rel=0, abs=1e-12)


def test_figures_by_kind_and_without_target():
    shape = (2, 12, 16)
    nothing, blob, other = (np.zeros(shape, bool) for _ in range(3))
    blob[:, 2:6, 2:6] = True
    other[0, 2:6, 4:8] = True
    kinds = ['appearance', 'appearance', 'motion', 'no-target', 'no-target', None]
    sample = make_sample(
        'v', [blob, blob, nothing, nothing, nothing, blob],
        [blob, other, nothing, nothing, other, nothing], kinds,
        [('1', ), ('1', ), ('2', ), (), (), ('1', )],
        pred_seg=torch.tensor([[True, True], [True, False]] + [[False, False]] * 4))
    metrics = evaluate(RefVOSMetric(), [sample])
    half_j = region_similarity(blob[0], other[0]) / 2
    half_f = boundary_accuracy(blob[0], other[0]) / 2
    assert metrics['appearance/J'] == 100 * (1 + half_j) / 2
    assert metrics['appearance/F'] == 100 * (1 + half_f) / 2
    assert metrics['appearance/J&F'] == pytest.approx(50 + 25 * (half_j + half_f))
    # Objects that are annotated but never visible: predicting nothing is right.
    assert metrics['motion/J&F'] == 100
    # Without a target is scored apart; the expression of no kind counts in the whole.
    assert metrics['J'] == pytest.approx(100 * (1 + half_j + 1 + 0) / 4)
    assert metrics['N-acc'] == 50
    assert metrics['T-acc'] == 50
    assert {key: value for key, value in metrics.items() if isinstance(value, int)} == {
        'expressions': 4, 'appearance/expressions': 2, 'motion/expressions': 1,
        'no_target_expressions': 2, 'frames_without_seg': 9}
    assert not any(key.startswith(('no-target', 'None')) for key in metrics)


def test_only_expressions_without_target():
    empty = np.zeros((1, 2, 5, 6), bool)
    assert evaluate(RefVOSMetric(), [make_sample('v', empty, empty, object_ids=[()])]) == {
        'N-acc': 100, 'no_target_expressions': 1}


def test_prefix_and_registry():
    metric = METRICS.build(dict(type='RefVOSMetric', prefix='toy'))
    assert isinstance(metric, RefVOSMetric)
    assert 'toy/J&F' in evaluate(metric, [random_sample(0)])
    with pytest.raises(TypeError, match='output_folder'):
        METRICS.build(dict(type='RefVOSMetric', output_folder='x'))


def test_order_and_repeats_do_not_matter():
    metric = RefVOSMetric()
    metric.process(None, [random_sample(index) for index in range(6)])
    expected = metric.compute_metrics(metric.results)
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(6)
        videos = [metric.results[i] for i in order]
        assert metric.compute_metrics(videos + videos[:2]) == expected


def test_same_ids_in_two_data_sets(tmp_path):
    rng = np.random.default_rng(0)
    gt, pred = rng.random((2, 1, 2, 6, 7)) < 0.5
    samples = [make_sample('v', gt, gt, dataset='a'), make_sample('v', gt, pred, dataset='b')]
    metrics = evaluate(RefVOSMetric(dump_file=str(tmp_path / 'o.json')), samples)
    assert metrics['expressions'] == 2
    dumped = json.loads((tmp_path / 'o.json').read_text())
    assert sorted(dumped['per_expression']) == ['a/v/0', 'b/v/0']


def test_only_figures_are_kept():
    metric = RefVOSMetric()
    metric.process(None, [random_sample(0)])

    def leaves(value):
        if isinstance(value, dict):
            value = list(value.values())
        if isinstance(value, list):
            return [leaf for item in value for leaf in leaves(item)]
        return [value]

    assert {type(leaf) for leaf in leaves(metric.results)} <= {str, float, bool, int}


def test_output_dir(tmp_path):
    rng = np.random.default_rng(0)
    pred = rng.random((2, 3, 9, 14)) < 0.5
    evaluate(RefVOSMetric(output_dir=str(tmp_path / 'a' / 'masks')),
             [make_sample('v', pred, pred)])
    files = sorted((tmp_path / 'a' / 'masks').rglob('*.*'))
    assert [str(file.relative_to(tmp_path / 'a' / 'masks')) for file in files] == [
        f'v/{e}/{t:05d}.png' for e in range(2) for t in range(3)]
    for file, mask in zip(files, pred.reshape(-1, 9, 14)):
        image = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(image, mask * np.uint8(255))


def test_format_only_needs_no_ground_truth(tmp_path):
    sample = random_sample(0)
    del sample.gt_rles
    with pytest.raises(ValueError, match="'video0'.*gt_rles.*format_only=True"):
        evaluate(RefVOSMetric(), [sample])
    metric = RefVOSMetric(output_dir=str(tmp_path / 'masks'), format_only=True)
    assert evaluate(metric, [sample]) == {}
    assert len(list((tmp_path / 'masks').rglob('*.png'))) == 3 * 4


def test_dump_file(tmp_path):
    file = tmp_path / 'sub' / 'out.json'
    metric = RefVOSMetric(dump_file=str(file))
    assert not file.exists()
    metrics = evaluate(metric, [random_sample(index) for index in range(3)])
    assert [path.name for path in file.parent.iterdir()] == ['out.json']
    dumped = json.loads(file.read_text())
    figures = dict(dumped['dataset'])
    for kind, values in dumped['per_kind'].items():
        figures.update({f'{kind}/{key}': value for key, value in values.items()})
    assert figures == metrics
    entry = dumped['per_expression']['video1_0']
    assert entry['kind'] == 'appearance'
    assert entry['J'] == 100 * np.mean(dumped['per_frame']['video1_0']['J'])
    assert entry['J&F'] == pytest.approx((entry['J'] + entry['F']) / 2)
    assert len(dumped['per_frame']['video1_0']['F']) == 4
    assert dumped['per_expression']['video1_2']['has_target'] is False


@pytest.mark.parametrize('option', ['output_dir', 'dump_file'])
def test_unwritable_output_is_found_before_the_work(tmp_path, option):
    (tmp_path / 'file').write_text('')
    with pytest.raises(OSError, match='file'):
        RefVOSMetric(**{option: str(tmp_path / 'file' / 'sub')})
    with pytest.raises(OSError, match='folder'):
        RefVOSMetric(**{option: str(tmp_path if option == 'dump_file' else tmp_path / 'file')})


@pytest.mark.parametrize('options,message', [
    (dict(format_only=True), 'output_dir'),
    (dict(format_only=True, output_dir='masks', dump_file='f.json'), 'dump_file'),
    (dict(collect_device='tpu'), 'collect_device'),
])
def test_options_that_do_not_fit(tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        RefVOSMetric(**options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('field', ['video_id', 'exp_ids', 'frame_names'])
@pytest.mark.parametrize('name', ['..', '.', '', 'a/b', '/etc', 'a\\b', 'a\0b'])
def test_path_like_names_are_refused(tmp_path, field, name):
    sample = make_sample('v', *(np.ones((2, 1, 1, 4, 4), bool)))
    sample.set_metainfo({field: name if field == 'video_id' else (name, )})
    with pytest.raises(ValueError, match='name of a file'):
        evaluate(RefVOSMetric(output_dir=str(tmp_path / 'masks')), [sample])
    assert list((tmp_path / 'masks').iterdir()) == []
    assert [path.name for path in tmp_path.iterdir()] == ['masks']


def drop(field, e, t):
    def edit(sample):
        getattr(sample, field)[e][t] = None
    return edit


def shorten(field, e):
    def edit(sample):
        getattr(sample, field)[e].pop()
    return edit


def resize(field, e, t):
    def edit(sample):
        getattr(sample, field)[e][t] = encode_mask(np.zeros((5, 5), bool))
    return edit


@pytest.mark.parametrize('edit,message', [
    (drop('pred_masks', 1, 2), "prediction of video 'video0', expression '1', frame '00002'"),
    (drop('gt_rles', 1, 2), "ground truth of video 'video0', expression '1', frame '00002'"),
    (shorten('pred_masks', 0), "prediction of video 'video0', expression '0', frame '00003'"),
    (shorten('gt_rles', 2), "ground truth of video 'video0', expression '2', frame '00003'"),
    (resize('pred_masks', 1, 2), r"\(13, 18\), got \(5, 5\): prediction of .*'1', frame '00002'"),
    (resize('gt_rles', 0, 0), r"\(13, 18\), got \(5, 5\): ground truth of .*'0', frame '00000'"),
    (lambda s: s.pred_masks[1].append(None), "4 frames of video 'video0', expression '1', got 5"),
    (lambda s: s.pred_masks.pop(), "pred_masks of video 'video0'.* 3 expressions, got 2"),
    (lambda s: delattr(s, 'pred_masks'), "'video0' to have pred_masks"),
    (lambda s: s.set_metainfo({'exp_ids': ('0', '1', '0')}), "distinct expression ids.*'video0'"),
])
def test_incomplete_samples(edit, message):
    sample = random_sample(0)
    edit(sample)
    with pytest.raises(ValueError, match=message):
        evaluate(RefVOSMetric(), [sample])


class ToyModel(BaseModel):
    """Returns the samples as they are, which are segmented already."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return {'loss': self.weight.sum()} if mode == 'loss' else data_samples


def toy_runner(work_dir, **kwargs):
    def loader(infinite=False):
        return dict(batch_size=1, num_workers=0, dataset=VideoDataset(3),
                    sampler=dict(type='DefaultSampler', shuffle=False),
                    collate_fn=dict(type='pseudo_collate'))

    return Runner(model=ToyModel(), work_dir=str(work_dir), train_dataloader=loader(),
                  val_dataloader=loader(), test_dataloader=loader(),
                  train_cfg=dict(by_epoch=True, max_epochs=1), val_cfg={}, test_cfg={},
                  optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
                  experiment_name=work_dir.name, default_scope='mmengine', **kwargs)


def test_save_best_in_a_runner(tmp_path):
    runner = toy_runner(
        tmp_path / 'best', val_evaluator=dict(type='glus_mm.RefVOSMetric'),
        test_evaluator=dict(type='glus_mm.RefVOSMetric'),
        default_hooks=dict(checkpoint=dict(
            type='CheckpointHook', interval=1, save_best='J&F', rule='greater')))
    runner.train()
    assert [file.name for file in (tmp_path / 'best').glob('best*')] == ['best_J&F_epoch_1.pth']
    log = next((tmp_path / 'best').rglob('*.log')).read_text()
    assert 'all with a target' in log
    assert 'frames without [SEG]' in log


def test_format_only_in_a_runner(tmp_path):
    metric = dict(type='glus_mm.RefVOSMetric', output_dir=str(tmp_path / 'out'), format_only=True)
    runner = toy_runner(tmp_path / 'format', val_evaluator=metric, test_evaluator=metric)
    assert runner.test() == {}
    assert len(list((tmp_path / 'out').iterdir())) == 3


def run_sharded(folder, num_videos, collect_device):
    """Evaluate with the processes that there are; the figures go to a file per process."""
    dataset = VideoDataset(num_videos)
    loader = DataLoader(dataset, batch_size=1, sampler=DefaultSampler(dataset, shuffle=False),
                        collate_fn=pseudo_collate)
    metric = RefVOSMetric(collect_device=collect_device, output_dir=str(folder / 'masks'),
                          dump_file=str(folder / 'out.json'))
    evaluator = Evaluator([metric])
    for batch in loader:
        evaluator.process(batch['data_samples'], batch)
    return evaluator.evaluate(len(dataset))


SHARDED = [(5, 'cpu'), (5, 'gpu'), (1, 'cpu')]


def sharded_worker(rank, root):
    os.chdir(root)
    torch.distributed.init_process_group('gloo', init_method=f'file://{root}/init', rank=rank,
                                         world_size=2)
    for num_videos, device in SHARDED:
        metrics = run_sharded(root / f'two_{num_videos}_{device}', num_videos, device)
        (root / f'{num_videos}_{device}_{rank}.json').write_text(json.dumps(metrics))
    torch.distributed.destroy_process_group()


def test_two_processes_give_the_same_figures(tmp_path):
    """An odd number of videos, so that the sampler pads; one video for two processes."""
    torch.multiprocessing.spawn(sharded_worker, args=(tmp_path, ), nprocs=2)
    for num_videos, device in SHARDED:
        one, two = (tmp_path / f'{name}_{num_videos}_{device}' for name in ('one', 'two'))
        expected = run_sharded(one, num_videos, device)
        for rank in range(2):
            found = json.loads((tmp_path / f'{num_videos}_{device}_{rank}.json').read_text())
            assert found == expected
        assert (two / 'out.json').read_bytes() == (one / 'out.json').read_bytes()
        names = [sorted(str(file.relative_to(folder)) for file in folder.rglob('*.png'))
                 for folder in (one, two)]
        assert names[0] == names[1]
        assert len({name.split('/')[1] for name in names[0]}) == num_videos
