"""Every shipped config builds, agrees with itself, and a typo in any part of one is an error."""

import copy
import functools
import re
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
import torch
from mmengine import Config
from mmengine.registry import PARAM_SCHEDULERS, DefaultScope
from torch.utils.data import ConcatDataset

from glus_mm.apis.config_text import check_shared_settings
from glus_mm.registry import (
    DATA_SAMPLERS,
    DATASETS,
    HOOKS,
    METRICS,
    MODELS,
    TRANSFORMS,
    VISUALIZERS,
)
from glus_mm.utils.command_line import read_config
from glus_mm.visualization import RefVOSLocalVisualizer
from programs import ROOT

FOLDERS = (ROOT / 'configs', ROOT / 'projects' / 'ablation_study' / 'configs')
LEAVES, BASES = (sorted(path for folder in FOLDERS for path in folder.rglob('*.py')
                       if ('_base_' in path.parts) == base) for base in (False, True))
DEFAULT = ROOT / 'configs' / 'glus' / 'glus_tiny_moving-shapes.py'


def name_of(path):
    return str(path.relative_to(ROOT))


@functools.cache
def _read(path):
    return read_config(str(path))


def load(path):
    """A config, read once for all tests as the programs read it; each has a copy of its own."""
    return copy.deepcopy(_read(path))


@pytest.fixture(autouse=True)
def scope():
    """The default scope that MMEngine's Runner sets, and no visualizer from or for other tests."""
    RefVOSLocalVisualizer._instance_dict.clear()
    with DefaultScope.overwrite_default_scope('glus_mm'):
        yield
    RefVOSLocalVisualizer._instance_dict.clear()


class Videos(ConcatDataset):
    """Stands for data sets of two videos each; samplers read only what the list tells."""

    def get_data_info(self, i):
        return dict(frame_names=['0', '1'], expressions=[dict(exp='a star')])


def part(path: str, registry, **arguments) -> tuple[str, Callable]:
    """Where a part of a config is, and how it is built."""

    def build(cfg):
        return registry.build(dict(cfg), default_args=arguments or None)

    return path, build


def build_dataset(cfg):
    # Without data, so that only the arguments and the pipeline are looked at.
    return DATASETS.build(dict(cfg, lazy_init=True))


def datasets_of(dataset, where):
    """(path, config) of a data set, or of the mix and the members that have a pipeline."""
    if 'datasets' not in dataset or 'pipeline' in dataset:
        yield where, dataset
    for i, child in enumerate(dataset.get('datasets', [])):
        yield from datasets_of(child, f'{where}.datasets.{i}')


def parts_of(cfg, folder):
    """(path, build) of everything in a config that a registry builds; it may write to folder."""
    yield part('model', MODELS)
    for phase in ('train', 'val', 'test'):
        loader = f'{phase}_dataloader'
        if cfg.get(loader) is not None:
            yield f'{loader}.dataset', build_dataset
            for where, dataset in datasets_of(cfg[loader].dataset, f'{loader}.dataset'):
                for i in range(len(dataset.get('pipeline', ()))):
                    yield part(f'{where}.pipeline.{i}', TRANSFORMS)
            number = len(cfg[loader].dataset.get('datasets', ['itself']))
            yield part(f'{loader}.sampler', DATA_SAMPLERS, dataset=Videos([['a', 'b']] * number))
        if cfg.get(f'{phase}_evaluator') is not None:
            yield part(f'{phase}_evaluator', METRICS)
    for name in cfg.default_hooks:
        yield part(f'default_hooks.{name}', HOOKS)
    # The Runner names it after its run.
    yield part('visualizer', VISUALIZERS, save_dir=str(folder), name='visualizer')


def write_key_frames(cfg, folder):
    """Let the file be there that a selector reads."""
    selector = (cfg.model.get('test_cfg') or {}).get('selector') or {}
    if selector.get('type') == 'FileKeyFrameSelector':
        selector.file = str(folder / 'key_frames.json')
        Path(selector.file).write_text('{"video_0": 0}')


def get(cfg, path):
    for key in path.split('.'):
        cfg = cfg[int(key)] if isinstance(cfg, (list, tuple)) else cfg[key]
    return cfg


BUILT: set[str] = set()


@pytest.mark.parametrize('path', LEAVES, ids=name_of)
def test_every_part_builds(path, tmp_path, shrink):
    """One that another config has, too, is built once."""
    cfg = shrink(load(path))
    write_key_frames(cfg, tmp_path)
    for where, build in parts_of(cfg, tmp_path):
        if (content := f'{where}: {get(cfg, where)}') not in BUILT:
            assert build(get(cfg, where)) is not None, where
            BUILT.add(content)
    assert cfg.default_scope == 'glus_mm'


def named(path):
    """Whether a README, that of the folder or that of all configs, has the name of a config."""
    for readme in (path.parent / 'README.md', ROOT / 'configs' / 'README.md'):
        text = readme.read_text(encoding='utf-8') if readme.is_file() else ''
        for name in re.findall(r'`([^`\n]+)`', text):
            pattern = re.sub(r'<\w+>|\.\.\._?', '*', name.removesuffix('.py')) + '.py'
            if any(fnmatchcase(f'{path.parent.name}/{path.name}', f'*{mark}{pattern}')
                   for mark in ('', '/', '_')) and pattern != '*.py':
                return True
    return False


@pytest.mark.parametrize('path', [leaf for leaf in LEAVES if leaf.is_relative_to(FOLDERS[0])],
                         ids=name_of)
def test_a_readme_lists_every_config(path):
    assert named(path) and not named(path.with_name('nothing.py'))


@pytest.mark.parametrize('path', BASES, ids=name_of)
def test_every_primitive_can_be_read_alone(path):
    assert len(load(path)) > 0


@pytest.mark.parametrize('path', LEAVES, ids=name_of)
def test_leaves_hold_only_the_difference(path):
    """And inherit over at most four levels."""
    assert len(path.read_text().splitlines()) <= 40

    def depth(file):
        bases = Config._get_base_files(str(file))
        bases = [bases] if isinstance(bases, str) else bases
        return 1 + max((depth(file.parent / base) for base in bases), default=0)

    assert depth(path) <= 4


@pytest.mark.parametrize('path', LEAVES, ids=name_of)
def test_pipeline_and_model_agree(path):
    """Numbers that the pipeline and the model both need are the same ones."""
    cfg = load(path)
    if cfg.get('train_dataloader') is not None:
        for where, dataset in datasets_of(cfg.train_dataloader.dataset, 'train_dataloader.dataset'):
            if 'pipeline' in dataset:
                check_agreement(cfg.model, {item.type: item for item in dataset.pipeline}, where)
    check_shared_settings(cfg)


def produced(cfg):
    """Files below ``work_dirs`` that a shipped config leaves behind at the end of its run."""
    folder = f'work_dirs/{Path(cfg.filename).stem}'
    if cfg.get('train_cfg') and cfg.get('train_dataloader') is not None:
        hook, end = cfg.default_hooks.checkpoint, cfg.train_cfg.max_iters
        saved = sorted({*range(hook.interval, end + 1, hook.interval), end})
        kept = saved if hook.max_keep_ckpts < 0 else saved[-hook.max_keep_ckpts:]
        yield from (f'{folder}/iter_{step}.pth' for step in kept)
    evaluator = cfg.get('test_evaluator') or {}
    if 'out_file' in evaluator:
        yield evaluator.out_file
        # docs/key_frames.md runs it for unseen videos too.
        yield evaluator.out_file.replace('_train.json', '_valid_u.json')


def strings(value, path=''):
    """(path, string) of every string in a config."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, (list, tuple, dict)):
        for key, child in value.items() if isinstance(value, dict) else enumerate(value):
            yield from strings(child, f'{path}.{key}')


@functools.cache
def produced_by_all():
    return {file for leaf in LEAVES for file in produced(_read(leaf))}


# What a command of the docs or a script, not a config, makes.
BY_HAND = ('work_dirs/selector_init.pth', 'work_dirs/key_frames/mevis_valid_u.json',
           # tools/misc/train_tiny.sh
           'work_dirs/glus_tiny_parts.pth', 'work_dirs/glus_tiny_motion.pth')


@pytest.mark.parametrize('path', LEAVES, ids=name_of)
def test_what_a_config_reads_of_another_run_is_kept_by_it(path):
    """Such as a checkpoint that max_keep_ckpts would have removed."""
    cfg = load(path)
    wanted = {where: text for where, text in strings(cfg.to_dict())
              if text.startswith('work_dirs/') and not text.startswith('work_dirs/ablation/')
              and where.rpartition('.')[2] in ('load_from', 'checkpoint', 'file')}
    for where, file in wanted.items():
        assert file in produced_by_all() or file in BY_HAND, where
    if path.stem.startswith('frame-ious_glus_lisa-7b'):
        assert Path(cfg.checkpoint).name == 'iter_5000.pth' and '.checkpoint' in wanted


def check_agreement(model, transforms, where):
    resize = transforms['ResizeForEncoders']
    assert resize.sam_size == (model.mask_head.image_size if 'mask_head' in model else None), where
    if 'mllm' in model:
        assert resize.vision_size == model.mllm.vision_tower.image_size, where


def test_the_default_schedule_warms_up_and_decays():
    """Also in the config of docs/own_data.md, which sets none of its own."""
    tiny = (ROOT / 'docs' / 'own_data.md').read_text(encoding='utf-8').partition(
        '<!-- own-data-tiny -->')[2].partition('```\n')[0]
    assert 'schedules/adamw.py' in tiny and 'param_scheduler' not in tiny
    cfg = load(ROOT / 'configs' / '_base_' / 'schedules' / 'adamw.py')
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
    schedulers = [PARAM_SCHEDULERS.build(dict(item, optimizer=optimizer))
                  for item in cfg.param_scheduler]
    rates = []
    for _ in range(cfg.train_cfg.max_iters):
        rates.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    assert rates[0] < 2e-5 and max(rates) > 9e-4 and rates[-1] < 3e-5
    assert rates.index(max(rates)) in range(25, 40)
