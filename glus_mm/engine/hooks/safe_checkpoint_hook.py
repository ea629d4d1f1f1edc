"""Save checkpoints from which a run goes on exactly, whole or not at all; check loaded ones."""

import ast
import logging
import os
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from mmengine.dist import all_gather_object, get_dist_info, is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.logging import print_log
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner, find_latest_checkpoint
from torch import Tensor

from glus_mm.engine.batches import CallAfter
from glus_mm.engine.checkpoint_loaders import ATOMIC
from glus_mm.engine.plain_state import (
    FrozenBase,
    check_optimizer_fit,
    drop_objects,
    from_plain,
    to_plain,
)
from glus_mm.engine.run_randomness import random_state, set_random_state
from glus_mm.registry import HOOKS
from glus_mm.utils.base_weights import KEY as BASE, complete_state, find_base
from glus_mm.utils.checkpoint import (
    BadWeightsError,
    adapt_lora,
    check_finite,
    check_fit,
    list_keys,
)
from glus_mm.utils.checkpoint_files import (
    check_whole,
    choose_resume,
    newest_whole,
    note_checkpoint,
    remove_parts,
)
from glus_mm.utils.modules import unwrapped

RANDOM_STATE = 'random_state'
# Changed settings that a resumed run names; with the rest of what it says, one screen.
MAX_CHANGED = 8
# Top-level keys that belong to a call and not to the training.
_OF_THE_CALL = ('resume', 'load_from', 'work_dir', 'launcher', 'experiment_name')
# Settings that a checkpoint's own state replaces.
_IN_THE_STATE = ('optim_wrapper.optimizer.', 'optim_wrapper.paramwise_cfg.', 'param_scheduler.',
                 'randomness.seed')


@HOOKS.register_module(name=['SafeCheckpointHook', 'PlainCheckpointHook'])  # its old name
class SafeCheckpointHook(CheckpointHook):
    """MMEngine's ``CheckpointHook`` for runs that must not be lost.

    - Files hold only tensors and plain containers, so that ``torch.load(weights_only=True)``, the
      default since torch 2.6, takes them; MMEngine 0.10 stores its message hub as objects, which
      that refuses. Objects are never unpickled, see
      :mod:`glus_mm.engine.checkpoint_loaders`.
    - They are written whole or not at all: beside their place, brought to the disk, renamed. An
      older one is removed after the new one is there, so that the disk needs room for one more
      than ``max_keep_ckpts``; a disk that is full ends the run and leaves the older ones.
    - They hold the states of the random number generators of all processes too. Validation does
      not change those of training.
    - A run that resumes without a checkpoint being named goes on from the newest whole one.
    - In the middle of a gradient accumulation nothing is saved but at its end.

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
        backend_args: arguments of MMEngine's file backend; by default the one that writes files
            whole or not at all.
        published_keys: keys to keep in a copy made after training.
        save_begin: the first iteration (epoch) at which to save.
        strict: raise if a loaded checkpoint leaves a weight of the model unset. Switch it off to
            start training from a checkpoint that holds a part of the model; what is left unset
            is then logged. A run is always resumed strictly.
        leave_out_frozen: leave out frozen parameters that came, and stay, unchanged from the file
            of ``load_from``, the base, which then belongs to each checkpoint and must be kept. It
            is noted with a fingerprint of what was left out; see
            :mod:`glus_mm.utils.base_weights`. Everything is saved without a ``load_from``.
        base: where the base of the checkpoint to load is, if not where that says.
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
                 strict: bool = True,
                 leave_out_frozen: bool = False,
                 base: str | Path | None = None) -> None:
        if backend_args is None and '://' not in str(out_dir):
            backend_args = dict(backend=ATOMIC)
        super().__init__(
            interval=interval, by_epoch=by_epoch, save_optimizer=save_optimizer,
            save_param_scheduler=save_param_scheduler, out_dir=out_dir,
            max_keep_ckpts=max_keep_ckpts, save_last=save_last, save_best=save_best, rule=rule,
            filename_tmpl=filename_tmpl, backend_args=backend_args,
            published_keys=published_keys, save_begin=save_begin)
        self.strict = strict
        self.leave_out_frozen = leave_out_frozen
        self.base = base
        self._frozen: FrozenBase | None = None
        # States of random numbers: of all processes, read from a checkpoint and for the next one;
        # of this process, those of training while validation runs.
        self._loaded_states: list[dict] | None = None
        self._next_states: list[dict] | None = None
        self._training_state: dict | None = None
        self._postponed = False

    # Loading

    def before_run(self, runner: Runner) -> None:
        """Choose the checkpoint of a run that is to be resumed from the latest one.

        Args:
            runner: the runner, which MMEngine would let read ``last_checkpoint`` only.
        """
        if not runner._resume or runner._load_from is not None:
            return
        path = choose_resume(runner.work_dir)
        runner._resume, runner._load_from = path is not None, path and str(path)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Complete the weights, check that they fit, and restore what saving made plain.

        A model with LoRA adapters takes weights without them, see :func:`adapt_lora`.

        Args:
            runner: the runner; its model is not filled yet.
            checkpoint: what was loaded; changed in place.

        Raises:
            FileNotFoundError: the file is gone that it shares frozen parameters with.
            ValueError: the file is damaged, the weights do not fit the model (with ``strict``),
                some are not finite, there are none, the LoRA adapters are others than the model's,
                the file that it shares parameters with is another one, the optimizer's state
                does not fit, or there are weights alone where a run is to be resumed.
        """
        source = _source(runner)
        model = unwrapped(runner.model)
        if Path(source).is_file():
            check_whole(source)
        # The first process of a machine verifies: all of them read the same files.
        stored = complete_state(checkpoint, source, self.base,
                                verify=os.environ.get('LOCAL_RANK', '0') == '0')
        state = adapt_lora(model, stored, source)
        try:
            unknown = check_fit(model, state, source)
        except BadWeightsError:
            raise
        except ValueError as error:
            if self.strict or runner._resume:
                raise
            print_log(f'{error}\nLoaded what fits, as strict=False asks.', 'current',
                      logging.WARNING)
        else:
            if unknown:
                print_log(list_keys(f'{source}: left aside, unknown to the model', unknown),
                          'current', logging.WARNING)
        check_finite(state, source)
        if runner._resume:
            if 'iter' not in (checkpoint.get('meta') or {}):
                raise ValueError('expected the checkpoint of a training to go on from, got weights '
                                 f'alone: {source}; a training starts from them with load_from=')
            check_optimizer_fit(runner.optim_wrapper, model, checkpoint.get('optimizer'), source)
            print_log(_resumes(runner, checkpoint, source), 'current')
        if self.leave_out_frozen and is_main_process():
            self._frozen = self._find_base(runner, checkpoint, stored, state)
        self._loaded_states = checkpoint.pop(RANDOM_STATE, {}).get('ranks')
        if 'state_dict' in checkpoint:
            checkpoint['state_dict'] = state
        else:
            checkpoint.clear()
            checkpoint.update(state)
        for key in ('message_hub', 'meta'):
            if key in checkpoint:
                checkpoint[key] = from_plain(checkpoint[key])

    def _find_base(self, runner: Runner, checkpoint: dict, stored: dict[str, Tensor],
                   state: dict[str, Tensor]) -> FrozenBase | None:
        """What later checkpoints may leave out after this one was loaded."""
        if runner._resume:
            path = find_base(checkpoint, _source(runner), self.base)
            if path is None:
                return None
            entry = checkpoint[BASE]['parameters']
            keys = {name: key for name, (key, _) in entry.items()}
            known = {name: digest for name, (_, digest) in entry.items()}
        else:
            path, known = Path(_source(runner)), None
            keys = {name: name if name in stored else name.replace('.base_layer.', '.')
                    for name in state}
            keys = {name: key for name, key in keys.items() if key in stored}
            if not path.is_file():
                print_log(f'{path} is no local file: checkpoints will be complete', 'current',
                          logging.WARNING)
                return None
        return FrozenBase(path, {name: state[name] for name in keys if name in state}, keys, known)

    # Around training

    def before_train(self, runner: Runner) -> None:
        """Prepare the folder, the base and the random numbers."""
        super().before_train(runner)
        if is_main_process() and Path(self.out_dir).is_dir():
            remove_parts(self.out_dir)
        self._watch_base(runner)
        states, self._loaded_states = self._loaded_states, None
        if runner.iter > 0:
            self._go_on(runner, states)

    def _go_on(self, runner: Runner, states: list[dict] | None) -> None:
        """Let a resumed run go on with the random numbers of an uninterrupted one."""
        if states is None:
            print_log('the checkpoint holds no random states: random numbers from here on are not '
                      'those of an uninterrupted run', 'current', logging.WARNING)
            return
        rank, world_size = get_dist_info()
        if len(states) != world_size:
            print_log(f'the checkpoint holds the random states of {len(states)} processes, this '
                      f'run has {world_size}: process r takes state r modulo {len(states)}',
                      'current', logging.WARNING)

        def resume() -> None:
            set_random_state(states[rank % len(states)], unwrapped(runner.model))

        loop = runner.train_loop
        if hasattr(loop, 'dataloader_iterator'):
            # Only after the loop has thrown away what the run has seen, which may draw too.
            loop.dataloader_iterator = CallAfter(loop.dataloader_iterator, runner.iter, resume)
        else:
            resume()

    def _watch_base(self, runner: Runner) -> None:
        """Find out what may be left out, and say how much it is."""
        if not self.leave_out_frozen or not is_main_process():
            return
        if self._frozen is None:
            print_log('leave_out_frozen: there is no base (load_from), so that checkpoints will be '
                      'complete', 'current')
        elif Path(self._frozen.path).absolute().parent == Path(self.out_dir).absolute():
            print_log(f'leave_out_frozen: {self._frozen.path} is in the folder of the checkpoints, '
                      'one of which may replace it: they will be complete', 'current',
                      logging.WARNING)
            self._frozen = None
        else:
            number = self._frozen.watch(unwrapped(runner.model))
            print_log(f'checkpoints leave out {number} frozen parameters and need '
                      f'{self._frozen.path} beside them', 'current')

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch=None,
                         outputs: dict | None = None) -> None:
        """Save where it is time to, or as soon as the optimizer has made its step."""
        super().after_train_iter(runner, batch_idx, data_batch, outputs)
        if self._postponed and _is_whole_step(runner):
            self._save_checkpoint(runner)

    def before_val(self, runner: Runner) -> None:
        """Remember the random numbers of training."""
        self._training_state = random_state(unwrapped(runner.model))

    def after_val(self, runner: Runner) -> None:
        """Let training go on with its own random numbers, however many validation drew."""
        state, self._training_state = self._training_state, None
        set_random_state(state, unwrapped(runner.model))

    # Saving

    def save_now(self, runner: Runner, step: int) -> str | None:
        """Save outside the interval.

        All processes have to call it, between two iterations, or in ``after_train_iter`` and after
        this hook's own.

        Args:
            runner: whose state is saved.
            step: number of iterations that are done.

        Returns:
            The file, which may have been saved by now; None in the middle of a gradient
            accumulation and where epochs are counted, as a run cannot go on from there.
        """
        if self.by_epoch or not _is_whole_step(runner):
            return None
        if Path(self.last_ckpt or '').name != self.filename_tmpl.format(step):
            self._save_checkpoint_with_step(runner, step, meta=dict(epoch=runner.epoch, iter=step))
        return self.last_ckpt

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Add the random states, leave out what the base has, and turn all into plain containers.

        Args:
            checkpoint: what is about to be saved; changed in place.

        Raises:
            TypeError: weights, optimizer, schedulers or ``meta`` hold an object without a plain
                form. In the message hub, which holds what hooks like to note, such an entry is
                left out with a warning instead.
        """
        if 'optimizer' in checkpoint:  # what a run can go on from
            states, self._next_states = self._next_states, None
            if states is None and get_dist_info()[1] == 1:  # several are gathered before
                states = [self._training_state or random_state(unwrapped(runner.model))]
            if states is not None:
                checkpoint[RANDOM_STATE] = dict(ranks=states)
        if self._frozen is not None and 'state_dict' in checkpoint:
            entry = self._frozen.leave_out(
                unwrapped(runner.model), checkpoint['state_dict'], self.out_dir)
            if entry is not None:
                checkpoint[BASE] = entry
        if checkpoint.get('message_hub') is not None:
            drop_objects(checkpoint['message_hub'])
        for key in list(checkpoint):
            checkpoint[key] = to_plain(checkpoint[key], f'checkpoint[{key!r}]')

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        """As in MMEngine, but older checkpoints go last, and nothing is ever half there."""
        self._postponed = not (self.by_epoch or _is_whole_step(runner))
        if self._postponed:
            print_log('the checkpoint is written after the next step of the optimizer: gradients '
                      'that are being accumulated are not saved', 'current')
            return
        self._next_states = all_gather_object(
            self._training_state or random_state(unwrapped(runner.model)))
        outdated: list[int] = []
        if self.max_keep_ckpts > 0:
            kept = [other for other in self.keep_ckpt_ids if other != step] + [step]
            outdated = kept[:-self.max_keep_ckpts]
            self.keep_ckpt_ids = deque(kept[-self.max_keep_ckpts:], self.max_keep_ckpts)
            runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))
        name = self.filename_tmpl.format(step)
        self.last_ckpt = self.file_backend.join_path(self.out_dir, name)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        try:
            runner.save_checkpoint(
                self.out_dir, name, self.file_client_args, save_optimizer=self.save_optimizer,
                save_param_scheduler=self.save_param_scheduler, meta=meta,
                by_epoch=self.by_epoch, backend_args=self.backend_args, **self.args)
            if is_main_process():
                note_checkpoint(runner.work_dir, self.last_ckpt)
        except OSError as error:
            raise _explained(error, self.last_ckpt, runner.work_dir) from error
        if is_main_process():
            for other in outdated:
                self._remove(self.file_backend.join_path(
                    self.out_dir, self.filename_tmpl.format(other)))

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        """As in MMEngine, but the best so far goes after the better one is there."""
        if not self.save_best:
            return
        several = len(self.key_indicators) > 1
        before = dict(self.best_ckpt_path_dict) if several else {'': self.best_ckpt_path}
        # MMEngine removes the files that stand here first.
        if several:
            self.best_ckpt_path_dict = dict.fromkeys(before)
        else:
            self.best_ckpt_path = None
        try:
            super()._save_best_checkpoint(runner, metrics)
        except OSError as error:
            raise _explained(error, 'the best checkpoint', runner.work_dir) from error
        now = self.best_ckpt_path_dict if several else {'': self.best_ckpt_path}
        for key, path in before.items():
            if now.get(key) is None:
                now[key] = path
            elif path and path != now[key] and is_main_process():
                self._remove(path)
        if not several:
            self.best_ckpt_path = now['']

    def _remove(self, path: str) -> None:
        if self.file_backend.isfile(path):
            self.file_backend.remove(path)
        elif self.file_backend.isdir(path):  # as DeepSpeed writes them
            self.file_backend.rmtree(path)


def _source(runner: Runner) -> str:
    """The file that a checkpoint was read from."""
    # Without a name MMEngine takes the latest.
    return str(runner._load_from or find_latest_checkpoint(runner.work_dir) or runner.work_dir)


def _resumes(runner: Runner, checkpoint: dict, source: str) -> str:
    """What a run goes on from, on one screen: file, iteration, state, changed settings."""
    meta = checkpoint.get('meta') or {}
    before = meta.get('experiment_name')
    rates = sorted({group.get('lr') for group in (checkpoint.get('optimizer') or {}).get(
        'param_groups', [])} - {None})
    states = len((checkpoint.get(RANDOM_STATE) or {}).get('ranks') or ())
    parts = {
        f'{len(checkpoint.get("state_dict", ()))} weights and buffers': True,
        'the optimizer': checkpoint.get('optimizer'),
        'the schedulers': checkpoint.get('param_schedulers'),
        f'random numbers of {states} process{"es" * (states != 1)}' if states else
        'random numbers': states,
        'the log': checkpoint.get('message_hub')}
    lines = [
        f'resumes from {source}',
        f'  iteration {meta.get("iter")} of {runner.max_iters}, saved {meta.get("time")}'
        + (f' by the run {before}' if before else ''),
        f'  seed {meta.get("seed")}, learning rates {", ".join(f"{rate:.4g}" for rate in rates)}',
        f'  restored: {", ".join(name for name, there in parts.items() if there)}']
    if not all(parts.values()):
        lines.append('  not in the file: '
                     + ', '.join(name for name, there in parts.items() if not there))
    if BASE in checkpoint:
        lines.append(f'  {len(checkpoint[BASE]["parameters"])} frozen weights from '
                     f'{checkpoint[BASE]["path"]}')
    return '\n'.join([*lines, *_changed_settings(meta.get('cfg'), runner.cfg.pretty_text)])


def _changed_settings(before: object, now: str) -> list[str]:
    """Lines with what a config says otherwise than the one in a checkpoint.

    Args:
        before: text of the config in the checkpoint, which is parsed and never run.
        now: text of the config of the run.
    """
    try:
        old, new = (_settings(ast.parse(text)) for text in (before, now))
    except (SyntaxError, TypeError, ValueError, RecursionError, MemoryError):
        return ['  settings: not compared, as the file does not tell those of its run']
    changed = [f'    {key}: {old.get(key, "not set")} -> {new.get(key, "not set")}'
               + ' (without effect: the state that was restored has the old one)'
               * key.startswith(_IN_THE_STATE)
               for key in dict.fromkeys([*old, *new]) if old.get(key) != new.get(key)
               and key.split('.')[0] not in _OF_THE_CALL]
    if not changed:
        return ['  settings: as before']
    more = len(changed) - MAX_CHANGED
    return ['  settings that were changed since:',
            *(line if len(line) < 160 else f'{line[:160]} ...' for line in changed[:MAX_CHANGED]),
            *[f'    and {more} more'] * (more > 0)]


def _settings(node: ast.AST, key: str = '') -> dict[str, str]:
    """Dotted keys and values of the text of a config."""
    if isinstance(node, ast.Module):
        items = [(ast.unparse(line.targets[0]), line.value) for line in node.body
                 if isinstance(line, ast.Assign)]
    elif isinstance(node, ast.Call) and ast.unparse(node.func) == 'dict' and node.keywords:
        items = [(str(word.arg), word.value) for word in node.keywords]
    elif isinstance(node, ast.Dict) and node.keys:
        items = [(ast.unparse(name), value) for name, value in zip(node.keys, node.values)
                 if name is not None]
    elif isinstance(node, (ast.List, ast.Tuple)) and any(
            isinstance(item, (ast.Call, ast.Dict)) for item in node.elts):
        items = [(str(i), value) for i, value in enumerate(node.elts)]
    else:
        return {key: ast.unparse(node)}
    return {place: value for name, child in items
            for place, value in _settings(child, f'{key}.{name}'.lstrip('.')).items()}


def _is_whole_step(runner: Runner) -> bool:
    """Whether no gradients are being accumulated; MMEngine would drop them on resume."""
    wrapper = runner.optim_wrapper
    return not isinstance(wrapper, OptimWrapper) or wrapper.should_update()


def _explained(error: OSError, file: str, work_dir: str) -> OSError:
    """The error of a checkpoint that cannot be written, with what is left."""
    path, _ = newest_whole(work_dir)
    left = 'there is no other one' if path is None else f'the latest one that is whole is {path}'
    return OSError(error.errno, f'{error.strerror or error}: {file} could not be written; {left}. '
                   'With more room on the disk, --resume auto goes on from there')
