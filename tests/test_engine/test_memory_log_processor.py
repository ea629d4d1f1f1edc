"""Training logs state the memory in use."""

import json

import numpy as np
import torch

import toys
from glus_mm.engine.memory_log_processor import host_memory


def test_host_memory_is_a_peak_in_mib():
    before = host_memory()
    block = np.ones(300 << 20, np.uint8)
    during = host_memory()
    del block
    assert 30 < before < 1 << 20
    # The kernel keeps the number of pages per core and adds them up now and then.
    assert during - before <= 320 and host_memory() >= during - 8 >= 300


def test_memory_is_logged(tmp_path):
    toys.make_runner(
        tmp_path, train_cfg=dict(max_iters=4), log_level='INFO',
        default_hooks=dict(logger=dict(type='LoggerHook', interval=2)),
        log_processor=dict(type='glus_mm.MemoryLogProcessor')).train()
    log, = tmp_path.glob('*/vis_data/scalars.json')
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    assert [entry['iter'] for entry in entries] == [2, 4]
    limit = 1 if torch.cuda.is_available() else 0
    assert all(type(entry['memory']) is int and entry['memory'] >= limit for entry in entries)
    text, = tmp_path.glob('*/*.log')
    assert f'memory: {entries[0]["memory"]}' in text.read_text()
