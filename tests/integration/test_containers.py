"""Containers, without a container engine: hearthd as process 1 of namespaces of its own, and clients whose mounts, users
and processes are others than the daemon's."""

import json
import os
import shutil
import subprocess

import packets
import pytest
from conftest import DEADLINE
from packets import Client, make_safetensors

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
