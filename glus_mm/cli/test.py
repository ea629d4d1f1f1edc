"""``glus-mm test`` and ``tools/test.py``: test a checkpoint on a config's test set."""

import argparse
import copy
import os
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from glus_mm.utils.config_input import add_run_options
from glus_mm.utils.paths import ensure_writable_dir, ensure_writable_file

if TYPE_CHECKING:
    from mmengine import Config

DIST_TIMEOUT = 24 * 3600  # seconds
_EPILOG = """Prints J, F and J&F, by kind where there are kinds. Every finished video is recorded
in the work folder; --resume goes on after an interruption. --probe tests again on changed videos
and prints their J&F beside that of the videos as they are: one frame repeated (still), the video
backward (reverse), context frames in another order (shuffle), asked for by the words of another
object (swap). Examples:
  glus-mm test CONFIG.py iter_3000.pth --dump outputs/test.json
  glus-mm test CONFIG.py iter_3000.pth --probe still reverse shuffle swap --dump F.json
  torchrun --nproc_per_node 2 -m glus_mm test CONFIG.py iter_3000.pth --launcher pytorch
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    from glus_mm.utils.frames import PROBES

    parser.epilog = _EPILOG
    parser.add_argument('config', metavar='CONFIG',
                        help='config file, or the name of a shipped one without its suffix')
    parser.add_argument('checkpoint', metavar='CHECKPOINT', nargs='?',
                        help='checkpoint file, folder written by tools/model_converters, or name '
                             'of a repository on the hub (default: "checkpoint" of the config)')
    parser.add_argument('--out', metavar='DIR', help='write the masks as PNG into this folder')
    parser.add_argument('--dump', metavar='F.json', help='write the figures into this file')
    parser.add_argument('--show-dir', metavar='D', help='write overlays into this folder')
    parser.add_argument('--probe', nargs='+', choices=PROBES, default=[], metavar='P',
                        help=f'test on changed videos as well, any of {", ".join(PROBES)}; folders '
                             'and files of a probe have its name added')
    parser.add_argument('--resume', action='store_true',
                        help='go on with an interrupted run in the same work folder: videos that '
                             'it has finished are not tested again')
    add_run_options(parser)


def record_videos(cfg: 'Config', resume: bool) -> None:
    """Let the run record its finished videos, and take over what it finished before.

    Args:
        cfg: a config; a hook is added in place, and processes wait for one another for a day,
            as the slowest may take much longer than the others.
        resume: whether to take over. A process that torchrun restarts does so in any case.
    """
    resume = resume or int(os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')) > 0
    # The config that an earlier run wrote into its work folder has the hook, as that run had it.
    name = 'glus_mm.FinishedVideosHook'
    hooks = [hook for hook in cfg.get('custom_hooks') or []
             if not (isinstance(hook, dict) and hook.get('type') == name)]
    cfg.custom_hooks = [*hooks, dict(type=name, resume=resume)]
    env_cfg = dict(cfg.get('env_cfg') or {})
    env_cfg['dist_cfg'] = dict(dict(timeout=DIST_TIMEOUT), **(env_cfg.get('dist_cfg') or {}))
    cfg.env_cfg = env_cfg


def set_outputs(cfg: 'Config', args: argparse.Namespace, probe: str = '') -> None:
    """Let a run write what the command line asks for.

    Args:
        cfg: a config; changed in place.
        args: the command line.
        probe: of the run; its name is added to folders and files.

    Raises:
        OSError: a place cannot be written.
        ValueError: the config has nothing that would write.
    """
    suffix = f'_{probe}' if probe else ''
    values = {}
    if args.out is not None:
        values['output_dir'] = str(ensure_writable_dir(f'{args.out}{suffix}'))
    if args.dump is not None:
        path = Path(args.dump)
        path = path.with_name(f'{path.stem}{suffix}{path.suffix}')
        values['dump_file'] = str(ensure_writable_file(path))
    evaluator = cfg.get('test_evaluator') or []
    metrics = [evaluator] if isinstance(evaluator, dict) else list(evaluator)
    metrics = [m for m in metrics if str(m.get('type', '')).split('.')[-1] == 'RefVOSMetric']
    if values and not metrics:
        raise ValueError(f'expected a RefVOSMetric in test_evaluator to set {", ".join(values)}, '
                         f'got {evaluator}')
    for metric in metrics:
        metric.update(values)
    if args.show_dir is not None:
        hook = cfg.get('default_hooks', {}).get('visualization')
        if hook is None:
            raise ValueError('--show-dir: the config has no default_hooks.visualization')
        hook.draw, hook.out_dir = True, str(ensure_writable_dir(f'{args.show_dir}{suffix}'))


def set_probe(cfg: 'Config', probe: str) -> None:
    """Change the videos of a test as a probe says.

    Args:
        cfg: a config; its test pipelines, the work folder and names that must differ between runs
            are changed in place.
        probe: one of ``PROBES``.

    Raises:
        ValueError: the truth is not that of the data set's masks, or key frames are those of a
            file, so that neither would follow the change.
    """
    from glus_mm.evaluation.protocols import PROTOCOLS, ObjectProtocol

    evaluator = cfg.get('test_evaluator') or []
    for metric in [evaluator] if isinstance(evaluator, Mapping) else evaluator:
        protocol = PROTOCOLS.get(metric.get('protocol', 'mevis'))
        if metric.get('format_only') or issubclass(protocol or object, ObjectProtocol):
            raise ValueError('--probe: expected a metric that scores the expressions of a data set '
                             f'with masks in test_evaluator, got {dict(metric)}')
    selector = (cfg.model.get('test_cfg') or {}).get('selector') or {}
    if str(selector.get('type')).split('.')[-1] == 'FileKeyFrameSelector':
        raise ValueError('--probe: expected no key frames of a file in model.test_cfg.selector, '
                         'which are those of the video as it is, got '
                         f'{selector.get("file")!r}')

    def insert(dataset: dict) -> None:
        for child in dataset.get('datasets', []):
            insert(child)
        if 'pipeline' in dataset:
            pipeline = list(dataset['pipeline'])
            place = next((i for i, item in enumerate(pipeline)
                          if str(item.get('type')).split('.')[-1] == 'PackRefVOSInputs'), None)
            if place is None:
                raise ValueError('--probe: expected a test pipeline with PackRefVOSInputs, got '
                                 f'{[item.get("type") for item in pipeline]}')
            pipeline.insert(place, dict(type='glus_mm.ProbeVideo', probe=probe))
            dataset['pipeline'] = pipeline

    insert(cfg.test_dataloader.dataset)
    cfg.work_dir = str(Path(cfg.work_dir) / probe)
    cfg.experiment_name = f'{Path(cfg.filename).stem}_{probe}'
    if cfg.get('visualizer') is not None:
        cfg.visualizer.name = f'{cfg.visualizer.get("name", "visualizer")}_{probe}'


def run(args: argparse.Namespace) -> None:
    """Check what was asked for, then test.

    Raises:
        SystemExit: with status 2 if it cannot begin, as after a ValueError without CHECKPOINT, with
            1 if it fails later.
    """
    from mmengine.dist import is_main_process

    from glus_mm.apis.pretrained import mapped_weights, use_checkpoint
    from glus_mm.evaluation.probe_table import PLAIN, probe_table
    from glus_mm.utils.command_line import load_config, refuse
    from glus_mm.utils.folder_lock import lock_folder
    from glus_mm.utils.run_log import build_runner, one_line_errors
    from glus_mm.utils.setup_env import launched_rank, leave_dist, setup_dist

    parser = args.parser
    with ExitStack() as stack:
        with refuse(parser):
            cfg = load_config(args.config, args.cfg_options, args.work_dir)
            if launched_rank(args.launcher) == 0:
                # Beside a training's: it may be tested while it goes on.
                stack.enter_context(lock_folder(cfg.work_dir, '.test.lock'))
            runs = {PLAIN: cfg}
            for probe in dict.fromkeys(args.probe):
                runs[probe] = copy.deepcopy(cfg)
                set_probe(runs[probe], probe)
                set_outputs(runs[probe], args, probe)
            set_outputs(cfg, args)
            checkpoint = args.checkpoint or cfg.get('checkpoint')
            if not checkpoint:
                raise ValueError(
                    f'expected CHECKPOINT, as {args.config} has no "checkpoint" of its own')
            for each in runs.values():
                use_checkpoint(each, checkpoint, each.get('load_from'))
        stack.enter_context(one_line_errors(parser.prog))
        figures = {}
        for name, each in runs.items():
            each.resume = False
            record_videos(each, args.resume)
            each.model_wrapper_cfg = dict(type='glus_mm.Unwrapped')
            each.launcher = args.launcher
            if each.get('runner_type') == 'FlexibleRunner':
                # DeepSpeed and others spread what training needs; checkpoints are those of any run.
                each.pop('runner_type')
                each.pop('strategy', None)
            setup_dist(each, args.launcher)
            runner = build_runner(each)
            with mapped_weights(each, runner):
                figures[name] = runner.test()
            del runner  # the next one needs its memory
        if args.probe and is_main_process():
            print(probe_table(figures))
        leave_dist()
