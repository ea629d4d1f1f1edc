"""Save checkpoints that load without running code, and check those that are loaded."""

import logging
from collections.abc import Sequence
from pathlib import Path

from mmengine.hooks import CheckpointHook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from glus_mm.engine.plain_state import from_plain, to_plain
from glus_mm.registry import HOOKS
from glus_mm.utils.checkpoint import adapt_lora, check_fit, list_keys, model_state_of


@HOOKS.register_module()
class PlainCheckpointHook(CheckpointHook):
    """MMEngine's ``CheckpointHook`` whose files hold only tensors and plain containers.

    MMEngine 0.10 stores its message hub as objects, which ``torch.load(weights_only=True)``, the
    default since torch 2.6, refuses: a run could not resume from its own checkpoint. This hook
    turns them into plain containers before saving and back after loading. Nothing here ever
    unpickles objects.

    It has to be the ``checkpoint`` entry of ``default_hooks``: it is the last to see a checkpoint
    before it is written.

    Args:
        interval: save every so many iterations (epochs with ``by_epoch``); -1 = only at the end.
        by_epoch: count epochs instead of iterations.
        save_optimizer: save the optimizer's state too, needed to resume.
        save_param_scheduler: save the schedulers' state too, needed to resume.
        out_dir: another folder than the run's work_dir.
        max_keep_ckpts: keep only so many of the latest; -1 = all.
        save_last: save after the last iteration in any case.
        save_best: name(s) of the metric(s) whose best checkpoint is kept as well.
        rule: 'greater' or 'less', one for each ``save_best``.
        filename_tmpl: file name with one ``{}``; by default ``iter_{}.pth``.
        backend_args: arguments of MMEngine's file backend.
        published_keys: keys to keep in a copy made after training.
        save_begin: the first iteration (epoch) at which to save.
        strict: raise if a loaded checkpoint leaves a weight of the model unset. Switch it off to
            start training from a checkpoint that holds a part of the model; what is left unset
            is then logged.
    """

    def __init__(self,
                 interval: int = -1,
                 by_epoch: bool = False,
                 save_optimizer: bool = True,
                 save_param_scheduler: bool = True,
                 out_dir: str | Path | None = None,
                 max_keep_ckpts: int = -1,
                 save_last: bool = True,
                 save_best: str | list[str] | None = None,
                 rule: str | list[str] | None = None,
                 filename_tmpl: str | None = None,
                 backend_args: dict | None = None,
                 published_keys: str | Sequence[str] | None = None,
                 save_begin: int = 0,
                 strict: bool = True) -> None:
        super().__init__(
            interval=interval, by_epoch=by_epoch, save_optimizer=save_optimizer,
            save_param_scheduler=save_param_scheduler, out_dir=out_dir,
            max_keep_ckpts=max_keep_ckpts, save_last=save_last, save_best=save_best, rule=rule,
            filename_tmpl=filename_tmpl, backend_args=backend_args,
            published_keys=published_keys, save_begin=save_begin)
        self.strict = strict

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Turn everything in the checkpoint into plain containers, in place.

        Args:
            runner: the runner.
            checkpoint: what is about to be saved.

        Raises:
            TypeError: weights, optimizer, schedulers or ``meta`` hold an object without a plain
                form. In the message hub, which holds what hooks like to note, such an entry is
                left out with a warning instead.
        """
        hub = checkpoint.get('message_hub')
        if hub is not None:
            _drop_objects(hub)
        for key in list(checkpoint):
            checkpoint[key] = to_plain(checkpoint[key], f'checkpoint[{key!r}]')

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Check that the weights fit, and restore what ``before_save_checkpoint`` turned.

        A model with LoRA adapters takes weights without them, see :func:`adapt_lora`.

        Args:
            runner: the runner; its model is not filled yet.
            checkpoint: what was loaded; changed in place.

        Raises:
            ValueError: the weights do not fit the model (with ``strict``), there are none, or
                the LoRA adapters are others than the model's.
        """
        source = str(runner._load_from or runner.work_dir)
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        state = adapt_lora(model, model_state_of(checkpoint, source), source)
        try:
            unknown = check_fit(model, state, source)
        except ValueError as error:
            if self.strict:
                raise
            print_log(f'{error}\nLoaded what fits, as strict=False asks.', 'current',
                      logging.WARNING)
        else:
            if unknown:
                print_log(list_keys(f'{source}: left aside, unknown to the model', unknown),
                          'current', logging.WARNING)
        if 'state_dict' in checkpoint:
            checkpoint['state_dict'] = state
        else:
            checkpoint.clear()
            checkpoint.update(state)
        for key in ('message_hub', 'meta'):
            if key in checkpoint:
                checkpoint[key] = from_plain(checkpoint[key])


def _drop_objects(hub: dict) -> None:
    """Leave out, with a warning, what cannot be saved; ``hub`` is a message hub's state dict."""
    info = hub['runtime_info']
    for key in list(info):
        try:
            to_plain(info[key], f"checkpoint['message_hub'].{key}")
        except TypeError as error:
            print_log(f'not saved: {error}', 'current', logging.WARNING)
            del info[key]
    # A copy: the hub hands out its own dict here.
    hub['resumed_keys'] = {key: value for key, value in hub['resumed_keys'].items()
                           if key in info or key in hub['log_scalars']}
