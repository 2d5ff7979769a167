"""A file system that hangs and fails when it is told to: a FUSE server on /dev/fuse, in a process of its own.

It shows one folder, read-only, all as it is there. What is to go wrong stands in a file beside that folder, one word and
the end of a path on each line, read again for every request:

    getattr NAME    looking at it hangs            read NAME [AT]   reading it hangs, where it touches the byte AT
    open NAME       opening it hangs               fail NAME AT     reads that touch the byte AT fail with EIO

A request that hangs is answered once its line is gone, or with EINTR when its caller is being killed, as network file
systems do that can be killed. Needs root, for mount(2).
"""

import ctypes
import errno
import os
import pathlib
import select
import stat
import struct
import subprocess
import sys
import time

HEADER, REPLY = struct.Struct("<IIQQIIIHH"), struct.Struct("<IiQ")
(LOOKUP, FORGET, GETATTR, OPEN, READ, STATFS, RELEASE, FLUSH, INIT, OPENDIR, READDIR, RELEASEDIR, INTERRUPT, DESTROY,
 BATCH_FORGET) = 1, 2, 3, 14, 15, 17, 18, 25, 26, 27, 28, 29, 36, 38, 42
NAMES = {LOOKUP: "getattr", GETATTR: "getattr", OPEN: "open", READ: "read"}
MAX_WRITE = 1 << 20


def touches(read, rules):
    """Whether the body of a READ includes one of these bytes."""
    _, offset, size = struct.unpack_from("<QQI", read)
    return any(offset <= int(at) < offset + size for (at,) in rules)


class Server:
    def __init__(self, fuse, shown, rules):
        self.fuse, self.rules = fuse, rules
        self.paths = {1: str(shown)}  # by node
        self.nodes = {str(shown): 1}
        self.held = []  # requests that hang
        self.ever_held = set()

    def rules_for(self, word, path):
        """What stands behind this word for this path, line by line."""
        try:
            lines = pathlib.Path(self.rules).read_text().splitlines()
        except OSError:
            return []
        return [rest[1:] for given, *rest in map(str.split, lines) if given == word and path.endswith(rest[0])]

    def serve(self):
        while True:
            if select.select([self.fuse], [], [], 0.02)[0]:
                try:
                    self.handle(os.read(self.fuse, MAX_WRITE + 4096))
                except OSError as error:
                    if error.errno == errno.ENODEV:  # unmounted
                        return
                    if error.errno not in (errno.ENOENT, errno.EINTR, errno.EAGAIN):  # the caller was killed
                        raise
            held, self.held = self.held, []
            for request in held:
                self.handle(request)

    def handle(self, request):
        _, op, unique, node, *_ = HEADER.unpack_from(request)
        body = request[HEADER.size :]
        if op in (FORGET, BATCH_FORGET):
            return
        if op == INTERRUPT:
            (target,) = struct.unpack_from("<Q", body)
            for other in self.held:
                if HEADER.unpack_from(other)[2] == target:
                    self.held.remove(other)
                    self.answer(target, -errno.EINTR)
                    break
            return
        path = self.paths[node] if node else ""
        if op == LOOKUP:
            path = os.path.join(path, os.fsdecode(body.split(b"\0")[0]))
        if op in NAMES and self.hangs(op, path, body):
            self.held.append(request)
            self.note(unique)
            return
        try:
            self.answer(unique, 0, self.reply_to(op, path, body))
        except OSError as error:
            self.answer(unique, -error.errno)

    def hangs(self, op, path, body):
        rules = self.rules_for(NAMES[op], path)
        return [] in rules or (op == READ and touches(body, rules))

    def note(self, unique):
        """Tells the test how many requests have hung so far."""
        if unique not in self.ever_held:
            self.ever_held.add(unique)
            pathlib.Path(self.rules + ".held").write_text(str(len(self.ever_held)))

    def answer(self, unique, error, data=b""):
        try:
            os.write(self.fuse, REPLY.pack(REPLY.size + len(data), error, unique) + data)
        except FileNotFoundError:  # nobody waits for it any more
            pass

    def attributes(self, path):
        s = os.lstat(path)
        times = [s.st_atime_ns, s.st_mtime_ns, s.st_ctime_ns]
        return struct.pack(
            "<6Q3I7I", s.st_ino, s.st_size, s.st_blocks, *(t // 10**9 for t in times), *(t % 10**9 for t in times),
            s.st_mode, s.st_nlink, s.st_uid, s.st_gid, 0, 4096, 0,
        )

    def reply_to(self, op, path, body):
        if op == INIT:
            return struct.pack("<4I2H2I2H8I", 7, 31, 65536, 0, 64, 48, MAX_WRITE, 1, 256, 0, *[0] * 8)
        if op == LOOKUP:
            attributes = self.attributes(path)
            node = self.nodes.setdefault(path, len(self.nodes) + 1)
            self.paths[node] = path
            return struct.pack("<4Q2I", node, 0, 0, 0, 0, 0) + attributes  # nothing is cached
        if op == GETATTR:
            return struct.pack("<Q2I", 0, 0, 0) + self.attributes(path)
        if op in (OPEN, OPENDIR):
            return struct.pack("<QII", 0, 0, 0)
        if op == READ:
            _, offset, size = struct.unpack_from("<QQI", body)
            if touches(body, self.rules_for("fail", path)):
                raise OSError(errno.EIO, "as told")
            with open(path, "rb") as f:
                f.seek(offset)
                return f.read(size)
        if op == READDIR:
            _, offset, size = struct.unpack_from("<QQI", body)
            found = b""
            for number, name in enumerate(sorted(os.listdir(path))[offset:], offset + 1):
                raw = os.fsencode(name)
                kind = stat.S_IFMT(os.lstat(os.path.join(path, name)).st_mode) >> 12
                entry = struct.pack("<QQII", number, number, len(raw), kind) + raw
                entry += bytes(-len(entry) % 8)
                if len(found) + len(entry) > size:
                    break
                found += entry
            return found
        if op == STATFS:
            return struct.pack("<5Q4I6I", 0, 0, 0, 0, 0, 4096, 255, 4096, 0, *[0] * 6)
        if op in (RELEASE, RELEASEDIR, FLUSH, DESTROY):
            return b""
        raise OSError(errno.ENOSYS, "not done here")


libc = ctypes.CDLL(None, use_errno=True)


def why_not():
    if os.geteuid() != 0:
        return "only root can mount a file system that hangs"
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR))
    except OSError as error:
        return f"/dev/fuse: {error.strerror}"
    return None


class Storage:
    """The mounted file system. `at` is where; what is written below `shown` stands there."""

    def __init__(self, folder):
        self.at, self.shown, self.rules_path = folder / "mount", folder / "shown", folder / "rules"
        self.at.mkdir()
        self.shown.mkdir()
        self.rules_path.touch()
        fuse = os.open("/dev/fuse", os.O_RDWR)
        options = f"fd={fuse},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
        if libc.mount(b"hearth-tests", os.fsencode(self.at), b"fuse", 1 | 2 | 4, options) != 0:  # RDONLY, NOSUID, NODEV
            code = ctypes.get_errno()
            os.close(fuse)
            raise OSError(code, os.strerror(code))
        self.process = subprocess.Popen(
            [sys.executable, __file__, str(fuse), str(self.shown), str(self.rules_path)], pass_fds=[fuse]
        )
        os.close(fuse)

    def rules(self, *lines):
        self.rules_path.with_suffix(".new").write_text("".join(line + "\n" for line in lines))
        self.rules_path.with_suffix(".new").rename(self.rules_path)

    def held(self):
        """How many requests have hung so far."""
        try:
            return int(pathlib.Path(f"{self.rules_path}.held").read_text() or 0)
        except FileNotFoundError:
            return 0

    def close(self):
        self.rules()
        time.sleep(0.1)  # what hung gets its answer
        libc.umount2(os.fsencode(self.at), 2)  # MNT_DETACH
        self.process.kill()  # with the last descriptor of the server, whoever still waits gets an error
        self.process.wait()


if __name__ == "__main__":
    Server(int(sys.argv[1]), *sys.argv[2:]).serve()
