"""Random access to a JSON object or array that is too large to hold."""

import json
import os
from collections.abc import Callable, Iterator
from os import PathLike
from typing import Any, BinaryIO

from glus_mm.utils.bounded_cache import BoundedCache
from glus_mm.utils.checked import checked
from glus_mm.utils.json_file import unique_pairs

_CHUNK = 1 << 22
_SPACE = ' \t\n\r'
_AFTER = tuple(_SPACE + ',}]:')
# How far before the end of the text the decoder may complain about a value that merely goes on.
_MARGIN = 16


class JSONIndex:
    """The values of a JSON object, or of an array, each read from the file when it is asked for.

    The file is parsed once from front to back, value by value; kept are only the places of the
    values, some hundred bytes for each (``orjson`` parses a whole file, and event parsers such as
    ``ijson`` take a repeated key and do not tell where a value lies). What is read later lies in
    the system's page cache, which all processes of a machine share, and a copy in a data-loading
    worker costs nothing.

    Args:
        path: a file that holds one JSON object, or one array.
        check: called with key and value of each entry while the file is parsed; it raises
            ``ValueError`` where the value is not as expected, and what it returns is kept (see
            ``note``). It sees the bytes of strings as one character each (Latin-1), which is the
            text itself where that is ASCII.
        cache_size: number of parsed values that are kept.
        arrays: an array is accepted, too; the keys of its values are their positions (int).

    Raises:
        FileNotFoundError: the file cannot be opened.
        ValueError: it is no JSON, holds something else than an object, or repeats a key; the
            message names the file and the byte.
    """

    def __init__(self, path: str | PathLike, check: Callable[[Any, Any], Any] | None = None,
                 cache_size: int = 16, arrays: bool = False) -> None:
        checked(1, cache_size=cache_size)
        self.path = str(path)
        self._cache: BoundedCache[Any] = BoundedCache(cache_size)
        self._spans: dict[str | int, tuple[int, int]] = {}
        self._notes: dict[str | int, Any] = {}
        self._file: BinaryIO | None = None
        with self._open_file() as file:
            self._stamp = _stamp_of(file)
            for key, value, start, end in _Scanner(file, self.path, arrays).items():
                if key in self._spans:
                    raise ValueError(f'{self.path}: expected a JSON file, got one that fails '
                                     f'with: the key {key!r} occurs twice in one object')
                self._spans[key] = (start, end - start)
                if check is not None:
                    self._notes[key] = check(key, value)

    def __contains__(self, key: object) -> bool:
        return key in self._spans

    def __len__(self) -> int:
        return len(self._spans)

    def __iter__(self) -> Iterator[str | int]:
        """The keys in the order of the file."""
        return iter(self._spans)

    def note(self, key: str | int) -> Any:
        """Return what ``check`` returned for the entry.

        Raises:
            KeyError: there is no such entry.
        """
        return self._notes[key]

    def __getitem__(self, key: str | int) -> Any:
        """Read one value.

        Returns:
            The value, which the caller must not change.

        Raises:
            KeyError: there is no such entry.
            FileNotFoundError: the file is gone.
            ValueError: the file was changed in the meantime.
        """
        return self._cache.get(key, lambda: self._read(key))

    def _read(self, key: str | int) -> Any:
        start, length = self._spans[key]
        if self._file is None:
            file = self._open_file()
            if _stamp_of(file) != self._stamp:
                file.close()
                raise ValueError(f'{self.path}: expected the file as it was when it was first '
                                 f'read, got one that was changed since')
            self._file = file
        # pread and not seek: forked processes share the position in the file.
        text = os.pread(self._file.fileno(), length, start)
        try:
            return json.loads(text)
        except ValueError as error:
            raise ValueError(f'{self.path}: expected the value of {key!r} as it was when it was '
                             f'first read, got: {error}') from error

    def _open_file(self) -> BinaryIO:
        try:
            return open(self.path, 'rb', buffering=0)
        except OSError as error:
            raise FileNotFoundError(
                f'expected a JSON file, but cannot read {self.path}: {error}') from error

    def __getstate__(self) -> dict:
        return dict(self.__dict__, _file=None, _cache=BoundedCache(self._cache.max_size))


def _stamp_of(file: BinaryIO) -> tuple[int, int]:
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns


class _Scanner:
    """The entries of a JSON object, or array, in a file, with their places, in bounded memory.

    The text is held as Latin-1, so that a position in it is a position in the file.
    """

    def __init__(self, file: BinaryIO, path: str, arrays: bool) -> None:
        self.file = file
        self.path = path
        self.arrays = arrays
        self.decoder = json.JSONDecoder(object_pairs_hook=unique_pairs)
        self.text = ''
        self.offset = 0  # of the text in the file
        self.pos = 0  # in the text
        self.at_end = False

    def items(self) -> Iterator[tuple[str | int, Any, int, int]]:
        """Yield key, value, and first and last-but-one byte of the value."""
        opening = self._next()
        if opening != '{' and not (opening == '[' and self.arrays):
            kind = 'nothing' if not opening else repr(opening)
            what = 'object or array' if self.arrays else 'object'
            raise ValueError(f"{self.path}: expected a JSON {what}, got a file that begins with "
                             f'{kind}')
        self.pos += 1
        closing, count = '}' if opening == '{' else ']', 0
        if self._next() == closing:
            self.pos += 1
        else:
            while True:
                if opening == '{':
                    yield self._item()
                else:
                    self._next()
                    yield count, *self._value()
                count += 1
                mark = self._next()
                if mark not in (',', closing):
                    self._fail("Expecting ',' delimiter")
                self.pos += 1
                if mark == closing:
                    break
        if self._next():
            self._fail('Extra data')

    def _item(self) -> tuple[str, Any, int, int]:
        if self._next() != '"':
            self._fail('Expecting property name enclosed in double quotes')
        _, begin, end = self._value()
        try:
            key = json.loads(self.text[begin - self.offset:end - self.offset].encode('latin-1'))
        except ValueError as error:
            self._fail(str(error))
        if self._next() != ':':
            self._fail("Expecting ':' delimiter")
        self.pos += 1
        self._next()
        return key, *self._value()

    def _value(self) -> tuple[Any, int, int]:
        """Parse the value at the position; read on while it is not complete."""
        while True:
            try:
                value, end = self.decoder.raw_decode(self.text, self.pos)
            except json.JSONDecodeError as error:
                goes_on = (error.pos >= len(self.text) - _MARGIN
                           or error.msg.startswith('Unterminated string'))
                if self.at_end or not goes_on:
                    self.pos = error.pos
                    self._fail(error.msg)
            except (ValueError, RecursionError) as error:
                self._fail(str(error))
            else:
                # A number near the end may go on: 1 of 1.5 or of 12.
                if self.text[end:end + 1] in _AFTER or end < len(self.text) - _MARGIN \
                        or self.at_end:
                    begin, self.pos = self.pos, end
                    return value, self.offset + begin, self.offset + end
            self._read_on()

    def _next(self) -> str:
        """Go to the next character that is no white space and return it; '' at the end."""
        while True:
            while self.pos < len(self.text) and self.text[self.pos] in _SPACE:
                self.pos += 1
            if self.pos < len(self.text) or self.at_end:
                return self.text[self.pos:self.pos + 1]
            self._read_on()

    def _read_on(self) -> None:
        """Drop what was parsed, and at least double the rest."""
        rest = self.text[self.pos:]
        data = self.file.read(max(_CHUNK, len(rest)))
        self.at_end = not data
        self.offset += self.pos
        self.text = rest + data.decode('latin-1')
        self.pos = 0

    def _fail(self, reason: str) -> None:
        raise ValueError(f'{self.path}: expected a JSON file, got one that fails with: {reason} '
                         f'(byte {self.offset + self.pos})')
