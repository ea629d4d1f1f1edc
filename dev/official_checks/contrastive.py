"""The contrastive loss: on its own, and in a step of training."""

import random
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from glus_mm.models import ObjectContrastiveLoss
from official_checks.fixture import OfficialFixture
from official_checks.report import Report

TOLERANCE = 1e-5
ANNOTATION = 'train/mevis/train/meta_expressions.json'
DATASET = 'mevis'


class OfficialDraws(ObjectContrastiveLoss):
    """Draws with Python's global ``random`` in the official order, and remembers what it drew.

    Attributes:
        negatives: positions of all tokens that counted since they were last cleared.
        positives: likewise, one per token.
    """

    def __init__(self, loss_weight: float) -> None:
        super().__init__(loss_weight=loss_weight, datasets=[DATASET])
        self.negatives: list[list[int]] = []
        self.positives: list[int] = []

    def draw(self, num_negatives: Tensor, num_positives: Tensor, generator: torch.Generator
             ) -> tuple[Tensor, Tensor]:
        """Draw token by token, its negatives before its positive."""
        negatives, positives = [], []
        for available, matching in zip(num_negatives.tolist(), num_positives.tolist()):
            negatives.append([random.randint(0, available - 1)
                              for _ in range(self.num_negatives)])
            positives.append(random.choice(range(matching)))
        self.negatives += negatives
        self.positives += positives
        return torch.tensor(negatives), torch.tensor(positives)


class Identities:
    """Identify tokens of the recorded names as GLUS does: frames by their positions.

    Args:
        fixture: its data set says which objects an expression refers to.
    """

    def __init__(self, fixture: OfficialFixture) -> None:
        self.videos = fixture.json(ANNOTATION)['videos']

    def columns(self, rows: Sequence[tuple[str, str, str, str]]) -> dict[str, list]:
        """Keyword arguments of the loss for rows (data set, video, expression, frame).

        Videos that the data set does not know are only there to be negatives.
        """
        columns: dict[str, list] = dict(video_ids=[], exp_ids=[], object_ids=[], frame_ids=[])
        for dataset, video, exp, frame in rows:
            known = self.videos.get(video, dict(frames=[], expressions={}))
            expression = known['expressions'].get(exp, dict(obj_id=[0]))
            columns['video_ids'].append(f'{dataset}/{video}')
            columns['exp_ids'].append(exp)
            columns['object_ids'].append(expression['obj_id'])
            columns['frame_ids'].append(
                known['frames'].index(frame) if frame in known['frames'] else frame)
        return columns


def filled_loss(fixture: OfficialFixture, report: Report, loss_weight: float) -> OfficialDraws:
    """The loss with the recorded content of its bank."""
    official = fixture.json('train/expected.json')['contrastive']
    tokens = torch.from_numpy(fixture.arrays('train/contrastive.npz')['prefill_tokens'])
    # An id is <data set>_<video>_<expression>.
    rows = [(*str_id.split('_', 2), frame) for str_id, frame in official['prefill']]
    loss = OfficialDraws(loss_weight)
    loss(tokens, **Identities(fixture).columns(rows))
    report.same('tokens in the bank', len(loss.bank), official['bank_size_after_prefill'])
    forget(loss)
    return loss


def forget(loss: OfficialDraws) -> None:
    """Clear what the loss remembers of its draws."""
    loss.negatives.clear()
    loss.positives.clear()


def check_draws(report: Report, loss: OfficialDraws, calls: Sequence[Mapping]) -> None:
    """Compare the positions that were drawn with those of the official calls that had a loss."""
    counting = [call for call in calls if call['loss'] is not None]
    report.same('tokens that count', len(loss.positives), len(counting))
    report.same('negatives that are drawn', loss.negatives, [call['neg'] for call in counting])
    report.same('positives that are drawn', loss.positives, [call['pos'] for call in counting])


def check_units(fixture: OfficialFixture, report: Report) -> None:
    """Single tokens against the recorded bank: loss and gradient."""
    official = fixture.json('train/expected.json')['contrastive']
    arrays = fixture.arrays('train/contrastive.npz')
    loss, identities = filled_loss(fixture, report, loss_weight=1.0), Identities(fixture)
    loss.min_tokens = 1
    for row, unit in enumerate(official['unit']):
        forget(loss)
        random.seed(unit['seed'])
        token = torch.tensor(arrays['query_tokens'][unit['token_row']][None], requires_grad=True)
        name = (unit['dataset'], unit['video'], unit['exp_id'], unit['frame_id'])
        value = loss(token, **identities.columns([name]), store=False)
        check_draws(report, loss, [unit])
        value.backward()
        if unit['loss'] is not None:
            report.close('losses of single tokens', value.item(), unit['loss'], TOLERANCE)
        else:
            report.same('losses of tokens that do not count', value.item(), 0.0)
        report.close('gradients of single tokens', token.grad[0], arrays['unit_grads'][row],
                     TOLERANCE)


def check_in_step(report: Report, loss: OfficialDraws, value: Tensor, official: Mapping) -> None:
    """The loss of a batch, after the tokens of the batch went into the bank."""
    check_draws(report, loss, official['calls'])
    report.same('tokens in the bank', len(loss.bank), official['bank_size_after'])
    report.relative('contrastive loss', value.item(), official['losses']['contrastive_loss'],
                    TOLERANCE)
