"""Names that have moved keep working for one minor version, and say where they went."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

# What has left the package for a project of the repository: classes, and configs by their stem.
_IN_PROJECTS = {'VideoQASelector': 'video_qa', 'chat-univi-7b_video-qa': 'video_qa'}


def project_hint(name: str) -> str:
    """What to do about a class or a config that is in a project now; ``''`` for any other."""
    project = _IN_PROJECTS.get(name)
    return project and (
        f'{name} is in projects/{project} of the repository now: run with PYTHONPATH=projects/'
        f"{project}, and custom_imports=dict(imports=['{project}']) in a config of your own") or ''


def moved(old: str, new: str, removed_in: str, names: Sequence[str] = (),
          others: Callable[[str], Any] | None = None) -> Callable[[str], Any]:
    """Make the ``__getattr__`` of a module whose names are elsewhere now.

    Args:
        old: the module's dotted name.
        new: where its names are; a package without a dot is that of a project.
        removed_in: the version of glus_mm that will not have ``old`` any more.
        names: those that are elsewhere; by default all.
        others: hands out the others.

    Returns:
        A function that hands out a name of ``new`` with a DeprecationWarning, which Python shows
        where the program itself asks for it.

    Raises:
        AttributeError: what is returned is asked for a name with two underscores, or another one.
        ImportError: the project is not on the path; the message says what to do.

    Examples:
        >>> __getattr__ = moved('glus_mm.old', 'glus_mm.new', '0.2')
    """

    def getattr_(name: str) -> Any:
        if names and name not in names or name.startswith('__'):
            if others is not None:
                return others(name)
            raise AttributeError(f'module {old!r} has no attribute {name!r}')
        try:
            value = getattr(import_module(new), name)
        except ModuleNotFoundError as error:
            raise ImportError(f'{old}.{name} is {new}.{name} now, in projects/{new} of the '
                              f'repository: run with PYTHONPATH=projects/{new}') from error
        warnings.warn(f'{old} is {new} now; the old name goes with glus_mm {removed_in}',
                      DeprecationWarning, stacklevel=2)
        return value

    return getattr_


def ignored(where: str, value: Any, removed_in: str) -> None:
    """Warn of an argument that is not needed any more.

    Args:
        where: its name.
        value: what was given; None for nothing.
        removed_in: the version of glus_mm that will not know the name.
    """
    if value is not None:
        warnings.warn(f'{where} is not needed any more; the name goes with glus_mm {removed_in}',
                      DeprecationWarning, stacklevel=3)


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
