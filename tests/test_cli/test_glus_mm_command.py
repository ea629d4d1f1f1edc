"""glus-mm: its commands, exit statuses, and errors in one line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import glus_mm
from glus_mm.cli import main
from glus_mm.cli.main import COMMANDS
from glus_mm.datasets.moving_shapes import write_split

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope='module')
def video(tmp_path_factory):
    folder = write_split(tmp_path_factory.mktemp('data'), 1, seed=7, split='valid_u')
    return next((folder / 'videos').glob('*.mp4'))


@pytest.fixture
def call(capsys):
    """Run a command in this process; return its status and what it says."""

    def run(*args):
        try:
            status = main([str(arg) for arg in args])
        except SystemExit as stop:
            status = stop.code
        return status, *capsys.readouterr()

    return run


def test_help_names_the_commands_and_is_quick(call):
    status, out, _ = call('--help')
    assert status == 0
    assert all(name in out for name in COMMANDS) and 'First steps' in out
    # Nothing heavy is imported for it.
    script = 'import sys; from glus_mm.cli import main\ntry: main(["--help"])\n' \
             'except SystemExit: pass\nassert "torch" not in sys.modules'
    subprocess.run([sys.executable, '-c', script], check=True, capture_output=True)


@pytest.mark.parametrize('command', COMMANDS)
def test_help_of_each_command(call, command):
    status, out, _ = call(command, '--help')
    assert status == 0 and out.startswith(f'usage: glus-mm {command}')
    assert COMMANDS[command][1:30] in ' '.join(out.split())


def test_wrong_usage(call):
    assert call()[0] == 2
    assert call('frobnicate')[0] == 2
    status, _, error = call('segment', 'a.mp4', '--out-dir', 'o')
    assert status == 2 and '--text' in error
    assert call('--version')[:2] == (0, f'glus_mm {glus_mm.__version__}\n')


def test_info(call):
    status, out, _ = call('info', '--json')
    report = json.loads(out)
    assert status == 0 and report['glus_mm'] == glus_mm.__version__
    assert report['configs'] == str(ROOT / 'configs')
    assert report['versions']['torch'] and report['devices'][0].startswith('cpu')
    assert 'glus-s' in [model['name'] for model in report['models']]
    status, out, _ = call('info')
    assert status == 0 and 'weights come with the package' in out and 'MeViS valid' in out


def test_segment_with_the_shipped_model(call, video, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, error = call('segment', video, '--text', 'the red circle', '--out-dir', 'out',
                              '--no-video')
    assert status == 0, error
    assert '1 texts on 12 frames' in out and 'coloured shapes only' in error
    assert len(list((tmp_path / 'out' / video.stem / '0').glob('*.png'))) == 12
    assert (tmp_path / 'out' / 'contact_sheet.png').is_file()
    assert not (tmp_path / 'out' / 'overlay.mp4').exists()


def test_errors_are_one_line(call, video, tmp_path, monkeypatch, local_hub):
    monkeypatch.chdir(tmp_path)
    text = ('--text', 'a', '--out-dir', 'o')
    for args, words in (
            (('no.mp4', *text), 'nothing at no.mp4'),
            ((video, '--text', ' ', '--out-dir', 'o'), 'expected an expression'),
            ((video, *text, '--model', 'glus-x'), "did you mean 'glus-s'"),
            ((video, *text, '--model', 'glus-s'), 'could not be reached'),
            ((video, *text, '--model', 'my.py'), '--checkpoint with the config my.py'),
            ((video, *text, '--device', 'cuda:99'), 'device that can be used here'),
            ((video, *text, '--cfg-options', 'modell.x=1'), "has no 'modell'")):
        status, out, error = call('segment', *args)
        assert status == 2 and not out, args
        assert error.startswith('glus-mm segment: error: ') and words in error
        assert error.count('\n') == 1, error


def test_failures_while_it_works(call, tmp_path, evaluators):
    status, _, error = call('eval', '--protocol', 'mevis', '--ann', evaluators / 'mevis/valid_u',
                            '--pred', tmp_path)
    assert status == 1 and error.startswith('glus-mm eval: error: ') and 'Traceback' not in error
    status, _, error = call('convert', 'glus', tmp_path, tmp_path / 'out')
    assert status == 1 and error.startswith('glus-mm convert: error: ')
    assert call('convert', 'official', 'no.py', 'no.pth', 'o')[0] == 1


def test_eval_prints_the_table(call, evaluators, tmp_path):
    status, out, error = call('eval', '--protocol', 'mevis', '--ann', evaluators / 'mevis/valid_u',
                              '--pred', evaluators / 'pred', '--out', tmp_path / 'f.json')
    assert status == 0, error
    assert round(json.loads((tmp_path / 'f.json').read_text())['dataset']['J&F'], 6) == 0.622423
    assert '62.24' in out
