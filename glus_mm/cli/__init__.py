"""The command line, ``glus-mm``: thin layers over ``glus_mm.apis`` and ``glus_mm.conversion``.

Each module is a command with ``add_arguments(parser)`` and ``run(args)``. What takes seconds to
import, torch above all, is imported by ``run``, so that ``--help`` answers at once.
"""

from glus_mm.cli.main import main

__all__ = ['main']
