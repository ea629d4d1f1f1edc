"""``glus-mm eval`` and ``tools/analysis_tools/eval_masks.py``: score predicted masks."""

import argparse
import resource
import sys
import time
from typing import TYPE_CHECKING, Any

from glus_mm.cli.user_error import FAILED, USAGE, user_errors

if TYPE_CHECKING:
    from pathlib import Path

    from glus_mm.apis.mask_evaluation import MaskEvaluation

# The table, the document for --out, and notes.
_Found = tuple[str, dict, list[str]]
_EPILOG = """Prints a table in percent; --out writes all figures, down to single frames, as
fractions of 1. Examples:
  glus-mm eval --protocol mevis --ann data/mevis/valid_u --pred outputs/masks --workers 4
  glus-mm eval --protocol mevis --ann data/mevis/valid_u --compare DIR_A DIR_B \\
      --report difference.html
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    from glus_mm.evaluation.predictions import PREDICTION_FORMATS
    from glus_mm.evaluation.protocols import PROTOCOLS

    parser.epilog = _EPILOG
    parser.add_argument('--protocol', required=True, choices=sorted(PROTOCOLS))
    parser.add_argument('--ann', required=True, metavar='ROOT',
                        help='folder with the annotation, in the official layout')
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument('--pred', metavar='DIR',
                      help='folder with the predictions: <video>/<expression>/<frame>.png, '
                      '<sequence>/<frame>.png for DAVIS and MOSE, or the parent of anno_0..3; '
                      'or another form, see --pred-format')
    what.add_argument('--compare', nargs=2, metavar=('A', 'B'),
                      help='say whether two systems differ, over all and slice by slice: of each '
                      'the predictions, or the JSON file that --out wrote of them')
    parser.add_argument('--pred-format', choices=list(PREDICTION_FORMATS), default='png',
                        help='form of the predictions (default: %(default)s): ' + '; '.join(
                            f'{name}: {form}' for name, form in PREDICTION_FORMATS.items()))
    parser.add_argument('--workers', type=int, default=1, metavar='N',
                        help='number of processes (default: %(default)s)')
    parser.add_argument('--missing', choices=['error', 'empty', 'skip'], default='error',
                        help='what a missing mask is: an error, an empty mask, or a reason to '
                        'leave its expression or sequence out (default: %(default)s)')
    parser.add_argument('--extra', choices=['warn', 'error'], default='warn',
                        help='what predictions are that nobody asked for (default: %(default)s)')
    parser.add_argument('--pred-values', type=int, choices=[255, 1],
                        help='ReVOS: what a foreground pixel is worth in A and R (default: 255)')
    parser.add_argument('--slices', action='store_true',
                        help='figures by target size, look-alikes, first appearance, occlusion, '
                        'length of the expression and of the video, and motion of the camera')
    parser.add_argument('--probes', action='store_true',
                        help='--ann is what tools/dataset_converters/probes.py wrote, and --pred '
                        'has the masks of each probe in a folder of its name')
    parser.add_argument('--report', metavar='F.html',
                        help='with --compare: write one file with the plots and with examples')
    parser.add_argument('--examples', type=int, metavar='N',
                        help='expressions of a kind in the report (default: 4)')
    parser.add_argument('--names', nargs=2, metavar=('A', 'B'),
                        help='with --compare: what to call the two (default: by folder or file)')
    parser.add_argument('--masks', nargs=2, metavar=('DIR_A', 'DIR_B'),
                        help='with --compare of JSON files: the masks, for the report')
    parser.add_argument('--out', metavar='F.json', help='write all figures into this file')


def run(args: argparse.Namespace) -> None:
    """Evaluate, print and write.

    Raises:
        UserError: files or values are not as they should be.
    """
    from glus_mm.utils.json_file import write_json
    from glus_mm.utils.paths import ensure_writable_file

    start = time.monotonic()
    with user_errors(USAGE):
        _check_options(args)
        out, report = (path and ensure_writable_file(path) for path in (args.out, args.report))
    with user_errors(FAILED, RuntimeError):
        reading = dict(workers=args.workers, missing=args.missing, extra=args.extra,
                       pred_format=args.pred_format, progress=True)
        table, document, notes = _compare(args, reading, report) if args.compare is not None else (
            _score_probes(args, reading) if args.probes else _evaluate(args, reading))
        if out is not None:
            write_json(out, document)
    for line in notes:
        print(f'note: {line}', file=sys.stderr)
    print(table)
    peaks = [resource.getrusage(who).ru_maxrss // 1024
             for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    memory = f'{peaks[0]} MB' + (f', {peaks[1]} MB in a worker' if args.workers > 1 else '')
    print(f'{time.monotonic() - start:.1f} s, peak memory {memory}', file=sys.stderr)


def _check_options(args: argparse.Namespace) -> None:
    """Refuse options that would be passed over, and say what they go with."""
    for name in ('report', 'names', 'masks', 'examples'):
        needed = 'report' if name == 'examples' else 'compare'
        if getattr(args, name) is not None and getattr(args, needed) is None:
            raise ValueError(f'--{name} goes with --{needed}, got it without')
    if args.probes and (args.compare is not None or args.slices or args.protocol != 'mevis'):
        raise ValueError('--probes goes with --pred and --protocol mevis, in whose layout probes '
                         f'are written, and not with --slices, got --protocol {args.protocol}')
    if args.examples is not None and args.examples < 0:
        raise ValueError(f'--examples: expected a number of at least 0, got {args.examples}')


def _evaluate(args: argparse.Namespace, reading: dict[str, Any]) -> _Found:
    """Evaluate one system."""
    from glus_mm.apis.mask_evaluation import evaluate_masks
    from glus_mm.apis.mask_evaluation.compare_masks import check_comparable, slice_figures
    from glus_mm.evaluation.slices import slice_table

    if args.slices:
        check_comparable(args.protocol)
    evaluation = evaluate_masks(args.protocol, args.ann, args.pred, pred_values=args.pred_values,
                                **reading)
    document, table = evaluation.document(), evaluation.table()
    if args.slices:
        document['slices'] = slice_figures(args.protocol, args.ann, document, progress=True)
        table += '\n\n' + slice_table(document['slices']['rows'])
    return table, document, _describe_notes(evaluation)


def _score_probes(args: argparse.Namespace, reading: dict[str, Any]) -> _Found:
    """Score the masks of probes."""
    from glus_mm.apis.mask_evaluation import score_probes
    from glus_mm.evaluation.probe_table import difference_lines, probe_differences, probe_table

    runs = score_probes(args.ann, args.pred, **reading)
    differences = probe_differences({name: run.tracks for name, run in runs.items()},
                                    runs['video'].protocol.track_figures)
    table = probe_table({name: run.summary.in_percent() for name, run in runs.items()})
    return (f'{table}\n\n{difference_lines(differences)}',
            {name: run.document() for name, run in runs.items()},
            [f'{name}: {line}' for name, run in runs.items() for line in _describe_notes(run)])


def _compare(args: argparse.Namespace, reading: dict[str, Any], report: 'Path | None') -> _Found:
    """Compare two systems."""
    from glus_mm.apis.mask_evaluation import compare_masks

    found = compare_masks(args.protocol, args.ann, args.compare, args.names, args.masks,
                          pred_values=args.pred_values, **reading)
    if report is not None:
        page = found.report(4 if args.examples is None else args.examples)
        report.write_text(page, encoding='utf-8')
    return found.comparison.table(), found.comparison.document(), []


def _describe_notes(evaluation: 'MaskEvaluation') -> list[str]:
    """Say in words what the figures leave out or are worth."""
    notes, lines = evaluation.notes, []
    if 'pred_format' in notes:
        lines.append(f'predictions read as {notes["pred_format"]}')
    frames = notes['missing']['frames']
    if frames:
        what = {'empty': 'counted as empty', 'skip': 'left out of all figures, with everything '
                'else in these folders'}[notes['missing']['policy']]
        lines.append(f'missing masks: {sum(frames.values())} in {len(frames)} folders, such as '
                     f'{next(iter(frames))}; they were {what}')
    zero = notes.get('scored_zero')
    if zero:
        lines.append(f'videos without any prediction: {len(zero)}, such as {zero[0]}; all figures '
                     'of their expressions are 0')
    extra = notes['not_asked_for']
    if extra:
        lines.append(f'folders that nobody asked for: {len(extra)}, such as {extra[0]}')
    if notes['grey_frames']:
        lines.append(f'masks with more than two values: {notes["grey_frames"]}; any but 0 is '
                     'foreground in J and F')
    return lines
