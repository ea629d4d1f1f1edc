"""One row with one seed: its programs, each recorded when it is done, and its figures."""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine import Config

from ablation_study.records import last_scalars, training_log
from ablation_study.rows import FOLDER, SHIPPED, Row
from ablation_study.settings import Settings, write_atomically
from glus_mm.datasets import MovingShapesDataset
from glus_mm.datasets.moving_shapes import VARIANTS
from glus_mm.evaluation.metrics.key_frame_metric import write_scores

REPO = Path(__file__).resolve().parents[3]
SHIPPED_WEIGHTS = 'checkpoints/glus_tiny_moving-shapes.pth'
DATA, WORK = 'data/moving_shapes_variants', 'work_dirs/ablation'


@dataclass(frozen=True)
class Study:
    """Where a study is.

    Attributes:
        out: folder of all runs and results.
        data: root of the variants.
        start: checkpoint that all rows start from.
        settings: what changes results.
    """

    out: Path
    data: Path
    start: Path
    settings: Settings

    def run_dir(self, name: str, seed: int) -> Path:
        """Folder of a run."""
        return self.out / 'runs' / f'{name}_seed{seed}'

    def result(self, name: str, seed: int) -> Path:
        """Record of a finished row and seed."""
        return self.out / 'results' / f'{name}_seed{seed}.json'

    def checkpoint(self, name: str, seed: int) -> Path:
        """Weights of a trained row, or those that are shipped."""
        if name == SHIPPED:
            return REPO / SHIPPED_WEIGHTS
        return self.run_dir(name, seed) / f'iter_{self.settings.steps}.pth'


def run_row(study: Study, row: Row, seed: int) -> None:
    """Do what is left of a row and record its figures.

    Args:
        study: where.
        row: a row that can be run; what it is based on has to be there.
        seed: of the training.

    Raises:
        RuntimeError: a program failed.
    """
    if study.result(row.name, seed).is_file():
        return
    folder = study.run_dir(row.name, seed)
    options: dict[str, Any] = {}
    weights = study.checkpoint(row.base or row.name, seed)
    if row.kind == 'trained':
        train(study, row, seed)
    elif row.key_frames:
        options['model.test_cfg.selector.file'] = str(key_frames(study, row, seed))
    config = write_config(study, row.path, folder / 'test.py', options)
    dump = folder / 'figures.json'
    program(folder, 'test', 'tools/test.py', config, weights, '--work-dir', folder / 'test',
            '--dump', dump)
    seconds = {path.stem: json.loads(path.read_text())['seconds']
               for path in sorted((folder / 'done').glob('*.json'))}
    record = dict(row=row.name, seed=seed, seconds=seconds, **read_figures(dump, study.data))
    if row.kind == 'trained':
        record['losses'] = training_log(folder)
    if row.name in ('selector_trained', 'selector_untrained'):
        work = study.run_dir(f'{row.base}_selector', seed)
        record['selector'] = {row.key_frames: last_scalars(work / row.key_frames)}
        # The programs that make the key frames; those of both selectors are counted here.
        record['seconds'].update({f'selector_{path.stem}': json.loads(path.read_text())['seconds']
                                  for path in sorted((work / 'done').glob('*.json'))}
                                 if row.key_frames == 'trained' else {})
    write_atomically(study.result(row.name, seed), json.dumps(record) + '\n')


def train(study: Study, row: Row, seed: int) -> None:
    """Train a row, from its newest checkpoint if there is one."""
    folder, steps = study.run_dir(row.name, seed), study.settings.steps
    config = write_config(study, row.path, folder / 'train.py', dict(
        schedule(steps, 10), **{
            'load_from': str(study.start), 'randomness.seed': seed,
            'default_hooks.checkpoint.interval': max(1, steps // 3)}))
    program(folder, 'train', 'tools/train.py', config, '--work-dir', folder, '--resume')


def schedule(steps: int, warm_up: int) -> dict[str, Any]:
    """Options of a training of so many steps, with a warm-up that fits."""
    warm_up = min(warm_up, steps // 2)
    return {'train_cfg.max_iters': steps, 'param_scheduler.0.end': max(warm_up, 1),
            'param_scheduler.1.begin': warm_up, 'param_scheduler.1.end': steps}


def key_frames(study: Study, row: Row, seed: int) -> Path:
    """Make the key frames of a seed: pseudo-labels, training of the selector, its choice.

    The steps that rows share are in a folder of their own, so rows of one seed must not be run
    at the same time.

    Returns:
        The file for ``FileKeyFrameSelector``.
    """
    folder = study.run_dir(f'{row.base}_selector', seed)
    glus = study.checkpoint(row.base, seed)

    def config(name: str, options: dict[str, Any] | None = None) -> Path:
        return write_config(study, f'{FOLDER}/{name}.py', folder / f'{name}.py',
                            options or {}, folder)

    if not (folder / 'ious_valid.json').is_file():
        write_truth(study.run_dir(row.base, seed) / 'figures.json', study.data,
                    folder / 'ious_valid.json')
    if row.key_frames == 'best':
        return folder / 'ious_valid.json'
    number, steps = study.settings.label_videos, study.settings.selector_steps
    indices = {f'dataloader.dataset.datasets.{i}.indices': number for i in range(2)}
    labels = config('selector_ious', {f'test_{key}': n for key, n in indices.items()})
    program(folder, 'labels', 'tools/test.py', labels, glus, '--work-dir', folder / 'labels')
    start = folder / 'start.pth'
    selector = config('selector', {
        'load_from': str(start), 'randomness.seed': seed, **schedule(steps, 30),
        **{f'train_{key}': n for key, n in indices.items()}})
    program(folder, 'start', 'tools/model_converters/glus2selector.py', glus, selector, start,
            '--seed', seed)
    weights = start
    if row.key_frames == 'trained':
        program(folder, 'train', 'tools/train.py', selector, '--work-dir', folder / 'train',
                '--resume')
        weights = folder / 'train' / f'iter_{steps}.pth'
    out = folder / row.key_frames
    program(folder, row.key_frames, 'tools/test.py', selector, weights, '--work-dir', out,
            '--cfg-options', f'test_evaluator.out_dir={out}')
    return out / 'key_frames.json'


def write_config(study: Study, source: str, path: Path, options: Mapping[str, Any],
                 work: Path | None = None) -> Path:
    """Write the config of a run, complete, with its own files in place of the usual ones.

    Args:
        study: where.
        source: config, relative to the root of the repository.
        path: file to write.
        options: dotted keys and values.
        work: what takes the place of ``work_dirs/ablation``; the study's folder by default.

    Returns:
        ``path``.
    """
    cfg = Config.fromfile(REPO / source)
    cfg.merge_from_dict(dict(options))
    places = {DATA: str(study.data), WORK: str(work or study.out)}
    path.parent.mkdir(parents=True, exist_ok=True)
    Config(_replaced(cfg.to_dict(), places)).dump(path)
    return path


def _replaced(value: Any, places: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _replaced(child, places) for key, child in value.items()}
    if isinstance(value, (list, tuple)):
        return [_replaced(child, places) for child in value]
    if isinstance(value, str):
        for old, new in places.items():
            if value == old or value.startswith(old + '/'):
                return new + value[len(old):]
    return value


def program(folder: Path, name: str, tool: str, *arguments: Any) -> None:
    """Run a tool of the repository unless it was run before.

    What it prints goes to ``<folder>/<name>.txt``; how long it took, summed over attempts, to
    ``<folder>/done/<name>.json`` when it is done.

    Raises:
        RuntimeError: it failed; has the end of what it printed.
    """
    done = folder / 'done' / f'{name}.json'
    if done.is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / f'{name}.txt'
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(
        filter(None, [str(REPO), os.environ.get('PYTHONPATH')])))
    environment.setdefault('OMP_NUM_THREADS', '1')
    started = time.monotonic()
    with open(log, 'a', encoding='utf-8') as file:
        code = subprocess.run(
            [sys.executable, str(REPO / tool), *map(str, arguments)], cwd=REPO, stdout=file,
            stderr=subprocess.STDOUT, env=environment).returncode
    if code:
        tail = '\n'.join(log.read_text(encoding='utf-8', errors='replace').splitlines()[-15:])
        raise RuntimeError(f'{tool} ended with status {code}, see {log}:\n{tail}')
    write_atomically(done, json.dumps(dict(seconds=round(time.monotonic() - started, 1))) + '\n')


def read_figures(dump: Path, data: Path) -> dict[str, Any]:
    """Read what a test wrote.

    Args:
        dump: file of ``tools/test.py --dump``.
        data: root of the variants.

    Returns:
        ``figures``, video -> expression -> J&F in percent; ``in_sight``, likewise for expressions
        whose target is out of sight on some frames, over the other frames only; ``kinds``.
    """
    document = json.loads(dump.read_text(encoding='utf-8'))
    shown = frames_in_sight(data)
    record: dict[str, dict[str, dict]] = dict(figures={}, in_sight={}, kinds={})
    for key, track in document['per_expression'].items():
        video, exp = key.rsplit('_', 1)
        record['figures'].setdefault(video, {})[exp] = round(100 * track['J&F'], 2)
        record['kinds'].setdefault(video, {})[exp] = track['kind']
        frames = shown.get(video, {}).get(exp, [])
        if 0 < len(frames) < len(document['per_frame'][key]['J&F']):
            values = document['per_frame'][key]['J&F']
            mean = statistics.fmean(values[t] for t in frames)
            record['in_sight'].setdefault(video, {})[exp] = round(100 * mean, 2)
    return record


def write_truth(dump: Path, data: Path, path: Path) -> None:
    """Write the IoU of every frame, 0 where the target is out of sight, from what a test wrote.

    Args:
        dump: file of ``tools/test.py --dump``.
        data: root of the variants.
        path: file to write, as ``FrameIoUMetric`` would.
    """
    per_frame = json.loads(dump.read_text(encoding='utf-8'))['per_frame']
    videos: dict[str, dict] = {}
    for video, exps in frames_in_sight(data).items():
        ious = {exp: [value if t in shown else 0.0
                      for t, value in enumerate(per_frame[f'{video}_{exp}']['J'])]
                for exp, shown in exps.items()}
        number = len(next(iter(ious.values())))
        videos[video] = dict(frames=[f'{t:05d}' for t in range(number)], expressions=ious)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_scores(path, MovingShapesDataset.METAINFO['dataset'], videos)


def frames_in_sight(data: Path) -> dict[str, dict[str, list[int]]]:
    """Look up which frames show the targets of the test videos.

    Returns:
        video -> expression -> positions.
    """
    found: dict[str, dict[str, list[int]]] = {}
    for variant in VARIANTS:
        folder = data / variant / 'valid_u'
        tracks = json.loads((folder / 'mask_dict.json').read_text(encoding='utf-8'))
        meta = json.loads((folder / 'meta_expressions.json').read_text(encoding='utf-8'))
        for video, record in meta['videos'].items():
            found[video] = {
                exp: [t for t in range(len(record['frames']))
                      if any(tracks[str(anno)][t] is not None for anno in item['anno_id'])]
                for exp, item in record['expressions'].items()}
    return found
