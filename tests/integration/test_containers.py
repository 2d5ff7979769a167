"""Containers, without a container engine: hearthd as process 1 of namespaces of its own, and clients whose mounts, users
and processes are others than the daemon's."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile

import packets
import pytest
from conftest import DEADLINE, SANITIZER_MARKS, children_of, wait_until
from packets import Client, Refused, make_safetensors

# What is root inside of the namespaces is the user who runs the tests outside.
UNSHARE = ("unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--ipc",
           "--uts", "--net")


@pytest.fixture(autouse=True)
def _namespaces(sanitizer):
    if sanitizer == "tsan":
        pytest.skip("ThreadSanitizer wants to change its personality and start again, which it cannot here")
    if not shutil.which("unshare"):
        pytest.skip("unshare is not installed")
    tried = subprocess.run([*UNSHARE, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, text=True)
    if tried.returncode != 0:
        pytest.skip(f"no namespaces can be made here: {tried.stderr.strip()}")


# ---- clients with other mounts than the daemon's ----


@pytest.fixture
def model(tmp_path):
    (tmp_path / "model").mkdir()
    make_safetensors(tmp_path / "model" / "model.safetensors", 4096, os.urandom(4096))
    return tmp_path / "model"


@pytest.fixture
def other(tmp_path):
    """Another artifact, with the same names and sizes."""
    (tmp_path / "other").mkdir()
    make_safetensors(tmp_path / "other" / "model.safetensors", 4096, os.urandom(4096))
    return tmp_path / "other"


@pytest.fixture
def elsewhere(bin_dir, daemon):
    """elsewhere(SCRIPT, ARGUMENT...) runs `hearth --json ARGUMENT...` where SCRIPT has been run, in namespaces of its own:
    (exit status, document)."""

    def run(script, *arguments):
        done = subprocess.run(
            [*UNSHARE, "sh", "-euc", f'{script}\nexec "$@"', "sh", bin_dir / "hearth", *map(str, arguments), "--json"],
            env=daemon.env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=DEADLINE,
        )
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)

    return run


def test_what_a_client_sees_at_the_same_place_is_served(elsewhere, model):
    status, loaded = elsewhere(f"mount --bind {model} {model}", "load", model)
    assert (status, loaded["state"]) == (0, "resident")
    status, loaded = elsewhere("", "load", model / "model.safetensors")
    assert (status, loaded["state"]) == (0, "resident")


@pytest.mark.parametrize("inside", ["", "model.safetensors"], ids=["directory", "file"])
def test_another_file_at_the_same_path_is_refused(elsewhere, daemon, model, other, inside):
    status, document = elsewhere(f"mount --bind {other} {model}", "load", model / inside)
    error = document["error"]
    assert (status, error["code"]) == (4, "changed")
    assert error["file"].rstrip("/") == str(model / inside).rstrip("/")
    assert f"inode {(other / inside).stat().st_ino}" in error["expected"]
    assert f"inode {(model / inside).stat().st_ino}" in error["found"]
    assert "mount namespace" in error["hint"]
    with Client(daemon.socket) as client:
        assert client.list() == []


def test_what_is_resident_is_not_taken_for_what_a_client_sees_there(elsewhere, daemon, model, other):
    with Client(daemon.socket) as client:
        id_ = client.load(model)["id"]
        status, document = elsewhere(f"mount --bind {other} {model}", "load", model)
        assert (status, document["error"]["code"]) == (4, "changed")
        (listed,) = client.list()  # and for others nothing has changed
        assert listed["id"] == id_ and not listed["flags"] & packets.STALE


def test_a_link_is_what_it_leads_to(elsewhere, model, other, tmp_path):
    (tmp_path / "link").symlink_to("model")
    status, loaded = elsewhere(f"mount --bind {model} {model}", "load", tmp_path / "link")
    assert (status, loaded["state"]) == (0, "resident")
    status, document = elsewhere(f"mount --bind {other} {model}", "load", tmp_path / "link")
    assert (status, document["error"]["code"]) == (4, "changed")


def test_what_only_the_client_sees_is_not_found_and_says_where_to_look(elsewhere, model, tmp_path):
    (tmp_path / "mine").mkdir()
    script = f"mount -t tmpfs tmpfs {tmp_path}/mine; cp -r {model} {tmp_path}/mine/"
    status, document = elsewhere(script, "load", tmp_path / "mine" / "model")
    assert (status, document["error"]["code"]) == (1, "not_found")
    assert "the client sees" in document["error"]["hint"]
    status, document = elsewhere("", "load", tmp_path / "nowhere")
    assert document["error"]["code"] == "not_found" and not document["error"]["hint"]


def test_what_a_client_cannot_see_is_what_the_daemon_sees(elsewhere, model):
    status, loaded = elsewhere(f"mount -t tmpfs tmpfs {model}", "load", model / "model.safetensors")
    assert (status, loaded["state"]) == (0, "resident")


def test_a_program_of_the_client_runs_on_it(elsewhere, bin_dir, daemon, model):
    done = subprocess.run(
        [*UNSHARE, bin_dir / "hearth", "run", model, "--", "sha256sum", "{}/model.safetensors"],
        env=daemon.env, capture_output=True, text=True, timeout=DEADLINE,
    )
    inside = subprocess.run(["sha256sum", model / "model.safetensors"], capture_output=True, text=True).stdout
    assert done.stdout.split()[0] == inside.split()[0], done.stderr


def test_run_as_process_1_collects_what_its_program_leaves_behind(bin_dir, daemon, model):
    program = "(sleep 0.1 & ); echo $PPID; sleep 0.5; grep -l 'State:.Z' /proc/[0-9]*/status"
    done = subprocess.run([*UNSHARE, bin_dir / "hearth", "run", model, "--", "sh", "-c", program], env=daemon.env,
                          capture_output=True, text=True, timeout=DEADLINE)
    assert (done.returncode, done.stdout) == (1, "1\n"), done  # grep found none


# ---- hearthd inside of a container ----


# $1: a folder that can be written to, all else is read-only. Then what is run as process 1.
CONTAINER = r"""
mount --bind "$1" "$1"
mount -o remount,bind,ro /
mount -t tmpfs -o size=64k tmpfs /dev/shm
mount -t tmpfs -o ro tmpfs /sys
cd /
shift
exec env -i "$@"
"""


class Container:
    """A hearthd that is process 1 of its namespaces, with as little around it as there may be."""

    def __init__(self, program, folder, *flags, script=CONTAINER, starter=()):
        self.folder, self.socket, self.log_path = folder, str(folder / "hearth.sock"), folder / "log"
        command = [*starter, *UNSHARE, "sh", "-euc", script, "sh", folder, *program, "--socket", self.socket, *flags]
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def log(self):
        return self.log_path.read_text(errors="replace")

    def wait_ready(self):
        wait_until(lambda: "listening on" in self.log() or self.process.poll() is not None, "hearthd is ready")
        assert self.process.poll() is None, self.log()
        (self.init,) = children_of(self.process.pid)
        return self

    def inside(self, *command):
        """Runs a program inside, beside it."""
        nsenter = ["nsenter", "-t", str(self.init), "--user", "--preserve-credentials", "--mount", "--pid"]
        return subprocess.run([*nsenter, *map(str, command)], capture_output=True, text=True, timeout=DEADLINE)

    def end(self):
        """Its exit status; it is killed if it does not end."""
        try:
            return self.process.wait(DEADLINE)
        finally:
            self.process.kill()
            self.process.wait()
            assert not any(mark in self.log() for mark in SANITIZER_MARKS), self.log()


@pytest.fixture
def contained(bin_dir, tmp_path):
    started = []

    def start(*flags, **keywords):
        refused = bin_dir.parent / "tests" / "hearth-no-io-uring"
        if not refused.exists():
            pytest.skip(f"{refused} is not built")
        (tmp_path / "box").mkdir()
        started.append(Container([refused, bin_dir / "hearthd"], tmp_path / "box", *flags, **keywords))
        return started[-1]

    yield start
    for container in started:
        if container.process.poll() is None:
            container.process.kill()
            container.process.wait()


def test_it_serves_as_process_1_and_says_what_it_has_to_do_without(contained, model):
    container = contained().wait_ready()
    assert pathlib.Path(f"/proc/{container.init}/exe").resolve().name == "hearthd"
    with Client(container.socket) as client:
        info = client.load(model)
        assert info["state"] == packets.RESIDENT and client.status()["pid"] > 0
        for fd in client.attach(info["id"]):
            os.close(fd)
    assert "reads by pread" in container.log()
    os.kill(container.init, signal.SIGTERM)
    assert container.end() == 0
    assert not os.path.lexists(container.socket)


@pytest.mark.parametrize("how", ["inside", "outside"])
def test_process_1_ends_on_sigterm_from(contained, how):
    container = contained().wait_ready()
    if how == "inside":
        # All that is inside goes with process 1: kill itself, too, if it has not ended by then.
        assert container.inside("kill", "-TERM", "1").returncode in (0, -signal.SIGKILL)
    else:
        os.kill(container.init, signal.SIGTERM)
    assert container.end() == 0
    assert "ending: signal 15" in container.log()


def test_process_1_ends_as_the_daemon_does(contained):
    container = contained().wait_ready()
    (daemon,) = children_of(container.init)
    os.kill(daemon, signal.SIGKILL)
    assert container.end() == 128 + signal.SIGKILL


def test_process_1_says_why_it_cannot_start(contained):
    container = contained("--budget", "nothing")
    assert container.end() == 2


def test_process_1_collects_what_others_leave_behind(contained):
    container = contained().wait_ready()
    before = children_of(container.init)
    assert len(before) == 1
    # Its child has been given to process 1 when this returns, and ends a moment later.
    done = container.inside("sh", "-c", "(sleep 0.2 & echo $!) ")
    assert done.returncode == 0, done.stderr
    wait_until(lambda: children_of(container.init) == before, "it is collected")


def test_how_a_parser_ends_is_not_lost_to_process_1(contained, tmp_path):
    container = contained().wait_ready()
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(b"\xff" * 64)
    (daemon,) = children_of(container.init)
    with Client(container.socket) as client:
        for _ in range(3):
            with pytest.raises(Refused) as caught:
                client.load(bad)
            assert caught.value.code == "malformed"
        wait_until(lambda: not children_of(daemon), "no helper is left")
        assert client.load(make_safetensors(tmp_path / "good.safetensors", 100))["state"] == packets.RESIDENT


def test_without_proc_it_says_so_and_ends(contained, sanitizer):
    if sanitizer:
        pytest.skip("sanitizers themselves need /proc")
    container = contained(script=CONTAINER.replace("cd /\n", "mount -t tmpfs -o ro tmpfs /proc\ncd /\n"))
    assert container.end() == 1
    (line,) = container.log().splitlines()
    assert "cannot work without /proc" in line and "hint: mount it" in line


def test_without_a_place_for_its_socket_it_says_so_and_ends(contained, bin_dir):
    container = contained(script=CONTAINER.replace('"$@"', f'{bin_dir}/hearthd'))
    assert container.end() == 1
    (line,) = container.log().splitlines()
    assert "/tmp/hearth-0" in line and "Read-only file system" in line


def test_a_client_in_a_container_uses_a_daemon_in_another(contained, bin_dir, model, tmp_path):
    """The socket is bind-mounted; the client's mounts, processes and users are its own."""
    container = contained().wait_ready()
    (tmp_path / "run").mkdir()
    script = f"mount --bind {container.folder} {tmp_path}/run\n" 'exec "$@"'
    arguments = ["run", model, "--", "cat", "{}/model.safetensors"]
    command = [*UNSHARE, "sh", "-euc", script, "sh", bin_dir / "hearth", "--socket", tmp_path / "run" / "hearth.sock"]
    done = subprocess.run([*command, *arguments], capture_output=True, timeout=DEADLINE)
    assert done.returncode == 0, done.stderr
    assert done.stdout == (model / "model.safetensors").read_bytes()


def test_who_has_no_pid_here_is_named_all_the_same(contained, model):
    container = contained().wait_ready()
    with Client(container.socket) as client:  # whose pid namespace is around the daemon's
        id_ = client.load(model)["id"]
        for fd in client.attach(id_):
            os.close(fd)
        with pytest.raises(Refused) as caught:
            client.evict(id_)
        assert caught.value.code == "busy" and caught.value.found == "tests (in another pid namespace)"
        client.detach(id_)


def test_who_has_no_uid_in_its_namespace_is_nobody_and_told_so(bin_dir):
    if os.geteuid() != 0:
        pytest.skip("it takes two users: a daemon of nobody's, and root outside of its namespace")
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:  # $TMPDIR and pytest's folders may be closed to nobody
        folder = pathlib.Path(name)
        folder.chmod(0o755)
        (folder / "box").mkdir()
        os.chown(folder / "box", 65534, 65534)
        nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all")
        container = Container([bin_dir / "hearthd"], folder / "box", starter=nobody)
        try:
            wait_until(lambda: "listening on" in container.log() or container.process.poll() is not None, "hearthd is ready")
            if container.process.poll() is not None:
                pytest.skip(f"nobody cannot start it: {container.log()}")
            with Client(container.socket, hello=False) as client:
                error = client.receive().error()
            assert error.code == "denied" and "another user namespace" in error.message
        finally:
            container.process.kill()
            container.end()


# In a user namespace with some ids: hearthd as uid 65534 of it, behind a socket that is open to all.
AS_NOBODY = """
echo ready; read go
exec setpriv --reuid=65534 --regid=65534 --clear-groups "$@"
"""


def test_in_a_user_namespace_no_stranger_is_taken_for_nobody(bin_dir):
    if os.geteuid() != 0:
        pytest.skip("only root can map more users than itself")
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:  # as above
        folder = pathlib.Path(name)
        folder.chmod(0o755)
        (folder / "box").mkdir()
        os.chown(folder / "box", 65534, 65534)
        make_safetensors(folder / "model.safetensors", 100)
        config = folder / "hearthd.conf"
        config.write_text(f"[source all]\npath = {folder}\nadminister = 65534\nattach = 100000\n")
        sock = folder / "box" / "hearth.sock"
        process = subprocess.Popen(
            ["unshare", "--user", "sh", "-euc", AS_NOBODY, "sh", bin_dir / "hearthd", "--config", config, "--socket", sock],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            assert process.stdout.readline() == "ready\n"
            for which in ("uid_map", "gid_map"):
                pathlib.Path(f"/proc/{process.pid}/{which}").write_text("0 0 65536")
            process.stdin.write("go\n")
            process.stdin.flush()
            wait_until(lambda: sock.exists() or process.poll() is not None, "hearthd is ready")
            assert process.poll() is None, process.stderr.read()
            for uid, welcome in ((100000, False), (65534, False), (0, True)):
                asked = subprocess.run(["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", bin_dir / "hearth",
                                        "--socket", sock, "status", "--json"], capture_output=True, text=True)
                assert (asked.returncode == 0) == welcome, (uid, asked)
                assert welcome or json.loads(asked.stdout)["error"]["code"] == "denied"
        finally:
            process.terminate()
            _, log = process.communicate(timeout=DEADLINE)
            assert not any(mark in log for mark in SANITIZER_MARKS), log
