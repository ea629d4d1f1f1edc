"""Train a model from a config; the same as ``glus-mm train``.

Example::

    python tools/train.py configs/glus/glus_tiny_moving-shapes.py --work-dir outputs/train \
        --cfg-options load_from=checkpoints/glus_tiny_moving-shapes.pth
"""

from glus_mm.cli.main import run_tool


def main() -> None:
    """Train."""
    run_tool('train')


if __name__ == '__main__':
    main()
