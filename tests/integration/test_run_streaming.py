"""hearth run while the artifact still loads: opening a file waits until it is complete and verified, and whoever cannot be
given that is ended."""

import hashlib
import os
import pathlib
import select
import signal
import subprocess
import sys

import pytest
from conftest import DEADLINE, children_of, wait_until
from packets import LOADING, Client
from test_streaming import make_shards, write_digests

BREAK_TIME = pathlib.Path("/proc/sys/fs/lease-break-time")
MIB = 1 << 20
FIRST, LAST = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
# Says that it has started, and the SHA-256 of each file that it is told on its standard input, as it reads it.
PROGRAM = """
import hashlib, os, signal, sys
{before}
print("started", flush=True)
for line in sys.stdin:
    with open(os.path.join(sys.argv[1], line.strip()), "rb") as f:
        print(hashlib.sha256(f.read()).hexdigest(), flush=True)
"""


@pytest.fixture
def model(storage):  # noqa: F811
    """Two shards. Some bytes behind their heads cannot be read: the rules of each shard."""
    make_shards(storage.shown / "m", bytes_=5 * MIB)
    rules = {FIRST: [f"read {FIRST} {9 * MIB}"], LAST: [f"read {LAST} {at * MIB}" for at in (5, 9, 13, 17)]}
    storage.rules(*rules[FIRST], *rules[LAST])
    return rules


@pytest.fixture
def run(bin_dir, served, storage, tmp_path):  # noqa: F811
    """run(OPTION...): hearth run on the model, with PROGRAM."""
    started = []
    place = tmp_path / "runtime"
    place.mkdir(mode=0o700)
    env = {**served.env, "HEARTH_AUTOSTART": "0", "XDG_RUNTIME_DIR": str(place)}

    def call(*options, before="", command=None):
        command = command or [sys.executable, "-c", PROGRAM.format(before=before), "{}"]
        started.append(
            subprocess.Popen(
                [str(bin_dir / "hearth"), "run", *options, str(storage.at / "m"), "--", *command], env=env,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )
        )
        return started[-1]

    yield call
    storage.rules()
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait(DEADLINE)
    assert list(place.iterdir()) == []


def let_it_start(served, storage, model, process):  # noqa: F811
    """What is left becomes little, step by step, so that it is seen how fast: all of LAST comes, FIRST does not."""
    wait_until(lambda: attached(served), "hearth run has attached it")
    for left in range(3, -1, -1):
        storage.rules(*model[FIRST], *model[LAST][:left])
        if select.select([process.stdout], [], [], DEADLINE if left == 0 else 0.5)[0]:
            break
    storage.rules(*model[FIRST])
    assert process.stdout.readline() == "started\n"


def begin(served, storage, model, run, *options, **keywords):  # noqa: F811
    """The program has started, and FIRST cannot be read to its end."""
    process = run(*options, **keywords)
    let_it_start(served, storage, model, process)
    return process


def attached(daemon):
    with Client(daemon.socket) as client:
        return any(listed["leases"] for listed in client.list())


def tell(process, name):
    process.stdin.write(name + "\n")
    process.stdin.flush()


def digest(storage, name):  # noqa: F811
    return hashlib.sha256((storage.shown / "m" / name).read_bytes()).hexdigest() + "\n"


def expect_end(process, *said):
    """It fails as hearth does, says why, and the program has said nothing more."""
    output, errors = process.communicate(timeout=DEADLINE)
    assert process.returncode == 125 and output == "", (process.returncode, output, errors)
    for word in said:
        assert word in errors, errors


def test_files_can_be_opened_as_they_come(storage, served, model, run):  # noqa: F811
    process = begin(served, storage, model, run)
    tell(process, LAST)
    assert process.stdout.readline() == digest(storage, LAST)
    with Client(served.socket) as client:
        assert client.list()[0]["state"] == LOADING
    tell(process, FIRST)  # waits
    storage.rules()
    assert process.stdout.readline() == digest(storage, FIRST)
    assert served.stop() == 0  # all is resident: the program needs nobody any more
    tell(process, LAST)
    assert process.stdout.readline() == digest(storage, LAST)
    process.stdin.close()
    assert process.wait(DEADLINE) == 0


IGNORES = "signal.signal(signal.SIGTERM, lambda *_: None)"


@pytest.mark.parametrize("before", ["", IGNORES], ids=["plain", "that ignores SIGTERM"])
def test_a_load_that_fails_ends_the_program(storage, served, model, run, before):  # noqa: F811
    write_digests(storage.shown / "m", [FIRST])
    process = begin(served, storage, model, run, before=before)
    tell(process, FIRST)  # waits
    storage.rules()
    expect_end(process, FIRST, "SHA-256")


def test_what_the_program_has_started_is_ended_too(storage, served, model, run):  # noqa: F811
    write_digests(storage.shown / "m", [FIRST])
    inner = PROGRAM.format(before=IGNORES)
    process = run(command=["sh", "-c", f"setsid {sys.executable} -c '{inner}' {{}} <&0 & exec sleep 1000"])
    let_it_start(served, storage, model, process)
    tell(process, FIRST)
    (program,) = children_of(process.pid)
    children = children_of(program)
    assert len(children) == 1
    storage.rules()
    expect_end(process, FIRST)
    wait_until(lambda: not pathlib.Path(f"/proc/{children[0]}").exists(), "nobody is left")


def test_a_daemon_that_dies_before_the_end_ends_the_program(storage, served, model, run):  # noqa: F811
    process = begin(served, storage, model, run)
    tell(process, FIRST)  # waits
    served.checked = True
    served.process.kill()
    expect_end(process, "hung up")
    served.process.wait()
    pathlib.Path(served.socket).unlink()


def test_a_load_that_stalls_ends_the_program_before_the_kernel_lets_it_through(storage, served, model, run):  # noqa: F811
    usual = BREAK_TIME.read_text()
    try:
        BREAK_TIME.write_text("7")
    except OSError:
        pytest.skip("fs.lease-break-time cannot be set here")
    try:
        process = begin(served, storage, model, run)
        tell(process, FIRST)
        expect_end(process, "stalls", FIRST, "--wait")
    finally:
        BREAK_TIME.write_text(usual)


def test_with_wait_the_program_starts_when_all_is_there(storage, served, model, run):  # noqa: F811
    process = run("--wait")
    wait_until(storage.held, "it hangs")
    storage.rules(*model[FIRST])
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    with Client(served.socket) as client:
        assert client.list()[0]["leases"] == 0
    storage.rules()
    assert process.stdout.readline() == "started\n"
    tell(process, FIRST)
    assert process.stdout.readline() == digest(storage, FIRST)
    process.stdin.close()
    assert process.wait(DEADLINE) == 0


def test_an_interrupt_before_the_start_ends_the_load(storage, served, model, run):  # noqa: F811
    process = run()
    wait_until(lambda: attached(served), "hearth run has attached it")
    process.send_signal(signal.SIGINT)
    assert process.wait(DEADLINE) != 0
    storage.rules()
    with Client(served.socket) as client:
        wait_until(lambda: client.list() == [], "nobody waits for it")
