"""Trains and tests the rows of the ablation study on MovingShapes and writes its tables and plot.

Every row and seed is recorded when it is finished, and a run that was interrupted goes on from its
newest checkpoint: start the same command again. README.md has the results. Examples::

    python projects/ablation_study/ablation.py --jobs 2
    python projects/ablation_study/ablation.py --reduced --out outputs/ablation_reduced
    python projects/ablation_study/ablation.py --rows glu glu_mb --seeds 0 1 2 3 4
    python projects/ablation_study/ablation.py --report projects/ablation_study/results
"""

import argparse
import json
import sys
import time
from pathlib import Path

from ablation_study.records import load_records, write_log
from ablation_study.report import Results, comparison_table, figure_table, selector_table, time_line
from ablation_study.rows import ROWS, get_row
from ablation_study.runs import REPO, Study, run_row
from ablation_study.schedule import Task, run_tasks
from ablation_study.settings import Settings, hash_file, write_atomically

from glus_mm.utils.command_line import require_file

FULL = dict(steps=120, selector_steps=300, label_videos=40, train_videos=1200, test_videos=24)
REDUCED = dict(steps=20, selector_steps=20, label_videos=4, train_videos=120, test_videos=3)


def parse_args() -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description='Ablation study on MovingShapes')
    parser.add_argument('--out', default='outputs/ablation', metavar='DIR',
                        help='folder for runs, results, table and plot (default: %(default)s)')
    parser.add_argument('--data', metavar='DIR',
                        help='root of the variants, made where they are not there (default: '
                             '<out>/data)')
    parser.add_argument('--start', default='checkpoints/glus_tiny_motion_moving-shapes.pth',
                        metavar='CKPT', help='what all rows start from (default: %(default)s)')
    parser.add_argument('--seeds', type=int, nargs='+', metavar='N',
                        help='seeds (default: 0 1 2 3 4, reduced: 0 1)')
    parser.add_argument('--rows', nargs='+', metavar='NAME',
                        help='rows, with those that they need (default: all but the data ratios)')
    parser.add_argument('--jobs', type=int, default=2, metavar='N',
                        help='runs at a time, of one thread each (default: %(default)s)')
    parser.add_argument('--reduced', action='store_true', help='a short version, to try it')
    parser.add_argument('--steps', type=int, metavar='N', help='iterations of a row (default: '
                        f'{FULL["steps"]}, reduced: {REDUCED["steps"]})')
    parser.add_argument('--test-videos', type=int, metavar='N',
                        help='test videos of the default variant, three quarters as many of each '
                             f'other one (default: {FULL["test_videos"]}, reduced: '
                             f'{REDUCED["test_videos"]})')
    parser.add_argument('--report', metavar='DIR',
                        help='run nothing: write table and plot into --out, from the log in this '
                             'folder')
    args = parser.parse_args()
    for name in ('jobs', 'steps', 'test_videos'):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            parser.error(f'expected --{name.replace("_", "-")} of at least 1, '
                         f'got {getattr(args, name)}')
    args.seeds = args.seeds or ([0, 1] if args.reduced else [0, 1, 2, 3, 4])
    return parser, args


def make_tasks(names: list[str] | None, seeds: list[int], reduced: bool = False) -> list[Task]:
    """List what has to be run.

    Args:
        names: rows; None for all but the optional ones. What they need is added.
        seeds: seeds of each.
        reduced: leave out rows of kind 'tested', too.

    Raises:
        ValueError: there is no such row, or it cannot be run.
    """
    rows = [get_row(name) for name in names] if names else [
        row for row in ROWS if row.kind != 'not run' and not row.optional
        and not (reduced and row.kind == 'tested')]
    for row in rows:
        if row.kind == 'not run':
            raise ValueError(f'row {row.name!r} cannot be run: it {row.note}')
    wanted = {row.name for row in rows} | {row.base for row in rows if row.base}
    return [
        Task(row.name, seed, ((row.base, seed),) if row.base else (),
             f'{row.base} {seed}' if row.key_frames else '')
        for kind in ('trained', 'selector', 'shipped', 'tested') for row in ROWS
        if row.kind == kind and row.name in wanted
        for seed in (seeds[:1] if kind == 'shipped' else seeds)]


def write_report(records: list[dict], out: Path) -> str:
    """Write ``ablation.md`` and ``ablation.png`` and return the tables."""
    from ablation_study.plot import draw

    results = Results.collect(records)
    selectors: dict[int, dict] = {}
    for record in records:
        for name, figures in record.get('selector', {}).items():
            selectors.setdefault(record['seed'], {})[name] = figures
    text = '\n\n'.join(filter(None, [
        figure_table(results), comparison_table(results),
        selector_table(selectors) if selectors else '', time_line(results)])) + '\n'
    write_atomically(out / 'ablation.md', text)
    draw(results, out / 'ablation.png')
    return text


def run_study(args: argparse.Namespace, tasks: list[Task]) -> dict[tuple[str, int], str]:
    """Run what is left of a study; returns why tasks failed."""
    out = Path(args.out).resolve()
    start = Path(args.start) if Path(args.start).is_file() else REPO / args.start
    require_file(str(start), 'checkpoint')
    sizes = dict(REDUCED if args.reduced else FULL)
    sizes['steps'] = args.steps or sizes['steps']
    sizes['test_videos'] = args.test_videos or sizes['test_videos']
    settings = Settings(start=hash_file(start), **sizes)
    data = Path(args.data).resolve() if args.data else out / 'data'
    out.mkdir(parents=True, exist_ok=True)
    settings.claim(out)
    settings.prepare_data(data)
    study = Study(out, data, start.resolve(), settings)
    done = {task.key for task in tasks if study.result(*task.key).is_file()}
    print(f'{len(tasks)} runs, {len(done)} of them finished before', flush=True)

    def say(text: str) -> None:
        print(time.strftime('%H:%M:%S'), text, flush=True)

    started = time.monotonic()
    failed = run_tasks(tasks, lambda task: run_row(study, get_row(task.row), task.seed),
                       args.jobs, done, say)
    wall = dict(seconds=round(time.monotonic() - started, 1), jobs=args.jobs,
                runs=len(tasks) - len(done) - len(failed))
    with open(out / 'wall.jsonl', 'a', encoding='utf-8') as file:
        file.write(json.dumps(wall) + '\n')
    write_log(out)
    return failed


def main() -> int:
    """Run the study, or only report on one."""
    parser, args = parse_args()
    failed: dict[tuple[str, int], str] = {}
    try:
        out = Path(args.out)
        if not args.report:
            failed = run_study(args, make_tasks(args.rows, args.seeds, args.reduced))
        records = load_records(Path(args.report or out))
        if records:
            print('\n' + write_report(records, out))
            print(f'written: {out / "ablation.md"}, {out / "ablation.png"}')
    except (OSError, ValueError) as error:
        parser.error(str(error))
    if not args.report and (out / 'wall.jsonl').is_file():
        for line in (out / 'wall.jsonl').read_text(encoding='utf-8').splitlines():
            wall = json.loads(line)
            print(f'{wall["runs"]} runs in {wall["seconds"] / 60:.1f} minutes, '
                  f'{wall["jobs"]} at a time')
    for (row, seed), reason in failed.items():
        print(f'{row}, seed {seed}: {reason}', file=sys.stderr)
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
