"""Tests the selector rows of a finished study again, on more videos whose target enters late.

The study has 18 of them. This takes its weights, makes other videos, and prints the claims about
the selector with their intervals. A test that is there is not run again. Example::

    python projects/ablation_study/late_targets.py outputs/ablation outputs/late_targets
"""

import argparse
import json
import shutil
from pathlib import Path

from ablation_study.report import Results, comparison_table
from ablation_study.rows import COMPARISONS, IN_SIGHT, LATE, get_row
from ablation_study.runs import Study, run_row
from ablation_study.settings import Settings

from glus_mm.datasets.moving_shapes import VARIANTS, write_split

ROWS = ('glu_mb_oc', 'selector_untrained', 'selector_trained')


def main() -> None:
    """Make the videos, test, print."""
    parser = argparse.ArgumentParser(description='Test the selector rows on more late targets')
    parser.add_argument('study', type=Path, help='folder of a finished study')
    parser.add_argument('out', type=Path, help='folder for videos and results')
    parser.add_argument('--videos', type=int, default=60, metavar='N',
                        help='videos with late targets (default: %(default)s)')
    parser.add_argument('--seed', type=int, default=2025, metavar='N',
                        help='seed of these videos (default: %(default)s)')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2, 3, 4], metavar='N',
                        help='seeds of the study (default: %(default)s)')
    args = parser.parse_args()
    settings = Settings(**json.loads((args.study / 'settings.json').read_text()))
    study = Study(args.out.resolve(), args.out.resolve() / 'data', Path(), settings)
    for variant in VARIANTS:  # the rows are tested on all, of which one video will do
        if not (study.data / variant / 'valid_u' / 'objects.json').is_file():
            write_split(study.data / variant, args.videos if variant == 'late' else 1, args.seed,
                        'valid_u', mp4=False, overwrite=True, variant=variant)
    records = []
    for seed in args.seeds:
        for name in (f'glu_mb_oc_seed{seed}', f'glu_mb_oc_selector_seed{seed}'):
            source, folder = args.study / 'runs' / name, study.out / 'runs' / name
            weights = [*source.glob(f'iter_{settings.steps}.pth'), *source.glob('start.pth'),
                       *source.glob(f'train/iter_{settings.selector_steps}.pth'),
                       *(source / 'done' / f'{part}.json' for part in ('train', 'labels', 'start'))]
            for path in filter(Path.is_file, weights):
                target = folder / path.relative_to(source)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target)
        for name in ROWS:
            run_row(study, get_row(name), seed)
            records.append(json.loads(study.result(name, seed).read_text()))
    claims = [claim for claim in COMPARISONS
              if {claim.better, claim.worse} <= {*ROWS} and claim.group in (LATE, IN_SIGHT)]
    print(comparison_table(Results.collect(records), claims))


if __name__ == '__main__':
    main()
