"""The Debian packages: what is in them, and that they install, start, upgrade and go cleanly where a real systemd runs."""

import json
import os
import re
import shutil
import subprocess

import pytest
import systemd_sandbox
from conftest import wait_until
from packets import make_safetensors

MAN_DB = "var/lib/man-db/auto-update"
CONFIG, STATE, SOCKET = "etc/hearth/hearthd.conf", "var/lib/hearth", "/run/hearth/hearth.sock"


def output(*command, **keywords):
    return subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True, **keywords).stdout


@pytest.fixture(scope="module")
def packages(bin_dir, sanitizer, tmp_path_factory):
    """The packages of this build, by name."""
    build = bin_dir.parent
    if sanitizer:
        pytest.skip("nobody packs programs with sanitizers")
    if os.geteuid() != 0:
        pytest.skip("packing writes into the build folder, which is root's")
    if not shutil.which("dpkg-deb") or not (build / "CPackConfig.cmake").exists():
        pytest.skip("this is not Debian, or no build folder")
    cpack = re.search(r"^CMAKE_COMMAND:INTERNAL=(.*)cmake$", (build / "CMakeCache.txt").read_text(), re.M)[1] + "cpack"
    folder = tmp_path_factory.mktemp("packages")
    output(cpack, "--config", build / "CPackConfig.cmake", "-B", folder, cwd=build)
    return {output("dpkg-deb", "-f", path, "Package").strip(): path for path in folder.glob("*.deb")}


def listed(path):
    """Files, and what they lead to, of a package."""
    return re.findall(r" \./(\S*[^/\s])(?: -> \S+)?$", output("dpkg-deb", "-c", path), re.M)


def test_each_package_has_what_it_should(packages):
    assert set(packages) == {"hearth", "libhearth0", "libhearth-dev"}
    files = {name: listed(path) for name, path in packages.items()}
    for name in ("usr/bin/hearth", "usr/bin/hearthd", "usr/libexec/hearth/hearth-parse", CONFIG,
                 "usr/lib/systemd/system/hearthd.service", "usr/lib/systemd/system/hearthd.socket",
                 "usr/lib/systemd/user/hearthd.service", "usr/lib/sysusers.d/hearth.conf", "usr/lib/tmpfiles.d/hearth.conf",
                 "usr/share/man/man1/hearth.1.gz", "usr/share/man/man5/hearthd.conf.5.gz", "usr/share/man/man8/hearthd.8.gz",
                 "usr/share/bash-completion/completions/hearth", "usr/share/bash-completion/completions/hearthd",
                 "usr/share/zsh/vendor-completions/_hearth"):
        assert name in files["hearth"], name
    assert all(name.startswith(("usr/lib/", "usr/share/doc/")) for name in files["libhearth0"])
    assert [name for name in files["libhearth0"] if name.endswith("libhearth.so.0")]
    for suffix in ("libhearth.so", "libhearth.a", "pkgconfig/hearth.pc", "include/hearth/hearth.h"):
        assert [name for name in files["libhearth-dev"] if name.endswith(suffix)], suffix
    every = sum(files.values(), [])
    assert len(every) == len(set(every)), "two packages have the same file"
    depends = output("dpkg-deb", "-f", packages["hearth"], "Depends")
    assert "liburing2" in depends and "libc6" in depends and "libhearth0" not in depends


@pytest.mark.full
def test_lintian_finds_nothing(packages):
    if not shutil.which("lintian"):
        pytest.skip("lintian is not installed")
    # There is no mailing list, no bug that the first upload closes, and a build folder may be for another prefix.
    passed_over = ("bogus-mail-host,bogus-mail-host-in-debian-changelog,initial-upload-closes-no-bugs,"
                   "pkg-config-unavailable-for-cross-compilation")
    found = output("lintian", "--allow-root", "--fail-on", "none", "--suppress-tags", passed_over, *packages.values())
    assert found == ""


@pytest.fixture
def box(packages, tmp_path):
    """A booted systemd of this machine's packages, and a model in /srv/model."""
    why_not = systemd_sandbox.why_not()
    if why_not:
        pytest.skip(why_not)
    (tmp_path / "box").mkdir()
    sandbox = systemd_sandbox.Sandbox(tmp_path / "box")
    try:
        try:
            sandbox.wait_booted()
        except OSError as error:
            pytest.skip(str(error))
        for name in ("usr/sbin/policy-rc.d", MAN_DB):  # an image's "start nothing", and much work for one page
            (sandbox.root / name).unlink(missing_ok=True)
        (sandbox.root / "srv" / "model").mkdir()
        make_safetensors(sandbox.root / "srv" / "model" / "model.safetensors", 4096, os.urandom(4096))
        for path in packages.values():
            shutil.copy(path, sandbox.root / "srv")
        yield sandbox
    finally:
        sandbox.stop()


def state(box, unit):
    return box.run("systemctl", "show", "-P", "ActiveState", unit).stdout.strip()


def hearth(box, *arguments):
    return json.loads(box.run("hearth", *arguments, "--json").stdout)


def next_version(package, box):
    """The same package as a later version, whose configuration file says something else."""
    tree = box.root / "srv" / "next"
    output("dpkg-deb", "-R", package, tree)
    control = tree / "DEBIAN" / "control"
    control.write_text(re.sub(r"^Version: .*$", "Version: 99.0-1", control.read_text(), flags=re.M))
    with open(tree / CONFIG, "a") as config:
        config.write("# a later version\n")
    output("dpkg-deb", "-b", tree, box.root / "srv" / "next.deb")
    return "/srv/next.deb"


def test_they_install_start_upgrade_and_go(packages, box):
    box.run("dpkg", "-i", *(f"/srv/{path.name}" for path in packages.values()))

    # Installed: the socket listens, and the first connection starts the daemon as its own user.
    assert box.run("systemctl", "is-enabled", "hearthd.socket").stdout.strip() == "enabled"
    assert (state(box, "hearthd.socket"), state(box, "hearthd.service")) == ("active", "inactive")
    assert hearth(box, "load", "/srv/model")["state"] == "resident"
    status = hearth(box, "status")
    assert status["socket"] == SOCKET and state(box, "hearthd.service") == "active"
    uid = int(box.run("id", "-u", "hearth").stdout)
    assert f"Uid:\t{uid}\t" in (box.root / f"proc/{status['pid']}/status").read_text()

    # Upgraded: what the administrator wrote stays, and a daemon of the new version serves.
    changed = (box.root / CONFIG).read_text() + "log-level = debug\n"
    (box.root / CONFIG).write_text(changed)
    box.run("dpkg", "-i", "--force-confdef", "--force-confold", next_version(packages["hearth"], box))
    assert (box.root / CONFIG).read_text() == changed
    assert state(box, "hearthd.socket") == "active"
    assert hearth(box, "status")["pid"] != status["pid"]
    box.run("systemctl", "disable", "--now", "hearthd.socket")
    box.run("dpkg", "-i", f"/srv/{packages['hearth'].name}", "--force-downgrade", "--force-confold", check=False)
    assert box.run("systemctl", "is-enabled", "hearthd.socket", check=False).stdout.strip() == "disabled"
    box.run("systemctl", "enable", "--now", "hearthd.socket")
    assert hearth(box, "status")["pid"] > 0

    # Removed: nothing runs, what the administrator wrote and what the daemon remembers stay.
    (box.root / STATE).mkdir(exist_ok=True)
    (box.root / STATE / "remembered").write_text("")
    box.run("dpkg", "-r", "hearth")
    wait_until(lambda: not os.path.exists(box.root / f"proc/{status['pid']}"), "the daemon has ended")
    assert not os.path.lexists(box.root / SOCKET[1:])
    assert state(box, "hearthd.service") == state(box, "hearthd.socket") == "inactive"
    assert (box.root / CONFIG).exists() and (box.root / STATE / "remembered").exists()

    # Purged: nothing is left but the user.
    box.run("dpkg", "-P", "hearth", "libhearth-dev", "libhearth0")
    for path in ("etc/hearth", STATE, "run/hearth", "etc/systemd/system/hearthd.socket",
                 "etc/systemd/system/sockets.target.wants/hearthd.socket", "usr/libexec/hearth"):
        assert not os.path.lexists(box.root / path), path
    assert box.run("systemctl", "--failed", "--no-legend", "--plain").stdout == ""


def test_they_install_where_no_systemd_runs(packages, tmp_path):
    """As in an image for containers: over this machine's files, with dpkg alone."""
    script = """
        mount -t tmpfs tmpfs "$1"
        mkdir "$1/upper" "$1/work" "$1/root"
        mount -t overlay -o lowerdir=/,upperdir="$1/upper",workdir="$1/work" overlay "$1/root"
        mount -t proc proc "$1/root/proc"
        mount -t tmpfs tmpfs "$1/root/run"
        folder=$1; shift
        mkdir -p "$folder/root/srv/packages"; cp "$@" "$folder/root/srv/packages"
        chroot "$folder/root" sh -euc 'rm -f /usr/bin/systemd-sysusers /bin/systemd-sysusers /var/lib/man-db/auto-update
            dpkg -i /srv/packages/*.deb; getent passwd hearth; hearthd --system --check-config; dpkg -P hearth'
    """
    (tmp_path / "root").mkdir()
    done = subprocess.run(["unshare", "--mount", "--pid", "--fork", "sh", "-euc", script, "sh", tmp_path / "root",
                           *packages.values()], capture_output=True, text=True, env={"PATH": os.environ["PATH"]})
    if done.returncode != 0 and "mount" in done.stderr:
        pytest.skip(f"no overlay can be mounted here: {done.stderr}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "/var/lib/hearth:/usr/sbin/nologin" in done.stdout and "hearthd.conf: ok" in done.stdout
