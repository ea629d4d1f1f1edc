"""JSON files: read strictly, without repeated keys; written whole or not at all."""

import json
from os import PathLike
from typing import Any


def read_json_object(path: str | PathLike) -> dict:
    """Read a JSON file that holds one object, and refuse keys that occur twice.

    Returns:
        The object. Python's own parser would silently keep the last of two equal keys.

    Raises:
        FileNotFoundError: the file cannot be opened.
        ValueError: it is no JSON, holds something else than an object, or repeats a key.
    """
    return _read(path, dict, 'object')


def read_json_list(path: str | PathLike) -> list:
    """Read a JSON file that holds one list; errors as for :func:`read_json_object`."""
    return _read(path, list, 'list')


def _read(path: str | PathLike, kind: type, name: str) -> Any:
    try:
        with open(path, encoding='utf-8') as file:
            content = json.load(file, object_pairs_hook=unique_pairs)
    except OSError as error:
        raise FileNotFoundError(f'expected a JSON file, but cannot read {path}: {error}') from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f'{path}: expected a JSON file, got one that fails with: {error}') \
            from error
    if not isinstance(content, kind):
        raise ValueError(f'{path}: expected a JSON {name}, got {type(content).__name__}')
    return content


def unique_pairs(pairs: list[tuple[str, Any]]) -> dict:
    """Make a dict of the pairs of a JSON object; for ``object_pairs_hook``.

    Raises:
        ValueError: a key occurs twice.
    """
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        double = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise ValueError(f'the key {double!r} occurs twice in one object')
    return result


def write_json(path: str | PathLike, content: Any, indent: int | None = 1) -> None:
    """Write a JSON file; it appears complete or not at all.

    Args:
        path: the file.
        content: what it holds.
        indent: of nested values; None for one line.

    Raises:
        OSError: the file cannot be written.
        ValueError: a number is not finite.
    """
    from glus_mm.utils.checkpoint_files import atomic_file  # brings torch, which readers need not

    text = json.dumps(content, indent=indent, allow_nan=False)
    with atomic_file(path) as part:
        part.write_text(text + '\n', encoding='utf-8')
