"""Registries with a scope of their own, children of MMEngine's as those of glus_mm are."""

from mmengine.registry import MODELS as MMENGINE_MODELS, TRANSFORMS as MMENGINE_TRANSFORMS, Registry

SCOPE = 'example_project'

MODELS = Registry('model', parent=MMENGINE_MODELS, scope=SCOPE, locations=[SCOPE])
TRANSFORMS = Registry('transform', parent=MMENGINE_TRANSFORMS, scope=SCOPE, locations=[SCOPE])
