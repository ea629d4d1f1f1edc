"""Find the weights that a user names: a file, a converted folder, or a repository on the hub.

What only a conversion needs is imported there: most calls name a file.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout
from mmengine import Config
from mmengine.logging import print_log
from platformdirs import user_cache_dir
from torch.utils import serialization

from glus_mm.apis.config_text import check_shared_settings, fill_tokenizers
from glus_mm.models.segmentors.hub_mixin import is_pretrained
from glus_mm.text.tokenizer import TOKENIZER_FILES
from glus_mm.utils.base_weights import find_base
from glus_mm.utils.checkpoint_files import read_checkpoint
from glus_mm.utils.deprecation import ignored
from glus_mm.utils.hub import download, is_hub_name, split_revision
from glus_mm.utils.resources import find_resource
from glus_mm.utils.weight_files import download_weights

if TYPE_CHECKING:
    from mmengine.runner import FlexibleRunner, Runner

WEIGHTS = 'model.pth'
CACHE_VARIABLE = 'GLUS_MM_CACHE'
# Part of the cache's path: what an older converter wrote must not be taken for what this one does.
_FORMAT = 'v1'
_DEFAULTS = (('sam2', 'sam2_hiera_l'), )
_SETTINGS = ('config.json', *TOKENIZER_FILES)


def resolve_checkpoint(name: str | PathLike, clip: str | None = None,
                       sam2: str = 'sam2_hiera_l', sam2_checkpoint: str | None = None,
                       selector: str | None = None) -> Path:
    """Find the file of a checkpoint; one on the hub is downloaded and converted once.

    Conversions of the hub's checkpoints are kept in ``$GLUS_MM_CACHE``, by default the user's
    cache folder, under the repository, its commit and the arguments below. Processes that ask at
    once get the same file: one converts, the others wait.

    Args:
        name: a checkpoint file, of one's own or ``'checkpoints/...'`` of the package; a folder that
            tools/model_converters wrote; or ``org/name`` of a checkpoint of GLUS, LISA or
            Chat-UniVi on the hub, such as ``'Swindl/GLUS-S'``, also with ``@revision``.
        clip: vision tower of a checkpoint on the hub, a folder or a name on the hub; by default
            what the checkpoint names.
        sam2: its SAM-2 config, a name or a YAML file.
        sam2_checkpoint: for LISA, which comes without SAM-2: the file of its weights; by default
            the published one of the name ``sam2``.
        selector: not needed any more.

    Returns:
        An existing file.

    Raises:
        ConnectionError: the hub cannot be reached, and its cache has not all files.
        FileNotFoundError: there is nothing of that name, or a folder without a checkpoint.
        ValueError: a folder in the official layout, which has to be converted first (the message
            has the command), or a checkpoint that cannot be converted.
    """
    ignored('selector', selector, '0.2')
    path = find_resource(name)
    if path.is_file():
        return path
    if path.is_dir():
        return _file_in(path)
    if is_hub_name(name):
        return _from_hub(str(name), dict(
            clip=clip, sam2=sam2, sam2_checkpoint=sam2_checkpoint))
    raise FileNotFoundError(
        f'expected a checkpoint file, got nothing there: {name} (a folder written by '
        'tools/model_converters or the name org/name of a repository on the hub can stand there '
        'too)')


def resolve_for(cfg: Config, checkpoint: str | PathLike) -> Path:
    """Find the file of a checkpoint for a config, whose settings a conversion takes.

    Args:
        cfg: the config.
        checkpoint: see :func:`resolve_checkpoint`, likewise for the errors.

    Returns:
        An existing file.
    """
    model = cfg.get('model') or {}
    sam2 = (model.get('mask_head') or {}).get('sam2')
    options = dict(sam2=sam2) if isinstance(sam2, str) else {}
    return resolve_checkpoint(checkpoint, **options)


def use_checkpoint(cfg: Config, checkpoint: str | None, load_from: str | None) -> None:
    """Let a config load a checkpoint, and fill in what depends on it.

    ``load_from`` becomes a file, ``tokenizer='load_from'`` a folder, and model and pipelines are
    compared. A URL, which MMEngine downloads itself, stays.

    Args:
        cfg: a config with its overrides; changed in place.
        checkpoint: what the run loads, see :func:`resolve_checkpoint`; None for random weights.
        load_from: what the config itself names. Its tokenizer serves if the checkpoint has none
            beside it, as one from a training.

    Raises:
        OSError: as :func:`resolve_checkpoint`, or there is no tokenizer.
        ValueError: likewise, or the pipelines do not agree with the model.
    """
    if checkpoint and '://' not in str(checkpoint):
        checkpoint = str(resolve_for(cfg, checkpoint))
    cfg.load_from = checkpoint or None
    if checkpoint and Path(checkpoint).is_file():
        base = resolve_base(cfg, checkpoint, load_from)
        hook: Any = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
        if base is not None and str(hook.get('type', '')).split('.')[-1] == 'SafeCheckpointHook':
            hook.base = str(base)
    fill_tokenizers(cfg, cfg.load_from, load_from)
    check_shared_settings(cfg)


def resolve_base(cfg: Config, checkpoint: str | PathLike, load_from: str | None) -> Path | None:
    """Find the file that a checkpoint of a training shares frozen weights with.

    Args:
        cfg: the config.
        checkpoint: a file.
        load_from: what the config says that a training starts from, see
            :func:`resolve_checkpoint`; asked where the file has gone from where it was.

    Returns:
        The file; None for a complete checkpoint.

    Raises:
        OSError: it is nowhere, or the hub cannot be reached.
        ValueError: the checkpoint cannot be read.
    """
    content = read_checkpoint(checkpoint)
    try:
        return find_base(content, checkpoint)
    except FileNotFoundError as error:
        try:
            place = resolve_for(cfg, load_from) if load_from else None
        except FileNotFoundError:
            place = None
        if place is None or place.samefile(checkpoint):
            raise error from None
        return place


@contextmanager
def mapped_weights(cfg: Config, runner: Runner | FlexibleRunner | None = None) -> Iterator[None]:
    """Where MMEngine reads the file of ``load_from`` in here, it is mapped.

    Several processes then share the memory of a large file, and none holds a copy beside its
    model. A run that resumes goes on to write such files, and an older format cannot be mapped:
    both are read as usual.

    Args:
        cfg: a config after :func:`use_checkpoint`.
        runner: only its first checkpoint is mapped. Tensors that processes send one another later,
            for example, have a format that cannot be.
    """
    file = cfg.get('load_from')
    before = serialization.config.load.mmap
    serialization.config.load.mmap = bool(
        file and not cfg.get('resume') and zipfile.is_zipfile(file))
    if runner is not None:
        from mmengine.hooks import Hook

        class MapOnce(Hook):
            priority = 'VERY_LOW'

            def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
                serialization.config.load.mmap = before

        runner.register_hook(MapOnce())
    try:
        yield
    finally:
        serialization.config.load.mmap = before


def cache_folder() -> Path:
    """Where conversions of the hub's checkpoints are kept."""
    return Path(os.environ.get(CACHE_VARIABLE) or user_cache_dir('glus_mm', appauthor=False))


def _file_in(folder: Path) -> Path:
    """The weights of a converted folder; an error that says what to do with any other one."""
    if (folder / WEIGHTS).is_file():
        return folder / WEIGHTS
    if is_pretrained(folder):
        raise ValueError(f'expected a checkpoint file, got a folder of save_pretrained: {folder}; '
                         'it has its own config: name it as the model, without a checkpoint')
    if (folder / 'config.json').is_file():
        tool = _tool(folder)
        raise ValueError(
            f'expected a checkpoint file, got a folder in the official layout: {folder}; convert '
            f'it first:\n  python tools/model_converters/{tool}.py {folder} '
            f'{folder.resolve().name.lower()}-mm')
    there = sorted(file.name for file in folder.glob('*.pth'))
    hint = f'; name one of its files: {", ".join(there[:6])}' if there else ''
    raise FileNotFoundError(f'expected a checkpoint file, got a folder without {WEIGHTS}: '
                            f'{folder}{hint}')


def _tool(folder: Path) -> str:
    """Name of the converter for a checkpoint in the official layout."""
    from glus_mm.conversion.official_config import LLAVA, read_official_config
    from glus_mm.conversion.selector import MODEL_TYPES

    official = read_official_config(
        folder, f'{LLAVA}, or one of Chat-UniVi', tuple(dict.fromkeys(('llava', *MODEL_TYPES))))
    return _tool_for(official.architecture)


def _tool_for(name: str) -> str:
    """Name of the converter, told by a name of the model."""
    words = (('glus', 'glus2mm'), ('univi', 'chatunivi2mm'))
    return next((tool for word, tool in words if word in name.lower()), 'lisa2mm')


def _from_hub(name: str, options: dict[str, str | None]) -> Path:
    """The converted weights of a repository; made on the first call."""
    repo, revision = split_revision(name)
    home = cache_folder().expanduser() / 'converted' / _FORMAT / repo.replace('/', '--')
    note = home / 'refs' / revision.replace('/', '--')
    try:
        commit = download(name, _SETTINGS, _hint(repo)).name
    except ConnectionError:
        # The hub's own cache may have been emptied since the conversion.
        if not note.is_file():
            raise
        commit = note.read_text(encoding='utf-8').strip()
    folder = home / f'{commit[:16]}{_fingerprint(options)}'
    home.mkdir(parents=True, exist_ok=True)
    lock = FileLock(f'{folder}.lock')
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print_log(f'waiting for another process that converts {name}', 'current')
        lock.acquire()
    try:
        if not (folder / 'config.py').is_file():  # written last
            _convert(f'{repo}@{commit}', folder, options)
        note.parent.mkdir(exist_ok=True)
        note.write_text(commit, encoding='utf-8')
    finally:
        lock.release()
    return folder / WEIGHTS


def _convert(name: str, folder: Path, options: dict[str, Any]) -> None:
    """Download all of a checkpoint and convert it."""
    from glus_mm.conversion import convert_chat_univi, convert_glus, convert_lisa

    repo = split_revision(name)[0]
    source = download_weights(name, _SETTINGS, _hint(repo))
    print_log(f'converting {name} into {folder} (once)', 'current')
    tool = _tool(source)
    if tool == 'glus2mm':
        convert_glus(source, folder, clip=options['clip'], sam2=options['sam2'], force=True)
    elif tool == 'chatunivi2mm':
        convert_chat_univi(source, folder, clip=options['clip'], force=True)
    else:
        taken = {key: options[key] for key in ('clip', 'sam2', 'sam2_checkpoint')}
        convert_lisa(source, folder, **taken, force=True)


def _fingerprint(options: dict[str, Any]) -> str:
    """Tells conversions with other arguments apart; local files count with their state."""
    given: dict[str, Any] = {key: value for key, value in options.items()
                             if value is not None and (key, value) not in _DEFAULTS}
    for key, value in given.items():
        path = Path(value)
        if path.exists():
            given[key] = [str(path.resolve()), path.stat().st_mtime_ns]
    if not given:
        return ''
    return '-' + hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()[:8]


def _hint(repo: str) -> str:
    folder = repo.split('/')[1]
    tool = _tool_for(repo) if any(word in repo.lower() for word in ('lisa', 'univi')) else 'glus2mm'
    return ('Without a network give a local folder: where there is one, run "hf download '
            f'{repo} --local-dir {folder}" and "python tools/model_converters/{tool}.py {folder} '
            'OUT_DIR", and name OUT_DIR here')
