"""Write a model in the layout of the official GLUS checkpoints; LoRA adapters are merged.

The same as ``glus-mm convert official``.

Example::

    python tools/model_converters/mm2hf.py work_dirs/RUN/CONFIG.py work_dirs/RUN/iter_3000.pth \
        GLUS-mine --dtype bfloat16
"""

from glus_mm.cli.convert import run_tool


def main() -> None:
    """Convert."""
    run_tool('official')


if __name__ == '__main__':
    main()
