"""hearthd, spoken to packet by packet: its life, its leases, and clients that mean no good."""

import contextlib
import fcntl
import hashlib
import os
import pathlib
import resource
import signal
import socket
import stat
import struct
import subprocess
import time

import packets
import pytest
from conftest import DEADLINE, wait_until
from packets import Client, Refused, make_safetensors

SEALS = 0x1 | 0x2 | 0x4 | 0x8  # SEAL, SHRINK, GROW, WRITE
F_GET_SEALS = 1034


@pytest.fixture
def model(tmp_path):
    """A directory with weights and a configuration."""
    folder = tmp_path / "model"
    folder.mkdir()
    make_safetensors(folder / "model.safetensors", 3 << 20, os.urandom(3 << 20))
    (folder / "config.json").write_text('{"hidden_size": 8}')
    return folder


@pytest.fixture
def large(tmp_path):
    """A file whose load takes a while: mostly a hole, so it takes no room on disk."""
    return make_safetensors(tmp_path / "large.safetensors", 3 << 30)


def close_all(fds):
    for fd in fds:
        os.close(fd)


def baseline(daemon):
    """What the daemon holds while nobody is connected: a function that waits until it is that again."""
    before = settled_fds(daemon)
    return lambda: wait_until(lambda: settled_fds(daemon) == before, f"descriptors are back: {before}")


def settled_fds(daemon):
    """Descriptors by what they are; inode numbers differ from run to run."""
    return sorted(name.split(":")[0] for name in daemon.fds())


def code_of(call, *arguments):
    with pytest.raises(Refused) as caught:
        call(*arguments)
    return caught.value


# ---- loading and attaching ----


def test_what_is_attached_is_what_is_on_disk_and_sealed(daemon, model):
    with Client(daemon.socket) as client:
        info = client.load(model)
        assert info["state"] == packets.RESIDENT and info["n_files"] == 2
        assert info["bytes"] == sum(f.stat().st_size for f in model.iterdir())
        index, *files = client.attach(info["id"])
        for fd, path in zip(files, sorted(model.iterdir())):
            assert os.pread(fd, 1 << 30, 0) == path.read_bytes()
            assert fcntl.fcntl(fd, F_GET_SEALS) & SEALS == SEALS
            assert fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
            with pytest.raises(OSError):
                os.write(fd, b"x")
        assert os.pread(index, 8, 0) == b"HRTHIDX1"
        close_all([index, *files])


def test_every_descriptor_has_an_offset_of_its_own(daemon, model):
    with Client(daemon.socket) as client:
        id_ = client.load(model)["id"]
        for _ in range(3):
            index, config, weights = client.attach(id_)
            again = client.files(id_, [1, 0, 1])
            os.lseek(weights, 100, os.SEEK_SET)
            os.lseek(again[0], 50, os.SEEK_SET)
            assert os.lseek(again[2], 0, os.SEEK_CUR) == 0
            assert os.lseek(weights, 0, os.SEEK_CUR) == 100
            assert os.fstat(again[1]).st_ino == os.fstat(config).st_ino
            close_all([index, config, weights, *again])


def test_a_resident_artifact_is_shared_and_read_once(daemon, model):
    with Client(daemon.socket) as one, Client(daemon.socket) as two:
        first = one.load(model)
        second = two.load(model)
        assert second["id"] == first["id"] and second["flags"] & packets.SHARED
        assert (second["from_disk"], second["from_page_cache"]) == (0, 0)
        assert second["from_resident"] == second["bytes"]
        assert two.load(f"{first['id']:012x}")["id"] == first["id"]


def test_progress_carries_the_id_first(daemon, model):
    with Client(daemon.socket) as client:
        serial = client.send_load(model, packets.WITH_PROGRESS)
        reply = client.reply(serial)
        assert reply.kind == packets.PROGRESS and reply.info()["id"]
        assert reply.info()["state"] in (packets.QUEUED, packets.LOADING)


def test_a_load_that_nobody_waits_for_can_be_watched(daemon, model):
    with Client(daemon.socket) as client:
        id_ = client.load(model, packets.NO_WAIT)["id"]
    with Client(daemon.socket) as client:
        assert client.watch(id_)["state"] == packets.RESIDENT


def test_changed_files_make_a_new_generation_beside_the_leased_one(daemon, model):
    with Client(daemon.socket) as holder, Client(daemon.socket) as client:
        old = holder.load(model)["id"]
        close_all(holder.attach(old))
        (model / "config.json").write_text('{"hidden_size": 16}')
        new = client.load(model)["id"]
        assert new != old
        flags = {a["id"]: a["flags"] & packets.STALE for a in client.list()}
        assert flags == {old: packets.STALE, new: 0}
        close_all(client.attach(old))
        client.detach(old)
        holder.detach(old)
        assert [a["id"] for a in client.list()] == [new]


def test_a_wrong_digest_fails_the_load_and_keeps_its_reason(daemon, model):
    wrong = "0" * 64
    (model / "SHA256SUMS").write_text(f"{wrong}  model.safetensors\n")
    with Client(daemon.socket) as client:
        refused = code_of(client.load, model)
        assert refused.code == "integrity" and refused.file.endswith("model.safetensors")
        right = hashlib.sha256((model / "model.safetensors").read_bytes()).hexdigest()
        assert wrong in refused.expected and right in refused.found
        (listed,) = client.list()
        assert listed["state"] == packets.FAILED and listed["resident_bytes"] == 0
        assert code_of(client.watch, listed["id"]).code == "integrity"
        assert code_of(client.attach, listed["id"]).code == "integrity"
        (model / "SHA256SUMS").write_text(f"{right}  model.safetensors\n")
        assert client.load(model)["state"] == packets.RESIDENT
        assert len(client.list()) == 1


def test_what_is_not_there_is_not_found_and_leaves_nothing(daemon, tmp_path):
    with Client(daemon.socket) as client:
        assert code_of(client.load, tmp_path / "nothing").code == "not_found"
        assert code_of(client.load, "some/name").code == "not_found"
        assert code_of(client.load, "0123456789ab").code == "not_found"
        assert code_of(client.attach, 5).code == "not_found"
        assert code_of(client.watch, 5).code == "not_found"
        assert code_of(client.evict, 5).code == "not_found"
        assert client.list() == []


# ---- leases and eviction ----


def test_a_leased_artifact_is_evicted_by_force_only(daemon, model):
    with Client(daemon.socket) as holder, Client(daemon.socket) as client:
        id_ = holder.load(model)["id"]
        fds = holder.attach(id_)
        refused = code_of(client.evict, id_)
        assert refused.code == "busy" and f"tests (pid {os.getpid()})" in refused.found
        assert client.evict(id_, packets.FORCE) == 1
        assert code_of(client.attach, id_).code == "not_found"
        (listed,) = client.list()
        assert listed["state"] == packets.GONE and listed["leases"] == 1
        assert os.pread(fds[2], 1 << 30, 0) == (model / "model.safetensors").read_bytes()
        close_all(fds)
    with Client(daemon.socket) as client:
        wait_until(lambda: client.list() == [], "the last lease ends with its holder")
        assert client.status()["resident_bytes"] == 0


def test_files_need_a_lease_and_a_number_that_exists(daemon, model):
    with Client(daemon.socket) as holder, Client(daemon.socket) as client:
        id_ = holder.load(model)["id"]
        assert code_of(client.files, id_, [0]).code == "invalid"
        close_all(client.attach(id_, 0))
        assert code_of(client.files, id_, [2]).code == "invalid"
        assert code_of(client.files, id_, [2**32 - 1]).code == "invalid"
        close_all(client.files(id_, [0, 1]))
        client.detach(id_)
        assert code_of(client.files, id_, [0]).code == "invalid"
        client.detach(id_)  # once too often: nothing happens
        assert client.status()["leases"] == 0


def test_a_load_is_cancelled_by_eviction(daemon, large):
    with Client(daemon.socket) as client, Client(daemon.socket) as other:
        serial = client.send_load(large, packets.WITH_PROGRESS)
        id_ = client.reply(serial).info()["id"]
        assert other.evict(id_) == 1
        with pytest.raises(Refused) as caught:
            while True:
                client.reply(serial)
        assert caught.value.code == "cancelled" and str(os.getpid()) in caught.value.message
        assert other.list() == []


def test_a_load_ends_with_its_only_client(daemon, large):
    with Client(daemon.socket) as client:
        client.reply(client.send_load(large, packets.WITH_PROGRESS))
    with Client(daemon.socket) as client:
        wait_until(lambda: client.list() == [], "the load is gone")
        assert "loaded" not in daemon.log()


def test_a_load_ends_with_its_cancel_and_only_its_own(daemon, large):
    with Client(daemon.socket) as client, Client(daemon.socket) as other:
        serial = client.send_load(large, packets.WITH_PROGRESS)
        client.cancel(serial + 1)  # never made
        id_ = client.reply(serial).info()["id"]
        watching = other.send(packets.WATCH, struct.pack("<Q", id_))
        assert other.reply(watching).kind == packets.PROGRESS
        client.cancel(serial)
        with pytest.raises(Refused) as caught:
            while True:
                client.reply(serial)
        assert caught.value.code == "cancelled"
        assert [a["id"] for a in client.list()] == [id_], "somebody else waits for it"
        other.cancel(watching)
        with pytest.raises(Refused) as caught:
            while True:
                other.reply(watching)
        assert caught.value.code == "cancelled"
        assert client.list() == []
    assert "loaded" not in daemon.log()


def test_who_follows_what_was_evicted_is_told_at_once(daemon, model):
    with Client(daemon.socket) as holder, Client(daemon.socket) as client:
        id_ = holder.load(model)["id"]
        close_all(holder.attach(id_))
        client.evict(id_, packets.FORCE)
        refused = code_of(client.watch, id_)
        assert refused.code == "not_found" and refused.hint


def test_a_client_of_an_older_release_is_served(daemon, model):
    """It knows shorter structs: no lists in LOAD, no flags in ATTACH."""
    ref = os.fsencode(model)
    with Client(daemon.socket) as client:
        serial = client.send(packets.LOAD, struct.pack("<IIII", 0, 0, 16 + 16, len(ref)), ref)
        info = client.reply(serial).info()
        assert info["state"] == packets.RESIDENT
        reply = client.call(packets.ATTACH, struct.pack("<Q", info["id"]))
        assert len(reply.fds) == 1, "the index alone: it asked for no files"
        close_all(reply.fds)
        client.detach(info["id"])
        assert client.call(packets.EVICT, struct.pack("<Q", info["id"])).kind == packets.DONE


# ---- limits ----


def test_what_exceeds_the_budget_is_refused_with_the_figures(make_daemon, model, large):
    daemon = make_daemon("--budget", "1GiB")
    with Client(daemon.socket) as client:
        refused = code_of(client.load, large)
        assert refused.code == "too_large" and "1.0 GiB" in refused.message and refused.hint
        assert client.load(model)["state"] == packets.RESIDENT
        assert client.status()["budget_bytes"] == 1 << 30


def test_without_descriptors_a_load_fails_and_the_daemon_serves_on(make_daemon, model):
    for i in range(200):
        (model / f"notes{i}.txt").write_text(str(i))
    daemon = make_daemon(preexec=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128)))
    back = baseline(daemon)
    with Client(daemon.socket) as client:
        refused = code_of(client.load, model)
        assert refused.code == "no_fds" and "descriptors" in refused.message
        small = client.load(model / "config.json")
        close_all(client.attach(small["id"]))
        client.detach(small["id"])
        client.evict(small["id"])
        for listed in client.list():
            client.evict(listed["id"])
    back()


def test_a_client_that_cannot_have_a_connection_costs_nobody_else_theirs(make_daemon):
    daemon = make_daemon(preexec=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)))
    with Client(daemon.socket) as first, contextlib.ExitStack() as stack:
        for _ in range(100):
            extra = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
            extra.setblocking(False)
            with contextlib.suppress(OSError):
                extra.connect(daemon.socket)
        assert first.status()["pid"] == daemon.pid
    wait_until(lambda: answers(daemon), "there is room again")


def answers(daemon):
    try:
        with Client(daemon.socket) as client:
            return client.status()["pid"] == daemon.pid
    except (OSError, Refused):
        return False


# ---- clients that mean no good ----

HELLO_FIXED = struct.pack("<IIII", 1, 1, 32, 1)
GARBAGE = {
    "one byte": b"x",
    "a header cut short": b"\0" * 15,
    "zeros": b"\0" * 64,
    "noise": bytes(range(256)) * 16,
    "a length that lies": struct.pack("<IHHII", 9999, packets.LIST, 8, 1, 0) + bytes(8),
    "a fixed struct that is not there": struct.pack("<IHHII", 16, packets.LOAD, 40, 1, 0),
    "an unknown type": packets.packet(99, 1),
    "a reply": packets.packet(packets.INFO, 1, bytes(248)),
    "serial 0": packets.packet(packets.STATUS, 0, bytes(8)),
    "a string out of bounds": packets.packet(
        packets.LOAD, 1, struct.pack("<II II II II II", 0, 0, 60000, 5000, 0, 0, 0, 0, 0, 0)
    ),
    "a string at 4 GiB": packets.packet(
        packets.LOAD, 1, struct.pack("<II II II II II", 0, 0, 2**32 - 1, 2**32 - 1, 0, 0, 0, 0, 0, 0)
    ),
    "a list of 4 billion": packets.packet(
        packets.LOAD, 1, struct.pack("<II II II II II", 0, 0, 56, 2, 56, 2**32 - 1, 0, 0, 0, 0), b"/x\0\0"
    ),
    "too many files": packets.packet(packets.FILES, 1, struct.pack("<QII", 1, 32, 254), bytes(254 * 4)),
    "a second hello": packets.packet(packets.HELLO, 1, HELLO_FIXED, b"x"),
    "too large": b"\0" * (packets.PACKET_MAX + 1),
}


@pytest.mark.parametrize("hello", [False, True], ids=["first", "after-hello"])
def test_garbage_ends_its_connection_and_nothing_else(daemon, model, hello):
    back = baseline(daemon)
    with Client(daemon.socket) as honest:
        for name, garbage in GARBAGE.items():
            if name == "a second hello" and not hello:
                continue
            with Client(daemon.socket, hello=hello) as client:
                with contextlib.suppress(OSError):
                    client.sock.send(garbage)
                client.sock.shutdown(socket.SHUT_WR)
                with contextlib.suppress(ConnectionError):
                    while True:
                        reply = client.receive()
                        assert reply.kind == packets.ERROR, reply.kind
            assert honest.status()["pid"] == daemon.pid
        assert honest.status()["artifacts"] == 0
    back()


def test_a_client_that_sends_descriptors_is_disconnected(daemon):
    back = baseline(daemon)
    with Client(daemon.socket) as client, open(os.devnull, "rb") as null:
        try:
            for _ in range(3):
                socket.send_fds(client.sock, [packets.packet(packets.STATUS, 1, bytes(8))], [null.fileno()] * 8)
            while True:
                reply = client.receive()
                assert reply.kind == packets.ERROR
        except OSError:
            pass
    back()


def test_a_client_may_die_at_any_step(daemon, model, large):
    back = baseline(daemon)
    for step in range(7):
        client = Client(daemon.socket, hello=step > 0)
        if step == 2:
            client.send_load(model)
        elif step == 3:
            client.reply(client.send_load(large, packets.WITH_PROGRESS))
        elif step >= 4:
            id_ = client.load(model)["id"]
        if step == 5:
            client.send(packets.ATTACH, struct.pack("<QII", id_, packets.ALL, 0))
        elif step == 6:
            close_all(client.attach(id_))
        client.sock.close()
    with Client(daemon.socket) as client:
        wait_until(lambda: client.status()["leases"] == 0, "all leases have ended")
        wait_until(lambda: all(a["state"] == packets.RESIDENT for a in client.list()), "no load is left")
        for listed in client.list():
            client.evict(listed["id"])
    back()


def test_a_client_that_does_not_read_is_bounded(daemon, model):
    back = baseline(daemon)
    with Client(daemon.socket) as client, Client(daemon.socket) as honest:
        id_ = client.load(model)["id"]
        client.sock.settimeout(1)
        with contextlib.suppress(OSError):
            for _ in range(5000):
                client.send(packets.ATTACH, struct.pack("<QII", id_, packets.ALL, 0))
        fds = honest.attach(id_)
        assert len(fds) == 3
        close_all(fds)
        assert len(daemon.fds()) < 2000
    with Client(daemon.socket) as client:
        wait_until(lambda: client.status()["leases"] == 0, "all leases have ended")
        client.evict(id_)
    back()


def test_a_thousand_connections_come_and_go(daemon):
    back = baseline(daemon)
    for _ in range(1000):
        Client(daemon.socket).sock.close()
    back()


# ---- its life ----


def test_sigterm_during_a_load_tells_who_waits_and_leaves_nothing(daemon, large):
    with Client(daemon.socket) as client:
        serial = client.send_load(large, packets.WITH_PROGRESS)
        client.reply(serial)
        daemon.process.send_signal(signal.SIGTERM)
        with pytest.raises(Refused) as caught:
            while True:
                client.reply(serial)
        assert caught.value.code == "cancelled"
    assert daemon.process.wait(DEADLINE) == 0  # a second signal would end it at once
    assert daemon.stop() == 0


def test_stop_is_answered_before_the_end(daemon):
    with Client(daemon.socket) as client:
        client.stop()
    assert daemon.process.wait(DEADLINE) == 0
    assert daemon.stop() == 0


def test_a_second_daemon_on_the_socket_says_so(daemon, make_daemon):
    second = make_daemon("--socket", daemon.socket, ready=False)
    assert second.process.wait(DEADLINE) == 1
    second.checked = True  # the socket is the first one's, and stays
    assert "another" in second.log() and daemon.socket in second.log()
    with Client(daemon.socket) as client:
        assert client.status()["pid"] == daemon.pid


def test_a_stale_socket_is_replaced(make_daemon):
    first = make_daemon(name="same")
    first.process.kill()
    first.process.wait()
    assert stat.S_ISSOCK(os.stat(first.socket).st_mode)
    first.checked = True
    second = make_daemon("--socket", first.socket)
    with Client(first.socket) as client:
        assert client.status()["pid"] == second.pid


def test_without_the_sockets_directory_it_says_which(make_daemon, tmp_path):
    daemon = make_daemon("--socket", str(tmp_path / "nowhere" / "hearth.sock"), ready=False)
    assert daemon.process.wait(DEADLINE) == 1 and daemon.stop() == 1
    assert str(tmp_path / "nowhere") in daemon.log()


@pytest.mark.parametrize("mode", [0o777, 0o750])
def test_a_default_directory_that_is_open_to_others_is_refused(bin_dir, tmp_path, mode):
    (tmp_path / "hearth").mkdir()
    (tmp_path / "hearth").chmod(mode)
    ended = subprocess.run(
        [bin_dir / "hearthd"], env={"XDG_RUNTIME_DIR": str(tmp_path)}, capture_output=True, text=True, timeout=DEADLINE
    )
    assert ended.returncode == 1 and f"{mode:04o}" in ended.stderr
    (tmp_path / "hearth").rmdir()
    (tmp_path / "hearth").symlink_to("/tmp")
    ended = subprocess.run(
        [bin_dir / "hearthd"], env={"XDG_RUNTIME_DIR": str(tmp_path)}, capture_output=True, text=True, timeout=DEADLINE
    )
    assert ended.returncode == 1 and "no directory" in ended.stderr


def test_it_ends_when_idle_but_not_while_leased(make_daemon, model):
    daemon = make_daemon("--idle-exit", "300ms")
    with Client(daemon.socket) as client:
        id_ = client.load(model)["id"]
        close_all(client.attach(id_))
        with pytest.raises(subprocess.TimeoutExpired):
            daemon.process.wait(1.5)
        client.detach(id_)
        assert daemon.process.wait(DEADLINE) == 0
    assert daemon.stop() == 0


def test_who_only_looks_at_it_does_not_keep_it(make_daemon):
    daemon = make_daemon("--idle-exit", "500ms")

    def gone():
        with contextlib.suppress(OSError):
            with Client(daemon.socket) as client:
                client.list()
                client.status()
        return daemon.process.poll() is not None

    wait_until(gone, "it has ended")
    assert daemon.stop() == 0


def switches(pid):
    total = 0
    for status in pathlib.Path(f"/proc/{pid}/task").glob("*/status"):
        total += sum(int(line.split()[1]) for line in status.read_text().splitlines() if "ctxt_switches" in line)
    return total


def test_an_idle_daemon_wakes_for_nothing(bin_dir, daemon, model):
    if b"__tsan_init" in (bin_dir / "hearthd").read_bytes():
        pytest.skip("ThreadSanitizer has a thread of its own that wakes")
    with Client(daemon.socket) as client:
        close_all(client.attach(client.load(model)["id"]))
        time.sleep(1.5)  # what it keeps of the load is written a second later
        before = switches(daemon.pid)
        time.sleep(2)
        assert switches(daemon.pid) == before


def detach(bin_dir, folder, *flags):
    return subprocess.run(
        [bin_dir / "hearthd", "--detach", *flags], env={"XDG_RUNTIME_DIR": str(folder)}, capture_output=True, text=True,
        timeout=DEADLINE, pass_fds=(),
    )


def test_a_detached_daemon_serves_when_its_starter_returns(bin_dir, tmp_path):
    tmp_path.chmod(0o700)
    path = str(tmp_path / "hearth" / "hearth.sock")
    reader, writer = os.pipe()  # a descriptor that the starter has open
    os.set_inheritable(writer, True)
    ended = subprocess.run(
        [bin_dir / "hearthd", "--detach", "--idle-exit", "30m"],
        env={"XDG_RUNTIME_DIR": str(tmp_path)}, capture_output=True, text=True, timeout=DEADLINE, pass_fds=(writer,),
    )
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert os.read(reader, 1) == b""  # the daemon does not keep it
    os.close(reader)
    with Client(path) as client:
        pid = client.status()["pid"]
        assert os.getsid(pid) != os.getsid(0) and os.readlink(f"/proc/{pid}/cwd") == "/"
        again = detach(bin_dir, tmp_path)
        assert again.returncode == 1 and "another" in again.stderr
        client.stop()
    wait_until(lambda: not pathlib.Path(f"/proc/{pid}").exists(), "the daemon has ended")
    log = (tmp_path / "hearth" / "hearthd.log").read_text()
    assert "listening on" in log and not os.path.exists(path)


@pytest.mark.parametrize("kind", ["fifo", "link", "second name", "directory"])
def test_a_log_that_could_be_somebody_elses_is_refused(bin_dir, tmp_path, kind):
    log = tmp_path / "hearthd.log"
    other = tmp_path / "other"
    other.write_text("precious")
    {"fifo": lambda: os.mkfifo(log), "link": lambda: log.symlink_to(other), "directory": log.mkdir,
     "second name": lambda: os.link(other, log)}[kind]()
    # A fifo with a reader can be opened for writing without waiting.
    reader = os.open(log, os.O_RDONLY | os.O_NONBLOCK) if kind == "fifo" else None
    ended = detach(bin_dir, tmp_path, "--socket", str(tmp_path / "hearth.sock"))
    if reader is not None:
        os.close(reader)
    assert ended.returncode == 1 and str(log) in ended.stderr
    assert other.read_text() == "precious" and not (tmp_path / "hearth.sock").exists()


def test_a_fifo_that_nobody_reads_does_not_hold_up_a_start(bin_dir, tmp_path):
    os.mkfifo(tmp_path / "hearthd.log")
    ended = detach(bin_dir, tmp_path, "--socket", str(tmp_path / "hearth.sock"))
    assert ended.returncode == 1 and "hearthd.log" in ended.stderr


def test_a_starter_that_ignores_its_children_changes_nothing(make_daemon, model):
    daemon = make_daemon(preexec=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN))
    status = pathlib.Path(f"/proc/{daemon.pid}/status").read_text()
    ignored = next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("SigIgn"))
    assert not ignored & 1 << (signal.SIGCHLD - 1)
    with Client(daemon.socket) as client:
        assert client.load(model)["state"] == packets.RESIDENT


def test_check_config_names_every_line(bin_dir, tmp_path):
    config = tmp_path / "hearthd.conf"
    config.write_text("budget = 1GiB\nbudgte = 2GiB\n\nverify = maybe\n")
    for form in (["--check-config", str(config)], [f"--check-config={config}"]):
        ended = subprocess.run([bin_dir / "hearthd", *form], capture_output=True, text=True, timeout=DEADLINE)
        assert ended.returncode == 1
        lines = ended.stderr.splitlines()
        assert [line.split(": ")[0] for line in lines] == [f"{config}:2", f"{config}:4"]
        assert "expected none, xxh3, remembered or always" in lines[1]
    config.write_text("budget = 1GiB\n")
    ended = subprocess.run(
        [bin_dir / "hearthd", "--check-config", config], capture_output=True, text=True, timeout=DEADLINE
    )
    assert (ended.returncode, ended.stdout) == (0, f"{config}: ok\n")


def test_a_wrong_command_line_ends_with_2(bin_dir):
    for flags in (["--budget", "lots"], ["--nonsense"], ["word"], ["--socket", "relative"]):
        ended = subprocess.run([bin_dir / "hearthd", *flags], capture_output=True, text=True, timeout=DEADLINE)
        assert ended.returncode == 2 and ended.stderr.startswith("hearthd: "), flags


def test_the_file_applies_and_flags_beat_it(make_daemon, tmp_path):
    config = tmp_path / "hearthd.conf"
    config.write_text("budget = 1GiB\nlog-level = debug\n")
    daemon = make_daemon("--config", str(config))
    with Client(daemon.socket) as client:
        assert client.status()["budget_bytes"] == 1 << 30
    daemon = make_daemon("--config", str(config), "--budget", "2GiB")
    with Client(daemon.socket) as client:
        assert client.status()["budget_bytes"] == 2 << 30
