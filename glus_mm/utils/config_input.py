"""What users give as configs: a file, and ``--cfg-options``. MMEngine is imported when needed."""

import argparse
from collections.abc import Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmengine import Config


def config_from_file(path: str | PathLike) -> 'Config':
    """Read a config; what goes wrong in it is told with its name.

    Raises:
        ValueError: it cannot be read; the message, one line, says why and, of Python, where.
    """
    from mmengine import Config

    try:
        return Config.fromfile(path)
    except Exception as error:  # a config is a program, in which anything can go wrong
        line = f', line {error.lineno}' if isinstance(error, SyntaxError) else ''
        text = error.msg if isinstance(error, SyntaxError) else error
        raise ValueError(f'the config {path}{line} cannot be read: {type(error).__name__}: '
                         f'{text}') from error


class ConfigOptions(argparse.Action):
    """MMEngine's ``DictAction``, with an error of the parser for what is no ``KEY=VALUE``."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace,
                 values: Sequence[str], option_string: str | None = None) -> None:
        """Parse ``KEY=VALUE`` pairs into a dict."""
        from mmengine import DictAction

        for value in values:
            if not value.partition('=')[0].strip() or '=' not in value:
                raise argparse.ArgumentError(self, f'expected KEY=VALUE, got {value!r}')
        action: Any = DictAction(self.option_strings, self.dest, nargs='+')
        try:
            action(parser, namespace, values, option_string)
        except (AssertionError, ValueError) as error:  # brackets that do not match
            raise argparse.ArgumentError(self, f'{" ".join(values)}: {error}') from error
