"""A sample of dev/fuzz.py: nothing that people hand over fails raw, passes changed, or hangs."""

import pytest

import programs
from programs import ROOT

SCRIPT = ROOT / 'dev' / 'fuzz.py'
# A tool of the maintainers.
pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def fuzz():
    return programs.load(SCRIPT)


KINDS = ('annotations', 'rle', 'frames', 'png_masks', 'checkpoints', 'key_frames', 'list_lines',
         'long_rvos', 'ref_sav', 'groundmore', 'mose', 'refcoco', 'coco', 'reason_seg', 'talk',
         'hub', 'clicks', 'figures', 'records', 'config_typos')


def test_every_kind_is_sampled(fuzz):
    assert set(fuzz.KINDS) == set(KINDS)


@pytest.mark.parametrize('kind', KINDS)
def test_sample(fuzz, kind):
    found = [(case.what, outcome, text) for case, outcome, text in fuzz.fuzz(8, 1, [kind])]
    assert len(found) == 8
    assert not [item for item in found if item[1] in fuzz.FAULTS]


def test_faults_are_seen(fuzz):
    """The harness itself: each class, from a case that has it."""
    def fail(folder):
        raise ValueError('no place in it')

    def wait(folder):
        import time
        time.sleep(60)

    def crash(folder):
        import os
        os._exit(3)

    sound = fuzz.attempt(lambda folder: 1, 30)
    assert sound[0] == 'result'
    for run, reason, expected in (
            (lambda folder: 1, None, 'harmless'), (lambda folder: 2, None, 'silent'),
            (lambda folder: 2, 'why', 'harmless'), (fail, None, 'raw'), (crash, None, 'raw'),
            (lambda folder: next(iter(())), None, 'raw'), (wait, None, 'hang')):
        case = fuzz.Case('kind', 'what', run, ('file.json', ), reason)
        assert fuzz.classify(case, sound[1], 1 if run is wait else 60)[0] == expected
    named = fuzz.Case('kind', 'what', fail, ('place', ))
    assert fuzz.classify(named, sound[1])[0] == 'refusal'
