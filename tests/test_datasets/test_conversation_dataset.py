"""Conversations without masks: their file, what is shown, their ids, and errors that say where."""

import json
import re

import cv2
import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate

from glus_mm.datasets import ConversationDataset, MeViSDataset, MixedRefVOSDataset
from glus_mm.datasets.moving_shapes import write_split
from glus_mm.datasets.transforms import BuildTalk
from glus_mm.text.prompt import (
    IMAGE_TOKEN_INDEX,
    build_conversation,
    build_talk,
    get_template,
    load_tokenizer,
)

TEXT = dict(tokenizer='tiny', template='compact')
PIPELINE = [
    dict(type='BuildTalk', num_context=2, **TEXT),
    dict(type='LoadRefVOSFrames', same_size=False),
    dict(type='ResizeForEncoders', vision_size=16, sam_size=32, vision_crop='squash'),
    dict(type='PackRefVOSInputs')
]
pytestmark = pytest.mark.usefixtures('scope')


def talk(*texts):
    return [{'from': ('human', 'gpt')[i % 2], 'value': text} for i, text in enumerate(texts)]


@pytest.fixture
def root(tmp_path):
    """Two images of unlike size, and a video of five frames; frame i is as bright as 10 i."""
    for name, shape, value in (('a.png', (20, 30), 100), ('sub/b.jpg', (12, 10), 200)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / name), np.full((*shape, 3), value, np.uint8))
    (tmp_path / 'clip').mkdir()
    for i in range(5):
        cv2.imwrite(str(tmp_path / 'clip' / f'{i:02d}.png'), np.full((8, 8, 3), 10 * i, np.uint8))
    return tmp_path


@pytest.fixture
def make(root):
    """``make(entries, **build)``: a data set of these entries."""

    def make(*entries, **build):
        (root / 'talk.json').write_text(json.dumps(entries))
        pipeline = [dict(PIPELINE[0], **build), *PIPELINE[1:]]
        return ConversationDataset(str(root), 'talk.json', pipeline=pipeline)

    return make


def text_of(item, row=0):
    tokenizer = load_tokenizer('tiny', get_template('compact'))
    ids, labels = (item['inputs'][key][row].tolist() for key in ('input_ids', 'labels'))
    pieces = [tokenizer.decode([i]) if i != IMAGE_TOKEN_INDEX else '*' for i in ids]
    answers = tokenizer.decode([i for i in labels if i != -100])
    return ''.join(pieces).replace('<im_start>*<im_end>', '*'), answers


def test_an_image_with_two_turns(make):
    dataset = make({'id': 7, 'image': 'sub/b.jpg', 'conversations': talk(
        '<image>\nWhat is it?', 'a red star', 'Where is it ?', 'on the left ')})
    item = dataset[0]
    text, answers = text_of(item)
    assert answers == 'a red star</s>on the left</s>'
    assert text.startswith('<s>USER:*') and text.count('*') == 1
    assert item['inputs']['clip_imgs'].shape == (1, 3, 16, 16)
    assert item['inputs']['sam_imgs'].shape == (0, 3, 32, 32)
    sample = item['data_samples']
    assert (sample.dataset, sample.video_id) == ('conversations', '7')
    assert sample.query_frame_ids == [] and 'gt_masks' not in sample
    assert len(sample.exp_ids) == len(item['inputs']['input_ids']) == 1
    assert sample.expressions == ('<image>\nWhat is it? | Where is it ?', )


def test_a_video_shows_a_frame_of_each_clip_where_it_stands(make):
    dataset = make({'image': ['a.png', 'sub/b.jpg'], 'video': 'clip', 'conversations': talk(
        '<image>, then <video>\nWhat is it?', 'a star', '<image>\nand this?', 'a circle')})
    item = dataset[0]
    seen = item['inputs']['clip_imgs'].float().mean((1, 2, 3)).tolist()
    assert seen[0] == 100 and seen[1] in (0, 10) and seen[2] in (20, 30, 40)
    assert seen[3] == pytest.approx(200, abs=1)
    expected = build_talk(
        load_tokenizer('tiny', get_template('compact')), get_template('compact'),
        [('<image>, then <image><image>\nThese are context frames.\nWhat is it?', 'a star'),
         ('<image>\nand this?', 'a circle')], 1)
    for key, ids in zip(('input_ids', 'labels'), expected):
        assert np.array_equal(item['inputs'][key][0], ids)
    draws = {tuple(dataset[0, draw]['data_samples'].context_frame_ids) for draw in range(20)}
    assert len(draws) == 6


def test_the_frames_of_a_video_begin_as_those_of_a_referring_sample():
    for name in ('compact', 'llava_v1', 'selector'):
        template = get_template(name)
        tokenizer = load_tokenizer('tiny', template)
        ids, _ = build_talk(tokenizer, template, [('<video>\nwhy', 'so')], 3)
        other, _ = build_conversation(tokenizer, template, 'a star', 3, [0], [0])
        last = max(i for i, index in enumerate(ids) if index == IMAGE_TOKEN_INDEX)
        assert np.array_equal(ids[:last + 4], other[:last + 4])


def test_pairs_and_entries_that_show_nothing(make):
    dataset = make({'conversations': talk('Who?', 'Me.')},
                   {'image': 'a.png', 'conversations': talk('<image> Who?', 'Me.')})
    assert len(dataset) == 1 and dataset[0]['data_samples'].video_id == '1'
    entry = {'video': 'clip', 'conversations': talk(
        '<video>\nWhat is it?', 'a star', 'how many?', 'one', 'and more?', 'no')}
    dataset = make(entry, num_pairs=2)
    items = [dataset[0, draw] for draw in range(12)]
    texts = {text_of(item, row) for item in items for row in range(2)}
    assert {answers for _, answers in texts} == {'a star</s>', 'one</s>', 'no</s>'}
    assert {text.count('*') for text, _ in texts} == {2}
    assert all(item['inputs']['clip_imgs'].shape[0] == 2 for item in items)
    assert all(len(set(item['data_samples'].exp_ids)) == 2 for item in items)
    entry['conversations'][2]['value'] = '<image> how many?'
    dataset = make(dict(entry, image='a.png'), num_pairs=2)
    with pytest.raises(ValueError, match=r'entry 0: expected everything that is shown in the fir'):
        dataset[0]


GOOD = {'id': 'x', 'image': 'a.png', 'conversations': talk('<image>\nWhat?', 'a star')}


@pytest.mark.parametrize('change, expected', [
    (dict(image=['a.png', 'a.png']), r"entry 1 \(id 'x'\), key 'image': expected one for each of 1 "
                                     r'<image> in the questions, got 2'),
    (dict(id=2.5), "entry 1, key 'id': expected text or an integer, got 2.5"),
    (dict(image=None), r"key 'image': expected an id that is a plain file name, got None"),
    (dict(image='../a.png'), r"key 'image': expected an id that is a plain file name"),
    (dict(image=[], conversations=talk('<video>\nWhat?', 'a star')),
     r"key 'video': expected one for each of 1 <video> in the questions, got 0"),
    (dict(video='none', conversations=talk('<image><video>\nWhat?', 'a star')),
     "key 'video': expected a folder with the frames of a video at .*none"),
    (dict(video='sub2', conversations=talk('<image><video>\nWhat?', 'a star')),
     r"key 'video': expected frames \(.jpg, .jpeg, .png\) in the folder .*sub2, got none"),
    (dict(conversations=[{'from': 'system', 'value': 'Be good.'}, *talk('<image> a', 'b')][:2]),
     r"message 0, key 'from': expected 'human', as 'human' and 'gpt' take turns, got 'system'"),
    (dict(conversations=talk('<image> a', 'b', 'c')), 'an answer to each question, got 3 messages'),
    (dict(conversations=[]), 'an answer to each question, got 0 messages'),
    (dict(conversations=talk('<image> a', ' ')), "message 1, key 'value': expected an answer with"),
    (dict(conversations=talk('<image>', 'a')), "message 0, key 'value': expected a question with"),
    (dict(conversations=talk('<image> a', 'it is [SEG]')), r"message 1, .*no '\[SEG\]' in an answ"),
    (dict(conversations=talk('<image> a </s>', 'b')), "message 0, .*no '</s>' in a question"),
    (dict(conversations=talk('<image> a', 'b <IMAGE>')), "message 1, .*no '<image>' in an answer"),
    (dict(conversations='hello'), r"entry 1, key 'conversations': expected list, got str"),
])
def test_errors_name_file_and_entry(make, root, change, expected):
    (root / 'sub2').mkdir()
    with pytest.raises((ValueError, FileNotFoundError), match=expected) as error:
        make(GOOD, {**GOOD, **change})
    assert str(error.value).startswith(f'{root}/talk.json: entry 1')


def test_errors_of_items_name_file_and_entry(make, root):
    missing = make(GOOD, dict(GOOD, image='c.png'))
    assert missing[0]
    where = re.escape(f"{root}/talk.json: entry 1 (id 'x'): ")
    with pytest.raises(FileNotFoundError, match=where + '.*c.png'):
        missing[1]
    many = make(GOOD, dict(GOOD, video='clip', conversations=talk('<image><video> a', 'b')),
                max_images=2)
    with pytest.raises(ValueError, match=where + r'expected at most 2 images .* got 3'):
        many[1]


@pytest.mark.parametrize('content', ['{}', '[1', '[3]'])
def test_no_list_of_entries(root, content):
    (root / 'talk.json').write_text(content)
    with pytest.raises(ValueError, match='talk.json: (expected a JSON|entry 0: expected an obj)'):
        ConversationDataset(str(root), 'talk.json')


def test_arguments():
    with pytest.raises(ValueError, match='num_pairs must be an integer of at least 1, got 0'):
        BuildTalk(num_pairs=0, **TEXT)


def test_in_a_mix_with_referring_data(tmp_path):
    """The talk of MovingShapes beside its masks: one batch as the loader collates it."""
    folder = write_split(tmp_path, 2, 0, 'train', mp4=False, talk=6)
    refer = [dict(type='SampleContextQueryFrames', num_context=2, num_query=2),
             dict(type='LoadRefVOSFrames'), dict(type='LoadRefVOSMasks'), PIPELINE[2],
             dict(type='BuildConversation', **TEXT), PIPELINE[3]]
    mix = MixedRefVOSDataset([
        dict(type='ConversationDataset', data_root=str(folder), ann_file='talk.json',
             pipeline=[dict(PIPELINE[0], num_pairs=3), *PIPELINE[1:]]),
        dict(type='MovingShapesDataset', data_root=str(folder), pipeline=refer)])
    assert len(mix) == 4 and isinstance(mix.datasets[1], MeViSDataset)
    inputs = pseudo_collate([mix[0], mix[2]])['inputs']
    assert [len(images) for images in inputs['sam_imgs']] == [0, 2]
    assert [len(images) for images in inputs['clip_imgs']] == [2, 4]
    assert [len(rows) for rows in inputs['input_ids']] == [3, 3]
    assert all(torch.is_tensor(images) for images in inputs['sam_imgs'])
