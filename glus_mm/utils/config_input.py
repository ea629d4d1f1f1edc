"""What users give of a run: a config and options. MMEngine is imported when needed."""

import argparse
from collections.abc import Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmengine import Config

LAUNCHERS = ('none', 'pytorch', 'slurm', 'mpi')


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


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that training and testing share.

    Args:
        parser: gets ``--work-dir``, ``--cfg-options``, ``--launcher`` and ``--local-rank``; it is
            handed to ``run`` as ``args.parser``, which ends the program with its name.
    """
    parser.set_defaults(parser=parser)
    parser.add_argument('--work-dir', metavar='D',
                        help='folder for logs and checkpoints (default: work_dirs/<config name>)')
    parser.add_argument('--cfg-options', nargs='+', action=ConfigOptions, metavar='K=V',
                        help='override config values: a.b=1 c="[1,2]"')
    parser.add_argument('--launcher', choices=LAUNCHERS, default='none',
                        help='how the processes were started (default: %(default)s)')
    # Older launchers pass the local rank as an option; MMEngine reads the variable.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0,
                        help=argparse.SUPPRESS)
