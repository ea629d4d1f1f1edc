"""MMEngine's loader, on either engine, runs no code of a checkpoint, wherever that comes from."""

import pickle
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from mmengine.runner import CheckpointLoader

import glus_mm.engine  # noqa: F401 - what it registers is tested
import toys


class Creates:
    """Unpickling it creates a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), 'w')


@pytest.fixture
def hostile(tmp_path):
    """A checkpoint with weights, and an object that creates a file; and that file."""
    trace = tmp_path / 'trace'
    torch.save(dict(state_dict=toys.EngineToyModel().state_dict(), meta=dict(iter=1, seed=0),
                    more=Creates(trace)), tmp_path / 'hostile.pth')
    with open(tmp_path / 'bare.pth', 'wb') as file:  # the format before torch 1.6
        pickle.dump(Creates(trace), file)
    return tmp_path, trace


@pytest.fixture
def url(hostile, monkeypatch):
    """The folder over HTTP."""
    monkeypatch.setenv('TORCH_HOME', str(hostile[0] / 'cache'))
    handler = partial(SimpleHTTPRequestHandler, directory=str(hostile[0]))
    handler.func.log_message = lambda *_: None
    server = ThreadingHTTPServer(('127.0.0.1', 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{server.server_port}'
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize('name', ['hostile.pth', 'bare.pth'])
def test_files_and_urls(hostile, url, name):
    folder, trace = hostile
    for place in (folder, url):
        with pytest.raises(ValueError, match='objects|cannot be read'):
            CheckpointLoader.load_checkpoint(f'{place}/{name}')
    assert not trace.exists()
    torch.load(folder / 'hostile.pth', weights_only=False)
    assert trace.exists(), 'it would have been created'


def test_a_url_with_weights_is_read(hostile, url):
    torch.save(dict(state_dict=dict(a=torch.arange(3))), hostile[0] / 'good.pth')
    for _ in range(2):  # the second time from the cache
        loaded = CheckpointLoader.load_checkpoint(f'{url}/good.pth', 'cpu')
    assert loaded['state_dict']['a'].tolist() == [0, 1, 2]


@pytest.mark.parametrize('resume', [False, True])
def test_a_run(hostile, resume):
    folder, trace = hostile
    runner = toys.make_runner(folder / 'run', resume=resume,
                              load_from=str(folder / 'hostile.pth'))
    with pytest.raises(ValueError, match='objects are never loaded'):
        runner.train()
    assert not trace.exists()
