"""Storage that does not answer, or answers with errors: it costs what lies on it, and nothing else."""

import contextlib
import json
import os
import re
import subprocess

import packets
import pytest
from conftest import wait_until
from packets import Client, Refused, make_safetensors

LARGE, SMALL = 3 << 20, 4096  # a stream of the engine's, and what is read whole
FOLDER_THREADS, LET_GO = 16, 16  # daemon/resolve.c, daemon/slots.h


def model(folder, name, bytes_=LARGE):
    (folder / name).mkdir()
    make_safetensors(folder / name / "model.safetensors", bytes_, os.urandom(bytes_))
    return folder / name


class Elsewhere:
    """Something resident, and clients who go on with it."""

    def __init__(self, daemon, tmp_path):
        self.daemon, self.tmp_path, self.loads = daemon, tmp_path, 0
        self.resident = self.load()

    def load(self):
        self.loads += 1
        path = model(self.tmp_path, f"elsewhere{self.loads}")
        with Client(self.daemon.socket) as client:
            info = client.load(path)
            assert info["state"] == packets.RESIDENT
        return info["id"]

    def goes_on(self):
        with Client(self.daemon.socket) as client:
            assert client.status()["pid"] == self.daemon.pid
            assert self.resident in [listed["id"] for listed in client.list()]
            for fd in client.attach(self.resident):
                os.close(fd)
        self.load()


@pytest.fixture
def elsewhere(served, tmp_path):
    return Elsewhere(served, tmp_path)


def state_of(daemon, id_):
    with Client(daemon.socket) as client:
        return next((listed["state"] for listed in client.list() if listed["id"] == id_), None)


def hang(daemon, storage, name):
    """A client whose load of this hangs, and the load's id."""
    before = storage.held()
    client = Client(daemon.socket)
    id_ = client.reply(client.send_load(storage.at / name, packets.WITH_PROGRESS)).info()["id"]
    wait_until(lambda: storage.held() > before, "it hangs")
    assert state_of(daemon, id_) == packets.LOADING
    return client, id_


def test_what_lies_on_it_loads_when_nothing_is_wrong(storage, served):
    path = model(storage.shown, "m")
    with Client(served.socket) as client:
        info = client.load(storage.at / "m")
        index, weights = client.attach(info["id"])
        assert os.pread(weights, 2 * LARGE, 0) == (path / "model.safetensors").read_bytes()
        os.close(index)
        os.close(weights)


def test_a_reference_that_cannot_be_looked_at_holds_up_nobody(storage, served, elsewhere):
    model(storage.shown, "m")
    storage.rules("getattr m")
    with Client(served.socket) as client:
        serial = client.send_load(storage.at / "m")
        wait_until(storage.held, "it hangs")
        elsewhere.goes_on()
        storage.rules()
        assert client.reply(serial).info()["state"] == packets.RESIDENT


@pytest.mark.parametrize("what", ["open", "read"])
@pytest.mark.parametrize("bytes_", [LARGE, SMALL], ids=["stream", "small"])
def test_a_load_that_hangs_holds_up_nobody(storage, served, elsewhere, what, bytes_):
    model(storage.shown, "m", bytes_)
    storage.rules(f"{what} model.safetensors")
    client, _ = hang(served, storage, "m")
    with client:
        elsewhere.goes_on()
        storage.rules()
        reply = client.receive()
        while reply.kind == packets.PROGRESS:
            reply = client.receive()
        assert reply.kind == packets.INFO and reply.info()["state"] == packets.RESIDENT


def test_the_end_does_not_wait_for_a_reference_that_hangs(storage, served):
    model(storage.shown, "m")
    storage.rules("getattr m")
    with Client(served.socket) as client:
        client.send_load(storage.at / "m")
        wait_until(storage.held, "it hangs")
        with pytest.raises(Refused) as caught:
            stop_and_read(served, client)
        assert caught.value.code == "cancelled"


def test_status_names_the_file_that_storage_does_not_answer_for(storage, served, bin_dir):
    def status(*flags):
        return subprocess.check_output([bin_dir / "hearth", "status", "--socket", served.socket, *flags], text=True)

    def stalled():
        return json.loads(status("--json"))["stalled"]

    model(storage.shown, "m")
    model(storage.shown, "n")
    assert not stalled()
    storage.rules("read model.safetensors", "getattr n")
    client, _ = hang(served, storage, "m")
    with client:
        client.send_load(storage.at / "n")
        wait_until(stalled, "it is told of")
        assert stalled().startswith(f"{storage.at / 'm' / 'model.safetensors'} at 0, for ")
        assert re.search(f"^waits for +{storage.at}/m/", status(), re.M)
        storage.rules("getattr n")
        wait_until(lambda: stalled().startswith(f"{storage.at / 'n'}, for "), "so is a reference")
        storage.rules()
        wait_until(lambda: not stalled(), "nothing is waited for any more")


def stop_and_read(daemon, client):
    """Ends the daemon while this client waits, and raises what the client is told."""
    assert daemon.stop() == 0
    reply = client.receive()
    while reply.kind == packets.PROGRESS:
        reply = client.receive()
    raise reply.error()


@pytest.mark.parametrize("bytes_", [LARGE, SMALL], ids=["stream", "small"])
def test_the_end_waits_for_a_load_that_hangs_a_while_and_no_longer(storage, served, bytes_):
    model(storage.shown, "m", bytes_)
    storage.rules("read model.safetensors")
    client, _ = hang(served, storage, "m")
    with client:
        with pytest.raises(Refused) as caught:
            stop_and_read(served, client)
        assert caught.value.code == "cancelled"
    assert "does not answer" in served.log()


def test_of_one_folder_that_hangs_some_are_tried_and_the_rest_refused(storage, served, elsewhere):
    references = [model(storage.shown, f"m{i:02}", SMALL).name for i in range(64)]
    storage.rules(*(f"getattr {name}" for name in references))
    with Client(served.socket) as client:
        for name in references:
            client.send_load(storage.at / name)
        elsewhere.goes_on()
        refused = [client.receive() for _ in range(len(references) - FOLDER_THREADS)]
        for reply in refused:
            error = reply.error()
            assert error.code == "busy" and str(storage.at) in error.message and str(FOLDER_THREADS) in error.expected
        elsewhere.goes_on()
        storage.rules()
        for _ in range(FOLDER_THREADS):
            assert client.receive().info()["state"] == packets.RESIDENT


def test_a_client_that_gives_up_frees_its_place_until_too_many_have(storage, served, elsewhere):
    names = [model(storage.shown, f"m{i:02}", SMALL).name for i in range(LET_GO + 1)]
    storage.rules("read model.safetensors")
    for name in names[:LET_GO]:  # more than load side by side
        client, id_ = hang(served, storage, name)
        client.sock.close()
        wait_until(lambda i=id_: state_of(served, i) is None, "the load is given up")
    with Client(served.socket) as client:
        with pytest.raises(Refused) as caught:
            client.load(storage.at / names[-1])
        assert caught.value.code == "busy" and str(LET_GO) in caught.value.message and caught.value.hint
        elsewhere.goes_on()
        storage.rules()

        def loads():
            with contextlib.suppress(Refused):
                return client.load(storage.at / names[-1])["state"] == packets.RESIDENT

        wait_until(loads, "it loads again")


@pytest.mark.parametrize("at", [0, LARGE // 2, LARGE], ids=["head", "middle", "tail"])
def test_an_error_while_reading_says_where(storage, served, elsewhere, at):
    path = model(storage.shown, "m") / "model.safetensors"
    at = min(at, path.stat().st_size - 1)
    storage.rules(f"fail model.safetensors {at}")
    with Client(served.socket) as client:
        with pytest.raises(Refused) as caught:
            client.load(storage.at / "m")
        assert caught.value.code == "io" and caught.value.file == str(storage.at / "m" / "model.safetensors")
        assert caught.value.offset <= at
        elsewhere.goes_on()
        storage.rules()
        assert client.load(storage.at / "m")["state"] == packets.RESIDENT


def test_an_error_in_a_small_file_says_where(storage, served):
    model(storage.shown, "m", SMALL)
    storage.rules("fail model.safetensors 100")
    with Client(served.socket) as client:
        with pytest.raises(Refused) as caught:
            client.load(storage.at / "m")
        assert caught.value.code == "io" and caught.value.offset == 0
        assert caught.value.file == str(storage.at / "m" / "model.safetensors")
