"""What tests of more than one part need."""

import json
import logging
import os
import runpy
import shutil
import zipfile
from collections import Counter
from fractions import Fraction
from pathlib import Path

import glus_mm  # noqa: F401 - before MMEngine, whose imports it keeps light
from programs import ROOT

# isort: split
import av
import numpy as np
import pytest
import torch
from huggingface_hub import constants
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope
from mmengine.utils import manager

import programs

# MMEngine imports DeepSpeed wherever it is installed, which says on stdout that it found no CUDA.
# Programs that the tests start inherit this.
if not torch.cuda.is_available():
    os.environ.setdefault('DS_ACCELERATOR', 'cpu')


def pytest_collection_modifyitems(items):
    """Files with the most slow tests go first, so that all workers end at about the same time."""
    slow = Counter(item.path for item in items if item.get_closest_marker('slow'))
    items.sort(key=lambda item: -slow[item.path])


@pytest.fixture(autouse=True)
def no_trace():
    """Take away the scope and the loggers that a test's runners leave for the next test."""
    kept = [(holder, dict(holder._instance_dict)) for holder in (DefaultScope, MMLogger)]
    yield
    for holder, instances in kept:
        holder._instance_dict.clear()
        holder._instance_dict.update(instances)
    # MMEngine keeps its lock where it fails to make such an instance; threads of a server that a
    # later test starts would wait for it for ever.
    while manager._lock._is_owned():
        manager._lock.release()


@pytest.fixture
def logged():
    """What is logged through MMEngine's current logger from now on."""
    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)


@pytest.fixture
def scope():
    """The default scope that MMEngine's Runner sets."""
    with DefaultScope.overwrite_default_scope('glus_mm'):
        yield


class LocalHub:
    """A cache of the Hugging Face hub, as a download leaves it, and no network.

    Args:
        cache: a new folder.
    """

    def __init__(self, cache: Path) -> None:
        self.cache = cache

    def publish(self, repo: str, files: Path, commit: str = 'c' * 40) -> Path:
        """Put the files of a folder into the cache as a commit of ``main``."""
        home = self.cache / f'models--{repo.replace("/", "--")}'
        (home / 'refs').mkdir(parents=True, exist_ok=True)
        (home / 'refs' / 'main').write_text(commit)
        shutil.copytree(files, home / 'snapshots' / commit)
        return home


@pytest.fixture
def local_hub(tmp_path, monkeypatch):
    """An empty local hub, set as the environment's HF_HUB_CACHE and HF_HUB_OFFLINE would."""
    hub = LocalHub(tmp_path / 'hub')
    monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(hub.cache))
    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', True)
    return hub


OFFICIAL = ROOT / 'tests' / 'data' / 'official_glus_tiny'


@pytest.fixture
def tiny_lisa(tmp_path):
    """The tiny official checkpoint as a LISA, in bfloat16, and a file with the weights of SAM-2."""
    folder = tmp_path / 'LISA-tiny'
    shutil.copytree(OFFICIAL / 'checkpoint', folder, ignore=shutil.ignore_patterns('*.bin*'))
    values = json.loads((folder / 'config.json').read_text())
    (folder / 'config.json').write_text(json.dumps(dict(values, architectures=['LISAForCausalLM'])))
    prefix, state, sam2 = 'model.visual_model.', {}, {}
    for file in (OFFICIAL / 'checkpoint').glob('*.bin'):
        for name, value in torch.load(file, weights_only=True).items():
            if name.startswith(prefix):
                sam2[name.removeprefix(prefix)] = value
            else:
                state[name] = value.bfloat16()
    state[f'{prefix}image_encoder.pos_embed'] = torch.zeros(1, 64, 64, 8)  # of SAM-1
    torch.save(state, folder / 'pytorch_model.bin')
    torch.save(dict(model=sam2), tmp_path / 'sam2.pt')
    return folder, tmp_path / 'sam2.pt'


TINY = dict(
    llm=dict(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64),
    vision_tower=dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
                      intermediate_size=32, image_size=56),
    mask_head=dict(sam2=dict(d_model=32), image_size=64))


def shrink_config(cfg):
    """Make the model of a config of the published size tiny, in place, and the images with it.

    What has no size stays as it is. A config of a small model is not changed.
    """
    model = cfg.get('model') or {}
    mllm, head = model.get('mllm') or {}, model.get('mask_head') or {}
    if isinstance(head.get('sam2'), str):
        head.update(TINY['mask_head'])
    elif mllm.get('tokenizer') != 'load_from':
        return cfg
    if 'spatial_clusters' in mllm:
        mllm.spatial_clusters = (8, 4, 2)
    cfg.model.mllm.llm.update(TINY['llm'])
    cfg.model.mllm.vision_tower.update(TINY['vision_tower'])
    for node in _dicts(cfg):
        if node.get('tokenizer') == 'load_from':
            node['tokenizer'] = 'tiny'
        if node.get('type') == 'ResizeForEncoders':
            node.update(vision_size=TINY['vision_tower']['image_size'],
                        sam_size=node['sam_size'] and TINY['mask_head']['image_size'])
    return cfg


def _dicts(value):
    if hasattr(value, 'items'):
        yield value
        value = value.values()
    elif not isinstance(value, (list, tuple)):
        return
    for child in value:
        yield from _dicts(child)


@pytest.fixture
def shrink():
    """The function :func:`shrink_config`."""
    return shrink_config


def unpack_fixture(name, root):
    """Unpack ``fixture.zip`` of a folder of test data."""
    with zipfile.ZipFile(ROOT / 'tests' / 'data' / name / 'fixture.zip') as archive:
        archive.extractall(root)
    return root


@pytest.fixture(scope='session')
def evaluators(tmp_path_factory):
    """Files in the layout of every evaluator, and what the official ones print for them."""
    return unpack_fixture('evaluators_mini', tmp_path_factory.mktemp('evaluators'))


@pytest.fixture(scope='session')
def recent_evaluators(tmp_path_factory):
    """The same of Ref-SAV, GroundMoRe and MOSEv2."""
    return unpack_fixture('evaluators_recent', tmp_path_factory.mktemp('recent_evaluators'))


def _write_video(path, frames, fps=10, codec='libx264', pix_fmt='yuv420p', times=None,
                 rotation=None, tone=0, options=None, container_options=None):
    """Write RGB or RGBA frames; ``times`` are milliseconds, ``tone`` seconds of sound."""
    with av.open(str(path), 'w', options=container_options or {}) as out:
        stream = out.add_stream(codec, rate=Fraction(fps).limit_denominator(10**6),
                                options=options or ({'crf': '4'} if codec == 'libx264' else {}))
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pix_fmt
        time_base = 1 / stream.codec_context.framerate if times is None else Fraction(1, 1000)
        stream.codec_context.time_base = time_base
        if rotation is not None:
            stream.set_display_rotation(**rotation)
        sound = out.add_stream('aac', rate=16000) if tone else None
        for t, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(
                frame, format='rgba' if frame.shape[2] == 4 else 'rgb24')
            picture = picture.reformat(format=pix_fmt)
            picture.pts = t if times is None else times[t]
            picture.time_base = time_base
            out.mux(stream.encode(picture))
        out.mux(stream.encode(None))
        if tone:
            wave = np.sin(np.arange(int(16000 * tone)) * 0.2).astype(np.float32)[None]
            samples = av.AudioFrame.from_ndarray(wave, format='fltp', layout='mono')
            samples.sample_rate, samples.pts = 16000, 0
            out.mux(sound.encode(samples))
            out.mux(sound.encode(None))
    return path


@pytest.fixture(scope='session')
def write_video():
    """``write_video(path, frames, fps, codec, ...)``: a small video file, see there."""
    return _write_video


@pytest.fixture(scope='module')
def browser():
    """A real one, which playwright drives; while it is open, no other event loop can run."""
    chromium = shutil.which('chromium') or shutil.which('chromium-browser')
    if chromium is None:
        pytest.skip('no chromium here: apt-get install chromium')
    playwright = pytest.importorskip('playwright.sync_api', reason='needs playwright')
    with playwright.sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path=chromium, args=['--no-sandbox'])
        yield browser
        browser.close()


@pytest.fixture
def call_tool(monkeypatch, capsys):
    """``call_tool(tool, *args)``: exit status, output and errors of a tool, run in this process."""

    def call(tool, *args):
        monkeypatch.setattr('sys.argv', [str(tool), *map(str, args)])
        monkeypatch.syspath_prepend(str(Path(tool).parent))
        status = 0
        try:
            runpy.run_path(str(tool), run_name='__main__')
        except SystemExit as stop:
            status = stop.code or 0
        return status, *capsys.readouterr()

    return call


@pytest.fixture
def run_tool(call_tool, monkeypatch, tmp_path):
    """``run_tool(name, *args)``: what a script of ``tools`` prints, run in ``tmp_path``.

    Nothing of an earlier run is left to it, and nothing of its own to a later one.
    """
    monkeypatch.chdir(tmp_path)

    def run(name, *args):
        programs.forget_runs()
        status, out, error = call_tool(ROOT / 'tools' / f'{name}.py', *args)
        assert status == 0, error[-4000:]
        return out

    yield run
    programs.forget_runs()


@pytest.fixture
def refusal(call_tool):
    """``refusal(tool, *args)``: what a tool that has to refuse its arguments says."""

    def call(tool, *args):
        status, _, error = call_tool(tool, *args)
        assert status == 2
        return error

    return call
