"""RefVOSMetric: official figures, aggregation, outputs, errors, several processes."""

import json
import os
import zipfile
from array import array

import cv2
import numpy as np
import pytest
import torch
from mmengine.dataset import DefaultSampler, pseudo_collate
from mmengine.evaluator import Evaluator
from mmengine.model import BaseModel
from mmengine.runner import Runner
from PIL import Image
from torch.utils.data import DataLoader, Dataset

import programs
from glus_mm.apis.mask_evaluation import evaluate_masks, open_expressions
from glus_mm.datasets import LoadRefVOSGroundTruth
from glus_mm.evaluation import RefVOSMetric, boundary_accuracy, region_similarity
from glus_mm.structures import RefVOSDataSample
from glus_mm.utils.masks import decode_rle, encode_mask

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
    samples = list(samples)
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


def read_png(path):
    return np.asarray(Image.open(path))


def expression_samples(protocol, ann_root, pred_root, keys):
    """Data samples of the fixture: its annotation through the pipeline, its predictions."""
    annotation = open_expressions(protocol, ann_root)
    for video in annotation.videos:
        size = annotation.size(video)
        video['expressions'] = [expression for expression in video['expressions'] if
                                f'{video["video_id"]}_{expression["exp_id"]}' in keys]
        if not video['expressions']:
            continue
        results = dict(video, mask_store=annotation.masks, ori_shape=size)
        expressions = video['expressions']
        yield RefVOSDataSample(
            metainfo=dict(
                dataset=protocol, video_id=video['video_id'], ori_shape=size,
                exp_ids=tuple(item['exp_id'] for item in expressions),
                object_ids=tuple(item['object_ids'] for item in expressions),
                kinds=tuple(item['kind'] for item in expressions),
                frame_names=video['frame_names']),
            gt_rles=LoadRefVOSGroundTruth().transform(results)['gt_rles'],
            pred_masks=[[encode_mask(read_png(
                pred_root / video['video_id'] / item['exp_id'] / f'{frame}.png'))
                for frame in video['frame_names']] for item in expressions])


def sequence_samples(root):
    """Data samples with the label maps of the fixture, taken apart into expressions."""
    for folder in sorted((root / 'pred_davis' / 'anno_0').iterdir()):
        names = sorted(file.stem for file in folder.iterdir())
        labels = [[read_png(root / 'pred_davis' / f'anno_{a}' / folder.name / f'{name}.png')
                   for name in names] for a in range(4)]
        exp_ids, masks = [], []
        for number in range(1, int(np.max(labels)) + 1):
            for a in range(4):
                exp_ids.append(str(4 * (number - 1) + a))
                masks.append([encode_mask(frame == number) for frame in labels[a]])
        yield RefVOSDataSample(
            metainfo=dict(dataset='ref_davis', video_id=folder.name, exp_ids=tuple(exp_ids),
                          frame_names=tuple(names)), pred_masks=masks)


EXPRESSION_PROTOCOLS = {
    'mevis': ('mevis/valid_u', 'pred'),
    'revos': ('revos', 'pred'),
    'ref-davis-glus': ('refdavis', 'pred_refdavis_exp'),
    'reason-vos': ('reasonvos', 'pred'),
    'long-rvos': ('longrvos/valid', 'longrvos/pred'),
    'ref-sav': ('ref_sav/valid', 'ref_sav/pred'),
    'groundmore': ('groundmore', 'groundmore/pred'),
}


@pytest.mark.parametrize('protocol', EXPRESSION_PROTOCOLS)
def test_equals_evaluation_of_files(evaluators, recent_evaluators, tmp_path, protocol):
    """The latter is compared with the official evaluators in test_evaluate_masks.py."""
    root = recent_evaluators if protocol in ('ref-sav', 'groundmore') else evaluators
    ann_root, pred_root = (root / part for part in EXPRESSION_PROTOCOLS[protocol])
    metric = RefVOSMetric(protocol=protocol, dump_file=str(tmp_path / 'out.json'))
    expected = evaluate_masks(protocol, ann_root, pred_root, missing='skip').document()
    metrics = evaluate(metric, expression_samples(protocol, ann_root, pred_root,
                                                  expected['per_expression']))
    dumped = json.loads((tmp_path / 'out.json').read_text())
    if protocol == 'revos':
        # Both conventions at once; a data sample has no grey values, as two of the PNGs do.
        one = evaluate_masks(protocol, ann_root, pred_root, pred_values=1).document()
        for key, values in dumped['per_frame'].items():
            assert values.pop('A_1') == one['per_frame'][key]['A']
            assert values.pop('R_1') == one['per_frame'][key]['R']
            for name in 'AR':
                found, wanted = values.pop(f'{name}_255'), expected['per_frame'][key].pop(name)
                grey = (2, 3) if key == 'b7_under_score_3' else ()
                assert [f for t, f in enumerate(found) if t not in grey] == [
                    w for t, w in enumerate(wanted) if t not in grey]
        assert metrics['overall/A_1'] == 100 * one['dataset']['overall']['A'] == metrics['A_1']
        assert metrics['reason/R_1'] == 100 * one['dataset']['reason']['R']
        assert metrics['hallucination_expressions'] == 4
    else:
        for part in ('dataset', 'per_kind', 'inferred'):
            assert dumped.get(part) == expected.get(part)
    assert dumped['per_frame'] == expected['per_frame']
    for name in ('J', 'F', 'J&F'):
        assert metrics[name] == 100 * expected['dataset'][name]
        assert dumped['dataset'][name] == expected['dataset'][name]


def test_ref_davis_equals_evaluation_of_files(evaluators, tmp_path):
    ann_root = evaluators / 'davis'
    metric = RefVOSMetric(protocol='ref-davis', ann_root=str(ann_root),
                          output_dir=str(tmp_path / 'masks'), dump_file=str(tmp_path / 'out.json'))
    metrics = evaluate(metric, sequence_samples(evaluators))
    expected = evaluate_masks('ref-davis', ann_root, evaluators / 'pred_davis').document()
    dumped = json.loads((tmp_path / 'out.json').read_text())
    for key in ('dataset', 'per_object', 'per_frame', 'per_annotator'):
        assert dumped[key] == expected[key]
    assert metrics['J&F'] == 100 * expected['dataset']['J&F']
    assert metrics['anno_2/F-Decay'] == 100 * expected['per_annotator']['anno_2']['dataset'][
        'F-Decay']
    for file in (tmp_path / 'masks').rglob('*.png'):
        source = evaluators / 'pred_davis' / file.relative_to(tmp_path / 'masks')
        assert Image.open(file).mode == 'P'
        np.testing.assert_array_equal(read_png(file), read_png(source))


def test_more_objects_than_there_are(evaluators):
    metric = RefVOSMetric(protocol='davis-semi', ann_root=str(evaluators / 'davis'),
                          annotator=3)
    with pytest.raises(ValueError, match="at most 1 objects of video 'dog-b', got object 2"):
        evaluate(metric, sequence_samples(evaluators))


def edited(sample, **metainfo):
    sample.set_metainfo(metainfo)
    return sample


@pytest.mark.parametrize('edit,message', [
    (dict(video_id='bear'), "val.txt: expected video 'bear' among the 4 sequences"),
    (dict(frame_names=('00000', ) * 12),
     "12 frames of .*Annotations_unsupervised.* in video 'boat-a'"),
    (dict(exp_ids=tuple('abcdefghijkl')), "video 'boat-a': expected the id .*got 'a'"),
    (dict(exp_ids=tuple(str(4 * e) for e in range(12))), "video 'boat-a': .* of anno_1"),
])
def test_samples_that_are_not_of_davis(evaluators, edit, message):
    metric = RefVOSMetric(protocol='ref-davis', ann_root=str(evaluators / 'davis'))
    with pytest.raises(ValueError, match=message):
        evaluate(metric, [edited(next(sequence_samples(evaluators)), **edit)])


def test_revos():
    with pytest.raises(ValueError, match="referring, .*'0' of video 'v', got None"):
        evaluate(RefVOSMetric(protocol='revos'), [make_sample('v', *np.ones((2, 1, 1, 4, 4)) > 0)])
    # The union hides what A and R are made of.
    mask = np.ones((4, 4), bool)
    sample = make_sample('v', [[mask]], [[mask]], ['reason'])
    assert evaluate(RefVOSMetric(protocol='revos'), [sample])['reason/A_1'] == 100
    sample.gt_rles[0][0]['objects'] = [encode_mask(mask), encode_mask(mask)]
    figures = evaluate(RefVOSMetric(protocol='revos'), [sample])
    assert figures['reason/J&F'] == 100
    assert figures['reason/A_1'] == 0


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
    empty = np.zeros((1, 2, 5, 6), bool)
    assert evaluate(RefVOSMetric(), [make_sample('v', empty, empty, object_ids=[()])]) == {
        'N-acc': 100, 'no_target_expressions': 1}


def test_results():
    metric = RefVOSMetric()
    metric.process(None, [random_sample(index) for index in range(6)])
    expected = metric.compute_metrics(metric.results)
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(6)
        videos = [metric.results[i] for i in order]
        assert metric.compute_metrics(videos + videos[:2]) == expected
    metric = RefVOSMetric()
    metric.process(None, [random_sample(0)])

    def leaves(value):
        if isinstance(value, dict):
            value = list(value.values())
        if isinstance(value, array):
            assert value.typecode == 'd', 'one double for each figure of a frame'
            value = value.tolist()
        if isinstance(value, list):
            return [leaf for item in value for leaf in leaves(item)]
        return [value]

    assert {type(leaf) for leaf in leaves(metric.results)} <= {str, float, bool, int, type(None)}


def test_same_ids_in_two_data_sets(tmp_path):
    rng = np.random.default_rng(0)
    gt, pred = rng.random((2, 1, 2, 6, 7)) < 0.5
    samples = [make_sample('v', gt, gt, dataset='a'), make_sample('v', gt, pred, dataset='b')]
    metrics = evaluate(RefVOSMetric(dump_file=str(tmp_path / 'o.json')), samples)
    assert metrics['expressions'] == 2
    dumped = json.loads((tmp_path / 'o.json').read_text())
    assert sorted(dumped['per_expression']) == ['a/v/0', 'b/v/0']


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
    sample = make_sample('UVO/all/v', *(np.ones((2, 1, 1, 4, 4), bool)))
    evaluate(RefVOSMetric(output_dir=str(tmp_path)), [sample])
    assert (tmp_path / 'UVO' / 'all' / 'v' / '0' / '00000.png').is_file()


@pytest.mark.parametrize('layout,prefix', [('mevis', ''), ('ref-youtube-vos', 'Annotations/')])
def test_zip(tmp_path, layout, prefix):
    samples = [random_sample(index) for index in range(2)]
    names = [f'{prefix}{s.video_id}/{e}/{f}.png' for s in samples for e in s.exp_ids
             for f in s.frame_names]
    for sample in samples:
        del sample.gt_rles
    (tmp_path / 'old' / '0').mkdir(parents=True)
    (tmp_path / 'old' / '0' / '00000.png').write_bytes(b'of an earlier run')
    metric = RefVOSMetric(output_dir=str(tmp_path), format_only=True, zip=layout)
    assert evaluate(metric, samples + samples[:1]) == {}
    path = tmp_path / f'{layout}.zip'
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == names
        for name in names:
            source = tmp_path / name.removeprefix(prefix)
            assert archive.read(name) == source.read_bytes()
    first = path.read_bytes()
    assert evaluate(metric, samples) == {}
    assert path.read_bytes() == first
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        *sorted([f'{layout}.zip', 'old']), 'video0', 'video1']


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
    # Shares of 1 in the file, percent in the log.
    assert metrics == {key: 100 * value if isinstance(value, float) else value
                       for key, value in figures.items()}
    entry = dumped['per_expression']['video1_0']
    assert entry['kind'] == 'appearance'
    assert entry['J'] == np.mean(dumped['per_frame']['video1_0']['J'])
    assert entry['J&F'] == pytest.approx((entry['J'] + entry['F']) / 2)
    assert {name: len(values) for name, values in dumped['per_frame']['video1_0'].items()} == {
        'J': 4, 'F': 4, 'J&F': 4}
    assert dumped['per_expression']['video1_2']['has_target'] is False


def test_scores_of_frames_are_dumped(tmp_path):
    first, second = (random_sample(index).to_dict() for index in range(2))
    number, length = len(first['exp_ids']), len(first['frame_names'])
    presence = torch.linspace(0, 1, number * length).view(number, length)
    first.update(pred_presence=presence, pred_scores=presence / 2, pred_seg=presence > 0.4)
    unknown = torch.full((len(second['exp_ids']), len(second['frame_names'])), float('nan'))
    second.update(pred_presence=unknown, pred_scores=unknown, pred_seg=unknown > 0)
    metric = RefVOSMetric(dump_file=str(tmp_path / 'o.json'))
    metric.process(None, [first, second])
    # As an interrupted test keeps it.
    kept = [metric.load_result(json.loads(json.dumps(metric.dump_result(result))))
            for result in metric.results]
    metric.compute_metrics(kept)
    frames = json.loads((tmp_path / 'o.json').read_text())['per_frame']
    for e, exp_id in enumerate(first['exp_ids']):
        entry = frames[f'{first["video_id"]}_{exp_id}']
        assert entry['presence'] == presence[e].tolist()
        assert entry['expected_iou'] == (presence[e] / 2).tolist()
        assert entry['seg'] == (presence[e] > 0.4).tolist()
        for name, rles in (('visible', first['gt_rles'][e]), ('painted', first['pred_masks'][e])):
            assert entry[name] == [float(decode_rle(rle).any()) for rle in rles]
    for exp_id in second['exp_ids']:
        assert 'presence' not in frames[f'{second["video_id"]}_{exp_id}']


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
    (dict(protocol='davis'), "'mevis', 'revos', .*got 'davis'"),
    (dict(protocol='ref-davis'), 'ann_root'),
    (dict(zip='mevis'), 'output_dir'),
    (dict(zip='davis', output_dir='masks'), "'mevis', 'ref-youtube-vos'.*got 'davis'"),
    (dict(zip='mevis', output_dir='masks', protocol='ref-davis'), 'protocol for expressions'),
])
def test_options_that_do_not_fit(tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        RefVOSMetric(**options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('field', ['video_id', 'exp_ids', 'frame_names'])
@pytest.mark.parametrize('name', ['..', '.', '', 'a/b', '/etc', 'a\\b', 'a\0b', 'a/../b', 'a//b'])
def test_path_like_names_are_refused(tmp_path, field, name):
    if (field, name) == ('video_id', 'a/b'):
        pytest.skip('ReVOS has such videos')
    sample = make_sample('v', *(np.ones((2, 1, 1, 4, 4), bool)))
    sample.set_metainfo({field: name if field == 'video_id' else (name, )})
    with pytest.raises(ValueError, match='name of a file'):
        evaluate(RefVOSMetric(output_dir=str(tmp_path / 'masks')), [sample])
    assert list((tmp_path / 'masks').iterdir()) == []
    assert [path.name for path in tmp_path.iterdir()] == ['masks']


def change(field, e, edit):
    return lambda sample: edit(getattr(sample, field)[e])


SMALL = encode_mask(np.zeros((5, 5), bool))


@pytest.mark.parametrize('edit,message', [
    (change('pred_masks', 1, lambda rles: rles.__setitem__(2, None)),
     "prediction of video 'video0', expression '1', frame '00002'"),
    (change('gt_rles', 1, lambda rles: rles.__setitem__(2, None)),
     "ground truth of video 'video0', expression '1', frame '00002'"),
    (change('pred_masks', 0, list.pop),
     "prediction of video 'video0', expression '0', frame '00003'"),
    (change('gt_rles', 2, list.pop),
     "ground truth of video 'video0', expression '2', frame '00003'"),
    (change('pred_masks', 1, lambda rles: rles.__setitem__(2, SMALL)),
     r"\(13, 18\), got \(5, 5\): prediction of .*'1', frame '00002'"),
    (change('gt_rles', 0, lambda rles: rles.__setitem__(0, SMALL)),
     r"\(13, 18\), got \(5, 5\): ground truth of .*'0', frame '00000'"),
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


def test_in_a_runner(tmp_path):
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


@pytest.mark.slow
def test_two_processes_give_the_same_figures(tmp_path):
    """An odd number of videos, so that the sampler pads; one video for two processes."""
    programs.spawn(sharded_worker, tmp_path)
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
