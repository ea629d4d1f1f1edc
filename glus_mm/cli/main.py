"""``glus-mm``: chooses a command, runs it, and gives its exit status."""

import argparse
import atexit
import gc
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from glus_mm.cli.user_error import UserError
from glus_mm.version import __version__

COMMANDS = {
    'segment': 'segment a video by texts: masks, an overlay video and a contact sheet',
    'train': 'train a model from a config',
    'test': "test a checkpoint on a config's test set: J, F and J&F",
    'eval': 'score predicted masks, PNG files of any system, with a protocol of the field',
    'convert': 'convert checkpoints: official GLUS or LISA to this package, and back',
    'info': 'versions, devices, models, and what is missing in this environment',
}
_WITH_DEEPSPEED = ('train', 'test')
_EPILOG = """Exit status: 0 done; 1 it began and failed; 2 what was asked for cannot be done, such
as an unknown option or a file that is not there.

First steps:
  glus-mm info
  glus-mm segment video.mp4 --text "the red circle" --out-dir outputs/video
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: arguments without the program's name; by default those of the process.

    Returns:
        Exit status: 0 done, 1 failed while it worked, 2 wrong usage.

    Raises:
        SystemExit: ``--help``, ``--version``, or arguments that cannot be understood (status 2).
    """
    # The end of a process would look for garbage, several times: more than a CPU second.
    atexit.register(gc.freeze)
    argv = list(sys.argv[1:] if argv is None else argv)
    args = _parser(argv).parse_args(argv)
    if args.command not in _WITH_DEEPSPEED:
        # MMEngine imports it wherever it is installed, and it says on stdout what it found unless
        # it is told.
        os.environ.setdefault('DS_ACCELERATOR', 'cpu')
    try:
        args.run(args)
    except UserError as error:
        print(f'glus-mm {args.command}: error: {error}', file=sys.stderr)
        return error.status
    except KeyboardInterrupt:
        print(f'glus-mm {args.command}: interrupted', file=sys.stderr)
        return 1
    return 0


def run_tool(name: str) -> None:
    """Be a program of its own for one command, as ``tools/train.py`` and others are.

    Raises:
        SystemExit: the status of the command, with the reason, where it cannot be done.
    """
    command, summary = import_module(f'glus_mm.cli.{name}'), COMMANDS[name]
    parser = argparse.ArgumentParser(
        description=f'{summary[0].upper() + summary[1:]}. The same as "glus-mm {name}".',
        formatter_class=argparse.RawDescriptionHelpFormatter)
    command.add_arguments(parser)
    args = parser.parse_args()
    try:
        command.run(args)
    except UserError as error:
        parser.exit(error.status, f'{parser.prog}: error: {error}\n')


def _parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    """The parser; only the command that is called is imported."""
    parser = argparse.ArgumentParser(
        prog='glus-mm', epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
        description='Segment what a sentence refers to, in every frame of a video (GLUS).')
    parser.add_argument('--version', action='version', version=f'glus_mm {__version__}')
    commands = parser.add_subparsers(dest='command', metavar='COMMAND', required=True)
    for name, summary in COMMANDS.items():
        command = commands.add_parser(
            name, help=summary, description=summary[0].upper() + summary[1:] + '.',
            formatter_class=argparse.RawDescriptionHelpFormatter)
        if name in argv:
            module = import_module(f'glus_mm.cli.{name}')
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    return parser
