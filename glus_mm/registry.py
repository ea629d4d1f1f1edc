"""Registries of glus_mm: children of MMEngine's, with scope ``glus_mm``.

``type='glus_mm.GLUS'`` works from any project, even without an import: the ``locations`` are
imported when a name is first looked up.
"""

from typing import Any

from mmengine.registry import (DATA_SAMPLERS as MMENGINE_DATA_SAMPLERS, DATASETS as
                               MMENGINE_DATASETS, HOOKS as MMENGINE_HOOKS, INFERENCERS as
                               MMENGINE_INFERENCERS, METRICS as MMENGINE_METRICS, MODELS as
                               MMENGINE_MODELS, TRANSFORMS as MMENGINE_TRANSFORMS, VISUALIZERS as
                               MMENGINE_VISUALIZERS, Registry)

SCOPE = 'glus_mm'


def _child(name: str, parent: Registry, location: str) -> Registry:
    return Registry(name, parent=parent, scope=SCOPE, locations=[location])


MODELS = _child('model', MMENGINE_MODELS, 'glus_mm.models')
DATASETS = _child('dataset', MMENGINE_DATASETS, 'glus_mm.datasets')
DATA_SAMPLERS = _child('data sampler', MMENGINE_DATA_SAMPLERS, 'glus_mm.datasets')
TRANSFORMS = _child('transform', MMENGINE_TRANSFORMS, 'glus_mm.datasets')
HOOKS = _child('hook', MMENGINE_HOOKS, 'glus_mm.engine')
METRICS = _child('metric', MMENGINE_METRICS, 'glus_mm.evaluation')
VISUALIZERS = _child('visualizer', MMENGINE_VISUALIZERS, 'glus_mm.visualization')
INFERENCERS = _child('inferencer', MMENGINE_INFERENCERS, 'glus_mm.apis')


def build_child(registry: Registry, cfg: Any, **defaults) -> Any:
    """Build a part of a composite in the scope of glus_mm.

    A composite such as ``glus_mm.GLUS`` may be built from a project with another default scope;
    its children, written without a prefix, must still be found here.

    Args:
        registry: the registry to build with.
        cfg: a config with ``type``, or an object that is built already, which is returned as is.
        **defaults: values for keys that ``cfg`` does not set.

    Returns:
        The built object.

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
