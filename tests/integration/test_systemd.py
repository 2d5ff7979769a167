"""hearthd as a service: what it tells systemd, the sockets it is given, the installed units under a real systemd."""

import contextlib
import fcntl
import json
import os
import pathlib
import re
import signal
import socket
import stat
import subprocess
import sys
import time

import packets
import pytest
import systemd_sandbox
from conftest import DEADLINE, SANITIZER_MARKS, wait_until
from packets import Client, make_safetensors


@pytest.fixture(autouse=True)
def _libsystemd(bin_dir):
    if b"libsystemd.so" not in (bin_dir / "hearthd").read_bytes():
        pytest.skip("hearthd is built without libsystemd")


# ---- notifications ----


class Notified:
    """The service manager's end of NOTIFY_SOCKET."""

    def __init__(self, path):
        self.path = str(path)
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(self.path)

    def next(self, seconds=DEADLINE):
        """The fields of the next datagram."""
        self.sock.settimeout(seconds)
        return dict(line.split("=", 1) for line in self.sock.recv(4096).decode().splitlines())


@pytest.fixture
def notified(tmp_path):
    manager = Notified(tmp_path / "notify")
    yield manager
    manager.sock.close()


def test_it_says_when_clients_can_connect_and_when_it_ends(make_daemon, notified):
    daemon = make_daemon(env={"NOTIFY_SOCKET": notified.path}, ready=False)
    said = notified.next()
    assert said["READY"] == "1" and daemon.socket in said["STATUS"] and "budget" in said["STATUS"]
    with Client(daemon.socket) as client:  # at once: READY came after listen()
        assert client.status()["pid"] == daemon.pid
    assert daemon.stop() == 0
    assert notified.next()["STOPPING"] == "1"
    with pytest.raises(TimeoutError):
        notified.next(0.1)


def test_it_says_when_it_reads_its_configuration_again_and_when_it_has(make_daemon, notified, tmp_path):
    conf = tmp_path / "hearthd.conf"
    conf.write_text("budget = 1GiB\n")
    daemon = make_daemon("--config", str(conf), env={"NOTIFY_SOCKET": notified.path})
    assert "READY" in notified.next()
    for text in ("budget = 2GiB\n", "a mistake\n"):
        conf.write_text(text)
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        daemon.process.send_signal(signal.SIGHUP)
        said = notified.next()
        assert said["RELOADING"] == "1"
        assert before <= int(said["MONOTONIC_USEC"]) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        said = notified.next()
        assert said["READY"] == "1" and "budget 2.0 GiB" in said["STATUS"]


def test_the_watchdog_hears_of_it_for_as_long_as_it_runs(make_daemon, notified):
    make_daemon(env={"NOTIFY_SOCKET": notified.path, "WATCHDOG_USEC": "200000"})
    assert "READY" in notified.next()
    for _ in range(5):
        assert notified.next() == {"WATCHDOG": "1"}


@pytest.mark.parametrize("env", [{}, {"WATCHDOG_USEC": "200000", "WATCHDOG_PID": "1"}], ids=["none", "anothers"])
def test_without_a_watchdog_of_its_own_it_says_nothing(make_daemon, notified, env):
    make_daemon(env={"NOTIFY_SOCKET": notified.path, **env})
    assert "READY" in notified.next()
    with pytest.raises(TimeoutError):
        notified.next(1)


def test_a_manager_that_does_not_listen_changes_nothing(make_daemon, tmp_path):
    daemon = make_daemon(env={"NOTIFY_SOCKET": str(tmp_path / "nobody")})
    with Client(daemon.socket) as client:
        assert client.status()["pid"] == daemon.pid


# ---- socket activation ----


# Becomes hearthd with the descriptors named first from 3 on, as a service manager starts it: LISTEN_PID is its own.
ACTIVATE = """
import os, sys
fds = [int(fd) for fd in sys.argv[1].split(",")]
for number, fd in enumerate(fds, 3):
    os.dup2(fd, number)
os.closerange(3 + len(fds), 1024)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(fds)))
os.execv(sys.argv[2], sys.argv[2:])
"""


def start_with(bin_dir, tmp_path, fds):
    return subprocess.Popen(
        [sys.executable, "-c", ACTIVATE, ",".join(map(str, fds)), bin_dir / "hearthd"],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, pass_fds=fds,
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path)},
    )


def listening(path, kind=socket.SOCK_SEQPACKET):
    sock = socket.socket(socket.AF_UNIX, kind)
    sock.bind(str(path))
    sock.listen(8)
    return sock


@contextlib.contextmanager
def passed(*socks):
    """Descriptors of these with numbers that are moved to 3, 4, ... without one overwriting the next."""
    fds = [fcntl.fcntl(sock, fcntl.F_DUPFD, 20) for sock in socks]
    try:
        yield fds
    finally:
        for fd in fds:
            os.close(fd)


def test_it_serves_on_the_socket_it_is_given_and_leaves_the_file(bin_dir, tmp_path):
    path = tmp_path / "given.sock"
    make_safetensors(tmp_path / "model.safetensors", 4096)
    with listening(path) as sock, passed(sock) as fds:
        for _ in range(2):  # the second daemon takes over where the first one ended
            process = start_with(bin_dir, tmp_path, fds)
            with Client(str(path)) as client:
                assert client.status()["pid"] == process.pid
                assert client.load(tmp_path / "model.safetensors")["state"] == packets.RESIDENT
            process.send_signal(signal.SIGTERM)
            _, log = process.communicate(timeout=DEADLINE)
            assert process.returncode == 0 and f"listening on {path}" in log
            assert not any(mark in log for mark in SANITIZER_MARKS), log
            assert stat.S_ISSOCK(os.stat(path).st_mode)
    assert not (tmp_path / "hearth").exists()  # the default socket's place was not touched


def test_a_connection_that_waited_for_the_daemon_is_served(bin_dir, tmp_path):
    path = tmp_path / "given.sock"
    with listening(path) as sock, passed(sock) as fds, Client(str(path), hello=False) as client:
        client.sock.send(packets.packet(packets.STATUS, 1, bytes(8)))  # without HELLO: an error is an answer, too
        process = start_with(bin_dir, tmp_path, fds)
        assert client.receive().kind == packets.ERROR
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=DEADLINE)
        assert process.returncode == 0


def wrong_sockets(folder):
    yield "a stream", listening(folder / "stream", socket.SOCK_STREAM)
    datagram = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    datagram.bind(str(folder / "datagram"))
    yield "a datagram socket", datagram
    deaf = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    deaf.bind(str(folder / "deaf"))
    yield "one that does not listen", deaf
    yield "no socket", open(os.devnull, "rb")


def test_a_descriptor_of_the_wrong_kind_is_one_clear_error(bin_dir, tmp_path):
    for what, wrong in wrong_sockets(tmp_path):
        with wrong, passed(wrong) as fds:
            process = start_with(bin_dir, tmp_path, fds)
            _, log = process.communicate(timeout=DEADLINE)
            assert process.returncode == 1, what
            (line,) = log.splitlines()
            assert "given by the service manager, is of no use" in line, what
            assert "SOCK_SEQPACKET" in line and "ListenSequentialPacket=" in line, what


def test_several_sockets_are_one_clear_error(bin_dir, tmp_path):
    with listening(tmp_path / "one") as one, listening(tmp_path / "two") as two, passed(one, two) as fds:
        process = start_with(bin_dir, tmp_path, fds)
        _, log = process.communicate(timeout=DEADLINE)
        assert process.returncode == 1 and "2 sockets" in log


# ---- the installed units under a real systemd ----

SYSTEM_UNIT, SOCKET = "hearthd.service", "/run/hearth/hearth.sock"


@pytest.fixture(scope="module")
def sandbox(bin_dir, sanitizer, tmp_path_factory):
    """A booted systemd with hearth installed, its user made, and a model in /srv/model."""
    why_not = systemd_sandbox.why_not()
    if not why_not and sanitizer:
        why_not = "sanitizers need what the units forbid"
    if not why_not and not (bin_dir.parent / "cmake_install.cmake").exists():
        why_not = f"{bin_dir.parent} is no build folder: there is nothing to install"
    if why_not:
        pytest.skip(why_not)
    box = systemd_sandbox.Sandbox(tmp_path_factory.mktemp("sandbox"))
    try:
        try:
            box.wait_booted()
        except OSError as error:
            pytest.skip(str(error))
        subprocess.run(
            ["cmake", "--install", bin_dir.parent], env={**os.environ, "DESTDIR": str(box.root)},
            stdout=subprocess.DEVNULL, check=True,
        )
        box.run("systemd-sysusers")
        box.run("systemd-tmpfiles", "--create", "hearth.conf")
        box.run("systemctl", "daemon-reload")
        model = box.root / "srv" / "model"
        model.mkdir()
        make_safetensors(model / "model.safetensors", 8 << 20, os.urandom(8 << 20))
        (model / "config.json").write_text("{}")
        box.hearth = str(next(path for path in ("/usr/local/bin/hearth", "/usr/bin/hearth")
                              if (box.root / path[1:]).exists()))
        yield box
    finally:
        box.stop()


@pytest.fixture
def service(sandbox):
    """The system's units, the socket started and the service not."""
    sandbox.run("systemctl", "start", "hearthd.socket")
    yield sandbox
    sandbox.run("systemctl", "stop", "hearthd.socket", SYSTEM_UNIT)
    sandbox.run("systemctl", "reset-failed", check=False)


def shown(box, name, unit=SYSTEM_UNIT):
    return box.run("systemctl", "show", "-P", name, unit).stdout.strip()


def hearth_json(box, *arguments, **keywords):
    return json.loads(box.run(box.hearth, arguments[0], "--json", *arguments[1:], **keywords).stdout.splitlines()[-1])


def test_systemd_finds_nothing_wrong_with_the_units(sandbox):
    for manager in ("system", "user"):
        folder = pathlib.Path(sandbox.hearth).parents[1] / "lib" / "systemd" / manager
        verified = sandbox.run("systemd-analyze", f"--{manager}", "verify", folder / "hearthd.service",
                               folder / "hearthd.socket", check=False,
                               env={"XDG_RUNTIME_DIR": "/run/hearth"})
        assert (verified.returncode, verified.stderr) == (0, ""), manager
    exposure = sandbox.run("systemd-analyze", "security", "--no-pager", SYSTEM_UNIT).stdout
    level = re.search(r"Overall exposure level for hearthd.service: ([0-9.]+)", exposure)
    assert level and float(level[1]) < 1.0, exposure


def test_sysusers_and_tmpfiles_make_the_user_and_the_folder(sandbox):
    entry = sandbox.run("getent", "passwd", "hearth").stdout.strip().split(":")
    assert entry[5] == "/var/lib/hearth" and entry[6].endswith("nologin") and 0 < int(entry[2]) < 1000
    folder = (sandbox.root / "run" / "hearth").stat()
    assert stat.S_IMODE(folder.st_mode) == 0o755 and folder.st_uid == 0


def test_the_first_connection_starts_the_service_and_loads_under_its_hardening(service):
    assert shown(service, "ActiveState") == "inactive"
    loaded = hearth_json(service, "load", "/srv/model")
    assert loaded["state"] == "resident" and loaded["verified"] == "recorded" and loaded["bytes"] > 8 << 20
    assert shown(service, "ActiveState") == "active"  # Type=notify: READY=1 has come
    status = hearth_json(service, "status")
    assert status["pid"] == int(shown(service, "MainPID")) and status["socket"] == SOCKET
    assert "io_uring" in status["reader"]
    assert SOCKET in shown(service, "StatusText")
    uid = int(service.run("id", "-u", "hearth").stdout)
    about = (service.root / "proc" / str(status["pid"]) / "status").read_text()
    assert f"Uid:\t{uid}\t{uid}\t{uid}" in about and "CapEff:\t0000000000000000" in about
    assert "NoNewPrivs:\t1" in about and "Seccomp:\t2" in about
    inside = service.run("sha256sum", "/srv/model/model.safetensors").stdout.split()[0]
    ran = service.run(service.hearth, "run", "/srv/model", "--", "sha256sum", "{}/model.safetensors").stdout
    assert ran.split()[0] == inside


def nofile(box, pid):
    """The soft and the hard limit on open files."""
    limits = (box.root / "proc" / str(pid) / "limits").read_text()
    return [int(number) for number in re.search(r"Max open files +(\d+) +(\d+)", limits).groups()]


def test_descriptors_are_as_many_as_the_system_gives(service):
    hearth_json(service, "load", "/srv/model")
    soft, hard = nofile(service, shown(service, "MainPID"))
    # Where systemd may not raise its own limit, it gives what it has.
    assert soft == hard >= min(int(shown(service, "LimitNOFILE")), nofile(service, 1)[1])


def test_its_state_is_its_own_and_its_memory_stays_out_of_swap(service):
    hearth_json(service, "status")
    folder = (service.root / "var/lib/hearth").stat()
    assert stat.S_IMODE(folder.st_mode) == 0o700
    assert folder.st_uid == int(service.run("id", "-u", "hearth").stdout)
    pid = shown(service, "MainPID")
    environment = (service.root / "proc" / pid / "environ").read_bytes().split(b"\0")
    assert b"STATE_DIRECTORY=/var/lib/hearth" in environment
    assert shown(service, "MemorySwapMax") == "0"
    # Nothing else can be written to.
    mounts = (service.root / "proc" / pid / "mountinfo").read_text().splitlines()
    (root,) = [line.split()[5] for line in mounts if line.split()[4] == "/"]
    assert "ro" in root.split(",")


def test_a_reload_keeps_what_is_resident(service):
    id_ = hearth_json(service, "load", "/srv/model")["id"]
    pid = hearth_json(service, "status")["pid"]
    conf = service.root / "etc/hearth/hearthd.conf"
    conf.parent.mkdir(exist_ok=True)
    conf.write_text("budget = 512MiB\n[source srv]\npath = /srv\nload = 65534\n")
    try:
        service.run("systemctl", "reload", SYSTEM_UNIT)
        wait_until(lambda: hearth_json(service, "status")["budget"] == 512 << 20, "the budget is taken")
        assert hearth_json(service, "status")["pid"] == pid
        assert [a["id"] for a in hearth_json(service, "ls")["artifacts"]] == [id_]
        assert hearth_json(service, "load", "srv/model", uid=65534)["state"] == "resident"
    finally:
        conf.unlink()
        service.run("systemctl", "reload", SYSTEM_UNIT)
    wait_until(lambda: hearth_json(service, "status")["configuration"] == "none", "it is taken back")


def test_the_socket_is_open_to_all_and_its_daemon_is_not(service):
    uid = int(service.run("id", "-u", "hearth").stdout)
    sock = (service.root / SOCKET[1:]).stat()
    assert stat.S_IMODE(sock.st_mode) == 0o666 and sock.st_uid == uid
    assert hearth_json(service, "status", uid=uid)["socket"] == SOCKET
    other = service.run(service.hearth, "--socket", SOCKET, "status", "--json", uid=65534, check=False)
    assert other.returncode != 0 and json.loads(other.stdout)["error"]["code"] == "denied"


def test_somebody_else_gets_a_daemon_of_their_own(service):
    home = service.root / "tmp" / "nobody"
    home.mkdir()
    os.chown(home, 65534, 65534)
    env = {"XDG_RUNTIME_DIR": "/tmp/nobody", "HOME": "/tmp/nobody"}
    loaded = hearth_json(service, "load", "/srv/model", uid=65534, env=env)
    assert loaded["state"] == "resident"
    assert hearth_json(service, "status", uid=65534, env=env)["socket"] == "/tmp/nobody/hearth/hearth.sock"
    service.run(service.hearth, "stop", uid=65534, env=env)


def test_the_journal_has_what_happened_as_fields(service):
    id_ = hearth_json(service, "load", "/srv/model")["id"]
    service.run(service.hearth, "load", "/srv/nothing", check=False)

    def entries(*matches):
        out = service.run("journalctl", "--no-pager", "-o", "json", *matches).stdout
        return [json.loads(line) for line in out.splitlines()]

    (loaded,) = wait_until(lambda: entries(f"HEARTH_ARTIFACT={id_}"), "the load is in the journal")
    assert loaded["HEARTH_REF"] == "/srv/model" and loaded["HEARTH_VERIFIED"] == "recorded"
    assert loaded["SYSLOG_IDENTIFIER"] == "hearthd" and loaded["_SYSTEMD_UNIT"] == SYSTEM_UNIT
    refused = wait_until(lambda: entries("HEARTH_FILE=/srv/nothing"), "the failure is in the journal")[-1]
    assert refused["HEARTH_CODE"] == "not_found" and "cannot be resolved" in refused["MESSAGE"]


def test_the_watchdog_ends_one_that_hangs_and_it_comes_back(service):
    drop_in = service.root / "run/systemd/system/hearthd.service.d"
    drop_in.mkdir(parents=True)
    (drop_in / "watchdog.conf").write_text("[Service]\nWatchdogSec=500ms\n")
    try:
        service.run("systemctl", "daemon-reload")
        pid = hearth_json(service, "status")["pid"]
        since = shown(service, "WatchdogTimestampMonotonic")
        wait_until(lambda: shown(service, "WatchdogTimestampMonotonic") != since, "the watchdog hears of it")
        assert int(shown(service, "MainPID")) == pid and shown(service, "NRestarts") == "0"
        service.run("kill", "-STOP", str(pid))
        wait_until(lambda: int(shown(service, "NRestarts")) > 0, "it is started again")
        wait_until(lambda: shown(service, "ActiveState") == "active", "it is up again")
        assert hearth_json(service, "status")["pid"] != pid
    finally:
        (drop_in / "watchdog.conf").unlink()
        drop_in.rmdir()
        service.run("systemctl", "daemon-reload")


def test_a_restart_and_a_stop_are_clean_and_the_socket_stays(service):
    first = hearth_json(service, "status")["pid"]
    service.run("systemctl", "restart", SYSTEM_UNIT)
    assert hearth_json(service, "status")["pid"] != first
    service.run("systemctl", "stop", SYSTEM_UNIT)
    assert (shown(service, "ActiveState"), shown(service, "Result")) == ("inactive", "success")
    assert shown(service, "ExecMainStatus") == "0"
    assert hearth_json(service, "status")["pid"] > 0  # started again by the socket
    service.run("systemctl", "stop", "hearthd.socket", SYSTEM_UNIT)
    assert not (service.root / SOCKET[1:]).exists()


def test_a_users_manager_runs_the_user_unit(sandbox):
    uid, runtime = 65534, "/run/user/65534"
    env = {"XDG_RUNTIME_DIR": runtime, "HOME": runtime}
    for folder in ("run/user", runtime[1:]):
        (sandbox.root / folder).mkdir(mode=0o755, exist_ok=True)
    os.chown(sandbox.root / runtime[1:], uid, uid)
    (sandbox.root / runtime[1:]).chmod(0o700)
    sandbox.run("systemd-run", "--unit=manager", f"--uid={uid}", f"--gid={uid}", "-p", "Type=notify", "-p",
                "Delegate=yes", "-E", f"XDG_RUNTIME_DIR={runtime}", "-E", f"HOME={runtime}", systemd_sandbox.SYSTEMD,
                "--user")
    try:
        sandbox.run("systemctl", "--user", "start", "hearthd.socket", uid=uid, env=env)
        loaded = hearth_json(sandbox, "load", "/srv/model", uid=uid, env=env)
        assert loaded["state"] == "resident"
        show = sandbox.run("systemctl", "--user", "show", "-P", "MainPID", SYSTEM_UNIT, uid=uid, env=env)
        status = hearth_json(sandbox, "status", uid=uid, env=env)
        assert status["pid"] == int(show.stdout) and status["socket"] == f"{runtime}/hearth/hearth.sock"
        sandbox.run("systemctl", "--user", "stop", SYSTEM_UNIT, uid=uid, env=env)
        result = sandbox.run("systemctl", "--user", "show", "-P", "Result", SYSTEM_UNIT, uid=uid, env=env)
        assert result.stdout.strip() == "success"
    finally:
        sandbox.run("systemctl", "stop", "manager")
