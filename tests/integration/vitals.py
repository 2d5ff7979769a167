"""What a daemon holds (descriptors, threads, children, mappings of blobs, shared memory), and a guard for tests of bad
input: after each, nothing is published, all is as it was before, and the daemon serves a good artifact.
"""

import json
import os
import pathlib
import subprocess
import sys

import packets
import pytest
from conftest import children_of, wait_until
from packets import Client, Refused

WORKER = str(pathlib.Path(__file__).with_name("worker.py"))


def rss_shmem(pid):
    """Bytes of shared memory that it maps and has touched."""
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssShmem:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no RssShmem in /proc/PID/status")


def threads(pid):
    """The names of its threads, without the workers that the kernel keeps for io_uring as it sees fit."""
    names = [(task / "comm").read_text().strip() for task in pathlib.Path(f"/proc/{pid}/task").iterdir()]
    return sorted(name for name in names if not name.startswith("iou-"))


def holdings(daemon):
    """All that can leak and be counted; inode numbers differ from run to run. What is open below the state directory
    comes and goes with what its thread writes."""
    maps = pathlib.Path(f"/proc/{daemon.pid}/maps").read_text()
    return {
        "fds": sorted(name.split(":")[0] for name in daemon.fds() if "/.local/state/hearth" not in name),
        "threads": threads(daemon.pid),
        "children": len(children_of(daemon.pid)),
        "mapped blobs": maps.count("/memfd:"),
        "shmem": rss_shmem(daemon.pid) >> 20,
    }


def close_all(fds):
    for fd in fds:
        os.close(fd)


def refused(client, ref, **keywords):
    """The error with which a load is refused: it must be one clear error."""
    with pytest.raises(Refused) as caught:
        client.load(ref, **keywords)
    error = caught.value
    assert error.message and "\n" not in error.message and not error.message.endswith("."), error.message
    return error


def contents(client, id_):
    """The bytes of each file of a resident artifact, in the order of their paths."""
    index, *files = client.attach(id_)
    try:
        return [os.pread(fd, os.fstat(fd).st_size, 0) for fd in files]
    finally:
        close_all([index, *files])
        client.detach(id_)


class Guard:
    """A daemon with its baseline, taken when it has loaded once and holds nothing any more."""

    def __init__(self, daemon, good):
        self.daemon, self.good = daemon, good
        self.socket, self.pid, self.env = daemon.socket, daemon.pid, daemon.env
        self.serve()
        self.before = None
        self.settle()

    def serve(self):
        with Client(self.socket) as client:
            info = client.load(self.good)
            assert contents(client, info["id"]) == [self.good.read_bytes()]
            client.evict(info["id"])

    def settle(self):
        """Waits until everything is as before; the first time, until it is the same twice."""
        last = self.before

        def same():
            nonlocal last
            try:
                now = holdings(self.daemon)
            except FileNotFoundError:  # a thread that has ended meanwhile
                return False
            was, last = last, self.before or now
            return now == was

        try:
            wait_until(same, "what the daemon holds", 20)
        except AssertionError:
            raise AssertionError(f"before: {self.before}\nnow: {holdings(self.daemon)}") from None
        self.before = self.before or last

    def published(self):
        with Client(self.socket) as client:
            return [a for a in client.list() if a["state"] != packets.FAILED or a["resident_bytes"]]

    def refuses(self, ref, code, **keywords):
        with Client(self.socket) as client:
            error = refused(client, ref, **keywords)
        assert error.code == code, (error.code, vars(error))
        return error

    def check(self):
        assert self.published() == []
        with Client(self.socket) as client:
            for failed in client.list():
                client.evict(failed["id"])
        self.settle()
        self.serve()
        self.settle()


@pytest.fixture
def good(tmp_path):
    """An artifact that has nothing wrong."""
    folder = tmp_path / "good"
    folder.mkdir()
    return pathlib.Path(packets.make_safetensors(folder / "model.safetensors", 200_000, os.urandom(200_000)))


@pytest.fixture
def guarded(make_daemon, good):
    """guarded(...) is a Guard of a daemon started with these flags; checked when the test is over."""
    guards = []

    def make(*flags, **keywords):
        guards.append(Guard(make_daemon(*flags, **keywords), good))
        return guards[-1]

    yield make
    for guard in guards:
        guard.check()


@pytest.fixture
def guard(guarded):
    return guarded()


class Worker:
    """A process that runs worker.py; .tensors is what it sees."""

    script = WORKER

    def __init__(self, bin_dir, sanitizer, daemon, ref, stage=None):
        env = dict(daemon.env)
        if sanitizer:  # the library's runtime must be there before Python
            name = {"asan": "libasan.so", "tsan": "libtsan.so"}[sanitizer]
            path = subprocess.run(["cc", f"-print-file-name={name}"], check=True, capture_output=True, text=True).stdout
            env["LD_PRELOAD"] = path.strip()
            env["ASAN_OPTIONS"] = env.get("ASAN_OPTIONS", "") + ":detect_leaks=0"  # Python's own
        command = [sys.executable, self.script, str(bin_dir.parent / "lib/libhearth.so.0"), daemon.socket, str(ref)]
        self.process = subprocess.Popen(
            command + ([stage] if stage else []), env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.pid = self.process.pid

    def said(self):
        """What it says next."""
        line = self.process.stdout.readline()
        assert line, f"the worker ended with {self.process.wait()}"
        return json.loads(line)

    def again(self):
        """What it sees now."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.said()

    def end(self, kill=False):
        if kill:
            self.process.kill()
        self.process.stdin.close()
        status = self.process.wait(60)
        self.process.stdout.close()
        return status


@pytest.fixture
def worker(bin_dir, sanitizer):
    """worker(daemon, ref) is a serving process; ended with the test."""
    started = []

    def start(daemon, ref, stage=None):
        started.append(Worker(bin_dir, sanitizer, daemon, ref, stage))
        return started[-1]

    yield start
    for one in started:
        if one.process.returncode is None:
            one.end(kill=True)
