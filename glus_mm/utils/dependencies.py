"""Check at import that what glus_mm stands on is there."""

from importlib.util import find_spec


def check_dependencies() -> None:
    """Raise if no ``mmcv`` module is installed.

    ``mmcv-lite`` and the full ``mmcv`` provide the same module, so neither can be a hard
    requirement of the package: pip would install the one beside the other.

    Raises:
        ImportError: neither is installed; the message gives the command.
    """
    if find_spec('mmcv') is None:
        raise ImportError(
            'glus_mm needs mmcv, and neither mmcv nor mmcv-lite is installed. '
            'Install the light one, which is enough: pip install "glus_mm[lite]" '
            '(or: pip install mmcv-lite)')
