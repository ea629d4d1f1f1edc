"""``glus-mm train`` and ``tools/train.py``: train a model from a config."""

import argparse
from contextlib import ExitStack
from typing import TYPE_CHECKING

from glus_mm.utils.config_input import add_run_options

if TYPE_CHECKING:
    from mmengine import Config

_EPILOG = """Examples:
  glus-mm train glus_tiny_moving-shapes --work-dir outputs/train \\
      --cfg-options load_from=checkpoints/glus_tiny_moving-shapes.pth
  torchrun --nproc_per_node 2 -m glus_mm train CONFIG.py --launcher pytorch

The exit status is 0 when the training is done, 75 if it saved and ended because it was asked to
(SIGTERM, SIGUSR1), 2 if it could not begin, 1 for everything else.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.epilog = _EPILOG
    parser.add_argument('config', metavar='CONFIG',
                        help='config file, or the name of a shipped one without its suffix')
    parser.add_argument('--amp', action='store_true',
                        help='mixed precision; the config may name the dtype')
    parser.add_argument('--resume', nargs='?', const='auto', metavar='auto|CKPT',
                        help='go on from a checkpoint: the latest in the work folder (no value '
                             'or "auto"; starts afresh if there is none) or the one named')
    add_run_options(parser)


def _use_amp(cfg: 'Config') -> None:
    """Switch the optimizer wrapper to mixed precision.

    Args:
        cfg: a config; ``optim_wrapper`` is changed in place.

    Raises:
        ValueError: no accelerator, or another wrapper than MMEngine's plain one.
    """
    import torch

    if not torch.cuda.is_available():
        raise ValueError('--amp needs an accelerator, and there is none')
    kind = cfg.optim_wrapper.get('type', 'OptimWrapper')
    if kind not in ('OptimWrapper', 'AmpOptimWrapper'):
        raise ValueError(f'--amp: expected optim_wrapper.type OptimWrapper, got {kind}')
    cfg.optim_wrapper.type = 'AmpOptimWrapper'
    cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')


def run(args: argparse.Namespace) -> None:
    """Check what was asked for, then train.

    Raises:
        SystemExit: see the epilog.
    """
    import torch

    from glus_mm.apis.pretrained import mapped_weights, use_checkpoint
    from glus_mm.engine.preemption import Preempted, Preemption, note_preempted
    from glus_mm.utils.command_line import load_config, refuse, set_resume
    from glus_mm.utils.config_keys import check_custom_keys
    from glus_mm.utils.folder_lock import lock_folder
    from glus_mm.utils.run_log import build_runner, one_line_errors
    from glus_mm.utils.setup_env import launched_rank, leave_dist, setup_dist

    parser = args.parser
    with ExitStack() as stack:
        with refuse(parser):
            cfg = load_config(args.config, args.cfg_options, args.work_dir)
            if launched_rank(args.launcher) == 0:
                stack.enter_context(lock_folder(cfg.work_dir))
            if args.amp:
                _use_amp(cfg)
            load_from = cfg.get('load_from') or None
            set_resume(cfg, args.resume)
            use_checkpoint(cfg, cfg.get('load_from'), load_from)
        stack.enter_context(one_line_errors(parser.prog))
        stack.enter_context(Preemption(parent=args.launcher != 'none'))
        cfg.launcher = args.launcher
        setup_dist(cfg, args.launcher)
        runner = build_runner(cfg)
        if isinstance(runner.model, torch.nn.Module):  # else DeepSpeed's strategy builds it
            check_custom_keys(cfg.get('optim_wrapper'), runner.model)
        try:
            with mapped_weights(cfg, runner):
                runner.train()
        except Preempted:
            leave_dist()
            note_preempted()
            raise
