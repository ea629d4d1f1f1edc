"""The Docker image and the Space, as far as they can be looked at without building them."""

import ast
import importlib.util
import json
import re
import shlex
import sys
from pathlib import Path

import pytest
import yaml

from programs import ROOT

SPACE = ROOT / 'demo' / 'space'


def instructions():
    """(name, arguments) of the Dockerfile, continued lines joined."""
    text = re.sub(r'^\s*#.*\n', '', (ROOT / 'Dockerfile').read_text(encoding='utf-8'), flags=re.M)
    return [tuple(line.split(None, 1)) for line in text.replace('\\\n', ' ').splitlines()
            if line.strip()]


def extras():
    """Names of the extras, read without running setup.py."""
    text = (ROOT / 'setup.py').read_text(encoding='utf-8')
    return set(re.findall(r"^        '(\w+)': ", text.partition('extras_require')[2], re.M))


def test_the_image_and_the_wheel():
    sent = [line[1:] for line in (ROOT / '.dockerignore').read_text().splitlines()
            if line.startswith('!')]
    copied = []
    for name, arguments in instructions():
        if name == 'COPY' and not arguments.startswith('--from'):
            copied += shlex.split(arguments)[:-1]
    assert copied and sorted(copied) == sorted(sent)
    assert all((ROOT / path).exists() for path in copied)
    # The stage that builds it has all that setup.py and pyproject.toml name.
    copied = ' '.join(arguments for name, arguments in instructions() if name == 'COPY').split()
    found = re.search(r'^RESOURCES = (\(.*?\))$', (ROOT / 'setup.py').read_text(), re.M | re.S)
    for pattern in ast.literal_eval(found.group(1)):
        assert pattern.split('/')[0] in copied, pattern


def test_rules_of_images():
    """Some of hadolint's: fixed bases, no cache of pip, a user, known extras, one way to start."""
    found = instructions()
    assert all(re.fullmatch(r'python:3\.\d+-slim-\w+( AS \w+)?', arguments)
               for name, arguments in found if name == 'FROM')
    runs = [arguments for name, arguments in found if name == 'RUN']
    for run in runs:
        assert run.count('pip install') + run.count('pip wheel') == run.count('--no-cache-dir')
        assert 'sudo' not in run and 'apt-get' not in run
    named = set(re.findall(r'\[([\w,]+)\]"', ' '.join(runs))) or {''}
    assert set(','.join(named).split(',')) <= extras()
    order = [name for name, _ in found]
    assert order.index('USER') > order.index('RUN') and order[-1] == 'CMD'
    command = json.loads(dict(found)['CMD'])
    assert command[0] == 'python' and dict(found)['EXPOSE'] == '7860'
    assert f'COPY demo/web_demo.py {command[1]}' in [' '.join(pair) for pair in found]
    devices = re.findall(r'(\w+)\) index=', ' '.join(runs))
    assert devices == ['cpu', 'cuda'] and dict(found)['ARG'] == 'DEVICE=cpu'


def test_the_space(monkeypatch):
    """Its header names a file that is there and the Gradio that was tried; extras exist."""
    header = yaml.safe_load((SPACE / 'README.md').read_text(encoding='utf-8').split('---\n')[1])
    assert header['sdk'] == 'gradio' and (SPACE / header['app_file']).is_file()
    oldest = re.search(r'gradio>=([\d.]+)', (ROOT / 'setup.py').read_text()).group(1)
    assert header['sdk_version'].startswith(oldest)
    needed, = (SPACE / 'requirements.txt').read_text().splitlines()
    assert set(re.search(r'\[(.*)\]', needed).group(1).split(',')) <= extras()
    pytest.importorskip('starlette', reason='needs Gradio (the extra "demo")')
    monkeypatch.setattr(sys, 'path', list(sys.path))
    spec = importlib.util.spec_from_file_location('app', SPACE / 'app.py')
    app = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(app)
    assert Path(app.main.__code__.co_filename) == ROOT / 'demo' / 'web_demo.py'
    with pytest.raises(SystemExit, match=r"web_demo.py: error: .*nothing there: no\.py"):
        app.main(['--config', 'no.py'])
