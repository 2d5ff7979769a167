"""Files that change while they are loaded: cut, grown, overwritten, replaced, removed.

A load that met the change is refused as changed. A load that did not is whole: what is resident and not stale is what is
on disk. The moment cannot be chosen from outside, so each change is tried at many.
"""

import hashlib
import mmap
import os
import pathlib
import random
import threading
import time

import packets
import pytest
from packets import Client, make_safetensors
from vitals import close_all, good, guard, guarded  # noqa: F401  (fixtures)

BYTES = 96 << 20
CAUGHT, TRIES = 3, 200  # so often must a change have been met, in so many tries at most


def cut(path):
    os.truncate(path, BYTES // 2)


def grow(path):
    with open(path, "ab") as f:
        f.write(b"more")


def overwrite(path):
    with open(path, "r+b") as f:
        f.seek(BYTES - 4096)
        f.write(b"\xee" * 4096)


def replace(path):
    os.replace(make_safetensors(f"{path}.new", BYTES, b"other"), path)


def remove(path):
    os.unlink(path)


def same_as_on_disk(client, info, path):
    index, *files = client.attach(info["id"])
    try:
        if not path.exists():
            return len(files) == 1  # the other one
        with open(path, "rb") as f:
            on_disk = hashlib.file_digest(f, "sha256").digest()
        with mmap.mmap(files[-1], 0, prot=mmap.PROT_READ) as loaded:
            return hashlib.sha256(loaded).digest() == on_disk
    finally:
        close_all([index, *files])


@pytest.mark.parametrize("change", [cut, grow, overwrite, replace, remove], ids=lambda change: change.__name__)
def test_a_change_is_met_or_the_load_is_whole(guard, tmp_path, change):
    folder = tmp_path / "artifact"
    folder.mkdir()
    path = folder / "model.safetensors"
    (folder / "config.json").write_text("{}")
    dice, met = random.Random(change.__name__), 0
    for _ in range(TRIES):
        make_safetensors(path, BYTES, b"first")
        with Client(guard.socket) as client:
            serial = client.send_load(folder, packets.WITH_PROGRESS)
            steps = dice.randrange(3)  # from before it is resolved to well into it
            reply = client.reply(serial) if steps else None
            if steps == 2 and reply.kind == packets.PROGRESS:
                time.sleep(dice.random() * 0.05)
            change(path)
            while not reply or reply.kind == packets.PROGRESS:
                reply = client.receive()
            if reply.kind == packets.ERROR:
                error = reply.error()
                assert error.code in ("changed", "malformed", "not_found"), vars(error)
                if error.code == "changed":
                    assert error.file == str(path) and error.expected and error.found and error.hint
                    met += 1
            evict_what_is_whole(client, folder, path)
        if met >= CAUGHT:
            return
    pytest.fail(f"{TRIES} tries, and the change was met {met} times")


def evict_what_is_whole(client, folder, path):
    """What a load now finds resident, unchanged since the last one, is what is on disk."""
    before = {a["id"] for a in client.list() if a["state"] == packets.RESIDENT}
    try:
        now = client.load(folder)
    except packets.Refused:
        now = None
    if now and now["id"] in before:
        assert same_as_on_disk(client, now, path)
        client.detach(now["id"])
    for listed in client.list():
        client.evict(listed["id"])


def test_what_a_write_has_half_changed_is_refused(guard, tmp_path):
    """One long write(2): the file has its new times when that begins, and its new content when it ends."""
    path = pathlib.Path(make_safetensors(tmp_path / "model.safetensors", BYTES, b""))
    start, dice, refused = path.stat().st_size - BYTES, random.Random(0), 0

    def rewrite(fill, begun):
        content = bytes([fill]) * BYTES
        with open(path, "r+b", buffering=0) as f:
            begun.set()
            assert os.pwrite(f.fileno(), content, start) == BYTES

    for fill in range(1, 26):
        begun = threading.Event()
        writer = threading.Thread(target=rewrite, args=(fill, begun))
        writer.start()
        begun.wait()
        time.sleep(dice.random() * 0.02)
        with Client(guard.socket) as client:
            try:
                info = client.load(path)
            except packets.Refused as error:
                assert error.code == "changed" and error.file == str(path) and error.found and error.hint, vars(error)
                refused += 1
                info = None
            writer.join()
            if info:
                fds = client.attach(info["id"])
                content = os.pread(fds[1], BYTES, start)
                assert content.count(content[:1]) == BYTES
                close_all(fds)
                client.detach(info["id"])
            for listed in client.list():
                client.evict(listed["id"])
    assert refused > 0


def test_small_files_that_never_stop_changing_are_whole_or_refused(guard, tmp_path):
    folder = tmp_path / "artifact"
    folder.mkdir()
    states = [bytes([state]) * (20_000 + state) for state in range(10)]
    for i in range(50):
        (folder / f"{i:02}.txt").write_bytes(states[0])
    child = os.fork()
    if child == 0:
        try:
            while True:
                for state in states:
                    for i in range(0, 50, 7):
                        with open(tmp_path / "new", "wb") as f:
                            f.write(state)
                        os.rename(tmp_path / "new", folder / f"{i:02}.txt")
        finally:
            os._exit(1)
    codes = []
    try:
        with Client(guard.socket) as client:
            while len(codes) < 60 or ("changed" not in codes and len(codes) < 3000):
                try:
                    info = client.load(folder)
                except packets.Refused as error:
                    codes.append(error.code)
                    continue
                codes.append("whole")
                index, *files = client.attach(info["id"])
                assert all(os.pread(fd, 60_000, 0) in states for fd in files)
                close_all([index, *files])
                client.detach(info["id"])
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
    with Client(guard.socket) as client:
        for listed in client.list():
            client.evict(listed["id"])
    assert "changed" in codes and set(codes) <= {"changed", "whole"}, codes
