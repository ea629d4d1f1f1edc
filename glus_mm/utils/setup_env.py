"""Processes that work together, with and without an accelerator."""

import logging
import os
import subprocess
from datetime import timedelta

import torch
from mmengine import Config
from mmengine.logging import print_log
from torch import distributed as torch_dist

# Where a launcher puts what torch.distributed reads from RANK, WORLD_SIZE and LOCAL_RANK.
_LAUNCHER_VARIABLES = {
    'pytorch': {},
    'slurm': dict(RANK='SLURM_PROCID', WORLD_SIZE='SLURM_NTASKS', LOCAL_RANK='SLURM_LOCALID'),
    'mpi': dict(RANK='OMPI_COMM_WORLD_RANK', WORLD_SIZE='OMPI_COMM_WORLD_SIZE',
                LOCAL_RANK='OMPI_COMM_WORLD_LOCAL_RANK'),
}
DEFAULT_PORT = '29500'


def launched_rank(launcher: str) -> int:
    """Number of this process as a launcher says, before processes have joined; 0 without one."""
    variable = _LAUNCHER_VARIABLES.get(launcher, {}).get('RANK', 'RANK')
    return 0 if launcher == 'none' else int(os.environ.get(variable, '0'))


def choose_dist_backend(cfg: Config) -> str:
    """Choose how processes talk: what the config says where it can work, gloo on a CPU.

    Args:
        cfg: a config; ``env_cfg.dist_cfg.backend`` is set in it. Without CUDA the wrapper of
            the model is set too, as MMEngine's default one names a CUDA device.
    """
    # Assigned as whole values: a Config hands out copies of the dicts that are put into it.
    env_cfg = cfg.get('env_cfg') or {}
    dist_cfg = dict(env_cfg.get('dist_cfg') or {})
    backend = dist_cfg.get('backend', 'nccl')
    if not torch.cuda.is_available():
        if backend == 'nccl':
            print_log('CUDA is not available: backend gloo instead of nccl', 'current',
                      logging.INFO)
            backend = 'gloo'
        wrapper = dict(cfg.get('model_wrapper_cfg') or dict(
            type='MMDistributedDataParallel', broadcast_buffers=False,
            find_unused_parameters=cfg.get('find_unused_parameters', False)))
        if wrapper.get('type', 'MMDistributedDataParallel') == 'MMDistributedDataParallel':
            wrapper.setdefault('device_ids', None)
        cfg.model_wrapper_cfg = wrapper
    cfg.env_cfg = dict(env_cfg, dist_cfg=dict(dist_cfg, backend=backend))
    return backend


def leave_dist() -> None:
    """Part from the other processes when all are done; does nothing in a single process.

    A program that ends with its group still open may abort on its way out, as threads of the
    group are running while the interpreter goes.
    """
    if torch_dist.is_available() and torch_dist.is_initialized():
        torch_dist.barrier()
        torch_dist.destroy_process_group()


def setup_dist(cfg: Config, launcher: str) -> None:
    """Prepare a config for a launcher, and on a CPU join the other processes.

    With CUDA the Runner joins them itself. Without, MMEngine 0.10 still selects a CUDA device,
    which raises; it leaves a group alone that exists already.

    Args:
        cfg: a config; changed in place.
        launcher: 'none', 'pytorch', 'slurm' or 'mpi'.

    Raises:
        ValueError: unknown launcher.
        KeyError: a variable that the launcher should have set is missing.
    """
    if launcher == 'none':
        return
    if launcher not in _LAUNCHER_VARIABLES:
        raise ValueError(f'expected a launcher of {sorted(_LAUNCHER_VARIABLES)} or none, '
                         f'got {launcher!r}')
    backend = choose_dist_backend(cfg)
    if torch.cuda.is_available() or torch_dist.is_initialized():
        return
    timeout = cfg.env_cfg.dist_cfg.get('timeout')  # seconds, as in MMEngine
    join_processes(launcher, backend, timeout)


def join_processes(launcher: str, backend: str = 'gloo', timeout: float | None = None) -> None:
    """Join the other processes that a launcher has started.

    Args:
        launcher: 'pytorch', 'slurm' or 'mpi'.
        backend: how they talk.
        timeout: seconds that they wait for one another; None for torch's default.

    Raises:
        KeyError: a variable that the launcher should have set is missing.
    """
    for name, source in _LAUNCHER_VARIABLES[launcher].items():
        if source not in os.environ:
            raise KeyError(f'launcher {launcher}: the environment variable {source} is not set')
        os.environ[name] = os.environ[source]
    if launcher == 'slurm':
        shown = subprocess.run(
            ['scontrol', 'show', 'hostnames', os.environ.get('SLURM_NODELIST', '')], check=True,
            capture_output=True, text=True)
        os.environ.setdefault('MASTER_ADDR', shown.stdout.split()[0])
    os.environ.setdefault('MASTER_ADDR', '127.0.0.1')
    os.environ.setdefault('MASTER_PORT', DEFAULT_PORT)
    place = {}
    attempt = os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')
    if attempt != '0' and os.environ.get('GROUP_WORLD_SIZE') == '1':
        # torchrun keeps its store: there are still the addresses of the processes that died.
        store, rank, world_size = next(torch_dist.rendezvous('env://'))
        place = dict(store=torch_dist.PrefixStore(f'attempt_{attempt}', store), rank=rank,
                     world_size=world_size)
    torch_dist.init_process_group(
        backend=backend, timeout=None if timeout is None else timedelta(seconds=timeout), **place)
