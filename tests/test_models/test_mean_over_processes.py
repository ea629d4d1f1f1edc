"""Losses of processes with unequal numbers of items, against those of one with all of them."""

import pytest
import torch
from torch import distributed

import programs
from glus_mm.models.losses import mean_over_processes

ITEMS = torch.tensor([0.3, -1.2, 2.0, 0.7, 5.0], dtype=torch.float64)
CUTS = (0, 4, 5)


def losses_of(weight, items):
    return dict(loss_a=(weight * items).square().mean(), loss_b=(weight + items).exp().mean())


def test_one_process_gets_back_what_it_gave():
    losses = losses_of(torch.tensor(1.5, requires_grad=True), ITEMS)
    shared = mean_over_processes(losses, dict(loss_a=5, loss_b=5))
    assert shared == losses and all(shared[name] is losses[name] for name in losses)


def worker(rank, folder):
    distributed.init_process_group(
        'gloo', init_method=f'file://{folder}/rendezvous', rank=rank, world_size=2)
    items = ITEMS[CUTS[rank]:CUTS[rank + 1]]
    weight = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
    losses = dict(losses_of(weight, items), loss_c=weight * (rank + 1))
    shared = mean_over_processes(losses, dict(loss_a=len(items), loss_b=len(items)))
    sum(shared.values()).backward()
    broken = {'loss_a': torch.tensor(1.0 if rank else float('nan')),
              'loss_b': torch.tensor(float('inf') if rank else 2.0)}
    broken = mean_over_processes(broken, dict(loss_a=1, loss_b=3))
    # Processes without items; in the second case all of them.
    empty = mean_over_processes(
        dict(loss_a=weight * rank, loss_b=weight * 0), dict(loss_a=rank, loss_b=0))
    half = mean_over_processes({'loss_a': torch.tensor(2.0 + rank, dtype=torch.bfloat16)}, {})
    torch.save(dict(shared={k: v.detach() for k, v in shared.items()}, grad=weight.grad,
                    finite={k: bool(v.isfinite()) for k, v in broken.items()}, half=half,
                    empty={k: v.item() for k, v in empty.items()}),
               folder / f'{rank}.pth')
    distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path):
    programs.spawn(worker, tmp_path)
    ranks = [torch.load(tmp_path / f'{rank}.pth', weights_only=True) for rank in range(2)]
    weight = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
    losses = dict(losses_of(weight, ITEMS), loss_c=weight * 1.5)
    sum(losses.values()).backward()
    for rank in ranks:
        assert rank['shared'].keys() == losses.keys()
        for name, value in losses.items():
            torch.testing.assert_close(rank['shared'][name], value.detach())
    # Data parallelism averages the gradients.
    torch.testing.assert_close((ranks[0]['grad'] + ranks[1]['grad']) / 2, weight.grad)
    assert not torch.isclose(ranks[0]['grad'], ranks[1]['grad'])
    assert [rank['finite'] for rank in ranks] == [
        dict(loss_a=False, loss_b=True), dict(loss_a=True, loss_b=False)], 'only who is at fault'
    assert all(rank['empty'] == dict(loss_a=1.5, loss_b=0) for rank in ranks)
    assert all(rank['half']['loss_a'] == 2.5 for rank in ranks)
    assert ranks[0]['half']['loss_a'].dtype == torch.bfloat16
