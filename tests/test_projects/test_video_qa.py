"""The project video_qa: answers of Chat-UniVi, moments in them, the selector, wrong settings.

The answers of a model with random weights say nothing; :func:`say` makes it say a given text.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine import Config
from transformers import LlamaForCausalLM
from video_qa import (
    QUESTIONS,
    UNITS,
    AnswerCfg,
    ChatUniViVideoQA,
    VideoQASelector,
    frame_at,
    parse_moment,
    shown_frames,
)

from glus_mm.apis import init_model
from glus_mm.conversion.plain_weights import empty_model
from glus_mm.models.inference import ArrayReader
from glus_mm.registry import MODELS, build_child
from glus_mm.structures import RefVOSDataSample
from glus_mm.text.prompt import IMAGE_TOKEN_INDEX, build_talk, get_template
from programs import ROOT

PROJECT = ROOT / 'projects' / 'video_qa'
SIZES = dict(
    vision_tower=dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
                      intermediate_size=32, image_size=16, patch_size=4),
    llm=dict(hidden_size=64, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64,
             max_position_embeddings=1024))


def build(**test_cfg):
    torch.manual_seed(0)
    return build_child(MODELS, dict(
        type='VideoQASelector', test_cfg=test_cfg,
        mllm=dict(type='ChatUniViVideoQA', seg_dim=8, spatial_clusters=(8, 4, 2), **SIZES))).eval()


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


@pytest.fixture(scope='module')
def video():
    """8 frames (40, 56)."""
    return list(np.random.default_rng(0).integers(0, 255, (8, 40, 56, 3), dtype=np.uint8))


@pytest.fixture(scope='module')
def make_sample():
    """A data sample of one video, from its expressions."""
    return lambda expressions: RefVOSDataSample(metainfo=dict(
        dataset='toy', video_id='video', expressions=expressions,
        exp_ids=tuple(str(e) for e in range(len(expressions)))))


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


def test_units(reader, make_sample):
    model = say(build(unit='frame', num_frames=3), 'frame 2')
    assert model.select(reader, make_sample(('the star', ))).frame_ids == [4]  # of 0, 3, 7
    assert 'has 3 frames, numbered from 1 to 3' in model._question('the star', reader)
    sample = make_sample(('the star', ))
    model = say(build(unit='time', fps=4.0), '1.5s')
    assert '2 seconds long' in model._question('the star', reader)
    assert model.select(reader, sample).frame_ids == [5]  # 0.75 of 0..7
    with pytest.raises(ValueError, match='needs model.test_cfg.fps, as a list of arrays'):
        build(unit='time').select(reader, sample)


@pytest.mark.parametrize('fallback, frame', [('middle', 4), ('first', 0)])
def test_no_moment_falls_back_and_says_so(reader, make_sample, logged, fallback, frame):
    model = say(build(fallback=fallback), 'no idea')
    assert model.select(reader, make_sample(('the star', ))).frame_ids == [frame]
    assert "expression '0', got 'no idea'" in logged[-1]
    assert f'starts at the {fallback} frame' in logged[-1]


def test_the_question(reader, make_sample, mllm):
    question = build()._question('Which dog is it?', reader)
    assert question == (
        "If I want to find 'which dog is it', which percentage mark of the video should I check?\n"
        'Please choose one answer from 0%, 10%, 20%, 30%, 40%, 50%, 60%, 70%, 80%, 90%, and 100%.')
    model = build(question='{frames} frames, where is {x}?')
    assert model._question('{frames} {x}', reader) == '8 frames, where is {frames} {x}?'
    with pytest.raises(ValueError, match="expected no '\\[SEG\\]' in an expression"):
        model.select(reader, make_sample(('the [SEG]', )))
    ids = mllm.question_prompt('where is it?')
    place = ids.index(IMAGE_TOKEN_INDEX)
    assert ids.count(IMAGE_TOKEN_INDEX) == 1 and ids[0] == mllm.tokenizer.bos_id
    assert mllm.tokenizer.decode(ids[1:place]).endswith("the user's questions. USER: ")
    assert mllm.tokenizer.decode(ids[place + 1:]) == '\nwhere is it? ASSISTANT:'


def test_drawn_answers_of_expressions(reader, make_sample):
    model = build(num_answers=2, temperature=5.0, max_new_tokens=3)
    both = make_sample(('the star', 'the dog'))
    answers = model.ask(reader, both)
    assert len({*answers[0], *answers[1]}) == 4 and model.ask(reader, both) == answers
    alone = make_sample(('the dog', ))
    alone.set_metainfo(dict(exp_ids=('1', )))
    assert model.ask(reader, alone) == answers[1:]
    assert build(num_answers=2, temperature=5.0, max_new_tokens=3, seed=1).ask(
        reader, both) != answers
    model = build()
    sample = make_sample(('the star', 'the dog'))
    texts = [['20%', '40%', 'no idea'], ['no idea', '?', '100%']]
    assert model._key_frames(texts, reader, sample) == [2, 7]
    model = say(build(fallback='error'), 'no idea')
    message = (r"expected a moment \(percent\) in an answer on video 'video', expression '0', "
               r"got 'no idea'")
    with pytest.raises(ValueError, match=message):
        model.select(reader, make_sample(('the star', )))


def test_nothing_is_trained_and_half_precision_works(reader, make_sample):
    torch.manual_seed(0)
    model = build_child(MODELS, dict(
        type='VideoQASelector', dtype='bfloat16', test_cfg=dict(max_new_tokens=2),
        mllm=dict(type='ChatUniViVideoQA', seg_dim=8, spatial_clusters=(8, 4, 2), **SIZES))).eval()
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


def test_settings_and_training():
    with pytest.raises(TypeError, match="model.test_cfg got unexpected keys .'num_frame'."):
        build(num_frame=3)
    model = build_child(MODELS, dict(
        type='VideoQASelector', loss_ce=dict(type='TokenCELoss'),
        mllm=dict(type='ChatUniViVideoQA', seg_dim=8, spatial_clusters=(8, 4, 2), **SIZES)))
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
        mllm=dict(type='ChatUniViVideoQA', seg_dim=8, spatial_clusters=(8, 4, 2), **SIZES)))
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


def build_mllm():
    torch.manual_seed(0)
    llm = dict(SIZES['llm'], hidden_size=32, num_hidden_layers=2, initializer_range=0.5)
    return build_child(MODELS, dict(SIZES, type='ChatUniViVideoQA', seg_dim=8, llm=llm,
                                    spatial_clusters=(8, 4, 2)))


@pytest.fixture(scope='module')
def mllm():
    """In float64."""
    return build_mllm().double().eval()


@pytest.fixture(scope='module')
def imgs():
    return torch.randn(
        7, 3, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def prompt(mllm, images=1):
    ids = mllm.tokenizer.encode('where is the star', add_bos=True)
    return ids[:2] + [IMAGE_TOKEN_INDEX] * images + ids[2:]


def test_greedy_answers_are_those_of_transformers(mllm, imgs):
    visual = mllm.encode_images(imgs[:2])
    ids = prompt(mllm, 2)
    llama = LlamaForCausalLM(mllm.llm.config).double().eval()
    llama.model.load_state_dict(mllm.llm.state_dict())
    llama.lm_head.load_state_dict(mllm.lm_head.state_dict())
    embed = llama.get_input_embeddings()
    embeds = torch.cat([embed(torch.tensor(ids[:2])), *visual, embed(torch.tensor(ids[4:]))])
    expected = llama.generate(
        inputs_embeds=embeds[None], attention_mask=torch.ones(1, len(embeds)), max_new_tokens=9,
        do_sample=False, suppress_tokens=[*mllm.tokenizer.added_tokens.values()])[0].tolist()
    eos = mllm.tokenizer.eos_id
    expected = expected[:expected.index(eos)] if eos in expected else expected
    answer = mllm.generate(ids, visual, 9)
    assert answer == expected and len(set(answer)) > 2


def test_answers(mllm, imgs):
    video = mllm.encode_video(imgs)[None]
    free = mllm.generate(prompt(mllm), video, 5)
    assert len(free) == 5
    other = build_mllm().double().eval()
    with torch.no_grad():  # the third token of the answer becomes </s>
        rows = other.lm_head.weight
        rows[[mllm.tokenizer.eos_id, free[2]]] = rows[[free[2], mllm.tokenizer.eos_id]]
    assert other.generate(prompt(mllm), video, 5) == free[:free.index(free[2])]
    video = mllm.encode_video(imgs)[None]

    def draw(seed, temperature=2.0):
        generator = torch.Generator().manual_seed(seed)
        return mllm.generate(prompt(mllm), video, 6, temperature, generator)

    assert draw(0) == draw(0)
    assert len({tuple(draw(seed)) for seed in range(4)}) > 1
    assert draw(0, 1e-6) == mllm.generate(prompt(mllm), video, 6)
    cfg = AnswerCfg(num_answers=3, max_new_tokens=8, temperature=3.0)
    answers, = mllm.answer_questions(imgs, ['where?'], cfg, [torch.Generator().manual_seed(0)])
    assert not any(marker in text for text in answers for marker in mllm.tokenizer.added_tokens)


@pytest.mark.parametrize('options, message', [
    (dict(num_answers=0), 'num_answers must be an integer of at least 1, got 0'),
    (dict(max_new_tokens=1.5), 'max_new_tokens must be an integer'),
    (dict(temperature=-1), 'temperature must be 0 or a positive number, got -1'),
    (dict(num_answers=2), 'expected a temperature above 0 with num_answers=2')])
def test_wrong_answer_settings_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        AnswerCfg(**options)


# By unit and the length of the video in it: answers and the places that they name.
SAID = {
    ('percent', 99): {
        '40%': 0.4, '40': 0.4, ' 40. ': 0.4, 'The 30% mark.': 0.3, 'Check 12.5 % please': 0.125,
        'It is at 50 percent of the video, so 50%.': 0.5, '0%': 0.0, '100%': 1.0,
        'The last 20%': 0.8, 'in the LAST 0 Per cent': 1.0, '\n70%</p>': 0.7},
    ('frame', 11): {
        'frame 1': 0, 'Frame number 5': 0.4, 'frame #11': 1, 'The 3rd frame.': 0.2, '7': 0.6,
        'frame no. 4, yes frame 4': 0.3, 'frames 9': 0.8},
    ('frame', 1): {'frame 1': 0},
    ('time', 80): {
        '5 s': 5 / 80, '5.5 seconds': 5.5 / 80, 'at second 7': 7 / 80, '0:09': 9 / 80,
        '1:05.5': 65.5 / 80, '80sec': 1, '12': 12 / 80},
}
UNCLEAR = {
    ('percent', 99): [
        '', 'the middle', 'percent', '101%', '1000%', '-20%', '20-30%', '20% to 30%',
        'between 20 and 30%', '0%, 10%, 20%', '40% or 50%', '40% and the last 40%', 'frame 3',
        '3 seconds', '2 dogs at 40%', 'version 1.40.2%', '50 percentile', '9' * 5000,
        f'{"9" * 400}%', 'nan%', 'inf', '4 0%', '-20'],
    ('frame', 11): [
        'frame 0', 'frame 12', 'frame 3.5', '3.5', 'frame 3 of 11', 'frames 3 and 4', 'frame 3-4',
        '30%', 'the first frame', 'a frame', 'frame 12345678901', 'keyframes3'],
    ('time', 80): [
        '81 s', '1:75', '1:2:03', '0:10-0:20', '5 to 6 seconds', 'a second', '40%', '-5 s',
        'frame 4'],
}


def test_moments():
    found = {key: {answer: parse_moment(answer, *key) for answer in answers}
             for key, answers in SAID.items()}
    assert found == {key: pytest.approx(answers) for key, answers in SAID.items()}
    assert [(answer, *key) for key, answers in UNCLEAR.items() for answer in answers
            if parse_moment(answer, *key) is not None] == []
    assert set(QUESTIONS) == set(UNITS)
    assert all(text.count('{x}') == 1 for text in QUESTIONS.values())
    assert shown_frames(3, 8) == [0, 1, 2] and shown_frames(8, 8) == list(range(8))
    assert shown_frames(9, 3) == [0, 4, 8] and shown_frames(9, 1) == [0]
    for limit in (2, 5, 64):
        frames = shown_frames(1000, limit)
        assert len(set(frames)) == limit and (frames[0], frames[-1]) == (0, 999)
    assert [frame_at([p], 11) for p in (0, 0.04, 0.05, 0.5, 1)] == [0, 0, 1, 5, 10]
    assert frame_at([0.2, 0.4], 11) == 3 and frame_at([0.7], 1) == 0


def test_the_config_builds(shrink):
    cfg = shrink(Config.fromfile(PROJECT / 'configs' / 'chat-univi-7b_video-qa.py'))
    model = empty_model(cfg, 'tiny')
    assert isinstance(model, VideoQASelector) and isinstance(model.mllm, ChatUniViVideoQA)
    assert model.test_cfg.num_answers == 10


def test_the_folder_of_a_key_frame_selector_is_asked(tmp_path, reader, make_sample):
    """As ``glus-mm convert chat-univi`` writes it; and a config of the time when it wrote two."""
    torch.manual_seed(0)
    mllm = dict(SIZES, type='ChatUniViMLLM', template='selector', spatial_clusters=(8, 4, 2))
    torch.save(build_child(MODELS, dict(type='KeyFrameSelector', mllm=mllm)).state_dict(),
               tmp_path / 'model.pth')
    config = tmp_path / 'config.py'
    config.write_text(Config(dict(
        default_scope='glus_mm', custom_imports=dict(imports=['video_qa']), model=dict(
            type='VideoQASelector', mllm=dict(mllm, seg_dim=256),
            test_cfg=dict(max_new_tokens=3)))).pretty_text)
    model = init_model(config, tmp_path / 'model.pth')
    assert isinstance(model.mllm, ChatUniViVideoQA)
    assert len(model.select(reader, make_sample(('the star', ))).frame_ids) == 1


def test_names_that_the_package_had():
    import glus_mm.models
    from glus_mm.models import mllms, selectors
    from glus_mm.models.selectors import moment_answer
    for holder, name, found in (
            (glus_mm.models, 'VideoQASelector', VideoQASelector), (mllms, 'AnswerCfg', AnswerCfg),
            (selectors, 'VideoQASelector', VideoQASelector), (moment_answer, 'UNITS', UNITS)):
        with pytest.warns(DeprecationWarning, match='video_qa now; .* glus_mm 0.2'):
            assert getattr(holder, name) is found
        with pytest.raises(AttributeError):
            _ = holder.no_such_name


def test_talk_for_training(tmp_path, monkeypatch):
    """The program of the README: from the IoUs of frames to questions with the best moment."""
    text = (PROJECT / 'README.md').read_text(encoding='utf-8')
    program = text.partition('<!-- qa-talk -->\n```python\n')[2].partition('```')[0]
    monkeypatch.chdir(tmp_path)
    Path('data/mine/train').mkdir(parents=True)
    Path('data/mine/train/meta_expressions.json').write_text(json.dumps(dict(videos=dict(
        v=dict(expressions=dict(a=dict(exp='The dog?'), b=dict(exp='Two cats.')))))))
    Path('work_dirs/frame_ious').mkdir(parents=True)
    scores = dict(a=[0.1 * (t == 6) for t in range(12)], b=[None, 0.5])
    Path('work_dirs/frame_ious/mine.json').write_text(json.dumps(dict(
        videos=dict(v=dict(expressions=scores)))))
    exec(program, {})
    entry, = json.loads(Path('data/mine/qa.json').read_text())
    said = [message['value'] for message in entry['conversations']]
    assert said[1::2] == ['50%', '100%'] and entry['video'] == 'train/JPEGImages/v'
    assert said[0].startswith("<video>\nIf I want to find 'the dog', which percentage mark")
