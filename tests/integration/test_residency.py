"""What goes for what: eviction of what nobody uses, the queue for room, and the background, with the real daemon."""

import json
import mmap
import os
import resource
import subprocess

import packets
import pytest
from conftest import wait_until
from packets import Client, make_safetensors
from vitals import close_all

MIB = 1 << 20


@pytest.fixture
def models(tmp_path):
    """A function that makes artifacts of so many MiB."""

    def make(name, size=40):
        return make_safetensors(tmp_path / f"{name}.safetensors", size * MIB)

    return make


def by_ref(client):
    return {info["ref"]: info for info in client.list()}


def waiting(client, ref):
    info = by_ref(client).get(ref)
    return info if info and info["state"] == packets.QUEUED and info["waits_for"] else None


def test_the_least_recently_used_go_for_what_is_loaded(make_daemon, models):
    daemon = make_daemon("--budget", "100MiB")
    a, b, c = (models(name) for name in "abc")
    with Client(daemon.socket) as client:
        first = client.load(a)["id"]
        client.load(b)
        close_all(client.attach(first))
        client.detach(first)
        assert client.load(c)["state"] == packets.RESIDENT
        assert set(by_ref(client)) == {a, c}
        assert client.status()["resident_bytes"] <= 100 * MIB
    assert "least recently used" in daemon.log()


def test_what_is_attached_is_waited_for_and_ls_says_so(make_daemon, models, bin_dir):
    daemon = make_daemon("--budget", "100MiB")
    a, b = models("a", 80), models("b", 60)
    with Client(daemon.socket) as holder, Client(daemon.socket) as client:
        id_ = holder.load(a)["id"]
        close_all(holder.attach(id_))
        serial = client.send_load(b)
        queued = wait_until(lambda: waiting(holder, b), "it is queued")
        assert queued["state"] == packets.QUEUED and queued["waits_for"] == packets.MEMORY
        assert 35 * MIB < queued["lacks"] < 45 * MIB
        listed = subprocess.run([bin_dir / "hearth", "ls"], env=daemon.env, capture_output=True, check=True).stdout
        assert b"queued for memory" in listed
        holder.detach(id_)
        assert client.reply(serial).info()["state"] == packets.RESIDENT
        assert set(by_ref(client)) == {b}


def test_a_hang_up_makes_room_as_a_detach_does(make_daemon, models):
    daemon = make_daemon("--budget", "100MiB")
    a, b = models("a", 80), models("b", 60)
    with Client(daemon.socket) as client:
        with Client(daemon.socket) as holder:
            close_all(holder.attach(holder.load(a)["id"]))
            serial = client.send_load(b)
            wait_until(lambda: waiting(holder, b), "it is queued")
        assert client.reply(serial).info()["state"] == packets.RESIDENT


def test_one_byte_beyond_the_budget_is_refused_with_the_figures(make_daemon, models):
    page = resource.getpagesize()
    a = models("a", 1)
    pages = -(-os.stat(a).st_size // page)  # what is below 2 MiB is on small pages
    daemon = make_daemon("--budget", f"{pages * page - 1}")
    with Client(daemon.socket) as client, pytest.raises(packets.Refused) as caught:
        client.load(a)
    assert caught.value.code == "too_large" and caught.value.found == f"{pages * page} bytes"
    assert caught.value.expected == f"at most {pages * page - 1} bytes"
    exact = make_daemon("--budget", f"{pages * page}")
    with Client(exact.socket) as client:
        assert client.load(a)["state"] == packets.RESIDENT


def test_what_is_held_after_its_eviction_counts_until_it_is_let_go_of(make_daemon, models):
    daemon = make_daemon("--budget", "100MiB")
    a, b = models("a", 60), models("b", 60)
    with Client(daemon.socket) as client:
        id_ = client.load(a)["id"]
        index, weights = client.attach(id_)
        mapped = mmap.mmap(weights, 0, mmap.MAP_SHARED, mmap.PROT_READ)
        close_all([index, weights])
        client.detach(id_)
        client.evict(id_)
        (gone,) = client.list()
        assert gone["state"] == packets.GONE and gone["leases"] == 0 and gone["flags"] & packets.HELD
        assert 60 * MIB <= gone["resident_bytes"] < 64 * MIB
        serial = client.send_load(b)
        assert wait_until(lambda: waiting(client, b), "it is queued")["waits_for"] == packets.MEMORY
        mapped.close()
        assert client.reply(serial).info()["state"] == packets.RESIDENT
        assert set(by_ref(client)) == {b}


def test_the_background_waits_until_somebody_waits_for_it(make_daemon, models):
    daemon = make_daemon("--budget", "100MiB")
    a, b = models("a", 80), models("b", 60)
    with Client(daemon.socket) as client, Client(daemon.socket) as other:
        client.load(a)
        info = client.load(b, packets.NO_WAIT | packets.BACKGROUND)
        assert info["state"] == packets.QUEUED and info["flags"] & packets.IN_BACKGROUND
        assert set(by_ref(client)) == {a, b}
        assert other.load(b)["state"] == packets.RESIDENT
        assert set(by_ref(client)) == {b}


def test_the_background_may_be_allowed_to_evict(make_daemon, models, bin_dir):
    daemon = make_daemon("--budget", "100MiB", "--background-evicts", "yes")
    a, b = models("a", 80), models("b", 60)
    with Client(daemon.socket) as client:
        client.load(a)
        assert client.load(b, packets.BACKGROUND)["state"] == packets.RESIDENT
        assert set(by_ref(client)) == {b}
    listed = subprocess.run([bin_dir / "hearth", "ls", "--json"], env=daemon.env, capture_output=True, check=True)
    assert [item["waits_for"] for item in json.loads(listed.stdout)["artifacts"]] == [None]


def test_descriptors_are_budgeted_evicted_and_refused_with_figures(make_daemon, tmp_path):
    """The limit on open files is 200: 160 for artifacts."""
    daemon = make_daemon(preexec=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200)))

    def folder(name, files):
        path = tmp_path / name
        path.mkdir()
        for i in range(files):
            (path / f"{i}.json").write_text("{}")
        return path

    with Client(daemon.socket) as client:
        for i in range(6):
            assert client.load(folder(f"a{i}", 40))["state"] == packets.RESIDENT
        assert len(client.list()) == 3
        with pytest.raises(packets.Refused) as caught:
            client.load(folder("many", 160))
        assert caught.value.code == "no_fds"
        assert "163 descriptors" in caught.value.found and "160" in caught.value.message
        assert len(client.list()) == 4  # three residents, and the failure
