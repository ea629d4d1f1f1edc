"""Checkpoints hold only plain things, runs resume from them, and misfits are named."""

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, HOOKS, MODELS
from peft import LoraConfig, inject_adapter_in_model
from torch import nn

import toys
from glus_mm.engine.hooks.safe_checkpoint_hook import (
    MAX_CHANGED,
    SafeCheckpointHook,
    _changed_settings,
)
from glus_mm.engine.plain_state import from_plain, to_plain


@DATASETS.register_module()
class CheckpointToySet(toys.EngineToySet):
    metainfo = {'name': 'toy', 'palette': np.arange(6).reshape(2, 3)}


@MODELS.register_module()
class CheckpointToyModel(BaseModel):

    def __init__(self, lora=False):
        super().__init__()
        self.hidden = nn.Linear(3, 4)
        self.out = nn.Linear(4, 1)
        if lora:
            inject_adapter_in_model(LoraConfig(r=2, target_modules=['hidden']), self)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        y = self.out(self.hidden(inputs).tanh())[:, 0]
        return {'loss': (y - inputs.sum(-1)).square().mean()}


@HOOKS.register_module()
class NotesHook(Hook):
    """Puts things of NumPy and an object into the message hub, as a user's hook may do."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        hub = runner.message_hub
        hub.update_info('notes', {'best': np.float32(0.5), 'seen': np.array([1, 2]), 'ids': (1, )})
        hub.update_info('object', NotesHook)


def make_runner(work_dir, stop_at=None, strict=True, lora=False, **changes):
    return toys.make_runner(
        work_dir, dict(type='CheckpointToyModel', lora=lora), dict(type='CheckpointToySet'),
        train_cfg=dict(max_iters=stop_at or 6), optim_wrapper=dict(optimizer=dict(lr=0.01)),
        param_scheduler=[
            dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=2),
            dict(type='PolyLR', power=1.0, by_epoch=False, begin=2, end=6)],
        default_hooks=dict(checkpoint=dict(strict=strict)), custom_hooks=[dict(type='NotesHook')],
        experiment_name=f'{work_dir.name}_{stop_at}', **changes)


def weights(runner):
    return {key: value.clone() for key, value in runner.model.state_dict().items()}


def test_a_resumed_run_says_from_what_on_one_screen(tmp_path, capsys):
    make_runner(tmp_path / 'run', stop_at=3).train()
    resumed = make_runner(tmp_path / 'run', resume=True, auto_scale_lr=dict(enable=False))
    for handler in (resumed.logger, *resumed.logger.handlers):
        handler.setLevel('INFO')
    resumed.cfg.optim_wrapper.optimizer.lr = 0.5
    capsys.readouterr()
    resumed.train()
    told = capsys.readouterr().out
    lines = told[told.index('resumes from'):].splitlines()
    end = next(i for i, line in enumerate(lines) if ' - mmengine - ' in line)
    assert lines[0] == f'resumes from {tmp_path}/run/iter_3.pth'
    assert lines[1].startswith('  iteration 3 of 6, saved 2') and 'by the run run_3' in lines[1]
    assert lines[2].startswith('  seed 3, learning rates 0.0')
    assert lines[3] == ('  restored: 4 weights and buffers, the optimizer, the schedulers, random '
                        'numbers of 1 process, the log')
    assert lines[4] == '  settings that were changed since:' and set(lines[5:end]) == {
        '    train_cfg.max_iters: 3 -> 6', '    optim_wrapper.optimizer.lr: 0.01 -> 0.5 (without '
        'effect: the state that was restored has the old one)',
        '    auto_scale_lr.enable: not set -> False'}


def test_what_a_run_cannot_go_on_from(tmp_path):
    """The state of another kind of optimizer, and weights alone."""
    make_runner(tmp_path / 'run', stop_at=3).train()
    other = make_runner(tmp_path / 'run', resume=True, max_iters=7)
    other.optim_wrapper = other.build_optim_wrapper(dict(optimizer=dict(type='SGD', lr=0.01)))
    with pytest.raises(ValueError, match='optimizer SGD.*, without .*momentum'):
        other.train()
    path = tmp_path / 'weights.pth'
    torch.save(dict(state_dict=weights(other)), path)
    alone = make_runner(tmp_path / 'alone', resume=True, load_from=str(path))
    with pytest.raises(ValueError, match=f'weights alone: {path}; .*load_from='):
        alone.train()


def test_settings_in_a_checkpoint_are_parsed_and_never_run():
    now = 'a = dict(b=[dict(c=1)], d=(1, 2))\n'
    assert _changed_settings(now, now) == ['  settings: as before']
    for before in (None, 3, 'a = (', '(' * 100_000, 'x' * 10 + '\0'):
        assert _changed_settings(before, now)[0].startswith('  settings: not compared')
    assert _changed_settings("a = __import__('os').abort()\n", now) == [
        '  settings that were changed since:', "    a: __import__('os').abort() -> not set",
        '    a.b.0.c: not set -> 1', '    a.d: not set -> (1, 2)']
    many = ''.join(f'k{i} = {i}\n' for i in range(40))
    lines = _changed_settings('', f'{many}long = {"x" * 900!r}')
    assert len(lines) == MAX_CHANGED + 2 < 25 and lines[-1] == '    and 33 more'
    long, = _changed_settings('', f'long = {"x" * 900!r}')[1:]
    assert len(long) < 170 and long.endswith(' ...')


def test_file_loads_without_running_code(tmp_path):
    make_runner(tmp_path / 'run', stop_at=3).train()
    checkpoint = torch.load(tmp_path / 'run' / 'iter_3.pth', weights_only=True)
    assert set(checkpoint) == {'meta', 'state_dict', 'message_hub', 'optimizer',
                               'param_schedulers', 'random_state'}
    info = checkpoint['message_hub']['runtime_info']
    assert info['notes']['best'] == 0.5
    assert info['notes']['ids'] == (1, )
    assert 'object' not in info, 'a class has no plain form and must be left out'
    assert 'object' not in checkpoint['message_hub']['resumed_keys']
    hub = from_plain(checkpoint['message_hub'])
    assert len(hub['log_scalars']['train/loss'].data[0]) == 3
    np.testing.assert_array_equal(hub['runtime_info']['notes']['seen'], [1, 2])
    np.testing.assert_array_equal(from_plain(checkpoint['meta'])['dataset_meta']['palette'],
                                  CheckpointToySet.metainfo['palette'])


def test_load_from(tmp_path):
    make_runner(tmp_path / 'first', stop_at=3).train()
    runner = make_runner(tmp_path / 'second', load_from=str(tmp_path / 'first' / 'iter_3.pth'))
    runner.load_or_resume()
    state = torch.load(tmp_path / 'first' / 'iter_3.pth', weights_only=True)['state_dict']
    for key, value in weights(runner).items():
        assert torch.equal(value, state[key])
    assert runner.iter == 0
    state = {'hidden.weight': torch.zeros(4, 3), 'hidden.bias': torch.zeros(5),
             'out.weight': torch.zeros(1, 4), 'other.weight': torch.zeros(2)}
    torch.save({'state_dict': state}, tmp_path / 'misfit.pth')
    runner = make_runner(tmp_path / 'run', load_from=str(tmp_path / 'misfit.pth'))
    with pytest.raises(ValueError) as error:
        runner.load_or_resume()
    text = str(error.value)
    for part in ('misfit.pth', 'missing in the checkpoint (1):\n  out.bias',
                 'hidden.bias: expected (4,), got (5,)', 'unknown to the model (1)',
                 'other.weight'):
        assert part in text


def test_not_strict_takes_what_fits(tmp_path):
    torch.save({'state_dict': {'module.out.bias': torch.full((1, ), 7.)}}, tmp_path / 'part.pth')
    runner = make_runner(tmp_path / 'run', strict=False, load_from=str(tmp_path / 'part.pth'))
    runner.load_or_resume()
    assert runner.model.out.bias.item() == 7.
    state = dict(CheckpointToyModel().state_dict(), bank=torch.zeros(2))
    torch.save({'state_dict': state}, tmp_path / 'more.pth')
    make_runner(tmp_path / 'run', load_from=str(tmp_path / 'more.pth')).load_or_resume()


@pytest.mark.parametrize('bare', [False, True])
def test_lora_run_starts_from_weights_without_adapters(tmp_path, bare):
    """With and without the level ``state_dict``, from a wrapped model or not; then it resumes."""
    plain = CheckpointToyModel().state_dict()
    state = plain if bare else {'state_dict': {f'module.{key}': v for key, v in plain.items()}}
    torch.save(state, tmp_path / 'plain.pth')
    runner = make_runner(tmp_path / 'run', lora=True, stop_at=3,
                         load_from=str(tmp_path / 'plain.pth'))
    adapters = {key: value for key, value in weights(runner).items() if 'lora_' in key}
    runner.load_or_resume()
    loaded = weights(runner)
    assert torch.equal(loaded['hidden.base_layer.weight'], plain['hidden.weight'])
    assert torch.equal(loaded['hidden.base_layer.bias'], plain['hidden.bias'])
    assert torch.equal(loaded['out.weight'], plain['out.weight'])
    assert len(adapters) == 2
    assert all(torch.equal(loaded[key], value) for key, value in adapters.items())
    runner.train()
    trained = weights(runner)
    assert not torch.equal(trained['hidden.lora_B.default.weight'],
                           adapters['hidden.lora_B.default.weight'])
    resumed = make_runner(tmp_path / 'run', lora=True, resume=True)
    resumed.load_or_resume()
    assert all(torch.equal(weights(resumed)[key], value) for key, value in trained.items())


@pytest.mark.parametrize('strict', [True, False])
def test_lora_checkpoints_that_do_not_fit_are_an_error_even_where_parts_are_asked_for(
        tmp_path, strict):
    state = CheckpointToyModel(lora=True).state_dict()
    torch.save({'state_dict': state}, tmp_path / 'lora.pth')
    runner = make_runner(tmp_path / 'plain', strict=strict, load_from=str(tmp_path / 'lora.pth'))
    with pytest.raises(ValueError, match=r'that the model CheckpointToyModel lacks: .*lora\.pth'
                       r'\nunknown to the model \(2\):\n  hidden\.lora_A(.|\n)*publish_model\.py'):
        runner.load_or_resume()
    del state['hidden.lora_A.default.weight']
    torch.save({'state_dict': state}, tmp_path / 'some.pth')
    runner = make_runner(tmp_path / 'lora', strict=strict, lora=True,
                         load_from=str(tmp_path / 'some.pth'))
    with pytest.raises(ValueError, match=r'only some of the LoRA adapters .*some\.pth'):
        runner.load_or_resume()


@pytest.mark.parametrize('content', [{'state_dict': {}}, [1, 2], {'meta': {'iter': 3}}])
def test_file_without_weights(tmp_path, content):
    torch.save(content, tmp_path / 'none.pth')
    runner = make_runner(tmp_path / 'run', load_from=str(tmp_path / 'none.pth'))
    with pytest.raises(ValueError, match='none.pth'):
        runner.load_or_resume()


def test_plain_state_round_trip():
    value = {'array': np.arange(3.), 'words': np.array(['a', 'b']), 'n': [np.int64(2), {1, 2}],
             'history': HistoryBuffer([1., 2.], [1, 1])}
    plain = to_plain(value, 'value')
    assert plain['n'][0] == 2 and type(plain['n'][0]) is int
    back = from_plain(plain)
    np.testing.assert_array_equal(back['array'], value['array'])
    assert back['words'].tolist() == ['a', 'b']
    assert back['history'].mean() == 1.5
    with pytest.raises(TypeError, match=r"builtins.object at meta.tasks\[1\]"):
        to_plain({'tasks': [1, object()]}, 'meta')
    with pytest.raises(TypeError, match='intervall'):
        SafeCheckpointHook(intervall=3)
