"""`hearth top`, on a terminal and without one."""

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time

import pytest
from conftest import DEADLINE
from test_cli import Cli, cli  # noqa: F401

ENTER, LEAVE = b"\x1b[?1049h", b"\x1b[?1049l"


class Terminal:
    """`hearth top` on a terminal of its own."""

    def __init__(self, cli, *arguments, rows=24, columns=80):
        self.master, self.slave = pty.openpty()
        self.resize(rows, columns)
        self.before = termios.tcgetattr(self.slave)
        self.shown = b""
        self.process = subprocess.Popen(
            [cli.program, "top", *arguments], env=cli.env, stdin=self.slave, stdout=self.slave,
            stderr=subprocess.PIPE, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )

    def resize(self, rows, columns):
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def wait_for(self, text, since=0):
        end = time.monotonic() + DEADLINE
        while text not in self.shown[since:]:
            assert time.monotonic() < end, (text, self.shown[since:])
            if select.select([self.master], [], [], 0.1)[0]:
                self.shown += os.read(self.master, 65536)

    def ended(self, status):
        assert self.process.wait(DEADLINE) == status
        while select.select([self.master], [], [], 0)[0]:
            self.shown += os.read(self.master, 65536)
        assert self.shown.count(ENTER) == self.shown.count(LEAVE) >= 1
        assert self.shown.endswith(LEAVE) or LEAVE in self.shown[self.shown.rindex(ENTER):]
        assert termios.tcgetattr(self.slave) == self.before
        return self.process.stderr.read()


@pytest.fixture
def terminal(cli):  # noqa: F811
    made = []

    def make(*arguments, **keywords):
        made.append(Terminal(cli, *arguments, **keywords))
        return made[-1]

    yield make
    for t in made:
        if t.process.poll() is None:
            t.process.kill()
            t.process.wait()
        t.process.stderr.close()
        os.close(t.master)
        os.close(t.slave)


def test_without_a_terminal_it_prints_one_frame(cli, daemon, tmp_path):  # noqa: F811
    (tmp_path / "weights.bin").write_bytes(b"x" * 5000)
    cli("load", "-q", tmp_path / "weights.bin")
    text = cli("top").stdout.decode()
    assert "\x1b" not in text
    assert f"pid {daemon.pid}" in text and str(tmp_path / "weights.bin") in text and "resident" in text


def test_q_ends_it_and_the_terminal_is_as_before(terminal):
    t = terminal("--interval", "50ms")
    t.wait_for(b"No artifacts.")
    t.wait_for(b"No artifacts.", since=len(t.shown))  # it is drawn again
    os.write(t.master, b"q")
    assert t.ended(0) == b""


@pytest.mark.parametrize("number, status", [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_and_the_terminal_is_as_before(terminal, number, status):
    t = terminal()
    t.wait_for(b"No artifacts.")
    t.process.send_signal(number)
    assert t.ended(status) == b""


def test_ctrl_c_ends_it(terminal):
    t = terminal()
    t.wait_for(b"No artifacts.")
    os.write(t.master, b"\x03")
    assert t.ended(0) == b""


def test_a_new_size_is_drawn_at_once(terminal):
    t = terminal("--interval", "1h", columns=40)
    t.wait_for(b"No artifacts.")
    seen = len(t.shown)
    t.resize(24, 200)
    os.kill(t.process.pid, signal.SIGWINCH)
    t.wait_for(b"hearth.sock", since=seen)  # cut off before
    assert b"hearth.sock" not in t.shown[:seen]
    os.write(t.master, b"q")
    t.ended(0)


def test_it_gives_the_terminal_back_while_it_is_stopped(terminal):
    t = terminal()
    t.wait_for(b"No artifacts.")
    os.write(t.master, b"\x1a")
    t.wait_for(LEAVE)
    os.waitpid(t.process.pid, os.WUNTRACED)
    assert termios.tcgetattr(t.slave) == t.before
    t.process.send_signal(signal.SIGCONT)
    t.wait_for(b"No artifacts.", since=t.shown.index(LEAVE))
    os.write(t.master, b"q")
    t.ended(0)


def test_a_daemon_that_ends_is_told_on_the_old_screen(terminal, daemon):
    t = terminal()
    t.wait_for(b"No artifacts.")
    assert daemon.stop() == 0
    assert b"hearth: " in t.ended(1)


def test_documents_and_bad_intervals_are_refused(cli):  # noqa: F811
    assert b"hearth status --json" in cli("top", "--json", status=1).stdout
    for value in ("0", "1ms", "soon", "9999h"):
        cli("top", "--interval", value, status=2)


def test_without_a_daemon_it_says_so(bin_dir, tmp_path):
    lonely = Cli(bin_dir, {**os.environ, "HEARTH_SOCKET": str(tmp_path / "none.sock")})
    lonely("top", status=3)
