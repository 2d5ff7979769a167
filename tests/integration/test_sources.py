"""Who may have what: sources, their grants, and those who try for more. Other users are this process with another
effective uid at connect(), which is what the daemon goes by."""

import contextlib
import os
import pathlib
import shutil
import stat
import subprocess
import tempfile
import threading

import packets
import pytest
from conftest import wait_until
from packets import FORCE, Client, Refused, make_safetensors

ALICE, BOB, CAROL, DAVE, EVE = range(61001, 61006)
ML_OPS = 62001

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="other users need root")


@contextlib.contextmanager
def user(uid, groups=()):
    """What connects in here is somebody else's."""
    before = os.getgroups()
    os.setgroups(groups)
    os.setegid(uid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(before)


def client_of(daemon, uid, groups=()):
    with user(uid, groups):
        return Client(daemon.socket)


@pytest.fixture
def world(tmp_path):
    """A place that everybody can reach, with a model in a source and a secret outside."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="hearth-sources-", dir="/tmp"))
    folder.chmod(0o755)
    for name in ("models/a", "models/inner/b", "secret"):
        (folder / name).mkdir(parents=True)
        make_safetensors(folder / name / "model.safetensors", 4096, name.encode())
    (folder / "conf").write_text(
        f"[source models]\npath = {folder}/models\nattach = {ALICE}\nload = {BOB}, @{ML_OPS}\nevict = {CAROL}\n"
        f"administer = {DAVE}\n[source inner]\npath = {folder}/models/inner\nload = {ALICE}\n"
    )
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def served(make_daemon, world):
    return make_daemon("--config", str(world / "conf"), "--socket", str(world / "hearth.sock"))


def refused(call, *arguments):
    with pytest.raises(Refused) as caught:
        call(*arguments)
    return caught.value


def content(client, id_):
    index, *fds = client.attach(id_)
    found = b"".join(os.pread(fd, 1 << 20, 0) for fd in fds)
    for fd in (index, *fds):
        os.close(fd)
    client.detach(id_)
    return found


# ---- names ----


def test_a_name_and_a_path_are_the_same_artifact(served, world):
    with Client(served.socket) as client:
        by_name = client.load("models/a")
        assert by_name["ref"] == str(world / "models/a")
        for other in (world / "models/a", f"{world}/models/./a/", "models//a/"):
            assert client.load(other)["id"] == by_name["id"]
        assert client.load("models/inner/b")["id"] == client.load("inner/b")["id"]
        assert refused(client.load, "nobody/a").code == "not_found"
        assert refused(client.load, "models/none").code == "not_found"
        assert client.load(world / "secret")["state"] == packets.RESIDENT  # the daemon's own user may


def test_a_list_can_be_of_one_reference(served, world):
    with Client(served.socket) as client:
        first, second = client.load("models/a")["id"], client.load("inner/b")["id"]
        assert [item["id"] for item in client.list("models/a")] == [first]
        assert [item["id"] for item in client.list("models/inner/b")] == [second]
        assert [item["id"] for item in client.list(f"{world}/models//a/")] == [first]
        assert client.list("models") == client.list("/nothing") == []
        assert refused(client.list, "nobody/a").code == "not_found"
        assert refused(client.list, "models/../a").code == "invalid"
        assert len(client.list()) == 2


def test_the_command_line_takes_names(served, world, bin_dir):
    def hearth(*arguments):
        return subprocess.run([bin_dir / "hearth", *arguments], env=served.env, cwd="/", capture_output=True, text=True)

    assert hearth("load", "models/a").returncode == 0
    assert hearth("evict", "models/b").returncode == 1
    assert hearth("evict", "nobody/a").returncode == 1
    evicted = hearth("evict", "models/a")
    assert evicted.returncode == 0 and f"{world}/models/a" in evicted.stdout
    with Client(served.socket) as client:
        assert client.list() == []


def test_a_model_of_the_hugging_face_cache_has_a_name(daemon, bin_dir, tmp_path):
    repository = tmp_path / "home/hub/models--org--name"
    for folder in ("refs", "blobs", "snapshots/abc123"):
        (repository / folder).mkdir(parents=True)
    (repository / "refs/main").write_text("abc123")
    make_safetensors(repository / "blobs/0", 4096)
    (repository / "snapshots/abc123/model.safetensors").symlink_to("../../blobs/0")

    def hearth(*arguments):
        env = {**daemon.env, "HF_HOME": str(tmp_path / "home")}
        return subprocess.run([bin_dir / "hearth", *arguments], env=env, capture_output=True, text=True)

    assert hearth("load", "hf/org/name").returncode == 0
    assert str(repository / "snapshots/abc123") in hearth("ls").stdout
    assert hearth("evict", "hf/org/name@main").returncode == 0
    missing = hearth("load", "hf/org/other")
    assert missing.returncode == 1 and "hf download" in missing.stderr


def test_dots_do_not_lead_out(served, world):
    with Client(served.socket) as client:
        for reference in ("models/../secret", "models/..", "models/a/../../secret", "inner/../a"):
            assert refused(client.load, reference).code == "invalid"


@pytest.mark.parametrize("target", ["../secret", "{world}/secret", "/etc", "../nothing"])
def test_a_link_out_of_the_source_is_refused_to_everybody(served, world, target):
    (world / "models/link").symlink_to(target.format(world=world))
    (world / "models/chain").symlink_to("link")
    with Client(served.socket) as client:
        for reference in ("models/link", "models/chain", "models/link/model.safetensors", world / "models/link"):
            error = refused(client.load, reference)
            assert (error.code, error.found) == ("unsafe", ""), reference


def test_a_link_that_is_swapped_under_the_daemons_hands_shows_nothing_of_the_outside(served, world):
    link, other = world / "models/link", world / "models/other"
    link.symlink_to("a")
    ended = threading.Event()

    def swap():
        for i in range(100000):
            if ended.is_set():
                break
            other.symlink_to(("../secret", "a", f"{world}/secret", f"{world}/models/a")[i % 4])
            other.rename(link)

    thread = threading.Thread(target=swap)
    thread.start()
    outcomes = set()
    try:
        with Client(served.socket) as client:
            for i in range(200):
                try:
                    info = client.load("models/link" if i % 2 else "models/link/model.safetensors")
                except Refused as error:
                    assert error.code in ("unsafe", "changed", "not_found"), error
                    outcomes.add(error.code)
                    continue
                assert b"secret" not in content(client, info["id"])
                outcomes.add("loaded")
    finally:
        ended.set()
        thread.join()
    assert "loaded" in outcomes


# ---- users ----


@as_root
def test_who_has_no_grant_cannot_even_connect(served, world):
    assert stat.S_IMODE(os.stat(served.socket).st_mode) == 0o666
    error = refused(client_of, served, EVE)
    assert error.code == "denied" and "grants this user" in error.message
    wait_until(lambda: f"(uid {EVE}, pid {os.getpid()})" in served.log(), "it is logged")
    with client_of(served, EVE, [ML_OPS]) as eve:
        assert eve.list() == []


@as_root
def test_the_history_of_all_users_is_not_for_each_of_them(served, world):
    with client_of(served, BOB) as bob, Client(served.socket) as root:
        bob.load("models/a")
        error = refused(bob.history)
        assert error.code == "denied" and "only uid 0" in error.message
        assert root.history() == root.history(ref="models/a") == [str(world / "models/a")]
        assert root.history(ref="models/other") == []


@as_root
def test_without_sources_a_daemon_is_its_users_alone(make_daemon, world):
    daemon = make_daemon("--system", "--config", "/dev/null/none", ready=False)
    assert daemon.process.wait(60) == 1
    daemon.checked = True
    (world / "empty").write_text("")
    daemon = make_daemon("--system", "--config", str(world / "empty"), "--socket", str(world / "hearth.sock"))
    assert "serves its own user only" in refused(client_of, daemon, ALICE).message


@as_root
def test_each_right_holds_those_before_it_and_no_more(served, world):
    with Client(served.socket) as root:
        id_ = root.load("models/a")["id"]
    with client_of(served, ALICE) as alice:
        error = refused(alice.load, "models/a")
        assert error.code == "denied" and f"uid {ALICE} may not load what is in source models" == error.message
        assert str(world / "conf") in error.hint and "'load ='" in error.hint and str(ALICE) in error.hint
        assert refused(alice.load, f"{id_:012x}").code == "denied"
        assert refused(alice.evict, id_).code == "denied"
        assert [item["id"] for item in alice.list()] == [id_]
        assert alice.watch(id_)["id"] == id_
        assert b"models/a" in content(alice, id_)
        assert alice.load("inner/b")["state"] == packets.RESIDENT
    with client_of(served, BOB) as bob, client_of(served, EVE, [ML_OPS]) as eve:
        for client in (bob, eve):
            assert client.load("models/a")["id"] == id_
            assert client.load(f"{id_:012x}")["id"] == id_
            assert refused(client.evict, id_).code == "denied"
            assert refused(client.load, "inner/b").code == "denied"  # the inner source decides
    with client_of(served, CAROL) as carol, client_of(served, DAVE) as dave:
        assert b"models/a" in content(carol, carol.load("models/a")["id"])
        for fd in dave.attach(id_):
            os.close(fd)
        assert refused(carol.evict, id_).code == "busy"
        assert refused(carol.evict, id_, FORCE).code == "denied"
        assert dave.evict(id_, FORCE) == 1
        assert refused(dave.stop).code == "denied"
        assert carol.evict(carol.load("models/a")["id"]) == 1


@as_root
def test_what_a_user_may_not_attach_is_not_there_for_it(served, world):
    with Client(served.socket) as root:
        inner, secret = root.load("inner/b")["id"], root.load(world / "secret")["id"]
        unknown = refused(root.attach, 0x123456789ABC).message.replace("123456789abc", "ID")
        assert len(root.list()) == 2
    with client_of(served, BOB) as bob:
        assert bob.list() == []
        for id_ in (inner, secret):
            for call in (bob.attach, bob.watch, bob.evict, lambda i: bob.files(i, [0]), lambda i: bob.load(f"{i:012x}")):
                error = refused(call, id_)
                assert error.code == "not_found" and error.message.replace(f"{id_:012x}", "ID") == unknown
        assert bob.status()["artifacts"] == 2  # how many there are, is for all


@as_root
def test_a_path_outside_is_refused_with_the_lines_that_would_allow_it(served, world):
    with client_of(served, BOB) as bob:
        error = refused(bob.load, world / "secret/model.safetensors")
        assert error.code == "denied" and error.file == str(world / "secret/model.safetensors")
        for part in (f"add to {world}/conf", "[source NAME]", f"path = {world}/secret", f"load = {BOB}"):
            assert part in error.hint
        error = refused(bob.load, f"{world}/models/../secret")
        assert error.code == "denied" and "'..'" in error.hint
    wait_until(lambda: f"HEARTH_UID={BOB}" in served.log() or f"uid={BOB}" in served.log(), "it is logged")
    assert f"pid={os.getpid()}" in served.log() and "is in no source" in served.log()


@as_root
def test_refusals_do_not_fill_the_log(served, world):
    with client_of(served, BOB) as bob:
        for _ in range(2000):
            refused(bob.load, world / "secret")
    lines = [line for line in served.log().splitlines() if "refused" in line]
    assert 1 <= len(lines) < 1000


def test_a_mistake_in_a_source_keeps_the_daemon_from_starting(make_daemon, world):
    (world / "conf").write_text("[source models]\npath = models\n")
    daemon = make_daemon("--config", str(world / "conf"), ready=False)
    assert daemon.process.wait(60) == 1
    daemon.checked = True
    assert "line 2" in daemon.log() and "absolute path" in daemon.log()


@as_root
def test_one_users_loads_do_not_empty_anothers_memory(make_daemon, world):
    for i in range(8):
        make_safetensors(world / f"models/{i}.safetensors", 700 << 10)
    daemon = make_daemon(
        "--config", str(world / "conf"), "--socket", str(world / "hearth.sock"), "--budget", "4MiB", "--backing", "small"
    )
    with client_of(daemon, BOB) as bob, client_of(daemon, CAROL) as carol:
        bobs = [bob.load(f"models/{i}.safetensors")["id"] for i in range(4)]
        for i in range(4, 8):
            carol.load(f"models/{i}.safetensors")
        left = [item["id"] for item in bob.list() if item["id"] in bobs]
        assert left == bobs[-3:]  # with one less, he would have less than his half


@as_root
def test_what_is_loaded_without_a_client_is_there_for_those_of_its_source(make_daemon, world, bin_dir):
    """A preload, and a pin of an earlier run."""
    flags = ["--config", str(world / "conf"), "--socket", str(world / "hearth.sock"), "--state-dir", str(world / "state"),
             "--preload", "models/a"]
    daemon = make_daemon(*flags)

    def hearth(*arguments):
        subprocess.run([bin_dir / "hearth", *arguments], env=daemon.env, check=True, stdout=subprocess.DEVNULL)

    hearth("load", "inner/b")
    hearth("pin", "inner/b")
    assert daemon.stop() == 0
    daemon = make_daemon(*flags)
    with Client(daemon.socket) as root, client_of(daemon, ALICE) as alice:
        def resident():
            return sorted(item["ref"] for item in alice.list() if item["state"] == packets.RESIDENT)

        wait_until(lambda: resident() == [f"{world}/models/a", f"{world}/models/inner/b"], "both are there for her")
        assert len(root.list()) == 2
        assert alice.load("inner/b")["flags"] & packets.SHARED
