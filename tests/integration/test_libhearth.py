"""libhearth as a user gets it: what it exports, what it needs, and the documented example built by pkg-config against an
installed copy and run against a daemon."""

import json
import os
import re
import shutil
import struct
import subprocess

import pytest

from conftest import ROOT
from install import install, output

API = re.compile(r"HEARTH_API[^;(]*?(hearth_\w+)\(")


@pytest.fixture(scope="module")
def build(bin_dir):
    return bin_dir.parent


@pytest.fixture(scope="module")
def sanitized(build):
    return re.search(r"^HEARTH_SANITIZE:STRING=.+$", (build / "CMakeCache.txt").read_text(), re.M) is not None


@pytest.fixture(scope="module")
def api():
    header = (ROOT / "include/hearth/hearth.h").read_text()
    names = set(API.findall(re.sub(r"/\*.*?\*/", "", header, flags=re.S)))
    assert len(names) > 20
    return names | {"hearth_code_name"}


@pytest.fixture(scope="module")
def installed(build, tmp_path_factory):
    """The folder of an installation, and the environment in which pkg-config finds it."""
    folder = tmp_path_factory.mktemp("installed")
    install(build, folder, destdir=folder)
    (config,) = folder.rglob("hearth.pc")
    env = {**os.environ, "PKG_CONFIG_PATH": str(config.parent), "PKG_CONFIG_SYSROOT_DIR": str(folder)}
    return folder, env


def test_the_shared_library_exports_the_header_and_nothing_else(build, api):
    lines = output("nm", "-D", "--defined-only", str(build / "lib/libhearth.so.0")).splitlines()
    exported = {line.split()[-1].partition("@@")[0] for line in lines if " A " not in line}
    assert exported == api


def test_the_archive_exports_the_header_and_nothing_else(build, api):
    lines = output("nm", "--defined-only", "--extern-only", str(build / "lib/libhearth.a")).splitlines()
    exported = {line.split()[-1] for line in lines if len(line.split()) == 3}
    assert exported == api


def test_the_shared_library_needs_libc_alone(build, sanitized):
    if sanitized:
        pytest.skip("a sanitizer build needs the sanitizer's runtime")
    dynamic = output("readelf", "-d", str(build / "lib/libhearth.so.0"))
    needed = re.findall(r"NEEDED.*\[(.+)\]", dynamic)
    assert [name for name in needed if not name.startswith("ld-linux")] == ["libc.so.6"]
    assert re.findall(r"SONAME.*\[(.+)\]", dynamic) == ["libhearth.so.0"]


def test_the_library_neither_prints_nor_ends_the_program_nor_starts_threads(build, sanitized):
    if sanitized:
        pytest.skip("a sanitizer's runtime does all of this")
    undefined = set(output("nm", "--undefined-only", str(build / "lib/libhearth.a")).split())
    banned = {"printf", "puts", "putchar", "stdout", "stderr", "exit", "_exit", "abort", "pthread_create", "signal"}
    banned |= {"sigaction", "fork", "__printf_chk", "__fprintf_chk", "fprintf"}
    assert not undefined & banned


def compile_against(installed, target, *arguments):
    _, env = installed
    flags = output("pkg-config", "--cflags", "--libs", "hearth", env=env).split()
    output("cc", *[str(a) for a in arguments], *flags, "-o", str(target))


def test_the_archive_does_not_collide_with_a_programs_own_names(installed, sanitized, tmp_path):
    if sanitized:
        pytest.skip("a plain program cannot link a sanitizer build")
    source = tmp_path / "own.c"
    source.write_text(
        "#include <hearth/hearth.h>\n"
        "int error_set(void) { return 1; }\n"
        "int wire_open(void) { return 2; }\n"
        "int main(void) { struct hearth *h; return hearth_connect(\"/nowhere\", 0, &h, 0) == HEARTH_E_NO_DAEMON &&\n"
        "    error_set() + wire_open() == 3 ? 0 : 1; }\n"
    )
    (archive,) = installed[0].rglob("libhearth.a")
    cflags = output("pkg-config", "--cflags", "hearth", env=installed[1]).split()
    output("cc", str(source), *cflags, str(archive), "-o", str(tmp_path / "own"))
    output(str(tmp_path / "own"))


def test_the_headers_are_valid_cxx_and_each_stands_alone(installed, tmp_path):
    if not shutil.which("c++"):
        pytest.skip("no C++ compiler")
    cflags = output("pkg-config", "--cflags", "hearth", env=installed[1]).split()
    for header in ("hearth", "index", "protocol", "error"):
        source = tmp_path / f"{header}.cc"
        source.write_text(f"#include <hearth/{header}.h>\n")
        output("c++", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", *cflags, str(source))


def write_safetensors(path, tensors):
    """tensors: name -> (dtype, shape, bytes)."""
    header, data = {}, b""
    for name, (dtype, shape, content) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def test_the_documented_example_runs(build, installed, sanitized, daemon, tmp_path):
    if sanitized:
        program = build / "tests/hearth-example"
    else:
        program = tmp_path / "example"
        compile_against(installed, program, ROOT / "docs/example.c")
    model = tmp_path / "model"
    model.mkdir()
    write_safetensors(
        model / "model.safetensors",
        {"b.weight": ("U8", [2, 5], bytes(range(10, 20))), "a.scale": ("U8", [], b"\x2a")},
    )
    (library,) = {path.parent for path in installed[0].rglob("libhearth.so.0")}
    env = {**daemon.env, "LD_LIBRARY_PATH": str(library)}
    run = output(str(program), "model", cwd=tmp_path, env=env).splitlines()
    assert run[0].startswith(f"{model}: 1 files, 2 tensors, verified: ")
    assert run[1] == "a.scale U8 [] 1 bytes: 2a"
    assert run[2] == "b.weight U8 [2, 5] 10 bytes: 0a 0b 0c 0d 0e 0f 10 11"
    assert output(str(program), "model", "a.scale", cwd=tmp_path, env=env).splitlines() == [run[1]]

    failed = subprocess.run([str(program), "model", "c"], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert failed.returncode == 1
    assert '"c"' in failed.stderr
    nobody = {**env, "HEARTH_SOCKET": str(tmp_path / "nobody")}
    failed = subprocess.run([str(program), "model"], cwd=tmp_path, env=nobody, capture_output=True, text=True)
    assert failed.returncode == 1
    assert "no hearthd answers" in failed.stderr
