"""Keep MMEngine and transformers from importing every library that is installed.

``mmengine.optim`` and ``mmengine._strategy`` import bitsandbytes, DeepSpeed and what transformers'
trainer needs, PEFT among it, wherever they are installed: more than torch itself costs, in every
process. :func:`defer_optional_imports` hides these libraries while the two packages are first
imported, and only then. What they would have registered is registered on the first look-up of an
optimizer that is not there otherwise. SciPy, which transformers imports for losses of object
detection, is imported when one of them is computed; torch's compiler, which transformers tells what
it must not trace, when something is compiled.
"""

import gc
import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import lru_cache, partial, wraps
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from types import ModuleType
from typing import Any

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
_SCAN = 'transformers.utils.import_utils'
_COMPILER = 'torch._dynamo'
# What is used of the compiler when something is called, and who has it from import on.
_USED = {f'{_COMPILER}._trace_wrapped_higher_order_op': 'TransformGetItemToIndex',
         f'{_COMPILER}.utils': 'is_compile_supported'}
_USERS = ('transformers.masking_utils', 'transformers.integrations.deepgemm',
          'transformers.integrations.finegrained_fp8', 'transformers.integrations.flex_attention',
          'transformers.modeling_utils', 'torchvision.ops.roi_align', 'torchvision.tv_tensors')
# What the compiler has to be told as soon as it is imported.
_told_later: list[Callable[[], None]] = []


def defer_optional_imports() -> None:
    """Let MMEngine's packages be imported without the libraries that they may never use.

    Does nothing for a package that has been imported already. While one of the two is being
    imported, another thread's import of a hidden library would fail as if it were not installed.
    """
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    """Finds a few modules as everybody does, and runs them with a guard."""

    def find_spec(self, fullname: str, path: Sequence[str] | None,
                  target: ModuleType | None = None) -> ModuleSpec | None:
        """The module's own spec, the run of which is guarded; None for all other modules."""
        guard = _guard(fullname)
        spec = guard and PathFinder.find_spec(fullname, path, target)
        if not spec or spec.loader is None:
            return spec or None
        run = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            spec.loader.exec_module = run
            with guard:
                run(module)

        spec.loader.exec_module = exec_module
        return spec


def _guard(name: str) -> AbstractContextManager | None:
    """What a module is run in."""
    if name in _HIDDEN:
        return _optional_hidden(name)
    if name == _LOSSES:
        return _scipy_put_off()
    if name in _USERS:
        return _compiler_put_off()
    if name == _SCAN:
        return _scanned_once()
    return _compiler_told() if name == _COMPILER else None


def attach_stub(package: str, file: str) -> tuple[Callable, Callable, list[str]]:
    """``lazy_loader.attach_stub``; while it imports, nothing looks for garbage.

    Large libraries spend a quarter of the time of their import on that. What is there afterwards
    counts as old, as if it had been looked through.
    """
    import lazy_loader  # what is missing is named first, by check_dependencies

    load, names, public = lazy_loader.attach_stub(package, file)

    def load_quickly(name: str) -> object:
        enabled = gc.isenabled()
        gc.disable()
        try:
            return load(name)
        finally:
            if enabled:
                if not gc.get_freeze_count():
                    gc.freeze()
                    gc.unfreeze()
                gc.enable()

    return load_quickly, names, public


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
def _optional_hidden(package: str) -> Iterator[None]:
    """Let one of MMEngine's packages be imported without what ``_HIDDEN`` has for it."""
    with hidden(_HIDDEN[package]):
        yield
    if package == 'mmengine.optim':
        optimizers = sys.modules['mmengine.registry'].OPTIMIZERS
        # MMEngine looks into this dict, also from the registries of other packages.
        optimizers._module_dict = _Modules(optimizers._module_dict)
    else:
        sys.modules['mmengine._strategy.deepspeed'].deepspeed = _first_use('deepspeed')


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


@contextmanager
def _compiler_put_off() -> Iterator[None]:
    """Let a module use a little of torch's compiler, which hears of it when it is imported.

    Whatever else the module wants of the compiler imports it.
    """
    if _COMPILER in sys.modules:
        yield
        return
    stand_ins = {name: ModuleType(name) for name in (_COMPILER, *_USED)}

    def remove() -> None:
        for name, module in stand_ins.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]

    def real(module: str, name: str) -> Any:
        remove()
        return getattr(importlib.import_module(module), name)

    def other(module: str, name: str) -> Any:
        # Anybody asks every module for such names; __path__ of a package is for its next module.
        if name.startswith('__') and (name != '__path__' or module in _USED):
            raise AttributeError(name)
        return real(module, name)

    def later(name: str, function: Callable) -> Callable:
        _told_later.append(lambda: real(_COMPILER, name)(function))
        return function

    def disable(function: Callable | None, recursive: bool = True, **options: Any) -> Callable:
        if function is None:
            return partial(disable, recursive=recursive, **options)

        @wraps(function)
        def disabled(*args: Any, **kwargs: Any) -> Any:
            return real(_COMPILER, 'disable')(function, recursive, **options)(*args, **kwargs)

        return disabled

    def call(module: str, name: str) -> Callable:
        def stand_in(*args: Any, **kwargs: Any) -> Any:
            return real(module, name)(*args, **kwargs)

        def replace() -> None:  # it could not be traced
            for user in filter(None, map(sys.modules.get, _USERS)):
                if getattr(user, name, None) is stand_in:
                    setattr(user, name, real(module, name))

        _told_later.append(replace)
        return stand_in

    for name, module in stand_ins.items():
        module.__getattr__ = partial(other, name)
        sys.modules[name] = module
    for name in ('allow_in_graph', 'assume_constant_result'):
        setattr(stand_ins[_COMPILER], name, partial(later, name))
    stand_ins[_COMPILER].disable = disable
    for module, name in _USED.items():
        setattr(stand_ins[module], name, call(module, name))
    try:
        yield
    finally:
        remove()


@contextmanager
def _compiler_told() -> Iterator[None]:
    yield
    while _told_later:
        _told_later.pop()()


@contextmanager
def _scanned_once() -> Iterator[None]:
    """Let transformers keep which model has what: it reads all its files twice as its cache is."""
    yield
    module = sys.modules[_SCAN]
    scan = getattr(module.create_import_structure_from_path, '__wrapped__', None)
    if scan is not None:
        module.create_import_structure_from_path = lru_cache(4096)(scan)


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


def _first_use(name: str) -> ModuleType | None:
    """Stand-in for a module, imported when something is asked of it; None if not installed."""
    if name in sys.modules or find_spec(name) is None:
        return sys.modules.get(name)
    module = ModuleType(name)
    module.__getattr__ = lambda attribute: getattr(importlib.import_module(name), attribute)
    return module
