"""Images with expressions as videos of one frame: layouts, masks, and errors that say where."""

import json
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from dataset_layouts import LAYOUTS
from mmengine import Config
from mmengine.dataset import pseudo_collate
from pycocotools import mask as coco_mask

import programs
from glus_mm.datasets import COCOClassDataset, ReasonSegDataset, RefCOCODataset
from glus_mm.registry import DATA_SAMPLERS, DATASETS, MODELS
from glus_mm.utils.masks import decode_rle, encode_mask
from glus_mm.utils.plain_pickle import read_plain_pickle
from programs import ROOT

SIZE = (20, 30)
TEXT = dict(tokenizer='tiny', template='compact')
PIPELINE = [
    dict(type='SampleContextQueryFrames', num_context=4, num_query=4, num_expressions=9),
    dict(type='LoadRefVOSFrames'), dict(type='LoadRefVOSMasks'),
    dict(type='ResizeForEncoders', vision_size=16, sam_size=32, vision_crop='squash'),
    dict(type='BuildConversation', **TEXT), dict(type='PackRefVOSInputs')
]
TEST_PIPELINE = [
    dict(type='SampleContextQueryFrames', num_context=4, test_mode=True),
    dict(type='OpenFrameReader'), dict(type='LoadRefVOSGroundTruth'), dict(type='PackRefVOSInputs')
]
pytestmark = pytest.mark.usefixtures('scope')


def tool(path):
    return programs.load(ROOT / 'tools' / path)


def box(left, top, right, bottom):
    """A polygon around whole pixels, and their mask."""
    mask = np.zeros(SIZE, dtype=bool)
    mask[top:bottom, left:right] = True
    return [left, top, right, top, right, bottom, left, bottom], mask


def runs(mask):
    """Uncompressed run lengths, column by column."""
    flat = np.concatenate([[0], mask.T.ravel().astype(int), [2]])
    ends = np.flatnonzero(np.diff(flat))
    counts = np.diff(np.concatenate([[0], ends])).tolist()
    return dict(size=list(mask.shape), counts=counts)


def write_image(path, size=SIZE):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((*size, 3), 90, np.uint8))


ONE, TWO, THREE = box(2, 3, 12, 9), box(8, 5, 20, 15), box(22, 1, 28, 6)


def instances():
    """Two images; the second one's crowd has run lengths that are not compressed."""
    return dict(
        images=[dict(id=number, file_name=f'{name}.jpg', height=SIZE[0], width=SIZE[1])
                for number, name in ((5, 'five'), (6, 'six'), (7, 'bare'))],
        categories=[dict(id=1, name='person'), dict(id=44, name='traffic light')],
        annotations=[
            dict(id=10, image_id=5, category_id=1, segmentation=[ONE[0], THREE[0]], iscrowd=0),
            dict(id=11, image_id=5, category_id=1, segmentation=encode_mask(TWO[1])),
            dict(id=12, image_id=5, category_id=44, segmentation=[THREE[0]]),
            dict(id=13, image_id=6, category_id=44, segmentation=runs(TWO[1]), iscrowd=1)])


def refs():
    return [
        dict(ref_id=1, ann_id=10, image_id=5, split='train', file_name='five_10.jpg', sentences=[
            dict(sent_id=100, sent='the man'), dict(sent_id=101, sent='two boxes')]),
        dict(ref_id=2, ann_id=11, image_id=5, split='train', sentences=[
            dict(sent_id=102, sent='blue shirt')]),
        dict(ref_id=3, ann_id=13, image_id=6, split='testA', sentences=[
            dict(sent_id=103, sent='the light')])]


@pytest.fixture
def refer(tmp_path):
    """``refer(change, split)``: RefCOCO after ``change(instances, refs)``."""
    for name in ('five', 'six'):
        write_image(tmp_path / 'images/mscoco/images/train2014' / f'{name}.jpg')
    (tmp_path / 'refcoco').mkdir()

    def make(change=lambda content, refs: None, split='train', **options):
        content, entries = instances(), refs()
        change(content, entries)
        (tmp_path / 'refcoco/instances.json').write_text(json.dumps(content))
        # As Python 2 wrote it.
        (tmp_path / 'refcoco/refs(unc).p').write_bytes(pickle.dumps(entries, protocol=2))
        options = dict(pipeline=PIPELINE) | options
        return RefCOCODataset(str(tmp_path), split=split, **options)

    return make


def test_refcoco_as_one_frame_videos(refer):
    item = refer()[0]
    sample, inputs = item['data_samples'], item['inputs']
    assert sample.video_id == '5' and sample.dataset == 'refcoco' and sample.ori_shape == SIZE
    assert sample.context_frame_ids == sample.query_frame_ids == [0] * 4
    assert sample.gt_masks.shape == (3, 4, *SIZE)
    expected = {'the man': ONE[1] | THREE[1], 'two boxes': ONE[1] | THREE[1],
                'blue shirt': TWO[1]}
    assert set(sample.expressions) == set(expected)
    for text, masks, objects in zip(sample.expressions, sample.gt_masks, sample.object_ids):
        assert all(np.array_equal(mask, expected[text]) for mask in masks.numpy())
        assert objects == (('11', ) if text == 'blue shirt' else ('10', ))
    assert len(inputs['clip_imgs']) == 8 and len(inputs['sam_imgs']) == 4
    assert all(image.equal(inputs['sam_imgs'][0]) for image in inputs['sam_imgs'])


def test_testing_and_json(refer, tmp_path):
    sample = refer(split='testA', test_mode=True, pipeline=TEST_PIPELINE)[0]['data_samples']
    assert sample.frame_names == ('six', ) and sample.expressions == ('the light', )
    assert np.array_equal(decode_rle(sample.gt_rles[0][0]), TWO[1])
    plain = refer()
    (tmp_path / 'refs.json').write_text(json.dumps(refs()))
    other = RefCOCODataset(str(tmp_path), 'refs.json')
    assert [other.get_data_info(i)['expressions'] for i in range(len(other))] == [
        plain.get_data_info(i)['expressions'] for i in range(len(plain))]


@pytest.mark.parametrize('change, expected', [
    (lambda c, r: r[1].update(image_id=9), r'entry 1 \(ref_id 2\), key \'image_id\': expected one '
                                           r'of the 3 in .*instances.json, got 9'),
    (lambda c, r: r[1].update(ann_id=99), r"entry 1 \(ref_id 2\), key 'ann_id': .* got 99"),
    (lambda c, r: r[0].update(ann_id=13), r"entry 0 \(ref_id 1\), key 'ann_id': expected an "
                                          r'annotation of image 5, got 13, which .* on image 6'),
    (lambda c, r: r[0]['sentences'][1].update(sent='it is [SEG]'), r"entry 0 .* no '\[SEG\]' in"),
    (lambda c, r: r[0].pop('split'), "entry 0: expected the key 'split'"),
    (lambda c, r: [ref.update(split='val') for ref in r], r"split 'train', got those of \['val'\]"),
    (lambda c, r: c['annotations'][1].update(segmentation=[[1, 2, 3, 4]]),
     r'annotations 1 \(id 11\).*expected run lengths, or polygons of at least 3 points'),
    *[(lambda c, r, n=number: c['annotations'][1].update(segmentation=[[1, 2, 3, 4, 5, n]]),
       r'annotations 1 \(id 11\).*polygons of at least 3 points .* of the image')
      for number in (float('nan'), float('inf'), 1e300, 10**400, -90)],
    *[(lambda c, r, s=size: c['annotations'][3]['segmentation'].update(size=s),
       r'annotations 3 \(id 13\).*expected (null or an RLE|run lengths that cover)')
      for size in (3, [20], ['20', 30], [-20, -30], [1 << 40, 1 << 40])],
    (lambda c, r: c['annotations'][3]['segmentation']['counts'].append(7),
     r'annotations 3 \(id 13\).*expected run lengths that cover 20 x 30 pixels'),
    (lambda c, r: c['annotations'][1].update(category_id=3),
     r"annotations 1 \(id 11\), key 'category_id': expected an id of the 2 in the file, got 3"),
    (lambda c, r: c['images'][1].update(id=5), "images 1, key 'id': expected unique ids, got 5"),
    (lambda c, r: c['images'][1].update(file_name='../x'), "images 1.*plain file name, got '../x'"),
])
def test_files_that_disagree(refer, change, expected):
    with pytest.raises(ValueError, match=expected):
        refer(change)


def test_images_that_disagree(refer, tmp_path):
    dataset = refer()
    write_image(tmp_path / 'images/mscoco/images/train2014/five.jpg', (40, 40))
    with pytest.raises(ValueError, match=r'refs\(unc\).p: entry 0 \(ref_id 1\): .*five.jpg .*expect'
                                         r'ed a frame of size \(H, W\) = \(20, 30\).*\(40, 40\)'):
        dataset[0]
    (tmp_path / 'images/mscoco/images/train2014/five.jpg').unlink()
    with pytest.raises(FileNotFoundError, match=r'refs\(unc\).p: entry 0 \(ref_id 1\): .*five.jpg'):
        dataset[0]


class Harmful:
    """What a harmful pickle looks like: loading it would write a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), 'w'))


def test_a_pickle_cannot_run_code(refer, tmp_path):
    target = tmp_path / 'harm'
    dataset = refer(lazy_init=True)
    (tmp_path / 'refcoco/refs(unc).p').write_bytes(pickle.dumps([Harmful(target)]))
    with pytest.raises(ValueError, match=r'refs\(unc\).p: expected a pickle of plain containers.* '
                                         r'it asks for (_?io|builtins).open'):
        dataset.full_init()
    assert not target.exists()
    for data in (b'', b'\x80\x02]', b'garbage'):
        (tmp_path / 'x.p').write_bytes(data)
        with pytest.raises(ValueError, match='x.p: expected a pickle of plain'):
            read_plain_pickle(tmp_path / 'x.p')
    with pytest.raises(FileNotFoundError, match='none.p'):
        read_plain_pickle(tmp_path / 'none.p')


def test_names_of_classes_as_expressions(tmp_path):
    for name in ('five', 'six'):
        write_image(tmp_path / 'train2017' / f'{name}.jpg')
    (tmp_path / 'annotations').mkdir()
    path = tmp_path / 'annotations/instances_train2017.json'
    path.write_text(json.dumps(instances()))
    dataset = COCOClassDataset(str(tmp_path), pipeline=PIPELINE)
    assert len(dataset) == 2, 'the third image has no annotation'
    masks = {}
    for i in range(2):
        sample = dataset[i]['data_samples']
        masks |= {(sample.video_id, text): mask[0].numpy()
                  for text, mask in zip(sample.expressions, sample.gt_masks)}
    expected = {('5', 'person'): ONE[1] | TWO[1] | THREE[1], ('5', 'traffic light'): THREE[1],
                ('6', 'traffic light'): TWO[1]}
    assert masks.keys() == expected.keys()
    for key, mask in masks.items():
        assert np.array_equal(mask, expected[key]), key


def test_polygons_are_drawn_as_pycocotools_does(tmp_path):
    write_image(tmp_path / 'train2017/five.jpg')
    content = instances()
    slanted = [3.5, 2.25, 20.0, 4.75, 11.5, 17.5]
    content['annotations'] = [dict(id=1, image_id=5, category_id=1, segmentation=[slanted])]
    (tmp_path / 'x.json').write_text(json.dumps(content))
    mask = COCOClassDataset(str(tmp_path), 'x.json', pipeline=PIPELINE)[0]['data_samples'].gt_masks
    expected = coco_mask.decode(coco_mask.frPyObjects([slanted], *SIZE))[..., 0]
    assert np.array_equal(mask[0, 0], expected)


@pytest.fixture
def reason(tmp_path):
    """``reason(change)``: ReasonSeg after a change of its one file."""
    write_image(tmp_path / 'train/a.jpg')

    def make(change=lambda content: None):
        # Small, medium and large: the medium one is ignored, the small one inside it is not.
        content = dict(text=['Where to sit?', 'the seat'], is_sentence=True, shapes=[
            dict(label='target', points=[[8, 8], [10, 8], [10, 10], [8, 10]]),
            dict(label='target', points=[[1, 1], [25, 1], [25, 15], [1, 15]]),
            dict(label='IGNORE', points=[[5, 5], [14, 5], [14, 13], [5, 13]]),
            dict(label='flag', points=[[0, 0], [29, 0], [29, 19]])])
        change(content)
        (tmp_path / 'train/a.json').write_text(json.dumps(content))
        return ReasonSegDataset(str(tmp_path), pipeline=PIPELINE)

    return make


def test_reason_seg(reason):
    sample = reason()[0]['data_samples']
    expected = np.zeros(SIZE, dtype=bool)
    expected[1:16, 1:26] = True
    expected[5:14, 5:15] = False
    expected[8:11, 8:11] = True
    assert set(sample.expressions) == {'Where to sit?', 'the seat'}
    assert all(np.array_equal(mask, expected) for mask in sample.gt_masks.flatten(0, 1).numpy())


@pytest.mark.parametrize('change, expected', [
    (lambda c: c.update(text=[]), "a.json: expected at least one text in 'text'"),
    (lambda c: c.update(text=['a <image>']), "a.json, key 'text': expected no '<image>'"),
    (lambda c: c['shapes'][0].update(points=[[1, 2, 3]]), "a.json, key 'shapes', entry 0, key 'po"),
    *[(lambda c, n=number: c['shapes'][0]['points'][0].__setitem__(0, n),
       "entry 0, key 'points': expected .* at most 100000 pixels away")
      for number in (float('nan'), float('-inf'), 1e300, 10**400)],
    (lambda c: c.update(shapes=c['shapes'][2:]), "expected a polygon with the label 'target'"),
    (lambda c: c.pop('shapes'), "a.json: expected the key 'shapes'"),
])
def test_errors_of_reason_seg(reason, change, expected):
    with pytest.raises(ValueError, match=expected):
        reason(change)


def test_reason_seg_in_an_old_code_page(reason, tmp_path):
    reason()
    path = tmp_path / 'train/a.json'
    path.write_bytes(path.read_bytes().replace(b'the seat', b'the seat \x93here\x94'))
    sample = ReasonSegDataset(str(tmp_path), pipeline=PIPELINE)[0]['data_samples']
    assert 'the seat \u201chere\u201d' in sample.expressions


def test_label_maps(tmp_path, capsys):
    """ADE20K's and COCO-Stuff's ways of naming numbers, through the converter and the reader."""
    label_maps = tool('dataset_converters/label_maps.py').main
    write_image(tmp_path / 'images/a.jpg')
    (tmp_path / 'maps').mkdir()
    labels = np.zeros(SIZE, np.uint8)
    labels[ONE[1]], labels[THREE[1]] = 1, 3
    cv2.imwrite(str(tmp_path / 'maps/a.png'), labels)
    (tmp_path / 'ade.txt').write_text(
        'Idx\tRatio\tTrain\tVal\tStuff\tName\n1\t0.15\t11664\t1172\t1\twall\n'
        '3\t0.1\t1\t1\t1\tsky, heaven\n')
    (tmp_path / 'stuff.txt').write_text('0: unlabeled\n2: person\n4: wall-brick\n')
    args = [str(tmp_path / name) for name in ('images', 'maps', 'ade.txt', 'out.json')]
    assert label_maps([*args, '--ignore', '0']) == 0
    assert 'wrote 1 images with 2 masks' in capsys.readouterr().out
    dataset = COCOClassDataset(str(tmp_path), 'out.json', dict(img='images'), pipeline=PIPELINE)
    sample = dataset[0]['data_samples']
    masks = dict(zip(sample.expressions, sample.gt_masks[:, 0].numpy()))
    assert masks.keys() == {'wall', 'sky'}
    assert np.array_equal(masks['wall'], ONE[1]) and np.array_equal(masks['sky'], THREE[1])
    args[2] = str(tmp_path / 'stuff.txt')
    assert label_maps([*args, '--ignore', '0', '--offset', '-1']) == 0
    names = [item['name'] for item in json.loads(Path(args[3]).read_text())['categories']]
    assert names == ['unlabeled', 'person', 'wall-brick']
    capsys.readouterr()
    assert label_maps(args) == 1
    assert "a.png: expected numbers of 0..4 with a name, or to be ignored ([255]), got 1" \
        in capsys.readouterr().err


def write_trees(root):
    """Everything that the mix of videos, images and talk reads, below ``root/data``."""
    for name in ('mevis/train', 'mevis/valid_u', 'Refer-YouTube-VOS'):
        LAYOUTS['mevis' if 'mevis' in name else 'ref_youtube_vos'].write(root / 'data' / name)
    folders = {'ade20k': 'images/training', 'cocostuff': 'train2017', 'coco': 'train2017',
               'refer_seg': 'images/mscoco/images/train2014'}
    for name, folder in folders.items():
        for image in ('five', 'six'):
            write_image(root / 'data' / name / folder / f'{image}.jpg')
    files = {f'refer_seg/{name}/instances.json': instances()
             for name in ('refcoco', 'refcoco+', 'refcocog')}
    files |= {'ade20k/annotations/training.json': instances(),
              'cocostuff/annotations/train2017.json': instances()}
    write_image(root / 'data/reason_seg/ReasonSeg/train/a.jpg')
    files['reason_seg/ReasonSeg/train/a.json'] = dict(text=['Where to sit?'], shapes=[
        dict(label='target', points=[[8, 8], [20, 8], [10, 18]])])
    talk = [{'from': 'human', 'value': '<image>\nWhat is it?'}, {'from': 'gpt', 'value': 'A star.'}]
    files['llava_dataset/llava_instruct_150k.json'] = [dict(image='six.jpg', conversations=talk)]
    shown = [dict(talk[0], value='<video>\nWhat moves?'), talk[1]]
    files['video_chat/conversations.json'] = [dict(video='clip', conversations=shown)]
    for i in range(3):
        write_image(root / f'data/video_chat/clip/{i}.jpg')
    for name, content in files.items():
        path = root / 'data' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    for name, split in (('refcoco', 'unc'), ('refcoco+', 'unc'), ('refcocog', 'umd')):
        path = root / f'data/refer_seg/{name}/refs({split}).p'
        path.write_bytes(pickle.dumps(refs(), protocol=2))


@pytest.mark.slow
def test_looking_at_the_mix(tmp_path, monkeypatch, capsys):
    """The tools that check and draw data sets take images and talk, too."""
    write_trees(tmp_path)
    monkeypatch.chdir(tmp_path)
    config = str(ROOT / 'configs/_base_/datasets/video-image-talk.py')
    assert tool('analysis_tools/check_dataset.py').main([config, '--phase', 'train']) == 0
    shown = capsys.readouterr().out
    assert 'reason_seg: 1 videos, 1 expressions, with masks' in shown
    assert 'llava: 1 videos, 1 expressions, without masks' in shown
    (tmp_path / 'data/coco/train2017/six.jpg').unlink()
    assert tool('analysis_tools/check_dataset.py').main([config, '--phase', 'train']) == 1
    assert 'llava_instruct_150k.json: entry 0: expected an image file' in capsys.readouterr().out
    write_image(tmp_path / 'data/coco/train2017/six.jpg')
    monkeypatch.setattr('sys.argv', ['browse_dataset.py', config, '--num', '24', '--out', 'sheets'])
    tool('misc/browse_dataset.py').main()
    names = ' '.join(path.name for path in (tmp_path / 'sheets').iterdir())
    assert all(f'_{name}_' in names for name in ('llava', 'video_chat', 'mevis', 'ade20k'))


@pytest.mark.slow
def test_the_mix_of_videos_images_and_talk(tmp_path, monkeypatch, shrink):
    """Ratios of the shipped config, and a training step on a batch that holds everything."""
    write_trees(tmp_path)
    monkeypatch.chdir(tmp_path)
    name = 'glus_lisa-7b_sam2-l_4xb2-3k_video-image-talk.py'
    cfg = shrink(Config.fromfile(ROOT / 'configs/glus' / name))
    mix = DATASETS.build(cfg.train_dataloader.dataset)
    sampler = DATA_SAMPLERS.build(cfg.train_dataloader.sampler, default_args=dict(dataset=mix))
    names = [child.metainfo['dataset'] for child in mix.datasets]
    shares = dict(zip(names, np.array(sampler.ratios) / sum(sampler.ratios) * 32))
    kinds = dict(semantic=['ade20k', 'cocostuff'], referring=['refcoco', 'refcoco+', 'refcocog'],
                 talk=['llava'], reasoning=['reason_seg'], chat=['video_chat'],
                 video=['mevis', 'ref_youtube_vos'])
    assert [round(sum(shares[name] for name in kind), 6) for kind in kinds.values()] == [
        9, 3, 3, 1, 4, 12]
    starts = np.cumsum([0, *map(len, mix.datasets)])[:-1]
    torch.manual_seed(0)
    model = MODELS.build(cfg.model).train()
    data = model.data_preprocessor(pseudo_collate([mix[int(start)] for start in starts]), True)
    assert [sample.dataset for sample in data['data_samples']] == names
    losses = model(**data, mode='loss')
    assert {'loss_ce', 'loss_mask_bce', 'loss_mask_dice'} <= set(losses)
    total = model.parse_losses(losses)[0]
    total.backward()
    assert total.isfinite() and all(
        p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
