"""Check that a training that is killed again and again ends as one that is left alone.

A tiny model is trained straight, and again with ``kill -9`` at random moments: while it starts,
while it trains, and while it writes a checkpoint. After some kills the newest checkpoint is cut, as
a machine that goes down may leave it. Each time ``--resume auto`` goes on. At the end weights,
optimizer, schedulers, token bank, random states, the sampler's position and the logged losses of
both have to be equal, bit for bit. All on the CPU.

Example::

    python dev/check_resume.py --kills 20 --steps 60 --processes 2
"""

import argparse
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.distributed.elastic.utils.distributed import get_free_port
from torch.utils._pytree import keystr, tree_flatten_with_path, tree_leaves

from glus_mm.apis import init_model
from glus_mm.datasets.moving_shapes import write_split
from glus_mm.engine.plain_state import from_plain
from glus_mm.utils.base_weights import complete_state
from glus_mm.utils.checkpoint_files import newest_whole

ROOT = Path(__file__).resolve().parents[1]
CONFIG = Path(__file__).with_name('check_resume_config.py')
KINDS = dict(write=8, train=7, cut=2, start=3)
HELP = dict(write='while a checkpoint is written', train='while it trains',
            cut='while it trains, and the newest checkpoint is cut', start='while it starts')
# The longest that one start of a training may take, in seconds.
PATIENCE = 600


class Training:
    """One life of a training in a work folder: so many processes, the first one with a log."""

    def __init__(self, folder: Path, log: Path, processes: int, options: list[str]) -> None:
        self.folder, self.log = folder, log
        env = dict(os.environ, OMP_NUM_THREADS='1', CUDA_VISIBLE_DEVICES='',
                   PYTHONPATH=os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')]))
        command = [sys.executable, str(ROOT / 'tools' / 'train.py'), str(CONFIG), '--work-dir',
                   str(folder), '--resume', 'auto']
        if processes > 1:
            env |= dict(WORLD_SIZE=str(processes), MASTER_ADDR='127.0.0.1',
                        MASTER_PORT=str(get_free_port()))
            command += ['--launcher', 'pytorch']
        self.processes = []
        for rank in range(processes):
            with open(log if rank == 0 else f'{log}.{rank}', 'w') as file:
                # A session of its own has the data-loading workers in it too.
                self.processes.append(subprocess.Popen(
                    [*command, *options], stdout=file, stderr=subprocess.STDOUT,
                    start_new_session=True,
                    env=dict(env, RANK=str(rank), LOCAL_RANK=str(rank))))

    def ended(self) -> bool:
        """Whether any of its processes has ended; raises if not in good order."""
        codes = [process.poll() for process in self.processes]
        if any(codes):
            self.kill(random.Random(0))
            raise SystemExit(f'a training failed by itself: see {self.log}')
        return None not in codes

    def iteration(self) -> int:
        """The latest iteration that it logged; 0 before the first."""
        found = re.findall(r'Iter\(train\) \[ *(\d+)/', self.log.read_text(errors='replace'))
        return int(found[-1]) if found else 0

    def wait(self, condition: Callable[[], Any], pause: float = 0.005) -> bool:
        """Wait for a condition; False if the training ends first."""
        start = time.monotonic()
        while not condition():
            if self.ended():
                return False
            if time.monotonic() - start > PATIENCE:
                self.kill(random.Random(0))
                raise SystemExit(f'nothing happened for {PATIENCE} s: see {self.log}')
            time.sleep(pause)
        return True

    def kill(self, rng: random.Random) -> None:
        """``kill -9``, all processes within a moment, in any order."""
        for process in rng.sample(self.processes, len(self.processes)):
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue  # it ended by itself just now
            time.sleep(rng.uniform(0, 0.02))
        for process in self.processes:
            process.wait()


def half_written(folder: Path) -> list[Path]:
    """Checkpoints that are being written, or were when their writer was killed."""
    return [Path(entry.path) for entry in os.scandir(folder)
            if entry.name.startswith('.iter_')] if folder.is_dir() else []


def strike(training: Training, kind: str, target: int, rng: random.Random) -> bool:
    """Kill a training at a random moment of a kind, from an iteration on; False if it ended before.
    """
    if kind == 'start':
        time.sleep(rng.uniform(0, 10))
        alive = not training.ended()
    else:
        alive = training.wait(lambda: training.iteration() >= target)
        if alive and kind == 'write':
            alive = training.wait(lambda: half_written(training.folder), pause=0.0002)
            time.sleep(rng.uniform(0, 0.01))
        elif alive:
            time.sleep(rng.uniform(0, 0.4))
    training.kill(rng)
    return alive


def cut_newest(folder: Path, rng: random.Random) -> str | None:
    """Cut the newest checkpoint at a random place, as a machine that goes down may leave it."""
    newest, _ = newest_whole(folder)
    if newest is None:
        return None
    size = rng.randrange(newest.stat().st_size)
    os.truncate(newest, size)
    return f'{newest.name} cut to {size} bytes'


def run_killed(folder: Path, logs: Path, kills: int, steps: int, processes: int,
               options: list[str], rng: random.Random) -> dict[str, int]:
    """Train with kills; count the kills of each kind and those that left half a file."""
    plan = rng.choices(list(KINDS), list(KINDS.values()), k=kills)
    targets = sorted(rng.randrange(1, steps) for _ in plan)
    counts = dict.fromkeys([*KINDS, 'half written'], 0)
    for life, (kind, target) in enumerate(zip(plan, targets), 1):
        for part in half_written(folder):
            part.unlink()  # else the next life might seem to have left it
        training = Training(folder, logs / f'life_{life:02}.log', processes, options)
        alive = strike(training, kind, target, rng)
        counts[kind] += alive
        half = [part.name for part in half_written(folder)]
        counts['half written'] += bool(half)
        notes = [f'half written: {name}' for name in half]
        if not alive:
            notes.append('it had ended, and does not count')
        if kind == 'cut' or not alive:
            notes.append(cut_newest(folder, rng) or 'no checkpoint yet')
        print(f'  {life:2}: {HELP[kind]}, iteration {training.iteration() or "-"}'
              f'{"".join(f"; {note}" for note in notes)}', flush=True)
    run_to_end(folder, logs / 'last_life.log', processes, options)
    return counts


def run_to_end(folder: Path, log: Path, processes: int, options: list[str]) -> None:
    """Train until the end."""
    training = Training(folder, log, processes, options)
    training.wait(lambda: False, pause=0.1)


def state_of(file: Path) -> dict[str, Any]:
    """What has to be equal in a final checkpoint, by subject."""
    checkpoint = torch.load(file, weights_only=True)
    hub = checkpoint['message_hub']
    sampler = hub['runtime_info']['train_sampler']
    position = sampler['position'] + (checkpoint['meta']['iter'] - sampler['iter']) \
        * sampler['batch_size'] * sampler['processes']
    logs = {key: value for key, value in from_plain(hub['log_scalars']).items()
            if key.startswith('train/') and not key.endswith('time')}
    return {
        'weights and buffers': complete_state(checkpoint, file),
        'optimizer': checkpoint['optimizer'],
        'schedulers': checkpoint['param_schedulers'],
        'token bank': checkpoint['token_bank'],
        'random states': checkpoint['random_state'],
        "sampler's position": dict(sampler['sampler'], position=position),
        'losses and rates of all iterations': {
            key: torch.from_numpy(value.data[0]) for key, value in logs.items()}}


def differences(one: Any, two: Any) -> list[str]:
    """Places of the values that are not equal, bit for bit; 'all' where the containers differ."""
    (one, kind), (two, other) = map(tree_flatten_with_path, (one, two))

    def bits(value: Any) -> tuple:
        return (type(value), value) if not isinstance(value, torch.Tensor) else (
            value.dtype, value.shape, value.numpy().tobytes())

    return ['all'] if kind != other else [
        keystr(path) or 'all' for (path, a), (_, b) in zip(one, two) if bits(a) != bits(b)]


def compare(straight: Path, killed: Path) -> bool:
    """Print what is equal in two final checkpoints; whether all is."""
    one, two = state_of(straight), state_of(killed)
    equal = True
    for subject in one:
        wrong = differences(one[subject], two[subject])
        equal &= not wrong
        print(f'  {subject}: ' + (
            f'{len(wrong)} differ: {", ".join(wrong[:5])}' if wrong else
            f'{len(tree_leaves(one[subject]))} values, all equal'))
    return equal


def prepare(folder: Path, steps: int) -> list[str]:
    """Make the data and the weights to start from; return options that name them."""
    write_split(folder, 6, seed=5, split='train', mp4=False)
    torch.manual_seed(0)
    state = init_model(CONFIG, cfg_options=dict(load_from=None)).state_dict()
    torch.save(dict(state_dict=state), folder / 'base.pth')
    data = [f'train_dataloader.dataset.datasets.{i}.data_root={folder / "train"}' for i in (0, 1)]
    return ['--cfg-options', *data, f'load_from={folder / "base.pth"}',
            f'train_cfg.max_iters={steps}', f'param_scheduler.1.end={max(steps, 11)}']


def main() -> None:
    """Train twice and compare; exits with 1 if anything differs."""
    parser = argparse.ArgumentParser(description='Check that a killed training resumes exactly')
    parser.add_argument('--kills', type=int, default=20, help='default: %(default)s')
    parser.add_argument('--steps', type=int, default=60, help='iterations (default: %(default)s)')
    parser.add_argument('--processes', type=int, default=1, help='default: %(default)s')
    parser.add_argument('--seed', type=int, default=0, help='of the moments (default: %(default)s)')
    parser.add_argument('--work-dir', type=Path, metavar='D',
                        help='keep all files in this folder, which must be new')
    args = parser.parse_args()
    if min(args.kills, args.seed) < 0 or args.steps < 2 or args.processes < 1:
        parser.error('expected kills and seed of at least 0, at least 2 steps and 1 process')
    if args.work_dir is not None and args.work_dir.exists():
        parser.error(f'expected a new folder as --work-dir, got one that exists: {args.work_dir}')
    folder = Path(tempfile.mkdtemp(prefix='check_resume_')) if args.work_dir is None else \
        args.work_dir.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    options = prepare(folder, args.steps)
    start = time.monotonic()
    print(f'straight: {args.steps} iterations, {args.processes} process(es)', flush=True)
    run_to_end(folder / 'straight', folder / 'straight.log', args.processes, options)
    print(f'killed {args.kills} times:', flush=True)
    counts = run_killed(folder / 'killed', folder, args.kills, args.steps, args.processes, options,
                        random.Random(args.seed))
    print(f'kills: {", ".join(f"{number} {HELP.get(k, k)}" for k, number in counts.items())}; '
          f'{time.monotonic() - start:.0f} s')
    name = f'iter_{args.steps}.pth'
    equal = compare(folder / 'straight' / name, folder / 'killed' / name)
    print('verdict: ' + ('EQUAL, bit for bit' if equal else f'DIFFERENT; all files: {folder}'))
    if args.work_dir is None and equal:
        shutil.rmtree(folder)
    sys.exit(not equal)


if __name__ == '__main__':
    main()
