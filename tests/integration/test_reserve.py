"""Memory held in reserve: held in idle time, given up by a load and under pressure, within the budget, at rest."""

import json
import os
import pathlib
import subprocess
import sys
import time

import pytest
from conftest import wait_until
from test_cli import Cli, validate

MIB = 1 << 20
CHUNK = 8 * MIB


@pytest.fixture
def reserved(bin_dir, make_daemon):
    """A daemon with these flags, and what `hearth status` says of it."""

    def make(*flags, **keywords):
        daemon = make_daemon(*flags, **keywords)
        cli = Cli(bin_dir, {**daemon.env, "HEARTH_AUTOSTART": "0"})

        def status():
            document = json.loads(cli("status", "--json").stdout)
            validate(document, "status")
            return document

        return daemon, cli, status

    return make


def wait_held(status, size):
    wait_until(lambda: status()["reserve_held_bytes"] == size, f"{size} bytes are held", 30)


def anonymous(daemon):
    for line in pathlib.Path(f"/proc/{daemon.pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Anonymous:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no Anonymous: in smaps_rollup")


def make_artifact(folder, size):
    folder.mkdir()
    with open(folder / "weights.bin", "wb") as f:
        f.write(os.urandom(size))
    return folder


def test_it_is_off_by_default(daemon, bin_dir):
    cli = Cli(bin_dir, daemon.env)
    document = json.loads(cli("status", "--json").stdout)
    assert (document["reserve_bytes"], document["reserve_held_bytes"]) == (0, 0)
    assert not any(line.startswith(b"reserve") for line in cli("status").stdout.splitlines())
    assert "/proc/pressure" not in "".join(daemon.fds())


def test_it_is_held_given_up_by_a_load_and_filled_again(reserved, tmp_path):
    daemon, cli, status = reserved("--reserve", "64MiB")
    before = anonymous(daemon)
    wait_held(status, 64 * MIB)
    assert status()["reserve_bytes"] == 64 * MIB
    if before < 16 * MIB:  # else it was quicker than we
        assert anonymous(daemon) >= before + 32 * MIB
    assert b"64.0 MiB of 64.0 MiB held" in cli("status").stdout
    artifact = make_artifact(tmp_path / "artifact", 40 * MIB)
    cli("load", "-q", artifact)
    # It is filled again a second later, if this machine has let a second pass meanwhile.
    held = status()["reserve_held_bytes"]
    assert held == 24 * MIB or held % CHUNK == 0
    wait_held(status, 64 * MIB)
    assert cli("cat", artifact, "weights.bin").stdout == (artifact / "weights.bin").read_bytes()


def test_it_stays_within_the_budget(reserved, tmp_path):
    daemon, cli, status = reserved("--reserve", "1GiB", "--budget", "64MiB")
    wait_held(status, 64 * MIB)
    cli("load", "-q", make_artifact(tmp_path / "artifact", 30 * MIB))
    wait_held(status, 32 * MIB)  # what the budget has left, in whole chunks
    cli("evict", tmp_path / "artifact")
    wait_held(status, 64 * MIB)


def test_an_artifact_as_large_as_the_budget_loads_beside_it(reserved, tmp_path):
    daemon, cli, status = reserved("--reserve", "1GiB", "--budget", "64MiB")
    wait_held(status, 64 * MIB)
    cli("load", "-q", make_artifact(tmp_path / "artifact", 62 * MIB))
    wait_held(status, 0)


def activity(daemon):
    """How often its threads have let go of a CPU."""
    switches = 0
    for task in pathlib.Path(f"/proc/{daemon.pid}/task").iterdir():
        for line in (task / "status").read_text().splitlines():
            if "ctxt_switches" in line:
                switches += int(line.split()[1])
    return switches


def test_an_idle_daemon_whose_reserve_is_full_sleeps(reserved, sanitizer):
    if sanitizer == "tsan":
        pytest.skip("ThreadSanitizer has a thread of its own, which never rests")
    daemon, cli, status = reserved("--reserve", "32MiB")
    wait_held(status, 32 * MIB)
    if "/proc/pressure/memory" not in "".join(daemon.fds()):
        pytest.skip("the kernel tells nothing of memory pressure here")
    wait_until(lambda: settled(daemon), "it comes to rest")
    before = activity(daemon)
    time.sleep(2.5)
    assert activity(daemon) == before


def settled(daemon):
    before = activity(daemon)
    time.sleep(0.2)
    return activity(daemon) == before


PRESS = """
import mmap, os, sys, time
path, size, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
with open(path, "rb") as f:
    m = mmap.mmap(f.fileno(), size, prot=mmap.PROT_READ)
end = time.monotonic() + seconds
while time.monotonic() < end:  # more than the group may hold: each page is read again and again
    for at in range(0, size, 4096):
        m[at]
"""


@pytest.fixture
def make_group(request):
    """A function that makes a control group of memory with this limit."""

    def make(size):
        for base, limit in (("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")):
            group = pathlib.Path(base) / f"hearth-test-{os.getpid()}"
            try:
                group.mkdir()
            except OSError:
                continue
            request.addfinalizer(lambda: wait_until(lambda: removed(group), "the control group is empty"))
            try:
                (group / limit).write_text(str(size))
                return group
            except OSError:
                continue
        pytest.skip("no control group of memory can be made here")

    return make


def removed(group):
    try:
        group.rmdir()
        return True
    except OSError:
        return False


def entering(group):
    return lambda: (group / "cgroup.procs").write_text(str(os.getpid()))


def test_it_is_given_back_under_pressure_and_not_filled_at_once(make_group, reserved, tmp_path):
    small_group = make_group(16 * MIB)  # what it has no room for, its processes wait for
    daemon, cli, status = reserved("--reserve", "64MiB")
    wait_held(status, 64 * MIB)
    if "/proc/pressure/memory" not in "".join(daemon.fds()):
        pytest.skip("the kernel tells nothing of memory pressure here")
    path = tmp_path / "thrashed"
    path.write_bytes(os.urandom(64 * MIB))
    with open(path, "rb") as f:
        os.fsync(f.fileno())
        os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)  # whoever reads it first is charged for it
    press = subprocess.Popen(
        [sys.executable, "-c", PRESS, path, str(64 * MIB), "10"],
        preexec_fn=entering(small_group),
    )
    try:
        wait_until(lambda: status()["reserve_held_bytes"] == 0 or press.poll() is not None, "it is given back", 30)
    finally:
        press.kill()
        press.wait()
    if status()["reserve_held_bytes"]:
        pytest.skip("this machine's storage is too quick for anybody to wait")
    assert "memory is short" in daemon.log()
    time.sleep(0.5)
    assert status()["reserve_held_bytes"] == 0


FILL = """
import sys, time
usage, limit = sys.argv[1], int(sys.argv[2])
held = []
while True:
    if int(open(usage).read()) < limit:
        held.append(b"x" * (2 << 20))
    else:
        time.sleep(0.01)
"""


def test_it_is_given_back_before_its_group_is_full(make_group, reserved, sanitizer):
    """Where nobody waits for memory before the kernel kills: a group without any file cache."""
    if sanitizer:
        pytest.skip("a sanitizer's own memory does not fit into the group")
    size = 256 * MIB
    group = make_group(size)
    daemon, cli, status = reserved("--reserve", "64MiB", preexec=entering(group))
    wait_held(status, 64 * MIB)
    usage = next(f for f in (group / "memory.usage_in_bytes", group / "memory.current") if f.exists())
    fill = subprocess.Popen([sys.executable, "-c", FILL, usage, str(size - 12 * MIB)], preexec_fn=entering(group))
    try:
        wait_held(status, 0)
        assert fill.poll() is None and daemon.process.poll() is None
    finally:
        fill.kill()
        fill.wait()
