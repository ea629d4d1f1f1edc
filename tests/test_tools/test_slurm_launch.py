"""tools/slurm_train.sh: its options to srun, and two tasks that train together."""

import os
import subprocess
import time

import pytest
import torch

import programs
from programs import ROOT

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


def install(tmp_path, **commands):
    """Put commands of a cluster into a folder; gives ``PATH`` with it in front."""
    (tmp_path / 'bin').mkdir()
    for name, text in commands.items():
        (tmp_path / 'bin' / name).write_text(text)
        (tmp_path / 'bin' / name).chmod(0o755)
    return dict(PATH=os.pathsep.join([str(tmp_path / 'bin'), programs.environment()['PATH']]))


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason='two tasks would share one GPU')
def test_two_tasks(tmp_path, toy_config):
    toy_config(iters=2)
    env = programs.environment(tmp_path, GPUS='2', SRUN_ARGS='--mem=8G --time=1:00',
                               MASTER_PORT=str(programs.free_port()),
                               **install(tmp_path, srun=SRUN, scontrol=SCONTROL))
    done = subprocess.run(
        ['bash', str(ROOT / 'tools' / 'slurm_train.sh'), 'part', 'job', 'toy.py', '--work-dir',
         'run'], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    log, = (file.read_text() for file in (tmp_path / 'run').glob('*/*.log'))
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


# Stands in for a cluster that takes the first job off its machine.
PREEMPTED = '''#!/usr/bin/env bash
echo "$@" >> srun_calls
if (($(wc -l < srun_calls) == 1)); then
    trap 'touch "$GLUS_MM_PREEMPTED"; exit 143' USR1
    touch started
    for ((i = 0; i < 600; i++)); do sleep 0.1; done
fi
'''
REQUEUE = '''#!/usr/bin/env bash
echo "$@" >> scontrol_calls
'''


@pytest.mark.parametrize('batch_job', [False, True])
def test_a_preempted_training_is_queued_again(tmp_path, batch_job):
    env = dict(os.environ, **install(tmp_path, srun=PREEMPTED, scontrol=REQUEUE))
    env.update(SLURM_JOB_ID='7') if batch_job else env.pop('SLURM_JOB_ID', None)
    script = subprocess.Popen(
        ['bash', str(ROOT / 'tools' / 'slurm_train.sh'), 'part', 'job', 'c.py', '--amp'],
        cwd=tmp_path, env=env)
    end = time.monotonic() + 60
    while not (tmp_path / 'started').exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    script.terminate()
    assert script.wait(60) == (75 if batch_job else 0)
    calls = (tmp_path / 'srun_calls').read_text().splitlines()
    assert calls[0].endswith('c.py --launcher slurm --amp')
    if batch_job:
        assert (tmp_path / 'scontrol_calls').read_text() == 'requeue 7\n' and len(calls) == 1
    else:
        assert len(calls) == 2 and calls[1].endswith('--amp --resume')
    assert not list(tmp_path.glob('.preempted*'))


def test_a_job_that_slurm_has_started_again_goes_on(tmp_path):
    env = dict(os.environ, SLURM_RESTART_COUNT='1', **install(
        tmp_path, srun='#!/usr/bin/env bash\necho "$@" > srun_args\nexit 3\n'))
    done = subprocess.run(['bash', str(ROOT / 'tools' / 'slurm_train.sh'), 'p', 'j', 'c.py'],
                          cwd=tmp_path, env=env)
    assert done.returncode == 3, 'an error is no preemption'
    assert (tmp_path / 'srun_args').read_text().rstrip().endswith('--launcher slurm --resume')
