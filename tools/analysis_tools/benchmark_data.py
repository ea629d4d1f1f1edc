"""Measures how fast a config's training data is loaded, and where the time goes.

The config's data loader makes samples with workers, as in training. Then the main process makes
the same ones, on one thread, with a stopwatch around every transform and an eye on the files that
are opened: of the frames of a video only those that the sample uses should be decoded.

Example:
    python tools/analysis_tools/benchmark_data.py configs/glus/glus_tiny_moving-shapes.py \\
        --workers 2
"""

import argparse
import os
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

import cv2
import torch
from mmengine import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from glus_mm.apis.config_text import fill_tokenizers
from glus_mm.utils.command_line import read_config, refuse
from glus_mm.utils.config_input import ConfigOptions

WORK = {
    'SampleContextQueryFrames': 'choose frames and expressions',
    'LoadRefVOSFrames': 'decode frames',
    'LoadRefVOSMasks': 'decode masks',
    'ResizeForEncoders': 'resize',
    'BuildConversation': 'tokenise',
    'PackRefVOSInputs': 'pack',
}
REST = 'look up the video'


class Stopwatch:
    """What the pipelines of a data set do in this process, sample by sample.

    Attributes:
        seconds: by kind of work.
        cpu_seconds: in all; the rest was spent waiting, for the disk or for other processes.
        samples: how many were made.
        opened: how often a frame was read from a file.
        used: how many different frames the samples are made of.
        unused: frames that were read although their sample does not use them.
        query: how many of the used ones are query frames.
        sam_images: how many images were made for SAM-2.
    """

    def __init__(self, dataset: Any) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.cpu_seconds = 0.0
        self.samples = self.opened = self.used = self.unused = self.query = self.sam_images = 0
        self.dataset = dataset
        self._files: Counter | None = None  # opened by the sample that is being made
        self._results: dict = {}
        for child in getattr(dataset, 'datasets', [dataset]):
            transforms = child.pipeline.transforms
            transforms[:] = [self._timed(transform) for transform in transforms]
        sys.addaudithook(self._listen)

    def make(self, item: Any) -> None:
        """Make a sample, and count."""
        before, start = sum(self.seconds.values()), time.perf_counter()
        cpu, self._files = time.process_time(), Counter()
        self.dataset[item]
        self.cpu_seconds += time.process_time() - cpu
        files, self._files = self._files, None
        spent = sum(self.seconds.values()) - before
        self.seconds[REST] += time.perf_counter() - start - spent
        paths, query = self._results['img_paths'], set(self._results['query_frame_ids'])
        used = {paths[i] for i in query | set(self._results['context_frame_ids'])}
        read = Counter({path: files[path] for path in paths if path in files})
        self.samples += 1
        self.opened += read.total()
        self.used += len(used)
        self.unused += len(set(read) - used)
        self.query += len(query)
        self.sam_images += len(self._results.get('sam_imgs', ()))

    def _timed(self, transform: Callable[[dict], dict]) -> Callable[[dict], dict]:
        name = type(transform).__name__

        def run(results: dict) -> dict:
            start = time.perf_counter()
            out = transform(results)
            self.seconds[WORK.get(name, name)] += time.perf_counter() - start
            self._results = results  # of the last transform but one
            return out

        return run

    def _listen(self, event: str, args: tuple) -> None:
        if self._files is not None and event == 'open' and isinstance(args[0], (str, os.PathLike)):
            self._files[os.fspath(args[0])] += 1


def build_loader(cfg: Config, workers: int | None) -> DataLoader:
    """Build the data loader that training would have.

    Args:
        cfg: a config.
        workers: another number of processes than the config's.

    Raises:
        ValueError: there is no training data.
    """
    if not cfg.get('train_dataloader'):
        raise ValueError(f'{cfg.filename}: expected train_dataloader, got none')
    loader = cfg.train_dataloader
    if workers is not None:
        loader.num_workers = workers
    if not loader.get('num_workers'):
        loader.pop('persistent_workers', None)
        loader.pop('prefetch_factor', None)
    return Runner.build_dataloader(loader, seed=cfg.get('randomness', {}).get('seed') or 0)


def measure_loader(loader: DataLoader, samples: int) -> tuple[int, float]:
    """Let the loader make batches as fast as it can.

    Args:
        loader: of the config.
        samples: how many samples to measure at least.

    Returns:
        Number of samples and the time that they took, without the start of the workers.

    Raises:
        ValueError: there are too few samples.
    """
    batches, warm_up = -(-samples // loader.batch_size), max(1, 2 * loader.num_workers)
    iterator = iter(loader)
    for _ in islice(iterator, warm_up):
        pass
    start = time.perf_counter()
    made = sum(1 for _ in islice(iterator, batches))
    if made < batches:
        raise ValueError(f'expected {batches + warm_up} batches, got {made}: ask for fewer '
                         '--samples')
    return made * loader.batch_size, time.perf_counter() - start


def report(watch: Stopwatch) -> str:
    """Describe what one process did."""
    total = sum(watch.seconds.values())
    lines = [f'one process, {watch.samples} samples{"ms a sample":>24}{"share":>9}']
    for name, seconds in sorted(watch.seconds.items(), key=lambda item: -item[1]):
        lines.append(f'  {name:34}{1e3 * seconds / watch.samples:12.2f}{seconds / total:9.1%}')
    decode = watch.seconds.get(WORK['LoadRefVOSFrames'])
    lines += [
        f'  {"all":34}{1e3 * total / watch.samples:12.2f}',
        f'  {"of that computing":34}{1e3 * watch.cpu_seconds / watch.samples:12.2f}'
        f'{watch.cpu_seconds / total:9.1%}',
        f'{watch.samples / total:.1f} samples/s, {watch.opened / total:.0f} frames/s'
        + (f' ({watch.opened / decode:.0f} while decoding)' if decode else ''),
        f'frames decoded: {watch.opened}; frames that the samples use: {watch.used} '
        f'({watch.used / watch.samples:.1f} a sample); decoded but not used: {watch.unused}',
        f'images for SAM-2: {watch.sam_images}; different query frames: {watch.query}',
    ]
    return '\n'.join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description='Speed of the training data')
    parser.add_argument('config', metavar='CONFIG', help='config file')
    parser.add_argument('--workers', type=int, metavar='N',
                        help='processes that load data (default: those of the config)')
    parser.add_argument('--samples', type=int, default=200, metavar='N',
                        help='samples to measure each way (default: %(default)s)')
    parser.add_argument('--cfg-options', nargs='+', action=ConfigOptions, metavar='K=V',
                        help='override config values')
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    with refuse(parser):
        if args.samples < 1 or (args.workers or 0) < 0:
            raise ValueError(f'expected --samples of at least 1 and --workers of at least 0, got '
                             f'{args.samples} and {args.workers}')
        cfg = read_config(args.config, args.cfg_options)
        init_default_scope(cfg.get('default_scope') or 'glus_mm')
        fill_tokenizers(cfg, None, cfg.get('load_from'))
        loader = build_loader(cfg, args.workers)
        # Before the stopwatch, which the workers would inherit.
        number, seconds = measure_loader(loader, args.samples)
        watch = Stopwatch(loader.dataset)
        for item in islice(loader.sampler, args.samples):
            watch.make(item)
    print(report(watch))
    frames, workers = number * watch.opened / watch.samples / seconds, max(loader.num_workers, 1)
    print(f'data loader, {loader.num_workers} workers, {number} samples in batches of '
          f'{loader.batch_size}: {number / seconds:.1f} samples/s, {frames:.0f} frames/s, '
          f'{frames / workers:.0f} frames/s for each worker')
    print(f'enough for iterations of {loader.batch_size * seconds / number:.3f} s and longer, in '
          'each process of a training')


if __name__ == '__main__':
    main()
