"""Clicks beside texts: what they change, what they leave alone, undo, files, bad input."""

import json
import re

import cv2
import numpy as np
import pytest

from glus_mm.apis import GLUSInferencer, init_model
from glus_mm.apis.result_files import mask_path
from glus_mm.datasets.moving_shapes import generate_video

TEXTS = ['the orange triangle', 'the circle that is yellow']
KEY = 3


@pytest.fixture(scope='module')
def model():
    return init_model('glus_tiny_moving-shapes')


@pytest.fixture(scope='module')
def video():
    return list(generate_video(777, 'valid_u', 46).frames)[:9]


@pytest.fixture(scope='module')
def untouched(model, video):
    return GLUSInferencer(model).session(video, TEXTS, key_frames=[KEY, 0])


@pytest.fixture
def session(model, video):
    return GLUSInferencer(model).session(video, TEXTS, key_frames=[KEY, 0])


def tracks(session):
    return [[session.out['masks'][e][t] for t in range(9)] for e in range(len(TEXTS))]


def differ(before, after):
    return [t for t in range(9) if not np.array_equal(before[t], after[t])]


def test_first_masks_are_those_of_the_call_and_stay(model, video, session):
    out = GLUSInferencer(model)(video, TEXTS, key_frames=[KEY, 0])
    for e, track in enumerate(tracks(session)):
        assert not differ([out['masks'][e][t] for t in range(9)], track)
    assert np.array_equal(out['is_seg'], session.out['is_seg'])
    # The pass that runs on what the language model said gives the masks of the first one.
    before = tracks(session)
    for frame in (0, KEY, 8):
        session._propagate(0, frame)
    assert not any(map(differ, before, tracks(session)))


@pytest.mark.parametrize(('frame', 'changed'), [
    (5, range(5, 9)), (1, range(0, 2)), (KEY, range(9))])
def test_propagation_goes_on_from_the_clicked_frame(session, frame, changed):
    """Away from the key frame; frames before it, and other expressions, keep their masks."""
    before = tracks(session)
    made = session.refine(TEXTS[0], frame, [(4, 4)], [1])
    assert made == list(changed)
    after = tracks(session)
    assert frame in differ(before[0], after[0]), 'the click is heard'
    assert set(differ(before[0], after[0])) <= set(changed)
    assert not differ(before[1], after[1])
    assert session.out['clicks'] == {
        0: [dict(frame=frame, points=[[4, 4]], labels=[1], box=None)], 1: []}


def test_undo_restores_what_was_before(session):
    states = [tracks(session)]
    for frame, expression in ((5, 0), (4, 1), (6, 0)):
        session.refine(expression, frame, [(4, 4)])
        states.append(tracks(session))
    session.undo(0)
    assert not any(map(differ, tracks(session), states[2]))
    session.undo()
    session.undo()
    assert not any(map(differ, tracks(session), states[0]))
    assert not any(session.out['clicks'].values())
    with pytest.raises(ValueError, match='no refinement to undo'):
        session.undo()
    with pytest.raises(ValueError, match="no refinement of 'the orange triangle' to undo"):
        session.undo(TEXTS[0])


def test_clicks_stand_in_the_files(session, tmp_path):
    session.refine(1, 4, [(4, 4), (9, 2)], [1, 0], box=(1, 1, 20, 20))
    session.save(tmp_path)
    document = json.loads((tmp_path / 'video' / 'results.json').read_text())
    assert document['texts'][0]['clicks'] == []
    assert document['texts'][1]['clicks'] == [
        dict(frame=4, points=[[4, 4], [9, 2]], labels=[1, 0], box=[1, 1, 20, 20])]
    name = document['video']['frames'][4]
    written = cv2.imread(str(mask_path(tmp_path, 'video', 1, name)), cv2.IMREAD_GRAYSCALE)
    assert np.array_equal(written > 0, session.out['masks'][1][4])


@pytest.mark.parametrize(('call', 'message'), [
    (dict(expression='the star'), "one of the texts ['the orange triangle', 'the circle that is "
                                  "yellow'] or its number from 0 to 1, got 'the star'"),
    (dict(expression=2), 'got 2'), (dict(frame=9), 'a frame from 0 to 8, got 9'),
    (dict(points=[(900, 3)]), 'inside of the frame, x below '),
    (dict(points=[(3, -1)]), 'got (3, -1)'), (dict(points=[(float('nan'), 1)]), 'got (nan, 1)'),
    (dict(labels=[2]), '1 on the object or 0 off it, got [2]'),
    (dict(labels=[1, 1]), 'for each of 1 points a label'), (dict(points=[]), 'a point or a box'),
    *[(dict(points=points), 'expected points as pairs (x, y), got') for points in (
        None, 3, 'text', [3, 3], [(1, 2, 3)], [('1', '2')], [(True, 1)], [None])],
    *[(dict(box=box), 'expected a box (x0, y0, x1, y1), got') for box in (3, (1, 2), 'abcd')],
    (dict(points=[(10**400, 1)]), 'inside of the frame'), (dict(labels=['1']), 'a label, 1 on'),
    (dict(expression=True), 'one of the texts'), (dict(frame=True), 'a frame from 0 to 8'),
    (dict(box=(5, 5, 5, 9)), 'x0 < x1 and y0 < y1, got (5, 5, 5, 9)')])
def test_bad_input_changes_nothing(untouched, call, message):
    before = tracks(untouched)
    with pytest.raises(ValueError, match=re.escape(message)):
        untouched.refine(**dict(dict(expression=0, frame=4, points=[(3, 3)]), **call))
    assert not any(map(differ, before, tracks(untouched)))
    assert not any(untouched.out['clicks'].values())


def test_other_propagators_take_no_clicks(video):
    model = init_model('glus_tiny_moving-shapes', cfg_options={
        'model.test_cfg.propagator': dict(type='OneTokenPropagator')})
    with pytest.raises(ValueError, match='test_cfg.propagator=None .*OneTokenPropagator'):
        GLUSInferencer(model).session(video, TEXTS)
