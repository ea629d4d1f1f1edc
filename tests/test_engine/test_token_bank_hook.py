"""A bank goes through checkpoints and resumes in every process, is logged, and is checked."""

import logging

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.model import BaseModel, is_model_wrapper
from mmengine.registry import MODELS
from torch import distributed, nn

import programs
import toys
from glus_mm.engine import TokenBankHook
from glus_mm.models import ObjectContrastiveLoss

LOSS = dict(num_negatives=3, min_tokens=1, bank=dict(size=20))


@MODELS.register_module()
class TokenToyModel(BaseModel):
    """Four tokens per item, whose object every third item refers to."""

    def __init__(self, loss, object_of):
        super().__init__()
        self.layer = nn.Linear(3, 5)
        self.object_of = object_of
        self.loss = None if loss is None else ObjectContrastiveLoss(**loss)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        tokens = self.layer(inputs).flatten(0, 1)
        losses = dict(loss_size=0.01 * tokens.square().mean())
        if self.loss is not None:
            items = [i for i in data_samples.tolist() for _ in range(4)]
            losses['loss_contrastive'] = self.loss(
                tokens, [f'toy/{i % 3}' for i in items], [str(i) for i in items],
                [[self.object_of.format(i)] for i in items], [0, 1, 2, 3] * (len(items) // 4))
        return losses


def make_runner(work_dir, loss=LOSS, hook=(), stop_at=None, object_of='1', **changes):
    hooks = [dict(type='glus_mm.TokenBankHook', **dict(hook))]
    if stop_at is not None:
        hooks.append(dict(type='StopHook', at=stop_at))
    return toys.make_runner(
        work_dir, dict(type='TokenToyModel', loss=loss, object_of=object_of),
        dict(type='EngineToySet', shape=(4, 3), length=11), custom_hooks=hooks,
        **dict(dict(train_dataloader=dict(sampler=dict(seed=1))), **changes))


def everything(runner):
    """Copies of all weights and of the bank of this process."""
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    state = dict(model.state_dict(), **model.loss.resume_state())
    return {name: value.clone() for name, value in state.items()}


def interrupted(work_dir, **kwargs):
    """Three iterations are saved, the fifth one is lost; then the run goes on."""
    with pytest.raises(KeyboardInterrupt):
        make_runner(work_dir, stop_at=5, **kwargs).train()
    runner = make_runner(work_dir, resume=True, **kwargs)
    runner.train()
    return runner


def test_resumed_equals_straight(tmp_path):
    straight = make_runner(tmp_path / 'straight')
    straight.train()
    resumed = interrupted(tmp_path / 'parts')
    toys.assert_same(everything(straight), everything(resumed))
    statistics = resumed.model.loss.statistics()
    assert statistics['calls'] == 6 and statistics['tokens'] > 0


def test_checkpoint_is_plain_and_apart_from_the_weights(tmp_path):
    runner = make_runner(tmp_path)
    runner.train()
    sizes = runner.message_hub.get_scalar('train/token_bank_size').data[0]
    assert sizes.tolist() == [8, 16, 20, 20, 20, 20]
    checkpoint = torch.load(tmp_path / 'iter_6.pth', weights_only=True)
    assert set(checkpoint['state_dict']) == {'layer.weight', 'layer.bias'}
    state, = checkpoint['token_bank']['ranks']
    toys.assert_same(state, runner.model.loss.resume_state())
    assert state['tokens'].shape == (20, 5)
    first = torch.load(tmp_path / 'iter_3.pth', weights_only=True)['token_bank']['ranks'][0]
    assert first['calls'] == 3 and not torch.equal(first['tokens'], state['tokens'])


def test_a_start_from_weights_leaves_the_bank_empty(tmp_path):
    make_runner(tmp_path / 'first').train()
    runner = make_runner(tmp_path / 'second', load_from=str(tmp_path / 'first' / 'iter_6.pth'),
                         train_cfg=dict(max_iters=1))
    runner.train()
    assert len(runner.model.loss.bank) == 8 and runner.model.loss.calls == 1


def warnings_of(caplog):
    return [record.getMessage() for record in caplog.records
            if record.levelno == logging.WARNING and 'token' in record.getMessage()]


def test_resume_from_a_checkpoint_without_bank(tmp_path, caplog):
    make_runner(tmp_path, loss=None, train_cfg=dict(max_iters=3)).train()
    runner = make_runner(tmp_path, resume=True)
    MMLogger.get_current_instance().addHandler(caplog.handler)
    runner.train()
    assert warnings_of(caplog) == [
        'the checkpoint of iteration 3 holds no token bank: it starts empty']
    assert runner.model.loss.calls == 3


@pytest.mark.parametrize(('options', 'expected'), [
    (dict(), None),
    (dict(loss=dict(LOSS, num_negatives=20)), 'no token had 20 negatives: the bank holds 20 of 20'),
    (dict(object_of='{}'), 'no token had a positive, another expression')])
@pytest.mark.parametrize('strict', [False, True])
def test_warm_up(tmp_path, caplog, options, expected, strict):
    runner = make_runner(tmp_path, hook=dict(warmup_iters=5, strict=strict), **options)
    MMLogger.get_current_instance().addHandler(caplog.handler)
    if strict and expected:
        with pytest.raises(ValueError, match=expected):
            runner.train()
        assert runner.iter == 4
        return
    runner.train()
    messages = warnings_of(caplog)
    assert len(messages) == (expected is not None)
    assert expected is None or expected in messages[0]


def test_nothing_to_do_without_the_loss(tmp_path):
    runner = make_runner(tmp_path, loss=None)
    runner.train()
    assert 'token_bank' not in torch.load(tmp_path / 'iter_6.pth', weights_only=True)
    assert 'train/token_bank_size' not in runner.message_hub.log_scalars


@pytest.mark.parametrize('options', [dict(warmup_iters=0), dict(warmup_iters=2.0)])
def test_bad_options(options):
    with pytest.raises(ValueError, match='warmup_iters'):
        TokenBankHook(**options)


# Two processes


def two_process_worker(rank, folder):
    """Straight and interrupted runs of two processes, with banks apart and shared."""
    distributed.init_process_group(
        'gloo', init_method=f'file://{folder}/rendezvous', rank=rank, world_size=2)
    wrapper = dict(type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False)
    common = dict(launcher='pytorch', model_wrapper_cfg=wrapper)
    results = {}
    for gather in (False, True):
        loss = dict(LOSS, gather=gather)
        straight = make_runner(folder / f'straight{gather}', loss, **common)
        straight.train()
        resumed = interrupted(folder / f'parts{gather}', loss=loss, **common)
        results[f'straight{gather}'] = everything(straight)
        results[f'resumed{gather}'] = everything(resumed)
    common['model_wrapper_cfg'] = dict(wrapper, broadcast_buffers=True)
    with pytest.raises(ValueError, match='broadcast_buffers=False'):
        make_runner(folder / 'broadcast', **common).train()
    torch.save(results, folder / f'{rank}.pth')
    distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv('LOCAL_RANK', '0')
    programs.spawn(two_process_worker, tmp_path)
    ranks = [torch.load(tmp_path / f'{rank}.pth', weights_only=True) for rank in range(2)]
    for gather in (False, True):
        for results in ranks:
            toys.assert_same(results[f'straight{gather}'], results[f'resumed{gather}'])
        one, two = (results[f'straight{gather}'] for results in ranks)
        assert torch.equal(one['tokens'], two['tokens']) == gather
        saved = torch.load(tmp_path / f'parts{gather}' / 'iter_6.pth', weights_only=True)
        states = saved['token_bank']['ranks']
        assert len(states) == (1 if gather else 2)
        for state, results in zip(states, ranks):
            assert torch.equal(state['tokens'], results[f'straight{gather}']['tokens'])
    # One process goes on where there were two.
    runner = make_runner(tmp_path / 'partsFalse', resume=True, train_cfg=dict(max_iters=7))
    MMLogger.get_current_instance().addHandler(caplog.handler)
    runner.train()
    assert 'holds the token banks of 2 processes, this run has 1' in warnings_of(caplog)[0]
    before = ranks[0]['straightFalse']['tokens']
    assert torch.equal(runner.model.loss.bank.tokens[:12], before[8:])
