"""Check at import that what glus_mm stands on is there."""

import logging
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


def quiet_dependencies() -> None:
    """Silence what a dependency says at every start and no user can act upon.

    peft imports bitsandbytes wherever it is installed, which then asks for a package of faster
    kernels on every machine without an accelerator.
    """
    logging.getLogger('bitsandbytes.backends.cpu.ops').setLevel(logging.ERROR)
