"""Write videos that tell whether a system uses motion and words, for any system to run on.

Each probe is a data set in the layout of MeViS, whatever the layout of the source: the videos as
they are (``video``), one frame repeated (``still``), backward (``reverse``), in another order
(``shuffle``), asked for by the words of another object (``swap``). Run a system on all of them,
write its masks into ``PRED/<probe>/<video>/<expression>/<frame>.png``, and score them together::

    python tools/dataset_converters/probes.py data/probes --protocol mevis --ann data/mevis/valid_u
    python tools/analysis_tools/eval_masks.py --protocol mevis --probes --ann data/probes \\
        --pred PRED
"""

import argparse

from glus_mm.apis.mask_evaluation import write_probes
from glus_mm.apis.mask_evaluation.compare_masks import check_comparable
from glus_mm.evaluation.probe_table import PROBES
from glus_mm.evaluation.protocols import PROTOCOLS
from glus_mm.utils.command_line import refuse


def main() -> None:
    """Write."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('out', metavar='OUT', help='a new or empty folder')
    parser.add_argument('--protocol', required=True, choices=sorted(PROTOCOLS),
                        help='how the annotation is read; any that scores expressions')
    parser.add_argument('--ann', required=True, metavar='ROOT',
                        help='folder with annotation and images')
    parser.add_argument('--probes', nargs='+', choices=PROBES, default=PROBES, metavar='P',
                        help=f'some of {", ".join(PROBES)} (default: all)')
    parser.add_argument('--copy', action='store_true',
                        help='copy images; by default they are links')
    parser.add_argument('--seed', type=int, default=0, help='of orders and words')
    args = parser.parse_args()
    with refuse(parser):
        check_comparable(args.protocol)
        folder = write_probes(args.protocol, args.ann, args.out, args.probes, args.copy,
                              args.seed, progress=True)
    print(f'written to {folder}')


if __name__ == '__main__':
    main()
