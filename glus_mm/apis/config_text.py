"""What a config says twice: whose tokenizer, and whether model and data mean the same."""

import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine import Config

from glus_mm.registry import MODELS, TRANSFORMS
from glus_mm.text.tokenizer import FROM_WEIGHTS, SegTokenizer, tokenizer_folder
from glus_mm.utils.hub import is_hub_name

# Transforms that have to do as the model does: their keys, and where the model's are.
_SHARED = {
    'BuildConversation': dict(tokenizer='mllm.tokenizer', template='mllm.template',
                              one_token_seg_all='train_cfg.one_token_seg_all'),
    'BuildTalk': dict(tokenizer='mllm.tokenizer', template='mllm.template'),
    'ResizeForEncoders': dict(
        vision_crop='mllm.vision_crop', vision_size='mllm.vision_tower.image_size',
        sam_size='mask_head.image_size'),
    'SampleContextQueryFrames': dict(num_context='test_cfg.num_context')}
# What one of the two may leave to the other.
_OPTIONAL = ('vision_size', 'sam_size', 'num_context')
_DATALOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def fill_tokenizers(cfg: Config, checkpoint: str | Path | None = None,
                    load_from: str | None = None) -> None:
    """Replace every ``tokenizer='load_from'`` of a config by the folder of the tokenizer.

    Args:
        cfg: a config with its overrides; changed in place.
        checkpoint: the weights that will be loaded; their folder counts if it holds a tokenizer.
        load_from: where the config says that a training starts, a file, a folder or a name on
            the hub; its tokenizer serves otherwise (of a repository only that is downloaded).

    Raises:
        ConnectionError: the tokenizer is on the hub, which cannot be reached.
        FileNotFoundError: neither place has a tokenizer; the message names the keys.
    """
    places = [(path, node) for path, node in _dicts(cfg)
              if node.get('tokenizer') == FROM_WEIGHTS]
    if not places:
        return
    folder = _folder_of(checkpoint) or _folder_of(load_from)
    if folder is None and load_from is not None and is_hub_name(load_from):
        folder = tokenizer_folder(load_from)
    if folder is None:
        keys = ', '.join(f'{path}.tokenizer' for path, _ in places[:3])
        raise FileNotFoundError(
            f'{keys}: expected the tokenizer that comes with the weights (tokenizer='
            f'{FROM_WEIGHTS!r}), but there is no tokenizer.model beside the checkpoint '
            f'({checkpoint}) nor at load_from ({load_from}); give a folder written by '
            'tools/model_converters as load_from, or the tokenizer itself')
    for _, node in places:
        node['tokenizer'] = str(folder)


def check_shared_settings(cfg: Config) -> None:
    """Compare what the model and the pipelines have to do alike.

    That is tokens, template, crop, tokens for each frame or video, and the context of a test. The
    latter is the model's; a test pipeline may leave it out.

    Raises:
        ValueError: a pipeline differs from the model; the message names both keys and values.
    """
    # Here, as they import torch, which who reads a config need not have waited for.
    from glus_mm.models.inference import GLUSTestCfg
    from glus_mm.models.segmentors import GLUS
    from glus_mm.models.segmentors.train_cfg import GLUSTrainCfg

    model: Any = cfg.get('model') or {}
    mllm = model.get('mllm')
    if not isinstance(mllm, Mapping):
        return
    kinds = dict(mllm=MODELS.get(str(mllm.get('type'))), train_cfg=GLUSTrainCfg,
                 test_cfg=GLUSTestCfg)
    kind = MODELS.get(str(model.get('type')))
    has_context = inspect.isclass(kind) and issubclass(kind, GLUS)
    for name in _DATALOADERS:
        for path, node in _dicts(cfg.get(name), name):
            transform = str(node.get('type', '')).split('.')[-1]
            for key, place in _SHARED.get(transform, {}).items():
                if key == 'num_context' and (name == _DATALOADERS[0] or not has_context):
                    continue
                part, _, last = place.rpartition('.')
                settings = model
                for step in part.split('.'):
                    settings = settings.get(step) if isinstance(settings, Mapping) else None
                ours = _value(kinds.get(part), settings or {}, last)
                theirs = (node.get(key) if key in _OPTIONAL else
                          _value(TRANSFORMS.get(str(node.get('type'))), node, key))
                if key == 'num_context' and node.get('strategy') == 'local':
                    key, theirs = 'strategy', 0
                same = _same_ids(ours, theirs) if key == 'tokenizer' else ours == theirs
                if not same and (last != 'image_size' or ours is not None) and (
                        theirs is not None or key not in _OPTIONAL):
                    raise ValueError(
                        f'expected the pipeline to do as the model does, got model.{place}='
                        f'{ours!r} and {path}.{key}={node.get(key, theirs)!r} ({transform})')


def _value(kind: type | None, node: Mapping, key: str) -> Any:
    """A config's value, else the default of the class; None where there is neither."""
    if key in node:
        return node[key]
    parameters = inspect.signature(kind).parameters if kind is not None else {}
    default = parameters[key].default if key in parameters else None
    return None if default is inspect.Parameter.empty else default


def _same_ids(first: str | None, second: str | None) -> bool:
    """Whether two tokenizers do the same; a copy in another folder does."""
    if first == second or first is None or second is None:
        return first == second
    return SegTokenizer.from_pretrained(first).same_ids(SegTokenizer.from_pretrained(second))


def _folder_of(weights: str | Path | None) -> Path | None:
    """The folder of weights on this machine, if it holds a tokenizer."""
    path = Path(weights).expanduser() if weights is not None else None
    if path is None or not path.exists():
        return None
    folder = path if path.is_dir() else path.parent
    return folder.resolve() if (folder / 'tokenizer.model').is_file() else None


def _dicts(value: Any, path: str = '') -> Iterator[tuple[str, Any]]:
    """Every dict (MMEngine's or another) in a config with its dotted path."""
    if isinstance(value, (Config, Mapping)):
        if path:
            yield path, value
        items = value.items()
    elif isinstance(value, (list, tuple)):
        items = enumerate(value)
    else:
        return
    for key, child in items:
        yield from _dicts(child, f'{path}.{key}' if path else str(key))
