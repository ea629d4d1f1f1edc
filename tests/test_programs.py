"""What tests/programs.py starts are programs: processes with streams, a status, and signals."""

import json
import os
import signal

import pytest

import programs

# The server of programs alone takes ten seconds to start.
pytestmark = pytest.mark.slow
SEEN = """
import json, os, random, sys
print(json.dumps([sys.argv, os.getcwd(), os.environ['ONE'], __name__, random.random(),
                  os.getpid() == os.getsid(0), 'torch' in sys.modules]))
print(sys.stdin.read(), file=sys.stderr)
sys.exit({status})
"""
PARENT = """
import subprocess, sys
child = subprocess.run([sys.executable, '-u', '-c', 'import os; print(os.getppid()); 1 / 0'],
                       capture_output=True, text=True)
import os
assert int(child.stdout) == os.getpid() and child.returncode == 1
assert child.stderr.splitlines()[-1].startswith('ZeroDivisionError')
"""


def test_arguments_streams_and_status(tmp_path):
    (tmp_path / 'tool.py').write_text(SEEN.format(status='"no"'))
    seen = []
    for command, status in (((tmp_path / 'tool.py', 'x'), 1), (('-m', 'tool'), 1),
                            (('-c', SEEN.format(status=7)), 7)):
        with programs.start(*command, cwd=tmp_path, env=dict(ONE='1'), stdin=-1,
                            start_new_session=True) as program:
            out, error = program.communicate('typed', timeout=300)
        assert program.returncode == status, error
        assert error == ('typed\n' if status == 7 else 'typed\nno\n')
        seen.append(json.loads(out))
    assert [entry[0][1:] for entry in seen] == [['x'], [], []]
    assert {entry[1] for entry in seen} == {str(tmp_path)}
    assert len({entry[4] for entry in seen}) == 3, 'random numbers of its own'
    assert all(entry[2:4] == ['1', '__main__'] and entry[5] and entry[6] for entry in seen)


def test_programs_that_are_started_by_a_program():
    done = programs.run('-c', PARENT)
    assert done.returncode == 0, done.stderr


def test_signals_and_several_at_a_time():
    code = 'import signal; print("READY"); signal.pause()'
    two = [programs.start('-c', code) for _ in range(2)]
    for program in two:
        assert program.stdout.readline() == 'READY\n' and program.poll() is None
    two[0].send_signal(signal.SIGTERM)
    os.kill(two[1].pid, signal.SIGKILL)
    assert [program.wait(60) for program in two] == [-signal.SIGTERM, -signal.SIGKILL]
    for program in two:
        program.communicate()
