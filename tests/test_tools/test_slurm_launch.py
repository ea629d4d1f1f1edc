"""tools/slurm_train.sh: its options to srun, and two tasks that train together."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
# Stand in for a cluster of this machine: start the command once for each task, as Slurm does.
SRUN = '''#!/usr/bin/env bash
echo "$@" > srun_args
while [[ $1 == -* ]]; do
    if [[ $1 == --ntasks=* ]]; then tasks=${1#*=}; fi
    if [[ $1 == -p ]]; then shift; fi
    shift
done
pids=()
for ((i = 0; i < tasks; i++)); do
    SLURM_PROCID=$i SLURM_LOCALID=$i SLURM_NTASKS=$tasks SLURM_NODELIST='node[1-1]' "$@" &
    pids+=($!)
done
for pid in "${pids[@]}"; do wait "$pid" || exit 1; done
'''
SCONTROL = '''#!/usr/bin/env bash
[[ "$*" == 'show hostnames node[1-1]' ]] && echo localhost
'''

@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason='two tasks would share one GPU')
def test_two_tasks(tmp_path, toy_config):
    (tmp_path / 'bin').mkdir()
    for name, text in (('srun', SRUN), ('scontrol', SCONTROL)):
        (tmp_path / 'bin' / name).write_text(text)
        (tmp_path / 'bin' / name).chmod(0o755)
    toy_config(iters=2)
    env = dict(
        os.environ, OMP_NUM_THREADS='1', GPUS='2', SRUN_ARGS='--mem=8G --time=1:00',
        MASTER_PORT=str(20000 + os.getpid() % 20000),
        PYTHONPATH=os.pathsep.join([str(tmp_path), str(ROOT)]),
        PATH=os.pathsep.join([str(tmp_path / 'bin'), str(Path(sys.executable).parent),
                              os.environ['PATH']]))
    done = subprocess.run(
        ['bash', str(ROOT / 'tools' / 'slurm_train.sh'), 'part', 'job', 'toy.py', '--work-dir',
         'run'], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    log = done.stdout + done.stderr
    assert 'Distributed launcher: slurm' in log and 'GPU number: 2' in log
    assert (tmp_path / 'run' / 'iter_2.pth').is_file()
    options = (tmp_path / 'srun_args').read_text().split()
    assert options[:2] == ['-p', 'part']
    assert {'--job-name=job', '--gres=gpu:2', '--ntasks=2', '--ntasks-per-node=2', '--mem=8G',
            '--time=1:00'} <= set(options)
    assert options[options.index('--launcher') + 1] == 'slurm'


@pytest.mark.parametrize('script', ['slurm_train.sh', 'slurm_test.sh', 'dist_train.sh',
                                    'dist_test.sh'])
def test_scripts_parse_and_say_how_they_are_used(script):
    path = str(ROOT / 'tools' / script)
    assert subprocess.run(['bash', '-n', path], check=False).returncode == 0
    done = subprocess.run(['bash', path], capture_output=True, text=True)
    assert done.returncode == 2 and 'usage: bash' in done.stderr
