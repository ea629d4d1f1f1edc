"""What the results of a test, or of a list of videos, depend on, in a few letters."""

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from os import PathLike
from typing import Any

import torch
from mmengine import Config
from mmengine.dataset import BaseDataset

from glus_mm.utils.checkpoint_files import checkpoint_digest
from glus_mm.version import __version__

# Of an evaluator, what changes no result: where the figures go in the end.
_NOT_OF_METRICS = ('dump_file', 'collect_device', 'collect_dir', 'prefix')


def fingerprint(parts: Any) -> str:
    """Digest of values, of the files that they name, and of the version of this package.

    Args:
        parts: plain values, or parts of a config; paths, types and the like count by their text,
            and of each file that is named size and time of the last change count too.

    Returns:
        16 hexadecimal digits.
    """
    text = json.dumps([__version__, parts, _named_files(parts)], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def run_fingerprint(cfg: Config, checkpoint: str | None) -> str:
    """Digest of what the results of a test depend on, beside each video itself.

    That is the model, its weights, the type of device, the config of the data set, the metrics,
    where masks and overlays are written, and the version of this package; of all files that the
    config names (annotations, key frames) size and time of the last change. Number of processes
    and of workers, work folder and logging do not count.

    Args:
        cfg: config of the run.
        checkpoint: file of the weights, None for random ones.

    Returns:
        16 hexadecimal digits.

    Raises:
        OSError: the checkpoint cannot be read.
    """
    evaluators = cfg.get('test_evaluator') or []
    evaluators = [evaluators] if isinstance(evaluators, Mapping) else list(evaluators)
    loader = cfg.get('test_dataloader') or {}
    return fingerprint(dict(
        device='cuda' if torch.cuda.is_available() else 'cpu',
        model=cfg.get('model'),
        test_cfg=cfg.get('test_cfg'),
        randomness=cfg.get('randomness'),
        data=dict(dataset=loader.get('dataset')),  # not how the work is spread
        metrics=[{key: value for key, value in metric.items() if key not in _NOT_OF_METRICS}
                 for metric in evaluators],
        overlays=(cfg.get('default_hooks') or {}).get('visualization'),
        checkpoint=checkpoint_digest(checkpoint)))


def video_fingerprints(dataset: BaseDataset) -> list[str]:
    """Digest of each video of a data set, or of those that it is made of, in their order.

    That is what the annotation says of it; of its frames and masks size and time of the last
    change.
    """
    prints = []
    for child in getattr(dataset, 'datasets', [dataset]):
        masks = getattr(child, 'masks', None)
        for i in range(len(child)):
            info = {key: value for key, value in child.get_data_info(i).items()
                    if key != 'sample_idx'}  # MMEngine's; it is another one beside other videos
            files = {} if masks is None else {
                path for expression in info.get('expressions', ())
                for path in masks.files(expression)}
            prints.append(fingerprint([info, sorted(files)]))
    return prints


def _named_files(value: Any) -> dict[str, list[int]]:
    """Size in bytes and time of the last change, in ns, of every file named in a value."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return {path: state for item in value for path, state in _named_files(item).items()}
    if isinstance(value, (str, PathLike)):
        try:
            found = os.stat(value)
        except (OSError, ValueError):
            return {}
        if stat.S_ISREG(found.st_mode):
            return {str(value): [found.st_size, found.st_mtime_ns]}
    return {}
