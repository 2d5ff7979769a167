"""The hearth command as people and programs use it: exit statuses, documents, progress, bad input, autostart."""

import base64
import hashlib
import json
import os
import pathlib
import pty
import select
import signal
import socket
import subprocess
import threading
import time

import pytest
from conftest import DEADLINE, ROOT, wait_until

jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed: documents are not validated")

SCHEMA = json.loads((ROOT / "docs" / "json.schema.json").read_text())


def validate(document, verb):
    schema = {"$schema": SCHEMA["$schema"], "$ref": f"#/$defs/{verb}", "$defs": SCHEMA["$defs"]}
    jsonschema.Draft202012Validator(schema).validate(document)


class Cli:
    """`hearth` with the environment of a daemon, or of nobody's."""

    def __init__(self, bin_dir, env):
        self.program = str(bin_dir / "hearth")
        self.env = {**env, "PATH": f"{bin_dir}:{env.get('PATH', '/usr/bin:/bin')}"}

    def __call__(self, *arguments, status=0, env=None, **keywords):
        keywords = {"stdin": subprocess.DEVNULL, "capture_output": True, "timeout": DEADLINE, **keywords}
        if "stdout" in keywords or "stderr" in keywords:
            keywords.pop("capture_output")
        done = subprocess.run([self.program, *map(os.fsencode, map(os.fspath, arguments))],
                              env={**self.env, **(env or {})}, **keywords)
        assert done.returncode == status, (arguments, done.returncode, done.stdout, done.stderr)
        return done

    def document(self, verb, *arguments, status=0, kind=None, **keywords):
        done = self(verb, "--json", *arguments, status=status, **keywords)
        document = json.loads(done.stdout)
        validate(document, kind or verb)
        return document

    def start(self, *arguments, **keywords):
        keywords = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **keywords}
        return subprocess.Popen([self.program, *map(os.fspath, arguments)], env=self.env, **keywords)


@pytest.fixture
def cli(bin_dir, daemon):
    return Cli(bin_dir, {**daemon.env, "HEARTH_AUTOSTART": "0"})


@pytest.fixture
def alone(bin_dir, tmp_path):
    """Without any daemon."""
    base = {k: v for k, v in os.environ.items() if not k.startswith(("HEARTH_", "XDG_"))}
    env = {**base, "HEARTH_AUTOSTART": "0", "HEARTH_SOCKET": str(tmp_path / "none.sock"), "HOME": str(tmp_path)}
    return Cli(bin_dir, env)


@pytest.fixture
def model(tmp_path):
    """Two shards with their index, a configuration, and weights in a format that gives way to safetensors."""
    np = pytest.importorskip("numpy", reason="numpy is not installed")
    numpy_files = pytest.importorskip("safetensors.numpy", reason="the safetensors library is not installed")
    folder = tmp_path / "model"
    folder.mkdir()
    first = {"a": np.arange(10, dtype=np.float32), "b": np.zeros((4, 4), np.float16), "scalar": np.array(1.0)}
    second = {"c": np.arange(6, dtype=np.int64).reshape(2, 3)}
    names = [f"model-{i:05}-of-00002.safetensors" for i in (1, 2)]
    numpy_files.save_file(first, folder / names[0], metadata={"format": "pt", "shard": "1"})
    numpy_files.save_file(second, folder / names[1], metadata={"format": "pt", "shard": "2"})
    weight_map = {**{k: names[0] for k in first}, **{k: names[1] for k in second}}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    (folder / "config.json").write_text('{"hidden_size": 4}')
    (folder / "sub").mkdir()
    (folder / "sub" / "tokenizer.json").write_text("{}")
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    return folder


@pytest.fixture
def single(model):
    return model / "model-00001-of-00002.safetensors"


@pytest.fixture
def bad(tmp_path):
    path = tmp_path / "bad.safetensors"
    path.write_bytes(b"\xff" * 8 + b"{}")
    return path


# ---- help and usage ----

VERBS = ["load", "ls", "status", "inspect", "attach", "cat", "evict", "stop", "run", "wait", "cancel", "watch",
         "pin", "unpin", "health"]


def test_every_verb_has_help_with_examples(alone):
    overview = alone("--help").stdout.decode()
    for verb in VERBS:
        assert f"\n  {verb} " in overview
        text = alone(verb, "--help").stdout.decode()
        assert text.startswith(f"Usage: hearth {verb}")
        assert f"\n  hearth {verb}" in text.split("Examples:")[1]
        assert alone("help", verb).stdout.decode() == text
    assert alone("--version").stdout.startswith(b"hearth ")


@pytest.mark.parametrize("arguments", [[], ["nothing"], ["load"], ["ls", "x"], ["load", "a", "b"], ["load", "--no"],
                                       ["load", "--verify", "some", "x"], ["load", "--timeout", "x", "x"]])
def test_usage_errors_exit_with_2(alone, arguments):
    assert alone(*arguments, status=2).stderr


def test_a_usage_error_is_a_document_with_json(alone):
    document = alone.document("load", "--verify", "some", status=2, kind="failure")
    assert document["error"]["code"] == "invalid"
    document = json.loads(alone("--json", status=2).stdout)
    validate(document, "failure")
    assert document["error"]["hint"] == "hearth --help"


# ---- no daemon ----


@pytest.mark.parametrize("arguments", [["ls"], ["status"], ["evict", "x"], ["stop"], ["load", "/etc/hostname"],
                                       ["attach", "0123456789ab"], ["cat", "/etc/hostname"]])
def test_without_a_daemon_the_status_is_3(alone, arguments):
    done = alone(*arguments, status=3)
    assert b"hint: " in done.stderr
    document = alone.document(*arguments, status=3, kind="evict" if arguments[0] == "evict" else "failure")
    assert document["error"]["code"] == "no_daemon"


def test_run_without_a_daemon_is_125(alone):
    alone("run", "/etc/hostname", "--", "true", status=125)


def test_what_kept_the_daemon_from_starting_is_said(alone, tmp_path):
    (tmp_path / "hearth").mkdir()
    (tmp_path / "hearth").chmod(0o777)
    env = {"HEARTH_AUTOSTART": "1", "HEARTH_SOCKET": "", "XDG_RUNTIME_DIR": str(tmp_path)}
    for preexec in (None, lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN)):
        done = alone("load", "/etc/hostname", status=1, env=env, preexec_fn=preexec)
        assert b"0777" in done.stderr


def test_ls_never_starts_a_daemon(alone):
    for verb in (["ls"], ["status"], ["stop"], ["evict", "x"]):
        alone(*verb, status=3, env={"HEARTH_AUTOSTART": "1"})
    assert not pathlib.Path(alone.env["HEARTH_SOCKET"]).exists()


@pytest.mark.parametrize("verb", ["load", "attach", "cat", "run"])
def test_an_id_never_starts_a_daemon(alone, tmp_path, verb):
    """A new one would know no ids."""
    command = ["--", "true"] if verb == "run" else []
    alone(verb, "0123456789ab", *command, status=125 if verb == "run" else 3, env={"HEARTH_AUTOSTART": "1"})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("named", [True, False])
def test_load_starts_the_users_daemon_and_says_so_once(alone, model, tmp_path, named):
    """On the named socket, or without a name on the user's own."""
    runtime = tmp_path / "runtime"
    runtime.mkdir(mode=0o700)
    env = {"HEARTH_AUTOSTART": "1", "XDG_RUNTIME_DIR": str(runtime)}
    if not named:
        del alone.env["HEARTH_SOCKET"]
    first = alone("load", model, env=env)
    try:
        status = alone.document("status", env=env)
        assert first.stderr.decode().count(f"pid {status['pid']}") == 1
        assert status["socket"] in first.stderr.decode()
        assert named or status["socket"].startswith(str(runtime))
        again = alone("load", model, env=env)
        assert again.stderr == b""
        assert alone("cat", model, "config.json", env=env).stdout == (model / "config.json").read_bytes()
    finally:
        stopped = alone.document("stop", env=env)
    wait_until(lambda: not pathlib.Path(f"/proc/{stopped['pid']}").exists(), "the daemon ends")
    alone("ls", status=3, env=env)


def test_a_daemon_that_cannot_start_is_one_clear_error(alone, model, tmp_path):
    missing = tmp_path / "no-such-folder" / "hearth.sock"
    done = alone("load", model, status=3, env={"HEARTH_AUTOSTART": "1", "HEARTH_SOCKET": str(missing)})
    assert str(missing) in done.stderr.decode()


# ---- stop ----


class Between:
    """Carries packets between one client and a daemon; the client learns that the daemon hung up only when told."""

    def __init__(self, path, daemon):
        self.client_may_know = threading.Event()
        self.daemon_gone = threading.Event()
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(str(path))
        self.listener.listen()
        self.daemon = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.daemon.connect(daemon)
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        client, _ = self.listener.accept()
        with client, self.daemon, self.listener:
            while True:
                for one in select.select([client, self.daemon], [], [])[0]:
                    packet = one.recv(1 << 16)
                    if not packet:
                        self.daemon_gone.set()
                        self.client_may_know.wait(DEADLINE)
                        return
                    (self.daemon if one is client else client).send(packet)


def test_stop_returns_when_the_daemon_has_hung_up(cli, daemon, tmp_path):
    """And not before: until then its socket may be there, and a connection to it would be one to a dying daemon."""
    between = Between(tmp_path / "between.sock", daemon.socket)
    process = cli.start("--socket", tmp_path / "between.sock", "stop")
    assert between.daemon_gone.wait(DEADLINE)
    assert not os.path.lexists(daemon.socket)  # it goes before the connections do
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.3)
    between.client_may_know.set()
    assert process.wait(DEADLINE) == 0
    assert str(daemon.pid).encode() in process.stdout.read()


def test_stop_says_when_the_daemon_does_not_end_in_time(cli, daemon, tmp_path):
    between = Between(tmp_path / "between.sock", daemon.socket)
    socket_option = ("--socket", tmp_path / "between.sock")
    document = cli.document("stop", "--timeout", "500ms", *socket_option, status=1, kind="failure")
    assert document["error"]["code"] == "timeout"
    between.client_may_know.set()


# ---- load, ls, status, evict ----


def test_load_says_what_was_done(cli, model):
    taken = sum(p.stat().st_size for p in model.rglob("*") if p.is_file() and p.suffix != ".bin")
    document = cli.document("load", model)
    assert document["state"] == "resident"
    assert document["bytes"] == taken
    assert document["from"]["disk"] + document["from"]["page_cache"] == taken
    assert document["verified"] == "recorded"
    assert document["phases"]["read"]["end"] >= document["phases"]["read"]["start"]
    again = cli.document("load", model)
    assert again["id"] == document["id"]
    assert again["from"] == {"disk": 0, "page_cache": 0, "resident": taken}
    assert again["gb_per_s"] == 0
    text = cli("load", model).stdout.decode()
    assert document["id"] in text and "resident" in text


def test_ls_and_status_show_what_is_there(cli, model):
    assert cli.document("ls")["artifacts"] == []
    assert cli("ls").stdout == b"No artifacts.\n"
    loaded = cli.document("load", model)
    (entry,) = cli.document("ls")["artifacts"]
    assert entry["id"] == loaded["id"]
    assert entry["ref"] == str(model)
    assert entry["leases"] == 0
    assert entry["stale"] is False
    assert entry["resident_bytes"] >= entry["bytes"]
    lines = cli("ls").stdout.decode().splitlines()
    assert lines[0].split() == ["ID", "STATE", "SIZE", "MEMORY", "VERIFIED", "BACKING", "LEASES", "REF"]
    assert lines[1].startswith(loaded["id"]) and lines[1].endswith(str(model))
    status = cli.document("status")
    assert status["artifacts"] == 1
    assert status["resident_bytes"] >= loaded["bytes"]
    assert status["budget"] >= status["resident_bytes"]
    assert status["socket"] == cli.env["HEARTH_SOCKET"]
    assert str(status["pid"]) in cli("status").stdout.decode()


def test_an_id_is_accepted_wherever_a_ref_is(cli, model):
    identity = cli.document("load", model)["id"]
    assert cli.document("load", identity)["id"] == identity
    assert cli.document("attach", identity)["id"] == identity
    assert cli("cat", identity, "config.json").stdout == (model / "config.json").read_bytes()
    assert cli("run", identity, "--", "cat", "{}/config.json").stdout == (model / "config.json").read_bytes()
    assert cli.document("evict", identity)["evicted"][0]["id"] == identity
    assert cli.document("attach", identity, status=1, kind="failure")["error"]["code"] == "not_found"


def test_selection_and_digests_reach_the_daemon(cli, model):
    document = cli.document("load", "--include", "*.json", model)
    assert document["bytes"] == sum(p.stat().st_size for p in model.rglob("*.json"))
    name = "model-00002-of-00002.safetensors"
    digest = hashlib.sha256((model / name).read_bytes()).hexdigest()
    only = cli.document("load", "--include", name, "--sha256", f"{name}={digest}", model)
    assert only["verified"] == "sha256"
    wrong = cli.document("load", "--include", name, "--sha256", f"{name}={'0' * 64}", model, status=4, kind="failure")
    assert wrong["error"]["code"] == "integrity"
    assert wrong["error"]["file"].endswith(name)
    assert wrong["error"]["expected"] and wrong["error"]["found"]
    alone = cli.document("load", "--sha256", digest, model / name)
    assert alone["verified"] == "sha256"


def test_evict_takes_a_path_and_all_its_generations(cli, model):
    first = cli.document("load", model)["id"]
    holder = cli.start("attach", model)
    assert holder.stdout.readline()
    (model / "config.json").write_text('{"hidden_size": 5}')
    second = cli.document("load", model)["id"]
    assert first != second
    shown = {a["id"]: a for a in cli.document("ls")["artifacts"]}
    assert shown[first]["stale"] and not shown[second]["stale"]
    assert shown[first]["leases"] == 1
    refused = cli("evict", first, status=1)
    assert str(holder.pid).encode() in refused.stderr
    assert cli.document("evict", first, status=1)["error"]["code"] == "busy"
    gone = cli.document("evict", "--force", os.path.relpath(model))["evicted"]
    assert {a["id"] for a in gone} == {first, second}
    holder.stdin.close()
    assert holder.wait(DEADLINE) == 0
    wait_until(lambda: cli.document("ls")["artifacts"] == [], "the last holder lets it go")
    assert cli.document("evict", model, status=1)["error"]["code"] == "not_found"


def test_a_mistyped_name_evicts_nothing(cli, model):
    cli("load", model)
    cli("evict", model, "/no/such", status=1)
    document = cli.document("evict", model, "/no/such", status=1)
    assert (document["evicted"], document["error"]["code"]) == ([], "not_found")
    assert len(cli.document("ls")["artifacts"]) == 1


def test_the_first_refusal_ends_an_eviction_and_both_are_told(cli, tmp_path):
    paths = [tmp_path / name for name in ("a.json", "b.json", "c.json")]
    for path in paths:
        path.write_text("{}")
    loaded = [cli.document("load", path)["id"] for path in paths]
    holder = cli.start("attach", paths[1])
    assert holder.stdout.readline()
    document = cli.document("evict", *paths, status=1)
    assert [a["id"] for a in document["evicted"]] == loaded[:1]
    assert document["error"]["code"] == "busy"
    document = cli.document("evict", *paths[1:], status=1)
    assert (document["evicted"], document["error"]["code"]) == ([], "busy")
    assert {a["id"] for a in cli.document("ls")["artifacts"]} == set(loaded[1:])
    holder.stdin.close()
    assert holder.wait(DEADLINE) == 0


def test_a_refused_artifact_exits_with_4(cli, bad):
    done = cli("load", bad, status=4)
    lines = done.stderr.decode().splitlines()
    assert lines[0].startswith("hearth: ")
    assert f"  file: {bad}" in lines
    assert any(line.startswith("  offset: ") for line in lines)
    document = cli.document("load", bad, status=4, kind="failure")
    assert document["error"]["code"] == "malformed"
    assert [a for a in cli.document("ls")["artifacts"] if a["state"] != "failed" or a["resident_bytes"]] == []


def test_attach_says_why_a_load_failed_after_the_fact(cli, bad):
    """From memory: the file is gone by then. What could not even be resolved is not listed."""
    reason = cli.document("load", bad, status=4, kind="failure")["error"]
    (entry,) = cli.document("ls")["artifacts"]
    assert (entry["state"], entry["ref"]) == ("failed", str(bad))
    bad.unlink()
    assert cli.document("attach", entry["id"], status=4, kind="failure")["error"] == reason
    assert cli.document("load", entry["id"], status=1, kind="failure")["error"]["code"] == "not_found"
    assert [a["id"] for a in cli.document("ls")["artifacts"]] == [entry["id"]]
    assert cli.document("status")["artifacts"] == 0


def test_one_place_has_one_name(cli, model, tmp_path, monkeypatch):
    """However it is typed; but a link keeps its own, for it may lead elsewhere tomorrow."""
    (tmp_path / "latest").symlink_to(model)
    (tmp_path / "elsewhere").symlink_to("/usr/lib")
    monkeypatch.chdir(model / "sub")
    identity = cli.document("load", model)["id"]
    for name in ("..", "../", ".././../model", f"{tmp_path}//model/./", f"{tmp_path}/latest/../model"):
        document = cli.document("load", name)
        assert (document["id"], document["ref"]) == (identity, str(model)), name
    assert cli.document("load", "../../latest")["ref"] == str(tmp_path / "latest")
    # ".." behind a link leads back from where the link leads to.
    assert cli("load", f"{tmp_path}/elsewhere/../model", status=1)
    assert len(cli.document("evict", "../../model/.")["evicted"]) == 1


def test_what_is_not_there_fails_with_1(cli, model):
    assert cli.document("load", model / "none", status=1, kind="failure")["error"]["code"] == "not_found"
    assert cli.document("cat", model, "none", status=1, kind="failure")["error"]["code"] == "not_found"


def test_a_name_that_is_neither_a_path_nor_an_id_is_said_as_it_was_given(cli):
    error = cli.document("load", "no/such", status=1, kind="failure")["error"]
    assert (error["code"], error["file"]) == ("not_found", "no/such")
    assert error["expected"] == "a path that exists, or an id of 12 hex digits"
    assert cli.document("load", b"odd\xff", status=1, kind="failure")["error"]["file_b64"]


def test_odd_names_are_shown_safely_and_exactly(cli, tmp_path):
    folder = os.fsencode(tmp_path) + b"/odd\x1b[2J\xff"
    os.mkdir(folder)
    with open(folder + b"/config\n\xfe.json", "w", encoding="ascii") as f:
        f.write("{}")
    loaded = cli.document("load", folder)
    assert base64.b64decode(loaded["ref_b64"]) == folder
    for verb in (["ls"], ["load", folder], ["attach", folder], ["inspect", folder]):
        shown = cli(*verb).stdout
        assert b"\x1b" not in shown and b"\xff" not in shown and b"\\x1b" in shown
    attached = cli.document("attach", folder)
    assert base64.b64decode(attached["files"][0]["path_b64"]) == b"config\n\xfe.json"
    inspected = cli.document("inspect", folder)
    assert base64.b64decode(inspected["files"][0]["path_b64"]) == b"config\n\xfe.json"
    assert cli("run", folder, "--", "cat", b"{}/config\n\xfe.json").stdout == b"{}"
    assert cli.document("evict", folder)["evicted"]


def test_a_name_cannot_turn_the_direction_of_writing(cli, daemon, tmp_path):
    """Not even in an error or a log; programs get it as it is."""
    path = tmp_path / "safe\u202egpj.json"
    path.write_text("{}")
    assert cli.document("load", path)["ref"] == str(path)
    assert cli.document("inspect", path)["files"][0]["path"] == path.name
    shown = [cli(*verb) for verb in (["ls"], ["load", path], ["attach", path], ["inspect", path], ["evict", path])]
    shown.append(cli("load", path, "--sha256", "0" * 64, status=4))
    for text in ((done.stdout + done.stderr).decode() for done in shown):
        assert "\u202e" not in text and "safe\\u202egpj.json" in text
    assert "\u202e" not in daemon.log() and "safe\\u202egpj.json" in daemon.log()


# ---- output ----


def test_a_full_disk_is_an_error(cli, model):
    with open("/dev/full", "wb") as full:
        done = cli("cat", model, "config.json", stdout=full, stderr=subprocess.PIPE, status=1)
        assert b"No space left" in done.stderr
        done = cli("ls", "--json", stdout=full, stderr=subprocess.PIPE, status=1)
        assert b"No space left" in done.stderr


@pytest.mark.parametrize("ignored", [False, True])
def test_a_reader_that_goes_is_no_news(cli, tmp_path, ignored):
    (tmp_path / "big.bin").write_bytes(bytes(4 << 20))
    quiet = {"preexec_fn": lambda: signal.signal(signal.SIGPIPE, signal.SIG_IGN if ignored else signal.SIG_DFL)}
    process = cli.start("cat", tmp_path / "big.bin", restore_signals=False, **quiet)
    process.stdout.read(10)
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(DEADLINE) == (1 if ignored else -signal.SIGPIPE)


def test_progress_is_for_terminals_unless_forced(cli, model, tmp_path):
    assert cli("load", model).stderr == b""
    (tmp_path / "big.bin").write_bytes(os.urandom(1 << 20) * 64)
    forced = cli("load", "--progress", tmp_path / "big.bin").stderr.decode()
    assert "\r" in forced and forced.endswith("\n") and "\x1b" not in forced
    assert cli("load", "--progress", "--quiet", model).stderr == b""


def test_on_a_terminal_the_line_is_erased(cli, tmp_path):
    (tmp_path / "big.bin").write_bytes(os.urandom(1 << 20) * 64)
    outer, inner = pty.openpty()
    process = cli.start("load", "--json", tmp_path / "big.bin", stderr=inner)
    os.close(inner)
    document = json.loads(process.stdout.read())
    assert process.wait(DEADLINE) == 0
    validate(document, "load")
    shown = b""
    while chunk := read_terminal(outer):
        shown += chunk
    os.close(outer)
    assert shown.startswith(b"\rbig.bin  ")
    assert shown.endswith(b"\r\x1b[K")


def read_terminal(fd):
    try:
        return os.read(fd, 4096)
    except OSError:  # EIO: the other end has closed
        return b""


# ---- attach ----


def test_attach_holds_until_the_end_of_input(cli, model):
    process = cli.start("attach", "--json", model)
    document = json.loads(process.stdout.readline())
    validate(document, "attach")
    assert document["mapped_bytes"] == document["bytes"]
    assert document["tensors"] == 4
    assert cli.document("ls")["artifacts"][0]["leases"] == 1
    process.stdin.close()
    assert process.wait(DEADLINE) == 0
    wait_until(lambda: cli.document("ls")["artifacts"][0]["leases"] == 0, "the lease goes")


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_hold(cli, model, sig):
    process = cli.start("attach", model)
    assert process.stdout.readline()
    process.send_signal(sig)
    assert process.wait(DEADLINE) == 0


def test_a_hold_survives_the_daemon(cli, model, daemon):
    process = cli.start("attach", model)
    assert process.stdout.readline()
    assert daemon.stop() == 0
    assert b"daemon has gone" in process.stderr.readline()
    assert process.poll() is None
    process.stdin.close()
    assert process.wait(DEADLINE) == 0


# ---- cat ----


def test_cat_writes_a_files_bytes(cli, model, single):
    for path in (p for p in model.rglob("*") if p.is_file() and p.suffix != ".bin"):
        assert cli("cat", model, path.relative_to(model)).stdout == path.read_bytes()
    assert cli("cat", single).stdout == single.read_bytes()
    assert b"say which" in cli("cat", model, status=1).stderr


# ---- inspect ----


def test_inspect_agrees_with_the_safetensors_library(alone, model):
    from safetensors import safe_open

    document = alone.document("inspect", model)
    assert document["verdict"] == "ok"
    assert document["format"] == "safetensors"
    assert document["metadata"] == {"format": "pt"}
    files = {f["path"]: f for f in document["files"]}
    assert files["sub/tokenizer.json"]["role"] == "tokenizer"
    assert files["config.json"]["role"] == "config"
    skipped = [f for f in document["findings"] if f["code"] == "skipped"]
    assert [f["file"] for f in skipped] == ["pytorch_model.bin"]
    places = [(t["file"], t["offset"]) for t in document["tensors"]]
    assert places == sorted(places)
    seen = set()
    for path in sorted(model.glob("*.safetensors")):
        assert files[path.name]["role"] == "weights"
        assert files[path.name]["metadata"] == {"shard": str(int(path.name[6:11]))}
        data = path.read_bytes()
        with safe_open(path, "numpy") as f:
            for name in f.keys():
                (t,) = [t for t in document["tensors"] if t["name"] == name]
                array = f.get_tensor(name)
                assert t["shape"] == list(array.shape)
                assert t["dtype"] == f.get_slice(name).get_dtype()
                assert data[t["offset"] : t["offset"] + t["bytes"]] == array.tobytes()
                seen.add(name)
    assert seen == {t["name"] for t in document["tensors"]}


def test_inspect_is_readable(alone, model, single):
    text = alone("inspect", model).stdout.decode()
    for words in ("verdict   ok", "safetensors", "config.json", "F16", "skipped  pytorch_model.bin"):
        assert words in text
    assert "OFFSET" not in text
    assert "[4, 4]" in alone("inspect", "--tensors", single).stdout.decode()
    assert b"skipped  sub/tokenizer.json" in alone("inspect", "--exclude", "sub/*", model).stdout


def test_weights_that_are_not_looked_into_are_told(alone, model, single, tmp_path):
    """Such as a pickle, which may execute code. The verdict stays: it is of what was looked at."""
    folder = tmp_path / "other"
    folder.mkdir()
    (folder / "classifier.pkl").write_bytes(b"\x80\x04.")
    (folder / "config.json").write_text("{}")
    (folder / "notes.dat").write_bytes(b"x")  # no weights
    (folder / "shard.bin").write_bytes(single.read_bytes())  # safetensors by another name
    document = alone.document("inspect", folder)
    message = "held as it is: this version does not look into this format"
    assert document["findings"] == [
        {"code": "not_inspected", "file": "classifier.pkl", "offset": None, "message": message}]
    assert document["verdict"] == "ok"
    assert f"  not_inspected  classifier.pkl  {message}\n" in alone("inspect", folder).stdout.decode()
    assert b"Findings" not in alone("inspect", single).stdout
    with_pickle = alone.document("inspect", "--include", "*", model)
    assert [(f["code"], f["file"]) for f in with_pickle["findings"]] == [("not_inspected", "pytorch_model.bin")]


def test_a_refused_artifact_still_has_a_document(alone, bad):
    document = alone.document("inspect", bad, status=4)
    assert document["verdict"] == "refused"
    finding = document["findings"][0]
    assert finding["code"] == document["error"]["code"] == "malformed"
    assert finding["file"] == bad.name
    assert finding["offset"] == 0
    assert alone("inspect", bad, status=4).stdout == b""


def test_a_link_that_leads_out_is_unsafe(alone, model):
    (model / "generation_config.json").symlink_to("/etc/hostname")
    document = alone.document("inspect", model, status=4)
    assert document["verdict"] == "unsafe"
    assert document["findings"][0]["file"] == "generation_config.json"


def test_every_truncation_is_refused_with_a_document(alone, single, tmp_path):
    whole = single.read_bytes()
    for length in range(0, len(whole), 7):
        path = tmp_path / "cut.safetensors"
        path.write_bytes(whole[:length])
        assert alone.document("inspect", path, status=4)["verdict"] == "refused"


# ---- interrupted loads ----


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_load_ends_in_the_daemon_too(cli, daemon, tmp_path, sig):
    (tmp_path / "big.bin").write_bytes(bytes(512 << 20))
    os.kill(daemon.pid, signal.SIGSTOP)  # so that the load is surely under way when the signal comes
    process = None
    try:
        process = cli.start("load", "--json", tmp_path / "big.bin")
        time.sleep(0.2)
        process.send_signal(sig)
        os.kill(daemon.pid, signal.SIGCONT)
        output = process.stdout.read()
        status = process.wait(DEADLINE)
    finally:
        os.kill(daemon.pid, signal.SIGCONT)
    # While it still connects, the signal's default action ends it.
    assert status in (128 + sig, -sig)
    if status > 0:
        document = json.loads(output)
        validate(document, "failure")
        assert document["error"]["code"] == "cancelled"
    wait_until(lambda: not [a for a in cli.document("ls")["artifacts"] if a["state"] == "loading"], "the load ends")


def test_a_timeout_is_kept(cli, daemon, model):
    os.kill(daemon.pid, signal.SIGSTOP)
    try:
        document = cli.document("load", "--timeout", "300ms", model, status=1, kind="failure")
    finally:
        os.kill(daemon.pid, signal.SIGCONT)
    assert document["error"]["code"] == "timeout"
