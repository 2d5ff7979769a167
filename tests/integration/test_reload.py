"""SIGHUP: the configuration is read again, and nobody loses what they have."""

import json
import os
import signal
import subprocess
import time

import packets
import pytest
from conftest import wait_until
from packets import Client, Refused, make_safetensors
from test_sources import ALICE, as_root, client_of, refused, served, world  # noqa: F401


@pytest.fixture
def conf(tmp_path):
    path = tmp_path / "hearthd.conf"
    path.write_text("")
    return path


def reload(daemon):
    before = daemon.log().count("the configuration was read again")
    daemon.process.send_signal(signal.SIGHUP)
    wait_until(lambda: daemon.log().count("the configuration was read again") > before, "it was read again")
    return daemon.log().splitlines()


def status_of(daemon, bin_dir):
    out = subprocess.run([bin_dir / "hearth", "status", "--json"], env=daemon.env, stdout=subprocess.PIPE, check=True)
    return json.loads(out.stdout)


def test_what_can_change_changes_at_once_and_the_rest_is_named(make_daemon, conf, bin_dir, tmp_path):
    conf.write_text("budget = 1GiB\nlog-level = info\n")
    daemon = make_daemon("--config", str(conf), "--loads-at-once", "4")
    model = make_safetensors(tmp_path / "model.safetensors", 1 << 20)
    with Client(daemon.socket) as client:
        id_ = client.load(model)["id"]
        for fd in client.attach(id_):
            os.close(fd)
        conf.write_text("budget = 2GiB\nverify = none\nloads-at-once = 5\nreader = pread\nhash-workers = 1\nstate-dir = none\n")
        assert "needs a restart to change: reader, hash-workers, state-dir" in "\n".join(reload(daemon))
        status = client.status()
        assert status["budget_bytes"] == 2 << 30 and status["leases"] == 1 and status["artifacts"] == 1
        assert client.load(model)["id"] == id_
        (tmp_path / "other.safetensors").write_bytes((tmp_path / "model.safetensors").read_bytes())
        assert client.load(tmp_path / "other.safetensors")["verified"] == 0  # none
        assert status_of(daemon, bin_dir)["configuration"] == str(conf)
        conf.write_text("log-level = error\n")
        reloaded = daemon.log().count("the configuration was read again")
        daemon.process.send_signal(signal.SIGHUP)
        wait_until(lambda: client.status()["budget_bytes"] != 2 << 30, "the default budget is back")
        assert daemon.log().count("the configuration was read again") == reloaded  # no notices any more


def test_a_file_with_a_mistake_changes_nothing_and_status_says_so(make_daemon, conf, bin_dir):
    conf.write_text("budget = 1GiB\n")
    daemon = make_daemon("--config", str(conf))
    conf.write_text("budget = 2GiB\nverify = maybe\n")
    assert "verify does not take 'maybe'" in "\n".join(reload(daemon))
    status = status_of(daemon, bin_dir)
    assert status["budget"] == 1 << 30
    assert status["configuration"].startswith(f"{conf}; when it was read again, nothing was taken: line 2: verify")
    conf.unlink()
    assert "cannot be opened" in "\n".join(reload(daemon))
    conf.write_text("budget = 3GiB\n")
    reload(daemon)
    status = status_of(daemon, bin_dir)
    assert status["budget"] == 3 << 30 and status["configuration"] == str(conf)


def test_idle_exit_can_come_and_go(make_daemon, conf):
    conf.write_text("idle-exit = 1h\n")
    daemon = make_daemon("--config", str(conf))
    conf.write_text("")
    reload(daemon)
    conf.write_text("idle-exit = 200ms\n")
    reload(daemon)
    assert daemon.process.wait(60) == 0
    assert "idle-exit" in daemon.log()


def test_in_the_middle_of_loads_it_disturbs_none(make_daemon, conf, tmp_path):
    daemon = make_daemon("--config", str(conf))
    paths = [make_safetensors(tmp_path / f"{i}.safetensors", 64 << 20) for i in range(8)]
    with Client(daemon.socket) as client:
        serials = [client.send_load(path) for path in paths]
        for i in range(50):
            conf.write_text(f"loads-at-once = {1 + i % 3}\nbudget = {4 + i % 2}GiB\n" if i % 5 else "mistake\n")
            daemon.process.send_signal(signal.SIGHUP)
            time.sleep(0.002)
        replies = {}
        while len(replies) < len(serials):
            reply = client.receive()
            assert reply.kind == packets.INFO
            replies[reply.serial] = reply.info()
        assert all(info["state"] == packets.RESIDENT for info in replies.values())
    reload(daemon)


def test_a_file_that_does_not_answer_holds_up_nobody(make_daemon, conf, tmp_path):
    daemon = make_daemon("--config", str(conf))
    conf.unlink()
    os.mkfifo(conf)
    for _ in range(3):
        daemon.process.send_signal(signal.SIGHUP)
    with Client(daemon.socket) as client:
        assert client.load(make_safetensors(tmp_path / "model.safetensors"))["state"] == packets.RESIDENT
    assert daemon.stop() == 0


def test_signals_while_it_ends_change_nothing(make_daemon, conf):
    daemon = make_daemon("--config", str(conf))
    for _ in range(20):
        daemon.process.send_signal(signal.SIGHUP)
    daemon.process.send_signal(signal.SIGTERM)
    for _ in range(20):
        daemon.process.send_signal(signal.SIGHUP)
    assert daemon.process.wait(60) == 0


@as_root
def test_grants_come_and_go_and_leases_stay(served, world):  # noqa: F811
    conf = world / "conf"
    before = conf.read_text()
    with Client(served.socket) as root:
        id_ = root.load("models/a")["id"]
    with client_of(served, ALICE) as alice:
        for fd in alice.attach(id_):
            os.close(fd)
        conf.write_text(f"[source other]\npath = {world}/secret\nload = {ALICE}\n")
        reload(served)
        assert alice.status()["leases"] == 1 and alice.list() == []
        assert refused(alice.attach, id_).code == "not_found"
        assert refused(alice.files, id_, [0]).code == "not_found"
        assert alice.load("other")["state"] == packets.RESIDENT
        conf.write_text("")
        reload(served)
        with pytest.raises(Refused):
            client_of(served, ALICE)
        conf.write_text(before)
        reload(served)
        assert [item["id"] for item in alice.list()] == [id_]
        alice.detach(id_)


@as_root
def test_a_directory_that_becomes_another_source_shows_nothing_old(served, world):  # noqa: F811
    """What was loaded within one source's borders may lie outside of another's that has its path now."""
    (world / "models/inner/link").symlink_to("../a")
    (world / "conf").write_text(f"[source models]\npath = {world}/models\nload = {ALICE}\n")
    reload(served)
    with Client(served.socket) as root, client_of(served, ALICE) as alice:
        id_ = root.load("models/inner/link")["id"]
        assert [item["id"] for item in alice.list()] == [id_]
        (world / "conf").write_text(f"[source inner]\npath = {world}/models/inner\nload = {ALICE}\n")
        reload(served)
        assert alice.list() == [] and refused(alice.attach, id_).code == "not_found"
        assert refused(alice.load, "inner/link").code == "unsafe"
