"""One letter too many, too few or another one in any key of a config is a refusal."""

import argparse
import copy
import random
import string

import pytest
from mmengine import Config
from mmengine.registry import DefaultScope
from torch import nn

from glus_mm.datasets import MovingShapesDataset
from glus_mm.registry import HOOKS, METRICS, MODELS, TRANSFORMS, VISUALIZERS
from glus_mm.utils.command_line import load_config, read_config
from glus_mm.utils.config_input import ConfigOptions, config_from_file
from glus_mm.utils.config_keys import check_config_keys, check_custom_keys, top_keys
from glus_mm.utils.spelling import is_one_edit
from glus_mm.visualization import RefVOSLocalVisualizer
from programs import ROOT

TINY = ROOT / 'configs' / 'glus' / 'glus_tiny_moving-shapes_val.py'
NUM_TYPOS = 182


def key_paths(value, path=''):
    """(dotted path, value) of every key of a config."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, child in items:
        where = f'{path}.{key}' if path else str(key)
        if isinstance(value, dict):
            yield where, child
        if isinstance(child, (dict, list, tuple)):
            yield from key_paths(child, where)


def misspell(word, draw):
    """One letter inserted, dropped, replaced or swapped with the next."""
    while True:
        at, letter = draw.randrange(len(word)), draw.choice(string.ascii_lowercase)
        made = draw.choice([
            word[:at] + letter + word[at:], word[:at] + word[at + 1:],
            word[:at] + letter + word[at + 1:],
            word[:at] + word[at + 1:at + 2] + word[at:at + 1] + word[at + 2:]])
        if made.isidentifier() and made != word:
            return made


def typos():
    """``NUM_TYPOS`` of them, always the same: (path with the typo, the value of the right key)."""
    draw = random.Random(14)
    found = [item for item in key_paths(Config.fromfile(TINY).to_dict())
             if not item[0].endswith('.type') and item[0] != 'default_scope']
    there = {path for path, _ in found}
    made = []
    while len(made) < NUM_TYPOS:
        path, value = draw.choice(found)
        parent, _, key = path.rpartition('.')
        typo = f'{parent}.{misspell(key, draw)}'.lstrip('.')
        if typo not in there:
            made.append((typo, value))
    return made


def build_parts(cfg, where, folder):
    """What a training builds of the part of a config with the typo."""
    RefVOSLocalVisualizer._instance_dict.clear()
    top = where.split('.')[0]
    if top == 'model':
        MODELS.build(cfg.model)
    elif top == 'optim_wrapper':
        check_custom_keys(cfg.optim_wrapper, MODELS.build(cfg.model))
    elif top.endswith('_dataloader') and 'pipeline' in where:
        TRANSFORMS.build(cfg[top].dataset.pipeline[int(where.split('.')[3])])(
            dict(rng=None, expressions=[dict(exp='a', kind='motion')], frame_names=['0'],
                 video_id='v', known_kinds=MovingShapesDataset.KINDS))
    elif top.endswith('_evaluator'):
        METRICS.build(cfg[top])
    elif top == 'default_hooks':
        HOOKS.build(cfg.default_hooks[where.split('.')[1]])
    elif top == 'visualizer':
        VISUALIZERS.build(dict(cfg.visualizer, save_dir=str(folder)))


@pytest.mark.slow
def test_none_of_182_typos_passes(tmp_path):
    passed, unclear, tiny = [], [], Config.fromfile(TINY)
    for where, value in typos():
        if where.split('.')[0] in top_keys() and '.' in where:
            cfg = copy.deepcopy(tiny)
            cfg.merge_from_dict({where: value})
            load = lambda cfg=cfg: check_config_keys(cfg)  # noqa: E731
        else:
            # As a file says it: nested below a name of the config's own, or that name itself.
            top, *keys = where.split('.')
            for key in reversed(keys):
                value = [value] if key.isdigit() else {key: value}
            (tmp_path / 'leaf.py').write_text(f"_base_ = ['{TINY}']\n{top} = {value!r}\n")
            load = lambda: read_config(str(tmp_path / 'leaf.py'))  # noqa: E731
        try:
            load()
            with DefaultScope.overwrite_default_scope('glus_mm'):
                build_parts(cfg, where, tmp_path)
        except (KeyError, TypeError, ValueError) as error:
            text = str(error.args[0])
            clear = where.rpartition('.')[2] in text and (
                'nearest' in text or 'did you mean' in text)
            if '\n' in text or not (clear or 'that has no effect' in text):
                unclear.append((where, text))
        else:
            passed.append(where)
    assert not passed, len(passed)
    assert not unclear


@pytest.mark.parametrize('name', [
    'load_form', 'randomnes', 'resum', 'default_hook', '_bsae_', 'cutsom_hooks', 'checkpont'])
def test_top_level_names_next_to_known_ones(tmp_path, name):
    path = tmp_path / 'leaf.py'
    path.write_text(f"_base_ = ['{TINY}']\n{name} = None\n")
    with pytest.raises(KeyError, match=f'{name}: expected a key of a config, in .*leaf.py.* got .* '
                                       'the nearest is'):
        read_config(str(path))


def test_names_of_a_configs_own_stay_legal(tmp_path):
    path = tmp_path / 'leaf.py'
    path.write_text(f"_base_ = ['{TINY}']\nwidth = 32\nmodels = dict(llm=dict(hidden_size=width))\n"
                    'model = dict(mllm=models)\n')
    assert read_config(str(path)).model.mllm.llm.hidden_size == 32
    # As MMEngine dumps it into the work folder: all names at the top, none read.
    Config.fromfile(path).dump(tmp_path / 'dumped.py')
    with pytest.raises(KeyError, match="models: .* the nearest is 'model'"):
        read_config(str(tmp_path / 'dumped.py'))
    path.write_text(path.read_text().replace('models', 'parts'))
    Config.fromfile(path).dump(tmp_path / 'dumped.py')
    read_config(str(tmp_path / 'dumped.py'))


@pytest.mark.parametrize('option, nearest', [
    ('optim_wrapper.optimizer.lrr', 'lr'), ('optimizer.lrr', 'optim_wrapper'),
    ('optim_wrapper.clip_grad.max_normx', 'max_norm'),
    ('optim_wrapper.paramwise_cfg.custom_keys.mask_head.lr_multx', 'lr_mult'),
    ('default_hooks.checkpont', 'checkpoint'), ('param_scheduler.0.endd', 'end'),
    ('train_dataloader.batch_sizes', 'batch_size'), ('randomness.sed', 'seed'),
    ('env_cfg.dist_cfg.backendd', 'backend'), ('val_cfg.fp_16', 'fp16')])
def test_options_of_the_command_line(option, nearest, tmp_path):
    with pytest.raises(KeyError) as found:
        load_config(str(TINY), {option: 1}, str(tmp_path))
    text = found.value.args[0]
    assert '\n' not in text and option in text and text.endswith(f'the nearest is {nearest!r}')


def test_edits_and_the_optimizer():
    model = nn.Sequential()
    model.mask_head = nn.Linear(1, 1)
    wrapper = dict(paramwise_cfg=dict(custom_keys={'mask_head': {}}))
    check_custom_keys(wrapper, model)
    wrapper['paramwise_cfg']['custom_keys']['mask_headx'] = {}
    with pytest.raises(KeyError, match="custom_keys.mask_headx: .* nearest is 'mask_head'"):
        check_custom_keys(wrapper, model)
    pairs = [('model', 'modle'), ('model', 'mode'), ('model', 'modell'), ('model', 'nodel'),
             ('ab', 'ba'), ('a', 'b')]
    assert all(is_one_edit(*pair) and is_one_edit(*pair[::-1]) for pair in pairs)
    assert not any(is_one_edit(*pair) for pair in [
        ('model', 'model'), ('model', 'mdoell'), ('abc', 'cba'), ('', ''), ('seed', 'steps')])


# Configs and options that cannot be read at all


@pytest.fixture
def parse():
    parser = argparse.ArgumentParser(prog='tool')
    parser.add_argument('--cfg-options', nargs='+', action=ConfigOptions)
    return lambda *args: parser.parse_args(['--cfg-options', *args]).cfg_options


def test_options(parse):
    assert parse('a.b=1', 'c=[1,2]', 'd=x=y', 'e=') == {
        'a.b': 1, 'c': [1, 2], 'd': 'x=y', 'e': ''}


@pytest.mark.parametrize('option', ['nonsense', '=3', ' =3', 'a=[1,2', ''])
def test_options_that_are_none(parse, capsys, option):
    with pytest.raises(SystemExit, match='2'):
        parse(option)
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith('tool: error: argument --cfg-options: ')
    assert option.strip() in error


@pytest.mark.parametrize('name, text, told', [
    ('a.py', 'model = dict(\n', "a.py, line 1 cannot be read: SyntaxError: '(' was never closed"),
    ('a.py', 'model = nothing\n', "a.py cannot be read: NameError: name 'nothing' is not defined"),
    ('a.py', "_base_ = ['no.py']\n", 'a.py cannot be read: FileNotFoundError'),
    ('a.json', '{', 'a.json cannot be read: JSONDecodeError'),
    ('a.png', 'x', 'a.png cannot be read: OSError')])
def test_configs_that_cannot_be_read(tmp_path, name, text, told):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError) as found:
        config_from_file(tmp_path / name)
    assert told in str(found.value) and '\n' not in str(found.value)
