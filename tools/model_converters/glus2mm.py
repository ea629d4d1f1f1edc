"""Convert an official GLUS checkpoint (GLUS-S, GLUS-A, ...) into a folder that glus_mm runs.

The same as ``glus-mm convert glus``.

Example::

    python tools/model_converters/glus2mm.py GLUS-S checkpoints/glus-s
    python demo/video_demo.py VIDEO checkpoints/glus-s/config.py checkpoints/glus-s/model.pth \
        --text "the cat" --out-dir outputs
"""

from glus_mm.cli.convert import run_tool


def main() -> None:
    """Convert."""
    run_tool('glus')


if __name__ == '__main__':
    main()
