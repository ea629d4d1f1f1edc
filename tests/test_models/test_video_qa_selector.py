"""VideoQASelector: questions, key frames from answers, fallbacks, and wrong settings.

The answers of a model with random weights say nothing; :func:`say` makes it say a given text.
"""

from collections import OrderedDict

import pytest
import torch
from mmengine.logging import MMLogger

from glus_mm.models import VideoQASelector
from glus_mm.models.inference import ArrayReader
from glus_mm.registry import MODELS, build_child
from glus_mm.text.prompt import build_talk, get_template

SIZES = dict(
    vision_tower=dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
                      intermediate_size=32, image_size=16, patch_size=4),
    llm=dict(hidden_size=64, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64,
             max_position_embeddings=1024))


def build(**test_cfg):
    torch.manual_seed(0)
    return build_child(MODELS, dict(
        type='VideoQASelector', test_cfg=test_cfg,
        mllm=dict(type='ChatUniViMLLM', seg_dim=8, spatial_clusters=(8, 4, 2), **SIZES))).eval()


def say(model, text):
    """Let the answer be ``text``: each of its tokens, all different, leads to the next one."""
    mllm = model.mllm
    last = mllm.tokenizer.encode('ASSISTANT:')[-1]
    ids = [last, *mllm.tokenizer.encode(text), mllm.tokenizer.eos_id]
    assert len(set(ids)) == len(ids) <= mllm.llm.config.hidden_size
    with torch.no_grad():
        for layer in mllm.llm.layers:  # hidden states are those of the token alone
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        mllm.lm_head.weight.zero_()
        for i, (now, after) in enumerate(zip(ids, ids[1:])):
            row = torch.zeros(mllm.llm.config.hidden_size)
            row[i] = 1
            mllm.llm.embed_tokens.weight[now] = row
            mllm.lm_head.weight[after] = row
    return model


@pytest.fixture
def reader(video):
    return ArrayReader(video)


def test_the_answer_is_the_key_frame(reader, make_sample):
    model = say(build(), 'at 40%')
    sample = make_sample(('the star', 'the dog'))
    assert model.ask(reader, sample) == [['at 40%'], ['at 40%']]
    keys = model.select(reader, sample)
    assert keys.frame_ids == [3, 3] and keys.scores is None  # 0.4 of 0..7
    model.forward(dict(reader=[reader]), [sample], mode='predict')
    assert sample.key_frame_ids == [3, 3]
    assert sample.key_frame_answers == [['at 40%'], ['at 40%']]


def test_frames_count_among_those_that_are_shown(reader, make_sample):
    model = say(build(unit='frame', num_frames=3), 'frame 2')
    assert model.select(reader, make_sample(('the star', ))).frame_ids == [4]  # of 0, 3, 7
    assert 'has 3 frames, numbered from 1 to 3' in model._question('the star', reader)


def test_seconds_need_a_frame_rate(reader, make_sample):
    sample = make_sample(('the star', ))
    model = say(build(unit='time', fps=4.0), '1.5s')
    assert '2 seconds long' in model._question('the star', reader)
    assert model.select(reader, sample).frame_ids == [5]  # 0.75 of 0..7
    with pytest.raises(ValueError, match='needs model.test_cfg.fps, as a list of arrays'):
        build(unit='time').select(reader, sample)


@pytest.mark.parametrize('fallback, frame', [('middle', 4), ('first', 0)])
def test_no_moment_falls_back_and_says_so(reader, make_sample, monkeypatch, capsys, fallback,
                                          frame):
    monkeypatch.setattr(MMLogger, '_instance_dict', OrderedDict())
    model = say(build(fallback=fallback), 'no idea')
    assert model.select(reader, make_sample(('the star', ))).frame_ids == [frame]
    said = ''.join(capsys.readouterr())
    assert "expression '0', got 'no idea'" in said and f'starts at the {fallback} frame' in said


def test_no_moment_may_be_an_error(reader, make_sample):
    model = say(build(fallback='error'), 'no idea')
    message = (r"expected a moment \(percent\) in an answer on video 'video', expression '0', "
               r"got 'no idea'")
    with pytest.raises(ValueError, match=message):
        model.select(reader, make_sample(('the star', )))


def test_the_question_has_the_expression(reader):
    question = build()._question('Which dog is it?', reader)
    assert question == (
        "If I want to find 'which dog is it', which percentage mark of the video should I check?\n"
        'Please choose one answer from 0%, 10%, 20%, 30%, 40%, 50%, 60%, 70%, 80%, 90%, and 100%.')


def test_an_expression_does_not_bring_placeholders_or_tokens(reader, make_sample):
    model = build(question='{frames} frames, where is {x}?')
    assert model._question('{frames} {x}', reader) == '8 frames, where is {frames} {x}?'
    with pytest.raises(ValueError, match="expected no '\\[SEG\\]' in an expression"):
        model.select(reader, make_sample(('the [SEG]', )))


def test_drawn_answers_do_not_depend_on_other_expressions(reader, make_sample):
    model = build(num_answers=2, temperature=5.0, max_new_tokens=3)
    both = make_sample(('the star', 'the dog'))
    answers = model.ask(reader, both)
    assert len({*answers[0], *answers[1]}) == 4 and model.ask(reader, both) == answers
    alone = make_sample(('the dog', ))
    alone.set_metainfo(dict(exp_ids=('1', )))
    assert model.ask(reader, alone) == answers[1:]
    assert build(num_answers=2, temperature=5.0, max_new_tokens=3, seed=1).ask(
        reader, both) != answers


def test_the_mean_of_several_answers_counts(reader, make_sample):
    model = build()
    sample = make_sample(('the star', 'the dog'))
    texts = [['20%', '40%', 'no idea'], ['no idea', '?', '100%']]
    assert model._key_frames(texts, reader, sample) == [2, 7]


def test_nothing_is_trained_and_half_precision_works(reader, make_sample):
    torch.manual_seed(0)
    model = build_child(MODELS, dict(
        type='VideoQASelector', dtype='bfloat16', test_cfg=dict(max_new_tokens=2),
        mllm=dict(type='ChatUniViMLLM', seg_dim=8, spatial_clusters=(8, 4, 2), **SIZES))).eval()
    assert isinstance(model, VideoQASelector)
    assert not any(p.requires_grad for p in model.parameters())
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert model.select(reader, make_sample(('the star', ))).frame_ids == [4]
    with pytest.raises(ValueError, match='mode must be predict'):
        model.forward({}, [], mode='loss')


@pytest.mark.parametrize('test_cfg, message', [
    (dict(unit='mile'), "unit must be one of .* got 'mile'"),
    (dict(fallback='last'), "fallback must be one of .* got 'last'"),
    (dict(num_frames=0), 'num_frames must be an integer of at least 1, got 0'),
    (dict(question='where?'), 'must have {x} in it'),
    (dict(fps=0), 'fps must be a positive number, got 0'),
    (dict(num_answers=3), 'model.test_cfg: expected a temperature above 0')])
def test_wrong_settings_are_refused(test_cfg, message):
    with pytest.raises(ValueError, match=message):
        build(**test_cfg)


def test_unknown_settings_are_refused():
    with pytest.raises(TypeError, match="model.test_cfg got unexpected keys .'num_frame'."):
        build(num_frame=3)


def test_training_reads_the_prompt_that_it_will_be_asked():
    model = build_child(MODELS, dict(
        type='VideoQASelector', loss_ce=dict(type='TokenCELoss'),
        mllm=dict(type='ChatUniViMLLM', seg_dim=8, spatial_clusters=(8, 4, 2), **SIZES)))
    ids, labels = build_talk(model.mllm.tokenizer, get_template('video_qa'),
                             [('<video>\nwhere is it?', 'at 40%')], 9)
    asked = model.mllm.question_prompt('where is it?')
    assert ids[:len(asked)].tolist() == asked and (labels[:len(asked)] == -100).all()
    assert (labels[len(asked):] == ids[len(asked):]).all()


@pytest.mark.slow
def test_it_learns_when_something_shows(video, make_sample):
    """Talk with the moments as answers, in the questions that the selector asks."""
    torch.manual_seed(0)
    model = build_child(MODELS, dict(
        type='VideoQASelector', loss_ce=dict(type='TokenCELoss'),
        test_cfg=dict(question='when is {x}?'),
        mllm=dict(type='ChatUniViMLLM', seg_dim=8, spatial_clusters=(8, 4, 2), **SIZES)))
    reader, sample = ArrayReader(video), make_sample(('the star', 'the dog'))
    texts = [build_talk(model.mllm.tokenizer, get_template('video_qa'),
                        [(f'<video>\n{model._question(text, reader)}', answer)], len(video))
             for text, answer in zip(sample.expressions, ('at 20%', 'at 90%'))]
    inputs = dict(clip_imgs=[model._images(reader, range(len(video)))],
                  input_ids=[[ids for ids, _ in texts]], labels=[[row for _, row in texts]])
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(300):
        loss = model.forward(inputs, [sample], mode='loss')['loss_ce']
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if loss < 0.02:
            break
    model.eval()
    assert model.ask(reader, sample) == [['at 20%'], ['at 90%']]
    assert model.select(reader, sample).frame_ids == [1, 6]
