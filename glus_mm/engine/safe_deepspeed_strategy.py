"""Train with DeepSpeed's ZeRO. The only module that touches MMEngine's private ``_strategy``."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import deepspeed
import mmengine
import torch
from deepspeed.utils import (
    safe_get_full_fp32_param,
    safe_get_full_optimizer_state,
    safe_set_full_fp32_param,
    safe_set_full_optimizer_state,
    safe_set_local_fp32_param,
    safe_set_local_optimizer_state,
)
from mmengine._strategy.base import BaseStrategy
from mmengine._strategy.deepspeed import MMDeepSpeedEngineWrapper
from mmengine.dist import get_rank, get_world_size, init_dist, is_main_process
from mmengine.fileio import load
from mmengine.runner import CheckpointLoader, save_checkpoint
from torch import Tensor, nn
from torch.nn import functional as F

from glus_mm.engine.zero_optim_wrapper import ZeroOptimWrapper
from glus_mm.registry import STRATEGIES
from glus_mm.utils.checkpoint import list_keys
from glus_mm.utils.checkpoint_files import atomic_file
from glus_mm.utils.config_keys import check_custom_keys

# What follows is collective: every process has to call it. Gathered weights and states have the
# names, shapes and order of a run without DeepSpeed, so that checkpoints are the same.
Groups = Sequence[Sequence[nn.Parameter]]


def is_spread(parameter: Tensor) -> bool:
    """Whether ZeRO-3 keeps only a part of a parameter in this process.

    Args:
        parameter: any shape.
    """
    return hasattr(parameter, 'ds_id')


@contextmanager
def whole_shapes(model: nn.Module, zero: object, groups: Groups) -> Iterator[None]:
    """Let a model and its optimizer look as without ZeRO, to compare a checkpoint with them.

    Args:
        model: its ``state_dict()`` has tensors without data where a parameter is spread.
        zero: ZeRO's optimizer (``engine.optimizer``); its groups have the model's parameters.
        groups: those parameters, of each group, from before ZeRO took over.
    """
    spread = {name: parameter for name, parameter in model.named_parameters(remove_duplicate=False)
              if is_spread(parameter)}

    def show(_module: nn.Module, state: dict, *_: object) -> None:
        for name, parameter in spread.items():
            state[name] = _without_data(parameter)

    handle = model.register_state_dict_post_hook(show)
    taken = [group['params'] for group in zero.param_groups]
    try:
        for group, parameters in zip(zero.param_groups, groups):
            group['params'] = [_without_data(p) if is_spread(p) else p for p in parameters]
        yield
    finally:
        handle.remove()
        for group, parameters in zip(zero.param_groups, taken):
            group['params'] = parameters


def gather_weights(model: nn.Module) -> dict[str, Tensor]:
    """The state dict of a model; what is trained in float32.

    Returns:
        Tensors on the CPU in the main process, nothing in the others.
    """
    own = dict(model.named_parameters(remove_duplicate=False))
    state = {}
    for name, value in model.state_dict().items():
        parameter = own.get(name)
        if parameter is not None and parameter.requires_grad:
            value = safe_get_full_fp32_param(parameter)
            value = parameter.detach() if value is None else value
            _keep(state, name, value)
        elif parameter is not None and is_spread(parameter):
            with deepspeed.zero.GatheredParameters([parameter]):
                _keep(state, name, parameter.detach())
        else:
            _keep(state, name, value)
    return state


@torch.no_grad()
def spread_weights(model: nn.Module, state: dict[str, Tensor]) -> list[str]:
    """Make a state dict the weights of a model, also those that the optimizer has in float32.

    Args:
        model: the model that the engine has taken over.
        state: the same in every process; tensors without data leave a weight as it is.

    Returns:
        Names of the model that ``state`` does not have.
    """
    own = dict(model.named_parameters(remove_duplicate=False))
    missing = []
    for name, value in model.state_dict().items():
        new = state.get(name)
        if new is None:
            missing.append(name)
        if new is None or new.is_meta:
            continue
        parameter = own.get(name)
        if parameter is None:
            value.copy_(new)
            continue
        if is_spread(parameter):
            with deepspeed.zero.GatheredParameters([parameter], modifier_rank=0):
                if is_main_process():
                    parameter.copy_(new)
        else:
            parameter.copy_(new)
        if parameter.requires_grad:
            new = new.to(value.device, torch.float32)
            if is_spread(parameter):
                safe_set_local_fp32_param(parameter, _own_part(parameter, new))
            else:
                safe_set_full_fp32_param(parameter, new)
    return missing


def gather_optimizer(zero: object, groups: Groups) -> dict:
    """The state of an optimizer in the form of torch's ``state_dict()``.

    Args:
        zero: ZeRO's optimizer, which holds torch's.
        groups: parameters of each group from before ZeRO took over.

    Returns:
        ``state`` and ``param_groups``; in the main process with tensors on the CPU, in the others
        without ``state``. Parameters that are frozen have no entry.
    """
    optimizer = zero.optimizer
    first = next(iter(optimizer.state.values()), {})
    if first:
        _link_states(zero)
    keys = [key for key, value in first.items() if isinstance(value, Tensor) and value.ndim]
    numbers = {key: value for key, value in first.items() if key not in keys}
    states, index, saved_groups = {}, 0, []
    for group, parameters in zip(optimizer.param_groups, groups):
        options = {key: value for key, value in group.items() if key != 'params'}
        saved_groups.append(dict(
            options, params=list(range(index, index + len(parameters)))))
        for parameter in parameters:
            if parameter.requires_grad and first:
                entry: dict = {}
                for key in keys:
                    _keep(entry, key, safe_get_full_optimizer_state(parameter, key))
                if is_main_process():
                    states[index] = dict(entry, **{
                        key: value.detach().cpu().clone() if isinstance(value, Tensor) else value
                        for key, value in numbers.items()})
            index += 1
    return dict(state=states, param_groups=saved_groups)


def spread_optimizer(zero: object, groups: Groups, saved: dict) -> None:
    """Let an optimizer go on from a state that any engine, with any number of processes, saved.

    Args:
        zero: ZeRO's optimizer.
        groups: parameters of each group from before ZeRO took over.
        saved: as torch's ``state_dict()``, the same in every process, with fitting groups and
            shapes.
    """
    optimizer = zero.optimizer
    for group, options in zip(optimizer.param_groups, saved['param_groups']):
        group.update({key: value for key, value in options.items() if key != 'params'})
    order = [index for group in saved['param_groups'] for index in group['params']]
    parameters = [parameter for group in groups for parameter in group]
    first = next(iter(saved['state'].values()), None)
    if first is None:
        return
    keys = [key for key, value in first.items() if isinstance(value, Tensor) and value.ndim]
    # The states that torch's optimizer would make in its first step.
    for part in _flat(zero):
        optimizer.state[part] = {
            key: torch.zeros_like(part) if key in keys
            else value.clone() if isinstance(value, Tensor) else value
            for key, value in first.items()}
    _link_states(zero)
    for index, parameter in zip(order, parameters):
        entry = saved['state'].get(index)
        if entry is None or not parameter.requires_grad:
            continue
        for key in keys:
            value = entry[key].to(_flat(zero)[0].device, torch.float32)
            if is_spread(parameter):
                safe_set_local_optimizer_state(parameter, _own_part(parameter, value), key)
            else:
                safe_set_full_optimizer_state(parameter, value, key)


def _flat(zero: object) -> list[Tensor]:
    """This process's parts of the float32 parameters, one for each group or part of a group."""
    # The first is ZeRO-3's name for them, the other that of ZeRO-1 and 2.
    if hasattr(zero, 'fp32_partitioned_groups_flat'):
        return list(zero.fp32_partitioned_groups_flat)
    return list(zero.single_partition_of_fp32_groups)


def _link_states(zero: object) -> None:
    """Let ZeRO-1 and 2 find the optimizer's states by parameter; ZeRO-3 does not need it.

    DeepSpeed 0.19 does this once, as soon as the first group has made its step: the other groups
    have no states by then, and it would not find theirs.
    """
    link = getattr(zero, '_lazy_init_hp_params_optimizer_state', None)
    if link is not None:
        zero._hp_optimizer_states_linked = False
        link()


def keep_small_whole(zero: object) -> None:
    """Let ZeRO-3 hold small parameters whole again, as it does after each step.

    Parts of SAM-2 read such parameters outside of the module that owns them, where DeepSpeed does
    not gather them.
    """
    small = getattr(zero, 'persistent_parameters', [])
    if small:
        small[0].all_gather(small)


def _own_part(parameter: Tensor, value: Tensor) -> Tensor:
    """What of a whole value belongs to this process in ZeRO-3.

    DeepSpeed 0.19's functions for whole values fail where the processes' parts are not equally
    large, without padding.
    """
    size = parameter.ds_tensor.numel()
    padding = size * get_world_size() - value.numel()
    return F.pad(value.flatten(), (0, padding)).narrow(0, size * get_rank(), size)


def _keep(state: dict, name: str, value: Tensor) -> None:
    """Put a copy on the CPU into a dict of the main process."""
    if is_main_process():
        state[name] = value.detach().to('cpu', copy=True)


def _without_data(parameter: Tensor) -> Tensor:
    """Of the shape and type of a spread parameter."""
    return torch.empty(tuple(parameter.ds_shape), dtype=parameter.dtype, device='meta')


@STRATEGIES.register_module(name=['SafeDeepSpeedStrategy', 'PlainDeepSpeedStrategy'])  # old name
class SafeDeepSpeedStrategy(BaseStrategy):
    """DeepSpeed's ZeRO in MMEngine's ``FlexibleRunner``, with the checkpoints of all other runs.

    MMEngine 0.10's own ``DeepSpeedStrategy`` cannot be made with today's DeepSpeed (its constructor
    imports ``deepspeed.runtime.fp16.onebit``, which is gone). It also reads and writes DeepSpeed's
    folders only: no other checkpoint can start a training, reading runs code from the files,
    hooks neither see nor change them, and a run goes on only with the same number of processes.

    Here weights and the optimizer's state are gathered, parameter by parameter, in the main
    process, which writes one file as a run under DDP does. It holds the trained weights in
    float32, and a run goes on from it with any engine and any number of processes.
    ``exclude_frozen_parameters`` has its counterpart in
    ``SafeCheckpointHook(leave_out_frozen=True)``, which under ZeRO-3 finds small parameters only.

    Needs ``runner_type='FlexibleRunner'``, a launcher, and an ``optim_wrapper`` of the type
    :class:`ZeroOptimWrapper`, whose accumulation and clipping it hands to DeepSpeed.

    Args:
        zero_optimization: DeepSpeed's section of that name, such as ``dict(stage=2)``.
        bf16: DeepSpeed's section of that name. It turns all parameters to bfloat16, trained ones
            too, and is not needed with ``model.dtype='bfloat16'``, which leaves those in float32.
        config: further keys of DeepSpeed's config, or the path of a JSON file.
        work_dir, experiment_name, env_kwargs, log_kwargs: as in MMEngine.
        auto_scale_lr: not supported.

    Raises:
        ValueError: no launcher, no stage of ZeRO, or ``auto_scale_lr``.
    """

    def __init__(self, *,
                 zero_optimization: dict | None = None,
                 bf16: dict | None = None,
                 config: str | dict | None = None,
                 work_dir: str = 'work_dirs',
                 experiment_name: str | None = None,
                 env_kwargs: dict | None = None,
                 log_kwargs: dict | None = None,
                 auto_scale_lr: dict | None = None) -> None:
        self.config = dict(load(config) if isinstance(config, str) else config or {})
        for key, section in (('zero_optimization', zero_optimization), ('bf16', bf16)):
            if section is not None:
                self.config[key] = dict(section)
        stage = self.config.get('zero_optimization', {}).get('stage')
        if stage not in (1, 2, 3):
            raise ValueError(f'strategy.zero_optimization.stage must be 1, 2 or 3, got {stage!r}')
        if (env_kwargs or {}).get('launcher', 'none') == 'none':
            raise ValueError('DeepSpeed needs processes that a launcher started, even a single '
                             'one: bash tools/dist_train.sh CONFIG NUM_PROCESSES')
        if (auto_scale_lr or {}).get('enable'):
            raise ValueError('auto_scale_lr is not supported with DeepSpeed: set the learning rate')
        super().__init__(work_dir=work_dir, experiment_name=experiment_name,
                         env_kwargs=env_kwargs, log_kwargs=log_kwargs)
        self._groups: list[list[nn.Parameter]] = []

    def _setup_distributed(self, launcher: str, backend: str = 'nccl', **kwargs: object) -> None:
        init_dist(launcher, backend, init_backend='deepspeed', **kwargs)

    def prepare(self, model: nn.Module | dict, *,
                optim_wrapper: ZeroOptimWrapper | dict | None = None,
                param_scheduler: dict | list | None = None, compile: dict | bool = False,
                dispatch_kwargs: dict | None = None):
        """Build what a training needs and hand it over to DeepSpeed.

        Args:
            model: the model or its config.
            optim_wrapper: of the type ``ZeroOptimWrapper``, or its config.
            param_scheduler: schedulers or their configs.
            compile: not supported.
            dispatch_kwargs: what the runner says about the training.

        Raises:
            ValueError: another ``optim_wrapper``, ``compile``, or settings of the model that make
                the processes of ZeRO-3 wait for one another.
        """
        if self._prepared:
            return self._prepared_components()
        if compile:
            raise ValueError('compile is not supported with DeepSpeed')
        self.dispatch_kwargs.update(dispatch_kwargs or {})
        if optim_wrapper is None:
            raise ValueError('DeepSpeed is for training; tools/test.py tests without it')
        # A run without DeepSpeed builds its model first of all; here data loaders were, which draw.
        self._set_randomness(**dict(self._randomness, seed=self.seed))
        model = self.build_model(model)
        uneven = getattr(model, 'uneven_settings', ())
        if uneven and get_world_size() > 1 and self.config['zero_optimization']['stage'] == 3:
            raise ValueError(
                f'ZeRO-3 on several processes does not train with {" and ".join(uneven)}: how '
                'often parts of the model run depends on the batch then, and processes would wait '
                'for one another; use ZeRO-2, strategy.zero_optimization.stage=2')
        check_custom_keys(optim_wrapper, model)
        model = self._init_model_weights(model)
        self.optim_wrapper = self.build_optim_wrapper(optim_wrapper, model)
        if not isinstance(self.optim_wrapper, ZeroOptimWrapper):
            raise ValueError("expected optim_wrapper.type='ZeroOptimWrapper' with DeepSpeed, got "
                             f'{type(self.optim_wrapper).__name__}')
        self.model = self._wrap_model(model)
        self.optim_wrapper.model = self.model
        if param_scheduler is not None:
            self.param_schedulers = self.build_param_scheduler(
                param_scheduler, self.optim_wrapper)
        self._prepared = True
        return self._prepared_components()

    def _wrap_model(self, model: nn.Module) -> MMDeepSpeedEngineWrapper:
        wrapper = self.optim_wrapper
        self._groups = [list(group['params']) for group in wrapper.optimizer.param_groups]
        engine, *_ = deepspeed.initialize(model=model, optimizer=wrapper.optimizer, config=dict(
            # MMEngine logs.
            steps_per_print=10**12, **self.config, gradient_clipping=wrapper.max_norm,
            gradient_accumulation_steps=wrapper.accumulative_counts,
            train_micro_batch_size_per_gpu=self.dispatch_kwargs['train_micro_batch_size_per_gpu']))
        wrapper.optimizer = engine.optimizer
        wrapper.initialize_count_status(model, 0, self.dispatch_kwargs['max_iters'])
        keep_small_whole(engine.optimizer)
        wrapped = MMDeepSpeedEngineWrapper(model=engine)
        if engine.zero_optimization_stage() < 3:
            model.register_forward_pre_hook(wrapper.order_gradients)
        elif get_world_size() > 1:
            wrapped.val_step = _refuse_validation
        return wrapped

    def load_checkpoint(self, filename: str, *, map_location: str | Callable = 'cpu',
                        strict: bool = False, revise_keys: list | None = None,
                        callback: Callable | None = None) -> dict:
        """Load a checkpoint of any run.

        Args:
            filename: a file or URL.
            map_location: not used: files are read on the CPU.
            strict: raise if weights of the model are missing, instead of warning.
            revise_keys: not used: ``SafeCheckpointHook`` brings names to those of the model.
            callback: called with the checkpoint before the weights are taken.

        Raises:
            ValueError: with ``strict``, something is missing.
        """
        self.logger.info(f'Load checkpoint from {filename}')
        checkpoint = CheckpointLoader.load_checkpoint(filename, map_location='cpu')
        model = self.model.module
        if callback is not None:
            with whole_shapes(model, self.model.optimizer, self._groups):
                callback(checkpoint)
        state = checkpoint.pop('state_dict', checkpoint)
        missing = spread_weights(model, state)
        keep_small_whole(self.model.optimizer)
        if missing:
            text = list_keys(f'missing in {filename}', missing)
            if strict:
                raise ValueError(text)
            self.logger.warning(text)
        return checkpoint

    def resume(self, filename: str, *, resume_optimizer: bool = True,
               resume_param_scheduler: bool = True, map_location: str | Callable = 'default',
               callback: Callable | None = None) -> dict:
        """Go on from a checkpoint of any engine.

        Args:
            filename: a file.
            resume_optimizer: take the optimizer's state too.
            resume_param_scheduler: take the schedulers' state too.
            callback: called with the checkpoint before it is used.
        """
        checkpoint = self.load_checkpoint(filename, callback=callback)
        saved = checkpoint.pop('optimizer', None)
        if resume_optimizer and saved is not None:
            base = saved.pop('base_param_settings', None)
            if base is not None:
                self.optim_wrapper.base_param_settings = base
            spread_optimizer(self.model.optimizer, self._groups, saved)
        if resume_param_scheduler and hasattr(self, 'param_schedulers'):
            self.load_scheduler_state_dict(checkpoint.pop('param_schedulers'))
        meta = checkpoint['meta']
        if meta.get('seed') not in (None, self._randomness.get('seed')):
            self.logger.warning(f'the seed of the checkpoint, {meta["seed"]}, takes the place of '
                                f'{self._randomness.get("seed")}')
            self._randomness.update(seed=meta['seed'])
            self._set_randomness(**self._randomness)
        self.optim_wrapper.initialize_count_status(
            self.model.module, meta['iter'], self.dispatch_kwargs['max_iters'])
        return checkpoint

    def save_checkpoint(self, filename: str, *, save_optimizer: bool = True,
                        save_param_scheduler: bool = True, extra_ckpt: dict | None = None,
                        callback: Callable | None = None) -> None:
        """Write one file, as a run without DeepSpeed does. All processes have to call it.

        Args:
            filename: the file.
            save_optimizer: save the optimizer's state too.
            save_param_scheduler: save the schedulers' state too.
            extra_ckpt: what else goes in.
            callback: called with the checkpoint, in the main process, before it is written.
        """
        checkpoint = dict(state_dict=gather_weights(self.model.module))
        keep_small_whole(self.model.optimizer)
        if save_optimizer:
            checkpoint['optimizer'] = gather_optimizer(self.model.optimizer, self._groups)
            base = self.optim_wrapper.base_param_settings
            if base is not None:
                checkpoint['optimizer']['base_param_settings'] = base
        if not is_main_process():
            return
        if save_param_scheduler and hasattr(self, 'param_schedulers'):
            checkpoint['param_schedulers'] = self.scheduler_state_dict()
        checkpoint.update(extra_ckpt or {})
        checkpoint.setdefault('meta', {}).update(
            seed=self.seed, time=time.strftime('%Y%m%d_%H%M%S', time.localtime()),
            mmengine_version=mmengine.__version__)
        if callback is not None:
            callback(checkpoint)
        if '://' in filename:
            save_checkpoint(checkpoint, filename)
            return
        with atomic_file(filename) as part:
            torch.save(checkpoint, part)


def _refuse_validation(_data: object) -> list:
    raise ValueError('validation while training does not work with ZeRO-3 on several processes: '
                     'they would wait for one another where one has a longer video. Test the '
                     'checkpoints with tools/test.py, or use ZeRO-2')
