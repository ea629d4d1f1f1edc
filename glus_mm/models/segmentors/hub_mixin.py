"""A model as a folder that the Hugging Face hub takes: weights, a config of plain data, a card."""

import json
import re
import shutil
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

import torch
import yaml
from huggingface_hub import HfApi, save_torch_state_dict
from mmengine import Config
from torch import nn

from glus_mm.registry import MODELS, SCOPE, build_child
from glus_mm.text.tokenizer import FROM_WEIGHTS, TOKENIZER_FILES
from glus_mm.utils.checkpoint import check_finite, check_fit
from glus_mm.utils.checkpoint_files import checkpoint_digest
from glus_mm.utils.config_keys import override_model
from glus_mm.utils.empty_weights import build_empty, fill_weights, initialize_adapters
from glus_mm.utils.hub import download
from glus_mm.utils.json_file import read_json_object
from glus_mm.utils.weight_files import SAFETENSORS, read_weights
from glus_mm.version import __version__

CONFIG = 'config.json'
LIBRARY = 'glus_mm'
# What a config may not name: files that are read, and run, beside the weights.
_FILE = re.compile(r'.*\.(py|ya?ml|pth?|bin|pkl|pickle|ckpt|so|json)$|^(/|~|\w+://|\.\./).*', re.I)
Model = TypeVar('Model', bound='HubMixin')


def is_pretrained(folder: str | PathLike) -> bool:
    """Whether a folder is one that ``save_pretrained`` wrote."""
    path = Path(folder) / CONFIG
    return path.is_file() and f'"library_name": "{LIBRARY}"' in path.read_text('utf-8', 'replace')


class HubMixin(nn.Module):
    """``from_pretrained``, ``save_pretrained`` and ``push_to_hub`` of a model with a ``cfg``.

    The folder has ``config.json`` with ``model``, the config as plain data; ``model.safetensors``,
    or its shards with their index; the tokenizer's files where it is not one of the package; and
    ``README.md``, the model card.
    """

    @classmethod
    def from_pretrained(cls: type[Model], name_or_folder: str | PathLike,
                        device: str | torch.device = 'cpu',
                        cfg_options: Mapping[str, Any] | None = None) -> Model:
        """Load a model; nothing of the folder is ever run.

        Args:
            name_or_folder: a folder of :meth:`save_pretrained`, or ``org/name`` of one on the hub,
                also with ``@revision``.
            device: where the model goes.
            cfg_options: dotted keys and values that override the config, such as
                ``{'model.test_cfg.window': 2}``.

        Returns:
            The model in eval mode; ``.cfg`` is its config, ``.checkpoint`` the folder.

        Raises:
            ConnectionError: the hub cannot be reached, and its cache has not all files.
            FileNotFoundError: there is no such repository or folder, or a file of it is missing.
            KeyError: an option, or a part of the model, has a key that nobody knows.
            TypeError: the folder holds another class than this one.
            ValueError: the config names anything but classes that are registered here, or the
                weights are not those of the config.
        """
        folder = Path(name_or_folder).expanduser()
        if not folder.is_dir():
            if isinstance(name_or_folder, PathLike) or '/' not in name_or_folder:
                raise FileNotFoundError('expected a folder of save_pretrained or the name org/name '
                                        f'of one on the hub, got {str(name_or_folder)!r}')
            folder = download(name_or_folder, (CONFIG, *SAFETENSORS, *TOKENIZER_FILES),
                              'Without a network name a folder that was downloaded before')
        content = _read_config(folder)
        cfg = Config(dict(default_scope=SCOPE, model=content['model']))
        override_model(cfg, cfg_options or {}, str(folder / CONFIG))
        parts = dict(cfg.model)
        if (parts.get('mllm') or {}).get('tokenizer') == FROM_WEIGHTS:
            parts['mllm'] = dict(parts['mllm'], tokenizer=str(folder))
        model = build_empty(lambda: build_child(MODELS, parts))
        if not isinstance(model, cls):
            raise TypeError(f'expected a {cls.__name__} in {folder / CONFIG}, got a '
                            f'{type(model).__name__}: load it with that class')
        state = _read_weights(folder, content.get('sha256'))
        try:
            check_fit(model, state, str(folder))
            check_finite(state, str(folder))
        except ValueError as error:
            lines = ' '.join(str(error).split('\n  ')[:4]).replace('\n', ' ')
            raise ValueError(f'the weights of {folder} are not those of its {CONFIG}; download it '
                             f'or save it again: {lines}') from error
        initialize_adapters(model)
        fill_weights(model, state, torch.device(device))
        model.cfg, model.checkpoint = cfg, str(folder)
        return model.to(device).eval().prepare()

    def prepare(self: Model) -> Model:
        """Bring in what inference needs beside the weights, which is nothing here."""
        return self

    def save_pretrained(self, folder: str | PathLike, max_shard_size: str = '5GB',
                        license: str | None = None, trained: str | None = None,
                        results: Mapping[str, Mapping[str, float]] | None = None) -> Path:
        """Write the model into a folder that :meth:`from_pretrained` and the hub take.

        Args:
            folder: made if need be; files of the same names are replaced.
            max_shard_size: largest size of a weight file, such as ``'500MB'``.
            license: for the card, a name that the hub knows, such as ``'apache-2.0'``; that of
                weights follows from what they were trained on.
            trained: for the card, how the model was trained.
            results: for the card, by data set: metric and value in percent.

        Raises:
            OSError: it cannot be written.
            ValueError: the model does not know its config, that names files or classes that
                others do not have, or the LLM is in fewer bits.
        """
        cfg = getattr(self, 'cfg', None)
        if cfg is None:
            raise ValueError('expected a model that knows its config, from init_model or '
                             'from_pretrained, got one without .cfg')
        folder = Path(folder).expanduser()
        model = _plain(cfg.model, 'model')
        if cfg.get('data_preprocessor') is not None:
            model.setdefault('data_preprocessor', _plain(cfg.data_preprocessor, 'model'))
        model.pop('_scope_', None)
        bits = (model.get('test_cfg') or {}).get('llm_bits', 16)
        if bits != 16:
            raise ValueError('expected a model with whole weights, model.test_cfg.llm_bits=16, '
                             f'got {bits}')
        tokenizer = Path(str((model.get('mllm') or {}).get('tokenizer')))
        if tokenizer.is_dir():
            model['mllm']['tokenizer'] = FROM_WEIGHTS
        check_config(model, 'the model')
        folder.mkdir(parents=True, exist_ok=True)
        if tokenizer.is_dir():
            for name in TOKENIZER_FILES:
                if (tokenizer / name).is_file():
                    shutil.copy2(tokenizer / name, folder / name)
        # The types that the weights have; buffers too, of which there are small ones only.
        save_torch_state_dict(self.state_dict(), folder, max_shard_size=max_shard_size)
        content = dict(library_name=LIBRARY, glus_mm_version=__version__, model=model, sha256={
            path.name: checkpoint_digest(path)
            for path in sorted(folder.glob('model*.safetensors'))})
        (folder / CONFIG).write_text(json.dumps(content, indent=2) + '\n', encoding='utf-8')
        (folder / 'README.md').write_text(
            _card(self, folder.name, license, trained, results), encoding='utf-8')
        return folder

    def push_to_hub(self, repo: str, folder: str | PathLike, private: bool = False,
                    message: str = 'Upload a model of glus_mm', **card: Any) -> str:
        """Save the model and upload it; ``hf auth login`` gives the right to.

        Args:
            repo: ``org/name``, made if there is none.
            folder: where it is saved first, see :meth:`save_pretrained`.
            private: whether a new repository can be read by its owners only.
            message: of the commit.
            **card: further arguments of :meth:`save_pretrained`.

        Returns:
            The address of the commit.

        Raises:
            OSError: the folder cannot be written, or the hub refuses.
            ValueError: as :meth:`save_pretrained`.
        """
        api = HfApi()
        folder = self.save_pretrained(folder, **card)
        api.create_repo(repo, private=private, exist_ok=True)
        return str(api.upload_folder(repo_id=repo, folder_path=folder, commit_message=message,
                                     allow_patterns=[CONFIG, 'README.md', *SAFETENSORS,
                                                     *TOKENIZER_FILES]))


def check_config(value: Any, source: str, key: str = 'model') -> None:
    """Raise unless a config is data that can only build classes registered here.

    Args:
        value: the config, of dicts, lists and plain values.
        source: where it came from, for the message.
        key: its dotted key.

    Raises:
        ValueError: a class that is not registered, a key that MMEngine treats in its own way, or
            the name of a file.
    """
    if isinstance(value, Mapping):
        for name, child in value.items():
            place = f'{key}.{name}'
            if name.startswith('_') or (name == 'init_cfg' and child):
                raise ValueError(f'{source}: {place} is not allowed, as it can load or run other '
                                 'files; remove it, or use a model whose author you trust')
            if name == 'type':
                MODELS.import_from_location()
            # A dotted name would be imported from anywhere; none is registered.
            if name == 'type' and not (isinstance(child, str)
                                       and child.removeprefix(f'{SCOPE}.') in MODELS.module_dict):
                raise ValueError(f'{source}: expected the name of a class of glus_mm as {place}, '
                                 f'got {child!r}; import the package that registers it first, if '
                                 'you trust it')
            check_config(child, source, place)
    elif isinstance(value, list):
        for i, child in enumerate(value):
            check_config(child, source, f'{key}[{i}]')
    elif isinstance(value, str) and _FILE.match(value):
        raise ValueError(f'{source}: {key} names a file, {value!r}, which does not come with the '
                         'model; write its content into the config, or leave it out')


def _read_config(folder: Path) -> dict:
    path = folder / CONFIG
    if not path.is_file():
        raise FileNotFoundError(f'expected {CONFIG} in {folder}, got none: this is no folder of '
                                'save_pretrained')
    content = read_json_object(path)
    if content.get('library_name') != LIBRARY or not isinstance(content.get('model'), dict):
        raise ValueError(f'expected "library_name": "{LIBRARY}" and "model" in {path}, got '
                         f'{sorted(content)[:8]}; a checkpoint in the official layout is converted '
                         'with "glus-mm convert"')
    check_config(content['model'], str(path))
    return content


def _read_weights(folder: Path, digests: Any) -> dict[str, torch.Tensor]:
    """The weights, whose files have to be those that were saved."""
    if not any(folder.glob('model*.safetensors*')):
        raise FileNotFoundError(f'expected model.safetensors in {folder}, got none: download it or '
                                'save it again')
    # Folders of earlier versions have none; safetensors itself knows no checksums.
    for name, digest in (digests if isinstance(digests, Mapping) else {}).items():
        path = folder / Path(name).name
        if path.is_file() and checkpoint_digest(path) != digest:
            raise ValueError(f'expected the weights that {folder / CONFIG} was saved with, got a '
                             f'damaged file, or one of another model: {path}; download it or save '
                             'it again')
    try:
        return dict(read_weights(folder).tensors)
    except FileNotFoundError as error:
        raise FileNotFoundError(f'{error}; download it or save it again') from error


def _plain(value: Any, key: str) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(child, f'{key}.{name}') for name, child in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(child, key) for child in value]
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    raise ValueError(f'{key}: expected plain data in the config, got {type(value).__name__}')


def _card(model: nn.Module, name: str, license: str | None, trained: str | None,
          results: Mapping[str, Mapping[str, float]] | None) -> str:
    """The text of the model card."""
    head = dict(library_name=LIBRARY, pipeline_tag='mask-generation',
                tags=['glus', 'referring-video-object-segmentation'])
    if license:
        head['license'] = license
    parts = '\n'.join(
        f'| `{key}` | {type(part).__name__} | {sum(p.numel() for p in part.parameters()) / 1e6:.1f}'
        ' M |' for key, part in model.named_children() if any(True for _ in part.parameters()))
    figures = '\n'.join(f'| {data} | {metric} | {value:.2f} |' for data, row in
                        (results or {}).items() for metric, value in row.items())
    return f'''---
{yaml.safe_dump(head, sort_keys=True).strip()}
---

# {name}

Referring video object segmentation: masks of what a sentence refers to, in every frame of a video.
A {type(model).__name__} model of `glus_mm` {__version__}, after *GLUS: Global-Local Reasoning
Unified into A Single Large Language Model for Video Segmentation* (CVPR 2025).

```python
from glus_mm.apis import GLUSInferencer

out = GLUSInferencer('ORG/{name}')('video.mp4', texts=['the dog that runs'])
out['masks'][0][5]  # first text, sixth frame: bool (H, W)
```

| part | class | parameters |
|---|---|---:|
{parts}

## Training

{trained or 'Not stated.'}

## Figures

{'| data set | metric | percent |' + chr(10) + '|---|---|---:|' + chr(10) + figures if figures
 else 'None were stated.'}

## Licence

{license or 'Not stated. It follows from the weights that this model was trained from.'}
'''
