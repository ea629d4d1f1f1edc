"""MMEngine's loader, on either engine, runs no code of a checkpoint, wherever that comes from."""

import pickle
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from mmengine import Config
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, MODELS
from mmengine.runner import CheckpointLoader, Runner
from torch import nn
from torch.utils.data import TensorDataset

import glus_mm.engine  # noqa: F401 - what it registers is tested


class Creates:
    """Unpickling it creates a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), 'w')


@MODELS.register_module()
class LoaderToyModel(BaseModel):

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(1, 1)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return dict(loss=self.fc(inputs).mean())


@DATASETS.register_module()
class LoaderToySet(TensorDataset):

    def __init__(self):
        super().__init__(torch.zeros(2, 1))


@pytest.fixture
def hostile(tmp_path):
    """A checkpoint with weights, and an object that creates a file; and that file."""
    trace = tmp_path / 'trace'
    torch.save(dict(state_dict=LoaderToyModel().state_dict(), meta=dict(iter=1, seed=0),
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
    runner = Runner.from_cfg(Config(dict(
        default_scope='glus_mm', model=dict(type='LoaderToyModel'), work_dir=str(folder / 'run'),
        train_dataloader=dict(batch_size=1, dataset=dict(type='LoaderToySet'),
                              sampler=dict(type='InfiniteSampler')),
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=2),
        optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1)),
        default_hooks=dict(checkpoint=dict(type='SafeCheckpointHook', interval=5)),
        experiment_name=f'loads_{resume}', resume=resume, load_from=str(folder / 'hostile.pth'))))
    with pytest.raises(ValueError, match='objects are never loaded'):
        runner.train()
    assert not trace.exists()
