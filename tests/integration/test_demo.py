"""The demo leaves nothing behind, however it ends, and takes no nonsense."""

import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile

import pytest
from conftest import DEADLINE, ROOT, wait_until


@pytest.fixture
def demo(bin_dir, tmp_path):
    """A function that starts the demo in a session of its own, without the network."""
    if not (bin_dir / "hearth-worker").exists():
        pytest.skip(f"no hearth-worker in {bin_dir}: it was built without the benchmarks")
    place = pathlib.Path(tempfile.mkdtemp(prefix="hearth-test-", dir="/var/tmp"))  # a socket's path must be short
    env = {k: v for k, v in os.environ.items() if not k.startswith("HEARTH_")}
    env |= {"HEARTH_DEMO_DIR": str(place), "PIP_NO_INDEX": "1", "PYTHONDONTWRITEBYTECODE": "1"}

    def start(*arguments):
        program = [sys.executable, str(ROOT / "bench/demo.py")]
        folders = ["--bin", str(bin_dir), "--cache", str(tmp_path / "cache")]
        return subprocess.Popen([*program, *folders, *arguments], env=env, stdin=subprocess.DEVNULL, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)

    start.place = place
    yield start
    place.rmdir()


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_demo_and_leaves_nothing(demo, number):
    process = demo("--gib", "0.125")
    line = ""
    while not line.startswith("hearthd "):
        line = process.stdout.readline()
        if not line:
            errors = process.stderr.read()
            assert "demo: needs" in errors
            pytest.skip(errors)
    daemon = int(re.match(r"hearthd (\d+)", line)[1])
    assert list(demo.place.iterdir())
    process.send_signal(number)
    process.send_signal(number)  # a terminal that is closed and its shell send one each
    _, errors = process.communicate(timeout=DEADLINE)
    assert process.returncode == 128 + number
    assert errors == ""
    assert list(demo.place.iterdir()) == []
    wait_until(lambda: not os.path.exists(f"/proc/{daemon}"), "its daemon has ended")


@pytest.mark.parametrize("gib", ["0.1", "0", "-1", "nan", "inf"])
def test_a_size_that_makes_no_artifact_is_a_usage_error(demo, gib):
    process = demo(f"--gib={gib}")
    _, errors = process.communicate(timeout=DEADLINE)
    assert process.returncode == 2
    assert "--gib" in errors.splitlines()[-1]
    assert list(demo.place.iterdir()) == []
