"""Fields of an annotation, each checked where it is read.

Every function takes ``where``, the place that an error names: file, video, expression.
"""

from os.path import splitdrive
from typing import Any

from glus_mm.text.prompt import clean_expression

MAX_NAME_BYTES = 200
"""Names become names of files, whose limit is 255 bytes with a suffix."""


def get_field(entry: Any, key: str, kind: type, where: str) -> Any:
    """Return a field that must be there and of a type.

    Args:
        entry: what should be a dict.
        key: the field.
        kind: its type; ``bool`` does not pass as ``int``.
        where: named in an error.

    Returns:
        ``entry[key]``.

    Raises:
        ValueError: ``entry`` is no dict, lacks the key, or has something else there.
    """
    if not isinstance(entry, dict):
        raise ValueError(f'{where}: expected an object with the key {key!r}, got '
                         f'{type(entry).__name__}')
    if key not in entry:
        raise ValueError(f'{where}: expected the key {key!r}, got {sorted(entry)[:8]}')
    value = entry[key]
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ValueError(f'{where}, key {key!r}: expected {kind.__name__}, got '
                         f'{type(value).__name__}')
    return value


def check_name(name: Any, where: str, nested: bool = False) -> None:
    """Refuse ids that cannot name a file: paths are built from them, for reading and writing.

    Args:
        name: what should be an id.
        where: named in an error.
        nested: parts with ``/`` between them are allowed, as in ``UVO/all/abc``.

    Raises:
        ValueError: it is no text, empty, ``.`` or ``..``, has a separator, a drive or a control
            character, is too long, or no valid Unicode.
    """
    parts = name.split('/') if nested and isinstance(name, str) else [name]
    if not all(map(_is_file_name, parts)):
        raise ValueError(f'{where}: expected an id that is a plain file name, got {name!r:.80}')


def _is_file_name(name: Any) -> bool:
    if not isinstance(name, str) or name in ('', '.', '..') or splitdrive(name)[0]:
        return False
    if any(c in '/\\' or ord(c) < 32 or ord(c) == 127 for c in name):
        return False
    return len(name.encode('utf-8', 'replace')) <= MAX_NAME_BYTES and not any(
        0xD800 <= ord(c) <= 0xDFFF for c in name)


def parse_frames(video: Any, where: str) -> tuple[str, ...]:
    """Names of the frames of a video, in their order.

    Returns:
        The names, without suffix.

    Raises:
        ValueError: there is none, one is no file name, or two are equal.
    """
    frames = get_field(video, 'frames', list, where)
    if not frames:
        raise ValueError(f"{where}: expected at least one name in 'frames', got none")
    for frame in frames:
        check_name(frame, f"{where}, key 'frames'")
    check_unique(frames, f"{where}, key 'frames'")
    return tuple(frames)


def check_unique(names: list | tuple, where: str) -> None:
    """Raise ``ValueError`` if a name occurs twice in ``names``."""
    if len(set(names)) != len(names):
        seen: set = set()
        double = next(name for name in names if name in seen or seen.add(name))
        raise ValueError(f'{where}: expected unique names, got {double!r} twice')


def parse_text(entry: Any, key: str, where: str) -> str:
    """The text of an expression, as annotated.

    Args:
        entry: the expression's entry.
        key: the field with the text.
        where: named in an error.

    Raises:
        ValueError: it is missing, empty, too long, or holds a special token.
    """
    text = get_field(entry, key, str, where)
    try:
        clean_expression(text)
    except ValueError as error:
        raise ValueError(f'{where}, key {key!r}: {error}') from error
    return text


def parse_kind(entry: dict, where: str) -> str | None:
    """The kind of an expression, if it states one; ``ValueError`` if that is no text."""
    kind = entry.get('kind')
    if kind is not None and not (isinstance(kind, str) and kind):
        raise ValueError(f"{where}, key 'kind': expected text, got {kind!r}")
    return kind


def parse_shape(video: dict, where: str) -> tuple[int, int] | None:
    """``(H, W)`` of a video, if it states them.

    Returns:
        The size, or None where neither ``height`` nor ``width`` is there.

    Raises:
        ValueError: one is missing or no positive integer.
    """
    if 'height' not in video and 'width' not in video:
        return None
    shape = (video.get('height'), video.get('width'))
    if not all(type(side) is int and side > 0 for side in shape):
        raise ValueError(f"{where}: expected positive integers in 'height' and 'width', got "
                         f'{shape}')
    return shape


def parse_ids(entry: dict, key: str, where: str, required: bool = True) -> tuple[str, ...]:
    """A list of ids, as texts.

    Args:
        entry: the expression's entry.
        key: the field with the list.
        where: named in an error.
        required: whether it must be there.

    Returns:
        The ids; none where they are missing and not required.

    Raises:
        ValueError: it is missing, is no list of integers or texts, or has an id twice.
    """
    if not required and key not in entry:
        return ()
    ids = get_field(entry, key, list, where)
    if not all(type(item) in (int, str) for item in ids):
        raise ValueError(f'{where}, key {key!r}: expected a list of integers, got {ids!r:.80}')
    names = tuple(map(str, ids))
    check_unique(names, f'{where}, key {key!r}')
    return names


def parse_id(entry: Any, key: str, where: str) -> str:
    """The id of the only object of an expression, which names a folder.

    Args:
        entry: the expression's entry.
        key: the field with the id.
        where: named in an error.

    Raises:
        ValueError: ``entry`` lacks the ``key``, or the id there is no integer or file name.
    """
    name, = parse_ids({key: [get_field(entry, key, object, where)]}, key, where)
    check_name(name, f'{where}, key {key!r}')
    return name


def parse_palette_index(entry: Any, key: str, where: str) -> str:
    """The id of the only object of an expression, which is its value in a palette PNG.

    Args:
        entry: the expression's entry.
        key: the field with the id.
        where: named in an error.

    Returns:
        The id in its plain form: ``'7'``.

    Raises:
        ValueError: it is missing or no integer from 1 to 254 (0 is background, 255 void).
    """
    value = get_field(entry, key, object, where)
    number = None
    if type(value) is int:
        number = value
    elif isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 4:
        number = int(value)
    if number is None or not 1 <= number <= 254:
        raise ValueError(f'{where}, key {key!r}: expected the number of an object, 1 to 254, got '
                         f'{value!r:.80}')
    return str(number)
