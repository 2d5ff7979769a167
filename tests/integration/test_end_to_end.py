"""From files that the real safetensors library wrote to the tensors that serving processes see through libhearth."""

import concurrent.futures
import ctypes
import fcntl
import hashlib
import json
import mmap
import os
import pathlib
import shutil
import struct

import packets
import pytest
from conftest import wait_until
from packets import Client, make_safetensors
from vitals import close_all, good, guarded, worker  # noqa: F401  (fixtures)

np = pytest.importorskip("numpy", reason="numpy is not installed")
library = pytest.importorskip("safetensors", reason="the safetensors library is not installed")
from safetensors.numpy import save_file  # noqa: E402

SIZES = {"BOOL": 1, "U8": 1, "I8": 1, "F8_E5M2": 1, "F8_E4M3": 1, "F8_E8M0": 1, "F8_E4M3FNUZ": 1, "F8_E5M2FNUZ": 1,
         "I16": 2, "U16": 2, "F16": 2, "BF16": 2, "I32": 4, "U32": 4, "F32": 4, "C64": 8, "F64": 8, "I64": 8, "U64": 8}
BITS = {"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6}


def expected_of(path):
    """What the real library reads: {name: (dtype, shape, digest of the bytes)}."""
    return {
        name: [t["dtype"], list(t["shape"]), hashlib.sha256(t["data"]).hexdigest()]
        for name, t in library.deserialize(path.read_bytes())
    }


def seen_by(document):
    return {name: [dtype, shape, digest] for name, (dtype, shape, _, digest) in document["tensors"].items()}


def random_tensors(dice, prefix, count=6):
    return {f"{prefix}.{i}": dice.standard_normal((i + 1, 1000)).astype(np.float32) for i in range(count)}


@pytest.fixture
def model(tmp_path):
    """Three shards with their index and a configuration."""
    folder = tmp_path / "model"
    folder.mkdir()
    dice, weight_map = np.random.default_rng(1), {}
    for i in (1, 2, 3):
        name, tensors = f"model-{i:05}-of-00003.safetensors", random_tensors(dice, f"layer{i}")
        save_file(tensors, folder / name, {"format": "np"})
        weight_map |= dict.fromkeys(tensors, name)
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map})
    )
    (folder / "config.json").write_text("{}")
    return folder


def expected_of_shards(folder):
    found = {}
    for path in folder.glob("*.safetensors"):
        found |= expected_of(path)
    return found


@pytest.fixture
def guard(guarded):
    """Here artifacts stay resident at the end of a test: they are evicted before the guard looks."""
    one = guarded()
    yield one
    with Client(one.socket) as client:
        wait_until(lambda: client.status()["leases"] == 0, "all leases have ended")
        for listed in client.list():
            client.evict(listed["id"])


def test_every_dtype_of_numpy_arrives_unchanged(guard, worker, tmp_path):
    dice = np.random.default_rng(2)
    types = [np.bool_, np.uint8, np.int8, np.uint16, np.int16, np.float16, np.uint32, np.int32, np.float32, np.uint64,
             np.int64, np.float64, np.complex64]
    tensors = {np.dtype(t).name: np.frombuffer(dice.bytes(np.dtype(t).itemsize * 35), t).reshape(5, 7) for t in types}
    tensors["bool"] = dice.integers(0, 2, (5, 7)).astype(bool)
    tensors |= {"scalar": np.array(1.5), "none": np.zeros((3, 0, 2), np.float32), "ünï 模": np.ones(3, np.int8),
                "dims": np.ones((1, 2, 1, 3, 1, 2, 1), np.int16)}
    path = tmp_path / "all.safetensors"
    save_file(tensors, path, {"note": "all"})
    assert seen_by(worker(guard, path).said()) == expected_of(path)


def test_every_dtype_of_the_format_arrives_unchanged(guard, worker, tmp_path):
    header, data, expected = {}, b"", {}
    for name, bits in {**{n: 8 * b for n, b in SIZES.items()}, **BITS}.items():
        content = os.urandom(24 * bits // 8)
        header[name.lower()] = {"dtype": name, "shape": [4, 6], "data_offsets": [len(data), len(data) + len(content)]}
        data += content
        expected[name.lower()] = [name, [4, 6], hashlib.sha256(content).hexdigest()]
    text = json.dumps(header).encode()
    path = tmp_path / "formats.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    assert {name: content[2] for name, content in expected_of(path).items()} == {n: e[2] for n, e in expected.items()}
    assert seen_by(worker(guard, path).said()) == expected


def test_shards_are_one_artifact_for_many_processes(guard, worker, model):
    expected = expected_of_shards(model)
    workers = [worker(guard, model) for _ in range(4)]  # which all load it at once
    documents = [one.said() for one in workers]
    assert len({document["id"] for document in documents}) == 1
    assert all(seen_by(document) == expected for document in documents)
    with Client(guard.socket) as client:
        assert [(a["leases"], a["state"]) for a in client.list()] == [(4, packets.RESIDENT)]
    assert [one.end() for one in workers] == [0] * 4


def io_of(pid):
    return {k: int(v) for k, v in (line.split(": ") for line in pathlib.Path(f"/proc/{pid}/io").read_text().splitlines())}


def test_a_load_that_many_ask_for_is_read_once(guard, tmp_path):
    path = make_safetensors(tmp_path / "large.safetensors", 64 << 20, os.urandom(1 << 20))

    def load(_):
        with Client(guard.socket) as client:
            return client.load(path)

    with concurrent.futures.ThreadPoolExecutor(8) as pool, Client(guard.socket) as keeper:
        keeper.load(path, packets.NO_WAIT)
        found = list(pool.map(load, range(8)))
    assert len({info["id"] for info in found}) == 1
    assert all(info["flags"] & packets.SHARED and info["state"] == packets.RESIDENT for info in found)


def test_a_load_goes_on_while_one_of_those_who_wait_is_left(guard, tmp_path):
    path = make_safetensors(tmp_path / "large.safetensors", 512 << 20)
    with Client(guard.socket) as second:
        with Client(guard.socket) as first:
            id_ = first.reply(first.send_load(path, packets.WITH_PROGRESS)).info()["id"]
            serial = second.send_load(path, packets.WITH_PROGRESS)
            assert second.reply(serial).info()["id"] == id_
        while (reply := second.reply(serial)).kind != packets.INFO:
            pass
        assert reply.info()["state"] == packets.RESIDENT


def test_a_warm_load_reads_nothing(guard, worker, model):
    assert worker(guard, model).said()
    with Client(guard.socket) as client:
        before = io_of(guard.pid)["read_bytes"]
        for _ in range(10):
            info = client.load(model)
            close_all(client.attach(info["id"]))
            assert (info["from_disk"], info["from_page_cache"]) == (0, 0)
        assert io_of(guard.pid)["read_bytes"] == before


def test_generations_live_side_by_side_until_the_old_one_is_released(guard, worker, model):
    old_bytes = expected_of_shards(model)
    old = worker(guard, model)
    first = old.said()
    save_file(random_tensors(np.random.default_rng(3), "layer2"), model / "model-00002-of-00003.safetensors")
    new_bytes = expected_of_shards(model)
    assert new_bytes != old_bytes
    new = worker(guard, model)
    second = new.said()
    assert second["id"] != first["id"] and seen_by(second) == new_bytes
    with Client(guard.socket) as client:
        flags = {a["id"]: a["flags"] & packets.STALE for a in client.list()}
        assert flags == {first["id"]: packets.STALE, second["id"]: 0}
        shutil.rmtree(model)
        assert seen_by(old.again()) == old_bytes and seen_by(new.again()) == new_bytes
        assert old.end() == 0
        wait_until(lambda: [a["id"] for a in client.list()] == [second["id"]], "the old generation goes")


def test_what_is_evicted_by_force_stays_with_its_holder(guard, worker, model):
    holder = worker(guard, model)
    first = holder.said()
    with Client(guard.socket) as client:
        with pytest.raises(packets.Refused) as caught:
            client.evict(first["id"])
        assert caught.value.code == "busy" and f"pid {holder.pid}" in caught.value.found
        client.evict(first["id"], packets.FORCE)
        assert holder.again() == first
        assert client.load(model)["id"] != first["id"]
        assert holder.end() == 0
        wait_until(lambda: first["id"] not in [a["id"] for a in client.list()], "it goes with its holder")


# ---- seals ----

libc = ctypes.CDLL(None, use_errno=True)
PAGE = mmap.PAGESIZE
PUNCH_HOLE, KEEP_SIZE, COLLAPSE_RANGE, ZERO_RANGE = 2, 1, 8, 16
F_ADD_SEALS, F_GET_SEALS = 1033, 1034
F_SEAL_WRITE, F_SEAL_FUTURE_WRITE = 8, 16
PROT_READ, PROT_WRITE, MAP_SHARED, MADV_REMOVE = 1, 2, 1, 9


def checked(result):
    if result in (-1, ctypes.c_void_p(-1).value):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
libc.mprotect.argtypes = libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


def mapped(fd, protection):
    return checked(libc.mmap(None, PAGE, protection, MAP_SHARED, fd, 0))


def to_mapping(fd, call):
    at = mapped(fd, PROT_READ)
    try:
        checked(call(at))
    finally:
        libc.munmap(at, PAGE)


def copy_into(fd):
    with open("/proc/self/exe", "rb") as source:
        os.sendfile(fd, source.fileno(), 0, PAGE)


def splice_into(fd):
    reader, writer = os.pipe()
    try:
        os.write(writer, b"x" * PAGE)
        os.splice(reader, fd, PAGE, offset_dst=0)
    finally:
        close_all([reader, writer])


TAMPERING = {
    "write": lambda fd: os.write(fd, b"x"),
    "pwrite": lambda fd: os.pwrite(fd, b"x", 0),
    "append": lambda fd: os.pwrite(fd, b"x", os.fstat(fd).st_size),
    "truncate": lambda fd: os.ftruncate(fd, 0),
    "grow": lambda fd: os.ftruncate(fd, os.fstat(fd).st_size + PAGE),
    "sendfile": copy_into,
    "splice": splice_into,
    "punch a hole": lambda fd: checked(libc.fallocate(fd, PUNCH_HOLE | KEEP_SIZE, 0, PAGE)),
    "zero a range": lambda fd: checked(libc.fallocate(fd, ZERO_RANGE, 0, PAGE)),
    "allocate": lambda fd: checked(libc.fallocate(fd, 0, 0, os.fstat(fd).st_size + PAGE)),
    "collapse a range": lambda fd: checked(libc.fallocate(fd, COLLAPSE_RANGE, 0, PAGE)),
    "map for writing": lambda fd: mapped(fd, PROT_READ | PROT_WRITE),
    "make a mapping writable": lambda fd: to_mapping(fd, lambda at: libc.mprotect(at, PAGE, PROT_READ | PROT_WRITE)),
    "drop pages by madvise": lambda fd: to_mapping(fd, lambda at: libc.madvise(at, PAGE, MADV_REMOVE)),
    "add seals": lambda fd: fcntl.fcntl(fd, F_ADD_SEALS, 0x10),
}


def reopened(fd, flags):
    """By an owner who first gives itself the right to: memfds can be opened again through /proc."""
    path = f"/proc/self/fd/{fd}"
    try:
        os.fchmod(fd, 0o666)
    except PermissionError:  # it is another's
        pass
    return os.open(path, flags)


@pytest.mark.parametrize("how", ["as received", "reopened for writing"])
def test_no_client_can_change_what_is_resident(guard, good, how):
    with Client(guard.socket) as client:
        id_ = client.load(good)["id"]
        fds = client.attach(id_)
        for fd, size in zip(fds, (os.fstat(fd).st_size for fd in fds)):
            before = os.pread(fd, size, 0)
            assert fcntl.fcntl(fd, F_GET_SEALS) & 0xF == 0xF
            with pytest.raises(OSError):
                os.close(reopened(fd, os.O_RDWR | os.O_TRUNC))
            target = fd
            if how == "reopened for writing":
                target = reopened(fd, os.O_RDWR)
            for name, tamper in TAMPERING.items():
                with pytest.raises(OSError):
                    tamper(target)
                    pytest.fail(f"{name}: it was let")
            with mmap.mmap(fd, 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE) as private:
                private[0] ^= 0xFF  # a copy of its own
            assert os.pread(fd, size + 1, 0) == before
            if target != fd:
                os.close(target)
        close_all(fds)


def test_what_is_loading_cannot_be_changed_through_proc(guard, tmp_path):
    """A process of the same user can reach the daemon's own descriptors while the memory behind them fills."""
    path = make_safetensors(tmp_path / "large.safetensors", 512 << 20, b"\x55" * 4096)
    met = 0
    with Client(guard.socket) as client:
        serial = client.send_load(path, packets.WITH_PROGRESS)
        client.reply(serial)
        client.sock.setblocking(False)
        while True:
            try:
                if client.reply(serial).kind == packets.INFO:
                    break
            except BlockingIOError:
                pass
            met += tamper_with_all(guard.pid, 512 << 20)
        client.sock.settimeout(60)
        (listed,) = client.list()
        index, weights = client.attach(listed["id"])
        with open(path, "rb") as f:
            assert hashlib.file_digest(f, "sha256").digest() == hashlib.sha256(mmap.mmap(weights, 0, prot=1)).digest()
        close_all([index, weights])
    assert met, "no blob was met while it was filled"


def tamper_with_all(pid, least):
    met = 0
    for entry in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        try:
            if not os.readlink(entry).startswith("/memfd:hearth") or os.stat(entry).st_size < least:
                continue
            readable = os.open(entry, os.O_RDONLY)
        except OSError:  # closed meanwhile
            continue
        fd = reopened(readable, os.O_RDWR)
        os.close(readable)
        try:
            if not fcntl.fcntl(fd, F_GET_SEALS) & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE):
                continue  # it is being made: nothing is in it before it is sealed
            met += 1
            for tamper in (TAMPERING["pwrite"], TAMPERING["truncate"], TAMPERING["map for writing"]):
                with pytest.raises(OSError):
                    tamper(fd)
        finally:
            os.close(fd)
    return met
