"""Make the start of a GLUS training from LISA-7B-v1 and SAM-2, as the paper does.

The same as ``glus-mm convert lisa``.

Example::

    python tools/model_converters/lisa2mm.py LISA-7B-v1 checkpoints/lisa-7b_sam2-l \
        --sam2-checkpoint sam2_hiera_large.pt
"""

from glus_mm.cli.convert import run_tool


def main() -> None:
    """Convert."""
    run_tool('lisa')


if __name__ == '__main__':
    main()
