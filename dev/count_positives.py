"""Prints how many training batches have a positive pair for the contrastive loss.

It takes the samples that the config's sampler gives, in its order, chooses their frames and
expressions as the config's pipeline does, and hands what they refer to to the config's own
``ObjectContrastiveLoss``, with its bank. Neither the model nor the frames are needed. The paper
counts about 91.5 % for MeViS.

Example:
    python dev/count_positives.py configs/glus/glus_tiny_moving-shapes.py \\
        --batches 1000 --processes 4
"""

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import torch
from mmengine import Config
from mmengine.registry import init_default_scope
from tqdm import tqdm

from glus_mm.models import ObjectContrastiveLoss
from glus_mm.models.segmentors.batch import token_identities
from glus_mm.registry import DATA_SAMPLERS, DATASETS, MODELS, build_child
from glus_mm.structures import RefVOSDataSample
from glus_mm.utils.command_line import read_config, refuse
from glus_mm.utils.config_input import ConfigOptions

# The first of a pipeline that opens a file; what a sample refers to has been chosen before it.
READERS = ('LoadRefVOSFrames', 'LoadRefVOSMasks', 'OpenFrameReader', 'LoadRefVOSGroundTruth')
# Need files of large weights, or frames.
ENCODERS = ('ResizeForEncoders', 'BuildConversation', 'PackRefVOSInputs')


@dataclass
class Counts:
    """What was counted in one process.

    Attributes:
        tally: the loss's own statistics.
        batches: number of batches, by property.
    """

    tally: dict[str, int] = field(default_factory=dict)
    batches: Counter = field(default_factory=Counter)


def cut_pipelines(dataset: dict) -> None:
    """Keep what chooses frames and expressions, in a data set or in all of a mix."""
    for child in dataset.get('datasets', ()):
        cut_pipelines(child)
    if 'pipeline' in dataset:
        names = [str(item['type']).split('.')[-1] for item in dataset['pipeline']]
        end = next((i for i, name in enumerate(names) if name in READERS + ENCODERS), len(names))
        dataset['pipeline'] = dataset['pipeline'][:end]


def build_loss(cfg: Config) -> ObjectContrastiveLoss:
    """The config's contrastive loss, or that of the paper where it has none.

    Raises:
        TypeError: it is another kind of loss.
    """
    loss = (cfg.get('model') or {}).get('loss_contrastive') or dict(type='ObjectContrastiveLoss')
    built = build_child(MODELS, dict(loss))
    if not isinstance(built, ObjectContrastiveLoss):
        raise TypeError(f'model.loss_contrastive: expected an ObjectContrastiveLoss, got '
                        f'{type(built).__name__}')
    return built


def iter_samples(cfg: Config) -> Iterator[list[RefVOSDataSample]]:
    """The samples of a config's training in the order of all processes, one by one.

    Yields:
        Data samples that know what they refer to, and nothing else.

    Raises:
        ValueError: the pipeline does not choose query frames.
    """
    loader = cfg.train_dataloader
    cut_pipelines(loader.dataset)
    dataset = build_child(DATASETS, loader.dataset)
    seed = cfg.get('randomness', {}).get('seed') or 0
    sampler = build_child(DATA_SAMPLERS, loader.sampler, dataset=dataset, seed=seed)
    for item in sampler:
        results = dataset[item]
        if 'query_frame_ids' not in results:
            raise ValueError(f'{cfg.filename}: expected a training pipeline that begins with '
                             'SampleContextQueryFrames, got one that does not choose query frames')
        expressions = results['expressions']
        yield RefVOSDataSample(metainfo=dict(
            dataset=results['dataset'], video_id=results['video_id'],
            exp_ids=tuple(item['exp_id'] for item in expressions),
            object_ids=tuple(tuple(item['object_ids']) for item in expressions),
            query_frame_ids=list(results['query_frame_ids'])))


def call(loss: ObjectContrastiveLoss, samples: Sequence[RefVOSDataSample]) -> dict[str, int]:
    """Give a batch to a loss; returns what its statistics have gained."""
    before = loss.statistics()
    identities = token_identities(samples)
    loss(torch.zeros(len(identities['video_ids']), 1), **identities)
    return {name: value - before[name] for name, value in loss.statistics().items()}


def count(cfg: Config, batches: int, processes: int) -> list[Counts]:
    """Count over the first batches of a training.

    Returns:
        For each process; for all at once where the loss gathers their tokens.

    Raises:
        ValueError: there is no training data, or it ends before the first batch.
    """
    if not cfg.get('train_dataloader'):
        raise ValueError(f'{cfg.filename}: expected train_dataloader, got none')
    shared, size = build_loss(cfg).gather, cfg.train_dataloader.batch_size
    counts = [Counts() for _ in range(1 if shared else processes)]
    losses, alone = ([build_loss(cfg) for _ in counts] for _ in range(2))
    for loss in (*losses, *alone):  # it is given the batches of all processes at once
        loss.gather = False
    samples = iter_samples(cfg)
    for _ in tqdm(range(batches), unit='batch', leave=False):
        step = list(islice(samples, size * processes))
        if len(step) < size * processes:
            break
        # Processes take turns; gathered tokens are in the order of the ranks.
        parts = [step[rank::processes] for rank in range(processes)]
        if shared:
            parts = [[sample for part in parts for sample in part]]
        for rank, part in enumerate(parts):
            alone[rank].bank.reset()
            within = call(alone[rank], part)
            gained = call(losses[rank], part)
            counts[rank].batches.update(
                all=1, part=len(alone[rank].bank) > 0, within=within['with_positives'],
                positive=gained['with_positives'], negatives=gained['with_negatives'],
                counting=gained['tokens'] >= losses[rank].min_tokens)
    if not counts[0].batches:
        raise ValueError(f'{cfg.filename}: expected at least {size * processes} training samples, '
                         'got fewer')
    for own, kind in zip(counts, losses):
        own.tally = kind.statistics()
    return counts


def report(cfg: Config, counts: Sequence[Counts], processes: int) -> str:
    """Describe what was counted, over all processes."""
    loss = build_loss(cfg)
    total = sum((own.batches for own in counts), Counter())
    tokens = sum(own.tally['tokens'] for own in counts)
    joined = f', of {processes} processes together' if loss.gather else ''
    rows = [
        ('with an expression that takes part', total['part']),
        ('with a positive pair', total['positive']),
        ('  of the batch alone', total['within']),
        ('  only with the bank', total['positive'] - total['within']),
        (f'with {loss.num_negatives} negatives or more', total['negatives']),
        ('where the loss is not 0', total['counting']),
    ]
    lines = [f'{total["all"]} batches of {cfg.train_dataloader.batch_size} videos{joined}',
             f'{"batches":38}{"number":>8}{"of all":>9}{"of those that take part":>26}']
    for name, number in rows:
        shares = [f'{100 * number / whole:.1f} %' if whole else '-'
                  for whole in (total['all'], total['part'])]
        lines.append(f'{name:38}{number:8}{shares[0]:>9}{shares[1]:>26}')
    lines.append(f'tokens that count in a batch, on average: {tokens / max(total["all"], 1):.1f}')
    return '\n'.join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(
        description='Share of training batches with a positive pair')
    parser.add_argument('config', metavar='CONFIG', help='config file')
    parser.add_argument('--batches', type=int, default=1000, metavar='N',
                        help='batches of each process (default: %(default)s)')
    parser.add_argument('--processes', type=int, default=1, metavar='N',
                        help='processes that share the samples, each with a bank of its own unless '
                             'the loss has gather=True (default: %(default)s)')
    parser.add_argument('--cfg-options', nargs='+', action=ConfigOptions, metavar='K=V',
                        help='override config values')
    args = parser.parse_args(argv)
    with refuse(parser):
        for name in ('batches', 'processes'):
            if getattr(args, name) < 1:
                raise ValueError(f'--{name} must be at least 1, got {getattr(args, name)}')
        cfg = read_config(args.config, args.cfg_options)
        init_default_scope(cfg.get('default_scope') or 'glus_mm')
        counts = count(cfg, args.batches, args.processes)
    if not (cfg.get('model') or {}).get('loss_contrastive'):
        print('the config trains without a contrastive loss; counted as if it had that of the '
              'paper, with every data set taking part')
    print(report(cfg, counts, args.processes))


if __name__ == '__main__':
    main()
