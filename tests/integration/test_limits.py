"""What is larger than memory, a control group, a budget or a limit on descriptors: refused with the figures before it is
read, nobody is killed, and what fits is served."""

import os
import pathlib
import re
import resource
import shutil

import packets
import pytest
from conftest import wait_until
from packets import Client, make_safetensors
from vitals import close_all, good, guard, guarded  # noqa: F401  (fixtures)


def total_memory():
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def read_so_far(pid):
    """Bytes that it asked the kernel for, from wherever."""
    return int(re.search(r"rchar: (\d+)", pathlib.Path(f"/proc/{pid}/io").read_text())[1])


@pytest.mark.parametrize("flags", [[], ["--budget", "1024TiB"]], ids=["budget", "memory"])
def test_what_is_larger_than_memory_is_refused_before_it_is_read(guarded, tmp_path, flags):
    guard = guarded(*flags)
    size = 4 * total_memory()
    try:
        path = make_safetensors(tmp_path / "huge.safetensors", size)
    except OSError as error:
        pytest.skip(f"this file system takes no file of {size} bytes: {error.strerror}")
    before = read_so_far(guard.pid)
    error = guard.refuses(path, "too_large")
    assert read_so_far(guard.pid) - before < 1 << 20
    figures = [int(figure) for figure in re.findall(r"\d{6,}", f"{error.expected} {error.found}")]
    assert error.file == path and error.hint
    assert max(figures) >= size and min(figures) < total_memory()


def test_many_files_that_are_too_much_together_are_refused(guarded, tmp_path):
    guard = guarded("--budget", "64MiB")
    folder = tmp_path / "sum"
    folder.mkdir()
    for i in range(10):
        make_safetensors(folder / f"{i}.safetensors", 10 << 20)
    error = guard.refuses(folder, "too_large")
    assert error.file == str(folder) and "64.0 MiB" in error.message


class Group:
    """A memory control group of our own, v1 or v2, with a limit."""

    def __init__(self, limit):
        v1 = pathlib.Path("/sys/fs/cgroup/memory")
        self.v1 = (v1 / "memory.limit_in_bytes").exists()
        self.path = (v1 if self.v1 else pathlib.Path("/sys/fs/cgroup")) / f"hearth-test-{os.getpid()}"
        self.path.mkdir()
        try:
            (self.path / ("memory.limit_in_bytes" if self.v1 else "memory.max")).write_text(str(limit))
        except OSError:
            self.path.rmdir()
            raise

    def set_limit(self, limit):
        (self.path / ("memory.limit_in_bytes" if self.v1 else "memory.max")).write_text(str(limit))

    def usage(self):
        return int((self.path / ("memory.usage_in_bytes" if self.v1 else "memory.current")).read_text())

    def join(self):
        (self.path / "cgroup.procs").write_text("0")

    def kills(self):
        text = (self.path / ("memory.oom_control" if self.v1 else "memory.events")).read_text()
        return int(re.search(r"^oom_kill (\d+)$", text, re.M)[1])


@pytest.fixture
def group():
    """256 MiB."""
    try:
        made = Group(256 << 20)
    except OSError as error:
        pytest.skip(f"no memory control group can be made here: {error}")
    yield made
    shutil.rmtree(made.path, ignore_errors=True)  # its files cannot be removed, and need not
    wait_until(lambda: removed(made.path), "the group is empty")


def removed(path):
    try:
        path.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def test_a_control_groups_limit_is_an_error_and_no_kill(group, make_daemon, tmp_path, sanitizer):
    if sanitizer == "tsan":
        pytest.skip("ThreadSanitizer's own memory counts as well")
    daemon = make_daemon("--budget", "1TiB", preexec=group.join)
    paths = [make_safetensors(tmp_path / f"{i}.safetensors", size << 20) for i, size in enumerate((300, 120, 120, 120))]
    with Client(daemon.socket) as client:
        with pytest.raises(packets.Refused) as caught:
            client.load(paths[0])
        assert caught.value.code == "too_large" and str(group.path) in caught.value.message
        first = client.load(paths[1])["id"]
        with pytest.raises(packets.Refused) as caught:
            client.load(paths[2])
            client.load(paths[3])
        assert caught.value.code == "too_large" and str(group.path) in caught.value.message
        close_all(client.attach(first))
        client.detach(first)
        for listed in client.list():
            client.evict(listed["id"])
        assert client.load(paths[3])["state"] == packets.RESIDENT
    assert group.kills() == 0
    assert daemon.stop() == 0


def test_a_limit_that_shrinks_under_way_fails_the_load_and_kills_nobody(group, make_daemon, tmp_path, sanitizer):
    if sanitizer:
        pytest.skip("a sanitizer's own memory counts as well")
    daemon = make_daemon("--budget", "1TiB", preexec=group.join)
    path = make_safetensors(tmp_path / "large.safetensors", 200 << 20)
    with Client(daemon.socket) as client:
        for _ in range(20):
            before = group.usage()
            serial = client.send_load(path, packets.WITH_PROGRESS)
            while (now := group.usage()) < before + (30 << 20) and client.nothing_to_read():
                pass
            try:
                group.set_limit(now + (24 << 20))
            except OSError:  # it has become more meanwhile
                pass
            try:
                while (reply := client.reply(serial)).kind == packets.PROGRESS:
                    pass
                client.evict(reply.info()["id"])  # it was too fast
            except packets.Refused as refused:
                assert refused.code == "too_large" and str(group.path) in refused.message, vars(refused)
                break
            finally:
                group.set_limit(256 << 20)
        else:
            pytest.skip("each load ended before its limit was lowered")
        assert client.load(path)["state"] == packets.RESIDENT
    assert group.kills() == 0
    assert daemon.stop() == 0


def test_the_default_budget_is_a_share_of_what_the_group_leaves(group, make_daemon, sanitizer):
    if sanitizer:
        pytest.skip("a sanitizer's own memory counts as well")
    daemon = make_daemon(preexec=group.join)
    with Client(daemon.socket) as client:
        assert 150 << 20 < client.status()["budget_bytes"] <= 0.8 * (256 << 20)


def test_no_size_near_the_limit_is_a_kill(group, make_daemon, tmp_path, sanitizer):
    if sanitizer == "tsan":
        pytest.skip("ThreadSanitizer's own memory counts as well")
    daemon = make_daemon("--budget", "1TiB", "--backing", "small", preexec=group.join)
    path = make_safetensors(tmp_path / "large.safetensors", 256 << 20)
    outcomes = []
    with Client(daemon.socket) as client:
        for size in range(256, 200, -2):
            make_safetensors(path, size << 20)
            try:
                client.evict(client.load(path)["id"])
                outcomes.append("resident")
            except packets.Refused as error:
                outcomes.append(error.code)
    assert set(outcomes) == {"resident", "too_large"}, outcomes
    assert group.kills() == 0
    assert daemon.stop() == 0


def test_loads_at_once_in_a_small_group_kill_nobody(group, make_daemon, tmp_path, sanitizer):
    if sanitizer:
        pytest.skip("a sanitizer's own memory counts as well")
    daemon = make_daemon("--budget", "1TiB", preexec=group.join)
    paths = [make_safetensors(tmp_path / f"{i}.safetensors", 60 << 20) for i in range(8)]
    clients = [Client(daemon.socket) for _ in paths]
    serials = [client.send_load(path) for client, path in zip(clients, paths)]
    outcomes = []
    for client, serial in zip(clients, serials):
        try:
            outcomes.append(client.reply(serial).info()["state"])
        except packets.Refused as error:
            outcomes.append(error.code)
        client.sock.close()
    assert set(outcomes) == {packets.RESIDENT, "too_large"}, outcomes
    assert group.kills() == 0
    assert daemon.stop() == 0


def test_no_number_of_free_descriptors_makes_a_load_end_otherwise_than_clearly(guard, tmp_path):
    """The limit is lowered on the running daemon to what it has open and a few more."""
    folder = tmp_path / "artifact"
    folder.mkdir()
    make_safetensors(folder / "large.safetensors", 8 << 20, b"x")
    for i in range(5):
        (folder / f"{i}.json").write_text("{}")
    soft, hard = resource.prlimit(guard.pid, resource.RLIMIT_NOFILE)
    outcomes = []
    with Client(guard.socket) as client:
        client.status()
        highest = max(int(name) for name in os.listdir(f"/proc/{guard.pid}/fd"))
        try:
            for free in range(40):
                resource.prlimit(guard.pid, resource.RLIMIT_NOFILE, (highest + 1 + free, hard))
                try:
                    info = client.load(folder)
                    outcomes.append("resident")
                    assert client.evict(info["id"]) == 1
                except packets.Refused as error:
                    outcomes.append(error.code)
                    assert error.message and error.hint, vars(error)
        finally:
            resource.prlimit(guard.pid, resource.RLIMIT_NOFILE, (soft, hard))
    assert set(outcomes) == {"no_fds", "resident"}, outcomes
    assert outcomes[0] == "no_fds"
    # Once there are enough, more do not hurt. At the border it depends: a look at limits of memory takes a few, now and then.
    first = outcomes.index("resident")
    assert "no_fds" not in outcomes[first + 6 :], outcomes


def test_without_address_space_a_load_fails_and_the_next_does_not(guard, tmp_path, sanitizer):
    if sanitizer:
        pytest.skip("a sanitizer needs all the address space there is")
    path = make_safetensors(tmp_path / "large.safetensors", 64 << 20)
    used = int(pathlib.Path(f"/proc/{guard.pid}/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    limits = resource.prlimit(guard.pid, resource.RLIMIT_AS)
    try:
        for free in (0, 1, 2, 4, 16, 48):
            resource.prlimit(guard.pid, resource.RLIMIT_AS, (used + (free << 20), limits[1]))
            assert guard.refuses(path, "no_memory").message
    finally:
        resource.prlimit(guard.pid, resource.RLIMIT_AS, limits)
