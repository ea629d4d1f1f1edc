"""Errors that a user can mend are told in one line, without a traceback."""

from collections.abc import Iterator
from contextlib import contextmanager

from glus_mm.utils.error_text import user_error_text

# Exit status: what was asked for cannot be done; the work began and failed.
USAGE, FAILED = 2, 1


class UserError(Exception):
    """Ends a command with a message.

    Args:
        message: one line or a few.
        status: exit status, :data:`USAGE` or :data:`FAILED`.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


@contextmanager
def user_errors(status: int, *further: type[Exception]) -> Iterator[None]:
    """Turn errors about files, values and memory into :class:`UserError`.

    Args:
        status: exit status of the command.
        further: other classes that count here; all the rest are bugs and keep their traceback.
    """
    try:
        yield
    except (OSError, ValueError, RuntimeError, *further) as error:
        # Told without torch, which may not be there yet.
        if isinstance(error, RuntimeError) and type(error).__name__ != 'OutOfMemoryError':
            raise
        raise UserError(user_error_text(error), status) from error
