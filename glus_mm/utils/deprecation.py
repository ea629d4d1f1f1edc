"""Names that have moved keep working for one minor version, and say where they went."""

import warnings
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def moved(old: str, new: str, removed_in: str) -> Callable[[str], Any]:
    """Make the ``__getattr__`` of a module whose names are elsewhere now.

    Args:
        old: the module's dotted name.
        new: where its names are.
        removed_in: the version of glus_mm that will not have ``old`` any more.

    Returns:
        A function that hands out a name of ``new`` with a DeprecationWarning, which Python shows
        where the program itself asks for it.

    Raises:
        AttributeError: what is returned is asked for a name with two underscores.

    Examples:
        >>> __getattr__ = moved('glus_mm.old', 'glus_mm.new', '0.2')
    """

    def getattr_(name: str) -> Any:
        if name.startswith('__'):
            raise AttributeError(f'module {old!r} has no attribute {name!r}')
        value = getattr(import_module(new), name)
        warnings.warn(f'{old} is {new} now; the old name goes with glus_mm {removed_in}',
                      DeprecationWarning, stacklevel=2)
        return value

    return getattr_


def without_fixed(values: Mapping[str, Any] | None, where: str, removed_in: str,
                  **fixed: Any) -> dict[str, Any]:
    """Settings without those that have one value left, which is no longer written down.

    Args:
        values: a part of a config, or None for an empty one.
        where: what it is called, such as ``'model.test_cfg'``.
        removed_in: the version of glus_mm that will not know their names any more.
        **fixed: their names and values; one that has this value is dropped with a
            DeprecationWarning.

    Raises:
        ValueError: a setting has another value.
    """
    values = dict(values or {})
    for name, value in fixed.items():
        if name not in values:
            continue
        if values[name] != value:
            raise ValueError(f'{where}.{name} is {value!r} always, got {values[name]!r}')
        warnings.warn(f'{where}.{name} is {value!r} always; the name goes with glus_mm '
                      f'{removed_in}', DeprecationWarning, stacklevel=3)
        del values[name]
    return values
