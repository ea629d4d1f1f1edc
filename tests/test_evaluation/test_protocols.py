"""The protocols' own rules, where the official evaluators' files do not reach."""

import numpy as np
import pytest

from glus_mm.evaluation.functional import boundary_accuracy, region_similarity
from glus_mm.evaluation.protocols import (
    PROTOCOLS,
    DAVISSemiProtocol,
    DAVISUnsupProtocol,
    ExpressionFrame,
    LabelFrame,
    MeViSProtocol,
    RefDAVISProtocol,
    ReVOSProtocol,
    Track,
)
from glus_mm.evaluation.protocols.object_protocol import (
    davis_statistics,
    merge_masks,
    object_and_annotation,
)


def official_statistics(values):
    """davis2017-evaluation's ``db_statistics`` in its own words; its ids are uint8."""
    values = np.array(values)
    ids = (np.round(np.linspace(1, len(values), 5) + 1e-10) - 1).astype(np.uint8)
    bins = [values[ids[i]:ids[i + 1] + 1] for i in range(4)]
    return (np.nanmean(values), np.nanmean(values > 0.5),
            np.nanmean(bins[0]) - np.nanmean(bins[3]))


@pytest.mark.parametrize('length', [1, 2, 3, 4, 5, 17, 40, 69, 254, 255])
def test_statistics_equal_the_official_ones(length):
    values = np.random.default_rng(length).random(length).tolist()
    assert davis_statistics(values) == official_statistics(values)


def test_statistics_of_long_videos():
    """The official indices wrap at 256, which gives NaN; these do not."""
    values = [1.0] * 150 + [0.25] * 150
    assert davis_statistics(values) == (0.625, 0.5, 0.75)
    with pytest.raises(ValueError, match='at least one frame'):
        davis_statistics([])
    assert davis_statistics([0.5, 0.5, 0.6, 0.4])[1] == 0.25


def labels(*boxes, size=(20, 30)):
    """A label map of boxes (number, rows, columns)."""
    result = np.zeros(size, np.uint8)
    for number, rows, columns in boxes:
        result[slice(*rows), slice(*columns)] = number
    return result


ONE, TWO = (1, (2, 8), (2, 10)), (2, (10, 18), (15, 28))


def test_matching():
    gt = labels(ONE, TWO)
    pred = labels((20, *TWO[1:]), (7, *ONE[1:]))
    first, second = DAVISUnsupProtocol().score([LabelFrame(gt, pred)] * 3, 2)
    assert first.values == second.values == {'J': [1.0] * 3, 'F': [1.0] * 3}
    # In the order of the proposals, as the official results are.
    assert (first.number, first.notes) == (1, {'object': 1, 'proposal': 7})
    assert (second.number, second.notes) == (2, {'object': 2, 'proposal': 20})
    # Numbers that swap on the way cost: a proposal stays with its object.
    gt = labels(ONE, TWO)
    swapped = labels((2, *ONE[1:]), (1, *TWO[1:]))
    scores = DAVISUnsupProtocol().score([LabelFrame(gt, gt), LabelFrame(gt, gt),
                                         LabelFrame(gt, swapped)], 2)
    assert [score.values['J'] for score in scores] == [[1, 1, 0], [1, 1, 0]]
    gt, nothing = labels(ONE), labels()
    score, = DAVISUnsupProtocol().score([LabelFrame(gt, nothing), LabelFrame(nothing, nothing)], 1)
    assert score.values == {'J': [0, 1], 'F': [0, 1]}


def test_davis():
    gt = labels(ONE, (255, (8, 12), (2, 10)))
    pred = labels((1, (2, 12), (2, 10)))
    score, = DAVISUnsupProtocol().score([LabelFrame(gt, pred)], 1)
    assert score.values == {'J': [1], 'F': [1]}
    # Semi-supervised, it is background.
    score, = DAVISSemiProtocol().score([LabelFrame(gt, pred)], 1)
    assert score.values['J'] == [6 / 10]
    gt = labels(ONE, (255, *TWO[1:]))
    pred = labels(ONE, (5, *TWO[1:]))
    score, = DAVISUnsupProtocol().score([LabelFrame(gt, pred)], 1)
    assert score.notes == {'object': 1, 'proposal': 1}
    track = Track('d', 'v', '1', {'J': [1.0], 'F': [1.0]})
    with pytest.raises(ValueError, match='anno_0, .*got'):
        RefDAVISProtocol().summarise([track])
    masks = [(number, labels((1, *rows)) > 0) for number, rows in
             ((2, ((0, 4), (0, 4))), (1, ((2, 6), (2, 6))), (3, ((3, 9), (3, 9))))]
    merged = merge_masks(masks, (20, 30))
    assert merged[0, 0] == 2 and merged[2, 2] == 1 and merged[4, 4] == 1 and merged[8, 8] == 3
    assert (merged > 0).sum() == 16 + 12 + 27


def test_frames_and_places():
    assert list(DAVISSemiProtocol().frames_to_score(5)) == [1, 2, 3]
    assert list(DAVISSemiProtocol().frames_to_score(2)) == []
    assert list(DAVISUnsupProtocol().frames_to_score(3)) == [0, 1, 2]
    assert DAVISSemiProtocol().max_label(3) == 3
    assert DAVISUnsupProtocol().max_label(3) == 20
    assert [object_and_annotation(str(i), '') for i in (0, 3, 4, 11)] == [
        (1, 0), (1, 3), (2, 0), (3, 3)]
    for exp_id in ('', 'a', '-1', '1.0', '٣', '123456'):
        with pytest.raises(ValueError, match="video 'v': expected .*4 \\* object"):
            object_and_annotation(exp_id, "video 'v'")


def plain_a_and_r(gt, pred, foreground):
    """In the words of the official script, on bytes."""
    accuracy = float(np.mean(gt == pred))
    return accuracy, max(1 - np.sum((1 - gt) * pred) / (np.sum(foreground) + 1e-6), 0)


@pytest.mark.parametrize('seed', range(5))
def test_a_and_r(seed):
    rng = np.random.default_rng(seed)
    gt = rng.integers(0, 3, (9, 14)).astype(np.uint8)
    pred = (rng.random((9, 14)) < 0.3).astype(np.uint8) * np.uint8(255)
    foreground = (gt > 0) | (rng.random((9, 14)) < 0.2)
    found = ReVOSProtocol((255, 1)).measure(ExpressionFrame(gt, pred, int(foreground.sum())))
    assert found == {
        'J': region_similarity(gt, pred), 'F': boundary_accuracy(gt, pred),
        **dict(zip(('A_255', 'R_255'), plain_a_and_r(gt, pred, foreground))),
        **dict(zip(('A_1', 'R_1'), plain_a_and_r(gt, pred // 255, foreground)))}


def expression(exp_id, kind, values, has_target=True):
    return Track('revos', 'v', exp_id, {name: [value] for name, value in zip('JFAR', values)},
                 kind, has_target)


def test_rounding_of_revos():
    tracks = [expression('0', 'referring', (0.123449, 0.5, 0.9, 1)),
              expression('1', 'referring', (0.123451, 0.5, 0.9, 1)),
              expression('2', 'reason', (1 / 3, 0, 1, 0)),
              expression('3', 'hallucination', (1, 1, 1, 1), has_target=False)]
    summary = ReVOSProtocol().summarise(tracks)
    assert summary.parts['referring']['J'] == pytest.approx((0.1234 + 0.1235) / 2, abs=1e-12)
    assert summary.parts['reason']['J'] == pytest.approx(0.3333, abs=1e-12)
    assert summary.dataset['J'] == pytest.approx((0.12345 + 0.3333) / 2, abs=1e-12)
    assert summary.dataset['expressions'] == 3
    assert summary.dataset['hallucination_expressions'] == 1
    document = ReVOSProtocol().document(tracks, summary)
    assert document['per_expression']['v_2']['J'] == 1 / 3, 'not rounded'
    assert document['dataset']['reason']['expressions'] == 1
    protocol = ReVOSProtocol()
    summary = protocol.summarise([expression('0', 'reason', (1, 1, 1, 1))])
    assert summary.dataset == {} and set(summary.parts) == {'reason'}
    assert 'reason' in protocol.table(summary)
    with pytest.raises(ValueError, match='255, 1 or both'):
        ReVOSProtocol((2, ))


def test_names_and_nothing():
    assert set(PROTOCOLS) == {'mevis', 'revos', 'ref-davis', 'ref-davis-glus', 'reason-vos',
                              'davis-semi', 'davis-unsup', 'long-rvos', 'groundmore',
                              'ref-sav', 'mose-v2'}
    for protocol in (MeViSProtocol(), DAVISSemiProtocol(), RefDAVISProtocol(), ReVOSProtocol()):
        summary = protocol.summarise([])
        assert summary.dataset == {} and not summary.parts
        assert isinstance(protocol.table(summary), str)
