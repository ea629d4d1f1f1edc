"""Equal to a plain reference; the bank, the options, two processes.

The official numbers are compared by ``dev/check_official.py``.
"""

import copy
import math
import random

import numpy as np
import pytest
import torch
from torch import distributed

import programs
from glus_mm.models import ObjectContrastiveLoss, TokenBank
from glus_mm.models.losses import token_identity

WIDTH = 6


class OfficialDraws(ObjectContrastiveLoss):
    """Draws with Python's ``random`` in the order of the official code, and notes it."""

    drawn: tuple = ()

    def draw(self, num_negatives, num_positives, generator):
        negatives, positives = [], []
        for n, p in zip(num_negatives.tolist(), num_positives.tolist()):
            negatives.append([random.randint(0, n - 1) for _ in range(self.num_negatives)])
            positives.append(random.choice(range(p)))
        self.drawn = (negatives, positives, num_negatives.tolist(), num_positives.tolist())
        return torch.tensor(negatives), torch.tensor(positives)


def make_step(seed, num=30, width=WIDTH, dtype=torch.float32):
    """Tokens with identities out of a few videos, expressions, objects and frames."""
    rng = np.random.default_rng(seed)
    tokens = torch.from_numpy(rng.standard_normal((num, width))).to(dtype)
    exps = rng.integers(6, size=num).tolist()
    # Expressions 0 and 1 mean the same object, as do 2 and 3 (in another order); 5 means none.
    objects = [['1'], ['1'], ['2', '1'], ['1', '2'], ['2'], []]
    names = dict(
        video_ids=[f'toy/{v}' for v in rng.integers(3, size=num)], exp_ids=[str(e) for e in exps],
        object_ids=[objects[e] for e in exps], frame_ids=rng.integers(3, size=num).tolist())
    return tokens, names


def reference(loss, steps):
    """Loss of the last step in plain Python: a list as bank, loops, and the module's draws."""
    entries, drawn = [], iter(zip(*loss.drawn[:2]))
    for tokens, names in steps:
        step = [entry for entry in zip(tokens, *names.values()) if entry[3]]
        entries = (entries + step)[-loss.bank.size:]
    losses = []
    for token, video, exp, objects, frame in step:
        positives, negatives = [], []
        for entry, other_video, other_exp, other_objects, other_frame in entries:
            if (video, exp) == (other_video, other_exp):
                continue
            entry = entry.float().double()  # as the bank stores it
            same = video == other_video and sorted(objects) == sorted(other_objects)
            if same and (frame == other_frame or loss.positives == 'video'):
                positives.append(entry)
            elif not same or loss.same_object_negatives:
                negatives.append(entry)
        if not positives or len(negatives) < loss.num_negatives:
            continue
        chosen, positive = next(drawn)
        numbers = [math.exp(torch.cosine_similarity(token.double(), other, dim=0).item()
                            / loss.temperature)
                   for other in [positives[positive], *(negatives[i] for i in chosen)]]
        losses.append(-math.log(numbers[0] / sum(numbers)))
    return loss.loss_weight * sum(losses) / len(losses)


@pytest.mark.parametrize('options', [
    {}, dict(same_object_negatives=False), dict(positives='video'),
    dict(temperature=0.5, loss_weight=2.0, num_negatives=3, bank=dict(size=37))],
    ids=['official', 'no-same-object', 'video', 'small'])
def test_equals_a_plain_reference(options):
    options = dict(dict(num_negatives=10, bank=dict(size=50)), **options)
    loss = OfficialDraws(**options)
    steps = []
    random.seed(1)
    for seed in range(4):
        steps.append(make_step(seed, dtype=torch.float64))
        value = loss(steps[-1][0], **steps[-1][1])
    assert value.dtype == torch.float64
    assert value.item() == pytest.approx(reference(loss, steps), rel=1e-12)


def test_own_draws_are_uniform_and_repeatable():
    loss = ObjectContrastiveLoss(num_negatives=100)
    numbers = [torch.tensor([3, 7] * 200), torch.tensor([1, 2] * 200)]
    negatives, positives = loss.draw(*numbers, torch.Generator().manual_seed(0))
    for half, choices in ((negatives[::2], 3), (negatives[1::2], 7), (positives[1::2], 2)):
        share = torch.bincount(half.flatten(), minlength=choices) / half.numel()
        assert len(share) == choices
        assert (share - 1 / choices).abs().max() < 4 * math.sqrt(0.25 / half.numel())
    assert not positives[::2].any()
    again = loss.draw(*numbers, torch.Generator().manual_seed(0))
    assert torch.equal(negatives, again[0]) and torch.equal(positives, again[1])


def run_steps(loss, seeds=range(3), **options):
    values = []
    for seed in seeds:
        tokens, names = make_step(seed)
        values.append(loss(tokens, **names, **options).item())
    return values


def small_loss(**options):
    return ObjectContrastiveLoss(**dict(dict(num_negatives=5, bank=dict(size=64)), **options))


def test_seed_decides_and_a_generator_overrules():
    values = run_steps(small_loss())
    state = torch.random.get_rng_state()
    assert values == run_steps(small_loss()) and min(values) > 0
    assert torch.equal(state, torch.random.get_rng_state()), 'touched the global generator'
    assert values != run_steps(small_loss(seed=1))
    first, second = (run_steps(small_loss(seed=seed), generator=torch.Generator().manual_seed(5))
                     for seed in (0, 1))
    assert first == second != values


def test_state():
    straight = small_loss()
    expected = run_steps(straight, range(6))
    stopped, resumed = small_loss(), small_loss()
    run_steps(stopped)
    state = {name: value.clone() for name, value in stopped.resume_state().items()}
    resumed.load_resume_state(state)
    assert run_steps(resumed, range(3, 6)) == expected[3:]
    for name, value in straight.resume_state().items():
        assert torch.equal(value, resumed.resume_state()[name]), name
    assert resumed.statistics() == straight.statistics()
    assert straight.statistics()['calls'] == 6 and straight.statistics()['tokens'] > 0
    large, small = small_loss(), small_loss(bank=dict(size=16))
    run_steps(large)
    small.load_resume_state(large.resume_state())
    assert torch.equal(small.bank.tokens, large.bank.tokens[-16:])
    back = small_loss()
    back.load_resume_state(small.resume_state())
    assert len(back.bank) == 16 and torch.equal(back.bank.identity[-16:], small.bank.identity)


def test_without_store_nothing_changes():
    loss = small_loss()
    run_steps(loss)
    before = {name: value.clone() for name, value in loss.resume_state().items()}
    tokens, names = make_step(2)  # the step that the bank saw last
    first, second = (loss(tokens, **names, store=False) for _ in range(2))
    assert first == second > 0
    for name, value in loss.resume_state().items():
        assert torch.equal(value, before[name]), name
    fresh = small_loss()
    assert fresh(tokens, **names, store=False) == 0 and len(fresh.bank) == 0


def two_objects(frames, same_frame_pairs=2):
    """Object 1 by expressions a and b, object 2 by c; and the same again in other frames."""
    exps = ['a', 'b'] * same_frame_pairs + ['c']
    frame_ids = [frames[i // 2 % len(frames)] for i in range(len(exps))]
    tokens = torch.eye(4)[[0, 0, 1, 1, 2][:len(exps)]]
    return tokens, dict(video_ids=['toy/v'] * len(exps), exp_ids=exps,
                        object_ids=[('1', ) if exp in 'ab' else ('2', ) for exp in exps],
                        frame_ids=frame_ids)


def test_min_tokens():
    tokens, names = two_objects(frames=[0], same_frame_pairs=1)
    for min_tokens, counts in ((1, True), (2, True), (3, False)):
        loss = ObjectContrastiveLoss(
            num_negatives=1, loss_weight=1.0, temperature=1.0, min_tokens=min_tokens)
        value = loss(tokens, **names)  # positive the same, negative at a right angle
        assert value.item() == pytest.approx(0 if not counts else math.log(1 + 1 / math.e))


@pytest.mark.parametrize('case', ['none', 'no objects', 'not valid', 'no partner', 'too few'])
def test_zero_with_a_graph_where_no_token_counts(case):
    num = 0 if case == 'none' else 4
    tokens = torch.randn(num, WIDTH, requires_grad=True)
    objects = [[] if case == 'no objects' else ['1'] if case == 'too few' else [str(i)]
               for i in range(num)]
    loss = ObjectContrastiveLoss(num_negatives=2, bank=dict(size=8))
    value = loss(tokens, ['toy/v'] * num, list('abcd')[:num], objects, [0] * num,
                 valid=[False] * num if case == 'not valid' else None)
    assert value.shape == () and value.item() == 0
    value.backward()
    assert tokens.grad.shape == (num, WIDTH) and not tokens.grad.any()
    assert len(loss.bank) == (4 if case in ('no partner', 'too few') else 0)


def test_gradients():
    tokens, names = two_objects(frames=[0])
    tokens = torch.zeros_like(tokens, requires_grad=True)
    value = ObjectContrastiveLoss(num_negatives=1, temperature=1.0, loss_weight=1.0)(
        tokens, **names)
    assert value.item() == pytest.approx(math.log(2))
    value.backward()
    assert tokens.grad.isfinite().all()


def test_only_named_data_sets():
    tokens, names = make_step(0)
    loss = small_loss(datasets=['mevis'])
    assert loss(tokens, **names) == 0 and len(loss.bank) == 0
    names['video_ids'] = [video.replace('toy', 'mevis') for video in names['video_ids']]
    assert loss(tokens, **names) > 0
    with pytest.raises(ValueError, match='<data set>/<video>.*nothing'):
        loss(tokens, **dict(names, video_ids=['nothing'] * 30))


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision(dtype):
    """Computed in float32 from the rounded tokens, under autocast too."""
    tokens, names = make_step(0, dtype=dtype)
    tokens.requires_grad_()
    expected = small_loss()(tokens.detach().float(), **names)
    for autocast in (False, True):
        loss = small_loss().to(dtype)
        tokens.grad = None
        with torch.autocast('cpu', torch.bfloat16, enabled=autocast):
            value = loss(tokens, **names)
        assert torch.equal(value, expected) and value.dtype == torch.float32
        value.backward()
        assert tokens.grad.dtype == dtype and tokens.grad.abs().max() > 0
        assert loss.bank.tokens.dtype == torch.float32


def test_inputs():
    tokens, names = make_step(0)
    valid = torch.arange(30) % 2 == 0
    one, two = small_loss(), small_loss()
    first = one(tokens, **dict(names, frame_ids=torch.tensor(names['frame_ids'])), valid=valid)
    second = two(tokens, **names, valid=valid.tolist())
    assert first == second and torch.equal(one.bank.identity, two.bank.identity)
    tokens, names = make_step(0)
    loss = small_loss()
    with pytest.raises(ValueError, match='expected 30 exp_ids.*got 29'):
        loss(tokens, **dict(names, exp_ids=names['exp_ids'][1:]))
    with pytest.raises(ValueError, match='tokens'):
        loss(tokens[0], **names)
    with pytest.raises(TypeError, match="got '12': token 3, video 'toy/"):
        loss(tokens, **dict(names, object_ids=[*names['object_ids'][:3], '12',
                                               *names['object_ids'][4:]]))
    loss(tokens, **names)
    with pytest.raises(ValueError, match='width 6'):
        loss(tokens[:, :4], **names)


@pytest.mark.parametrize(('options', 'match'), [
    (dict(temperature=0), 'temperature'), (dict(num_negatives=0), 'num_negatives'),
    (dict(min_tokens=1.5), 'min_tokens'), (dict(positives='clip'), 'positives'),
    (dict(datasets='mevis'), 'datasets'), (dict(bank=dict(size=100)), 'num_negatives=128'),
    (dict(bank=dict(size=0)), 'size'), (dict(seed=-1), 'seed')])
def test_bad_options(options, match):
    with pytest.raises(ValueError, match=match):
        ObjectContrastiveLoss(**options)


# The bank


def fill(bank, numbers, width=2):
    for number in numbers:
        bank.enqueue(torch.full((1, width), float(number)), torch.full((1, 3), number))


def test_the_bank():
    bank = TokenBank(size=4)
    assert len(bank) == 0
    fill(bank, [1, 2, 3])
    assert len(bank) == 3 and bank.identity[:, 0].tolist() == [-1, 1, 2, 3]
    fill(bank, [4, 5])
    assert bank.tokens[:, 0].tolist() == [2, 3, 4, 5] == bank.identity[:, 0].tolist()
    bank.enqueue(torch.arange(6.)[:, None].expand(6, 2), torch.arange(6)[:, None].expand(6, 3))
    assert len(bank) == 4 and bank.tokens[:, 0].tolist() == [2, 3, 4, 5]
    bank.reset()
    assert len(bank) == 0
    bank = TokenBank(size=4)
    tokens = torch.ones(1, 2, requires_grad=True)
    bank.enqueue(tokens, torch.zeros(1, 3, dtype=torch.long))
    held = bank.tokens
    with torch.no_grad():
        tokens += 1
    fill(bank, [7])
    assert not bank.tokens.requires_grad
    assert held[:, 0].tolist() == [0, 0, 0, 1] and bank.tokens[:, 0].tolist() == [0, 0, 1, 7]


def test_the_bank_and_the_weights():
    loss = small_loss()
    run_steps(loss, [0])
    assert not loss.state_dict()
    assert {name for name, _ in loss.named_buffers()} == {'tally', 'bank.tokens', 'bank.identity'}
    loss.load_state_dict({}, strict=True)
    copied = copy.deepcopy(loss)
    run_steps(loss)
    assert len(copied.bank) < len(loss.bank)
    bank = TokenBank(size=3)
    fill(bank, [1, 2])
    bank.tokens[-1, 0] = 1 / 3
    exact = bank.tokens.clone()
    bank.bfloat16().double()
    assert bank.tokens.dtype == torch.float32 and torch.equal(bank.tokens, exact)
    with torch.device('meta'):
        bank = TokenBank(size=3)
    bank.to_empty(device='cpu')
    assert len(bank) == 0
    fill(bank, [5])
    assert bank.tokens[:, 0].tolist() == [0, 0, 5]


def test_identities():
    base = token_identity('mevis/v', '1', ['3', '4'], 7)
    assert token_identity('mevis/v', '1', (4, 3), '7') == base
    assert all(0 <= number < 2 ** 63 for number in base)
    expression, objects, frame = base
    assert token_identity('mevis/v', '2', ['4', '3'], 7) == (
        token_identity('mevis/v', '2', [], 0)[0], objects, frame)
    others = [token_identity(*names) for names in [
        ('mevis/w', '1', ['3', '4'], 7), ('revos/v', '1', ['3', '4'], 7)]]
    others.append(token_identity('mevis/v', '11', ['34'], 8))
    for other in others:
        assert other[0] != expression and other[1] != objects
    # Compared between runs: printf '["a", "b"]' | b2sum -l 64, without the last bit.
    assert token_identity('a', 'b', ['c'], 'd')[0] == 7812291399151582853


# Two processes


def rows_of(step, rank, dealt):
    """A rank's share of the 24 tokens of a step, one after another or sample by sample.

    In a row the shares differ in length, and one is empty at times. Dealt out are samples of 3, 4,
    5, 3, 4, 5 tokens in turn.
    """
    if not dealt:
        cuts = [0, (0, 7, 20)[step % 3], 24]
        return list(range(cuts[rank], cuts[rank + 1])), None
    samples = [sample for sample, length in enumerate([3, 4, 5, 3, 4, 5]) for _ in range(length)]
    rows = [row for row, sample in enumerate(samples) if sample % 2 == rank]
    return rows, [samples[row] // 2 for row in rows]


def make_rank_step(step, rows, sample_ids):
    tokens, names = make_step(step, num=24)
    return tokens[rows].clone().requires_grad_(), dict(
        {k: [v[row] for row in rows] for k, v in names.items()}, sample_ids=sample_ids)


def gather_worker(rank, world_size, folder, dealt):
    distributed.init_process_group(
        'gloo', init_method=f'file://{folder}/rendezvous', rank=rank, world_size=world_size)
    loss, results = small_loss(gather=True, positives='video'), []
    for step in range(4):
        tokens, names = make_rank_step(step, *rows_of(step, rank, dealt))
        value = loss(tokens, **names)
        value.backward()
        results.append((value.detach(), tokens.grad))
    torch.save(dict(results=results, state=loss.resume_state(), statistics=loss.statistics()),
               folder / f'{rank}.pth')
    distributed.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize('dealt', [False, True])
def test_gathering_equals_one_process_with_the_whole_batch(tmp_path, dealt):
    programs.spawn(gather_worker, 2, tmp_path, dealt)
    ranks = [torch.load(tmp_path / f'{rank}.pth', weights_only=True) for rank in range(2)]
    alone = small_loss(gather=True, positives='video')
    for step in range(4):
        tokens, names = make_rank_step(step, list(range(24)), None)
        value = alone(tokens, **names)
        value.backward()
        values, grads = zip(*(rank['results'][step] for rank in ranks))
        # The processes' gradients are averaged by DDP, and so are their losses.
        torch.testing.assert_close(sum(values) / 2, value.detach(), rtol=1e-6, atol=1e-7)
        for rank, grad in enumerate(grads):
            torch.testing.assert_close(
                grad / 2, tokens.grad[rows_of(step, rank, dealt)[0]], rtol=1e-5, atol=1e-7)
        assert value > 0
    for rank in ranks:
        assert rank['statistics'] == alone.statistics()
        for name, value in alone.resume_state().items():
            assert torch.equal(rank['state'][name], value), name
