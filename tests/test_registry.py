"""Scopes of the registries, and the direction in which the packages depend on one another."""

import ast
from pathlib import Path

import pytest
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import (
    DATASETS as MMENGINE_DATASETS,
    HOOKS as MMENGINE_HOOKS,
    MODELS as MMENGINE_MODELS,
    TRANSFORMS as MMENGINE_TRANSFORMS,
    DefaultScope,
    Registry,
)

from glus_mm import registry
from glus_mm.registry import HOOKS, MODELS, SCOPE, build_child

PACKAGE = Path(registry.__file__).parent
LAYERS = ('structures', 'text', 'utils', 'datasets', 'models', 'evaluation', 'visualization',
          'engine', 'conversion', 'apis', 'cli')
# What each part of the package may import; registry, version and video are free for all.
MAY_IMPORT = {
    'structures': set(),
    'text': {'utils'},
    'utils': set(),
    'datasets': {'structures', 'text', 'utils'},
    'models': {'structures', 'text', 'utils'},
    'evaluation': {'structures', 'utils'},
    'visualization': {'structures', 'utils'},
    'engine': {'structures', 'utils', 'datasets', 'models', 'evaluation', 'visualization'},
    'conversion': {'text', 'utils', 'models'},
    'apis': {'structures', 'text', 'utils', 'datasets', 'models', 'evaluation', 'visualization',
             'engine', 'conversion'},
    'cli': {'evaluation', 'utils', 'engine', 'conversion', 'apis'},
}
# And the parts of models one another.
MODELS_MAY_IMPORT = {
    'heads': set(),
    'losses': set(),
    'mllms': set(),
    'inference': {'heads'},
    'segmentors': {'heads', 'losses', 'mllms', 'inference'},
    'selectors': {'losses', 'mllms', 'segmentors'},
    'propagators': {'heads', 'mllms', 'inference', 'segmentors'},
}


@MODELS.register_module()
class RegistryTestPart:

    def __init__(self, size: int, name: str = 'none') -> None:
        self.size = size
        self.name = name


@MODELS.register_module()
class RegistryTestWhole:

    def __init__(self, part: dict) -> None:
        self.part = build_child(MODELS, part, name='from the whole')


@pytest.fixture
def other_scope():
    """Another project: its registry, its default scope, a module with a name of ours."""
    models = Registry('model', parent=MMENGINE_MODELS, scope='registry_test_project')

    class RegistryTestPart:

        def __init__(self) -> None:
            self.size = 'of the other project'

    models.register_module(module=RegistryTestPart)
    for kind in (DefaultScope, MessageHub, MMLogger):
        kind._instance_dict.clear()
    DefaultScope.get_instance('registry_test', scope_name='registry_test_project')
    yield models
    DefaultScope._instance_dict.clear()
    MMENGINE_MODELS._children.pop('registry_test_project')


def test_every_registry_has_the_scope_and_a_place_that_imports():
    for name in ('MODELS', 'DATASETS', 'TRANSFORMS', 'METRICS', 'HOOKS', 'DATA_SAMPLERS',
                 'VISUALIZERS'):
        child = getattr(registry, name)
        assert child.scope == SCOPE and child.parent.scope == 'mmengine'
        assert child._locations
        child.import_from_location()


@pytest.mark.parametrize(('parent', 'name'), [
    (MMENGINE_HOOKS, 'SafeCheckpointHook'), (MMENGINE_MODELS, 'GLUS'),
    (MMENGINE_MODELS, 'SAM2MemoryHead'), (MMENGINE_DATASETS, 'MeViSDataset'),
    (MMENGINE_TRANSFORMS, 'SampleContextQueryFrames')])
def test_prefixed_names_are_found_from_mmengine(parent, name):
    assert parent.get(f'glus_mm.{name}').__module__.startswith('glus_mm.')


def test_children_and_defaults(other_scope):
    whole = other_scope.build(dict(
        type='glus_mm.RegistryTestWhole', part=dict(type='RegistryTestPart', size=3)))
    assert whole.part.size == 3
    assert isinstance(whole.part, RegistryTestPart)
    # A child may still come from elsewhere, when it says so.
    whole = other_scope.build(dict(type='glus_mm.RegistryTestWhole', part=dict(
        type='RegistryTestPart', size=4, name='own', _scope_='glus_mm')))
    assert (whole.part.size, whole.part.name) == (4, 'own')
    part = build_child(MODELS, dict(type='RegistryTestPart', size=1), name='default')
    assert part.name == 'default'
    assert build_child(MODELS, part) is part
    cfg = dict(type='RegistryTestPart', size=1)
    build_child(MODELS, cfg, name='default')
    assert cfg == dict(type='RegistryTestPart', size=1), 'the config must not change'
    assert HOOKS.get('CheckpointHook').__module__.startswith('mmengine.')


@pytest.mark.parametrize('cfg', [None, 'RegistryTestPart', [1], 3])
def test_build_child_refuses_what_is_no_config(cfg):
    with pytest.raises(TypeError, match='expected a config dict for a model'):
        build_child(MODELS, cfg)


def test_config_typo_names_the_key():
    with pytest.raises(TypeError, match='sise'):
        build_child(MODELS, dict(type='RegistryTestPart', sise=1))


def imports_of(file):
    """Dotted names below glus_mm that a file imports, with the lines."""
    for node in ast.walk(ast.parse(file.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.level > 1:  # one dot stays in the folder
                yield node.lineno, ['..', '(name the package in full)']
            # ``from glus_mm import x`` and ``from glus_mm.x import y`` alike
            names = [] if node.level else [f'{node.module}.{alias.name}' for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split('.')
            if parts[0] == 'glus_mm' and len(parts) > 1:
                yield node.lineno, parts[1:]


@pytest.mark.parametrize('layer', LAYERS)
def test_dependency_direction(layer):
    wrong = []
    for file in sorted((PACKAGE / layer).rglob('*.py')):
        for line, parts in imports_of(file):
            allowed = {layer} | MAY_IMPORT[layer]
            free = parts[0] in ('registry', 'version', 'video', '__version__')
            if free or parts[0] in allowed or '.'.join(parts[:2]) in allowed:
                continue
            wrong.append(f'{file.relative_to(PACKAGE)}:{line} imports {".".join(parts)}')
    assert not wrong, '\n'.join(wrong)


@pytest.mark.parametrize('part', sorted(
    path.parent.name for path in PACKAGE.glob('models/*/__init__.py')))
def test_dependency_direction_inside_of_models(part):
    wrong = [f'{file.name}:{line} imports {".".join(parts)}'
             for file in sorted((PACKAGE / 'models' / part).rglob('*.py'))
             for line, parts in imports_of(file)
             if parts[0] == 'models' and parts[1] not in {part} | MODELS_MAY_IMPORT[part]]
    assert not wrong, '\n'.join(wrong)


def test_the_order_of_packages(tmp_path):
    file = tmp_path / 'bad.py'
    file.write_text('def f():\n    from glus_mm.apis import init_model\n')
    assert list(imports_of(file)) == [(2, ['apis', 'init_model'])]
    packages = {path.parent.name for path in PACKAGE.glob('*/__init__.py')}
    assert packages <= set(LAYERS)
