"""Checkpoints that leave out what stands, unchanged, in another file: their base.

Such a checkpoint has under ``base`` the ``path`` of that file, the same ``relative`` to its own
folder, and ``parameters``: for each parameter that was left out its name in the base and the digest
of its type, shape and content there. The digests are the base's fingerprint: the file may move, but
it must hold these values.
"""

import hashlib
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from glus_mm.utils.checkpoint import list_keys, model_state_of
from glus_mm.utils.checkpoint_files import read_checkpoint

KEY = 'base'
_THREADS = 8


def digests(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Fingerprints of tensors: of type, shape and content, with SHA-256.

    Args:
        tensors: any tensors, by name. Mapped ones are read.

    Returns:
        32 hexadecimal digits for each.
    """
    # The hash releases Python's lock: 14 GB take 8 s of one core at 1.8 GB/s.
    with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as threads:
        return dict(zip(tensors, threads.map(_digest, tensors.values())))


def base_entry(path: str | PathLike, folder: str | PathLike, keys: Mapping[str, str],
               fingerprints: Mapping[str, str]) -> dict[str, Any]:
    """What a checkpoint notes about its base.

    Args:
        path: the base.
        folder: where the checkpoint will be.
        keys: names in the base of the parameters that are left out.
        fingerprints: their :func:`digests` in the base.

    Returns:
        Plain containers, for ``checkpoint['base']``.
    """
    path = os.path.abspath(path)
    return dict(path=path, relative=os.path.relpath(path, folder),
                parameters={name: [keys[name], fingerprints[name]] for name in sorted(keys)})


def find_base(checkpoint: Any, source: str | PathLike,
              base: str | PathLike | None = None) -> Path | None:
    """Find the base of a loaded checkpoint; that its content is right is not checked.

    Args:
        checkpoint: what was loaded.
        source: the file it came from.
        base: where to look first.

    Returns:
        An existing file; None if nothing was left out of the checkpoint.

    Raises:
        FileNotFoundError: the base is neither there nor where it was; the message names it.
        ValueError: what the checkpoint says of its base cannot be understood.
    """
    entry = checkpoint.get(KEY) if isinstance(checkpoint, Mapping) else None
    if entry is None:
        return None
    if not isinstance(entry, Mapping) or not all(
            isinstance(entry.get(key), str) for key in ('path', 'relative')) or not isinstance(
            entry.get('parameters'), Mapping) or not all(
            isinstance(name, str) and isinstance(pair, (list, tuple)) and len(pair) == 2
            and all(isinstance(part, str) for part in pair)
            for name, pair in entry['parameters'].items()):
        raise ValueError(f"expected under {KEY!r} a dict with path, relative and parameters, each "
                         f'of these with a name and a digest, got {entry!r:.80}: {source}')
    beside = os.path.join(os.path.dirname(source), entry['relative'])
    places = [Path(entry['path']), Path(os.path.abspath(beside))]
    if base is not None:
        places.insert(0, Path(base).expanduser())
    for place in places:
        if place.is_file():
            return place
    raise FileNotFoundError(
        f'expected the file {places[0]}, got nothing there: the checkpoint {source} leaves out '
        f'{len(entry["parameters"])} frozen parameters, which it shares with that file (load_from '
        'of its training). Bring it back, or name it where it is now: load_from=FILE in the '
        'config, --base FILE of a tool')


def complete_state(checkpoint: Any, source: str | PathLike, base: str | PathLike | None = None,
                   verify: bool = True, mapped: bool | None = None) -> dict[str, Tensor]:
    """The weights in a loaded checkpoint, with those that it left to its base.

    Args:
        checkpoint: what was loaded.
        source: the file it came from.
        base: where its base is, if not where the checkpoint says.
        verify: compare the fingerprints, which reads all that is taken from the base.
        mapped: how to read the base, see :func:`read_checkpoint`.

    Returns:
        The state dict of :func:`model_state_of`, complete.

    Raises:
        FileNotFoundError: there is no base; the message names it.
        ValueError: there are no weights, or the base is another one; the message lists what
            differs.
    """
    state = model_state_of(checkpoint, str(source))
    path = find_base(checkpoint, source, base)
    if path is None:
        return state
    stored = complete_state(read_checkpoint(path, mapped), path, verify=verify, mapped=mapped)
    entry = checkpoint[KEY]['parameters']
    taken = {name: stored[key] for name, (key, _) in entry.items() if key in stored}
    found = digests(taken) if verify else {name: entry[name][1] for name in taken}
    wrong = [f'{key}: {"missing" if name not in taken else "other type, shape or values"}'
             for name, (key, digest) in entry.items() if found.get(name) != digest]
    if wrong:
        raise ValueError('\n'.join([
            f'expected in {path} the weights that the training of {source} started from, got '
            f'another file; the checkpoint leaves out {len(entry)} frozen parameters, which it '
            f'shares with them (they were in {checkpoint[KEY]["path"]})',
            list_keys('differ', wrong)]))
    return {**taken, **state}


def _digest(tensor: Tensor) -> str:
    result = hashlib.sha256(f'{tensor.dtype} {tuple(tensor.shape)} '.encode())
    content = tensor.detach().cpu().contiguous().reshape(-1)
    if content.numel():
        result.update(content.view(torch.uint8).numpy())
    return result.hexdigest()[:32]
