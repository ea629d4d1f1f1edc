"""Checkpoints by file, by folder and by name on the hub; conversions are made once."""

import json
import shutil
import subprocess
import time
from pathlib import Path

import pytest
import torch
from mmengine import Config
from torch.utils import serialization

import programs
from glus_mm.apis import init_model, resolve_checkpoint
from glus_mm.apis.pretrained import cache_folder, mapped_weights, resolve_for, use_checkpoint
from glus_mm.conversion import convert_glus
from glus_mm.models import KeyFrameSelector
from programs import ROOT

OFFICIAL = ROOT / 'tests' / 'data' / 'official_glus_tiny'
OPTIONS = dict(clip=str(OFFICIAL / 'clip'), sam2=str(OFFICIAL / 'sam2_tiny_a.yaml'))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache for conversions."""
    monkeypatch.setenv('GLUS_MM_CACHE', str(tmp_path / 'cache'))
    return tmp_path / 'cache'


@pytest.fixture
def published(local_hub):
    """The official checkpoint on a local hub, as org/glus-tiny, and its folder there."""
    return local_hub.publish('org/glus-tiny', OFFICIAL / 'checkpoint', 'a' * 40)


def test_files_and_folders(tmp_path, monkeypatch):
    (tmp_path / 'run').mkdir()
    file = tmp_path / 'run' / 'iter_500.pth'
    file.write_bytes(b'')
    assert resolve_checkpoint(file) == resolve_checkpoint(str(file)) == file
    with pytest.raises(FileNotFoundError, match='a folder without model.pth.*: iter_500.pth'):
        resolve_checkpoint(tmp_path / 'run')
    monkeypatch.chdir(tmp_path)
    assert resolve_checkpoint('checkpoints/glus_tiny_moving-shapes.pth').is_file()
    convert_glus(OFFICIAL / 'checkpoint', tmp_path / 'mm', **OPTIONS)
    assert resolve_checkpoint(tmp_path / 'mm') == tmp_path / 'mm' / 'model.pth'
    model = init_model(tmp_path / 'mm' / 'config.py', tmp_path / 'mm')
    assert model.mllm.lm_head.weight.std() > 0


@pytest.mark.parametrize(('architecture', 'tool'), [
    ('GLUSForCausalLM', 'glus2mm'), ('LISAForCausalLM', 'lisa2mm')])
def test_an_official_folder_names_the_command(tmp_path, architecture, tool):
    folder = tmp_path / 'LISA-or-GLUS'
    folder.mkdir()
    values = json.loads((OFFICIAL / 'checkpoint' / 'config.json').read_text())
    (folder / 'config.json').write_text(json.dumps(dict(values, architectures=[architecture])))
    with pytest.raises(ValueError, match='folder in the official layout.*convert it first') as e:
        resolve_checkpoint(folder)
    assert str(e.value).splitlines()[-1].split() == [
        'python', f'tools/model_converters/{tool}.py', str(folder), 'lisa-or-glus-mm']


def test_a_typo_in_a_path(tmp_path, monkeypatch, local_hub):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'work_dirs').mkdir()
    for name in ('work_dirs/glus', 'iter_500.pth', 'some/iter_500.pth', tmp_path / 'x' / 'y',
                 Path('some/model')):
        with pytest.raises(FileNotFoundError, match=f'got nothing there: {name} '):
            resolve_checkpoint(name)


def test_no_network(local_hub, cache):
    selector = Config(dict(model=dict(type='KeyFrameSelector')))
    for name, tool, resolve in (
            ('Swindl/GLUS-S', 'glus2mm', resolve_checkpoint),
            ('xinlai/LISA-7B-v1', 'lisa2mm', resolve_checkpoint),
            ('Chat-UniVi/Chat-UniVi', 'chatunivi2mm', lambda name: resolve_for(selector, name))):
        with pytest.raises(ConnectionError) as error:
            resolve(name)
        message = str(error.value)
        folder = name.split('/')[1]
        assert f'https://huggingface.co/{name} could not be reached' in message
        assert f'hf download {name} --local-dir {folder}' in message
        assert f'tools/model_converters/{tool}.py {folder} OUT_DIR' in message
    assert not cache.exists()


def test_from_the_hub_once(published, cache, tmp_path):
    file = resolve_checkpoint('org/glus-tiny', **OPTIONS)
    assert file.name == 'model.pth' and file.is_relative_to(cache)
    made = file.stat().st_mtime_ns
    convert_glus(OFFICIAL / 'checkpoint', tmp_path / 'mm', **OPTIONS)
    expected = torch.load(tmp_path / 'mm' / 'model.pth', weights_only=True)['state_dict']
    for name, value in torch.load(file, weights_only=True)['state_dict'].items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=0)
    init_model(file.parent / 'config.py', file)
    for name in ('org/glus-tiny', 'org/glus-tiny@main', f'org/glus-tiny@{"a" * 40}'):
        assert resolve_checkpoint(name, **OPTIONS) == file
    # The hub's cache is large and may be emptied: the conversion is enough.
    shutil.rmtree(published)
    assert resolve_checkpoint('org/glus-tiny', **OPTIONS) == file
    assert file.stat().st_mtime_ns == made


def test_lisa_from_the_hub(local_hub, cache, tiny_lisa):
    folder, sam2 = tiny_lisa
    local_hub.publish('org/lisa-tiny', folder)
    with pytest.raises(ConnectionError, match='facebook/sam2-hiera-large could not be reached'):
        resolve_checkpoint('org/lisa-tiny', clip=OPTIONS['clip'])
    with pytest.raises(ValueError, match='expected --sam2-checkpoint'):
        resolve_checkpoint('org/lisa-tiny', **OPTIONS)
    file = resolve_checkpoint('org/lisa-tiny', **OPTIONS, sam2_checkpoint=str(sam2))
    assert resolve_checkpoint('org/lisa-tiny', **OPTIONS, sam2_checkpoint=str(sam2)) == file
    model = init_model(file.parent / 'config.py', file)
    stock = torch.load(sam2, weights_only=True)['model']
    torch.testing.assert_close(model.mask_head.sam2.no_mem_embed, stock['no_mem_embed'].bfloat16())


@pytest.fixture
def chat_univi(tmp_path):
    """The tiny official checkpoint as a Chat-UniVi: no SAM-2, its vision tower beside it."""
    folder = tmp_path / 'univi'
    shutil.copytree(OFFICIAL / 'checkpoint', folder, ignore=shutil.ignore_patterns('*.bin*'))
    values = json.loads((folder / 'config.json').read_text())
    tower = json.loads((OFFICIAL / 'clip' / 'config.json').read_text())
    patches = (tower['image_size'] // tower['patch_size'])**2
    rates = {f'spatial_cluster_rate{i}': max(2, patches // 2**(i + 1)) for i in range(3)}
    (folder / 'config.json').write_text(json.dumps(dict(
        values, model_type='ChatUniVi', architectures=['ChatUniViLlamaForCausalLM'],
        config=dict(rates, use_cluster=True, temporal_cluster_rate=1 / 16))))
    state = {}
    for file in (OFFICIAL / 'checkpoint').glob('*.bin'):
        state |= torch.load(file, weights_only=True)
    torch.save({name: value.clone() for name, value in state.items()
                if not name.startswith(('model.visual_model.', 'model.text_hidden_fcs.'))},
               folder / 'pytorch_model.bin')
    return folder


def test_chat_univi_from_the_hub(local_hub, cache, chat_univi):
    with pytest.raises(ValueError, match='convert it first') as error:
        resolve_checkpoint(chat_univi)
    assert str(error.value).splitlines()[-1].split() == [
        'python', 'tools/model_converters/chatunivi2mm.py', str(chat_univi), 'univi-mm']
    local_hub.publish('org/Chat-UniVi-tiny', chat_univi, 'b' * 40)
    clip = OPTIONS['clip']
    file = resolve_checkpoint('org/Chat-UniVi-tiny', clip=clip)
    assert isinstance(init_model(file.parent / 'config.py', file), KeyFrameSelector)
    with pytest.warns(DeprecationWarning, match='selector is not needed'):
        assert resolve_checkpoint('org/Chat-UniVi-tiny', clip=clip, selector='qa') == file


def test_other_revisions_and_arguments_are_other_conversions(published, local_hub, cache,
                                                             tmp_path):
    first = resolve_checkpoint('org/glus-tiny', **OPTIONS)
    sam2 = tmp_path / 'other.yaml'
    shutil.copyfile(OPTIONS['sam2'], sam2)
    assert resolve_checkpoint('org/glus-tiny', **dict(OPTIONS, sam2=str(sam2))) != first
    shutil.rmtree(published)
    local_hub.publish('org/glus-tiny', OFFICIAL / 'checkpoint', 'b' * 40)
    second = resolve_checkpoint('org/glus-tiny', **OPTIONS)
    assert second != first and second.is_file() and first.is_file()


def test_a_conversion_that_failed_leaves_nothing(published, cache):
    shard = next((published / 'snapshots' / ('a' * 40)).glob('*-00002-of-*.bin'))
    content = shard.read_bytes()
    shard.write_bytes(content[:1000])
    with pytest.raises(ValueError, match='00002-of-00002.bin'):
        resolve_checkpoint('org/glus-tiny', **OPTIONS)
    assert not [file for file in cache.rglob('*') if file.is_file() and file.suffix != '.lock']
    shard.write_bytes(content)
    assert resolve_checkpoint('org/glus-tiny', **OPTIONS).is_file()


def test_a_repository_of_something_else(local_hub, cache, tmp_path):
    (tmp_path / 'bert').mkdir()
    (tmp_path / 'bert' / 'config.json').write_text('{"model_type": "bert"}')
    local_hub.publish('org/bert', tmp_path / 'bert')
    with pytest.raises(ValueError, match="GLUS, LISA or LLaVA v1.*'bert'"):
        resolve_checkpoint('org/bert')


def test_default_cache(monkeypatch):
    monkeypatch.delenv('GLUS_MM_CACHE', raising=False)
    assert cache_folder().name == 'glus_mm' and cache_folder().is_absolute()


def test_a_config_gets_weights_and_tokenizer(published, cache):
    """As tools/train.py and tools/test.py call it; SAM-2 is the config's."""
    mllm = dict(type='LlavaMLLM', tokenizer='load_from')
    cfg = Config(dict(
        load_from='org/glus-tiny', model=dict(
            type='GLUS', mllm=mllm, mask_head=dict(sam2=OPTIONS['sam2']))))
    # The vision tower that the checkpoint names: beside its folder.
    shutil.copytree(OFFICIAL / 'clip', published / 'snapshots' / 'clip')
    use_checkpoint(cfg, cfg.load_from, cfg.load_from)
    assert Path(cfg.load_from).is_file() and Path(cfg.load_from).is_relative_to(cache)
    assert cfg.model.mllm.tokenizer == str(Path(cfg.load_from).parent)
    use_checkpoint(cfg, None, None)
    assert cfg.load_from is None
    use_checkpoint(cfg, 'https://example.org/x.pth', None)
    assert cfg.load_from == 'https://example.org/x.pth'


def test_large_files_are_mapped_where_that_is_safe(tmp_path):
    weights = dict(state_dict=dict(x=torch.zeros(2)))
    torch.save(weights, tmp_path / 'new.pth')
    torch.save(weights, tmp_path / 'old.pth', _use_new_zipfile_serialization=False)
    for values, mapped in ((dict(load_from=str(tmp_path / 'new.pth')), True),
                           (dict(load_from=str(tmp_path / 'new.pth'), resume=True), False),
                           (dict(load_from=str(tmp_path / 'old.pth')), False),
                           (dict(load_from='https://example.org/x.pth'), False), ({}, False)):
        with mapped_weights(Config(values)):
            assert serialization.config.load.mmap is mapped, values
        assert serialization.config.load.mmap is False


@pytest.mark.slow
def test_two_processes_make_one_conversion(published, local_hub, cache):
    code = ('import sys, json; from glus_mm.apis import resolve_checkpoint; '
            'from huggingface_hub import constants; constants.HF_HUB_OFFLINE = True; '
            'constants.HF_HUB_CACHE = sys.argv[2]; print("READY", flush=True); '
            'sys.stdin.readline(); '
            'print(resolve_checkpoint("org/glus-tiny", **json.loads(sys.argv[1])))')
    processes = [programs.start('-c', code, json.dumps(OPTIONS), local_hub.cache,
                                stdin=subprocess.PIPE, stderr=subprocess.STDOUT)
                 for _ in range(2)]
    for process in processes:
        # Libraries may say something first, as DeepSpeed does on a CPU.
        assert 'READY\n' in iter(process.stdout.readline, '')
    start = time.time()
    logs = [process.communicate('go\n', timeout=300)[0] for process in processes]
    assert all(process.returncode == 0 for process in processes), logs
    files = {log.splitlines()[-1] for log in logs}
    assert len(files) == 1 and Path(files.pop()).stat().st_mtime > start - 1
    assert sum('converting' in log for log in logs) == 1, logs
