"""Prefetch as policy: preloads, pins, background loads, and the verbs that people use them with."""

import json
import os
import signal
import subprocess

import packets
import pytest
from conftest import wait_until
from packets import Client, make_safetensors
from test_cli import validate

MIB = 1 << 20


@pytest.fixture
def models(tmp_path):
    def make(name, size=40):
        return make_safetensors(tmp_path / f"{name}.safetensors", size * MIB)

    return make


@pytest.fixture
def hearth(bin_dir):
    """hearth(daemon, *arguments, status=0): what it printed; with kind, the document that its --json printed."""

    def run(daemon, *arguments, status=0, kind=None):
        command = [str(bin_dir / "hearth"), *map(str, arguments), *(["--json"] if kind else [])]
        done = subprocess.run(command, env=daemon.env, capture_output=True, timeout=60)
        assert done.returncode == status, (command, done)
        if not kind:
            return (done.stdout + done.stderr).decode()
        document = json.loads(done.stdout)
        validate(document, kind)
        return document

    return run


def states(client):
    return {info["ref"]: info["state"] for info in client.list()}


def test_preloads_are_resident_soon_and_nobody_waited_for_them(make_daemon, models, hearth, tmp_path):
    a, b = models("a"), models("b")
    config = tmp_path / "hearthd.conf"
    config.write_text(f"preload = {a}\npreload = {b}\n")
    daemon = make_daemon("--config", str(config))
    assert sorted(os.path.basename(line.split()[-1]) for line in hearth(daemon, "wait", a, b).splitlines()) == [
        "a.safetensors",
        "b.safetensors",
    ]
    assert hearth(daemon, "health") == "ready\n"
    assert hearth(daemon, "health", kind="health") == {"schema": 1, "live": True, "ready": True, "missing": []}
    hearth(daemon, "evict", a)
    assert hearth(daemon, "health") == "ready\n"  # it was there


def test_health_says_what_is_missing_and_a_flag_beats_the_file(make_daemon, models, hearth, tmp_path):
    config = tmp_path / "hearthd.conf"
    config.write_text("preload = /no/such\n")
    a, bad = models("a"), tmp_path / "bad.safetensors"
    bad.write_bytes(b"\xff" * 8 + b"{}")
    daemon = make_daemon("--config", str(config), "--preload", a, "--preload", str(bad))
    wait_until(lambda: hearth(daemon, "ls", kind="ls")["artifacts"][1]["state"] == "failed", "it has failed")
    hearth(daemon, "wait", a)
    missing = hearth(daemon, "health", status=1, kind="health")
    assert not missing["ready"] and [(m["ref"], m["state"]) for m in missing["missing"]] == [(str(bad), "failed")]
    assert "missing: " in hearth(daemon, "health", status=1)
    assert hearth(daemon, "health", "--live") == "live\n"
    hearth(daemon, "wait", bad, status=4)
    daemon.stop()
    hearth(daemon, "health", status=3)


def test_a_preload_that_is_not_there_is_listed_and_found_when_it_is(make_daemon, models, hearth, tmp_path):
    path = tmp_path / "late.safetensors"
    daemon = make_daemon("--preload", str(path))
    failed = wait_until(
        lambda: next((a for a in hearth(daemon, "ls", kind="ls")["artifacts"] if a["state"] == "failed"), None), "it failed"
    )
    assert failed["ref"] == str(path) and "tried again in a minute" in daemon.log()
    hearth(daemon, "health", status=1)
    models("late")
    hearth(daemon, "load", path)
    assert hearth(daemon, "health") == "ready\n"


def test_pins_keep_and_are_refused_to_go(make_daemon, models, hearth):
    daemon = make_daemon("--budget", "100MiB")
    a, b, large = models("a"), models("b", 50), models("large", 80)
    pinned = hearth(daemon, "pin", a, kind="pin")
    hearth(daemon, "wait", a)
    assert hearth(daemon, "ls", kind="ls")["artifacts"][0]["pinned"]
    assert "pinned" in hearth(daemon, "ls") and hearth(daemon, "status", kind="status")["pinned_bytes"] > 40 * MIB
    assert "is pinned" in hearth(daemon, "evict", a, status=1)
    hearth(daemon, "load", b)
    refused = hearth(daemon, "load", large, status=1, kind="failure")["error"]
    assert refused["code"] == "too_large" and "are pinned" in refused["message"] and "unpin" in refused["hint"]
    assert hearth(daemon, "unpin", a, kind="unpin")["unpinned"][0]["id"] == pinned["id"]
    hearth(daemon, "unpin", a, status=1)
    hearth(daemon, "load", large)
    hearth(daemon, "pin", "--wait", large)
    hearth(daemon, "evict", "--force", large)
    assert hearth(daemon, "ls") == "No artifacts.\n"


def test_pins_outlast_the_daemon(make_daemon, models, hearth):
    daemon = make_daemon(name="one")
    a, b = models("a"), models("b")
    hearth(daemon, "pin", "--wait", a)
    hearth(daemon, "pin", "--wait", b)
    hearth(daemon, "unpin", b)
    assert daemon.stop() == 0
    daemon.log_path.unlink()
    daemon = make_daemon(name="one")
    wait_until(lambda: states_of(daemon) == {a: packets.RESIDENT}, "it is loaded again")
    assert hearth(daemon, "ls", kind="ls")["artifacts"][0]["pinned"] and hearth(daemon, "health") == "ready\n"
    hearth(daemon, "unpin", a)
    assert daemon.stop() == 0
    daemon.log_path.unlink()
    daemon = make_daemon(name="one")
    hearth(daemon, "load", b)
    assert states_of(daemon) == {b: packets.RESIDENT}


def test_load_no_wait_wait_and_cancel(make_daemon, models, hearth):
    daemon = make_daemon("--budget", "100MiB")
    a, b = models("a", 60), models("b", 60)
    hearth(daemon, "load", a)
    loading = hearth(daemon, "load", "--no-wait", b, kind="load")
    assert loading["state"] == "queued"
    assert "background" in hearth(daemon, "load", "--no-wait", b)
    hearth(daemon, "cancel", a, status=1)
    assert hearth(daemon, "cancel", b, kind="cancel")["cancelled"][0]["id"] == loading["id"]
    hearth(daemon, "load", "--no-wait", b)
    hearth(daemon, "wait", "--timeout", "1ms", b, status=1)
    assert hearth(daemon, "wait", b, kind="wait")["resident"][0]["ref"] == b
    hearth(daemon, "wait", "/no/such", status=1)
    assert list(states_of(daemon)) == [b]


def states_of(daemon):
    with Client(daemon.socket) as client:
        return states(client)


def test_watch_prints_what_happens(make_daemon, models, hearth, bin_dir):
    daemon = make_daemon()
    a = models("a")
    watcher = subprocess.Popen([bin_dir / "hearth", "watch", "--json"], env=daemon.env, stdout=subprocess.PIPE)
    with Client(daemon.socket) as client:
        wait_until(lambda: client.status()["clients"] == 2, "it is connected")
    hearth(daemon, "load", a)
    hearth(daemon, "evict", a)
    seen = []
    while "gone" not in seen:
        document = json.loads(watcher.stdout.readline())
        validate(document, "watch")
        seen.append(document["state"])
    assert seen == ["queued", "loading", "resident", "gone"]
    watcher.send_signal(signal.SIGTERM)
    watcher.wait()
    watcher.stdout.close()
    hearth(daemon, "load", a)
    assert "resident" in hearth(daemon, "watch", a)
    assert hearth(daemon, "watch", a, kind="watch")["state"] == "resident"


def test_looking_on_hastens_nothing_and_waiting_does(make_daemon, models):
    daemon = make_daemon("--budget", "100MiB")
    a, b = models("a", 60), models("b", 60)
    with Client(daemon.socket) as client, Client(daemon.socket) as other:
        client.load(a)
        id_ = client.load(b, packets.NO_WAIT | packets.BACKGROUND)["id"]
        serial = other.send(packets.WATCH, id_.to_bytes(8, "little") + bytes([1, 0, 0, 0, 0, 0, 0, 0]))
        assert other.reply(serial).info()["state"] == packets.QUEUED
        assert states(client) == {a: packets.RESIDENT, b: packets.QUEUED}
        assert client.watch(id_)["state"] == packets.RESIDENT


def test_a_thousand_loads_of_one_missing_path(daemon, tmp_path):
    missing = tmp_path / "missing"
    before = len(daemon.fds())
    with Client(daemon.socket) as client:
        for _ in range(20):
            serials = {client.send_load(missing) for _ in range(50)}
            while serials:
                reply = client.receive()
                assert reply.kind == packets.ERROR and reply.error().code == "not_found"
                serials.remove(reply.serial)
        assert client.list() == []
    wait_until(lambda: len(daemon.fds()) <= before, "nothing stays open")


def test_sigterm_in_the_middle_of_loads_with_a_queue(make_daemon, models):
    daemon = make_daemon("--budget", "300MiB", "--loads-at-once", "2")
    clients = [Client(daemon.socket) for _ in range(6)]
    try:
        serials = [c.send_load(models(f"m{i}", 100)) for i, c in enumerate(clients)]
        with Client(daemon.socket) as client:
            wait_until(lambda: packets.QUEUED in states(client).values(), "some wait")
        assert daemon.stop() == 0
        for client, serial in zip(clients, serials):
            try:
                assert client.reply(serial).info()["state"] == packets.RESIDENT
            except packets.Refused as refused:
                assert refused.code == "cancelled"
    finally:
        for client in clients:
            client.sock.close()


def test_a_pin_keeps_a_daemon_from_ending_for_idleness(make_daemon, models, hearth):
    daemon = make_daemon("--idle-exit", "1s")
    a = models("a", 1)
    hearth(daemon, "pin", "--wait", a)
    with pytest.raises(subprocess.TimeoutExpired):
        daemon.process.wait(2.5)
    hearth(daemon, "unpin", a)
    assert daemon.process.wait(30) == 0
