"""Evaluate predicted masks, PNG files that any system wrote, with a protocol of the field.

The same as ``glus-mm eval``. Prints a table in percent; ``--out`` writes all figures, down to
single frames, as fractions of 1. docs/evaluation.md describes the protocols, folders and the JSON
file. Example::

    python tools/analysis_tools/eval_masks.py --protocol mevis --ann data/mevis/valid_u \\
        --pred outputs/masks --workers 4 --out outputs/figures.json
"""

import argparse

from glus_mm.cli.eval import add_arguments, run
from glus_mm.cli.user_error import UserError


def main() -> None:
    """Evaluate, print and write."""
    parser = argparse.ArgumentParser(description='Evaluate predicted masks')
    add_arguments(parser)
    args = parser.parse_args()
    try:
        run(args)
    except UserError as error:
        parser.exit(2, f'{parser.prog}: error: {error}\n')


if __name__ == '__main__':
    main()
