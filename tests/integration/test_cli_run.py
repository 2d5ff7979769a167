"""hearth run: unmodified programs on resident artifacts; statuses, signals, and nothing left behind."""

import hashlib
import os
import pathlib
import signal
import subprocess
import sys
import termios
import time

import pytest
from conftest import DEADLINE, wait_until

FILES = {"weights.bin": bytes(range(256)) * 5000, "config.json": b'{"a": 1}', "deep/er/file.txt": b"x\n", "empty": b""}


@pytest.fixture
def artifact(tmp_path):
    folder = tmp_path / "an artifact"
    for name, data in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


@pytest.fixture
def place(tmp_path):
    """Where the private directories are made: must be empty again after each test."""
    folder = tmp_path / "runtime"
    folder.mkdir(mode=0o700)
    yield folder
    assert list(folder.iterdir()) == []


@pytest.fixture
def env(bin_dir, daemon, place):
    return {**daemon.env, "HEARTH_AUTOSTART": "0", "XDG_RUNTIME_DIR": str(place), "HEARTH": str(bin_dir / "hearth")}


@pytest.fixture
def run(env):
    def call(refs, *command, status=0, **keywords):
        arguments = [env["HEARTH"], "run", *map(str, refs), "--", *map(str, command)]
        done = subprocess.run(arguments, env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=DEADLINE,
                              **keywords)
        assert done.returncode == status, done
        return done

    return call


@pytest.fixture
def start(env):
    started = []

    def call(refs, *command, **keywords):
        arguments = [env["HEARTH"], "run", *map(str, refs), "--", *map(str, command)]
        started.append(subprocess.Popen(arguments, env=env, stdout=subprocess.PIPE, **keywords))
        return started[-1]

    yield call
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait(DEADLINE)


# ---- what the program sees ----


def test_the_directory_looks_like_the_artifact(run, artifact):
    script = r"""
import os, sys, hashlib
root = sys.argv[1]
for folder, _, names in os.walk(root):
    assert os.stat(folder).st_mode & 0o777 == 0o700
    for name in names:
        path = os.path.join(folder, name)
        print(os.path.relpath(path, root), hashlib.sha256(open(path, "rb").read()).hexdigest(), sep="\t")
"""
    lines = run([artifact], sys.executable, "-c", script, "{}").stdout.decode().splitlines()
    expected = {name: hashlib.sha256(data).hexdigest() for name, data in FILES.items()}
    assert dict(line.split("\t") for line in lines) == expected


def test_its_last_part_is_the_artifacts_name(run, artifact):
    shown = run([artifact], "echo", "{}").stdout.decode().strip()
    assert shown.endswith("/an artifact")


def test_a_single_file_is_in_a_directory(run, artifact):
    assert run([artifact / "weights.bin"], "cat", "{}/weights.bin").stdout == FILES["weights.bin"]


def test_several_artifacts_have_numbers(run, artifact):
    done = run([artifact, artifact / "weights.bin"], "sh", "-c",
               'cmp "{1}/weights.bin" "{2}/weights.bin" && echo "{}|{1}|$HEARTH_DIR|$HEARTH_DIR_1"; echo a{3}; '
               'test "{2}" = "$HEARTH_DIR_2"')
    first, rest = done.stdout.decode().splitlines()
    assert len(set(first.split("|"))) == 1
    assert rest == "a{3}"


def test_children_that_close_what_they_inherit_read_it_too(run, artifact):
    script = ("import subprocess, sys; sys.exit(subprocess.run(['cat', sys.argv[1] + '/config.json'],"
              " close_fds=True, start_new_session=True).returncode)")
    assert run([artifact], sys.executable, "-c", script, "{}").stdout == FILES["config.json"]


def test_nothing_can_be_written_through_the_links(run, artifact):
    run([artifact], "sh", "-c", 'echo x > "{}/config.json"', status=2)
    assert run([artifact], "cat", "{}/config.json").stdout == FILES["config.json"]


def test_the_files_outlive_their_originals_and_the_daemon(start, artifact, daemon):
    process = start([artifact], "sh", "-c", 'echo ready; read x; cat "{}/config.json"', stdin=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    (artifact / "config.json").unlink()
    assert daemon.stop() == 0
    process.stdin.write(b"\n")
    process.stdin.close()
    assert process.stdout.read() == FILES["config.json"]
    assert process.wait(DEADLINE) == 0


def test_transformers_style_loading_works(run, tmp_path):
    np = pytest.importorskip("numpy", reason="numpy is not installed")
    files = pytest.importorskip("safetensors.numpy", reason="the safetensors library is not installed")
    path = tmp_path / "model.safetensors"
    files.save_file({"w": np.arange(1000, dtype=np.float32)}, path)
    script = ("import sys; from safetensors.numpy import load_file; "
              "print(int(load_file(sys.argv[1] + '/model.safetensors')['w'].sum()))")
    assert run([path], sys.executable, "-c", script, "{}").stdout == b"499500\n"


# ---- statuses ----


@pytest.mark.parametrize("script, status", [("exit 0", 0), ("exit 2", 2), ("exit 125", 125), ("exit 255", 255),
                                            ("kill -9 $$", 137), ("kill -15 $$", 143), ("kill -11 $$", 139)])
def test_the_programs_status_is_passed_on(run, artifact, script, status):
    run([artifact], "sh", "-c", script, status=status)


def test_what_cannot_be_run_has_the_statuses_of_env(run, artifact, tmp_path):
    assert b"no-such-program" in run([artifact], "no-such-program", status=127).stderr
    (tmp_path / "plain").write_text("not a program")
    run([artifact], tmp_path / "plain", status=126)
    run([artifact], tmp_path, status=126)


def test_hearths_own_failures_are_125(run, env, artifact, tmp_path):
    run([tmp_path / "none"], "true", status=125)
    (tmp_path / "bad.safetensors").write_bytes(b"\xff" * 10)
    assert b"bad.safetensors" in run([tmp_path / "bad.safetensors"], "true", status=125).stderr
    for arguments in (["run"], ["run", "x"], ["run", "x", "--"], ["run", "--no", "x", "--", "true"]):
        done = subprocess.run([env["HEARTH"], *arguments], env=env, capture_output=True, timeout=DEADLINE)
        assert done.returncode == 125, (arguments, done)


# ---- signals ----


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1,
                                 signal.SIGUSR2, signal.SIGALRM])
def test_a_signal_reaches_the_program_once(start, artifact, sig):
    script = f"""
import signal, sys
got = []
signal.signal({int(sig)}, lambda *_: got.append(1))
print("ready", flush=True)
while not got:
    signal.pause()
signal.sigtimedwait([], 0.3)
sys.exit(40 + len(got))
"""
    process = start([artifact], sys.executable, "-c", script)
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(sig)
    assert process.wait(DEADLINE) == 41


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE])
def test_a_program_that_dies_of_a_passed_signal_leaves_nothing(start, artifact, place, sig):
    process = start([artifact], "sh", "-c", "echo ready; exec sleep 1000")
    assert process.stdout.readline() == b"ready\n"
    assert len(list(place.iterdir())) == 1
    if sig == signal.SIGPIPE:  # hearth's own affair: it neither dies nor passes it on
        process.send_signal(sig)
        sig = signal.SIGTERM
    process.send_signal(sig)
    assert process.wait(DEADLINE) == 128 + sig


def test_a_killed_hearth_takes_the_program_along(start, artifact, place):
    process = start([artifact], "sh", "-c", "echo $$; exec sleep 1000")
    pid = int(process.stdout.readline())
    process.kill()
    process.wait(DEADLINE)
    wait_until(lambda: not pathlib.Path(f"/proc/{pid}").exists(), "the program ends")
    for left in place.iterdir():  # SIGKILL cannot be caught: what is left is links that lead nowhere
        subprocess.run(["rm", "-r", left], check=True)


def state_of(pid):
    return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]


def test_ctrl_z_and_fg_in_a_real_shell(env, artifact):
    """An interactive shell on a terminal: ^Z stops the job, fg goes on with it, ^C ends it."""
    leader, follower = os.openpty()
    attributes = termios.tcgetattr(follower)
    attributes[3] &= ~termios.ECHO
    termios.tcsetattr(follower, termios.TCSANOW, attributes)

    def become_session_leader():
        os.setsid()
        import fcntl

        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    shell = subprocess.Popen(["bash", "--norc", "--noprofile", "--noediting", "-i"], stdin=follower, stdout=follower,
                             stderr=follower, env={**env, "PS1": "@ ", "HISTFILE": "/dev/null"},
                             preexec_fn=become_session_leader)
    os.close(follower)
    seen = bytearray()

    def expect(what):
        end = time.monotonic() + DEADLINE
        while what not in seen:
            assert time.monotonic() < end, bytes(seen)
            seen.extend(os.read(leader, 4096))
        del seen[: seen.index(what) + len(what)]

    try:
        expect(b"@ ")
        command = f"'{env['HEARTH']}' run '{artifact}' -- sh -c 'echo pid=$$=; exec sleep 1000'\n"
        os.write(leader, command.encode())
        expect(b"pid=")
        expect(b"\n")
        pid = wait_until(  # what it echoed, it did before it became that program
            lambda: next((int(p.name) for p in pathlib.Path("/proc").iterdir()
                          if p.name.isdigit() and is_sleep_under(p, shell.pid)), None), "the program runs")
        os.write(leader, b"\x1a")
        expect(b"Stopped")
        assert state_of(pid) == "T"
        os.write(leader, b"fg\n")
        wait_until(lambda: state_of(pid) == "S", "the program goes on")
        os.write(leader, b"\x03")
        expect(b"@ ")
        os.write(leader, b"echo status=$?=\n")
        expect(b"status=130=")
        os.write(leader, b"exit\n")
        assert shell.wait(DEADLINE) == 130 or shell.returncode == 0
    finally:
        shell.kill()
        shell.wait()
        os.close(leader)


def is_sleep_under(process, shell):
    """A `sleep` whose grandparent is the shell."""
    try:
        name, rest = (process / "stat").read_text().split("(", 1)[1].rsplit(")", 1)
        parent = rest.split()[1]
        grandparent = pathlib.Path(f"/proc/{parent}/stat").read_text().rsplit(")", 1)[1].split()[1]
    except (OSError, IndexError):
        return False
    return name == "sleep" and int(grandparent) == shell
