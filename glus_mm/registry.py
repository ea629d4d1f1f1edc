"""Registries of glus_mm: children of MMEngine's, with scope ``glus_mm``.

``type='glus_mm.GLUS'`` works from any project, even without an import: the ``locations`` are
imported when a name is first looked up.
"""

from typing import Any

from mmengine import registry as mmengine_registry
from mmengine.registry import Registry

SCOPE = 'glus_mm'


def _child(name: str, *locations: str) -> Registry:
    """Child of MMEngine's registry of that name; imports ``locations`` at the first look-up."""
    parent = getattr(mmengine_registry, name)
    return Registry(parent.name, parent=parent, scope=SCOPE, locations=list(locations))


MODELS = _child('MODELS', 'glus_mm.models.data_preprocessor', *(
    f'glus_mm.models.{part}' for part in ('heads', 'losses', 'mllms', 'propagators', 'segmentors',
                                          'selectors')))
DATASETS = _child('DATASETS', 'glus_mm.datasets')
DATA_SAMPLERS = _child('DATA_SAMPLERS', 'glus_mm.datasets')
TRANSFORMS = _child('TRANSFORMS', 'glus_mm.datasets')
HOOKS = _child('HOOKS', 'glus_mm.engine')
LOG_PROCESSORS = _child('LOG_PROCESSORS', 'glus_mm.engine')
MODEL_WRAPPERS = _child('MODEL_WRAPPERS', 'glus_mm.engine')
METRICS = _child('METRICS', 'glus_mm.evaluation')
VISUALIZERS = _child('VISUALIZERS', 'glus_mm.visualization')
INFERENCERS = _child('INFERENCERS', 'glus_mm.apis.glus_inferencer')
OPTIM_WRAPPERS = _child('OPTIM_WRAPPERS', 'glus_mm.engine.zero_optim_wrapper')
# Needs DeepSpeed, so that no other look-up may import it.
STRATEGIES = _child('STRATEGIES', 'glus_mm.engine.safe_deepspeed_strategy')

# Nothing of our own is in these; without them MMEngine warns at each look-up in our scope.
EVALUATOR = _child('EVALUATOR')
FUNCTIONS = _child('FUNCTIONS')
LOOPS = _child('LOOPS')
OPTIM_WRAPPER_CONSTRUCTORS = _child('OPTIM_WRAPPER_CONSTRUCTORS')
OPTIMIZERS = _child('OPTIMIZERS')
PARAM_SCHEDULERS = _child('PARAM_SCHEDULERS')
RUNNER_CONSTRUCTORS = _child('RUNNER_CONSTRUCTORS')
RUNNERS = _child('RUNNERS')
TASK_UTILS = _child('TASK_UTILS')
VISBACKENDS = _child('VISBACKENDS')
WEIGHT_INITIALIZERS = _child('WEIGHT_INITIALIZERS')


def build_child(registry: Registry, cfg: Any, **defaults) -> Any:
    """Build a part of a composite in the scope of glus_mm.

    A composite such as ``glus_mm.GLUS`` may be built from a project with another default scope;
    its children, written without a prefix, must still be found here.

    Args:
        registry: the registry to build with.
        cfg: a config with ``type``, or an object that is built already, which is returned as is.
        **defaults: values for keys that ``cfg`` does not set.

    Raises:
        TypeError: ``cfg`` is neither a dict with ``type`` nor a built object.
    """
    if not isinstance(cfg, dict):
        if cfg is None or isinstance(cfg, (str, list, tuple, int, float)):
            raise TypeError(f'expected a config dict for a {registry.name}, got {cfg!r}')
        return cfg
    cfg = dict(defaults, **cfg)
    cfg.setdefault('_scope_', SCOPE)
    return registry.build(cfg)
