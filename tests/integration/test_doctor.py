"""`hearth doctor`: what it finds here, without a daemon and with one, and that it changes nothing."""

import json
import os
import pathlib
import socket
import subprocess

import pytest
from test_cli import Cli, cli, validate  # noqa: F401

LEVELS = ["ok", "note", "warning", "problem"]


@pytest.fixture
def alone(bin_dir, tmp_path):
    """Without any daemon, and with a place for one."""
    base = {k: v for k, v in os.environ.items() if not k.startswith(("HEARTH_", "XDG_"))}
    (tmp_path / "run").mkdir(mode=0o700)
    return Cli(bin_dir, {**base, "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path / "run")})


def examine(cli, *arguments, status=0, **keywords):
    document = json.loads(cli("doctor", "--json", *arguments, status=status, **keywords).stdout)
    validate(document, "doctor")
    assert document["verdict"] == max((f["level"] for f in document["findings"]), key=LEVELS.index)
    return document


def finding(document, check):
    found = [f for f in document["findings"] if f["check"] == check]
    assert len(found) == 1, document
    return found[0]


def test_it_works_without_a_daemon_and_changes_nothing(alone, tmp_path):
    document = examine(alone)
    assert finding(document, "daemon")["level"] == "note"
    assert "none answers" in finding(document, "daemon")["found"]
    assert finding(document, "kernel")["found"] == f"Linux {os.uname().release}"
    assert finding(document, "memfd")["level"] in ("ok", "note")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["run"]


def test_everything_that_is_not_ok_says_more(alone):
    for f in examine(alone)["findings"]:
        assert f["level"] == "ok" or f["cost"] or f["mend"], f


def test_people_get_a_line_a_finding(alone):
    text = alone("doctor").stdout.decode()
    assert any(line.startswith("ok ") and " kernel " in line for line in text.splitlines())
    assert text.rstrip().splitlines()[-1].startswith("0 problems, ")


def test_the_daemon_reached_is_described(cli, daemon):
    document = examine(cli)
    found = finding(document, "daemon")
    assert found["level"] == "ok"
    assert f"pid {daemon.pid}, uid {os.getuid()}" in found["found"] and daemon.socket in found["found"]
    assert "mode 0600" in finding(document, "socket")["found"]


def test_the_state_directory_is_the_daemons(cli, daemon, bin_dir, make_daemon, tmp_path):  # noqa: F811
    assert finding(examine(cli), "state directory")["level"] == "ok"
    other = make_daemon("--state-dir", "none", name="forgetful")
    found = finding(examine(Cli(bin_dir, other.env)), "state directory")
    assert found["level"] == "note" and "state-dir is none" in found["found"]
    blocked = tmp_path / "blocked"
    blocked.write_text("no directory")
    third = make_daemon("--state-dir", str(blocked / "state"), name="third")
    found = finding(examine(Cli(bin_dir, third.env)), "state directory")
    assert found["level"] == "warning" and str(blocked) in found["found"]


def test_a_socket_of_an_option_beats_the_environment(alone, daemon):
    assert daemon.socket in finding(examine(alone, "--socket", daemon.socket), "daemon")["found"]


def test_storage_is_described_and_measured(alone, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    with open(folder / "weights.bin", "wb") as f:
        for _ in range(48):
            f.write(os.urandom(1 << 20))
        f.flush()
        os.fsync(f.fileno())
    found = finding(examine(alone, folder), "storage")
    assert str(folder / "weights.bin") in found["found"]
    if "no direct I/O" not in found["found"]:
        assert found["direct_gb_per_s"] > 0


def test_storage_that_is_not_there_is_a_problem(alone, tmp_path):
    document = examine(alone, tmp_path / "none", status=1)
    assert document["verdict"] == "problem" and "error" not in document
    assert "No such file" in finding(document, "storage")["found"]


def test_a_directory_that_everybody_may_write_is_a_problem(alone, tmp_path):
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    found = finding(examine(alone, "--socket", folder / "hearth.sock", status=1), "socket")
    assert found["level"] == "problem" and found["mend"] == f"chmod go-w {folder}"


def test_a_directory_in_tmp_that_is_not_ours_is_a_problem(alone, tmp_path):
    """The rule that hearthd and libhearth have too."""
    fallback = pathlib.Path(f"/tmp/hearth-{os.geteuid()}")
    if fallback.exists():
        pytest.skip(f"{fallback} is somebody's")
    fallback.mkdir(mode=0o755)
    try:
        document = examine(alone, env={"XDG_RUNTIME_DIR": ""}, status=1)
        assert "cannot be trusted" in finding(document, "socket")["found"]
    finally:
        fallback.rmdir()


def test_a_runtime_directory_that_is_missing_is_a_problem(alone, tmp_path):
    document = examine(alone, env={"XDG_RUNTIME_DIR": str(tmp_path / "gone")}, status=1)
    assert "there is no directory" in finding(document, "socket")["found"]


def test_a_daemon_that_does_not_answer_is_a_problem(alone, tmp_path):
    path = tmp_path / "silent.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
        s.bind(str(path))
        s.listen()
        found = finding(examine(alone, "--socket", path, status=1), "daemon")
    assert found["level"] == "problem"


def test_it_works_without_a_home(alone):
    env = {k: v for k, v in alone.env.items() if k != "HOME"}
    bare = Cli(pathlib.Path(alone.program).parent, env)
    assert finding(examine(bare), "state directory")["level"] == "warning"


def test_a_refused_io_uring_is_told(alone, bin_dir):
    refused = bin_dir.parent / "tests" / "hearth-no-io-uring"
    if not refused.exists():
        pytest.skip("the helper that refuses io_uring is not built")
    done = subprocess.run([refused, alone.program, "doctor", "--json"], env=alone.env, capture_output=True)
    assert done.returncode == 0
    found = finding(json.loads(done.stdout), "io_uring")
    assert found["level"] == "note" and "seccomp" in found["found"] and "--security-opt" in found["mend"]


def test_few_descriptors_are_told(alone, bin_dir):
    done = alone.start("doctor", "--json", preexec_fn=lower_descriptors)
    document = json.loads(done.communicate()[0])
    assert done.returncode == 1
    found = finding(document, "open files")
    assert found["level"] == "problem" and "at most 100" in found["found"]


def lower_descriptors():
    import resource

    resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
