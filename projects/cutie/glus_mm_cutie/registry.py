"""A registry of this project's own, a child of MMEngine's as those of glus_mm are."""

from mmengine.registry import MODELS as MMENGINE_MODELS, Registry

SCOPE = 'glus_mm_cutie'

MODELS = Registry('model', parent=MMENGINE_MODELS, scope=SCOPE, locations=[SCOPE])
