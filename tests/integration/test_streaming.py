"""Artifacts that are used while they load: what is there already can be used, what is not is waited for, and a load that
fails is seen by everybody."""

import errno
import fcntl
import hashlib
import json
import mmap
import os
import pathlib
import random
import struct

import packets
import pytest
from conftest import wait_until
from packets import Client
from vitals import Worker, close_all, holdings

MIB = 1 << 20
STREAM, SPECULATIVE = 2, 4
STREAMING = 1
STREAMS = 64
FILLING, FINAL = 0x16, 0x0F
NONE, RECORDED, MATCHED, SHA256 = range(4)


class Streamer(Worker):
    script = str(pathlib.Path(__file__).with_name("streamer.py"))

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.said()


@pytest.fixture
def streamer(bin_dir, sanitizer, served):
    started = []

    def start(ref, *arguments):
        started.append(Streamer(bin_dir, sanitizer, served, ref, *arguments))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.end(kill=True)


def make_shards(folder, shards=2, tensors=4, bytes_=3 * MIB):
    """Shards with some tensors each. {name: the SHA-256 of its bytes}, and where each begins: {name: (file, offset)}."""
    folder.mkdir()
    source, weight_map, found, places = random.Random(1), {}, {}, {}
    for i in range(shards):
        file, header = f"model-{i + 1:05}-of-{shards:05}.safetensors", {}
        data = [source.randbytes(bytes_) for _ in range(tensors)]
        for j, content in enumerate(data):
            name = f"shard{i}.tensor{j}"
            header[name] = {"dtype": "U8", "shape": [bytes_], "data_offsets": [j * bytes_, (j + 1) * bytes_]}
            found[name] = hashlib.sha256(content).hexdigest()
            weight_map[name] = file
        raw = json.dumps(header).encode()
        raw += b" " * (-len(raw) % 8)
        for j in range(tensors):
            places[f"shard{i}.tensor{j}"] = (file, 8 + len(raw) + j * bytes_)
        (folder / file).write_bytes(struct.pack("<Q", len(raw)) + raw + b"".join(data))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return found, places


def hang(storage, places, name, inside=2 * MIB):
    """Reading the middle of a tensor hangs."""
    file, offset = places[name]
    storage.rules(f"read {file} {offset + inside}")


def test_a_tensor_is_usable_before_the_rest_has_been_read(storage, served, streamer):
    tensors, places = make_shards(storage.shown / "m")
    hang(storage, places, "shard0.tensor2")
    one = streamer(storage.at / "m")
    assert "attached" in one.said()
    for name in ("shard1.tensor3", "shard1.tensor0", "shard0.tensor0"):
        assert one.ask(f"tensor {name} 60") == {"code": "ok", "bytes": tensors[name]}
    assert one.ask("at shard1.tensor3") == {"code": "ok", "here": True}
    assert one.ask("at shard0.tensor2") == {"code": "ok", "here": False}
    assert one.ask("tensor shard0.tensor2 0.2")["code"] == "timeout"
    assert one.ask("range 2 0 10 60")["code"] == "ok"  # a small file is complete from the start
    assert one.ask("verified 0") == {"code": "ok", "verified": RECORDED, "sha256": False, "settled": False}
    progress = one.ask("progress")
    assert 0 < progress["exposed"] < progress["bytes"] and not progress["resident"]
    with Client(served.socket) as client:
        (listed,) = client.list()
        assert listed["state"] == packets.LOADING and listed["flags"] & STREAMS and listed["leases"] == 1
    storage.rules()
    assert one.ask("tensor shard0.tensor2 60") == {"code": "ok", "bytes": tensors["shard0.tensor2"]}
    assert one.ask("resident 60") == {"code": "ok"}
    assert one.ask("verified 0")["settled"]
    for name, digest in tensors.items():
        assert one.ask(f"tensor {name} 0") == {"code": "ok", "bytes": digest}
    assert served.stop() == 0
    assert one.ask("tensor shard1.tensor1 0") == {"code": "ok", "bytes": tensors["shard1.tensor1"]}  # it is mapped


def write_digests(folder, files):
    """A list that the daemon finds: wrong for those that are to fail."""
    lines = []
    for path in sorted(folder.glob("*.safetensors")):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        lines.append(f"{'0' * 64 if path.name in files else digest}  {path.name}\n")
    (folder / "SHA256SUMS").write_text("".join(lines))


def test_bytes_that_a_digest_is_to_prove_are_exposed_at_their_files_end(storage, served, streamer):
    tensors, places = make_shards(storage.shown / "m")
    write_digests(storage.shown / "m", [])
    hang(storage, places, "shard0.tensor2")
    one, bold = streamer(storage.at / "m"), streamer(storage.at / "m", "speculative")
    assert "attached" in one.said() and "attached" in bold.said()
    assert one.ask("tensor shard1.tensor0 60") == {"code": "ok", "bytes": tensors["shard1.tensor0"]}
    assert bold.ask("tensor shard0.tensor0 60") == {"code": "ok", "bytes": tensors["shard0.tensor0"]}
    assert one.ask("tensor shard0.tensor0 0.2")["code"] == "timeout"
    storage.rules()
    assert one.ask("tensor shard0.tensor0 60") == {"code": "ok", "bytes": tensors["shard0.tensor0"]}
    assert one.ask("resident 60") == bold.ask("resident 60") == {"code": "ok"}
    assert one.ask("verified 1") == {"code": "ok", "verified": SHA256, "sha256": True, "settled": True}


def test_a_digest_that_is_wrong_is_seen_by_all_who_stream_it(storage, served, streamer):
    tensors, places = make_shards(storage.shown / "m")
    write_digests(storage.shown / "m", ["model-00001-of-00002.safetensors"])
    hang(storage, places, "shard0.tensor2")
    one, bold = streamer(storage.at / "m"), streamer(storage.at / "m", "speculative")
    id_ = one.said()["attached"]
    assert "attached" in bold.said()
    assert one.ask("tensor shard1.tensor0 60")["code"] == "ok"
    assert bold.ask("tensor shard0.tensor0 60")["code"] == "ok"
    assert bold.ask("dispatch")["code"] == "ok"
    one.process.stdin.write("tensor shard0.tensor0 60\n")  # waits while it fails
    one.process.stdin.flush()
    storage.rules()
    assert one.said()["code"] == "integrity"
    for question in ("tensor shard1.tensor0 60", "at shard1.tensor0", "range 0 0 1 0", "progress", "resident 60"):
        assert one.ask(question)["code"] == bold.ask(question)["code"] == "integrity", question
    assert one.ask("dispatch")["code"] == "ok"  # only this artifact has failed
    wait_until(lambda: bold.ask("dispatch")["code"] == "integrity", "who took the risk is hung up on")
    with Client(served.socket) as client:
        listed = client.list()[0]  # and perhaps what its clients hold of it
        assert listed["id"] == id_ and listed["state"] == packets.FAILED
        for flags in (0, STREAM):
            with pytest.raises(packets.Refused) as caught:
                client.attach(id_, flags)
            assert caught.value.code == "integrity"
        one.end()
        wait_until(lambda: client.list()[0]["leases"] == 0, "its lease has ended")


def test_who_dies_while_he_streams_harms_nobody_else(storage, served, streamer):
    _, places = make_shards(storage.shown / "m")
    before = holdings(served)
    hang(storage, places, "shard0.tensor2")
    with Client(served.socket) as client:
        serial = client.send_load(storage.at / "m")
        other, dying = streamer(storage.at / "m"), streamer(storage.at / "m")
        assert "attached" in dying.said() and "attached" in other.said()
        dying.end(kill=True)
        assert other.ask("tensor shard1.tensor0 60")["code"] == "ok"
        storage.rules()
        assert client.reply(serial).info()["state"] == packets.RESIDENT
        assert other.ask("resident 60")["code"] == "ok"
        other.end()
        for listed in client.list():
            client.evict(listed["id"])
    wait_until(lambda: holdings(served)["mapped blobs"] == before["mapped blobs"], "everything is given back")


def test_a_daemon_that_dies_is_seen_by_who_waits(storage, served, streamer):
    tensors, places = make_shards(storage.shown / "m")
    hang(storage, places, "shard0.tensor2")
    one = streamer(storage.at / "m")
    assert "attached" in one.said()
    assert one.ask("tensor shard1.tensor0 60")["code"] == "ok"
    one.process.stdin.write("tensor shard0.tensor2 60\n")
    one.process.stdin.flush()
    served.checked = True
    served.process.kill()
    storage.rules()
    assert one.said()["code"] == "disconnected"
    assert one.ask("tensor shard1.tensor0 0") == {"code": "ok", "bytes": tensors["shard1.tensor0"]}
    assert one.ask("resident 60")["code"] == "disconnected"
    served.process.wait()


def stream(client, id_, flags=packets.ALL | STREAM):
    """[index, progress page, files...]"""
    reply = client.call(packets.ATTACH, struct.pack("<QII", id_, flags, 0))
    _, _, n_fds, flags, _ = reply.unpack("<QIIII")
    assert flags == STREAMING and len(reply.fds) == n_fds + 2
    return reply.fds


def test_what_a_streaming_client_gets_it_cannot_change(storage, served):
    _, places = make_shards(storage.shown / "m")
    hang(storage, places, "shard0.tensor2")
    with Client(served.socket) as client, Client(served.socket) as loader:
        id_ = loader.load(storage.at / "m", packets.NO_WAIT)["id"]
        fds = stream(client, id_)
        for fd in fds:
            settled = fcntl.fcntl(fd, fcntl.F_GET_SEALS) & FINAL == FINAL  # a small one
            assert settled or fcntl.fcntl(fd, fcntl.F_GET_SEALS) & FILLING == FILLING
            for attempt in (
                lambda fd=fd: os.ftruncate(fd, 0),
                lambda fd=fd: os.pwrite(fd, b"x", 0),
                lambda fd=fd: fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE),
                lambda fd=fd: mmap.mmap(fd, 1, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE),
            ):
                with pytest.raises(OSError):
                    attempt()
        # Opening one that fills waits; without waiting it is refused.
        with pytest.raises(OSError) as caught:
            os.open(f"/proc/self/fd/{fds[2]}", os.O_RDONLY | os.O_NONBLOCK)
        assert caught.value.errno == errno.EWOULDBLOCK
        # Neither nonsense nor too much of it moves the daemon.
        for file, offset, length in ((0, 2**63, 2**63), (0, 0, 0), (99, 0, 1), (2**32 - 1, 2**64 - 1, 2**64 - 1)):
            for _ in range(20):
                client.send(14, struct.pack("<QQQII", id_, offset, length, file, 0))
        client.send(14, struct.pack("<QQQII", id_ + 1, 0, 1, 0, 0))
        assert client.status()["pid"] == served.pid
        with pytest.raises(packets.Refused) as caught:
            loader.evict(id_)
        assert caught.value.code == "busy"
        assert loader.evict(id_, packets.FORCE) == 1
        storage.rules()
        wait_until(lambda: loader.list()[0]["state"] == packets.FAILED, "its load fails")
        with pytest.raises(packets.Refused) as caught:
            client.files(id_, [0])
        assert caught.value.code == "cancelled"
        # What has been read of it stays in memory, and is told, as long as the client holds it.
        client.detach(id_)
        wait_until(lambda: [a["state"] for a in client.list() if a["flags"] & packets.HELD] == [packets.GONE], "it is held")
        (held,) = [a for a in client.list() if a["state"] == packets.GONE]
        assert held["resident_bytes"] > 2 * MIB
        assert client.status()["resident_bytes"] >= held["resident_bytes"]
        close_all(fds)
        wait_until(lambda: packets.GONE not in [a["state"] for a in client.list()], "nobody holds it")


def test_streaming_what_is_resident_or_small_is_attaching(daemon, tmp_path):
    tensors, _ = make_shards(tmp_path / "large")
    (tmp_path / "small").mkdir()
    packets.make_safetensors(tmp_path / "small" / "model.safetensors")
    with Client(daemon.socket) as client:
        for name in ("large", "small"):
            id_ = client.load(tmp_path / name)["id"]
            close_all(client.attach(id_, packets.ALL | STREAM))
            client.detach(id_)
            with pytest.raises(packets.Refused):
                client.attach(id_ + 1, STREAM)
    for flags in (SPECULATIVE, 8):
        with Client(daemon.socket) as client, pytest.raises(packets.Refused) as caught:
            client.attach(id_, flags)
        assert caught.value.code == "protocol"


def test_a_client_that_takes_back_its_wish_to_stream_waits_no_longer(storage, served):
    make_shards(storage.shown / "m")
    storage.rules("read model-00001-of-00002.safetensors")
    with Client(served.socket) as client:
        id_ = client.load(storage.at / "m", packets.NO_WAIT)["id"]
        serial = client.send(packets.ATTACH, struct.pack("<QII", id_, STREAM, 0))
        assert client.status()["leases"] == 0
        client.cancel(serial)
        assert client.receive().error().code == "cancelled"
    storage.rules()
