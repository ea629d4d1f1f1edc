"""A resumed run sees the samples that an uninterrupted one would have seen, and loads no others."""

import pytest
import torch
from mmengine import Config
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, MODELS
from mmengine.runner import Runner, loops
from torch import nn
from torch.utils.data import ConcatDataset

import programs
import toys

SEEN = []
LOADED = []
# onedl-mmengine's loop asks the sampler for the indices only, where there are no workers.
LOADS_SKIPPED = not hasattr(loops._InfiniteDataloaderIterator, 'skip_iter')
MIXED = dict(type='glus_mm.MixedVideoSampler', ratios=[1, 2], seed=4)


@DATASETS.register_module()
class ResumeToySet(ConcatDataset):

    def __init__(self, part_size: int = 7):
        super().__init__([range(part_size), range(part_size)])

    def __getitem__(self, idx):
        LOADED.append(idx)
        return dict(inputs=torch.tensor(idx, dtype=torch.float32), data_samples=0)


@MODELS.register_module()
class ResumeToyModel(BaseModel):

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(2, 1)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        SEEN.extend(tuple(int(value) for value in item) for item in inputs)
        return dict(loss=self.fc(inputs / 10).square().mean())


@pytest.fixture(autouse=True)
def clean():
    SEEN.clear()
    LOADED.clear()


def train(folder, max_iters, resume=None, sampler=MIXED, hook=True, part_size=7, **loader):
    """Train; return the samples that the model saw and those that were loaded."""
    runner = toys.make_runner(
        folder, dict(type='ResumeToyModel'), dict(type='ResumeToySet', part_size=part_size),
        default_scope='glus_mm', train_dataloader=dict(
            sampler=dict(sampler, _delete_=True), **loader),
        train_cfg=dict(max_iters=max_iters), default_hooks=dict(checkpoint=dict(interval=5)),
        custom_hooks=[dict(type='ResumeSamplerHook')] if hook else None, log_level='INFO',
        resume=resume is not None, load_from=resume and str(resume))
    runner.train()
    # Ends its workers at once; the garbage collector would wait for each of them.
    runner.train_loop.dataloader_iterator = runner.train_loop.dataloader._iterator = None
    result = list(SEEN), list(LOADED)
    SEEN.clear()
    LOADED.clear()
    return result


def log_of(folder):
    """The latest log, on one line."""
    path = max(folder.rglob('*.log'), key=lambda file: file.stat().st_mtime_ns)
    return ' '.join(path.read_text().split())


@pytest.mark.parametrize('sampler', [MIXED, dict(type='InfiniteVideoSampler', seed=4),
                                     dict(type='InfiniteVideoSampler', shuffle=False)])
def test_resumed_run_sees_the_same_samples(tmp_path, sampler):
    whole, loaded = train(tmp_path / 'whole', 12, sampler=sampler)
    assert whole == loaded and len(whole) == 24
    train(tmp_path / 'part', 5, sampler=sampler)
    part, loaded = train(tmp_path / 'part', 12, tmp_path / 'part' / 'iter_5.pth', sampler)
    assert part == loaded == whole[10:], 'other samples, or the skipped ones were loaded'
    log = log_of(tmp_path / 'part')
    assert 'goes on at sample 10' in log
    assert 'uninterrupted' not in log and 'mean something else' not in log
    last = [torch.load(tmp_path / name / 'iter_12.pth', weights_only=True)['state_dict']
            for name in ('whole', 'part')]
    assert all(torch.equal(last[0][key], last[1][key]) for key in last[0])


@pytest.mark.parametrize('workers', [1, 2])
@pytest.mark.parametrize('persistent', [False, True])
def test_with_workers(tmp_path, workers, persistent):
    whole, _ = train(tmp_path / 'whole', 9)
    train(tmp_path / 'part', 5)
    part, loaded = train(tmp_path / 'part', 9, tmp_path / 'part' / 'iter_5.pth',
                         num_workers=workers, persistent_workers=persistent)
    assert part == whole[10:] and loaded == [], 'loaded in the main process'


def test_another_batch_size_goes_on_with_the_next_sample(tmp_path):
    whole, _ = train(tmp_path / 'whole', 40)
    train(tmp_path / 'part', 5)
    seen, _ = train(tmp_path / 'part', 10, tmp_path / 'part' / 'iter_5.pth', batch_size=3)
    assert seen == whole[10:25]
    assert '1 x 2 samples (processes x batch_size) when the checkpoint was written, and has ' \
        '1 x 3 now' in log_of(tmp_path / 'part')
    seen, _ = train(tmp_path / 'part', 12, tmp_path / 'part' / 'iter_10.pth', batch_size=1)
    assert seen == whole[25:27]


def test_the_seed_of_the_checkpoint_goes_on(tmp_path):
    """A run without a seed has drawn one, and resumes with it."""
    whole, _ = train(tmp_path / 'whole', 12)
    train(tmp_path / 'part', 5)
    seen, _ = train(tmp_path / 'part', 12, tmp_path / 'part' / 'iter_5.pth',
                    sampler=dict(MIXED, seed=9))
    assert seen == whole[10:]
    assert 'seed of the checkpoint, 4, instead of 9' in log_of(tmp_path / 'part')


@pytest.mark.parametrize('change, message', [
    (dict(part_size=8), 'size'), (dict(sampler=dict(MIXED, ratios=[1, 3])), 'ratios'),
    (dict(sampler=dict(type='InfiniteVideoSampler', seed=4)), 'type')])
def test_changed_data_are_warned_of(tmp_path, change, message):
    train(tmp_path / 'part', 5)
    train(tmp_path / 'part', 6, tmp_path / 'part' / 'iter_5.pth', **change)
    log = log_of(tmp_path / 'part')
    warning = log[log.index('not those of an uninterrupted run'):]
    assert f"'{message}': '" in warning


def test_checkpoint_from_without_the_hook(tmp_path):
    whole, _ = train(tmp_path / 'part', 5, hook=False)
    seen, loaded = train(tmp_path / 'part', 7, tmp_path / 'part' / 'iter_5.pth')
    assert seen == loaded == train(tmp_path / 'whole', 7)[0][10:]
    logs = ' '.join(' '.join(path.read_text().split())
                    for path in (tmp_path / 'part').rglob('*.log'))
    assert 'assumed 1 processes of 2 samples per iteration' in logs


def test_loading_weights_is_not_resuming(tmp_path):
    """load_from alone starts with the first sample."""
    whole, _ = train(tmp_path / 'whole', 5)
    cfg = Config.fromfile(next((tmp_path / 'whole').rglob('config.py')))
    cfg.merge_from_dict(dict(load_from=str(tmp_path / 'whole' / 'iter_5.pth'),
                             work_dir=str(tmp_path / 'next')))
    programs.forget_runs()
    Runner.from_cfg(cfg).train()
    assert SEEN == whole


def test_other_samplers_are_left_alone(tmp_path):
    other = dict(type='InfiniteSampler', shuffle=True, seed=1)
    cfg = dict(sampler=other, dataset=dict(type='ResumeToyPlainSet', _delete_=True))
    whole, _ = train(tmp_path / 'whole', 12, **cfg)
    train(tmp_path / 'part', 5, **cfg)
    part, loaded = train(tmp_path / 'part', 12, tmp_path / 'part' / 'iter_5.pth', **cfg)
    assert part == whole[10:] and len(loaded) == (24 if LOADS_SKIPPED else 14)


@DATASETS.register_module()
class ResumeToyPlainSet(ResumeToySet):

    def __getitem__(self, idx):
        return super().__getitem__((idx, 0))
