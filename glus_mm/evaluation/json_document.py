"""Writing figures as JSON."""

import json
from pathlib import Path

from glus_mm.utils.checkpoint_files import atomic_file


def write_document(path: Path, document: dict) -> None:
    """Write a JSON document; the file appears complete or not at all.

    Raises:
        OSError: the file cannot be written.
        ValueError: a number is not finite.
    """
    text = json.dumps(document, indent=1, allow_nan=False)
    with atomic_file(path) as part:
        part.write_text(text + '\n', encoding='utf-8')
