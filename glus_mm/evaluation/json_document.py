"""Writing figures as JSON."""

import json
import os
import tempfile
from pathlib import Path


def write_document(path: Path, document: dict) -> None:
    """Write a JSON document; the file appears complete or not at all.

    Args:
        path: the file to write; its folder exists.
        document: what to write.

    Raises:
        OSError: the file cannot be written.
        ValueError: a number is not finite.
    """
    text = json.dumps(document, indent=1, allow_nan=False)
    with tempfile.NamedTemporaryFile('w', dir=path.parent, prefix=f'.{path.name}.', delete=False,
                                     encoding='utf-8') as file:
        file.write(text + '\n')
    # A temporary file is private to its user; give it the mode that open() would have given.
    mask = os.umask(0)
    os.umask(mask)
    os.chmod(file.name, 0o666 & ~mask)
    os.replace(file.name, path)
