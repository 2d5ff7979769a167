"""Artifacts with something wrong around their content: files that cannot be read, links, things that are no files, odd
names, wrong digests, nothing at all; and a parser helper that is missing or dies.

Each is one clear error; nothing is published, nothing leaks, and the daemon serves the next artifact (vitals.Guard).
"""

import hashlib
import json
import os
import pathlib
import shutil
import socket
import subprocess

import pytest
from conftest import DEADLINE
from packets import Client, make_safetensors
from vitals import contents, good, guard, guarded, refused  # noqa: F401  (fixtures)


@pytest.fixture
def folder(tmp_path):
    """An artifact, to which a test adds what is wrong."""
    path = tmp_path / "artifact"
    path.mkdir()
    make_safetensors(path / "model.safetensors", 5000, os.urandom(5000))
    (path / "config.json").write_text("{}")
    return path


def accepted(guard, ref, *expected):
    """The artifact loads, and its files hold these bytes in the order of their names."""
    with Client(guard.socket) as client:
        id_ = client.load(ref)["id"]
        assert contents(client, id_) == list(expected)
        client.evict(id_)


# ---- nothing, and what cannot be read ----


def test_what_is_not_there_is_not_found(guard, tmp_path):
    error = guard.refuses(tmp_path / "nowhere" / "model", "not_found")
    assert error.file == str(tmp_path / "nowhere" / "model")
    assert guard.refuses(tmp_path / "good" / "model.safetensors" / "below", "not_found").file


def test_an_empty_directory_is_refused(guard, tmp_path):
    (tmp_path / "empty").mkdir()
    error = guard.refuses(tmp_path / "empty", "invalid")
    assert error.file == str(tmp_path / "empty") and "no files" in error.message


def test_a_directory_of_nothing_but_skipped_things_says_why(guard, tmp_path):
    (tmp_path / "repository" / ".git").mkdir(parents=True)
    (tmp_path / "repository" / ".git" / "HEAD").write_text("x")
    error = guard.refuses(tmp_path / "repository", "invalid")
    assert "left out" in error.found and "--include" in error.hint


def test_empty_files_that_claim_no_format_are_held(guard, folder):
    (folder / "a.txt").write_bytes(b"")
    (folder / "empty.json").write_bytes(b"")
    accepted(guard, folder, b"", *(path.read_bytes() for path in sorted(folder.iterdir())[1:]))
    accepted(guard, folder / "a.txt", b"")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_denied_by_name(guard, folder):
    (folder / "config.json").chmod(0)
    error = guard.refuses(folder, "denied")
    assert error.file == str(folder / "config.json") and "ermission denied" in error.message
    assert guard.refuses(folder / "config.json", "denied").file == str(folder / "config.json")
    (folder / "config.json").chmod(0o600)
    large = make_safetensors(folder / "large.safetensors", 20 << 20)
    os.chmod(large, 0)
    assert guard.refuses(folder, "denied").file == large
    os.unlink(large)
    (folder / "below").mkdir(0)
    assert guard.refuses(folder, "denied").file == str(folder / "below")
    (folder / "below").rmdir()
    folder.chmod(0o300)
    assert guard.refuses(folder, "denied").file == str(folder)
    folder.chmod(0o600)
    assert guard.refuses(folder, "denied").file.startswith(str(folder))
    folder.chmod(0o700)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_reached_is_denied(guard, folder):
    folder.parent.joinpath("closed").mkdir()
    inside = folder.rename(folder.parent / "closed" / "artifact")
    inside.parent.chmod(0)
    try:
        assert guard.refuses(inside, "denied").file == str(inside)
    finally:
        inside.parent.chmod(0o700)


# ---- links ----


@pytest.mark.parametrize("target", ["/etc/passwd", "../outside", "below/../../outside", "/proc/self/status", "/"])
def test_a_link_that_leads_out_is_unsafe(guard, folder, target):
    (folder.parent / "outside").write_text("secret")
    (folder / "below").mkdir()
    (folder / "link.json").symlink_to(target)
    error = guard.refuses(folder, "unsafe")
    assert error.file == str(folder / "link.json")
    assert target in error.found and "--exclude" in error.hint


def test_a_directory_reached_through_a_link_that_leads_out_is_unsafe(guard, folder):
    (folder.parent / "outside").mkdir()
    (folder.parent / "outside" / "file.json").write_text("secret")
    (folder / "below").symlink_to("../outside")
    assert guard.refuses(folder, "unsafe").file == str(folder / "below")


def test_links_inside_the_artifact_are_followed(guard, folder):
    (folder / "below").mkdir()
    (folder / "below" / "again.json").symlink_to("../config.json")
    (folder / "link.json").symlink_to("below/again.json")
    weights = (folder / "model.safetensors").read_bytes()
    accepted(guard, folder, b"{}", b"{}", b"{}", weights)


def test_links_in_a_circle_are_refused(guard, folder):
    (folder / "a.json").symlink_to("b.json")
    (folder / "b.json").symlink_to("a.json")
    error = guard.refuses(folder, "invalid")
    assert error.file in (str(folder / "a.json"), str(folder / "b.json")) and "circle" in error.message
    assert guard.refuses(folder / "a.json", "invalid").file == str(folder / "a.json")


@pytest.mark.parametrize("target", [".", "..", "../below"])
def test_directories_in_a_circle_are_refused(guard, folder, target):
    (folder / "below").mkdir()
    (folder / "below" / "again").symlink_to(target)
    assert guard.refuses(folder, "invalid").file.startswith(str(folder / "below" / "again"))


def test_a_link_to_nothing_is_not_found(guard, folder):
    (folder / "gone.json").symlink_to("nothing.json")
    error = guard.refuses(folder, "not_found")
    assert error.file == str(folder / "gone.json") and "nothing.json" in error.found
    assert guard.refuses(folder / "gone.json", "not_found").file == str(folder / "gone.json")


def test_what_is_excluded_is_not_looked_at(guard, folder, bin_dir):
    (folder / "link.json").symlink_to("/etc/passwd")
    os.mkfifo(folder / "pipe.json")
    command = [bin_dir / "hearth", "load", "--json", "--exclude", "link.json", "--exclude", "pipe.json", folder]
    done = subprocess.run(command, env=guard.daemon.env, capture_output=True, timeout=DEADLINE)
    assert done.returncode == 0, done
    with Client(guard.socket) as client:
        client.evict(int(json.loads(done.stdout)["id"], 16))


def test_the_reference_itself_may_be_a_link(guard, folder, tmp_path):
    weights = (folder / "model.safetensors").read_bytes()
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "latest").symlink_to("../artifact")
    (tmp_path / "far" / "weights.safetensors").symlink_to(folder / "model.safetensors")
    (tmp_path / "link-to-link").symlink_to("far/latest")
    accepted(guard, tmp_path / "far" / "latest", b"{}", weights)
    accepted(guard, tmp_path / "link-to-link", b"{}", weights)
    accepted(guard, tmp_path / "link-to-link" / "model.safetensors", weights)
    accepted(guard, tmp_path / "far" / "weights.safetensors", weights)


def test_the_daemons_own_files_cannot_be_named(guard):
    for path in ("/proc/self/fd/0", f"/proc/{guard.pid}/fd/2", "/dev/fd/0", "/proc/self/exe", "/proc/self/cwd"):
        assert guard.refuses(path, "invalid").file == path


# ---- a Hugging Face cache ----


@pytest.fixture
def repository(tmp_path):
    """models--o--n as huggingface_hub lays it out."""
    path = tmp_path / "hub" / "models--o--n"
    for part in ("blobs", "refs", "snapshots/0123abcd/deep"):
        (path / part).mkdir(parents=True)
    (path / "refs" / "main").write_text("0123abcd")
    make_safetensors(path / "blobs" / ("ab" * 32), 3000, b"weights")
    (path / "blobs" / ("cd" * 20)).write_text("{}")
    (path / "snapshots/0123abcd/model.safetensors").symlink_to("../../blobs/" + "ab" * 32)
    (path / "snapshots/0123abcd/config.json").symlink_to("../../blobs/" + "cd" * 20)
    (path / "snapshots/0123abcd/deep/tokenizer.json").symlink_to("../../../blobs/" + "cd" * 20)
    return path


def test_a_snapshots_links_into_its_repositorys_blobs_are_followed(guard, repository, tmp_path):
    snapshot = repository / "snapshots/0123abcd"
    weights = (snapshot / "model.safetensors").read_bytes()
    accepted(guard, snapshot, b"{}", b"{}", weights)
    accepted(guard, snapshot / "deep", b"{}")
    accepted(guard, snapshot / "model.safetensors", weights)
    (tmp_path / "latest").symlink_to(snapshot)
    accepted(guard, tmp_path / "latest", b"{}", b"{}", weights)


@pytest.mark.parametrize("target", ["../../refs/main", "../../../models--other--n/blobs/x", "../../blobs/deep/x",
                                    "../../blobs/out", "../../blobs/folder", "../other/config.json", "../../blobs"])
def test_a_snapshots_links_to_elsewhere_are_unsafe(guard, repository, target):
    for path, text in (("../models--other--n/blobs/x", "x"), ("blobs/deep/x", "x"), ("snapshots/other/config.json", "{}"),
                       ("blobs/folder/y", "y")):
        (repository / path).parent.mkdir(parents=True, exist_ok=True)
        (repository / path).write_text(text)
    (repository / "blobs" / "out").symlink_to("/etc/passwd")
    (repository / "snapshots/0123abcd/bad.json").symlink_to(target)
    error = guard.refuses(repository / "snapshots/0123abcd", "unsafe")
    assert error.file == str(repository / "snapshots/0123abcd/bad.json")


def test_a_blob_that_was_not_downloaded_is_not_found(guard, repository):
    (repository / "blobs" / ("cd" * 20)).rename(repository / "blobs" / ("cd" * 20 + ".incomplete"))
    error = guard.refuses(repository / "snapshots/0123abcd", "not_found")
    assert error.file.endswith(("config.json", "tokenizer.json")) and "complete the download" in error.hint


# ---- what is no file ----


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as s:
        os.chdir(path.parent)
        s.bind(path.name)
        os.chdir("/")


def make_device(path):
    try:
        os.mknod(path, 0o600 | 0o020000, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("this user may not make device nodes")


@pytest.mark.parametrize(
    "make, kind", [(os.mkfifo, "fifo"), (make_socket, "socket"), (make_device, "device")], ids=["fifo", "socket", "device"]
)
def test_what_is_no_regular_file_is_unsafe_and_never_opened(guard, folder, make, kind):
    make(folder / "odd.safetensors")
    for ref in (folder, folder / "odd.safetensors"):
        error = guard.refuses(ref, "unsafe")
        assert error.file == str(folder / "odd.safetensors") and kind in error.found
    (folder / "below").mkdir()
    (folder / "odd.safetensors").rename(folder / "below" / "odd.json")
    (folder / "link.json").symlink_to("below/odd.json")
    assert guard.refuses(folder, "unsafe").file in (str(folder / "link.json"), str(folder / "below" / "odd.json"))


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null", "/dev/full"])
def test_a_device_is_never_read(guard, path):
    assert "device" in guard.refuses(path, "unsafe").found


def test_a_file_that_holds_less_than_it_says_is_refused(guard):
    """Files of sysfs claim a page."""
    path = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if not path.exists():
        pytest.skip("no such file in this kernel's sysfs")
    assert guard.refuses(path, "changed").file == str(path)


# ---- names ----

ODD_NAMES = [b"line\nbreak.json", b"not utf-8 \xff\xfe.json", b"x" * 250 + b".json", b"-rf.json", b" spaces  .json ",
             b"\x1b[31mred.json", b"quote\"'`$(x).json", "ünïcode – 模型.json".encode(), b"back\\slash.json", b"#.json", b"..json"]


@pytest.mark.parametrize("name", ODD_NAMES, ids=lambda name: repr(name)[2:22])
def test_a_file_may_have_any_name(guard, folder, name):
    path = os.fsencode(folder) + b"/" + name
    with open(path, "wb") as f:
        f.write(b"odd " + name)
    expected = [open(os.fsencode(folder) + b"/" + n, "rb").read() for n in sorted(os.listdir(os.fsencode(folder)))]
    accepted(guard, folder, *expected)
    accepted(guard, path, b"odd " + name)


@pytest.mark.parametrize("name", ODD_NAMES, ids=lambda name: repr(name)[2:22])
def test_an_artifact_may_have_any_name_and_errors_show_it_on_one_line(guard, folder, name, bin_dir):
    odd = os.fsencode(folder.parent) + b"/" + name
    os.rename(folder, odd)
    with Client(guard.socket) as client:
        id_ = client.load(odd)["id"]
        assert len(contents(client, id_)) == 2
        assert client.evict(id_) == 1
    with open(odd + b"/model.safetensors", "r+b") as f:
        f.truncate(5)
    command = [os.fsencode(bin_dir / "hearth"), b"load", b"--", odd]
    done = subprocess.run(command, env=guard.daemon.env, capture_output=True, timeout=DEADLINE)
    assert done.returncode == 4
    assert all(byte >= 32 or byte == 10 for byte in done.stderr) and b"\xff" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith(b"  file: ")]
    assert line.endswith(b"/model.safetensors")


@pytest.mark.parametrize("ref", [b"relative/path", b"/" + b"x" * 300, b"/x" * 2100, b"/" * 5000, b".", b"~"],
                         ids=lambda ref: repr(ref)[2:12])
def test_a_reference_that_cannot_be_one_is_refused(guard, ref):
    with Client(guard.socket) as client:
        assert refused(client, ref).code in ("invalid", "not_found")


def test_directories_without_end_are_refused(guard, folder):
    deepest = folder
    for _ in range(200):
        deepest /= "d"
    deepest.mkdir(parents=True)
    (deepest / "x.json").write_text("{}")
    assert guard.refuses(folder, "invalid").file.startswith(str(folder / "d"))


# ---- digests ----


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("where", ["SHA256SUMS", "sidecar", "request"])
@pytest.mark.parametrize("size", [5000, 40 << 20], ids=["small", "large"])
def test_a_wrong_digest_is_refused_with_both(guard, folder, bin_dir, where, size):
    path = pathlib.Path(make_safetensors(folder / "model.safetensors", size, os.urandom(5000)))
    right = sha256(path)
    with open(path, "r+b") as f:  # one bit of its last byte
        f.seek(-1, os.SEEK_END)
        last = f.read(1)[0]
        f.seek(-1, os.SEEK_END)
        f.write(bytes([last ^ 1]))
    flags = []
    if where == "SHA256SUMS":
        (folder / "SHA256SUMS").write_text(f"{right}  model.safetensors\n{sha256(folder / 'config.json')}  config.json\n")
    elif where == "sidecar":
        (folder / "model.safetensors.sha256").write_text(f"{right}  model.safetensors\n")
    else:
        flags = ["--sha256", f"model.safetensors={right}"]
    command = [bin_dir / "hearth", "load", "--json", *flags, folder]
    done = subprocess.run(command, env=guard.daemon.env, capture_output=True, timeout=DEADLINE)
    assert done.returncode == 4
    error = json.loads(done.stdout)["error"]
    assert (error["code"], error["file"]) == ("integrity", str(path))
    assert right in error["expected"] and sha256(path) in error["found"]


@pytest.mark.parametrize(
    "name, text, code",
    [
        ("SHA256SUMS", "0123  model.safetensors\n", "malformed"),
        ("SHA256SUMS", "x" * 64 + "  model.safetensors\n", "malformed"),
        ("SHA256SUMS", "0" * 64 + "  missing.safetensors\n", "not_found"),
        ("SHA256SUMS", "0" * 64 + "\n", "malformed"),
        ("SHA256SUMS", "0" * 64 + "  config.json\n" + "1" * 64 + "  config.json\n", "malformed"),
        ("SHA256SUMS", "\0" * 100, "malformed"),
        ("model.safetensors.sha256", "", "malformed"),
        ("model.safetensors.sha256", "0" * 64 + "  other.safetensors\n", "malformed"),
        ("model.safetensors.sha256", ("0" * 64 + "  model.safetensors\n") * 2, "malformed"),
    ],
)
def test_a_digest_file_that_is_wrong_is_named(guard, folder, name, text, code):
    (folder / name).write_text(text)
    assert guard.refuses(folder, code).file == str(folder / name)


def test_digest_files_that_lead_out_are_unsafe(guard, folder):
    (folder.parent / "outside").write_text("0" * 64 + "  config.json\n")
    (folder / "SHA256SUMS").symlink_to("../outside")
    assert guard.refuses(folder, "unsafe").file.endswith("SHA256SUMS")
    (folder / "SHA256SUMS").unlink()
    os.mkfifo(folder / "SHA256SUMS")
    assert guard.refuses(folder, "unsafe").file.endswith("SHA256SUMS")


# ---- the parser helper ----

HELPERS = {  # what it is: (its text, mode, code)
    "missing": (None, 0, "system"),
    "not executable": ("#!/bin/sh\n", 0o644, "system"),
    "no program": ("garbage", 0o755, "system"),
    "of a missing interpreter": ("#!/no/such/interpreter\n", 0o755, "system"),
    "crashing": ("#!/bin/sh\nkill -SEGV $$\n", 0o755, "parser"),
    "killed": ("#!/bin/sh\nkill -KILL $$\n", 0o755, "parser"),
    "failing": ("#!/bin/sh\nexit 7\n", 0o755, "parser"),
    "silent": ("#!/bin/sh\nexit 0\n", 0o755, "parser"),
    "talking nonsense": ("#!/bin/sh\necho nonsense >&3\n", 0o755, "parser"),
    "leaving children": ("#!/bin/sh\nsleep 0.3 &\nexit 0\n", 0o755, "parser"),
}


@pytest.mark.parametrize("what", HELPERS)
def test_a_wrong_helper_costs_one_load(guarded, bin_dir, tmp_path, what):
    text, mode, code = HELPERS[what]
    programs = tmp_path / "bin"
    programs.mkdir()
    shutil.copy(bin_dir / "hearthd", programs)
    helper = programs / "hearth-parse"
    shutil.copy(bin_dir / "hearth-parse", helper)
    guard = guarded(program=programs / "hearthd")
    helper.unlink()
    if text is not None:
        helper.write_text(text)
        helper.chmod(mode)
    try:
        error = guard.refuses(guard.good, code)
    finally:
        shutil.copy(bin_dir / "hearth-parse", tmp_path / "right")
        os.replace(tmp_path / "right", helper)
    if code == "system":
        assert "hearth-parse" in error.file
