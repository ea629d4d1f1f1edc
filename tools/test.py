"""Test a checkpoint on a config's test set and print J, F and J&F, by kind where there are kinds.

Example::

    python tools/test.py configs/glus/glus_tiny_moving-shapes.py \
        checkpoints/glus_tiny_moving-shapes.pth --dump outputs/test.json

Every finished video is recorded in the work folder; ``--resume`` goes on after an interruption.
"""

import argparse
import os

import glus_mm  # noqa: F401 - before MMEngine, whose imports it keeps light

# isort: split
from mmengine import Config
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from glus_mm.apis.pretrained import mapped_weights, use_checkpoint
from glus_mm.utils.command_line import add_common_options, load_config
from glus_mm.utils.paths import ensure_writable_dir, ensure_writable_file
from glus_mm.utils.setup_env import leave_dist, setup_dist

DIST_TIMEOUT = 24 * 3600  # seconds


def parse_args() -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description='Test a checkpoint')
    parser.add_argument('config', metavar='CONFIG', help='config file')
    parser.add_argument('checkpoint', metavar='CHECKPOINT',
                        help='checkpoint file, folder written by tools/model_converters, or name '
                             'of a repository on the hub')
    parser.add_argument('--out', metavar='DIR', help='write the masks as PNG into this folder')
    parser.add_argument('--dump', metavar='F.json', help='write the figures into this file')
    parser.add_argument('--show-dir', metavar='D', help='write overlays into this folder')
    parser.add_argument('--resume', action='store_true',
                        help='go on with an interrupted run in the same work folder: videos that '
                             'it has finished are not tested again')
    add_common_options(parser)
    return parser, parser.parse_args()


def set_evaluator(cfg: Config, key: str, value: str) -> None:
    """Set an argument of the test evaluator's metric.

    Args:
        cfg: a config; ``test_evaluator`` is changed in place. Of a list of metrics the
            ``RefVOSMetric`` entries are meant.
        key: the argument.
        value: its value.

    Raises:
        ValueError: the config has no such metric.
    """
    evaluator = cfg.get('test_evaluator') or []
    metrics = [evaluator] if isinstance(evaluator, dict) else list(evaluator)
    metrics = [m for m in metrics if str(m.get('type', '')).split('.')[-1] == 'RefVOSMetric']
    if not metrics:
        raise ValueError(f'expected a RefVOSMetric in test_evaluator to set {key}, got {evaluator}')
    for metric in metrics:
        metric[key] = value


def set_show_dir(cfg: Config, folder: str) -> None:
    """Let the visualization hook draw into a folder.

    Args:
        cfg: a config; its hook is changed in place.
        folder: where the overlays go.

    Raises:
        ValueError: the config has no ``default_hooks.visualization``.
    """
    hook = cfg.get('default_hooks', {}).get('visualization')
    if hook is None:
        raise ValueError('--show-dir: the config has no default_hooks.visualization')
    hook.draw = True
    hook.out_dir = folder


def record_videos(cfg: Config, resume: bool) -> None:
    """Let the run record its finished videos, and take over what it finished before.

    Args:
        cfg: a config; a hook is added in place, and processes wait for one another for a day,
            as the slowest may take much longer than the others.
        resume: whether to take over. A process that torchrun restarts does so in any case.
    """
    resume = resume or int(os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')) > 0
    cfg.custom_hooks = [*(cfg.get('custom_hooks') or []),
                        dict(type='glus_mm.FinishedVideosHook', resume=resume)]
    env_cfg = dict(cfg.get('env_cfg') or {})
    env_cfg['dist_cfg'] = dict(dict(timeout=DIST_TIMEOUT), **(env_cfg.get('dist_cfg') or {}))
    cfg.env_cfg = env_cfg


def main() -> None:
    """Check what was asked for, then test."""
    parser, args = parse_args()
    try:
        cfg = load_config(args.config, args.cfg_options, args.work_dir)
        if args.out is not None:
            set_evaluator(cfg, 'output_dir', str(ensure_writable_dir(args.out)))
        if args.dump is not None:
            set_evaluator(cfg, 'dump_file', str(ensure_writable_file(args.dump)))
        if args.show_dir is not None:
            set_show_dir(cfg, str(ensure_writable_dir(args.show_dir)))
        use_checkpoint(cfg, args.checkpoint, cfg.get('load_from'))
    except (OSError, KeyError, ValueError) as error:
        parser.error(str(error.args[0] if isinstance(error, KeyError) else error))
    cfg.resume = False
    record_videos(cfg, args.resume)
    cfg.model_wrapper_cfg = dict(type='glus_mm.Unwrapped')
    cfg.launcher = args.launcher
    if cfg.get('runner_type') == 'FlexibleRunner':
        # DeepSpeed and others spread what training needs; checkpoints are those of any run.
        cfg.pop('runner_type')
        cfg.pop('strategy', None)
    setup_dist(cfg, args.launcher)
    runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    with mapped_weights(cfg, runner):
        runner.test()
    leave_dist()


if __name__ == '__main__':
    main()
