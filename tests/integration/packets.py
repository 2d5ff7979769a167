"""A client of hearth's protocol in a few lines, for tests that need to say what libhearth would never say."""

import contextlib
import json
import os
import select
import socket
import struct

PACKET_MAX = 65536
NO_OFFSET = 2**64 - 1
(HELLO, LOAD, WATCH, ATTACH, FILES, DETACH, LIST, STATUS, EVICT, STOP, CANCEL) = range(1, 12)
HISTORY = 13
(ERROR, WELCOME, PROGRESS, INFO, ATTACHED, FDS, DONE, STATUS_REPLY, PAST) = range(128, 137)
NO_WAIT, WITH_PROGRESS, BACKGROUND = 1, 2, 4
ALL = 1
FORCE = 1
(RESOLVING, QUEUED, LOADING, RESIDENT, FAILED, GONE) = range(1, 7)
STALE, DIRECT_IO, SHARED = 1, 2, 4
CODES = (
    "ok system io no_memory no_fds invalid not_found denied too_large busy cancelled timeout no_daemon disconnected "
    "protocol unsupported malformed unsafe integrity changed parser"
).split()
INFO_LAYOUT = struct.Struct("<Q4I8Q2I2I18Q2IQ")
NOTHING, TURN, MEMORY, DESCRIPTORS = range(4)
IN_BACKGROUND, HELD = 16, 32
INFO_FIELDS = (
    "id state verified backing flags bytes resident_bytes huge_bytes bytes_done from_disk from_page_cache "
    "from_resident seconds_ns n_files leases"
).split()


def packet(kind, serial, fixed=b"", tail=b""):
    return struct.pack("<IHHII", 16 + len(fixed) + len(tail), kind, len(fixed), serial, 0) + fixed + tail


class Refused(Exception):
    """An ERROR reply: .code is its name, the facts are attributes; .offset is None where there is none."""

    def __init__(self, code, message, file, offset, expected, found, hint):
        super().__init__(f"{code}: {message}")
        self.code, self.message, self.file = code, message, file
        self.offset = None if offset == NO_OFFSET else offset
        self.expected, self.found, self.hint = expected, found, hint


class Reply:
    def __init__(self, data, fds):
        (_, self.kind, self.fixed_bytes, self.serial, _) = struct.unpack_from("<IHHII", data)
        self.data, self.fds = data, fds

    def text(self, offset, length):
        return self.data[offset : offset + length].decode(errors="replace")

    def unpack(self, layout):
        return struct.unpack_from(layout, self.data, 16)

    def info(self):
        values = INFO_LAYOUT.unpack_from(self.data, 16)
        found = dict(zip(INFO_FIELDS, values))
        found["ref"] = self.text(*values[15:17])
        found["waits_for"], _, found["lacks"] = values[35:38]
        found["kind"] = self.kind
        return found

    def error(self):
        values = self.unpack("<IiQ10I")
        message, file, expected, found, hint = (self.text(*values[i : i + 2]) for i in range(3, 13, 2))
        return Refused(CODES[values[0]], message, file, values[2], expected, found, hint)


class Client:
    """One connection. Calls raise Refused on ERROR, and ConnectionError when the daemon hung up."""

    def __init__(self, path, hello=True):
        self.serial = 0
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock.settimeout(60)
        try:
            self.sock.connect(path)
            if hello:
                name = b"tests"
                with contextlib.suppress(BrokenPipeError):  # turned away already: why, is there to be read
                    self.send(HELLO, struct.pack("<IIII", 1, 1, 32, len(name)), name)
                assert self.reply(self.serial).kind == WELCOME
        except BaseException:
            self.sock.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def send(self, kind, fixed=b"", tail=b""):
        self.serial += 1
        self.sock.send(packet(kind, self.serial, fixed, tail))
        return self.serial

    def receive(self):
        data, fds, _, _ = socket.recv_fds(self.sock, PACKET_MAX, 253, socket.MSG_CMSG_CLOEXEC)
        if not data:
            raise ConnectionResetError("the daemon hung up")
        return Reply(data, fds)

    def reply(self, serial):
        reply = self.receive()
        if reply.kind == ERROR and reply.serial in (serial, 0):  # 0: the last words before a hang-up
            raise reply.error()
        assert reply.serial == serial, (reply.serial, serial, reply.kind)
        return reply

    def nothing_to_read(self):
        return not select.select([self.sock], [], [], 0)[0]

    def call(self, kind, fixed=b"", tail=b""):
        return self.reply(self.send(kind, fixed, tail))

    def send_load(self, ref, flags=0, verify=0):
        ref = os.fsencode(ref)
        fixed = struct.pack("<II II II II II", flags, verify, 16 + 40, len(ref), 0, 0, 0, 0, 0, 0)
        return self.send(LOAD, fixed, ref)

    def load(self, ref, flags=0, verify=0):
        """The final INFO."""
        serial = self.send_load(ref, flags, verify)
        while True:
            reply = self.reply(serial)
            if reply.kind == INFO:
                return reply.info()

    def watch(self, id_):
        serial = self.send(WATCH, struct.pack("<Q", id_))
        while True:
            reply = self.reply(serial)
            if reply.kind == INFO:
                return reply.info()

    def attach(self, id_, flags=ALL):
        """[index fd, file fds...]: the caller closes them."""
        reply = self.call(ATTACH, struct.pack("<QII", id_, flags, 0))
        _, _, n_fds = reply.unpack("<QII")
        assert len(reply.fds) == n_fds + 1
        return reply.fds

    def files(self, id_, numbers):
        fixed = struct.pack("<QII", id_, 16 + 16, len(numbers))
        return self.call(FILES, fixed, struct.pack(f"<{len(numbers)}I", *numbers)).fds

    def detach(self, id_):
        """Returns when it has been done: DETACH has no reply of its own, and what follows it does."""
        self.send(DETACH, struct.pack("<Q", id_))
        self.status()

    def cancel(self, serial):
        self.send(CANCEL, struct.pack("<II", serial, 0))

    def evict(self, id_, flags=0):
        return self.call(EVICT, struct.pack("<QII", id_, flags, 0)).unpack("<Q")[0]

    def list(self, ref=""):
        ref = os.fsencode(ref)
        serial, found = self.send(LIST, struct.pack("<4I", 0, 0, 32, len(ref)), ref), []
        while True:
            reply = self.reply(serial)
            if reply.kind == DONE:
                assert reply.unpack("<Q")[0] == len(found)
                return found
            found.append(reply.info())

    def history(self, limit=100, ref=""):
        """The references of past loads, newest first."""
        ref = os.fsencode(ref)
        serial, found = self.send(HISTORY, struct.pack("<4I", limit, 0, 32, len(ref)), ref), []
        while True:
            reply = self.reply(serial)
            if reply.kind == DONE:
                assert reply.unpack("<Q")[0] == len(found)
                return found
            assert reply.kind == PAST
            found.append(reply.text(*struct.unpack_from("<II", reply.data, 16 + 64 + 96)))

    def status(self):
        values = self.call(STATUS, bytes(8)).unpack("<4I3Q")
        return dict(zip("pid clients artifacts leases budget_bytes resident_bytes uptime_ns".split(), values))

    def stop(self):
        self.call(STOP, bytes(8))


def make_safetensors(path, bytes_=4096, fill=b""):
    """A file with one tensor of `bytes_` bytes: `fill` at its start, and a hole behind it."""
    header = json.dumps({"w": {"dtype": "U8", "shape": [bytes_], "data_offsets": [0, bytes_]}}).encode()
    header += b" " * (-len(header) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(header)) + header + fill)
        f.truncate(8 + len(header) + bytes_)
    return str(path)
