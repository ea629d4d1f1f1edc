"""Evaluate predicted masks, PNG files that any system wrote: another name of ``glus-mm eval``.

Example::

    python tools/analysis_tools/eval_masks.py --protocol mevis --ann data/mevis/valid_u \\
        --pred outputs/masks --workers 4 --out outputs/figures.json
"""

from glus_mm.cli.main import run_tool


def main() -> None:
    """Evaluate, print and write."""
    run_tool('eval')


if __name__ == '__main__':
    main()
