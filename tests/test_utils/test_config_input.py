"""Configs and options that cannot be read end in one line that names them."""

import argparse

import pytest

from glus_mm.utils.config_input import ConfigOptions, config_from_file


@pytest.fixture
def parse():
    parser = argparse.ArgumentParser(prog='tool')
    parser.add_argument('--cfg-options', nargs='+', action=ConfigOptions)
    return lambda *args: parser.parse_args(['--cfg-options', *args]).cfg_options


def test_options(parse):
    assert parse('a.b=1', 'c=[1,2]', 'd=x=y', 'e=') == {
        'a.b': 1, 'c': [1, 2], 'd': 'x=y', 'e': ''}


@pytest.mark.parametrize('option', ['nonsense', '=3', ' =3', 'a=[1,2', ''])
def test_options_that_are_none(parse, capsys, option):
    with pytest.raises(SystemExit, match='2'):
        parse(option)
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith('tool: error: argument --cfg-options: ')
    assert option.strip() in error


@pytest.mark.parametrize('name, text, told', [
    ('a.py', 'model = dict(\n', "a.py, line 1 cannot be read: SyntaxError: '(' was never closed"),
    ('a.py', 'model = nothing\n', "a.py cannot be read: NameError: name 'nothing' is not defined"),
    ('a.py', "_base_ = ['no.py']\n", 'a.py cannot be read: FileNotFoundError'),
    ('a.json', '{', 'a.json cannot be read: JSONDecodeError'),
    ('a.png', 'x', 'a.png cannot be read: OSError')])
def test_configs_that_cannot_be_read(tmp_path, name, text, told):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError) as found:
        config_from_file(tmp_path / name)
    assert told in str(found.value) and '\n' not in str(found.value)
