"""dev/count_positives.py: counted by hand, and what it refuses."""

import json

import pytest
from mmengine import Config
from mmengine.registry import DefaultScope

import programs
from programs import ROOT

TOOL = ROOT / 'dev' / 'count_positives.py'
# Objects of the expressions of each video: in the first and last one two mean the same.
VIDEOS = {'a': [['1'], ['1']], 'b': [['1'], ['2']], 'c': [[], []], 'd': [['2', '1'], ['1', '2']]}
CONFIG = '''
default_scope = 'glus_mm'
model = dict(type='GLUS', loss_contrastive=dict(
    type='ObjectContrastiveLoss', num_negatives=1, bank=dict(size={bank}), min_tokens=1,
    positives='video', gather={gather}))
train_dataloader = dict(
    batch_size={batch}, num_workers=2,
    sampler=dict(type='InfiniteVideoSampler', shuffle=False),
    dataset=dict(type='MeViSDataset', data_root='{root}', pipeline=[
        dict(type='SampleContextQueryFrames', num_context=0, num_query=1, num_expressions=2),
        dict(type='LoadRefVOSFrames'),
        dict(type='BuildConversation', tokenizer='load_from', template='llava_v1')]))
'''
# A tool of the maintainers.
pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def tool():
    module = programs.load(TOOL)
    with DefaultScope.overwrite_default_scope('glus_mm'):
        yield module


@pytest.fixture
def config(tmp_path):
    """Write a config; the data set has no images."""
    meta = {'videos': {video: {
        'vid_id': number, 'height': 8, 'width': 8, 'frames': ['00000'],
        'expressions': {str(e): {'exp': f'thing {e}', 'obj_id': [int(o) for o in objects],
                                 'anno_id': [10 * number + int(o) for o in objects]}
                        for e, objects in enumerate(expressions)}}
        for number, (video, expressions) in enumerate(VIDEOS.items())}}
    (tmp_path / 'meta_expressions.json').write_text(json.dumps(meta))
    (tmp_path / 'mask_dict.json').write_text(json.dumps(
        {str(10 * number + o): [None] for number in range(4) for o in (1, 2)}))

    def write(batch=1, bank=100, gather=False, extra=''):
        path = tmp_path / 'config.py'
        path.write_text(
            CONFIG.format(root=tmp_path, batch=batch, bank=bank, gather=gather) + extra)
        return str(path)

    return write


def numbers(counts):
    return [dict(own.batches) for own in counts]


def test_counted_by_hand(tool, config):
    """Batches a, b, c, d. In d the tokens of a and b are negatives."""
    counts, = tool.count(Config.fromfile(config()), batches=4, processes=1)
    assert dict(counts.batches) == dict(
        all=4, part=3, within=2, positive=2, negatives=2, counting=1)
    assert counts.tally == dict(calls=4, with_positives=2, with_negatives=2, tokens=2)
    # One expression of a video at a time: the other one comes from an earlier batch.
    cfg = Config.fromfile(config())
    cfg.train_dataloader.dataset.pipeline[0].num_expressions = 1
    counts, = tool.count(cfg, batches=80, processes=1)
    assert counts.batches['within'] == 0 and counts.batches['part'] == 60
    assert 0 < counts.batches['positive'] <= 40
    assert counts.tally['with_positives'] == counts.batches['positive']
    # Of two processes the first has a and c, the second b and d.
    counts = tool.count(Config.fromfile(config()), batches=2, processes=2)
    assert numbers(counts) == [
        dict(all=2, part=1, within=1, positive=1, negatives=0, counting=0),
        dict(all=2, part=2, within=1, positive=1, negatives=2, counting=1)]
    counts = tool.count(Config.fromfile(config(gather=True)), batches=1, processes=4)
    assert numbers(counts) == [
        dict(all=1, part=1, within=1, positive=1, negatives=1, counting=1)]
    assert counts[0].tally['tokens'] == 4
    alone = tool.count(Config.fromfile(config(batch=4)), batches=1, processes=1)
    assert counts[0].tally == alone[0].tally


def test_report(tool, config, capsys):
    tool.main([config(), '--batches', '4', '--cfg-options',
               'model.loss_contrastive.datasets=["others"]'])
    line = capsys.readouterr().out.splitlines()[2]
    assert line.split() == 'with an expression that takes part 0 0.0 % -'.split()
    tool.main([config(), '--batches', '4'])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == '4 batches of 1 videos' and lines[-1].endswith(': 0.5')
    table = {line[:38].strip(): line[38:].split() for line in lines[2:]}
    assert table['where the loss is not 0'] == ['1', '25.0', '%', '33.3', '%']
    tool.main([config(), '--batches', '4', '--cfg-options', 'model.loss_contrastive=None'])
    assert 'trains without a contrastive loss' in capsys.readouterr().out


BAD = [
    (['--batches', '0'], '', '--batches must be at least 1, got 0'),
    ([], 'train_dataloader = None', 'expected train_dataloader, got none'),
    ([], 'model = dict(loss_contrastive=dict(type="MaskBCELoss"))',
     'expected an ObjectContrastiveLoss, got MaskBCELoss'),
    ([], 'train_dataloader["dataset"]["pipeline"] = []', 'does not choose query frames'),
    ([], 'train_dataloader.update(batch_size=9, sampler=dict(type="DefaultSampler"))',
     'expected at least 9 training samples, got fewer'),
]


@pytest.mark.parametrize(('options', 'extra', 'expected'), BAD)
def test_refused(tool, config, capsys, options, extra, expected):
    with pytest.raises(SystemExit) as error:
        tool.main([config(extra=extra), *options])
    assert error.value.code == 2 and expected in capsys.readouterr().err
    with pytest.raises(SystemExit):
        tool.main(['missing.py'])
    assert 'expected a config file, got nothing there' in capsys.readouterr().err
