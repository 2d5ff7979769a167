"""An installed hearth: everything is where it belongs, and works from there without the build. (test_libhearth.py looks
into the library itself.)"""

import os
import re
import subprocess

import pytest
from conftest import DEADLINE, ROOT, wait_until
from install import install, output
from packets import Client, make_safetensors


@pytest.fixture(scope="module")
def build(bin_dir):
    return bin_dir.parent


@pytest.fixture(scope="module")
def moved(build, tmp_path_factory):
    """Installed to a prefix that was not known when it was built."""
    folder = tmp_path_factory.mktemp("moved")
    install(build, folder, prefix=folder / "prefix")
    return folder / "prefix"


def installed_files(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


def test_everything_is_where_it_belongs_and_nothing_elsewhere(moved):
    files = {re.sub(r"^lib(64)?/(x86_64-linux-gnu/|aarch64-linux-gnu/)?", "lib/", name) for name in installed_files(moved)}
    programs = {"bin/hearthd", "bin/hearth", "libexec/hearth/hearth-parse"}
    headers = {f"include/hearth/{path.name}" for path in (ROOT / "include/hearth").glob("*.h")}
    assert programs | headers <= files
    assert {"lib/libhearth.so", "lib/libhearth.so.0", "lib/libhearth.a", "lib/pkgconfig/hearth.pc"} <= files
    assert {"lib/systemd/system/hearthd.service", "lib/systemd/user/hearthd.service"} <= files
    roots = {name.split("/")[0] for name in files}
    assert roots == {"bin", "lib", "libexec", "include", "share"}
    assert installed_files(moved.parent) - {f"prefix/{name}" for name in installed_files(moved)} <= {
        "cmake_install.cmake", "install_manifest.txt"
    }
    for program in programs:
        assert os.access(moved / program, os.X_OK)


def test_a_relative_prefix_is_made_absolute(build, tmp_path):
    """pkg-config and systemd know nothing of the folder that it was relative to."""
    install(build, tmp_path, prefix="here")
    (config,) = (tmp_path / "here").rglob("hearth.pc")
    assert f"prefix={tmp_path}/here\n" in config.read_text()
    for unit in (tmp_path / "here").rglob("hearthd.service"):
        assert f"ExecStart={tmp_path}/here/bin/hearthd" in unit.read_text()


def test_destdir_takes_all_of_it(build, tmp_path):
    install(build, tmp_path, destdir=tmp_path / "stage")
    files = installed_files(tmp_path / "stage")
    (config,) = (tmp_path / "stage").rglob("hearth.pc")
    prefix = re.search(r"^prefix=(.+)$", config.read_text(), re.M)[1]
    assert all(f"/{name}".startswith(prefix + "/") for name in files)
    for text in (config, *(tmp_path / "stage").rglob("hearthd.service")):
        assert str(tmp_path) not in text.read_text()
    listed = (tmp_path / "install_manifest.txt").read_text().splitlines()
    assert {f"/{name}" for name in files} == set(listed)


def test_the_units_start_the_installed_daemon(moved):
    units = sorted(moved.rglob("hearthd.service"))
    assert [unit.parent.name for unit in units] == ["system", "user"]
    for unit in units:
        assert (unit.parent / "hearthd.socket").exists()
        text = unit.read_text()
        assert re.findall(r"^ExecStart=(\S+)", text, re.M) == [str(moved / "bin/hearthd")]
        assert not re.search(r"@\w+@", text)


def test_no_link_in_the_installed_documents_is_dead(moved):
    (readme,) = moved.rglob("README.md")
    pages = [readme, *(readme.parent / "docs").glob("*.md")]
    assert {page.name for page in pages} >= {path.name for path in (ROOT / "docs").glob("*.md")}
    for page in pages:
        for link in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
            assert "://" in link or (page.parent / link).exists(), f"{page}: {link}"


def test_the_shared_library_has_its_soname_and_versions(moved):
    (library,) = moved.rglob("libhearth.so.0")
    assert re.search(r"SONAME.*\[libhearth\.so\.0\]", output("readelf", "-dW", str(library)))
    symbols = output("readelf", "--dyn-syms", "-W", str(library))
    assert re.search(r"hearth_connect@@\w+", symbols)
    assert os.readlink(library).startswith("libhearth.so.0.")
    assert os.readlink(library.parent / "libhearth.so") == "libhearth.so.0"


def test_no_installed_program_needs_the_build_folder(moved, build):
    for program in ("bin/hearthd", "bin/hearth", "libexec/hearth/hearth-parse"):
        dynamic = output("readelf", "-dW", str(moved / program))
        assert "RPATH" not in dynamic and "RUNPATH" not in dynamic, dynamic


@pytest.mark.parametrize("linked", ["shared", "static"])
def test_the_example_works_with_what_is_installed(moved, sanitizer, make_daemon, tmp_path, linked):
    """Compiled with pkg-config's flags, against an installed daemon, which finds its installed helper."""
    if sanitizer:
        pytest.skip("a plain program cannot link a sanitizer build")
    (config,) = moved.rglob("hearth.pc")
    env = {**os.environ, "PKG_CONFIG_PATH": str(config.parent)}
    assert output("pkg-config", "--variable=prefix", "hearth", env=env).strip() == str(moved)
    flags = output("pkg-config", "--cflags", "--libs", "hearth", env=env).split()
    if linked == "static":
        (archive,) = moved.rglob("libhearth.a")
        flags = [str(archive) if flag == "-lhearth" else flag for flag in flags]
    program = tmp_path / "example"
    output("cc", "-std=c11", "-Wall", "-Wextra", "-Werror", str(ROOT / "docs/example.c"), *flags, "-o", str(program))
    daemon = make_daemon(program=moved / "bin/hearthd")
    (tmp_path / "model").mkdir()
    make_safetensors(tmp_path / "model" / "model.safetensors", 8, bytes(range(8)))
    env = {k: v for k, v in daemon.env.items() if k != "LD_LIBRARY_PATH"}
    if linked == "shared":
        env["LD_LIBRARY_PATH"] = str(config.parent.parent)
    assert output(str(program), "model", cwd=tmp_path, env=env).splitlines()[1] == "w U8 [8] 8 bytes: 00 01 02 03 04 05 06 07"
    needed = output("readelf", "-dW", str(program))
    assert ("libhearth.so.0" in needed) == (linked == "shared")


def test_an_installed_daemon_uses_its_installed_helper(moved, make_daemon, tmp_path):
    daemon = make_daemon(program=moved / "bin/hearthd")
    path = make_safetensors(tmp_path / "model.safetensors", 100)
    helper = moved / "libexec/hearth/hearth-parse"
    with Client(daemon.socket) as client:
        assert client.evict(client.load(path)["id"]) == 1
        os.rename(helper, f"{helper}.away")
        try:
            os.symlink("/bin/false", helper)
            with pytest.raises(Exception, match="^parser: "):
                client.load(path)
        finally:
            os.replace(f"{helper}.away", helper)
        assert client.evict(client.load(path)["id"]) == 1


def test_the_installed_command_starts_the_installed_daemon(moved, tmp_path):
    env = {k: v for k, v in os.environ.items() if not k.startswith(("HEARTH_", "XDG_"))}
    env |= {"HEARTH_SOCKET": str(tmp_path / "hearth.sock"), "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    path = make_safetensors(tmp_path / "model.safetensors", 100)
    hearth = str(moved / "bin/hearth")
    try:
        done = subprocess.run([hearth, "load", path], env=env, capture_output=True, text=True, timeout=DEADLINE)
        assert done.returncode == 0, done
        with Client(env["HEARTH_SOCKET"]) as client:
            pid = client.status()["pid"]
        assert os.readlink(f"/proc/{pid}/exe") == str(moved / "bin/hearthd")
    finally:
        stopped = subprocess.run([hearth, "stop"], env=env, capture_output=True, timeout=DEADLINE)
    assert stopped.returncode == 0
    wait_until(lambda: not os.path.exists(f"/proc/{pid}"), "the daemon has ended")


def test_the_headers_are_cxx(moved, tmp_path):
    source = tmp_path / "all.cc"
    names = sorted(path.name for path in (moved / "include/hearth").glob("*.h"))
    source.write_text("".join(f"#include <hearth/{name}>\n" for name in names))
    try:
        output("c++", "-std=c++11", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", f"-I{moved}/include", str(source))
    except FileNotFoundError:
        pytest.skip("there is no C++ compiler")
