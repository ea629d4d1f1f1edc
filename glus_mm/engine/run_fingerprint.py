"""What the results of a test, or of a list of videos, depend on, in a few letters."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from os import PathLike
from typing import Any

import torch
from mmengine import Config
from mmengine.dataset import BaseDataset

from glus_mm.utils.checkpoint_files import checkpoint_digest
from glus_mm.version import __version__

# Of the data loader and the evaluator, what changes no result: how the work is spread, and where
# the figures go in the end.
_LOADER = ('dataset', )
_NOT_OF_METRICS = ('dump_file', 'collect_device', 'collect_dir', 'prefix')


def fingerprint(parts: Any) -> str:
    """Digest of values, of the files that they name, and of the version of this package.

    Args:
        parts: plain values, or parts of a config; of each file that is named in them size and time
            of the last change count too.

    Returns:
        16 hexadecimal digits.
    """
    return hashlib.sha256(_plain([__version__, parts, _named_files(parts)])).hexdigest()[:16]


def run_fingerprint(cfg: Config, dataset: BaseDataset, checkpoint: str | None) -> str:
    """Digest of what the results of a test depend on.

    That is the model, its weights, the type of device, the data set's config and list of videos,
    the metrics, where masks and overlays are written, and the version of this package; of the
    frames, the masks and all files that the config names (annotations, key frames) size and time
    of the last change. Number of processes and of workers, work folder and logging do not count.

    Args:
        cfg: config of the run.
        dataset: the data set that is tested.
        checkpoint: file of the weights, None for random ones.

    Returns:
        16 hexadecimal digits.

    Raises:
        OSError: the checkpoint cannot be read.
    """
    evaluators = cfg.get('test_evaluator') or []
    evaluators = [evaluators] if isinstance(evaluators, Mapping) else list(evaluators)
    loader = cfg.get('test_dataloader') or {}
    parts = dict(
        device='cuda' if torch.cuda.is_available() else 'cpu',
        model=cfg.get('model'),
        test_cfg=cfg.get('test_cfg'),
        randomness=cfg.get('randomness'),
        data={key: loader.get(key) for key in _LOADER},
        metrics=[{key: value for key, value in metric.items() if key not in _NOT_OF_METRICS}
                 for metric in evaluators],
        overlays=(cfg.get('default_hooks') or {}).get('visualization'),
        checkpoint=checkpoint_digest(checkpoint))
    digest = hashlib.sha256(fingerprint(parts).encode())
    for i in range(len(dataset)):
        digest.update(_plain(dataset.get_data_info(i)))
    for path in dict.fromkeys(_data_files(dataset)):
        digest.update(_plain([path, _file_state(path)]))
    return digest.hexdigest()[:16]


def _file_state(path: str | PathLike) -> list[int] | None:
    """Size in bytes and time of the last change in nanoseconds; None for what is not there."""
    try:
        stat = os.stat(path)
    except (OSError, ValueError):
        return None
    return [stat.st_size, stat.st_mtime_ns]


def _named_files(value: Any) -> dict[str, list[int] | None]:
    """State of every file that is named anywhere in a part of a config."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return {path: state for item in value for path, state in _named_files(item).items()}
    if isinstance(value, (str, PathLike)) and os.path.isfile(value):
        return {str(value): _file_state(value)}
    return {}


def _data_files(dataset: BaseDataset) -> Iterator[str]:
    """Frames and masks of a data set, or of those that it is made of."""
    for child in getattr(dataset, 'datasets', [dataset]):
        masks = getattr(child, 'masks', None)
        for i in range(len(child)):
            info = child.get_data_info(i)
            yield from info.get('img_paths', ())
            for expression in info.get('expressions', ()) if masks is not None else ():
                yield from masks.files(expression)


def _plain(value: Any) -> bytes:
    # Paths, types and the like count by their text.
    return json.dumps(value, sort_keys=True, default=str).encode()
