"""Losses against their plain formulas, on masks without foreground, and of unequal processes."""

import math

import pytest
import torch
from torch import distributed

import programs
from glus_mm.models import MaskBCELoss, MaskDiceLoss, MaskIoULoss, TokenCELoss
from glus_mm.models.losses import mean_over_processes

LOGITS = torch.randn(3, 5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3
TARGET = (torch.rand(3, 5, 7, generator=torch.Generator().manual_seed(1)) < 0.4).byte()


def plain_bce(logits, target):
    total = 0.0
    for x, g in zip(logits.flatten().tolist(), target.flatten().tolist()):
        p = 1 / (1 + math.exp(-x))
        total -= g * math.log(p) + (1 - g) * math.log(1 - p)
    return total / logits.numel()


def plain_dice(logits, target, scale=1000.0, eps=1e-6):
    p, g = logits.sigmoid(), target.double()
    return 1 - (2 * (p * g).sum() / scale + eps) / (p.sum() / scale + g.sum() / scale + eps)


def test_masks():
    loss = MaskBCELoss(loss_weight=2.0)(LOGITS, TARGET)
    assert loss.shape == (3, )
    for value, x, g in zip(loss.tolist(), LOGITS, TARGET):
        assert value == pytest.approx(2 * plain_bce(x, g), rel=1e-12)
    loss = MaskDiceLoss(loss_weight=0.5)(LOGITS, TARGET)
    assert loss.shape == (3, )
    for value, x, g in zip(loss.tolist(), LOGITS, TARGET):
        assert value == pytest.approx(0.5 * float(plain_dice(x, g)), rel=1e-12)
    target = TARGET * 2
    bce, dice = MaskBCELoss(1.0)(LOGITS, target), MaskDiceLoss(1.0)(LOGITS, target)
    for i in range(3):
        assert bce[i].item() == pytest.approx(plain_bce(LOGITS[i], target[i]), rel=1e-12)
        assert dice[i].item() == pytest.approx(float(plain_dice(LOGITS[i], target[i])), rel=1e-12)
    empty = torch.zeros(1, 5, 7)
    nothing, everything = torch.full((1, 5, 7), -200.0), torch.full((1, 5, 7), 200.0)
    assert MaskDiceLoss(1.0)(nothing, empty).item() == pytest.approx(0)
    assert MaskDiceLoss(1.0)(everything, empty).item() == pytest.approx(1, abs=1e-4)
    assert MaskBCELoss(1.0)(nothing, empty).item() == 0
    logits = torch.zeros(1, 5, 7, requires_grad=True)
    (MaskDiceLoss()(logits, empty) + MaskBCELoss()(logits, empty)).sum().backward()
    assert logits.grad.isfinite().all() and (logits.grad > 0).all()


def test_tokens_and_iou():
    logits, target = LOGITS[0], torch.tensor([0, 3, 6, 6, 1])
    plain = sum(math.log(sum(map(math.exp, row))) - row[t]
                for row, t in zip(logits.tolist(), target.tolist())) / 5
    assert TokenCELoss(0.5)(logits, target).item() == pytest.approx(plain / 2, rel=1e-6)
    assert TokenCELoss()(logits.bfloat16(), target).dtype == torch.float32
    target = torch.tensor([[[1., 1, 0, 0]], [[0, 0, 0, 0]], [[2, 1, 1, 1]]])
    logits = torch.tensor([[[5., -1, 1, -2]], [[-1, -1, -1, -1]], [[1, 1, 1, 1]]])
    scores = torch.tensor([0.5, 0.25, 0.75], requires_grad=True)
    loss = MaskIoULoss(2.0)(scores, logits, target)
    # IoUs of 1/3, 0 (nothing and nothing, as SAM-2's code has it) and 1.
    assert loss.tolist() == pytest.approx([1 / 3, 0.5, 0.5])
    loss.sum().backward()
    assert scores.grad.tolist() == [2, 2, -2]
    logits = torch.randn(3, 5, requires_grad=True)
    loss = TokenCELoss()(logits, torch.full((3, ), -100))
    loss.backward()
    assert loss == 0 and not logits.grad.any()
    assert TokenCELoss()(logits[:0], torch.zeros(0, dtype=torch.long)) == 0
    big = torch.zeros(1, 512, 512, dtype=torch.float16)
    assert MaskDiceLoss(1.0)(big, torch.ones_like(big)).item() == pytest.approx(1 / 3, abs=0.01)
    assert MaskBCELoss(1.0)(big, torch.ones_like(big)).isfinite()


# Losses of processes with unequal numbers of items, against those of one with all of them.
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
