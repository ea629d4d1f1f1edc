"""demo/web_demo.py in a browser, and what it does with visitors who mean harm."""

import contextlib
import http.client
import io
import json
import os
import socket
import sys
import tempfile
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest

import programs
from glus_mm.apis import GLUSInferencer, init_model
from glus_mm.models.inference import VideoFileReader
from glus_mm.utils.masks import decode_rle
from glus_mm.visualization import OverlayVideoWriter
from programs import ROOT

sys.path.insert(0, str(ROOT / 'demo'))

from web_parts import (
    SegmentationResult,
    SegmentationService,
    TemporaryStore,
    WebLimits,
)

HOSTILE = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>'
WAIT = 60_000  # ms
# A server with its time limits, and a browser. It alone imports Gradio, which takes seconds.
pytestmark = [pytest.mark.slow, pytest.mark.skipif(
    not all(map(find_spec, ('gradio', 'gradio_client'))), reason='needs Gradio (the extra "demo")')]


def load_demo():
    return programs.load(ROOT / 'demo' / 'web_demo.py')


class Server:
    """The demo with the shipped checkpoint, in threads of this process."""

    def __init__(self, store, samples):
        demo = load_demo()
        demo.use_store(store)
        self.store = store
        limits = WebLimits(max_upload_mb=2, max_idle_seconds=2, max_megapixels=0.1)
        service = SegmentationService(
            GLUSInferencer(init_model(ROOT / demo.CONFIG, ROOT / demo.CHECKPOINT)), store, limits)
        self.samples = demo.write_samples(samples)
        self.page = demo.launch(service, self.samples, '127.0.0.1', 0, demo.TINY_KNOWS)
        self.url = self.page.local_url
        self.port = int(self.url.rstrip('/').rsplit(':', 1)[1])

    def client(self):
        import gradio_client
        return gradio_client.Client(self.url, verbose=False, download_files=str(self.downloads()))

    def downloads(self):
        return Path(tempfile.mkdtemp(dir=self.samples[0][0].parent))

    def segment(self, video, text, client=None):
        """Status and files of a run through the API, at 3 frames per second."""
        from gradio_client import handle_file
        job = (client or self.client()).submit(
            handle_file(str(video)), text, 3, api_name='/segment')
        values = job.result(timeout=240)
        return values[0], values

    def request(self, method, path, body=b'', headers=None):
        """Status, headers and body of a plain request.

        ``body`` None announces what ``headers`` say and sends nothing of it.
        """
        connection = http.client.HTTPConnection('127.0.0.1', self.port, timeout=60)
        if body is None:
            connection.putrequest(method, path)
            for name, value in headers.items():
                connection.putheader(name, value)
            connection.endheaders()
        else:
            # A refusal needs no body: the answer may be there, and the other end closed, before it
            # is sent.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.request(method, path, body=body, headers=headers or {})
        answer = connection.getresponse()
        result = answer.status, dict(answer.getheaders()), answer.read()
        connection.close()
        return result

    def still_works(self):
        status, _ = self.segment(self.samples[0][0], 'the orange triangle')
        return '1 expression on 6 frames' in status


@pytest.fixture(scope='module')
def server():
    names = ('GRADIO_TEMP_DIR', 'GRADIO_EXAMPLES_CACHE', 'GRADIO_ANALYTICS_ENABLED',
             'HF_HUB_DISABLE_TELEMETRY')
    before = {name: os.environ.get(name) for name in names}
    with TemporaryStore(64 << 20, 600) as store, TemporaryStore(64 << 20, 600) as samples:
        server = Server(store, samples.root)
        yield server
        server.page.close()
    for name, value in before.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value


class Visitor:
    """A page in a context of its own; keeps what it asked for and was answered."""

    def __init__(self, browser, server):
        self.context = browser.new_context(accept_downloads=True)
        self.page = self.context.new_page()
        self.page.set_default_timeout(WAIT)
        self.samples = server.samples
        self.requests, self.errors = [], []
        self.page.on('request', lambda request: self.requests.append(request.url))
        self.page.on('pageerror', lambda error: self.errors.append(str(error)))
        self.page.on('dialog', lambda dialog: self.errors.append(dialog.message))
        self.page.goto(server.url)
        self.page.wait_for_selector('#start')
        self.page.wait_for_selector('#status')

    def upload(self, path):
        self.page.set_input_files('#video input[type=file]', str(path))

    def pick_sample(self, number):
        """Until its expressions are filled in, too: they may come after the video of another."""
        self.page.click(f'#sample{number}')
        self.page.wait_for_function(
            'text => document.querySelector("#text textarea").value == text',
            arg=self.samples[number - 1][1])
        self.page.wait_for_selector('#video video')

    def clear_video(self):
        self.page.click('#video button[aria-label=Clear]')
        self.page.wait_for_selector('#video video', state='detached')

    def run(self, text):
        """Type, start, and wait for the result or an error, which is returned."""
        self.page.fill('#text textarea', text)
        return self.outcome(lambda: self.page.click('#start'))

    def outcome(self, act):
        """Do something, and wait for what the page says of it."""
        mark = "document.querySelector('#status [data-run]')?.dataset.run"
        before = self.page.evaluate(mark)
        act()
        self.page.wait_for_function(f'before => ![undefined, before].includes({mark})', arg=before)
        return self.page.inner_text('#status')

    def click_frame(self, x, y):
        """Click on the frame where it shows a point in pixels of its own."""
        image = self.page.locator('#frame img')
        box = image.bounding_box()
        width, height = image.evaluate('image => [image.naturalWidth, image.naturalHeight]')
        scale = min(box['width'] / width, box['height'] / height)  # shown whole, in the middle
        image.click(position=dict(x=(box['width'] - width * scale) / 2 + x * scale,
                                  y=(box['height'] - height * scale) / 2 + y * scale))

    def frame(self, unlike=None):
        """The frame that is shown, as bytes, once it is another one than ``unlike``."""
        self.page.wait_for_selector('#frame img')
        end = time.monotonic() + 60
        while True:
            address = self.page.get_attribute('#frame img', 'src')
            shown = self.context.request.get(address).body()
            if shown != unlike:
                return shown
            assert time.monotonic() < end, 'the frame stays'
            self.page.wait_for_timeout(50)

    def download(self, button):
        with self.page.expect_download() as info:
            self.page.click(button)
        return Path(info.value.path()).read_bytes()

    def hacked(self):
        return self.page.evaluate('window.hacked') is not None


@pytest.fixture
def visitor(server, browser):
    visitor = Visitor(browser, server)
    yield visitor
    visitor.context.close()


def masks_of(archive):
    with zipfile.ZipFile(io.BytesIO(archive)) as files:
        return {name: cv2.imdecode(np.frombuffer(files.read(name), np.uint8), 0) > 0
                for name in sorted(files.namelist()) if name.endswith('.png')}


def test_a_visit(visitor, server, tmp_path):
    """Upload, type, run, see the mask change with the text, step, play, download."""
    clip = tmp_path / 'my clip.mp4'
    clip.write_bytes(server.samples[0][0].read_bytes())
    visitor.upload(clip)
    visitor.page.wait_for_selector('#video video')
    assert '1 expression on 12 frames' in visitor.run('the orange triangle')
    first_frame, first = visitor.frame(), masks_of(visitor.download('#zip'))
    assert '1 expression on 12 frames' in visitor.run('both blue shapes')
    frame = visitor.frame(unlike=first_frame)
    second = masks_of(visitor.download('#zip'))
    assert list(first) == list(second) == [f'0/{t:05d}.png' for t in range(12)]
    assert all(mask.sum() > 50 for mask in [*first.values(), *second.values()])
    overlap = [(first[name] & second[name]).sum() / first[name].sum() for name in first]
    assert np.mean(overlap) < 0.1, 'other words, another mask'
    document = json.loads(visitor.download('#json'))
    assert document['expressions'][0]['expression'] == 'both blue shapes'
    assert (decode_rle(document['expressions'][0]['masks'][3]) == second['0/00003.png']).all()

    visitor.page.fill('#slider input[type=number]', '7')
    visitor.page.press('#slider input[type=number]', 'Enter')
    visitor.page.wait_for_function(
        "document.querySelector('#frame img').src.endsWith('00007.jpg')")
    visitor.frame(unlike=frame)
    visitor.page.click('button[role=tab]:has-text("Video")')
    visitor.page.wait_for_function("document.querySelector('#overlay video').readyState >= 2")
    # This model was trained to score its masks, and to say whether the object is there.
    assert visitor.page.query_selector('#plot svg') is not None
    assert len(document['expressions'][0]['expected_iou']) == 12
    assert visitor.errors == []
    own = (server.url, 'data:', f'blob:{server.url}')
    assert [url for url in visitor.requests if not url.startswith(own)] == []


def test_clicks_correct_masks(visitor, server):
    """Positive and negative, for a chosen expression, undo; clicks stand in results.json."""
    visitor.pick_sample(1)
    visitor.page.click('#fps input')
    visitor.page.click('[role=option]:has-text("at most 3")')
    visitor.run('the orange triangle\nboth blue shapes')
    first = visitor.download('#zip')
    frame = visitor.frame()
    visitor.page.click('#which input')
    visitor.page.click('[role=option]:has-text("both blue shapes")')
    assert 'frames 0 to 5 are new' in visitor.outcome(lambda: visitor.click_frame(30, 50))
    visitor.page.click('#label label:has-text("off it")')
    assert 'frames 0 to 5 are new' in visitor.outcome(lambda: visitor.click_frame(200, 60))
    visitor.frame(unlike=frame)  # the clicks are drawn
    assert 'inside of the frame' in visitor.outcome(lambda: visitor.click_frame(20, 490))
    with zipfile.ZipFile(io.BytesIO(visitor.download('#zip'))) as files:
        document = json.loads(files.read('results.json'))
    assert document['texts'][0]['clicks'] == [] and document['masks']['format'] == 'png'
    scale = document['video']['width'] / 640
    clicks = document['texts'][1]['clicks']
    assert [click['labels'] for click in clicks] == [[1], [0]]
    points = [point for click in clicks for point in click['points']]
    assert np.abs(np.array(points) - np.array([[30, 50], [200, 60]]) * scale).max() < 1
    assert not Path(document['video']['source']).is_absolute()
    assert json.loads(visitor.download('#json'))['expressions'][1]['clicks'] == clicks
    corrected = masks_of(visitor.download('#zip'))
    before = masks_of(first)
    changed = {name for name in before if (before[name] != corrected[name]).any()}
    assert changed and all(name.startswith('1/') for name in changed)
    for _ in range(2):
        assert 'Taken back' in visitor.outcome(lambda: visitor.page.click('#undo'))
    assert 'no refinement to undo' in visitor.outcome(lambda: visitor.page.click('#undo'))
    again = masks_of(visitor.download('#zip'))
    assert all((before[name] == again[name]).all() for name in before)
    assert visitor.errors == []


def test_what_is_said_of_the_model(visitor):
    visitor.pick_sample(2)
    assert 'the green diamond' in visitor.page.input_value('#text textarea')
    assert 'coloured shapes only' in visitor.page.inner_text('#knows')
    visitor.pick_sample(1)
    assert 'line 1: expected at most 150 tokens' in visitor.run(' '.join('a' * 400))


def test_scripts_are_text(visitor, server, tmp_path):
    clip = tmp_path / '<img src=x onerror=window.hacked=1>.mp4'
    clip.write_bytes(server.samples[0][0].read_bytes())
    visitor.upload(clip)
    visitor.page.wait_for_selector('#video video')
    assert '1 expression on 12 frames' in visitor.run(HOSTILE)
    assert "line 1: expected no '<s>'" in visitor.run(f'<s>{HOSTILE}')
    assert HOSTILE in visitor.page.inner_text('#status')
    assert not visitor.hacked() and visitor.errors == []


def test_what_cannot_be_used_is_told(visitor, server, tmp_path):
    assert 'upload one, or pick a sample' in visitor.run('')
    assert 'upload one, or pick a sample' in visitor.run('the red circle')
    visitor.pick_sample(1)
    assert 'at most 1000 characters, but got 7000' in visitor.run('x' * 7000)
    assert 'expected at most 8 expressions' in visitor.run('x' * 10_000)
    visitor.clear_video()
    broken = tmp_path / 'broken.mp4'
    broken.write_bytes(b'\0' * 5000)
    visitor.upload(broken)
    visitor.page.wait_for_selector('#video video')
    assert 'expected a video file' in visitor.run('the red circle')
    visitor.clear_video()
    large = tmp_path / 'large.mp4'
    large.touch()
    os.truncate(large, 1 << 30)
    visitor.upload(large)
    visitor.page.wait_for_selector('text=/exceed the maximum/')
    assert server.still_works() and visitor.errors == []


def test_a_phone_scrolls_to_the_progress(browser, server):
    visitor = Visitor(browser, server)
    try:
        visitor.page.set_viewport_size(dict(width=390, height=780))
        visitor.pick_sample(1)
        visitor.page.evaluate('window.scrollTo(0, 0)')
        place = "document.querySelector('#status').getBoundingClientRect().top"
        assert visitor.page.evaluate(place) > 780
        visitor.run('the orange triangle')
        visitor.page.wait_for_function(f'{place} < 300 && {place} > -50')
        assert visitor.errors == []
    finally:
        visitor.context.close()


def test_large_frames_are_scaled_down_with_a_note(server, tmp_path):
    clip = tmp_path / 'large.mp4'
    with OverlayVideoWriter(clip, 5) as writer:
        for t in range(2):
            writer.write(np.full((480, 640, 3), 60 + t, dtype=np.uint8))
    status, values = server.segment(clip, 'the red circle')
    assert 'Frames of 640 x 480 pixels were scaled down to 364 x 272.' in status


def size_of(folder):
    return sum(path.stat().st_size for path in folder.rglob('*') if path.is_file())


def test_limits(server):
    """The gate answers from the headers alone, and may close while a client still sends."""
    before = size_of(server.store.root)
    status, _, body = server.request('POST', '/gradio_api/upload', None, {
        'Content-Length': str(1 << 30), 'Content-Type': 'multipart/form-data; boundary=b'})
    assert status == 413 and b'expected at most' in body
    status, _, _ = server.request('POST', '/gradio_api/upload', None, {
        'Transfer-Encoding': 'chunked'})
    assert status == 411, 'a length has to be stated'
    status, _, _ = server.request('POST', '/gradio_api/queue/join', None, {
        'Content-Length': str(2 << 20)})
    assert status == 413
    assert size_of(server.store.root) == before and server.still_works()
    for path in ('/etc/passwd', str(ROOT / 'README.md'), 'http://127.0.0.1/x.mp4', 7):
        call = dict(data=[dict(path=path, meta={'_type': 'gradio.FileData'}), 'the star', 3])
        for address in ('call/segment', 'queue/join'):
            status, _, body = server.request(
                'POST', f'/gradio_api/{address}', json.dumps(call).encode(),
                {'Content-Type': 'application/json'})
            assert status == 400 and 'expected a file that was uploaded here' in json.loads(
                body)['detail']


def open_socket(server, data):
    connection = socket.create_connection(('127.0.0.1', server.port), timeout=60)
    connection.sendall(data)
    return connection


def test_what_an_aborted_upload_leaves_is_removed_at_once(server):
    before = sorted(server.store.root.rglob('*'))
    head = (b'POST /gradio_api/upload HTTP/1.1\r\nHost: a\r\nContent-Length: 2000000\r\n'
            b'Content-Type: multipart/form-data; boundary=b\r\n\r\n'
            b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.mp4"\r\n\r\n')
    connection = open_socket(server, head + bytes(1_000_000))

    def parts():
        return [path for path in server.store.root.glob('tmp*') if path not in before]

    wait_until(lambda: parts() and parts()[0].stat().st_size > 500_000)
    connection.close()
    wait_until(lambda: not parts())
    assert sorted(server.store.root.rglob('*')) == before
    # One that stalls counts as aborted.
    connection = open_socket(server, head + bytes(1_000_000))
    wait_until(parts)
    wait_until(lambda: not parts())
    connection.close()


def wait_until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, 'in vain'
        time.sleep(0.05)


def test_idle_connections_are_closed(server):
    connections = [open_socket(server, data) for data in (
        b'', b'GET / HT', b'GET /config HTTP/1.1\r\nHost: a\r\nX-Slow: ',
        b'POST /gradio_api/queue/join HTTP/1.1\r\nHost: a\r\nContent-Length: 90\r\n\r\n{')]
    for connection in connections:
        while connection.recv(1 << 16):
            pass
        connection.close()
    assert server.still_works()


@pytest.mark.parametrize('path', [
    '/gradio_api/proxy=http://127.0.0.1/', '/gradio_api/run/segment', '/monitoring',
    '/gradio_api/vibe-code', '/docs', '/login', '/gradio_api/component_server', '/../etc/passwd'])
def test_addresses_that_nobody_needs(server, path):
    assert server.request('GET', path)[0] == 404
    assert server.request('POST', path, b'{}')[0] == 404
    assert server.request('DELETE', '/')[0] == 404


def test_files_of_the_server_are_not_served(server):
    alias = f'/{"files".ljust(len(str(server.store.root)) - 1, "_")}'
    for path in ('/etc/passwd', f'{alias}/../../etc/passwd', 'README.md', 'setup.py',
                 str(ROOT / 'setup.py'), '..%2f..%2fetc%2fpasswd', alias, f'{alias}/'):
        status, _, body = server.request('GET', f'/gradio_api/file={path}')
        assert status in (403, 404), path
        assert b'root:' not in body and b'find_packages' not in body


def secrets(server):
    """Paths of the server that no answer may have."""
    places = (server.store.root, server.samples[0][0].parent, ROOT, sys.prefix, Path.home(),
              tempfile.gettempdir())
    return [f'{place}/'.encode() for place in places if str(place) not in ('/', '/root')]


def test_no_answer_has_a_path_of_the_server(server):
    sample = server.samples[0][0].read_bytes()
    form = (b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.mp4"\r\n\r\n'
            + sample + b'\r\n--b--\r\n')
    status, _, uploaded = server.request('POST', '/gradio_api/upload', form, {
        'Content-Type': 'multipart/form-data; boundary=b'})
    assert status == 200
    name = json.loads(uploaded)[0]
    answers = [uploaded]
    status, headers, body = server.request('GET', f'/gradio_api/file={name}')
    assert status == 200 and body == sample, 'the name serves in the place of the path'
    answers.append(json.dumps(headers).encode())
    for path in ('/', '/config', '/gradio_api/info', '/gradio_api/openapi.json', '/theme.css',
                 '/gradio_api/file=/etc/passwd', '/gradio_api/file=nothing', '/assets/nothing',
                 f'/gradio_api/file={name}x'):
        status, headers, body = server.request('GET', path)
        assert b'root:' not in body
        answers += [body, json.dumps(headers).encode()]
    for video in (name, '/etc/passwd', f'{name}x', str(ROOT / 'README.md'), 7):
        call = dict(data=[dict(path=video, meta={'_type': 'gradio.FileData'}), 'the star', 3])
        status, _, body = server.request('POST', '/gradio_api/call/segment',
                                         json.dumps(call).encode(),
                                         {'Content-Type': 'application/json'})
        answers.append(body)
        if status == 200:
            event = json.loads(body)['event_id']
            answers.append(server.request('GET', f'/gradio_api/call/segment/{event}')[2])
    assert b'expression on 6 frames' in b''.join(answers)
    for answer in answers:
        for secret in secrets(server):
            assert secret not in answer.replace(str(ROOT / 'README.md').encode(), b'')
    assert server.still_works()


def test_five_visitors_at_once(server):
    texts = ['the orange triangle', 'the circle that is yellow', 'both blue shapes',
             'the green star', 'the leftmost shape']
    with ThreadPoolExecutor(5) as pool:
        jobs = [pool.submit(server.segment, server.samples[0][0], text) for text in texts]
        results = [job.result() for job in jobs]
    for text, (status, values) in zip(texts, results):
        assert '1 expression on 6 frames' in status
        document = json.loads(Path(values[6]['value']).read_text())
        assert [item['expression'] for item in document['expressions']] == [text]
    assert server.still_works()


def test_settings_are_checked_before_the_model_is_loaded(monkeypatch, capsys):
    demo, calls = load_demo(), []

    def init_model(*args):
        calls.append(args)
        raise ValueError('no such model')

    monkeypatch.setattr(demo, 'init_model', init_model)
    for option, value, message in (
            ('--max-megapixels', '0', 'expected a finite max_megapixels above 0, got 0.0'),
            ('--max-upload-mb', 'inf', 'expected a finite max_upload_mb above 0, got inf'),
            ('--max-frames', '-1', 'max_frames'), ('--max-seconds', 'nan', 'max_seconds'),
            ('--max-run-seconds', '0', 'max_work_seconds'),
            ('--port', '99999', 'expected --port in 0..65535, got 99999')):
        monkeypatch.setattr('sys.argv', ['web_demo.py', option, value])
        with pytest.raises(SystemExit) as stop:
            demo.main()
        assert message in f'{stop.value.code} {capsys.readouterr().err}' and not calls
    monkeypatch.setattr('sys.argv', ['web_demo.py'])
    with pytest.raises(SystemExit, match='web_demo.py: error: no such model'):
        demo.main()
    assert capsys.readouterr().out.startswith(f'Loading {demo.CHECKPOINT} ...')


def test_samples_and_scores(server):
    for path, texts in server.samples:
        assert len(VideoFileReader(path)) == 12 and len(texts.splitlines()) == 3
    with OverlayVideoWriter(path.with_name('other.mp4'), 5) as writer:
        writer.write(np.zeros((16, 16, 3), dtype=np.uint8))
    assert '1 expression on 1 frame' in server.segment(writer.path, 'the star')[0]
    demo = load_demo()
    result = SegmentationResult(
        folder=Path(), texts=('a <b>', 'a text that is so long that a legend would cut it off'),
        num_frames=3, fps=5., curves=np.float32([[0, .5, 1], [np.nan, .2, .4]]),
        curve_title='expected IoU of the mask', key_frames=(0, 0))
    drawn = demo.curves_html(result)
    assert 'a &lt;b&gt;' in drawn and 'would cut it off' in drawn
    assert 'points="0.0,180.0 300.0,90.0 600.0,0.0"' in drawn
    assert 'points="300.0,144.0 600.0,108.0"' in drawn
    args = load_demo().parse_args([])
    assert args.host == '127.0.0.1' and args.max_upload_mb == 200
    assert server.url.startswith('http://127.0.0.1:')
    assert (server.store.root.stat().st_mode & 0o077) == 0
