"""Files that come with the package: configs, metafiles, the tiny checkpoint.

They lie beside the package in a checkout (and in an editable installation of one), and in
``glus_mm/.mim`` where a wheel was installed, as OpenMIM expects it; ``setup.py`` copies them there.
"""

from os import PathLike
from pathlib import Path

MODEL_INDEX = 'model-index.yml'
_PACKAGE = Path(__file__).resolve().parents[1]


def resource_root() -> Path:
    """The folder that holds ``configs/``, ``checkpoints/`` and ``model-index.yml``.

    Raises:
        FileNotFoundError: neither place has them: the package was copied without its data.
    """
    places = (_PACKAGE / '.mim', _PACKAGE.parent)
    for place in places:
        if (place / MODEL_INDEX).is_file():
            return place
    raise FileNotFoundError(
        f'expected {MODEL_INDEX} and the configs of glus_mm in one of '
        f'{", ".join(map(str, places))}, got neither; install the package with pip')


def find_resource(path: str | PathLike) -> Path:
    """Find a file that a user names: one of their own first, else one that comes with the package.

    Args:
        path: such as ``'configs/glus/glus_tiny_moving-shapes.py'``; ``~`` is expanded.

    Returns:
        The path as it is if something is there, or if the package has no such file either; else
        that of the package's file.
    """
    own = Path(path).expanduser()
    if own.exists() or own.is_absolute():
        return own
    try:
        shipped = resource_root() / own
    except FileNotFoundError:  # then nothing is shipped
        return own
    return shipped if shipped.is_file() else own
