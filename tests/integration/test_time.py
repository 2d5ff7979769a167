"""hearth time, hearth history, and traces: what they measure, keep and write."""

import json
import os
import signal
import subprocess

import pytest
from conftest import DEADLINE, wait_until
from test_cli import validate

PHASES = {"resolve", "open", "first_byte", "read", "populate", "hash", "parse", "seal", "publish"}


def hearth(daemon, bin_dir, *arguments, status=0, env=None):
    done = subprocess.run([bin_dir / "hearth", *map(str, arguments)], env=env or daemon.env, capture_output=True,
                          text=True, timeout=DEADLINE)
    assert done.returncode == status, (done.stdout, done.stderr)
    return done.stdout


def document(daemon, bin_dir, *arguments, status=0):
    found = json.loads(hearth(daemon, bin_dir, *arguments, "--json", status=status))
    validate(found, "failure" if status else arguments[0])
    return found


@pytest.fixture
def artifact(tmp_path):
    path = tmp_path / "model"
    path.mkdir()
    (path / "weights.bin").write_bytes(os.urandom(9 << 20))
    (path / "config.json").write_text("{}")
    return path


def spans_of(path):
    """The complete events of a trace, by name; checked against the Trace Event Format."""
    trace = json.loads(path.read_text())
    assert trace["displayTimeUnit"] in ("ms", "ns")
    named, spans = set(), {}
    for event in trace["traceEvents"]:
        assert isinstance(event["pid"], int) and isinstance(event["tid"], int) and isinstance(event["name"], str)
        assert event["ph"] in ("M", "X")
        if event["ph"] == "M":
            assert event["name"] in ("process_name", "thread_name") and isinstance(event["args"]["name"], str)
            named.add(event["tid"])
        else:
            assert event["ts"] >= 0 and event["dur"] >= 0 and event["tid"] in named
            spans.setdefault(event["name"], (event["ts"], event["dur"]))
    return spans


def test_a_load_is_taken_apart(daemon, bin_dir, artifact, tmp_path):
    trace = tmp_path / "trace.json"
    timed = document(daemon, bin_dir, "time", artifact, "--trace", trace)
    cold = timed["cold"]
    assert cold["from"]["disk"] + cold["from"]["page_cache"] == timed["bytes"]
    assert set(cold["phases"]) == PHASES and cold["sentence"].endswith(".")
    assert timed["holders"] == 0 and timed["warm"]["attach"] >= 0
    if timed["disk"]:  # tmpfs and such have none
        assert timed["disk"]["bytes"] == timed["bytes"] and timed["disk"]["gb_per_s"] > 0
    if timed["cached_bytes"] == 0 and timed["disk"]:
        assert cold["from"]["page_cache"] == 0
    spans = spans_of(trace)
    assert {"cold load", "warm load", "attach", "map", "read", "hash"} <= set(spans)
    start, length = spans["cold load"]
    assert start <= spans["read"][0] and spans["read"][0] + spans["read"][1] <= start + length + 1
    text = hearth(daemon, bin_dir, "time", artifact)  # it was resident, and nobody held it: cold again
    assert text.startswith("cold ") and "\nwarm " in text and "=|" in text


def test_what_somebody_holds_is_not_evicted_for_a_measurement(daemon, bin_dir, artifact):
    holder = subprocess.Popen([bin_dir / "hearth", "attach", artifact], env=daemon.env, stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline().startswith("id")
    timed = document(daemon, bin_dir, "time", artifact)
    assert timed["cold"] is None and timed["holders"] == 1
    assert "not measured" in hearth(daemon, bin_dir, "time", artifact)
    holder.communicate(timeout=DEADLINE)
    assert holder.returncode == 0


def test_an_id_is_taken_for_its_path(daemon, bin_dir, artifact):
    known = document(daemon, bin_dir, "load", artifact)["id"]
    timed = document(daemon, bin_dir, "time", known)
    assert timed["ref"] == str(artifact) and timed["cold"]
    assert document(daemon, bin_dir, "time", "0123456789ab", status=1)["error"]["code"] == "not_found"


def test_time_of_what_is_not_there_says_so(daemon, bin_dir, tmp_path):
    assert document(daemon, bin_dir, "time", tmp_path / "none", status=1)["error"]["code"] == "not_found"


def test_a_load_can_be_traced_and_a_trace_that_cannot_be_written_is_an_error(daemon, bin_dir, artifact, tmp_path):
    hearth(daemon, bin_dir, "load", artifact, "--trace", tmp_path / "trace.json")
    assert {"load", "read", "populate", "seal"} <= set(spans_of(tmp_path / "trace.json"))
    error = document(daemon, bin_dir, "load", artifact, "--trace", tmp_path / "no" / "trace.json", status=1)["error"]
    assert error["file"] == str(tmp_path / "no" / "trace.json")


def test_history_keeps_how_loads_ended_over_a_kill(make_daemon, bin_dir, artifact, tmp_path):
    place = ["--state-dir", str(tmp_path / "state")]
    daemon = make_daemon(*place)
    first = document(daemon, bin_dir, "load", artifact)
    document(daemon, bin_dir, "load", artifact)  # found resident: no load
    config = artifact / "config.json"
    refused = document(daemon, bin_dir, "load", config, "--sha256", "0" * 64, status=4)["error"]
    loads = wait_until(lambda: len(document(daemon, bin_dir, "history")["loads"]) == 2 and
                       document(daemon, bin_dir, "history")["loads"], "both are kept")
    daemon.process.send_signal(signal.SIGKILL)
    daemon.process.wait()
    daemon.checked = True
    daemon = make_daemon(*place)
    assert document(daemon, bin_dir, "history")["loads"] == loads
    well, failed = loads
    assert (well["id"], well["ref"], well["bytes"]) == (first["id"], str(artifact), first["bytes"])
    assert well["from"] == first["from"] and well["verified"] == first["verified"] and "error" not in well
    assert well["phases"]["read"] == first["phases"]["read"]
    assert failed["state"] == "failed" and failed["error"] == refused
    assert document(daemon, bin_dir, "history", "-n", "1")["loads"] == [failed]
    assert document(daemon, bin_dir, "history", artifact)["loads"] == [well]
    assert document(daemon, bin_dir, "history", first["id"])["loads"] == [well]
    text = hearth(daemon, bin_dir, "history").splitlines()
    assert len(text) == 3 and "integrity" in text[2]
    assert hearth(daemon, bin_dir, "history", tmp_path) == "No loads.\n"


def test_a_long_history_comes_whole(daemon, bin_dir, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"x")
    for _ in range(70):  # more than the daemon looks up at a time
        hearth(daemon, bin_dir, "load", "-q", path)
        hearth(daemon, bin_dir, "evict", path)
    assert len(document(daemon, bin_dir, "history", "-n", "100")["loads"]) == 70


def test_history_takes_a_number_of_lines(daemon, bin_dir):
    for number in ("0", "-1", "many", "99999999"):
        assert document(daemon, bin_dir, "history", "-n", number, status=2)["error"]["found"] == number
