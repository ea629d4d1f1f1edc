"""Keys of a config that nobody reads, which most often are misspelt ones.

MMEngine merges whatever a config or ``--cfg-options`` says, and ignores what it does not know.
"""

import ast
import inspect
from collections.abc import Collection, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from mmengine import Config
from mmengine.dist import init_dist
from mmengine.utils.dl_utils import set_multi_processing
from torch import nn
from torch.nn import utils as nn_utils

from glus_mm import registry
from glus_mm.utils.deprecation import project_hint
from glus_mm.utils.spelling import is_one_edit, nearest

# Read from a config beside the arguments of the Runner: by MMEngine, by the tools.
_EXTRA_KEYS = ('custom_imports', 'find_unused_parameters', 'model_wrapper_cfg', 'runner_type',
              'sync_bn', 'compile', 'strategy', 'env_cfg', 'activation_checkpointing',
              'efficient_conv_bn_eval', 'checkpoint')
_HOOKS = ('runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler', 'checkpoint',
          'token_bank', 'resume_sampler', 'data_error', 'finite_loss', 'preemption',
          'visualization')
# Keys of a part with ``type`` that MMEngine takes out before it builds the part.
_TAKEN = ('type', '_scope_', 'priority', 'constructor', 'paramwise_cfg', 'convert_to_iter_based')
_LOADER = ('dataset', 'sampler', 'batch_sampler', 'collate_fn', 'worker_init_fn',
           'num_batch_per_epoch', 'disable_subprocess_warning')
# Classes by the name of their ``type``. No look-up here may import DeepSpeed or the inferencers;
# a look-up in OPTIMIZERS of what is elsewhere imports every library of optimizers: it is the last.
_REGISTRIES = ('MODELS', 'DATASETS', 'DATA_SAMPLERS', 'TRANSFORMS', 'HOOKS', 'LOG_PROCESSORS',
               'MODEL_WRAPPERS', 'METRICS', 'VISUALIZERS', 'OPTIM_WRAPPERS', 'EVALUATOR', 'LOOPS',
               'PARAM_SCHEDULERS', 'VISBACKENDS', 'FUNCTIONS', 'OPTIM_WRAPPER_CONSTRUCTORS',
               'WEIGHT_INITIALIZERS', 'TASK_UTILS', 'OPTIMIZERS')


@lru_cache(maxsize=1)
def top_keys() -> frozenset[str]:
    """Top-level keys of a config that MMEngine or the tools read."""
    from mmengine.runner import Runner  # takes a second: not where no run is made

    arguments = set(inspect.signature(Runner.__init__).parameters)
    return frozenset(arguments | set(_EXTRA_KEYS)) - {'self', 'cfg'}


def override_model(cfg: Config, options: Mapping[str, Any], source: str) -> None:
    """Override values of a config, and check the model, which is all that inference reads.

    Args:
        cfg: the config; changed in place.
        options: dotted keys and values.
        source: where the config came from, for the message.

    Raises:
        KeyError: an option begins with a key that the config does not have, or a part of the
            model has a key that its class does not know.
    """
    for key in options:
        if key.split('.')[0] not in cfg:
            raise KeyError(f'cfg_options {key!r}: {source} has no {key.split(".")[0]!r}, only '
                           f'{sorted(cfg.keys())}')
    cfg.merge_from_dict(dict(options))
    _check_typed(cfg.get('model'), 'model', cfg.get('default_scope'))


def check_config_keys(cfg: Config) -> None:
    """Raise if a config has a key that nobody would read.

    - At the top a key may have any name, as configs compute with names of their own, but one that
      is an edit away from a key of MMEngine, or from a name of a ``_base_``, has to be read in
      the file itself; so has one that a ``_base_`` has used already.
    - A part with ``type`` has the arguments of its class, and what MMEngine itself reads
      (``optim_wrapper``, loaders, loops, ``env_cfg``, ``randomness``) has the keys that it knows.
      Classes that take any keyword, and types that cannot be found, are left alone.
    - A hook of ``default_hooks`` may have any name that is no edit away from a known one.

    Parts of a model without ``type`` (``mllm.llm``, ``test_cfg``) are checked by the model.

    Raises:
        KeyError: there is one; the message, one line, has its path and the nearest known key. Or a
            class is in a project now.
    """
    if isinstance(cfg.filename, str) and cfg.filename.endswith('.py'):
        _check_names(Path(cfg.filename))
    else:
        for key in cfg:
            _check_near(key, top_keys(), 'the config')
    _check_sections(cfg)
    for key, value in cfg.items():
        if key != 'strategy':
            _check_typed(value, key, cfg.get('default_scope'))


def _error(where: str, key: str, known: Collection[str], whose: str) -> KeyError:
    path = f'{where}.{key}' if where else key
    return KeyError(f'{path}: expected a key of {whose}, got {key!r}; the nearest is '
                    f'{nearest(key, known)!r}')


def _check_near(key: str, known: Collection[str], whose: str, where: str = '') -> None:
    """Refuse a key that is an edit away from a known one."""
    if key not in known and any(is_one_edit(key, other) for other in known):
        raise _error(where, key, known, whose)


def _check_all(value: Any, known: Collection[str], where: str, whose: str) -> None:
    """Refuse a key that is not known; a value that is no dict is none of our business."""
    for key in value if isinstance(value, Mapping) else ():
        if key not in known:
            raise _error(where, key, known, whose)


# Names at the top of a file

def _check_names(path: Path, read_below: Collection[str] = ()) -> set[str]:
    """Check the names of a file and of its bases; returns all that they set.

    Args:
        path: the file.
        read_below: names that files which inherit from it read of it.
    """
    try:
        tree = ast.parse(path.read_text(encoding='utf-8'))
    except (OSError, SyntaxError, ValueError):
        return set()  # MMEngine has read it, so that it is there in another way
    own, bases = set(), []
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, 'target', None)]
        names = {target.id for target in targets if isinstance(target, ast.Name)}
        own |= names
        if '_base_' in names:
            try:
                value = ast.literal_eval(node.value)
            except ValueError:
                value = ()
            bases = [value] if isinstance(value, str) else [
                item for item in value if isinstance(item, str)]
    read = {node.id for node in ast.walk(tree)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    of_bases = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name) and node.value.id == '_base_'}
    inherited = set()
    for base in bases:
        if '::' not in base:
            inherited |= _check_names(path.parent / base, {*read_below, *of_bases})
    for name in sorted(own - read - {'_base_'}):
        _check_near(name, top_keys() | inherited | {'_base_'}, f'a config, in {path}')
        if name in inherited - top_keys() and name not in read_below:
            raise KeyError(
                f'{name}: expected a value that is read, got one in {path} that has no effect: the '
                f'file that it inherits {name!r} from has used it already. Override what it was '
                f'used for, or use it here')
    return own | inherited


# What MMEngine reads without a class

def _parameters(*functions: Any) -> set[str]:
    return {name for function in functions for name in inspect.signature(function).parameters}


def _check_sections(cfg: Config) -> None:
    from mmengine.runner import IterBasedTrainLoop, TestLoop, ValLoop, set_random_seed

    for name in cfg.get('default_hooks') or {}:
        _check_near(name, _HOOKS, 'default_hooks', 'default_hooks')
    env = cfg.get('env_cfg') or {}
    _check_all(env, ('cudnn_benchmark', 'mp_cfg', 'dist_cfg', 'resource_limit'), 'env_cfg',
               'env_cfg')
    _check_all(env.get('mp_cfg'), _parameters(set_multi_processing), 'env_cfg.mp_cfg',
               'set_multi_processing')
    _check_all(env.get('dist_cfg'),
               _parameters(init_dist, torch.distributed.init_process_group) - {'kwargs'},
               'env_cfg.dist_cfg', 'init_dist')
    _check_all(cfg.get('randomness'), _parameters(set_random_seed), 'randomness',
               'set_random_seed')
    _check_all(cfg.get('auto_scale_lr'), ('enable', 'base_batch_size'), 'auto_scale_lr',
               'auto_scale_lr')
    loader = _parameters(torch.utils.data.DataLoader) | set(_LOADER)
    for phase, loop in (('train', IterBasedTrainLoop), ('val', ValLoop), ('test', TestLoop)):
        _check_all(cfg.get(f'{phase}_dataloader'), loader, f'{phase}_dataloader', 'DataLoader')
        section = cfg.get(f'{phase}_cfg') or {}
        if 'type' not in section:
            _check_all(section, _arguments(loop) | {'by_epoch', 'max_epochs', 'type'},
                       f'{phase}_cfg', loop.__name__)
    wrapper = cfg.get('optim_wrapper')
    if isinstance(wrapper, Mapping):
        _check_wrapper(wrapper, cfg.get('default_scope'))


def _check_wrapper(wrapper: Mapping, scope: str | None) -> None:
    from mmengine.optim import OptimWrapper

    if 'type' not in wrapper:
        _check_all(wrapper, _arguments(OptimWrapper) | set(_TAKEN), 'optim_wrapper',
                   'OptimWrapper')
    clip = wrapper.get('clip_grad')
    if isinstance(clip, Mapping):
        function = (nn_utils.clip_grad_value_ if clip.get('type') == 'value'
                    else nn_utils.clip_grad_norm_)
        _check_all(clip, (_parameters(function) | {'type'}) - {'parameters'},
                   'optim_wrapper.clip_grad', function.__name__)
    paramwise = wrapper.get('paramwise_cfg')
    if 'constructor' in wrapper or not isinstance(paramwise, Mapping):
        return
    whose = 'DefaultOptimWrapperConstructor'
    _check_all(paramwise, (
        'custom_keys', 'bias_lr_mult', 'bias_decay_mult', 'norm_decay_mult', 'dwconv_decay_mult',
        'dcn_offset_lr_mult', 'bypass_duplicate', 'flat_decay_mult'),
        'optim_wrapper.paramwise_cfg', whose)
    optimizer = _class_of((wrapper.get('optimizer') or {}).get('type'), scope)
    options = (_arguments(optimizer) or set()) - {'params'}
    for name, values in (paramwise.get('custom_keys') or {}).items():
        _check_all(values, options | {'lr_mult', 'decay_mult'},
                   f'optim_wrapper.paramwise_cfg.custom_keys.{name}', whose)


# Parts with a class

def _check_typed(value: Any, where: str, scope: str | None) -> None:
    if isinstance(value, Mapping):
        scope = value.get('_scope_', scope)
        kind = _class_of(value.get('type'), scope)
        hint = '' if kind else project_hint(str(value.get('type')).rpartition('.')[2])
        if hint:
            raise KeyError(f'{where}.type: {hint}')
        known = None if kind is None else _arguments(kind)
        if known is not None:
            _check_all(value, known | set(_TAKEN), where, kind.__name__)
        children = value.items()
    else:
        children = enumerate(value) if isinstance(value, (list, tuple)) else ()
    for key, child in children:
        _check_typed(child, f'{where}.{key}', scope)


def _class_of(kind: Any, scope: str | None) -> Any:
    """What a ``type`` names in a default scope; None for what cannot be found."""
    if not isinstance(kind, str):
        return kind if inspect.isclass(kind) or inspect.isfunction(kind) else None
    names = [kind] if scope is None or '.' in kind else [f'{scope}.{kind}', kind]
    for root in (getattr(registry, name).parent for name in _REGISTRIES):
        for name in names:
            found = root.get(name)
            if found is not None:
                return found
    return None


@lru_cache(maxsize=512)
def _arguments(kind: Any) -> set[str] | None:
    """Keywords of a class, with those of the bases that it hands the others to.

    None where any keyword is taken.
    """
    functions = [kind] if not inspect.isclass(kind) else [
        base.__dict__['__init__'] for base in kind.__mro__
        if '__init__' in base.__dict__ and base is not object]
    names: set[str] = set()
    for function in functions:
        parameters = inspect.signature(function).parameters.values()
        names |= {item.name for item in parameters
                  if item.kind in (item.KEYWORD_ONLY, item.POSITIONAL_OR_KEYWORD)}
        if not any(item.kind is item.VAR_KEYWORD for item in parameters):
            return names - {'self'}
    return None if functions else set()


def check_custom_keys(wrapper: Any, model: nn.Module) -> None:
    """Raise if a key of ``optim_wrapper.paramwise_cfg.custom_keys`` matches no parameter.

    MMEngine looks for it anywhere in a parameter's name, and ignores one that it does not find.

    Args:
        wrapper: config of the optimizer wrapper; anything else is left alone.
        model: the model that will be trained.

    Raises:
        KeyError: there is one; the message has the nearest part of a parameter's name.
    """
    paramwise = wrapper.get('paramwise_cfg') if isinstance(wrapper, Mapping) else None
    names = [name for name, _ in model.named_parameters()]
    for key in (paramwise or {}).get('custom_keys') or ():
        if not any(key in name for name in names):
            parts = {part for name in names for part in name.split('.')}
            raise KeyError(
                f'optim_wrapper.paramwise_cfg.custom_keys.{key}: expected a part of the name of a '
                f'parameter of {type(model).__name__}, got {key!r}, which none has; the nearest '
                f'is {nearest(key, parts)!r}')
