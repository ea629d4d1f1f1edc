"""Which known word a misspelt one most likely stands for."""

import os
from collections.abc import Collection
from difflib import get_close_matches


def is_one_edit(first: str, second: str) -> bool:
    """Whether one letter more, less or other, or two swapped ones, make the difference."""
    start = len(os.path.commonprefix([first, second]))
    first, second = first[start:], second[start:]
    end = len(os.path.commonprefix([first[::-1], second[::-1]]))
    first, second = first[:len(first) - end], second[:len(second) - end]
    return max(len(first), len(second)) == 1 or (len(first) == 2 and first == second[::-1])


def nearest(word: str, known: Collection[str]) -> str:
    """The known word that is most like another one; empty if none is known."""
    return next(iter(get_close_matches(str(word), sorted(map(str, known)), n=1, cutoff=0)), '')
