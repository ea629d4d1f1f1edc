"""Pickle files that hold nothing but plain values, read without running what they say."""

import pickle
from os import PathLike
from typing import Any


class _PlainUnpickler(pickle.Unpickler):
    """Knows dicts, lists, tuples, sets, texts, bytes, numbers, booleans and None only."""

    def find_class(self, module: str, name: str) -> Any:
        """Refuse to import anything: plain values need no class or function."""
        raise pickle.UnpicklingError(f'it asks for {module}.{name}')


def read_plain_pickle(path: str | PathLike) -> Any:
    """Read a pickle file of plain containers, texts and numbers, also one of Python 2.

    Unpickling can run any code, which is how a harmful file would do its harm: it names a function
    and has it called. Here every name is refused before it is imported. What is left are the
    containers and values that the format itself has.

    Raises:
        FileNotFoundError: the file cannot be opened.
        ValueError: it is no pickle, or holds anything else.
    """
    try:
        with open(path, 'rb') as file:
            # Texts of Python 2 are bytes of unknown encoding.
            return _PlainUnpickler(file, encoding='utf-8').load()
    except OSError as error:
        raise FileNotFoundError(f'expected a pickle file, but cannot read {path}: {error}') \
            from error
    # A damaged file makes the unpickler raise almost anything.
    except Exception as error:
        raise ValueError(f'{path}: expected a pickle of plain containers, texts and numbers, got '
                         f'one that fails with: {error}') from error
