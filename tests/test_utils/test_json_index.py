"""Reading single values of a JSON object, and errors of what is none."""

import json
import multiprocessing
import os
import pickle

import numpy as np
import pytest

from glus_mm.utils import json_index
from glus_mm.utils.json_file import read_json_object
from glus_mm.utils.json_index import JSONIndex

VALUES = [None, 12, 3.5e10, -7, True, 'a"b\\é\u4e2d', [1, {'a': []}], {}, [],
          {'x': {'y': [1, 2, 'zzz' * 30]}}, 1e-7, '', -0.5]
BAD = ['', '[]', '[1]', '{', '{"a"', '{"a":', '{"a":1', '{"a":1,', '{"a":1,}', '{"a":1}x', 'null',
       '{"a":1 "b":2}', '{a:1}', '{"a":tru}', '{"a":[1,2}', '{"a":"x}', '{"a":1,"a":2}',
       '{"a":{"b":1,"b":2}}', '{"a":' + '[' * 100000 + '}', '{"a":' + '1' * 5000 + '}',
       '{"a":"\\x"}', '{"\xff":1}', '{"a":"\n"}', '{"a" 1}', '{"a":1.}', '{,}', '{"a":-}']


def write(path, content, **options):
    path.write_text(json.dumps(content, **options), encoding='utf-8')
    return path


@pytest.mark.parametrize('chunk', [1, 2, 7, 64, 1 << 22])
@pytest.mark.parametrize('indent, ascii_only', [(None, True), (2, False)])
def test_values_are_those_of_the_file(tmp_path, monkeypatch, chunk, indent, ascii_only):
    """Wherever the parts in which the file is read end."""
    monkeypatch.setattr(json_index, '_CHUNK', chunk)
    order = np.random.default_rng(chunk).integers(len(VALUES), size=40)
    content = {f'é\u4e2d{i}': VALUES[k] for i, k in enumerate(order)}
    path = write(tmp_path / 'a.json', content, indent=indent, ensure_ascii=ascii_only)
    index = JSONIndex(path, cache_size=3)
    assert list(index) == list(content) and len(index) == 40 and 'x' not in index
    for key in (*content, *reversed(content)):
        assert index[key] == content[key]
    with pytest.raises(KeyError):
        index['x']


@pytest.mark.parametrize('chunk', [1, 5, 1 << 22])
@pytest.mark.parametrize('text', BAD, ids=range(len(BAD)))
def test_what_is_no_json_object(tmp_path, monkeypatch, chunk, text):
    monkeypatch.setattr(json_index, '_CHUNK', chunk)
    path = tmp_path / 'a.json'
    path.write_bytes(text.encode('latin-1'))
    for read in (JSONIndex, read_json_object):
        with pytest.raises(ValueError, match='a.json: expected a JSON') as info:
            read(path)
        assert type(info.value) is ValueError


def test_empty_and_missing(tmp_path):
    path = tmp_path / 'a.json'
    path.write_text(' \n{ } \t\n')
    assert len(JSONIndex(path)) == 0
    path.write_text(' \n{ "a"\n:\t1 , "b" : [ ] \r\n} \t\n')
    index = JSONIndex(path)
    assert (index['a'], index['b']) == (1, [])
    for path in (tmp_path / 'none.json', tmp_path):
        for read in (JSONIndex, read_json_object):
            with pytest.raises(FileNotFoundError, match='expected a JSON file'):
                read(path)


def test_checks_and_the_cache(tmp_path):
    path = write(tmp_path / 'a.json', {'a': [1, 2], 'b': []})
    index = JSONIndex(path, lambda key, value: (key, len(value)))
    assert (index.note('a'), index.note('b')) == (('a', 2), ('b', 0))

    def refuse(key, value):
        raise ValueError(f'no {key}')

    with pytest.raises(ValueError, match='^no a$'):
        JSONIndex(path, refuse)
    path = write(tmp_path / 'a.json', {str(i): [i] for i in range(9)})
    index = JSONIndex(path, cache_size=2)
    first = index['0']
    assert index['0'] is first
    for i in range(9):
        index[str(i)]
    assert len(index._cache) == 2 and index['0'] is not first
    with pytest.raises(ValueError, match='cache_size must be .*at least 1, got 0'):
        JSONIndex(path, cache_size=0)


def test_pickled_and_forked_copies_read_on(tmp_path):
    content = {str(i): list(range(i)) for i in range(50)}
    index = JSONIndex(write(tmp_path / 'a.json', content), len_of)
    index['3']
    assert pickle.loads(pickle.dumps(index))['7'] == list(range(7))
    assert pickle.loads(pickle.dumps(index)).note('7') == 7
    # All processes share one open file, and must not move one another's position in it.
    with multiprocessing.get_context('fork').Pool(2, set_index, (index, )) as pool:
        assert pool.map(read_key, list(content) * 20, 1) == list(content.values()) * 20


def len_of(key, value):
    return len(value)


def set_index(index):
    global SHARED
    SHARED = index


def read_key(key):
    return SHARED[key]


def test_a_file_that_changed_is_noticed(tmp_path):
    path = write(tmp_path / 'a.json', {'a': 1, 'b': [2]})
    index = JSONIndex(path)
    status = os.stat(path)
    write(path, {'a': 1, 'b': [3, 4]})
    with pytest.raises(ValueError, match='a.json: .* changed since'):
        index['b']
    os.truncate(path, status.st_size)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(ValueError, match="a.json: expected the value of 'b' as it was"):
        index['b']
    path.unlink()
    with pytest.raises(FileNotFoundError, match='a.json'):
        pickle.loads(pickle.dumps(index))['a']


def test_parsing_holds_one_value_at_a_time(tmp_path):
    import tracemalloc
    path = tmp_path / 'a.json'
    path.write_text(json.dumps({str(i): ['x' * 1000] * 50 for i in range(400)}))
    assert path.stat().st_size > 2e7
    tracemalloc.start()
    index = JSONIndex(path, len_of)
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(index) == 400
    assert kept < 2e5 and peak < 1.7e7
