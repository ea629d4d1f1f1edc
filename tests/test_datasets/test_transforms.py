"""The train and test pipelines, each transform on real files."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from glus_mm.datasets import (
    BuildConversation,
    LoadRefVOSFrames,
    LoadRefVOSMasks,
    MeViSDataset,
    MovingShapesDataset,
    PackRefVOSInputs,
    ResizeForEncoders,
    SampleContextQueryFrames,
)
from glus_mm.registry import TRANSFORMS
from glus_mm.text.prompt import build_conversation, get_template
from glus_mm.text.tokenizer import SegTokenizer
from programs import ROOT

OFFICIAL = ROOT / 'tests' / 'data' / 'official_glus_tiny' / 'train'


def _sample(transform, num_frames, seed=0, num_expressions=4):
    return transform({
        'frame_names': tuple(map(str, range(num_frames))),
        'expressions': [{'exp_id': str(i)} for i in range(num_expressions)],
        'rng': np.random.default_rng(seed),
    })


def _train_pipeline(**sampling):
    return [
        SampleContextQueryFrames(**sampling),
        LoadRefVOSFrames(),
        LoadRefVOSMasks(),
        ResizeForEncoders(vision_size=28, sam_size=32),
        BuildConversation(tokenizer='tiny', template='compact'),
        PackRefVOSInputs(),
    ]


def _dataset(root, pipeline, **kwargs):
    return MeViSDataset(data_root=str(root), pipeline=pipeline, **kwargs)


# ---- frame sampling ----


def test_global_local_statistics():
    transform = SampleContextQueryFrames(num_context=4, num_query=3)
    context, starts = [], []
    for seed in range(600):
        results = _sample(transform, 10, seed)
        context.append(results['context_frame_ids'])
        query = results['query_frame_ids']
        assert np.diff(query).tolist() == [1, 1]
        starts.append(query[0])
    # Clips of linspace(0, 10, 5, int): 0-1, 2-4, 5-6, 7-9; every frame of a clip is as likely.
    for clip, expected in zip(np.transpose(context), ((0, 1), (2, 3, 4), (5, 6), (7, 8, 9))):
        values, counts = np.unique(clip, return_counts=True)
        assert tuple(values) == expected
        assert counts.min() > 0.75 * 600 / len(expected)
    values, counts = np.unique(starts, return_counts=True)
    assert values.tolist() == list(range(8))
    assert counts.min() > 45


def test_global_and_local():
    for seed in range(50):
        results = _sample(SampleContextQueryFrames(2, 5, strategy='global'), 10, seed)
        assert [i // 5 for i in results['context_frame_ids']] == [0, 1]
        assert [i // 2 for i in results['query_frame_ids']] == [0, 1, 2, 3, 4]
    for test_mode in (False, True):
        transform = SampleContextQueryFrames(strategy='local', test_mode=test_mode)
        results = _sample(transform, 10)
        assert results['context_frame_ids'] == []
        assert np.diff(results['query_frame_ids']).tolist() == [1] * (9 if test_mode else 3)
    results = _sample(SampleContextQueryFrames(num_query=5), 2)
    assert results['query_frame_ids'] == [0, 1, 1, 1, 1]


def test_random_and_among():
    seen = set()
    for seed in range(60):
        results = _sample(SampleContextQueryFrames(3, 4, strategy='random'), 9, seed)
        for ids, number in ((results['context_frame_ids'], 3), (results['query_frame_ids'], 4)):
            assert len(ids) == len(set(ids)) == number
            assert ids == sorted(ids)
            seen.update(ids)
    assert seen == set(range(9))
    places = set()
    for seed in range(60):
        results = _sample(
            SampleContextQueryFrames(4, num_query=1, strategy='among'), 12, seed)
        context, (target, ) = results['context_frame_ids'], results['query_frame_ids']
        assert [i // 3 for i in context] == [0, 1, 2, 3]
        places.add(context.index(target))
    assert places == {0, 1, 2, 3}
    with pytest.raises(ValueError, match='expected num_context of at least 1, got 0'):
        SampleContextQueryFrames(0, strategy='among')


@pytest.mark.parametrize('num_frames', [1, 2, 3])
@pytest.mark.parametrize('strategy, test_mode', [
    *((name, False) for name in ('global_local', 'global', 'local', 'random', 'among')),
    ('global_local', True), ('local', True)])
def test_short_videos_work(strategy, num_frames, test_mode):
    for seed in range(10):
        results = _sample(SampleContextQueryFrames(
            num_context=4, num_query=5, strategy=strategy, test_mode=test_mode), num_frames, seed)
        context, query = results['context_frame_ids'], results['query_frame_ids']
        assert len(context) == (0 if strategy == 'local' else 4)
        assert len(query) == (num_frames if test_mode else 5)
        assert all(type(i) is int and 0 <= i < num_frames for i in context + query)


def test_expressions_and_the_generator():
    transform = SampleContextQueryFrames(num_expressions=3)
    counts = np.zeros(5)
    for seed in range(300):
        chosen = [int(e['exp_id']) for e in _sample(transform, 8, seed, 5)['expressions']]
        assert len(set(chosen)) == 3
        counts[chosen] += 1
    assert counts.min() > 140
    assert len(_sample(transform, 8, 0, 2)['expressions']) == 2
    transform = SampleContextQueryFrames()
    keys = ('context_frame_ids', 'query_frame_ids', 'expressions')
    first, same, other = (_sample(transform, 50, seed) for seed in (1, 1, 2))
    assert [first[k] for k in keys] == [same[k] for k in keys]
    assert [first[k] for k in keys] != [other[k] for k in keys]


def test_test_mode():
    results = _sample(SampleContextQueryFrames(num_context=4, test_mode=True), 12)
    assert results['context_frame_ids'] == [1, 4, 7, 10]
    assert results['query_frame_ids'] == list(range(12))
    assert [e['exp_id'] for e in results['expressions']] == ['0', '1', '2', '3']
    results = dict(frame_names=tuple('abcdefgh'), expressions=[])
    assert SampleContextQueryFrames(test_mode=True)(dict(results))['context_frame_ids'] == []
    stated = SampleContextQueryFrames(num_context=2, test_mode=True)(dict(results))
    assert stated['context_frame_ids'] == [2, 6]
    for strategy in ('global', 'random', 'among'):
        with pytest.raises(ValueError, match=f"propagator says: expected no .* got '{strategy}'"):
            SampleContextQueryFrames(strategy=strategy, test_mode=True)
    with pytest.raises(ValueError, match='expected no kind_weights with test_mode=True'):
        SampleContextQueryFrames(kind_weights=dict(event=1), test_mode=True)


@pytest.mark.parametrize('kwargs, message', [
    ({'strategy': 'globallocal'}, "strategy must be one of .*'global_local'.* got 'globallocal'"),
    ({'num_context': -1}, 'num_context must be an integer of at least 0, got -1'),
    ({'num_query': 0}, 'num_query must be an integer of at least 1, got 0'),
    ({'num_expressions': 0}, 'num_expressions must be an integer of at least 1, got 0'),
    ({'num_context': 4.0}, 'num_context must be an integer'),
    ({'num_context': 1000}, r'num_context \+ num_query of at most 512 frames, got 1000 \+ 4'),
    ({'num_query': 10**9}, r'at most 512 frames, got 4 \+ 1000000000'),
])
def test_bad_sampling_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        SampleContextQueryFrames(**kwargs)
    with pytest.raises(TypeError, match='num_contexts'):
        TRANSFORMS.build({'type': 'SampleContextQueryFrames', 'num_contexts': 4})


# ---- frames ----


def test_frames_are_rgb_and_read_once(mevis_root):
    results = _dataset(mevis_root, [
        SampleContextQueryFrames(num_context=3, num_query=5), LoadRefVOSFrames()])[2]
    context, query = results['context_imgs'], results['query_imgs']
    assert (len(context), len(query), results['ori_shape']) == (3, 5, (32, 32))
    for i, image in zip(results['context_frame_ids'], context):
        assert image.dtype == np.uint8
        assert np.abs(image.reshape(-1, 3).mean(0) - [200, 10 * i, 10 * i]).max() < 6
        assert image is query[i]


# ---- masks ----


@pytest.mark.parametrize('overlap', ['or', 'sum'])
def test_masks_of_each_expression(mevis_root, object_mask, overlap):
    results = _dataset(mevis_root, [
        SampleContextQueryFrames(num_query=12, num_expressions=4), LoadRefVOSFrames(),
        LoadRefVOSMasks(overlap=overlap)])[0]
    masks = results['gt_masks']
    assert masks.dtype == np.uint8
    assert masks.shape == (4, 12, 40, 56)
    by_id = {e['exp_id']: masks[i] for i, e in enumerate(results['expressions'])}
    first = np.stack([object_mask((40, 56), 0, t) for t in range(12)]).astype(np.uint8)
    second = np.stack([object_mask((40, 56), 1, t) for t in range(12)]).astype(np.uint8)
    second[1] = 0
    assert np.array_equal(by_id['0'], first)
    assert np.array_equal(by_id['1'], second)
    assert np.array_equal(by_id['2'], first + second if overlap == 'sum' else first | second)
    assert by_id['2'].max() == (2 if overlap == 'sum' else 1)
    assert not by_id['3'].any()


def test_masks_need_ground_truth(mevis_root):
    (mevis_root / 'mask_dict.json').unlink()
    dataset = _dataset(mevis_root, _train_pipeline(), test_mode=True)
    with pytest.raises(ValueError, match="video 'long' of mevis: expected a data set with masks"):
        dataset[0]
    with pytest.raises(ValueError, match=r"overlap must be one of \('or', 'sum'\), got 'xor'"):
        LoadRefVOSMasks(overlap='xor')


# ---- resize ----


def test_images(mevis_root):
    results = _dataset(mevis_root, _train_pipeline(num_context=3, num_query=5)[:2])[2]
    results = ResizeForEncoders(vision_size=28, sam_size=16)(results)
    clip_imgs, sam_imgs = results['clip_imgs'], results['sam_imgs']
    assert (clip_imgs.shape, clip_imgs.dtype) == ((8, 3, 28, 28), torch.uint8)
    assert (sam_imgs.shape, sam_imgs.dtype) == ((5, 3, 16, 16), torch.float32)
    green = torch.tensor([10. * i for i in results['context_frame_ids'] + [0, 1, 2, 3, 4]])
    assert (clip_imgs[:, 1].float().mean((1, 2)) - green).abs().max() < 6
    assert (sam_imgs[:, 1].mean((1, 2)) - green[3:] / 255).abs().max() < 0.03
    assert (sam_imgs[:, 0] - 200 / 255).abs().max() < 0.03
    image = np.zeros((20, 40, 3), np.uint8)
    image[:, :8] = 255
    results = {'context_frame_ids': [], 'query_frame_ids': [0], 'context_imgs': [],
               'query_imgs': [image]}
    center = ResizeForEncoders(20, 16, vision_crop='center')(dict(results))['clip_imgs']
    squash = ResizeForEncoders(20, 16, vision_crop='squash')(dict(results))['clip_imgs']
    assert center.max() == 0
    assert squash[0, 0, :, :3].min() > 240


@pytest.mark.parametrize('kwargs, message', [
    ({'vision_size': 0, 'sam_size': 8}, 'vision_size must be an integer of at least 1, got 0'),
    ({'vision_size': 8, 'sam_size': (8, 8)},
     r'sam_size must be an integer of at least 1, got \(8, 8\)'),
    ({'vision_size': 8, 'sam_size': 8, 'vision_crop': 'centre'}, "vision_crop .*got 'centre'"),
])
def test_bad_resize_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        ResizeForEncoders(**kwargs)


# ---- conversation ----


def test_conversation():
    transform = BuildConversation(tokenizer='tiny', template='llava_v1')
    tokenizer, template = SegTokenizer.from_pretrained('tiny'), get_template('llava_v1')
    texts = ['The Red circle.', 'a box']
    results = transform({'expressions': [{'exp': text} for text in texts],
                         'context_frame_ids': [0, 1], 'query_frame_ids': [2, 3, 4],
                         'rng': np.random.default_rng(5)})
    rng = np.random.default_rng(5)
    for e, text in enumerate(texts):
        questions, answers = rng.integers(4, size=3).tolist(), rng.integers(5, size=3).tolist()
        input_ids, labels = build_conversation(tokenizer, template, text, 2, questions, answers)
        assert np.array_equal(results['input_ids'][e], input_ids)
        assert np.array_equal(results['labels'][e], labels)
        assert results['input_ids'][e].dtype == results['labels'][e].dtype == np.int64
        assert (input_ids == -200).sum() == 5
        assert (labels == tokenizer.seg_id).sum() == 3
    with pytest.raises((ValueError, FileNotFoundError), match='no-such'):
        BuildConversation(tokenizer='no-such', template='compact')
    with pytest.raises(ValueError, match='no-such'):
        BuildConversation(tokenizer='tiny', template='no-such')


# ---- packing and whole pipelines ----


def test_official_training_sample():
    """Masks and images of the official data loader, for the frames and expressions it drew."""
    expected = json.loads((OFFICIAL / 'expected.json').read_text())
    arrays = np.load(OFFICIAL / 'inputs.npz')
    dataset = MeViSDataset(data_root=str(OFFICIAL / 'mevis' / 'train'), min_frames=4)
    infos = {info['video_id']: info for info in map(dataset.get_data_info, range(len(dataset)))}
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)
    for b, sample in enumerate(expected['samples']):
        results = infos[sample['video']]
        by_id = {e['exp_id']: e for e in results['expressions']}
        position = {Path(p).name: i for i, p in enumerate(results['img_paths'])}
        results.update(
            mask_store=dataset.masks,
            expressions=[by_id[name.rsplit('_', 1)[1]] for name in sample['str_ids']],
            context_frame_ids=[position[Path(f).name] for f in sample['context_frame_files']],
            query_frame_ids=[position[Path(f).name] for f in sample['question_frame_files']])
        for transform in (LoadRefVOSFrames(), LoadRefVOSMasks(overlap='sum'),
                          ResizeForEncoders(vision_size=224, sam_size=1024)):
            results = transform(results)
        assert np.array_equal(results['gt_masks'], arrays[f'masks_b{b}'])
        clip_imgs = (results['clip_imgs'] / 255 - mean) / std
        assert np.abs(clip_imgs[..., ::8, ::8].numpy() - arrays['images_clip_s8'][b]).max() < 1e-5


def test_kind_weights():
    expressions = [dict(exp_id=str(i), kind=kind) for i, kind in enumerate('aabbc')]
    transform = SampleContextQueryFrames(
        num_context=0, num_query=1, num_expressions=1, kind_weights=dict(a=9, b=1))
    kinds = []
    for draw in range(300):
        results = dict(
            frame_names=('0', '1'), expressions=expressions, rng=np.random.default_rng(draw))
        kinds += [item['kind'] for item in transform(results)['expressions']]
    assert set(kinds) == {'a', 'b'} and 240 < kinds.count('a') < 295

    few = SampleContextQueryFrames(num_expressions=4, kind_weights=dict(b=1))
    results = dict(frame_names=('0', ), expressions=expressions, rng=np.random.default_rng(0))
    assert [item['kind'] for item in few(results)['expressions']] == ['b', 'b']
    results = dict(video_id='v', frame_names=('0', ), expressions=[dict(kind='a')],
                   rng=np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"video 'v': .*kinds \['b'\], got \['a'\]"):
        SampleContextQueryFrames(kind_weights=dict(b=1))(results)
    results.update(dataset='moving_shapes', known_kinds=('event', 'look-alike'))
    with pytest.raises(ValueError, match="data set 'moving_shapes', .*got 'lookalike'; did you "
                                         "mean 'look-alike'"):
        SampleContextQueryFrames(kind_weights={'event': 1, 'lookalike': 1})(results)
    with pytest.raises(ValueError, match='kind_weights must be positive'):
        SampleContextQueryFrames(kind_weights=dict(a=0))


def test_a_data_set_knows_its_kinds(mevis_root):
    """Those of MovingShapes are declared, so that one may be absent; others are those annotated."""
    path = mevis_root / 'meta_expressions.json'
    content = json.loads(path.read_text())
    for video in content['videos'].values():
        for expression in video['expressions'].values():
            expression['kind'] = 'event'
    path.write_text(json.dumps(content))
    pipeline = [SampleContextQueryFrames(kind_weights=dict(event=1, late=1))]
    assert MovingShapesDataset(data_root=str(mevis_root), pipeline=pipeline)[0]['expressions']
    with pytest.raises(ValueError, match=r"data set 'mevis', \['event'\], got 'late'"):
        MeViSDataset(data_root=str(mevis_root), pipeline=pipeline)[0]
