"""Fixtures for tests with the real programs.

HEARTH_BIN_DIR names the folder with hearthd, hearth and hearth-parse (default: build/release/bin). Each daemon has a
folder and a socket of its own, is ended by SIGTERM when its test is over, and must then exit with 0, leave no socket
file and no process behind, and have logged nothing from a sanitizer. Its log is shown with a test that fails.
"""

import os
import pathlib
import signal
import subprocess
import sys
import time

import fuse_storage
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

ROOT = pathlib.Path(__file__).resolve().parents[2]
SANITIZER_MARKS = ("ERROR: AddressSanitizer", "ERROR: LeakSanitizer", "WARNING: ThreadSanitizer", "runtime error:")
DEADLINE = 60  # seconds: how long anything may take before a test gives up on it


def wait_until(condition, what, seconds=DEADLINE):
    """Calls condition() until it is true, and returns what it gave."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {seconds} s")
        time.sleep(0.01)


def children_of(pid):
    found = []
    for task in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [int(child) for child in task.read_text().split()]
        except OSError:
            pass
    return found


class Daemon:
    """One hearthd. Its options are flags; the socket is set unless they name one."""

    def __init__(self, program, folder, *flags, env=None, preexec=None):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.socket = str(self.folder / "hearth.sock")
        self.log_path = self.folder / "log"
        self.checked = False
        command = [str(program), *flags]
        if "--socket" in flags:
            self.socket = flags[flags.index("--socket") + 1]
        else:
            command += ["--socket", self.socket]
        base = {k: v for k, v in os.environ.items() if not k.startswith(("HEARTH_", "XDG_", "STATE_DIRECTORY"))}
        # Its state directory is below HOME: no test meets another's, nor the user's.
        self.env = {**base, "HOME": str(self.folder), "HEARTH_SOCKET": self.socket, **(env or {})}
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.env, preexec_fn=preexec
            )
        self.pid = self.process.pid

    def log(self):
        return self.log_path.read_text(errors="replace")

    def wait_ready(self):
        wait_until(lambda: "listening on" in self.log() or self.process.poll() is not None, "hearthd is ready")
        assert self.process.poll() is None, f"hearthd ended with {self.process.returncode}:\n{self.log()}"
        return self

    def fds(self):
        """What it has open, but below its state directory: a thread opens and closes that in the background."""
        found = []
        for entry in pathlib.Path(f"/proc/{self.pid}/fd").iterdir():
            try:
                found.append(os.readlink(entry))
            except FileNotFoundError:  # closed meanwhile
                pass
        return sorted(name for name in found if "/.local/state/hearth" not in name)

    def stop(self, sig=signal.SIGTERM):
        """Ends it, and checks that it ended well. Returns its exit status."""
        self.checked = True
        children = children_of(self.pid) if self.process.poll() is None else []
        if self.process.poll() is None:
            self.process.send_signal(sig)
        try:
            status = self.process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"hearthd did not end:\n{self.log()}") from None
        for mark in SANITIZER_MARKS:
            assert mark not in self.log(), self.log()
        for child in children:
            wait_until(lambda c=child: not pathlib.Path(f"/proc/{c}").exists(), f"child {child} is gone")
        assert not os.path.lexists(self.socket), f"hearthd left its socket file:\n{self.log()}"
        return status


@pytest.fixture(scope="session")
def bin_dir():
    path = pathlib.Path(os.environ.get("HEARTH_BIN_DIR", ROOT / "build" / "release" / "bin"))
    assert (path / "hearthd").exists(), f"no hearthd in {path}: build first, or set HEARTH_BIN_DIR"
    return path


@pytest.fixture(scope="session")
def sanitizer(bin_dir):
    """Which sanitizer the programs are built with: asan, tsan, or an empty string."""
    program = (bin_dir / "hearthd").read_bytes()
    return "asan" if b"__asan_init" in program else "tsan" if b"__tsan_init" in program else ""


@pytest.fixture
def make_daemon(bin_dir, tmp_path, request):
    """A function that starts a daemon: make_daemon("--budget", "1GiB", name=...). Ended and checked at the end."""
    started = []

    def make(*flags, name=None, ready=True, program=bin_dir / "hearthd", **keywords):
        folder = tmp_path / (name or f"daemon{len(started)}")
        daemon = Daemon(program, folder, *flags, **keywords)
        started.append(daemon)
        return daemon.wait_ready() if ready else daemon

    yield make
    failures = []
    for daemon in started:
        request.node.add_report_section("teardown", f"hearthd {daemon.pid}", daemon.log())
        if daemon.checked:
            continue
        try:
            status = daemon.stop()
            if status != 0:
                failures.append(f"hearthd ended with {status}:\n{daemon.log()}")
        except AssertionError as error:
            failures.append(str(error))
    assert not failures, "\n".join(failures)


@pytest.fixture
def daemon(make_daemon):
    """A daemon with the defaults."""
    return make_daemon()


@pytest.fixture
def storage(tmp_path):
    why_not = fuse_storage.why_not()
    if why_not:
        pytest.skip(why_not)
    (tmp_path / "storage").mkdir()
    try:
        mounted = fuse_storage.Storage(tmp_path / "storage")
    except OSError as error:
        pytest.skip(f"no FUSE file system can be mounted here: {error}")
    yield mounted
    mounted.close()


@pytest.fixture
def served(storage, make_daemon):
    """A daemon that ends before its storage does."""
    daemon = make_daemon()
    yield daemon
    storage.rules()
    if not daemon.checked:
        assert daemon.stop() == 0
