"""Read the weight files of a Hugging Face folder: named tensors, and nothing that is run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from mmengine.logging import print_log
from safetensors import SafetensorError, safe_open
from torch import Tensor

from glus_mm.utils.checkpoint import list_keys
from glus_mm.utils.checkpoint_files import check_start, read_checkpoint
from glus_mm.utils.hub import download
from glus_mm.utils.json_file import read_json_object

# In the order in which they are preferred; an index lists the shards of one format.
FORMATS = ('model.safetensors', 'model.safetensors.index.json', 'pytorch_model.bin',
           'pytorch_model.bin.index.json')
# Patterns of the files of each format.
SAFETENSORS = ('model*.safetensors', 'model*.safetensors.index.json')
BIN = ('pytorch_model*.bin', 'pytorch_model*.bin.index.json')
DTYPES = (torch.float32, torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Weights:
    """Named tensors of a folder.

    Attributes:
        folder: where they were read.
        tensors: name to tensor; the data stay in the mapped file until they are used.
        files: name to the file that holds the tensor.
    """

    folder: Path
    tensors: dict[str, Tensor]
    files: dict[str, Path]


def download_weights(name: str, others: Sequence[str], hint: str) -> Path:
    """Download the weights of a repository, in the format that is preferred, and other files.

    Args:
        name, hint: as for :func:`download`, likewise the errors.
        others: patterns of the other files.

    Returns:
        The folder of the snapshot.
    """
    folder = download(name, (*others, *SAFETENSORS), hint)
    if not any(folder.glob(SAFETENSORS[0])):
        folder = download(name, (*others, *BIN), hint)
    return folder


def read_weights(folder: str | Path) -> Weights:
    """Read all weights of a folder.

    Args:
        folder: with one of ``FORMATS``; of several the first is taken, and the log says so.

    Returns:
        The weights, mapped, so that they take no memory of their own where the format allows it
        (all but the ``.bin`` of torch before 1.6).

    Raises:
        FileNotFoundError: there are no weights, or a shard that the index names is missing.
        ValueError: a file cannot be read, holds anything but named tensors, or index and shards
            do not agree.
    """
    folder = Path(folder)
    found = [folder / name for name in FORMATS if (folder / name).is_file()]
    if not found:
        shards = sorted(f.name for f in folder.glob('*-of-*') if f.suffix in ('.bin',
                                                                               '.safetensors'))
        hint = f'; there are shards, but not their index: {shards}' if shards else ''
        raise FileNotFoundError(f'expected weights in {folder}, one of {", ".join(FORMATS)}, '
                                f'got none of them{hint}')
    path, *others = found
    if others:
        print_log(f'{folder}: {path.name} is read, not '
                  f'{", ".join(file.name for file in others)}', 'current')
    if path.suffix != '.json':
        tensors = read_weight_file(path)
        return Weights(folder, tensors, dict.fromkeys(tensors, path))
    weight_map, tensors, files = _read_index(path), {}, {}
    for shard in sorted(set(weight_map.values())):
        place = folder / shard
        if not place.is_file():
            raise FileNotFoundError(f'expected the shard {place}, which {path.name} names, but '
                                    'there is no such file')
        held = read_weight_file(place)
        _check_shard(held, shard, weight_map, files, path)
        tensors.update(held)
        files.update(dict.fromkeys(held, place))
    return Weights(folder, tensors, files)


def read_weight_file(path: Path, key: str | None = None) -> dict[str, Tensor]:
    """Read one file.

    Args:
        path: a ``.safetensors`` file, else one of ``torch.save``. The latter is loaded with
            ``weights_only=True``: objects in it are refused, not made.
        key: the entry of the file's dict that holds the tensors, None for the dict itself.

    Raises:
        ValueError: the file cannot be read, or holds anything but named tensors.
    """
    if path.suffix == '.safetensors':
        check_start(path)
        try:
            with safe_open(path, framework='pt') as file:
                names = file.keys()
                return _named_tensors({key: file.get_tensor(key) for key in names}, path)
        except SafetensorError as error:
            raise ValueError(f'expected a safetensors file, but {path} cannot be read as one (is '
                             f'it complete?): {error}') from error
    content = read_checkpoint(path)
    if key is not None:
        if not isinstance(content, Mapping) or key not in content:
            got = sorted(map(str, content))[:8] if isinstance(content, Mapping) else type(
                content).__name__
            raise ValueError(f'expected a dict with the key {key!r} in {path}, got {got}')
        content = content[key]
    return _named_tensors(content, path)


def _check_shard(held: Mapping[str, Tensor], shard: str, weight_map: Mapping[str, str],
                 seen: Mapping[str, Path], index_file: Path) -> None:
    """Refuse a shard that does not hold exactly what the index says."""
    double = [f'{key} (also in {seen[key].name})' for key in held if key in seen]
    double += [f'{key} (its place is {weight_map[key]})' for key in held
               if key not in seen and weight_map.get(key, shard) != shard]
    parts = [(f'in {shard} and in another shard', double),
             (f'promised by the index, missing in {shard}',
              [key for key, value in weight_map.items() if value == shard and key not in held]),
             (f'in {shard}, unknown to the index',
              [key for key in held if key not in weight_map])]
    if any(keys for _, keys in parts):
        raise ValueError('\n'.join(
            [f'{index_file} and {shard} do not agree; expected each key once, in the shard that '
             'the index names', *(list_keys(title, keys) for title, keys in parts if keys)]))


def _read_index(path: Path) -> dict[str, str]:
    content = read_json_object(path)
    weight_map = content.get('weight_map')
    if not isinstance(weight_map, dict) or not weight_map or not all(
            isinstance(shard, str) for shard in weight_map.values()):
        raise ValueError(f'expected {{"weight_map": {{name: shard}}}} in {path}, got '
                         f'{str(content)[:80]}')
    outside = sorted({shard for shard in weight_map.values() if Path(shard).name != shard})
    if outside:
        raise ValueError(f'expected the shards beside {path}, got the paths {outside[:4]}')
    return weight_map


def _named_tensors(content: object, path: Path) -> dict[str, Tensor]:
    if not isinstance(content, Mapping):
        raise ValueError(f'expected named tensors in {path}, got {type(content).__name__}')
    if not content:
        raise ValueError(f'expected named tensors in {path}, got an empty file')
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise ValueError(f'expected named tensors only in {path}, got '
                             f'{key!r}: {type(value).__name__}')
        if value.layout != torch.strided or value.is_quantized or value.is_meta:
            raise ValueError(f'expected plain tensors in {path}, got a {value.layout} one on '
                             f'{value.device}: {key}')
    return {key: value.detach() for key, value in content.items()}


def own_storages(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copy those tensors that are a part of a larger storage: torch.save would write all of it.

    Two names of one storage become two copies, as in the files that Hugging Face writes.
    """
    own, seen = {}, set()
    for name, value in tensors.items():
        storage = value.untyped_storage()
        whole = storage.nbytes() == value.nbytes and value.is_contiguous()
        if not whole or storage.data_ptr() in seen:
            value = value.clone(memory_format=torch.contiguous_format)
        seen.add(storage.data_ptr())
        own[name] = value
    return own
