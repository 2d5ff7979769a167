"""Clients that are killed at any step, send noise, or start a daemon where one is about to be: the daemon gives back all
that they held and serves on. (test_daemon.py has the steps packet by packet.)"""

import contextlib
import os
import random
import resource
import socket
import struct
import subprocess

import packets
import pytest
from conftest import DEADLINE, wait_until
from packets import Client, make_safetensors
from vitals import close_all, contents, good, guard, guarded, worker  # noqa: F401  (fixtures)


@pytest.mark.parametrize("stage", ["connected", "loading", "loaded", "attached"])
def test_a_client_may_be_killed_at_any_step(guard, worker, tmp_path, stage):
    path = make_safetensors(tmp_path / "large.safetensors", (512 << 20) if stage == "loading" else (20 << 20), b"x")
    killed = [worker(guard, path, stage) for _ in range(3)]
    assert [one.said() for one in killed] == [stage] * 3
    with Client(guard.socket) as client:
        leases = 3 if stage == "attached" else 0
        assert (client.status()["clients"], client.status()["leases"]) == (4, leases)
        for one in killed:
            one.end(kill=True)
        wait_until(lambda: (client.status()["clients"], client.status()["leases"]) == (1, 0), "all they held is back")
        # One that was under way has ended: with its clients, or just before them.
        wait_until(lambda: all(a["state"] == packets.RESIDENT for a in client.list()), "no load is under way")
        for listed in client.list():
            client.evict(listed["id"])
        assert client.status()["resident_bytes"] == 0


def test_one_killed_client_takes_nothing_from_another(guard, worker, good):
    first, second = worker(guard, good), worker(guard, good)
    seen = first.said()
    assert second.said() == seen
    first.end(kill=True)
    with Client(guard.socket) as client:
        wait_until(lambda: client.status()["leases"] == 1, "the lease has ended")
        assert second.again() == seen
        assert second.end() == 0
        wait_until(lambda: client.status()["leases"] == 0, "the other one as well")
        client.evict(seen["id"])


def test_who_connects_and_says_nothing_keeps_nobody_out(bin_dir, daemon):
    """Twice as many as there may be connections."""
    with contextlib.ExitStack() as stack:
        for _ in range(2048):
            silent = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
            silent.connect(daemon.socket)
        for command in ("ls", "status", "stop"):
            subprocess.run([bin_dir / "hearth", command], env=daemon.env, timeout=DEADLINE, check=True)
        assert daemon.process.wait(DEADLINE) == 0


def test_who_leaves_descriptors_unread_keeps_nobody_from_theirs(make_daemon, tmp_path):
    """More than may be under way to one user's clients; each asks for more than one of them may have."""
    daemon = make_daemon(preexec=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096)))
    folder = tmp_path / "model"
    folder.mkdir()
    for i in range(300):
        make_safetensors(folder / f"{i}.safetensors", 64)
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(Client(daemon.socket))
        id_ = client.load(folder)["id"]
        for _ in range(30):
            idle = stack.enter_context(Client(daemon.socket))
            for _ in range(10):
                idle.send(packets.ATTACH, struct.pack("<QII", id_, packets.ALL, 0))

        def attached():
            try:
                close_all(client.attach(id_))
            except packets.Refused as error:
                assert error.code == "busy"
                return False
            return True

        wait_until(attached, "there is room for who reads", 30)
        assert all(attached() for _ in range(100))


def valid_packets(ref):
    """One of each request, to be damaged."""
    name = os.fsencode(ref)
    load = struct.pack("<II II II II II", packets.NO_WAIT, 0, 16 + 40, len(name), 0, 0, 0, 0, 0, 0)
    fixed = {
        packets.HELLO: (struct.pack("<IIII", 1, 1, 32, 5), b"noise"),
        packets.LOAD: (load, name),
        packets.FILES: (struct.pack("<QII", 1, 32, 2), struct.pack("<2I", 0, 1)),
        packets.ATTACH: (struct.pack("<QII", 1, 1, 0), b""),
        packets.EVICT: (struct.pack("<QII", 1, 0, 0), b""),
        packets.WATCH: (bytes(8), b""),
        packets.DETACH: (bytes(8), b""),
        packets.LIST: (bytes(8), b""),
        packets.STATUS: (bytes(8), b""),
    }
    return [packets.packet(kind, 1, *parts) for kind, parts in fixed.items()]


def test_damaged_packets_end_their_own_connection_only(guard, good, sanitizer):
    """Bytes changed at random, from a fixed seed; never a STOP, which would be obeyed."""
    dice = random.Random(1)
    kinds = valid_packets(good)
    with Client(guard.socket) as honest:
        for i in range(300 if sanitizer else 2000):
            damaged = bytearray(dice.choice(kinds))
            for _ in range(dice.randint(1, 4)):
                damaged[dice.randrange(len(damaged))] = dice.choice((0, 1, 16, 127, 255, dice.randrange(256)))
            if damaged[4] == packets.STOP:
                continue
            with Client(guard.socket, hello=dice.random() < 0.8) as client:
                with contextlib.suppress(OSError):
                    client.sock.send(damaged[: dice.randint(1, len(damaged))] if dice.random() < 0.2 else damaged)
                    if dice.random() < 0.5:
                        client.sock.shutdown(socket.SHUT_WR)
            if i % 100 == 0:
                assert honest.status()["pid"] == guard.pid
        wait_until(lambda: honest.status()["clients"] == 1, "all are gone")
        for listed in honest.list():
            honest.evict(listed["id"])


def test_of_daemons_started_at_once_one_serves_and_the_others_say_why(make_daemon, good):
    """Over the socket that a killed one left."""
    stale = make_daemon()
    stale.process.kill()
    stale.process.wait()
    stale.checked = True
    path = stale.socket
    several = [make_daemon("--socket", path, ready=False) for _ in range(6)]

    def decided():
        return sum(one.process.poll() is not None for one in several) == 5

    wait_until(decided, "all but one have given up")
    with Client(path) as client:
        pid = client.status()["pid"]
        assert contents(client, client.load(good)["id"]) == [good.read_bytes()]
    for one in several:
        if one.pid == pid:
            continue
        one.checked = True  # the socket is not its own
        assert one.process.wait(DEADLINE) == 1
        assert "another" in one.log() and path in one.log()
