"""Models as folders for the hub: saved, uploaded, downloaded, and nothing of them ever run."""

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch

from glus_mm.apis import GLUSInferencer, init_model
from glus_mm.models.segmentors import GLUS
from programs import ROOT

SMALL = {
    'model.mllm.vision_tower.hidden_size': 16, 'model.mllm.vision_tower.num_hidden_layers': 1,
    'model.mllm.llm.hidden_size': 32, 'model.mllm.llm.num_hidden_layers': 1,
    'model.mask_head.image_size': 64, 'model.mask_head.sam2.d_model': 32,
    'model.test_cfg.seg_threshold': None}


@pytest.fixture(scope='module')
def model():
    return init_model(ROOT / 'configs/glus/glus_tiny_moving-shapes.py', cfg_options=SMALL)


@pytest.fixture(scope='module')
def saved(model, tmp_path_factory):
    """A folder in shards."""
    return model.save_pretrained(
        tmp_path_factory.mktemp('saved') / 'small', max_shard_size='300KB', license='mit',
        trained='On nothing.', results={'MovingShapes': {'J&F': 12.345}})


@pytest.fixture
def changed(saved, tmp_path):
    """``changed(edit)``: a copy whose config.json was edited."""

    def copy(edit=lambda model: None):
        folder = tmp_path / 'changed'
        folder.mkdir()
        for file in saved.iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        content = json.loads((folder / 'config.json').read_text())
        edit(content['model'])
        (folder / 'config.json').write_text(json.dumps(content))
        return folder

    return copy


def test_what_is_saved_is_loaded(model, saved):
    names = sorted(file.name for file in saved.iterdir())
    assert names[:2] == ['README.md', 'config.json']
    assert 'model.safetensors.index.json' in names and len(names) > 4
    loaded = GLUS.from_pretrained(saved)
    assert type(loaded) is GLUS and loaded.checkpoint == str(saved) and not loaded.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name]), name
    video = [np.full((40, 60, 3), 20 * t, np.uint8) for t in range(3)]
    scores = [GLUSInferencer(each)(video, texts=['the red circle'])['scores']
              for each in (model, saved)]
    assert np.array_equal(*scores)
    assert init_model(saved, cfg_options={'model.test_cfg.window': 2}).test_cfg.window == 2
    for option, nearest in (('modl.window', 'model'), ('model.tst_cfg.window', 'test_cfg')):
        with pytest.raises(KeyError, match=nearest):
            init_model(saved, cfg_options={option: 2})
    with pytest.raises(ValueError, match='a folder of save_pretrained.*name it as the model'):
        init_model(model.cfg, saved)


def test_the_card_and_a_copy(saved, tmp_path):
    card = (saved / 'README.md').read_text()
    assert card.startswith('---\nlibrary_name: glus_mm\nlicense: mit\n')
    for part in ('On nothing.', '| MovingShapes | J&F | 12.35 |', '`mask_head`', "'ORG/small'"):
        assert part in card
    GLUS.from_pretrained(saved).save_pretrained(tmp_path / 'again')
    first, again = (json.loads((folder / 'config.json').read_text())
                    for folder in (saved, tmp_path / 'again'))
    assert len(first.pop('sha256')) > 1 and list(again.pop('sha256')) == ['model.safetensors']
    assert first == again
    assert (tmp_path / 'again' / 'model.safetensors').is_file()


@pytest.mark.parametrize('edit, message', [
    (lambda m: m.update(type='os.system'), "class of glus_mm as model.type, got 'os.system'"),
    (lambda m: m['mllm'].update(type='NoSuchMLLM'), "as model.mllm.type, got 'NoSuchMLLM'"),
    (lambda m: m['mask_head']['sam2'].update(_target_='os.system'), 'sam2._target_ is not allowed'),
    (lambda m: m.update(_scope_='mmdet'), 'model._scope_ is not allowed'),
    (lambda m: m['mask_head'].update(sam2='evil.yaml'), 'model.mask_head.sam2 names a file'),
    (lambda m: m['mllm'].update(init_cfg=dict(type='Pretrained', checkpoint='http://a/b')),
     'model.mllm.init_cfg is not allowed'),
    (lambda m: m['test_cfg'].update(selector=dict(type='FileKeyFrameSelector', file='/etc/a')),
     'selector.file names a file'),
    (lambda m: m['mllm']['llm'].update(hidden_size=64), 'are not those of its config.json')])
def test_a_config_that_asks_for_more_is_refused(changed, edit, message):
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        GLUS.from_pretrained(changed(edit))
    assert '\n' not in str(error.value)


def test_damaged_weights_are_refused(changed):
    """safetensors has no checksums: a bit that flips would be another weight."""
    folder = changed()
    shard = sorted(folder.glob('model-*.safetensors'))[-1]
    content = bytearray(shard.read_bytes())
    content[-3] ^= 1
    shard.write_bytes(content)
    with pytest.raises(ValueError, match=f'got a damaged file, or one of .*{shard.name}; downl'):
        GLUS.from_pretrained(folder)


def test_incomplete_folders(changed, tmp_path):
    folder = changed()
    shard = sorted(folder.glob('model-*.safetensors'))[0]
    shard.unlink()
    with pytest.raises(FileNotFoundError, match=f'the shard .*{shard.name}.*download it or save'):
        GLUS.from_pretrained(folder)
    (folder / 'model.safetensors.index.json').unlink()
    for rest in folder.glob('model-*'):
        rest.unlink()
    with pytest.raises(FileNotFoundError, match='expected model.safetensors in'):
        GLUS.from_pretrained(folder)
    (folder / 'config.json').write_text('{"architectures": ["LlamaForCausalLM"]}')
    with pytest.raises(ValueError, match='"library_name": "glus_mm" and "model" in'):
        GLUS.from_pretrained(folder)
    with pytest.raises(FileNotFoundError, match="save_pretrained or the name org/name"):
        GLUS.from_pretrained('nothing-here')


class Hub(BaseHTTPRequestHandler):
    """What of the hub's HTTP API an upload and a download ask for; one branch, files in memory."""

    files: dict[str, bytes] = {}
    commit = 'a' * 40
    asked: list[str] = []

    def answer(self, content, status=200, **headers):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {'Content-Length': str(len(body)), **headers}.items():
            self.send_header(name.replace('_', '-'), value)
        self.end_headers()
        if self.command != 'HEAD':
            self.wfile.write(body)

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get('Content-Length') or 0))
        self.asked.append(f'POST {self.path}')
        if self.path.endswith('/repos/create'):
            return self.answer(dict(url=f'http://{self.headers["Host"]}/me/small'))
        if self.path.endswith('/validate-yaml'):
            return self.answer(dict(errors=[], warnings=[]))
        if '/preupload/' in self.path:
            return self.answer(dict(files=[
                dict(path=file['path'], uploadMode='regular', shouldIgnore=False)
                for file in json.loads(body)['files']]))
        if '/commit/' in self.path:
            for line in body.decode().splitlines():
                entry = json.loads(line)
                if entry['key'] == 'file':
                    self.files[entry['value']['path']] = base64.b64decode(
                        entry['value']['content'])
            return self.answer(dict(success=True, commitOid=self.commit,
                                    commitUrl=f'http://{self.headers["Host"]}/me/small/commit/'
                                    f'{self.commit}'))
        return self.answer(dict(error=self.path), 404)

    def do_GET(self):
        path = self.path.split('?')[0]
        self.asked.append(f'{self.command} {path}')
        if '/resolve/' in path:
            name = path.split('/resolve/')[1].split('/', 1)[1]
            if name not in self.files:
                return self.answer(b'', 404, X_Error_Code='EntryNotFound')
            content = self.files[name]
            return self.answer(content, ETag=f'"{hashlib.sha1(content).hexdigest()}"',
                               X_Repo_Commit=self.commit)
        if path.startswith('/api/models/me/small'):
            if '/tree/' in path:
                return self.answer([
                    dict(type='file', path=name, size=len(content),
                         oid=hashlib.sha1(content).hexdigest())
                    for name, content in self.files.items()])
            return self.answer(dict(id='me/small', sha=self.commit, siblings=[
                dict(rfilename=name) for name in self.files]))
        return self.answer(b'', 404, X_Error_Code='RepoNotFound')

    do_HEAD = do_GET

    def log_message(self, *args):
        pass


PROGRAM = '''
import sys
from huggingface_hub import constants
from glus_mm.apis import init_model
from glus_mm.models.segmentors import GLUS

if not constants.HF_HUB_OFFLINE:
    print(GLUS.from_pretrained(sys.argv[1]).push_to_hub('me/small', sys.argv[2], license='mit'))
model = init_model('me/small')
print(sum(float(value.double().sum()) for value in model.state_dict().values()))
if constants.HF_HUB_OFFLINE:
    constants.HF_HUB_CACHE = sys.argv[3]
    init_model('me/small')
'''


@pytest.mark.slow
def test_upload_download_and_no_network(saved, model, tmp_path):
    """Over HTTP against a stub of the hub; then offline, from the hub's own cache."""
    server = ThreadingHTTPServer(('127.0.0.1', 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    env = dict(os.environ, HF_ENDPOINT=f'http://127.0.0.1:{server.server_port}', HF_TOKEN='hf_test',
               HF_HOME=str(tmp_path / 'hf'), HF_HUB_DISABLE_XET='1', OMP_NUM_THREADS='1',
               PYTHONPATH=str(ROOT), HF_HUB_CACHE=str(tmp_path / 'hf' / 'hub'))

    def run(**more):
        arguments = saved, tmp_path / 'pushed', tmp_path / 'empty'
        return subprocess.run([sys.executable, '-c', PROGRAM, *map(str, arguments)],
                              capture_output=True, text=True, env=dict(env, **more), cwd=tmp_path)

    done = run()
    assert done.returncode == 0, (done.stderr, Hub.asked)
    total = done.stdout.splitlines()[-1]
    assert f'/commit/{Hub.commit}\n' in done.stdout
    assert {'README.md', 'config.json', 'model.safetensors'} <= Hub.files.keys()
    expected = sum(float(value.double().sum()) for value in model.state_dict().values())
    assert float(total) == expected, Hub.asked
    server.shutdown()
    server.server_close()
    done = run(HF_HUB_OFFLINE='1')
    assert total in done.stdout.splitlines(), done.stderr
    error = done.stderr.splitlines()[-1]  # with another cache, which is empty
    assert done.returncode == 1 and 'ConnectionError: ' in error and 'not be reached' in error
