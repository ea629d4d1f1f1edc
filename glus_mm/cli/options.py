"""Options that several commands share."""

import argparse

from glus_mm.utils.config_input import ConfigOptions

LAUNCHERS = ('none', 'pytorch', 'slurm', 'mpi')


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
