"""The one check of a setting's range."""

from collections.abc import Collection
from typing import Any

_LIMIT = 1 << 31


def checked(kind: int | type[bool] | type[float] | Collection, prefix: str = '', /,
            **values: Any) -> None:
    """Check settings that have the same range.

    Args:
        kind: a number for integers of at least that, and below 2**31; ``bool`` for switches;
            ``float`` for shares, numbers in 0..1; else all values that there are.
        prefix: what the names are called by, such as ``'model.test_cfg.'``.
        **values: the settings by name.

    Raises:
        ValueError: a value is out of its range; the message has its name.
    """
    for name, value in values.items():
        if kind is bool:
            is_right, expected = isinstance(value, bool), 'True or False'
        elif kind is float:
            is_right = isinstance(value, (int, float)) and 0 <= value <= 1
            expected = 'a number in 0..1'
        elif isinstance(kind, int):
            is_right = isinstance(value, int) and not isinstance(value, bool) and (
                kind <= value < _LIMIT)
            expected = f'an integer of at least {kind}'
            if isinstance(value, int) and value >= _LIMIT:  # more than torch can count
                expected += ' and below 2**31'
        else:
            is_right, expected = value in kind, f'one of {tuple(kind)}'
        if not is_right:
            raise ValueError(f'{prefix}{name} must be {expected}, got {value!r}')
