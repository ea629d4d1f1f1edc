"""Convert a Chat-UniVi checkpoint into a key-frame selector, to be trained.

The same as ``glus-mm convert chat-univi``.

Example::

    python tools/model_converters/chatunivi2mm.py Chat-UniVi checkpoints/chat-univi-7b-selector
"""

from glus_mm.cli.convert import run_tool


def main() -> None:
    """Convert."""
    run_tool('chat-univi')


if __name__ == '__main__':
    main()
