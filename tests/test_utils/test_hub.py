"""Names of repositories, and downloads without a network."""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants

from glus_mm.utils.hub import download, is_hub_name, split_revision


@pytest.fixture(autouse=True)
def somewhere(tmp_path, monkeypatch):
    """A folder with a file and a folder, where names are looked up."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'work_dirs').mkdir()
    (tmp_path / 'here').mkdir()
    (tmp_path / 'here' / 'model').write_text('')


@pytest.mark.parametrize('name', [
    'Swindl/GLUS-S', 'xinlai/LISA-7B-v1', 'facebook/sam2.1-hiera-large', 'a/b', 'Swindl/GLUS-S@v1',
    'Swindl/GLUS-S@refs/pr/1'])
def test_names_of_repositories(name):
    assert is_hub_name(name)
    assert not is_hub_name(Path(name)), 'a Path is never meant as one'


@pytest.mark.parametrize('name', [
    'tiny', 'model.pth', 'Swindl/model.pth', 'Swindl/GLUS-S/model', './GLUS-S', '../Swindl/GLUS-S',
    '~/GLUS-S', '/data/GLUS-S', 'Swindl/', '/GLUS-S', 'C:\\GLUS-S', 'Swindl/GLUS S', '', None, 3,
    'Swindl/GLUS-S@', 'Swindl/-S'])
def test_what_is_no_name(name):
    assert not is_hub_name(name)


def test_paths_and_revisions():
    assert not is_hub_name('here/model')
    assert not is_hub_name('work_dirs/glus_tny')
    assert split_revision('Swindl/GLUS-S') == ('Swindl/GLUS-S', 'main')
    assert split_revision('Swindl/GLUS-S@v1') == ('Swindl/GLUS-S', 'v1')


def test_download_finds_what_is_there(local_hub, tmp_path):
    home = local_hub.publish('some/model', tmp_path / 'here', 'd' * 40)
    for name in ('some/model', 'some/model@main', f'some/model@{"d" * 40}'):
        folder = download(name, ['model'], 'Hint.')
        assert folder == home / 'snapshots' / ('d' * 40)
    with pytest.raises(ConnectionError, match="'some/model' is no file or folder here.*Hint."):
        download('some/model@other', ['model'], 'Hint.')


def test_nobody_answers(local_hub, monkeypatch):
    with pytest.raises(ConnectionError) as error:
        download('Swindl/GLUS-S', ['*.json'], 'Use a folder.')
    message = str(error.value)
    assert "'Swindl/GLUS-S' is no file or folder here" in message
    assert f'the repository {constants.ENDPOINT}/Swindl/GLUS-S could not be reached' in message
    assert 'HF_HUB_OFFLINE' in message and message.endswith('Use a folder.')
    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', False)
    monkeypatch.setattr(constants, 'ENDPOINT', 'http://127.0.0.1:9')
    with pytest.raises(ConnectionError, match=r'http://127.0.0.1:9/Swindl/GLUS-S could not be '
                                              r'reached \(.+\). Use a folder.'):
        download('Swindl/GLUS-S', ['*.json'], 'Use a folder.')


@pytest.fixture
def refuse(local_hub, monkeypatch):
    """Start a hub that answers every request with an error of its kind."""
    servers = []

    def start(status, code):

        class Handler(BaseHTTPRequestHandler):

            def do_GET(self):
                self.send_response(status)
                self.send_header('X-Error-Code', code)
                self.send_header('Content-Length', '0')
                self.end_headers()

            def log_message(self, *args):
                pass

        servers.append(HTTPServer(('127.0.0.1', 0), Handler))
        threading.Thread(target=servers[0].serve_forever, daemon=True).start()
        monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', False)
        monkeypatch.setattr(constants, 'ENDPOINT', f'http://127.0.0.1:{servers[0].server_port}')

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(('status', 'code', 'message'), [
    (404, 'RepoNotFound', "'Swindl/GLUS-X' is no file or folder here, and there is no repository "
                          r'http://127.0.0.1:\d+/Swindl/GLUS-X \(or it is private'),
    (403, 'GatedRepo', 'http://127.0.0.1.*can be read only by those who were let in'),
    (404, 'RevisionNotFound', "http://127.0.0.1.*/Swindl/GLUS-X has no revision 'v9'"),
])
def test_the_hub_says_no(refuse, status, code, message):
    refuse(status, code)
    with pytest.raises(FileNotFoundError, match=message):
        download('Swindl/GLUS-X@v9', ['*.json'], 'Use a folder.')
