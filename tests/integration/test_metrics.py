"""Figures for Prometheus: right, in its format, and no burden."""

import os
import pathlib
import re
import shutil
import signal
import socket
import stat
import subprocess
import time

import pytest
from conftest import wait_until
from packets import Client, Refused, make_safetensors


@pytest.fixture(autouse=True)
def _microhttpd(bin_dir):
    if b"libmicrohttpd.so" not in (bin_dir / "hearthd").read_bytes():
        pytest.skip("hearthd is built without libmicrohttpd")


@pytest.fixture
def place(tmp_path):
    return str(tmp_path / "metrics.sock")


@pytest.fixture
def measured(make_daemon, place):
    return make_daemon("--metrics", place)


def connect(place):
    if place.startswith("/"):
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(60)
        sock.connect(place)
        return sock
    host, port = place.rsplit(":", 1)
    return socket.create_connection((host.strip("[]"), int(port)), 60)


def http(place, request="GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"):
    """(status, headers, body)"""
    with connect(place) as sock:
        sock.sendall(request.encode())
        data = b""
        while part := sock.recv(65536):
            data += part
    head, body = data.decode().split("\r\n\r\n", 1)
    status, *headers = head.split("\r\n")
    return int(status.split()[1]), {k.lower(): v for k, v in (h.split(": ", 1) for h in headers)}, body


# ---- a strict reader of the text exposition format ----

LABEL = r'[a-z_]+="(?:[^"\\\n]|\\["\\n])*"'
SAMPLE = re.compile(rf"^(hearth_[a-z0-9_]+)(?:\{{({LABEL}(?:,{LABEL})*)\}})? (\+Inf|[-+0-9.e]+)$")

def parse(text):
    """{(name, labels): value}, when every rule is kept: help and type before samples, families in one piece, no sample
    twice, counters named _total, histograms that add up."""
    assert text.endswith("\n")
    samples, types, helped, family = {}, {}, set(), None
    for line in text[:-1].split("\n"):
        if line.startswith("# HELP "):
            _, _, family, text_ = line.split(" ", 3)
            assert family not in helped and text_.endswith("."), line
            helped.add(family)
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name == family and name not in types and kind in ("counter", "gauge", "histogram"), line
            assert (kind == "counter") == name.endswith("_total"), line
            types[name] = kind
        else:
            match = SAMPLE.match(line)
            assert match, line
            name, labels, value = match.groups()
            kind = types[family]
            allowed = [family + end for end in ("_bucket", "_sum", "_count")] if kind == "histogram" else [family]
            assert name in allowed, line
            key = (name, labels or "")
            assert key not in samples, line
            samples[key] = float(value)
    assert set(types) == helped
    for name, kind in types.items():
        if kind == "histogram":
            assert name.endswith("_seconds")
            check_histogram(name, samples)
    return samples


def check_histogram(name, samples):
    series = {}
    for (sample, labels), value in samples.items():
        if sample == f"{name}_bucket":
            rest, bound = re.match(r'^(.*?),?le="([^"]+)"$', labels).groups()
            series.setdefault(rest, []).append((float(bound), value))
    assert series
    for labels, buckets in series.items():
        bounds, counts = zip(*buckets)
        assert list(bounds) == sorted(set(bounds)) and bounds[-1] == float("inf")
        assert list(counts) == sorted(counts)
        assert samples[(f"{name}_count", labels)] == counts[-1]
        assert samples[(f"{name}_sum", labels)] >= 0


# ---- what is told ----


def test_figures_follow_what_happens(measured, place, tmp_path):
    status, headers, body = http(place)
    assert status == 200 and headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    first = parse(body)
    assert first[("hearth_artifacts", 'state="resident"')] == 0
    assert [labels for name, labels in first if name == "hearth_build_info"] == ['version="0.1.0"']
    path = make_safetensors(tmp_path / "model.safetensors", 3 << 20)
    with Client(measured.socket) as client:
        id_ = client.load(path)["id"]
        for fd in client.attach(id_):
            os.close(fd)
        with pytest.raises(Refused):
            client.load(tmp_path / "none")
        with pytest.raises(Refused):
            client.evict(id_)
        now = parse(http(place)[2])
        assert now[("hearth_artifacts", 'state="resident"')] == 1
        assert now[("hearth_leases", "")] == 1 and now[("hearth_clients", "")] == 1
        assert 3 << 20 <= now[("hearth_resident_bytes", "")] <= now[("hearth_budget_used_bytes", "")]
        assert now[("hearth_budget_used_bytes", "")] < now[("hearth_budget_bytes", "")]
        assert now[("hearth_load_seconds_count", "")] == now[("hearth_attach_seconds_count", "")] == 1
        assert now[("hearth_load_phase_seconds_count", 'phase="read"')] == 1
        origins = [now[("hearth_read_bytes_total", f'origin="{origin}"')] for origin in ("disk", "page_cache")]
        assert sum(origins) == os.path.getsize(path)
        assert now[("hearth_refusals_total", 'reason="not_found"')] == 1
        assert now[("hearth_refusals_total", 'reason="busy"')] == 1
        assert now[("hearth_evictions_total", "")] == 0
        (tmp_path / "bad.safetensors").write_bytes(b"\xff" * 4096)
        with pytest.raises(Refused):
            client.load(tmp_path / "bad.safetensors")
        now = parse(http(place)[2])
        assert now[("hearth_load_failures_total", 'reason="malformed"')] == 1
        client.detach(id_)
        client.evict(id_)
    wait_until(lambda: parse(http(place)[2])[("hearth_clients", "")] == 0, "the client has gone")
    end = parse(http(place)[2])
    assert end[("hearth_evictions_total", "")] == 1 and end[("hearth_resident_bytes", "")] == 0
    assert set(end) == set(now) == set(first)  # no series comes late


def test_promtool_finds_nothing_to_mend(measured, place):
    promtool = shutil.which("promtool")
    if not promtool:
        pytest.skip("promtool is not installed (apt package prometheus)")
    checked = subprocess.run([promtool, "check", "metrics"], input=http(place)[2], capture_output=True, text=True)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_only_metrics_are_served_and_only_to_be_read(measured, place):
    get = "GET {} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    assert http(place, get.format("/"))[0] == http(place, get.format("/metrics/../../etc/passwd"))[0] == 404
    assert http(place, get.format("/metrics?a=b"))[0] == 200
    for method in ("POST", "DELETE", "BREW"):
        assert http(place, get.format("/metrics").replace("GET", method))[0] == 405


def free_port(family, host):
    with socket.socket(family) as sock:
        try:
            sock.bind((host, 0))
        except OSError as error:
            pytest.skip(f"{host}: {error}")
        return sock.getsockname()[1]


@pytest.mark.parametrize("family, host", [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_a_port_is_this_machines_alone(make_daemon, family, host):
    place = f"[{host}]" if family == socket.AF_INET6 else host
    place += f":{free_port(family, host)}"
    make_daemon("--metrics", place)
    assert parse(http(place)[2])
    port = f":{int(place.rsplit(':', 1)[1]):04X} "
    listening = [
        line.split()[1]
        for name in ("tcp", "tcp6")
        for line in pathlib.Path(f"/proc/net/{name}").read_text().splitlines()
        if line.split()[3] == "0A" and port in line.split()[1] + " "
    ]
    assert [local.split(":")[0] for local in listening] in (["0100007F"], ["00000000000000000000000001000000"])


def test_where_somebody_listens_it_does_not_start(make_daemon, measured, place):
    other = make_daemon("--metrics", place, ready=False)
    assert other.process.wait(60) == 1
    other.checked = True
    assert "somebody listens there" in other.log() and place in other.log()
    assert parse(http(place)[2])


def test_the_socket_is_its_groups_and_goes_with_the_daemon(measured, place):
    assert stat.S_IMODE(os.stat(place).st_mode) == 0o660
    assert measured.stop() == 0
    assert not os.path.exists(place)


def test_one_that_was_left_is_replaced(make_daemon, measured, place):
    measured.process.kill()
    measured.process.wait()
    measured.checked = True
    assert os.path.exists(place)
    make_daemon("--metrics", place, name="next")
    assert parse(http(place)[2])


# ---- what it costs ----


def ticks(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


def test_while_nobody_asks_it_uses_no_cpu(measured, place):
    assert parse(http(place)[2])
    time.sleep(0.5)
    before = ticks(measured.pid)
    time.sleep(1)
    assert ticks(measured.pid) == before


def test_clients_that_mean_no_good_cost_nobody_anything(measured, place, tmp_path):
    mute = [connect(place) for _ in range(24)]
    for i, sock in enumerate(mute):
        try:
            sock.sendall((b"GET /metr", b"\x16\x03\x01\x00", b"GET /metrics HTTP/1.1\r\n" + b"x" * 65536, b"")[i % 4])
        except (BrokenPipeError, ConnectionResetError):
            pass
    with Client(measured.socket) as client:  # the daemon does not even notice
        start = time.monotonic()
        client.load(make_safetensors(tmp_path / "model.safetensors"))
        assert time.monotonic() - start < 30
    assert len(measured.fds()) < 100

    def answered():
        try:
            return http(place)[0] == 200
        except (OSError, ValueError):
            return False

    wait_until(answered, "their time is over, and others have theirs")
    for sock in mute:
        sock.close()


def test_it_ends_while_somebody_is_being_served(measured, place):
    socks = [connect(place) for _ in range(4)]
    for sock in socks:
        sock.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    measured.process.send_signal(signal.SIGTERM)
    assert measured.stop() == 0
    for sock in socks:
        sock.close()
