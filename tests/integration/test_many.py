"""Many files in one artifact, and many artifacts: all of it is counted, listed, handed out, and given back."""

import json
import os
import resource
import subprocess

import packets
import pytest
from conftest import DEADLINE, wait_until
from packets import Client, Refused, make_safetensors
from vitals import close_all

MANY_FILES = 10_000


@pytest.fixture
def many_files(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    make_safetensors(folder / "model.safetensors", 4096, os.urandom(4096))
    for i in range(MANY_FILES - 1):
        (folder / f"part-{i:05}.txt").write_text(f"this is {i}")
    return folder


def make_artifacts(folder, n):
    paths = [folder / f"artifact-{i:04}.safetensors" for i in range(n)]
    for path in paths:
        make_safetensors(path, 64, os.urandom(64))
    return paths


def listed(bin_dir, daemon, *flags):
    ended = subprocess.run(
        [bin_dir / "hearth", "ls", *flags], env=daemon.env, capture_output=True, text=True, timeout=DEADLINE, check=True
    )
    return ended.stdout


@pytest.fixture
def deep(tmp_path):
    """A folder in which a path is nearly as long as it may be."""
    folder = tmp_path
    while len(str(folder)) < 4000:
        folder /= "d" * min(200, 4020 - len(str(folder)))
    folder.mkdir(parents=True)
    return folder


def load_all(client, refs):
    """Some at a time; their ids, in the same order."""
    ids = []
    for i in range(0, len(refs), 32):
        serials = [client.send_load(ref) for ref in refs[i : i + 32]]
        replies = {reply.serial: reply for reply in (client.receive() for _ in serials)}
        for serial in serials:
            assert replies[serial].kind == packets.INFO, replies[serial].error()
            ids.append(replies[serial].info()["id"])
    return ids


def test_a_list_of_any_length_is_read_whole(bin_dir, daemon, deep, sanitizer):
    """Of more bytes than the daemon would queue for a client."""
    refs = [str(path) for path in make_artifacts(deep, 200 if sanitizer else 2200)]
    with Client(daemon.socket) as client:
        ids = load_all(client, refs)
        assert [(a["id"], a["ref"]) for a in client.list()] == list(zip(ids, refs))
        shown = json.loads(listed(bin_dir, daemon, "--json"))["artifacts"]
        assert [a["ref"] for a in shown] == refs
        subprocess.run([bin_dir / "hearth", "evict", refs[-1]], env=daemon.env, timeout=DEADLINE, check=True)
        assert [a["id"] for a in client.list()] == ids[:-1]


def test_what_comes_and_goes_during_a_list_changes_nothing_else_in_it(daemon, deep):
    paths = make_artifacts(deep, 400)
    old, new = paths[:350], paths[350:]
    with Client(daemon.socket) as client, Client(daemon.socket) as slow:
        ids = load_all(client, old)
        serials = [slow.send(packets.LIST, bytes(8)) for _ in range(2)]
        first = slow.reply(serials[0]).info()["id"]
        # What the socket holds is a few dozen: of these some have been listed, and most have not.
        gone = set(ids[:100]) | set(ids[150::3])
        for id_ in gone:
            client.evict(id_)
        news = load_all(client, new)
        for serial in serials:
            seen, found = [first] if serial == serials[0] else [], None
            while found is None:
                reply = slow.reply(serial)
                if reply.kind == packets.DONE:
                    (found,) = reply.unpack("<Q")
                else:
                    seen.append(reply.info()["id"])
            assert found == len(seen)
            stayed = [id_ for id_ in ids if id_ not in gone]
            assert [id_ for id_ in seen if id_ in set(stayed)] == stayed  # each once, oldest first
            assert len(set(seen)) == len(seen) < len(ids)
        assert [a["id"] for a in client.list()] == stayed + news


def limited(fds):
    return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (fds, fds))


def test_ten_thousand_files_are_one_artifact(bin_dir, daemon, many_files):
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard * 3 // 4 < MANY_FILES + 100:
        pytest.skip(f"the hard limit on open files is {hard}")
    before = len(daemon.fds())
    with Client(daemon.socket) as client:
        info = client.load(many_files)
        assert info["n_files"] == MANY_FILES and info["state"] == packets.RESIDENT
        names = sorted(path.name for path in many_files.iterdir())
        index, *first = client.attach(info["id"])
        assert len(first) == 252  # with the index, what one packet holds
        numbers = list(range(MANY_FILES - 253, MANY_FILES))
        last = client.files(info["id"], numbers)
        for number, fd in [*enumerate(first), *zip(numbers, last)]:
            assert os.pread(fd, 1 << 20, 0) == (many_files / names[number]).read_bytes()
            os.close(fd)
        os.close(index)
        (shown,) = json.loads(listed(bin_dir, daemon, "--json"))["artifacts"]
        assert shown["bytes"] == sum(path.stat().st_size for path in many_files.iterdir())
        client.detach(info["id"])
        client.evict(info["id"])
    wait_until(lambda: len(daemon.fds()) == before, "its descriptors are given back")


def test_more_files_than_descriptors_are_refused_with_the_figures(make_daemon, many_files):
    daemon = make_daemon(preexec=limited(8192))
    with Client(daemon.socket) as client:
        before = len(daemon.fds())
        with pytest.raises(Refused) as caught:
            client.load(many_files)
        error = caught.value
        assert error.code == "no_fds" and error.file == str(many_files) and "LimitNOFILE" in error.hint
        needed, allowed = int(error.found.split()[0]), int(error.expected.split()[2])
        assert MANY_FILES < needed < MANY_FILES + 10 and allowed == 8192 - 8192 // 5
        wait_until(lambda: len(daemon.fds()) == before, "nothing of it stays open")
        assert client.load(many_files / "model.safetensors")["state"] == packets.RESIDENT


def test_a_thousand_artifacts_are_listed_and_given_back(bin_dir, daemon, tmp_path, sanitizer):
    paths = make_artifacts(tmp_path, 100 if sanitizer else 1000)
    with Client(daemon.socket) as client:
        before = len(daemon.fds())
        ids = [client.load(path)["id"] for path in paths]
        shown = json.loads(listed(bin_dir, daemon, "--json"))["artifacts"]
        assert [(a["id"], a["ref"], a["state"]) for a in shown] == [
            (f"{id_:012x}", str(path), "resident") for id_, path in zip(ids, paths)
        ]
        table = listed(bin_dir, daemon)
        assert all(path.name in table for path in paths)
        assert client.status()["artifacts"] == len(paths)
        for id_ in ids:
            client.evict(id_)
        wait_until(lambda: len(daemon.fds()) == before, "their descriptors are given back")


def test_a_client_that_is_slow_to_read_gets_a_long_list_whole(daemon, tmp_path, sanitizer):
    paths = make_artifacts(tmp_path, 100 if sanitizer else 1000)
    with Client(daemon.socket) as client, Client(daemon.socket) as slow:
        for path in paths:
            client.load(path)
        serials = [slow.send(packets.LIST, bytes(8)) for _ in range(5)]
        assert client.status()["artifacts"] == len(paths)  # the lists have been made, and nobody has read them
        for serial in serials:
            replies = [slow.reply(serial) for _ in range(len(paths) + 1)]
            assert [reply.kind for reply in replies] == [packets.INFO] * len(paths) + [packets.DONE]


def test_artifacts_go_for_others_when_descriptors_are_used_up_and_leases_keep_them(make_daemon, tmp_path):
    """Of those that are leased the next load waits for one; those that are not go, the oldest first."""
    daemon = make_daemon(preexec=limited(256))
    paths = make_artifacts(tmp_path, 256 // 2)  # each holds its file and its index
    with Client(daemon.socket) as client, Client(daemon.socket) as other:
        ids = [client.load(path)["id"] for path in paths]
        resident = [a["id"] for a in client.list()]
        assert 30 < len(resident) < len(ids) and resident == ids[-len(resident) :]
        for id_ in resident:
            close_all(client.attach(id_))
        serial = other.send_load(paths[0])
        wait_until(lambda: any(a["state"] == packets.QUEUED for a in client.list()), "it waits")
        assert len(daemon.fds()) < 256
        client.detach(resident[5])
        assert other.reply(serial).info()["state"] == packets.RESIDENT
        assert resident[5] not in [a["id"] for a in client.list()]
        assert len(daemon.fds()) < 256
