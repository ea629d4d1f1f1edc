"""Frozen parameters are left out only if they came unchanged from a base, which has to be there."""

import shutil

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import HOOKS, MODELS
from peft import LoraConfig, inject_adapter_in_model
from torch import nn

import toys
from glus_mm.utils.base_weights import complete_state

FROZEN = {'body.weight', 'body.bias', 'norm.weight'}


@MODELS.register_module()
class BaseToyModel(BaseModel):

    def __init__(self, frozen=('body.weight', 'body.bias', 'norm.weight'), lora=False, half=False):
        super().__init__()
        self.norm = nn.BatchNorm1d(3)
        self.body = nn.Linear(3, 4)
        self.head = nn.Linear(4, 1)
        if lora:
            inject_adapter_in_model(LoraConfig(r=2, target_modules=['body']), self)
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(
                'lora_' in name or name.replace('.base_layer', '') not in frozen)
            if half and name.startswith('body.'):
                parameter.data = parameter.data.bfloat16()

    def forward(self, inputs, data_samples=None, mode='tensor'):
        x = self.norm(inputs).to(next(self.body.parameters()).dtype)
        return {'loss': self.head(self.body(x).float()).square().mean()}


@HOOKS.register_module()
class MeddlingHook(Hook):
    """Changes frozen weights behind autograd's back."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if batch_idx == 5:
            runner.model.body.bias.data[1] += 1e-6


@pytest.fixture
def base(tmp_path):
    """The file that the trainings start from."""
    (tmp_path / 'base').mkdir()
    torch.manual_seed(1)
    path = tmp_path / 'base' / 'model.pth'
    torch.save({'state_dict': BaseToyModel().state_dict()}, path)
    return path


def make_runner(work_dir, load_from=None, max_iters=6, model=(), hook=(), meddle=False, **changes):
    return toys.make_runner(
        work_dir, dict(type='BaseToyModel', **dict(model)), load_from=load_from and str(load_from),
        train_cfg=dict(max_iters=max_iters), default_hooks=dict(checkpoint=dict(
            dict(leave_out_frozen=True), **dict(hook))),
        custom_hooks=[dict(type='MeddlingHook')] if meddle else [], **changes)


def load(folder, iteration=6):
    return torch.load(folder / f'iter_{iteration}.pth', weights_only=True)


def missing_in(checkpoint):
    return set(BaseToyModel().state_dict()) - set(checkpoint['state_dict'])


def test_left_out_and_complete_again(tmp_path, base):
    runner = make_runner(tmp_path / 'run', base)
    runner.train()
    make_runner(tmp_path / 'whole', base, hook=dict(leave_out_frozen=False)).train()
    checkpoint = load(tmp_path / 'run')
    assert missing_in(checkpoint) == FROZEN
    assert checkpoint['base']['path'] == str(base)
    assert set(checkpoint['base']['parameters']) == FROZEN
    state = complete_state(checkpoint, tmp_path / 'run' / 'iter_6.pth')
    toys.assert_same(state, dict(runner.model.state_dict()))
    toys.assert_same(state, load(tmp_path / 'whole')['state_dict'])


def test_resumed_runs_leave_out_the_same(tmp_path, base):
    make_runner(tmp_path / 'straight', base).train()
    make_runner(tmp_path / 'parts', base, max_iters=3).train()
    for end in (5, 6):
        make_runner(tmp_path / 'parts', max_iters=end, resume=True).train()
    checkpoint = load(tmp_path / 'parts')
    assert missing_in(checkpoint) == FROZEN
    assert checkpoint['base'] == load(tmp_path / 'straight')['base']
    toys.assert_same(checkpoint['state_dict'], load(tmp_path / 'straight')['state_dict'])


def test_half_precision_of_a_float32_base(tmp_path, base):
    """What the model holds is what loading the base gives."""
    runner = make_runner(tmp_path / 'run', base, model=dict(half=True))
    runner.train()
    assert missing_in(load(tmp_path / 'run')) == FROZEN
    resumed = make_runner(tmp_path / 'run', model=dict(half=True), resume=True)
    resumed.load_or_resume()
    toys.assert_same(dict(resumed.model.state_dict()), dict(runner.model.state_dict()))


@pytest.mark.parametrize('bare', [False, True])
def test_layers_below_adapters(tmp_path, base, bare):
    """Their names differ from those in the base."""
    if bare:
        torch.save(torch.load(base, weights_only=True)['state_dict'], base)
    runner = make_runner(tmp_path / 'run', base, model=dict(lora=True))
    runner.train()
    checkpoint = load(tmp_path / 'run')
    assert checkpoint['base']['parameters']['body.base_layer.weight'][0] == 'body.weight'
    assert 'body.base_layer.weight' not in checkpoint['state_dict']
    assert 'body.lora_A.default.weight' in checkpoint['state_dict']
    resumed = make_runner(tmp_path / 'run', model=dict(lora=True), resume=True)
    resumed.load_or_resume()
    toys.assert_same(dict(resumed.model.state_dict()), dict(runner.model.state_dict()))


def test_changed_weights_are_saved(tmp_path, base, capsys):
    make_runner(tmp_path / 'run', base, meddle=True).train()
    assert missing_in(load(tmp_path / 'run', 3)) == FROZEN
    assert missing_in(load(tmp_path / 'run')) == FROZEN - {'body.bias'}
    log = ' '.join(capsys.readouterr().out.split())
    assert 'no longer the frozen weights that training started from' in log and 'body.bias' in log
    changed = complete_state(load(tmp_path / 'run'), tmp_path / 'run' / 'iter_6.pth')
    assert not torch.equal(changed['body.bias'], complete_state(
        load(tmp_path / 'run', 3), tmp_path / 'run' / 'iter_3.pth')['body.bias'])


def test_other_parameters_may_be_trained_after_a_resume(tmp_path, base):
    make_runner(tmp_path / 'run', base, max_iters=3).train()
    model = dict(frozen=('body.weight', 'head.weight'))
    make_runner(tmp_path / 'run', model=model, resume=True).train()
    checkpoint = load(tmp_path / 'run')
    assert missing_in(checkpoint) == {'body.weight'}, 'head.weight was trained before'


def test_parts_of_a_base(tmp_path, base, capsys):
    state = torch.load(base, weights_only=True)['state_dict']
    del state['body.bias']
    state['norm.weight'] = torch.zeros(9)
    torch.save({'state_dict': state}, base)
    make_runner(tmp_path / 'run', base, hook=dict(strict=False)).train()
    assert missing_in(load(tmp_path / 'run')) == {'body.weight'}
    make_runner(tmp_path / 'run').train()
    assert not missing_in(load(tmp_path / 'run')) and 'base' not in load(tmp_path / 'run')


def test_training_on_from_a_checkpoint_that_leaves_out(tmp_path, base):
    make_runner(tmp_path / 'first', base).train()
    runner = make_runner(tmp_path / 'second', tmp_path / 'first' / 'iter_6.pth', model=dict(
        frozen=('body.weight', 'head.weight')))
    runner.train()
    checkpoint = load(tmp_path / 'second')
    assert missing_in(checkpoint) == {'body.weight', 'head.weight'}
    toys.assert_same(complete_state(checkpoint, tmp_path / 'second' / 'iter_6.pth'),
                 dict(runner.model.state_dict()))


def test_a_base_in_the_folder_of_the_run(tmp_path, base, capsys):
    """It might be replaced by a checkpoint of the same name."""
    (tmp_path / 'run').mkdir()
    shutil.copy(base, tmp_path / 'run' / 'iter_3.pth')
    make_runner(tmp_path / 'run', tmp_path / 'run' / 'iter_3.pth').train()
    assert not missing_in(load(tmp_path / 'run'))
    assert 'is in the folder of the checkpoints' in capsys.readouterr().out


def resume(folder, **kwargs):
    """Resume, and stop."""
    make_runner(folder, resume=True, max_iters=3, **kwargs).train()


def test_absent_base_is_named(tmp_path, base):
    make_runner(tmp_path / 'run', base, max_iters=3).train()
    base.rename(tmp_path / 'elsewhere.pth')
    with pytest.raises(FileNotFoundError) as error:
        resume(tmp_path / 'run')
    for part in (f'expected the file {base}, got nothing there', 'run/iter_3.pth leaves out 3'):
        assert part in str(error.value)
    resume(tmp_path / 'run', hook=dict(base=str(tmp_path / 'elsewhere.pth')))


def test_base_and_run_move_together(tmp_path, base):
    then, now = tmp_path / 'then', tmp_path / 'now'
    then.mkdir()
    base.parent.rename(then / 'base')
    make_runner(then / 'run', then / 'base' / 'model.pth', max_iters=3).train()
    then.rename(now)
    resume(now / 'run')
    make_runner(now / 'run', resume=True).train()
    assert load(now / 'run')['base']['path'] == str(now / 'base' / 'model.pth')


@pytest.mark.parametrize('change', ['value', 'dtype', 'shape', 'gone'])
def test_another_base_is_refused(tmp_path, base, change):
    make_runner(tmp_path / 'run', base, max_iters=3).train()
    state = torch.load(base, weights_only=True)['state_dict']
    weight = state.pop('body.weight')
    if change == 'value':
        weight[0, 0] += 1e-6
    state |= dict(value={'body.weight': weight}, dtype={'body.weight': weight.double()},
                  shape={'body.weight': weight.T.contiguous()}, gone={})[change]
    torch.save({'state_dict': state}, base)
    with pytest.raises(ValueError) as error:
        resume(tmp_path / 'run')
    for part in (f'expected in {base} the weights that the training of', 'iter_3.pth started from',
                 'differ (1)', 'body.weight: ' + (
                     'missing' if change == 'gone' else 'other type, shape or values')):
        assert part in str(error.value)


def test_a_base_that_was_trained_on_elsewhere_still_serves(tmp_path, base):
    """Only what was left out counts."""
    make_runner(tmp_path / 'run', base, max_iters=3).train()
    state = torch.load(base, weights_only=True)['state_dict']
    state['head.weight'] += 1
    torch.save({'state_dict': state}, base)
    resume(tmp_path / 'run')
