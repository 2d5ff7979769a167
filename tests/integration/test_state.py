"""The state directory: where it is, and that no fault of it costs more than what it keeps."""

import json
import os
import subprocess

import pytest
from conftest import DEADLINE, wait_until


def status(daemon, bin_dir):
    done = subprocess.run([bin_dir / "hearth", "status", "--json"], env=daemon.env, capture_output=True, text=True,
                          timeout=DEADLINE)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def load(daemon, bin_dir, path, *options):
    done = subprocess.run([bin_dir / "hearth", "load", "--json", *options, path], env=daemon.env, capture_output=True,
                          text=True, timeout=DEADLINE)
    return done.returncode, json.loads(done.stdout)


@pytest.fixture
def artifact(tmp_path):
    path = tmp_path / "model"
    path.mkdir()
    (path / "weights.bin").write_bytes(os.urandom(1 << 20))
    return path


@pytest.mark.parametrize("variables, flags, place", [
    ({}, [], "{home}/.local/state/hearth"),
    ({"XDG_STATE_HOME": "{home}/xdg"}, [], "{home}/xdg/hearth"),
    ({"STATE_DIRECTORY": "{home}/systemd:/other", "XDG_STATE_HOME": "/not/this"}, [], "{home}/systemd"),
    ({"STATE_DIRECTORY": "/not/this"}, ["--state-dir", "{home}/a/b"], "{home}/a/b"),
])
def test_the_directory_is_found_in_its_order_and_closed_to_others(make_daemon, bin_dir, tmp_path, variables, flags,
                                                                  place):
    home = str(tmp_path / "daemon0")
    env = {name: value.format(home=home) for name, value in variables.items()}
    daemon = make_daemon(*[flag.format(home=home) for flag in flags], env=env)
    place = place.format(home=home)
    assert status(daemon, bin_dir)["state"] == place
    assert os.stat(place).st_mode & 0o777 == 0o700


def test_without_one_it_serves_all_the_same(make_daemon, bin_dir, artifact):
    daemon = make_daemon("--state-dir", "none")
    assert status(daemon, bin_dir)["state"].startswith("in memory only")
    assert load(daemon, bin_dir, artifact)[0] == 0
    assert not (daemon.folder / ".local").exists()


def test_a_second_daemon_does_without_and_the_next_one_has_it(make_daemon, bin_dir, artifact, tmp_path):
    place = str(tmp_path / "state")
    first = make_daemon("--state-dir", place)
    second = make_daemon("--state-dir", place)
    assert load(second, bin_dir, artifact)[0] == 0
    wait_until(lambda: "another hearthd has it" in status(second, bin_dir)["state"], "it has given up on it")
    assert second.log().count("another hearthd has it") == 1
    assert first.stop() == 0
    assert status(make_daemon("--state-dir", place), bin_dir)["state"] == place


def test_a_corrupt_database_is_set_aside(make_daemon, bin_dir, artifact, tmp_path):
    place = tmp_path / "state"
    place.mkdir(mode=0o700)
    (place / "hearth.db").write_bytes(b"not a database" * 1000)
    daemon = make_daemon("--state-dir", str(place))
    assert load(daemon, bin_dir, artifact)[0] == 0
    assert status(daemon, bin_dir)["state"] == str(place)
    assert (place / "hearth.db.corrupt-1").exists()
    assert daemon.log().count("is corrupt") == 1


def test_a_directory_that_cannot_be_made_is_said_once(make_daemon, bin_dir, artifact):
    daemon = make_daemon("--state-dir", "/proc/hearth")
    for verify in ("xxh3", "always"):
        assert load(daemon, bin_dir, artifact, "--verify", verify)[0] == 0
    assert "cannot use /proc/hearth" in status(daemon, bin_dir)["state"]
    assert daemon.log().count("/proc/hearth") == 1
