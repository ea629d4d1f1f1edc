"""``python -m glus_mm`` is ``glus-mm``, for environments whose programs are not on the path."""

import sys

from glus_mm.cli import main

if __name__ == '__main__':
    sys.exit(main())
