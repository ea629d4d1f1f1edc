"""glus-mm: its commands, exit statuses, and errors in one line."""

import http.server
import json
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import glus_mm
from glus_mm.cli import main
from glus_mm.cli.main import COMMANDS
from glus_mm.datasets.moving_shapes import write_split
from glus_mm.registry import MODELS
from glus_mm.video import VideoFileReader
from programs import ROOT


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


def test_usage(call):
    status, out, _ = call('--help')
    assert status == 0
    assert all(name in out for name in COMMANDS) and 'First steps' in out
    # Nothing heavy is imported for it.
    script = 'import sys; from glus_mm.cli import main\ntry: main(["--help"])\n' \
             'except SystemExit: pass\nassert "torch" not in sys.modules'
    subprocess.run([sys.executable, '-c', script], check=True, capture_output=True)
    assert call()[0] == 2
    assert call('frobnicate')[0] == 2
    status, _, error = call('segment', 'a.mp4', '--out-dir', 'o')
    assert status == 2 and '--text' in error
    assert call('--version')[:2] == (0, f'glus_mm {glus_mm.__version__}\n')
    import torch

    from glus_mm.apis.initialization import _usable_device
    assert _usable_device('auto').type == ('cuda' if torch.cuda.is_available() else 'cpu')


@pytest.mark.parametrize('command', COMMANDS)
def test_help_of_each_command(call, command):
    status, out, _ = call(command, '--help')
    assert status == 0 and out.startswith(f'usage: glus-mm {command}')
    assert COMMANDS[command][1:30] in ' '.join(out.split())


def test_info(call):
    status, out, _ = call('info', '--json')
    report = json.loads(out)
    assert status == 0 and report['glus_mm'] == glus_mm.__version__
    assert report['configs'] == str(ROOT / 'configs')
    assert report['versions']['torch'] and report['devices'][0].startswith('cpu')
    assert 'glus-s' in [model['name'] for model in report['models']]
    status, out, _ = call('info')
    assert status == 0 and 'weights come with the package' in out and 'MeViS valid' in out


def test_segment_with_the_shipped_model(call, video, tmp_path, monkeypatch, logged):
    monkeypatch.chdir(tmp_path)
    status, out, error = call('segment', video, '--text', 'the red elephant', '--out-dir', 'out',
                              '--no-video')
    assert status == 0, error
    assert '1 text on 12 frames' in out
    assert ("the model was trained on coloured shapes only, and was never taught: 'elephant'"
            in logged)
    assert 'trained on coloured shapes only; for real videos take --model glus-s' in error
    assert len(list((tmp_path / 'out' / video.stem / '0').glob('*.png'))) == 12
    assert (tmp_path / 'out' / 'contact_sheet.png').is_file()
    assert not (tmp_path / 'out' / 'overlay.mp4').exists()


def test_a_missing_file_is_told_before_torch_is_imported(tmp_path):
    """Also a broken one, and a folder without videos; with options, which MMEngine parses."""
    (tmp_path / 'broken.mp4').write_bytes(b'no video')
    (tmp_path / 'empty').mkdir()
    script = ('import sys, time; from glus_mm.cli import main\n'
              'for name in ("no.mp4", "broken.mp4", "empty", "*.mp5", "http://127.0.0.1:9/a.mp4"):\n'
              '    assert main(["segment", name, "--text", "a", "--out-dir", "o"]) == 2\n'
              'assert "torch" not in sys.modules and "mmengine" not in sys.modules')
    done = subprocess.run([sys.executable, '-c', script], cwd=tmp_path, capture_output=True,
                          text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 5 and all('error: expected' in line for line in lines), done.stderr


def test_several_videos_in_one_call(call, video, tmp_path, monkeypatch):
    """A folder of videos, a pattern and pictures; two of them cannot be decoded, and the name that
    one gets for want of its own is another's."""
    monkeypatch.chdir(tmp_path)
    clips = tmp_path / 'clips'
    frames = clips / 'frames'
    frames.mkdir(parents=True)
    reader = VideoFileReader(video)
    for t in range(2):
        cv2.imwrite(str(frames / f'{t}.png'), reader.read(t)[..., ::-1])
    (clips / 'b.mp4').write_bytes(b'no video')
    (tmp_path / 'one').mkdir()
    cv2.imwrite('one/frames.png', reader.read(0)[..., ::-1])
    cv2.imwrite('frames-2.png', reader.read(1)[..., ::-1])
    (tmp_path / 'a.mp4').write_bytes(b'no video')
    status, out, error = call('segment', 'a.mp4', 'one/*.png', 'clips', 'frames-2.png', '--text',
                              'the red circle', '--out-dir', 'out', '--format', 'ytvis')
    assert status == 1 and '3 of 5 videos are done' in out
    assert '1 text on 1 frame of' in out and '1 text on 2 frames of' in out
    assert 'a.mp4 cannot be opened' in error and 'b.mp4 cannot be opened' in error
    assert '2 of 5 videos could not be' in error
    assert (tmp_path / 'out/frames/overlay.png').is_file()
    assert (tmp_path / 'out/frames-2-2/overlay.png').is_file()
    assert (tmp_path / 'out/frames-2/overlay.mp4').is_file()
    assert (tmp_path / 'out/frames-2/frames-2/ytvis.json').is_file()
    assert json.loads((tmp_path / 'out/frames-2/frames-2/results.json').read_text())['complete']


class _Server(http.server.SimpleHTTPRequestHandler):
    """Serves files, and as ``/live`` a stream without an end that is stated."""

    def do_GET(self):
        if self.path not in ('/live', '/changing'):
            return super().do_GET()
        self.send_response(200)
        self.send_header('Content-Type', 'video/mp2t')
        self.end_headers()
        if self.path == '/live':
            self.wfile.write(Path(self.directory, 'clip.ts').read_bytes())
            return
        # Frames that come too fast are left out: the size changes once a frame has its mask.
        self.wfile.write(Path(self.directory, 'long.ts').read_bytes())
        masks, end = Path(self.directory, 'changing/live/0'), time.monotonic() + 60
        while not (masks.is_dir() and any(masks.iterdir())) and time.monotonic() < end:
            time.sleep(0.02)
        self.wfile.write(Path(self.directory, 'small.ts').read_bytes())

    def log_message(self, *args):
        pass


@pytest.fixture
def address(tmp_path, write_video, video):
    reader = VideoFileReader(video)
    write_video(tmp_path / 'clip.ts', [reader.read(t) for t in range(6)],
                times=[0, 100, 200, 400, 500, 600])
    write_video(tmp_path / 'long.ts', [reader.read(t % 6) for t in range(100)])
    write_video(tmp_path / 'small.ts', [np.zeros((64, 64, 3), np.uint8)] * 6)
    (tmp_path / 'clip.mp4').write_bytes(video.read_bytes())
    server = http.server.ThreadingHTTPServer(
        ('127.0.0.1', 0), partial(_Server, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{server.server_address[1]}'
    server.shutdown()
    server.server_close()


def test_a_url_of_a_file_and_a_live_stream(call, address, video, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, error = call('segment', f'{address}/clip.mp4', '--text', 'the red circle',
                              '--out-dir', 'file', '--no-video')
    assert status == 0, error
    results = json.loads((tmp_path / 'file/clip/results.json').read_text())
    assert results['video']['num_frames'] == 12

    status, out, error = call('segment', f'{address}/live', '--text', 'the red circle',
                              '--out-dir', 'live', '--legend', 'none')
    assert status == 0, error
    results = json.loads((tmp_path / 'live/live/results.json').read_text())
    names = results['video']['frames']
    assert 1 <= len(names) <= 6 and f'on {len(names)} frame' in out
    masks = sorted(path.stem for path in (tmp_path / 'live/live/0').iterdir())
    assert masks == sorted(names)
    times = results['video']['timestamps']
    expected = [[0, .1, .2, .4, .5, .6][int(name)] for name in names]
    assert times == pytest.approx(np.subtract(expected, expected[0]), abs=1e-4)
    overlay = VideoFileReader(tmp_path / 'live/overlay.mp4')
    assert [float(overlay.time(t)) for t in range(len(names))] == pytest.approx(times, abs=1e-4)

    # Masks of this run go when the next one begins, not when one cannot.
    stale = tmp_path / 'live/live/0/999999.png'
    stale.touch()
    results['video']['frames'].append('999999')
    (tmp_path / 'live/live/results.json').write_text(json.dumps(results))
    again = ('segment', f'{address}/live', '--text', 'the red circle', '--out-dir', 'live')
    assert call(*again, '--cfg-options', 'model.no=1')[0] == 2 and stale.exists()
    assert call(*again, '--no-video')[0] == 0 and not stale.exists()

    status, _, error = call('segment', f'{address}/changing', '--text', 'the red circle',
                            '--out-dir', 'changing', '--no-video')
    assert status == 1 and 'as the frames before, got (64, 64)' in error
    results = json.loads((tmp_path / 'changing/live/results.json').read_text())
    assert not results['complete'] and 'got (64, 64)' in results['error']
    assert sorted(path.stem for path in (tmp_path / 'changing/live/0').iterdir()) == sorted(
        results['video']['frames'])
    status, _, error = call('segment', f'{address}/live', '--text', 'a', '--out-dir', 'o',
                            '--fps', '5')
    assert status == 2 and '--fps and --format are for videos with an end' in error


def test_errors_are_one_line(call, video, tmp_path, monkeypatch, local_hub):
    monkeypatch.chdir(tmp_path)
    text = ('--text', 'a', '--out-dir', 'o')
    for args, words in (
            (('no.mp4', *text), 'nothing at no.mp4'),
            ((video, '--text', ' ', '--out-dir', 'o'), 'expected an expression'),
            ((video, *text, '--seconds', '3'), '--seconds is for live sources'),
            ((video, '0', *text), 'one live source alone, got 2 videos with the camera 0'),
            (('', *text), 'video, got an empty one'),
            ((video, '--text', 'a', '--out-dir', ''), 'output folder, got an empty one'),
            ((video, *text, '--model', 'glus-x'), "did you mean 'glus-s'"),
            ((video, *text, '--model', 'glus-s'), 'could not be reached'),
            ((video, *text, '--model', 'my.py'), '--checkpoint with the config my.py'),
            ((video, *text, '--device', 'cuda:99'), 'device that can be used here'),
            ((video, *text, '--cfg-options', 'modell.x=1'), "has no 'modell'")):
        status, out, error = call('segment', *args)
        assert status == 2 and not out, args
        assert error.startswith('glus-mm segment: error: ') and words in error
        assert error.count('\n') == 1, error


def test_memory_that_does_not_suffice_is_one_line(call, video, tmp_path):
    @MODELS.register_module(force=True)
    class GreedySelector:

        def select(self, reader, data_sample):
            return torch.empty(1 << 60)

    for videos, words in (([video], 'lower model.test_cfg.window'), ([video] * 2, '0 of 2 videos')):
        status, out, error = call(
            'segment', *videos, '--text', 'a', '--out-dir', tmp_path, '--no-video', '--cfg-options',
            'model.test_cfg.selector.type=GreedySelector')
        assert status == 1 and words in out + error and 'Traceback' not in error
        assert 'the memory does not suffice for 1 expressions' in error


def test_failures_and_tables(call, tmp_path, evaluators):
    status, _, error = call('eval', '--protocol', 'mevis', '--ann', evaluators / 'mevis/valid_u',
                            '--pred', tmp_path)
    assert status == 1 and error.startswith('glus-mm eval: error: ') and 'Traceback' not in error
    status, _, error = call('convert', 'glus', tmp_path, tmp_path / 'out')
    assert status == 1 and error.startswith('glus-mm convert: error: ')
    assert call('convert', 'official', 'no.py', 'no.pth', 'o')[0] == 1
    status, out, error = call('eval', '--protocol', 'mevis', '--ann', evaluators / 'mevis/valid_u',
                              '--pred', evaluators / 'pred', '--out', tmp_path / 'f.json')
    assert status == 0, error
    assert round(json.loads((tmp_path / 'f.json').read_text())['dataset']['J&F'], 6) == 0.622423
    assert '62.24' in out
