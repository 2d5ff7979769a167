"""A real systemd, booted for a test: process 1 of namespaces of its own, over a throw-away copy of this machine's root.

The root folder is an overlay: everything that is installed here can be read in it, and what is written there lives in a
tmpfs and ends with it. cgroups, processes, mounts, devices and the network are the sandbox's own, kernel settings are
read-only, and of this machine's units none is started by itself: only what a test asks for runs. It needs root,
systemd, and a cgroup2 hierarchy.
"""

import os
import pathlib
import shutil
import subprocess
import time

PROGRAMS = ("systemctl", "journalctl", "chroot", "mount", "nsenter", "setpriv", "unshare")
SYSTEMD = "/lib/systemd/systemd"
BOOT_SECONDS = 60

# $1: an empty folder; $2: the sandbox's cgroup.
OUTSIDE = r"""
echo $$ > "$2/cgroup.procs"
mount --make-rprivate /
mount -t tmpfs -o mode=755 sandbox "$1"
cd "$1"
mkdir upper work root
mount -t overlay -o lowerdir=/,upperdir=upper,workdir=work overlay root
cd root
for folder in run dev; do mount -t tmpfs -o mode=755 sandbox $folder; done
mount -t tmpfs -o mode=1777 sandbox tmp
for device in null zero full random urandom tty; do
    : > dev/$device
    mount --bind /dev/$device dev/$device
done
mkdir dev/pts dev/shm dev/mqueue dev/hugepages
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
mount -t tmpfs -o mode=1777 sandbox dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
: > etc/machine-id
rm -rf etc/systemd/system/*.wants etc/systemd/user/*.wants lib/systemd/system/*.wants lib/systemd/user/*.wants
mkdir lib/systemd/system/sysinit.target.wants
ln -s ../systemd-journald.service lib/systemd/system/sysinit.target.wants
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin container=sandbox \
    unshare --pid --fork --kill-child --ipc --uts --net --cgroup -- chroot "$PWD" /bin/sh -euc '
        mount -t proc proc /proc
        mount --bind -o ro /proc/sys /proc/sys
        mount -t sysfs -o ro sysfs /sys
        mount -t cgroup2 cgroup2 /sys/fs/cgroup
        exec "$@"' sh """ + SYSTEMD + r""" --system --unit=basic.target
"""


def cgroup2():
    """Where the cgroup2 hierarchy is mounted, or None."""
    for line in pathlib.Path("/proc/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split()
        if kind == "cgroup2":
            return pathlib.Path(where)
    return None


def why_not():
    """Why no sandbox can be had here; None when it can be tried."""
    if os.geteuid() != 0:
        return "only root can boot a systemd of its own"
    missing = [name for name in PROGRAMS if not shutil.which(name)]
    if missing or not os.path.exists(SYSTEMD):
        return f"not installed: {', '.join(missing) or 'systemd'}"
    if not cgroup2():
        return "there is no cgroup2 hierarchy"
    return None


class Sandbox:
    """One booted systemd. `folder` is empty and stays so."""

    def __init__(self, folder):
        self.cgroup = cgroup2() / f"hearth-tests-{os.getpid()}"
        self.cgroup.mkdir()
        self.log_path = pathlib.Path(str(folder) + ".log")
        # With its starter it ends: --pdeathsig for this process, --kill-child for what it forks.
        command = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--", "/bin/sh", "-euc", OUTSIDE, "sh"]
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                [*command, str(folder), str(self.cgroup)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self.init = None

    def log(self):
        return self.log_path.read_text(errors="replace")

    def wait_booted(self):
        """Raises OSError when it does not boot."""
        end = time.monotonic() + BOOT_SECONDS
        while time.monotonic() < end and self.process.poll() is None:
            children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
            if children and self._is_up(int(children[0])):
                self.init = int(children[0])
                return self
            time.sleep(0.05)
        raise OSError(f"no systemd could be booted:\n{self.log()}")

    @staticmethod
    def _is_up(pid):
        try:  # until it has changed its root folder, what stands at /run is this machine's
            is_systemd = os.readlink(f"/proc/{pid}/exe").endswith(os.path.realpath(SYSTEMD))
            return is_systemd and os.path.exists(f"/proc/{pid}/root/run/systemd/private")
        except OSError:
            return False

    @property
    def root(self):
        """Its files, seen from outside."""
        return pathlib.Path(f"/proc/{self.init}/root")

    def run(self, *command, check=True, uid=None, env=None, seconds=60):
        """Runs a program inside, as root or as this uid; its output is in the result's .stdout and .stderr."""
        inside = ["nsenter", "-t", str(self.init), "-m", "-p", "-u", "-i", "-n", "-C", f"--root={self.root}"]
        inside += ["env", "-C", "/"]
        if uid is not None:
            inside += ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
        ended = subprocess.run(
            [*inside, *map(str, command)],
            env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", **(env or {})},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=seconds,
        )
        if check and ended.returncode != 0:
            raise AssertionError(f"{command} ended with {ended.returncode}:\n{ended.stdout}{ended.stderr}")
        return ended

    def stop(self):
        self.process.kill()
        self.process.wait()
        end = time.monotonic() + BOOT_SECONDS
        while not self._cgroup_removed() and time.monotonic() < end:
            time.sleep(0.05)

    def _cgroup_removed(self):
        """False as long as something in it has not ended yet."""
        try:
            for folder, _, _ in os.walk(self.cgroup, topdown=False):
                os.rmdir(folder)
        except OSError:
            return False
        return True
