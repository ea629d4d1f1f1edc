"""Check at import that what glus_mm stands on is there."""

import logging
from collections import defaultdict
from importlib.metadata import distributions
from importlib.util import find_spec

# The packages of which one has to be there, by the module that they bring.
PROVIDERS = {'mmengine': ('mmengine', 'onedl-mmengine'),
              'mmcv': ('mmcv', 'mmcv-lite', 'onedl-mmcv')}
_INSTALL = ('pip install "glus_mm[lite]" (MMEngine, mmcv-lite) or pip install "glus_mm[onedl]" '
            '(their maintained forks)')
_REMOVE = 'pip uninstall -y mmengine onedl-mmengine mmcv mmcv-lite onedl-mmcv'


def check_dependencies() -> None:
    """Raise unless there is one engine and one ``mmcv``.

    Neither can be a hard requirement: stock and fork bring modules of the same name, and pip would
    install the one over the files of the other.

    Raises:
        ImportError: there is none, another one, or one lies over another; the message has the
            commands.
    """
    for module, names in PROVIDERS.items():
        spec = find_spec(module)
        if spec is None:
            raise ImportError(f'glus_mm needs {module}, which is not installed: {_INSTALL}')
        # By folder: of an environment that lies on top of another one, the upper packages count.
        installed = defaultdict(list)
        for name in names:
            for found in distributions(name=name):
                installed[found.locate_file('')].append(name)
        if not installed:
            raise ImportError(f'glus_mm needs the {module} of {" or ".join(names)}, got another '
                              f'one: {spec.origin or spec.submodule_search_locations}; remove it, '
                              f'then {_INSTALL}')
        for several in installed.values():
            if len(several) > 1:
                raise ImportError(
                    f'glus_mm needs one package that brings {module}; {" and ".join(several)} lie '
                    f'over one another: {_REMOVE}, then {_INSTALL}')


def quiet_dependencies() -> None:
    """Silence what a dependency says at every start and no user can act upon.

    peft imports bitsandbytes wherever it is installed, which then asks for a package of faster
    kernels on every machine without an accelerator.
    """
    logging.getLogger('bitsandbytes.backends.cpu.ops').setLevel(logging.ERROR)
