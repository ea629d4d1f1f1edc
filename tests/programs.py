"""Programs under test, forked from a process that has imported what all of them import.

:func:`start` and :func:`run` take the place of ``subprocess.Popen`` and ``subprocess.run``: the
program is a real process with its own arguments, environment, directory and streams, it can be
killed, and its status is the one it ends with. Python programs that it starts are forked from it in
turn, as torchrun's processes are. Only the imports are those of the server, so that what reads the
environment while it is imported has to be started by ``subprocess``.
"""

import atexit
import gc
import importlib.util
import inspect
import os
import pickle
import random
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import types
import weakref
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_WORDS = inspect.signature(subprocess.Popen._execute_child)
_REQUEST = 1 << 20  # bytes
_server = None


def start(*command, cwd=None, env=None, processes=1, restarts=0, **options):
    """Start a program; its output is piped as text unless ``options`` say otherwise.

    Args:
        command: path of a script, or ``-c`` and code, or ``-m`` and a module, and the arguments.
        cwd: its directory, from which it may import.
        env: variables on top of those of this process.
        processes: with more than one, what ``tools/dist_train.sh`` does with a script.
        restarts: of all processes when one has died.
        options: of ``subprocess.Popen``.
    """
    command = [str(word) for word in command]
    if processes > 1:
        command = [str(ROOT / 'tools' / 'launch.py'), f'--nproc_per_node={processes}',
                   f'--master_port={free_port()}', f'--max_restarts={restarts}', *command,
                   '--launcher', 'pytorch']
    return _Program([sys.executable, *command], cwd=cwd, env=environment(cwd, **(env or {})),
                    **dict(dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True),
                           **options))


def run(*command, timeout=600, **options):
    """As :func:`start`, until the program has ended; a ``subprocess.CompletedProcess``."""
    with start(*command, **options) as program:
        try:
            out, error = program.communicate(timeout=timeout)
        except BaseException:
            program.kill()
            raise
    return subprocess.CompletedProcess(program.args, program.returncode, out, error)


def spawn(function, *args, processes=2, timeout=300):
    """Call a function of a test with each rank, as ``torch.multiprocessing.spawn`` does."""
    home = Path(inspect.getfile(function))
    code = ('import pickle, sys; module, name, args = pickle.loads(bytes.fromhex(sys.argv[1])); '
            'getattr(__import__(module), name)(*args)')
    paths = os.pathsep.join(map(str, (home.parent, ROOT / 'tests', ROOT)))
    started = [start('-c', code, pickle.dumps((home.stem, function.__name__, (rank, *args))).hex(),
                     env=dict(PYTHONPATH=paths), stderr=subprocess.STDOUT)
               for rank in range(processes)]
    try:
        for program in started:
            out, _ = program.communicate(timeout=timeout)
            assert program.returncode == 0, out[-4000:]
    finally:
        for program in started:
            program.kill()


def forget_runs():
    """Forget scope, logs, hub and visualizers, which MMEngine keeps from one run to the next."""
    from mmengine.logging import MessageHub, MMLogger
    from mmengine.registry import DefaultScope
    from mmengine.visualization import Visualizer

    from glus_mm.visualization import RefVOSLocalVisualizer

    for kind in (DefaultScope, MessageHub, MMLogger, Visualizer, RefVOSLocalVisualizer):
        kind._instance_dict.clear()


def load(path):
    """A script as a module, run anew; its dataclasses find it by its name."""
    spec = importlib.util.spec_from_file_location(f'script_{Path(path).stem}', path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def environment(folder=None, **variables):
    """Variables of a program that imports from a folder and finds ``python`` and ``glus-mm``."""
    paths = [str(folder), str(ROOT)] if folder else [str(ROOT)]
    return dict(os.environ, **dict(dict(
        OMP_NUM_THREADS='1', PYTHONPATH=os.pathsep.join(paths),
        PATH=os.pathsep.join([str(Path(sys.executable).parent), os.environ['PATH']])), **variables))


def free_port():
    """A port that nobody listens on, and that no connection gets meanwhile: theirs are higher."""
    while True:
        port = random.SystemRandom().randrange(20000, 32000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(('127.0.0.1', port))
            return port


class _Program(subprocess.Popen):
    """A program that the server forks; it is no child here, so that its status is asked for."""

    def _execute_child(self, *args):
        words = _WORDS.bind(self, *args).arguments
        streams = [words['p2cread'], words['c2pwrite'], words['errwrite']]
        streams = [own if given == -1 else given for own, given in enumerate(streams)]
        ours, its = socket.socketpair()
        request = pickle.dumps((
            words['args'], os.fspath(words['cwd'] or os.getcwd()), words['env'],
            words['start_new_session']))
        with its:
            socket.send_fds(_serve(), [request], [*streams, its.fileno()])
        self._answers = ours
        self.pid = self._answer()
        self._child_created = True
        self._close_pipe_fds(words['p2cread'], words['p2cwrite'], words['c2pread'],
                             words['c2pwrite'], words['errread'], words['errwrite'])

    def _answer(self):
        answer = self._answers.recv(8, socket.MSG_WAITALL)
        assert answer, 'the server of tests/programs.py is gone'
        return int.from_bytes(answer, 'little')

    def _try_wait(self, wait_flags):
        if wait_flags and not select.select([self._answers], [], [], 0)[0]:
            return 0, 0
        return self.pid, self._answer()

    def _internal_poll(self, _deadstate=None, **_):
        if self.returncode is None:
            pid, status = self._try_wait(os.WNOHANG)
            if pid:
                self._handle_exitstatus(status)
        return self.returncode


def _serve():
    """The connection to the server, which starts on the first call and ends with this process."""
    global _server
    if _server is None:
        connection, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with its:
            _server = connection, subprocess.Popen(
                [sys.executable, __file__, str(its.fileno())], pass_fds=[its.fileno()],
                env=environment(), start_new_session=True, stdin=subprocess.DEVNULL)
    return _server[0]


# What the server does


class _Forked(subprocess.Popen):
    """Forks where a Python program is asked for; everything else is started as always."""

    def _execute_child(self, *args):
        words = _WORDS.bind(self, *args).arguments
        command = words['args']
        if words['shell'] or not isinstance(command, (list, tuple)) \
                or command[0] != sys.executable or words['preexec_fn']:
            return super()._execute_child(*args)
        command = [os.fspath(word) for word in command]
        while command[1] in ('-u', '-I'):
            del command[1]
        streams = [words['p2cread'], words['c2pwrite'], words['errwrite']]
        self.pid = _fork(command, words['cwd'], words['env'], streams,
                         words['start_new_session'])
        self._child_created = True
        self._close_pipe_fds(words['p2cread'], words['p2cwrite'], words['c2pread'],
                             words['c2pwrite'], words['errread'], words['errwrite'])


def _serve_forever(channel):
    subprocess.Popen = _Forked
    _import_all()
    if threading.active_count() > 1 or len(os.listdir('/proc/self/task')) > 1:
        sys.stderr.write('tests/programs.py: an import started a thread\n')
    gc.collect()
    gc.freeze()
    running = {}
    while True:
        if select.select([channel], [], [], 0.02 if running else None)[0]:
            request, files, *_ = socket.recv_fds(channel, _REQUEST, 4)
            if not request:
                for pid in running:
                    os.kill(pid, signal.SIGKILL)
                return
            *streams, answer = files
            command, cwd, env, new_session = pickle.loads(request)
            pid = _fork(command, cwd, env, streams, new_session)
            for file in streams:
                os.close(file)
            running[pid] = socket.socket(fileno=answer)
            running[pid].send(pid.to_bytes(8, 'little'))
        while running:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                break
            # Maybe nobody waits for it.
            with running.pop(pid) as answer, suppress(BrokenPipeError):
                answer.send(status.to_bytes(8, 'little'))


def _import_all():
    """The modules of the package's programs, but for what they import only when it is used."""
    from mmengine.registry import Registry

    from glus_mm import registry
    from glus_mm.cli.main import COMMANDS

    for name in (*(f'glus_mm.cli.{name}' for name in COMMANDS), 'glus_mm.apis', 'mmengine.runner',
                 'matplotlib.pyplot', 'torch.distributed.run'):
        importlib.import_module(name)
    for child in vars(registry).values():
        if isinstance(child, Registry) and child is not registry.STRATEGIES:
            child.import_from_location()


def _fork(command, cwd, env, streams, new_session):
    """Fork a process that runs a command as Python does; returns its process id."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        _become(command, cwd, env, streams, new_session)
        status = _run(command[1:])
    finally:
        try:
            _leave()
        finally:
            os._exit(status)


def _become(command, cwd, env, streams, new_session):
    """Take on what a new process has, and nothing of what this one was."""
    if new_session:
        os.setsid()
    for place, file in enumerate(streams):
        if file not in (-1, place):
            os.dup2(file, place)
    os.closerange(3, 1024)
    atexit._clear()
    weakref.finalize._registry.clear()
    weakref.finalize._registered_with_atexit = False
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    if env is not None:
        os.environ.clear()
        os.environ.update(env)
    if cwd is not None:
        os.chdir(cwd)
    sys.stdout.reconfigure(line_buffering=True)
    random.seed()
    if 'numpy' in sys.modules:
        sys.modules['numpy'].random.seed()
    first = os.getcwd() if command[1] in ('-c', '-m') else str(Path(command[1]).resolve().parent)
    own = [path for path in os.environ.get('PYTHONPATH', '').split(os.pathsep) if path]
    sys.path[:] = [first, *own, *(path for path in sys.path[1:] if path not in own)]
    sys.path_importer_cache.clear()


def _run(command):
    """Run code, a module or a script; returns the exit status."""
    try:
        if command[0] == '-c':
            sys.argv = ['-c', *command[2:]]
            main = sys.modules['__main__'] = types.ModuleType('__main__')
            exec(compile(command[1], '<string>', 'exec'), vars(main))
        elif command[0] == '-m':
            sys.argv = command[1:]
            runpy.run_module(command[1], run_name='__main__', alter_sys=True)
        else:
            sys.argv = list(command)
            runpy.run_path(command[0], run_name='__main__')
    except SystemExit as stop:
        if stop.code is None or isinstance(stop.code, int):
            return (stop.code or 0) & 255
        sys.stderr.write(f'{stop.code}\n')
        return 1
    except BaseException:  # noqa: BLE001 - it ends the program
        sys.excepthook(*sys.exc_info())
        return 1
    return 0


def _leave():
    """What Python does at its end, without taking down all that was imported."""
    import logging
    from multiprocessing.util import _exit_function

    threading._shutdown()
    atexit._run_exitfuncs()
    _exit_function()
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()


if __name__ == '__main__':
    with socket.socket(fileno=int(sys.argv[1])) as connection:
        _serve_forever(connection)
