"""Backends and launchers without starting processes (tools/dist_train.sh is tested for real)."""

import pytest
import torch
from mmengine import Config

from glus_mm.utils.setup_env import choose_dist_backend, setup_dist

on_cpu = pytest.mark.skipif(torch.cuda.is_available(), reason='about machines without CUDA')


@on_cpu
@pytest.mark.parametrize('cfg', [{}, {'env_cfg': {'cudnn_benchmark': False}},
                                 {'env_cfg': {'dist_cfg': {'backend': 'nccl', 'timeout': 9}}}])
def test_gloo_on_a_cpu(cfg):
    cfg = Config(cfg)
    before = cfg.get('env_cfg', {}).get('dist_cfg', {}).get('timeout')
    assert choose_dist_backend(cfg) == 'gloo'
    assert cfg.env_cfg.dist_cfg.backend == 'gloo'
    assert cfg.env_cfg.dist_cfg.get('timeout') == before
    assert cfg.model_wrapper_cfg.type == 'MMDistributedDataParallel'
    assert cfg.model_wrapper_cfg.device_ids is None


@on_cpu
def test_other_settings_are_kept():
    cfg = Config(dict(env_cfg=dict(dist_cfg=dict(backend='mpi')),
                      model_wrapper_cfg=dict(type='Other', find_unused_parameters=True)))
    assert choose_dist_backend(cfg) == 'mpi'
    assert dict(cfg.model_wrapper_cfg) == dict(type='Other', find_unused_parameters=True)


def test_launchers():
    cfg = Config({})
    setup_dist(cfg, 'none')
    assert 'env_cfg' not in cfg
    with pytest.raises(ValueError, match="got 'mpirun'"):
        setup_dist(Config({}), 'mpirun')


@on_cpu
@pytest.mark.parametrize(('launcher', 'variable'), [
    ('slurm', 'SLURM_PROCID'), ('mpi', 'OMPI_COMM_WORLD_RANK')])
def test_missing_variable_is_named(monkeypatch, launcher, variable):
    monkeypatch.delenv(variable, raising=False)
    with pytest.raises(KeyError, match=variable):
        setup_dist(Config({}), launcher)
