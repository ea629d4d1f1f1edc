"""Test a checkpoint on a config's test set; the same as ``glus-mm test``.

Example::

    python tools/test.py configs/glus/glus_tiny_moving-shapes.py \
        checkpoints/glus_tiny_moving-shapes.pth --dump outputs/test.json
"""

from glus_mm.cli.main import run_tool


def main() -> None:
    """Test."""
    run_tool('test')


if __name__ == '__main__':
    main()
