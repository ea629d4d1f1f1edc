"""A loss that is not finite ends the run in every process, and the error says what is known."""

import math
import re

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmengine.registry import DATASETS, FUNCTIONS, MODELS, OPTIM_WRAPPERS
from torch import distributed, nn
from torch.utils.data import Dataset

import programs
import toys
from glus_mm.structures import RefVOSDataSample

NAN, INF = float('nan'), float('inf')


@DATASETS.register_module()
class FiniteToySet(Dataset):
    """Items of two numbers; some are of a given value."""

    metainfo = {}

    def __init__(self, odd=None):
        self.odd = dict(odd or {})

    def __len__(self):
        return 16

    def __getitem__(self, idx):
        x = torch.randn(2, generator=torch.Generator().manual_seed(idx))
        if str(idx) in self.odd:
            x[0] = self.odd[str(idx)]
        sample = RefVOSDataSample(metainfo=dict(
            dataset='toy', video_id=f'v{idx}', exp_ids=('0', '3'), context_frame_ids=[7],
            query_frame_ids=[1, 2], expressions=('the cat', f'the dog {idx}')))
        return dict(inputs=x, data_samples=sample)


@MODELS.register_module()
class FiniteToyModel(BaseModel):
    """Losses ``loss_a`` and ``loss_b``; the root of 0 has a gradient that is not finite."""

    def __init__(self, root=False):
        super().__init__()
        self.layer = nn.Linear(2, 3)
        self.dropout = nn.Dropout(0.5)
        self.root = root

    def forward(self, inputs, data_samples=None, mode='tensor'):
        x = torch.stack(inputs)
        y = self.dropout(self.layer(x))
        losses = dict(loss_a=y.square().mean(), loss_b=[y.mean() ** 2, 0 * y.mean()],
                      accuracy=torch.tensor(NAN))
        if self.root:
            losses['loss_root'] = (self.layer.weight[0, 0] * x[:, 0].abs()).abs().sqrt().mean()
        return losses


@OPTIM_WRAPPERS.register_module()
class FiniteToyScaler(OptimWrapper):
    """Stands for MMEngine's AmpOptimWrapper, which needs CUDA."""

    loss_scaler = None


@FUNCTIONS.register_module()
def finite_toy_collate(items):
    return dict(inputs=[item['inputs'] for item in items], data_samples=torch.zeros(2))


def make_runner(work_dir, odd=None, model=(), **changes):
    return toys.make_runner(
        work_dir, dict(type='FiniteToyModel', **dict(model)), dict(type='FiniteToySet', odd=odd),
        **dict(dict(
            train_dataloader=dict(sampler=dict(shuffle=False), collate_fn=dict(
                type=changes.pop('collate', 'pseudo_collate'))),
            optim_wrapper=dict(dict(clip_grad=dict(max_norm=1.0)), **changes.pop('wrapper', {})),
            param_scheduler=[dict(type='LinearLR', start_factor=0.1, end=6, by_epoch=False)],
            default_hooks=dict(checkpoint=dict(interval=-1)),
            custom_hooks=[dict(type='glus_mm.FiniteLossHook')]), **changes))


def stopped(runner):
    """Train until it stops; the message."""
    with pytest.raises(FloatingPointError) as error:
        runner.train()
    return str(error.value)


def load(path):
    return torch.load(path, weights_only=True)


SAVING = dict(default_hooks=dict(checkpoint=dict(interval=1)))


@pytest.mark.parametrize(('value', 'shown'), [(NAN, 'nan'), (INF, '(inf|nan)')])
def test_it_stops_before_the_step_and_says_where(tmp_path, value, shown):
    """The eighth sample is the second one of the fourth iteration."""
    runner = make_runner(tmp_path, {'7': value}, **SAVING)
    message = stopped(runner)
    lines = message.splitlines()
    assert lines[0] == 'the loss is not finite in iteration 4'
    assert re.fullmatch(rf'loss {shown}, loss_a {shown}, loss_b nan, accuracy nan', lines[1])
    assert lines[2:4] == [
        f"  toy, video 'v{i}', context frames [7], query frames [1, 2], expressions: "
        f"'0' 'the cat', '3' 'the dog {i}'" for i in (6, 7)]
    assert lines[4].startswith(f'the newest checkpoint is {tmp_path}/iter_3.pth, from where')
    assert f'--resume {tmp_path}/iter_3.pth is safer' not in message
    assert f'--resume {tmp_path}/iter_2.pth is safer' in message
    saved = load(tmp_path / 'iter_3.pth')
    for name, value in runner.model.state_dict().items():
        assert torch.equal(value, saved['state_dict'][name]), 'no step was made'


def test_finite_losses_with_gradients_that_are_not(tmp_path):
    """The root of |0|: its gradient is infinite. The step is not made."""
    runner = make_runner(tmp_path, {'4': 0.0}, model=dict(root=True))
    message = stopped(runner)
    assert all(value.isfinite().all() for value in runner.model.state_dict().values())
    lines = message.splitlines()
    assert lines[0] == 'the norm of the gradients is not finite in iteration 3'
    assert lines[1] == 'grad_norm nan' and "'v4'" in lines[2] and "'v5'" in lines[3]
    assert lines[4] == 'there is no checkpoint yet: the run has to begin anew'


def test_gradients_with_a_loss_scaler_are_its_business(tmp_path):
    runner = make_runner(tmp_path, {'4': 0.0}, model=dict(root=True), wrapper=dict(
        type='FiniteToyScaler'), train_cfg=dict(max_iters=3))
    runner.train()
    assert runner.iter == 3
    assert math.isnan(runner.message_hub.get_scalar('train/grad_norm').current())
    assert not runner.model._forward_hooks, 'nothing is left behind'
    assert not runner.optim_wrapper.optimizer._optimizer_step_pre_hooks


@pytest.mark.parametrize(('bad', 'iteration'), [('1', 1), ('3', 2), ('5', 3), ('9', 5)])
def test_accumulated_steps(tmp_path, bad, iteration):
    """With three micro-batches to a step it stops in the one that is bad."""
    message = stopped(make_runner(tmp_path, {bad: NAN}, wrapper=dict(accumulative_counts=3)))
    assert f'iteration {iteration}\n' in message and f"'v{bad}'" in message
    assert "'v0'" not in message or iteration == 1


def test_batches_that_share_bad_gradients(tmp_path):
    message = stopped(make_runner(tmp_path, {'2': 0.0}, model=dict(root=True),
                                  wrapper=dict(accumulative_counts=2)))
    assert all(f"'v{i}'" in message for i in range(4)) and "'v4'" not in message


def test_weights_that_are_bad_already_are_named(tmp_path):
    runner = make_runner(tmp_path)
    runner.model.layer.bias.data[1] = NAN
    assert '1 weights are not finite themselves, such as layer.bias' in stopped(runner)
    assert not list(tmp_path.glob('*.pth'))


def test_batches_of_other_projects(tmp_path):
    """Whose data samples may be anything."""
    runner = make_runner(tmp_path, {'3': NAN}, collate='finite_toy_collate')
    assert 'a batch of dict without data samples' in stopped(runner)


# Two processes


def two_process_worker(rank, folder):
    distributed.init_process_group(
        'gloo', init_method=f'file://{folder}/rendezvous', rank=rank, world_size=2)
    wrapper = dict(type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False,
                   find_unused_parameters=True)
    common = dict(launcher='pytorch', model_wrapper_cfg=wrapper)
    # Without shuffling rank 1 has items 1, 3 | 5, 7 | 9, 11 | ...
    messages = [
        stopped(make_runner(folder / 'one', {'5': NAN}, **common)),
        stopped(make_runner(folder / 'accumulated', {'5': NAN},
                            wrapper=dict(accumulative_counts=3), **common)),
        stopped(make_runner(folder / 'norm', {'5': 0.0}, model=dict(root=True), **common)),
    ]
    torch.save(messages, folder / f'{rank}.pt')
    distributed.destroy_process_group()


@pytest.mark.slow
def test_every_process_stops(tmp_path, monkeypatch):
    """NaN in one process only, first of all without a synchronization of gradients."""
    monkeypatch.setenv('LOCAL_RANK', '0')
    programs.spawn(two_process_worker, tmp_path)  # none of them hangs
    first, second = (load(tmp_path / f'{rank}.pt') for rank in range(2))
    assert first == second
    for message in first[:2]:
        assert 'the loss is not finite in iteration 2' in message
        assert 'process 1 of 2: loss nan' in message and 'process 0' not in message
        assert "'v5'" in message and "'v7'" in message and "'v4'" not in message
    assert 'process 0 of 2: grad_norm nan' in first[2] and "'v4'" in first[2]
    assert 'process 1 of 2: grad_norm nan' in first[2] and "'v5'" in first[2]


def test_a_state_that_a_step_has_ruined_is_not_called_healthy(tmp_path):
    """A step with a rate of 1e30 leaves finite weights; the error says what is known of them."""
    message = stopped(make_runner(tmp_path, wrapper=dict(optimizer=dict(type='SGD', lr=1e30)),
                                  param_scheduler=None, **SAVING))
    assert 'is not known' in message and '; lr 1e+30' in message
    known = message.splitlines()[-1]
    largest = float(re.search(r'largest weight (\S+) in layer', known)[1])
    assert known.startswith('the last 5 iterations and steps: loss ') and largest > 1e20
    assert 'grad_norm ' in known
