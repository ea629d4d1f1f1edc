"""Tests of SegTokenizer: ids, white-space rules, folders and the shipped model."""

import json
import pickle
import shutil
from pathlib import Path

import pytest
import sentencepiece

import programs
from glus_mm.text.tokenizer import SHIPPED_TOKENIZERS, SegTokenizer
from programs import ROOT

OFFICIAL = ROOT / 'tests/data/official_prompt'
OFFICIAL_ADDED = {'[SEG]': 480, '<im_start>': 481, '<im_end>': 482}


@pytest.fixture(scope='module')
def official() -> SegTokenizer:
    return SegTokenizer.from_pretrained(OFFICIAL)


@pytest.fixture(scope='module')
def tiny() -> SegTokenizer:
    return SegTokenizer.from_pretrained('tiny')


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint folder with the model only."""
    shutil.copyfile(OFFICIAL / 'tokenizer.model', tmp_path / 'tokenizer.model')
    return tmp_path


def write_added(folder: Path, added: object) -> None:
    (folder / 'added_tokens.json').write_text(json.dumps(added))


def plain(text: str) -> list[int]:
    """Ids of SentencePiece itself, dummy prefix included."""
    model = str(OFFICIAL / 'tokenizer.model')
    return sentencepiece.SentencePieceProcessor(model_file=model).encode(text)


# ids


def test_added_tokens_and_plain_text(official):
    assert len(official) == 483
    assert (official.seg_id, official.im_start_id, official.im_end_id) == (480, 481, 482)
    assert (official.pad_id, official.bos_id, official.eos_id) == (0, 1, 2)
    assert official.added_tokens == OFFICIAL_ADDED
    assert set(official.markers) == {*OFFICIAL_ADDED, '<s>', '</s>', '<unk>'}
    official.added_tokens['[SEG]'] = 0
    assert official.seg_id == 480
    text = 'the red square moving to the right'
    assert official.encode(text) == plain(text)
    assert official.encode(text, add_bos=True) == [1, *plain(text)]
    assert official.encode('') == []
    assert official.encode('', add_bos=True) == [1]


@pytest.mark.parametrize('token', list(OFFICIAL_ADDED))
@pytest.mark.parametrize('space', ['', ' ', '   ', '\n', '\t \n', '\u00a0'])
def test_white_space_touching_added_tokens_is_stripped(official, token, space):
    ids = official.encode(f'it is{space}{token}{space}the red')
    assert ids == [*plain('it is'), OFFICIAL_ADDED[token], *plain('the red')]


def test_white_space(official):
    assert official.encode(' <im_end> \n <im_start> [SEG]\n') == [482, 481, 480]
    expected = [*plain('red '), 2, *plain(' blue'), 1, *plain(' \n'), 0, *plain('green')]
    assert official.encode('red </s> blue<s> \n<unk>green') == expected
    assert official.encode('[SEG] </s> red') == [480, 2, *plain(' red')]
    dot = official.encode('.')
    assert len(dot) == 2, 'expected the prefix piece and the dot'
    assert official.encode('[SEG].</s>') == [480, *dot, 2]


@pytest.mark.parametrize('text', ['[seg]', '[SEG', '<im_start', '< im_end >', '<S>'])
def test_near_misses_are_text(official, text):
    assert not {0, 1, 2, 480, 481, 482} & set(official.encode(text))
    assert official.decode(official.encode(text)) == text


# decode


@pytest.mark.parametrize('name', ['official', 'tiny'])
@pytest.mark.parametrize('text', [
    'the red circle', '红色的圆圈', 'الدائرة الحمراء', 'le café près de l’île',
    '🐈‍⬛ next to 👩‍🚀', 'two  spaces, a\ttab and\na newline ', 'null \x00 byte',
    '{x} {} %s \\n'])
def test_round_trip_through_bytes(name, text, request):
    tokenizer = request.getfixturevalue(name)
    ids = tokenizer.encode(text)
    assert tokenizer.pad_id not in ids
    assert tokenizer.decode(ids) == text


def test_decode_writes_tokens_as_text(official):
    ids = official.encode('<im_start><im_end>where? it is[SEG].</s>', add_bos=True)
    assert official.decode(ids) == '<s><im_start><im_end>where? it is[SEG].</s>'
    assert official.decode([]) == ''


@pytest.mark.parametrize('index', [-200, -1, 483])
def test_decode_refuses_other_ids(official, index):
    with pytest.raises(ValueError, match=rf'\[0, 483\).*{index}'):
        official.decode([1, index])


# cache and pickle


def test_cached_equals_uncached(tiny):
    cached = SegTokenizer.from_pretrained('tiny', cache_size=2)
    uncached = SegTokenizer.from_pretrained('tiny', cache_size=0)
    texts = ['the red star[SEG].', 'a blue star', 'the red star [SEG] .', 'the red star'] * 2
    assert [cached.encode(text) for text in texts] == [uncached.encode(text) for text in texts]
    with pytest.raises(ValueError, match='cache_size must be .* at least 0, got -1'):
        SegTokenizer.from_pretrained('tiny', cache_size=-1)
    first = tiny.encode('the red star')
    expected = list(first)
    first.append(-1)
    assert tiny.encode('the red star') == expected


# folders and their errors


def test_pickle_needs_no_file(folder, official):
    tokens = {'<unk>': 0, '<s>': 1, '</s>': 2, **OFFICIAL_ADDED}
    decoder = {str(i): {'content': text, 'special': i < 3} for text, i in tokens.items()}
    config = folder / 'tokenizer_config.json'
    config.write_text(json.dumps({'added_tokens_decoder': decoder}))
    assert SegTokenizer.from_pretrained(folder).added_tokens == OFFICIAL_ADDED
    write_added(folder, {**OFFICIAL_ADDED, '</s>': 2, '<im_patch>': 483})
    tokenizer = SegTokenizer.from_pretrained(str(folder))
    assert len(tokenizer) == 484
    assert tokenizer.encode('</s><im_patch>') == [2, 483]
    write_added(folder, OFFICIAL_ADDED)
    tokenizer = SegTokenizer.from_pretrained(folder, cache_size=7)
    dump = pickle.dumps(tokenizer)
    (folder / 'tokenizer.model').unlink()
    copy = pickle.loads(dump)
    text = 'Where is 红?<im_start> it is [SEG].</s>'
    assert copy.encode(text, add_bos=True) == tokenizer.encode(text, add_bos=True)
    assert (copy.cache_size, copy.added_tokens, len(copy)) == (7, OFFICIAL_ADDED, 483)


def test_folders(tmp_path, folder):
    with pytest.raises(FileNotFoundError, match=r"\['tiny'\].*tinny"):
        SegTokenizer.from_pretrained('tinny')
    (tmp_path / 'empty').mkdir()
    with pytest.raises(FileNotFoundError, match=r'tokenizer\.model'):
        SegTokenizer.from_pretrained(tmp_path / 'empty')
    with pytest.raises(FileNotFoundError, match='none.model'):
        SegTokenizer(tmp_path / 'none.model', OFFICIAL_ADDED)
    with pytest.raises(ValueError, match=r'added_tokens\.json.*\[SEG\].*tokenizer_config\.json'):
        SegTokenizer.from_pretrained(folder)
    (folder / 'added_tokens.json').write_text('{')
    with pytest.raises(ValueError, match=r'added_tokens\.json: expected a JSON file'):
        SegTokenizer.from_pretrained(folder)
    write_added(folder, OFFICIAL_ADDED)
    (folder / 'tokenizer.model').write_bytes(b'version https://git-lfs.github.com/spec/v1\n')
    with pytest.raises(ValueError, match=r'expected a SentencePiece model.*tokenizer\.model'):
        SegTokenizer.from_pretrained(folder)


@pytest.mark.parametrize(('added', 'message'), [
    ({'<im_start>': 480, '<im_end>': 481}, r"\['\[SEG\]'\] are missing"),
    ({'[SEG]': 480}, r"\['<im_start>', '<im_end>'\] are missing"),
    ({'[SEG]': 480, '<im_start>': 481, '<im_end>': 483}, r'480\.\.482 without gap'),
    ({'[SEG]': 481, '<im_start>': 482, '<im_end>': 483}, r'480\.\.482 without gap'),
    ({'[SEG]': 480, '<im_start>': 480, '<im_end>': 481}, r'480\.\.482 without gap'),
    ({'[SEG]': 300, '<im_start>': 480, '<im_end>': 481}, r"'\[SEG\]' has id 300, which is"),
    ({'[SEG]': '480', '<im_start>': 481, '<im_end>': 482}, r"integer id.*'480'"),
    ({'[SEG]': -1, '<im_start>': 480, '<im_end>': 481}, r'480\.\.482 without gap'),
    ({'': 480}, 'token text to integer id'),
    ([480, 481, 482], 'expected a JSON object, got list')])
def test_bad_added_tokens(folder, added, message):
    write_added(folder, added)
    with pytest.raises(ValueError, match=message) as error:
        SegTokenizer.from_pretrained(folder)
    assert str(folder / 'added_tokens.json') in str(error.value)


@pytest.mark.parametrize('decoder', [[], {'480': '[SEG]'}, {'x': {'content': '[SEG]'}}])
def test_bad_tokenizer_config(folder, decoder):
    content = json.dumps({'added_tokens_decoder': decoder})
    (folder / 'tokenizer_config.json').write_text(content)
    with pytest.raises(ValueError, match=r'added_tokens_decoder.*tokenizer_config\.json'):
        SegTokenizer.from_pretrained(folder)


# settings of the checkpoint's tokenizer


def added_token(text: str, left: bool = False, right: bool = False) -> dict:
    return {'__type': 'AddedToken', 'content': text, 'lstrip': left, 'rstrip': right,
            'normalized': True, 'single_word': False}


# What AutoTokenizer.from_pretrained(folder, use_fast=False) of transformers 4.31.0 made of
# SPACED with the official tiny tokenizer and these entries in special_tokens_map.json (with
# "config" in tokenizer_config.json instead): white space is the piece 260.
SPACED = ' the  [SEG]  the  <im_start>  is  </s>  is  <im_end>  the '
DEFAULT = [1, 385, 264, 480, 264, 481, 309, 260, 2, 260, 309, 482, 264, 385]
UNSTRIPPED = [1, 385, 264, 260, 480, 260, 264, 481, 309, 260, 2, 260, 309, 482, 264, 385]
BARE_EOS = [1, 385, 264, 480, 264, 481, 309, 2, 309, 482, 264, 385]


@pytest.mark.parametrize(('file', 'entry', 'ids'), [
    ('map', {}, DEFAULT),
    ('map', {'additional_special_tokens': ['[SEG]']}, DEFAULT),
    ('map', {'additional_special_tokens': [added_token('[SEG]')]}, UNSTRIPPED),
    ('map', {'additional_special_tokens': [added_token('[SEG]', left=True)]},
     [1, 385, 264, 480, 260, 264, 481, 309, 260, 2, 260, 309, 482, 264, 385]),
    ('map', {'additional_special_tokens': [added_token('[SEG]', right=True), '<im_start>']},
     [1, 385, 264, 260, 480, 264, 481, 309, 260, 2, 260, 309, 482, 264, 385]),
    ('map', {'pad_token': added_token('[SEG]')}, UNSTRIPPED),
    ('map', {'pad_token': '[SEG]'}, DEFAULT),
    ('map', {'eos_token': '</s>'}, BARE_EOS),
    ('map', {'eos_token': added_token('</s>', True, True)}, BARE_EOS),
    ('config', {'eos_token': '</s>'}, DEFAULT),
    ('config', {'additional_special_tokens': [added_token('[SEG]')]}, UNSTRIPPED),
    ('config', {'additional_special_tokens': ['[SEG]']}, DEFAULT),
    ('config', {'added_tokens_decoder': {'480': added_token('[SEG]')}}, DEFAULT)])
def test_registered_special_tokens_strip_as_in_transformers_4_31(folder, file, entry, ids):
    write_added(folder, OFFICIAL_ADDED)
    name = {'map': 'special_tokens_map.json', 'config': 'tokenizer_config.json'}[file]
    (folder / name).write_text(json.dumps(entry))
    tokenizer = SegTokenizer.from_pretrained(folder)
    assert tokenizer.encode(SPACED, add_bos=True) == ids
    assert pickle.loads(pickle.dumps(tokenizer)).encode(SPACED, add_bos=True) == ids
    same = tokenizer.same_ids(SegTokenizer.from_pretrained(OFFICIAL))
    assert same == (ids == DEFAULT)


def test_special_tokens_map_goes_before_tokenizer_config(folder):
    write_added(folder, OFFICIAL_ADDED)
    for name, tokens in (('tokenizer_config.json', [added_token('[SEG]')]),
                         ('special_tokens_map.json', ['<im_end>'])):
        (folder / name).write_text(json.dumps({'additional_special_tokens': tokens}))
    assert SegTokenizer.from_pretrained(folder).encode(SPACED, add_bos=True) == DEFAULT


@pytest.mark.parametrize(('name', 'content', 'message'), [
    ('tokenizer_config', {'legacy': False}, r'legacy True in .*tokenizer_config\.json.*False'),
    ('tokenizer_config', {'add_bos_token': False}, 'expected add_bos_token True'),
    ('tokenizer_config', {'add_eos_token': True}, 'expected add_eos_token False'),
    ('special_tokens_map', {'additional_special_tokens': ['<new>']},
     r"special tokens that have an id, but \['<new>'\]"),
    ('special_tokens_map', {'eos_token': 2}, r'as eos_token in .*special_tokens_map\.json')])
def test_settings_that_give_other_ids(folder, name, content, message):
    write_added(folder, OFFICIAL_ADDED)
    (folder / f'{name}.json').write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        SegTokenizer.from_pretrained(folder)


# the shipped tokenizer


def test_tiny(tiny):
    assert len(tiny) <= 512
    assert (tiny.pad_id, tiny.bos_id, tiny.eos_id) == (0, 1, 2)
    recipe = programs.load(ROOT / 'dev/train_tiny_tokenizer.py')
    for word in (*recipe.SHAPES_WORDS, *recipe.PROMPT_WORDS):
        assert len(tiny.encode(word)) == 1, word
    folder = SHIPPED_TOKENIZERS['tiny']
    made = recipe.train()
    shipped = (folder / 'tokenizer.model').read_bytes()
    if recipe.build() == json.loads((folder / 'recipe.json').read_text()):
        assert made == shipped
        return
    processors = [sentencepiece.SentencePieceProcessor(model_proto=x) for x in (made, shipped)]
    vocabularies = [{p.id_to_piece(i) for i in range(p.vocab_size())} for p in processors]
    assert vocabularies[0] == vocabularies[1]


def test_where_a_tokenizer_comes_from(local_hub, folder, official, tiny):
    local_hub.publish('some/model', OFFICIAL)
    assert SegTokenizer.from_pretrained('some/model').same_ids(official)
    with pytest.raises(ConnectionError, match='https://.*/other/model could not be reached .*a '
                                              'folder with tokenizer.model'):
        SegTokenizer.from_pretrained('other/model')
    with pytest.raises(FileNotFoundError, match="got '.*/tokn', which is no folder"):
        SegTokenizer.from_pretrained(f'{folder}/tokn')
    with pytest.raises(ValueError, match="'load_from' in a config stands for the tokenizer"):
        SegTokenizer.from_pretrained('load_from')
    write_added(folder, OFFICIAL_ADDED)
    assert SegTokenizer.from_pretrained(folder).same_ids(official)
    write_added(folder, {'[SEG]': 481, '<im_start>': 480, '<im_end>': 482})
    assert not SegTokenizer.from_pretrained(folder).same_ids(official)
    assert not tiny.same_ids(official)
