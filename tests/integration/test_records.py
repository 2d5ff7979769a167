"""What was proven once is matched from then on: over evictions, restarts and kills, and not over changes."""

import contextlib
import hashlib
import os
import signal
import sqlite3
import subprocess
import time

import pytest
from conftest import DEADLINE
from test_state import load

MIB = 1 << 20


def on_local_storage(path):
    kind = subprocess.run(["stat", "-f", "-c", "%T", str(path)], capture_output=True, text=True, check=True).stdout
    return kind.strip() in ("ext2/ext3", "xfs", "btrfs", "f2fs", "tmpfs", "zfs")


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory):
    """Artifacts of three files and their digests, and a file, that nothing has changed for two seconds."""
    folder = tmp_path_factory.mktemp("settled")
    if not on_local_storage(folder):
        pytest.skip("records are for local storage, which this is not known to be")
    (folder / "later.bin").write_bytes(os.urandom(MIB))
    for number in range(4):
        path = folder / str(number)
        path.mkdir()
        sums = ""
        for name, size in (("weights.bin", 9 * MIB), ("config.json", 300), ("empty", 0)):
            data = os.urandom(size)
            (path / name).write_bytes(data)
            sums += f"{hashlib.sha256(data).hexdigest()}  {name}\n"
        (path / "SHA256SUMS").write_text(sums)
    time.sleep(2.1)
    return [folder / str(number) for number in range(4)]


@pytest.fixture
def settled(artifacts):
    """One that no other test has."""
    return artifacts.pop()


def evict(daemon, bin_dir, path):
    subprocess.run([bin_dir / "hearth", "evict", path], env=daemon.env, check=True, capture_output=True,
                   timeout=DEADLINE)


def verified(daemon, bin_dir, path, *options):
    status, document = load(daemon, bin_dir, path, *options)
    assert status == 0, document
    evict(daemon, bin_dir, path)
    return document["verified"]


def test_a_digest_is_proven_once_and_matched_over_evictions_restarts_and_kills(make_daemon, bin_dir, settled, tmp_path):
    place = ["--state-dir", str(tmp_path / "state")]
    first = make_daemon(*place)
    assert verified(first, bin_dir, settled) == "sha256"
    assert verified(first, bin_dir, settled) == "matched"
    assert verified(first, bin_dir, settled, "--verify", "always") == "sha256"
    assert first.stop() == 0
    second = make_daemon(*place)
    assert verified(second, bin_dir, settled) == "matched"
    other = settled.parent / "later.bin"
    assert verified(second, bin_dir, other) == "recorded"
    assert verified(second, bin_dir, other) == "matched"  # by then it is written
    second.process.send_signal(signal.SIGKILL)
    second.process.wait()
    second.checked = True
    third = make_daemon(*place)
    assert verified(third, bin_dir, other) == "matched"
    assert verified(third, bin_dir, settled / "weights.bin", "--sha256",
                    hashlib.sha256((settled / "weights.bin").read_bytes()).hexdigest()) == "sha256"


def test_a_file_that_was_touched_is_proven_again(daemon, bin_dir, settled):
    assert verified(daemon, bin_dir, settled) == "sha256"
    for name in ("weights.bin", "config.json", "empty"):
        os.utime(settled / name)
    assert verified(daemon, bin_dir, settled) == "sha256"


def test_without_a_state_directory_it_is_remembered_as_long_as_the_daemon_lives(make_daemon, bin_dir, settled):
    daemon = make_daemon("--state-dir", "none")
    assert verified(daemon, bin_dir, settled) == "sha256"
    assert verified(daemon, bin_dir, settled) == "matched"
    assert daemon.stop() == 0
    assert verified(make_daemon("--state-dir", "none"), bin_dir, settled) == "sha256"


def test_a_chunk_that_does_not_match_is_named_and_can_be_accepted(make_daemon, bin_dir, settled, tmp_path):
    """The record is changed rather than the content, for nothing here can change that and leave no trace."""
    place = tmp_path / "state"
    daemon = make_daemon("--state-dir", str(place))
    assert verified(daemon, bin_dir, settled) == "sha256"
    assert daemon.stop() == 0
    with contextlib.closing(sqlite3.connect(place / "hearth.db")) as db:
        (row, chunks), = db.execute("SELECT rowid, chunks FROM records WHERE bytes = ?", [9 * MIB])
        db.execute("UPDATE records SET chunks = ? WHERE rowid = ?", [chunks[:20] + b"other" + chunks[25:], row])
        db.commit()
    daemon = make_daemon("--state-dir", str(place))
    for _ in range(2):  # the record is not replaced by what was found
        status, document = load(daemon, bin_dir, settled)
        error = document["error"]
        assert (status, error["code"], error["offset"]) == (4, "integrity", 4 * MIB)
        assert error["file"] == str(settled / "weights.bin")
        assert "XXH3" in error["expected"] and "--verify always" in error["hint"]
    assert verified(daemon, bin_dir, settled, "--verify", "always") == "sha256"
    assert verified(daemon, bin_dir, settled) == "matched"
