"""Keep MMEngine from importing every optimizer library that is installed.

``mmengine.optim`` and ``mmengine._strategy`` import bitsandbytes, DeepSpeed and what transformers'
trainer needs, PEFT among it, wherever they are installed: more than torch itself costs, in every
process. :func:`defer_optional_imports` hides these libraries while the two packages are first
imported, and only then. What they would have registered is registered on the first look-up of an
optimizer that is not there otherwise. SciPy, which transformers imports for losses of object
detection, is imported when one of them is computed.
"""

import importlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from types import ModuleType

# The optimizers' libraries in the order in which mmengine.optim registers them, each with the
# function that does so and the list of names it keeps.
_OPTIMIZERS = {
    'dadaptation': ('register_dadaptation_optimizers', 'DADAPTATION_OPTIMIZERS'),
    'lion_pytorch': ('register_lion_optimizers', 'LION_OPTIMIZERS'),
    'Sophia': ('register_sophia_optimizers', 'SOPHIA_OPTIMIZERS'),
    'bitsandbytes': ('register_bitsandbytes_optimizers', 'BITSANDBYTES_OPTIMIZERS'),
    'transformers': ('register_transformers_optimizers', 'TRANSFORMERS_OPTIMIZERS'),
}
_HIDDEN = {'mmengine.optim': tuple(_OPTIMIZERS), 'mmengine._strategy': ('deepspeed', )}
_LOSSES = 'transformers.loss.loss_utils'


def defer_optional_imports() -> None:
    """Let MMEngine's packages be imported without the libraries that they may never use.

    Does nothing for a package that has been imported already. While one of the two is being
    imported, another thread's import of a hidden library would fail as if it were not installed.
    """
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    """Finds ``_LOSSES`` and what ``_HIDDEN`` has as everybody does, and runs it with a guard."""

    def find_spec(self, fullname: str, path: Sequence[str] | None,
                  target: ModuleType | None = None) -> ModuleSpec | None:
        """The module's own spec, the run of which is guarded; None for all other modules."""
        if fullname not in _HIDDEN and fullname != _LOSSES:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None:
            return spec
        run = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            spec.loader.exec_module = run
            with _scipy_put_off() if fullname == _LOSSES else hidden(_HIDDEN[fullname]):
                run(module)
            if fullname == 'mmengine.optim':
                _register_on_first_use()
            elif fullname == 'mmengine._strategy':
                sys.modules['mmengine._strategy.deepspeed'].deepspeed = _first_use('deepspeed')

        spec.loader.exec_module = exec_module
        return spec


@contextmanager
def hidden(names: Sequence[str]) -> Iterator[None]:
    """Make modules look as if they were not installed.

    Args:
        names: of top-level modules, imported already or not; afterwards all is as before.
    """
    before = {name: sys.modules[name] for name in names if name in sys.modules}
    sys.modules.update(dict.fromkeys(names))  # None, which an import takes for "not there"
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]
        sys.modules.update(before)


@contextmanager
def _scipy_put_off() -> Iterator[None]:
    """Let a matching of SciPy be imported that imports SciPy when it is called."""
    spec = None if 'scipy' in sys.modules else find_spec('scipy')
    if spec is None:
        yield
        return

    def linear_sum_assignment(*args: object, **kwargs: object) -> object:
        return importlib.import_module('scipy.optimize').linear_sum_assignment(*args, **kwargs)

    package, optimize = ModuleType('scipy'), ModuleType('scipy.optimize')
    package.__spec__, package.__path__ = spec, []
    optimize.linear_sum_assignment = linear_sum_assignment
    sys.modules.update({'scipy': package, 'scipy.optimize': optimize})
    try:
        yield
    finally:
        for name in ('scipy', 'scipy.optimize'):
            del sys.modules[name]


class _Modules(dict):
    """Names and classes of a registry; one that is missing registers what was put off, once."""

    def __init__(self, known: dict) -> None:
        super().__init__(known)
        self.complete = False

    def __contains__(self, name: object) -> bool:
        if not super().__contains__(name) and not self.complete:
            self.complete = True
            builder = sys.modules['mmengine.optim.optimizer.builder']
            for register, names in _OPTIMIZERS.values():
                getattr(builder, names).extend(getattr(builder, register)())
        return super().__contains__(name)


def _register_on_first_use() -> None:
    optimizers = sys.modules['mmengine.registry'].OPTIMIZERS
    # MMEngine looks into this dict, also from the registries of other packages.
    optimizers._module_dict = _Modules(optimizers._module_dict)


def _first_use(name: str) -> ModuleType | None:
    """Stand-in for a module, imported when something is asked of it; None if not installed."""
    if name in sys.modules or find_spec(name) is None:
        return sys.modules.get(name)
    module = ModuleType(name)
    module.__getattr__ = lambda attribute: getattr(importlib.import_module(name), attribute)
    return module
