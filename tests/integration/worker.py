"""A serving process: attaches to an artifact through libhearth and says what it sees. Run by tests as a program:

    worker.py LIBRARY SOCKET REF [STAGE]

prints a line of JSON when it has attached (id, and of each tensor its dtype, shape, file and the SHA-256 of its bytes), and the same
again for every line on its standard input; ends with it. With STAGE (connected, loading, loaded, attached) it stops there
and says so, for tests that kill it.
"""

import ctypes
import hashlib
import json
import signal
import sys

FOREVER = ctypes.c_uint64(2**64 - 1)


class Error(ctypes.Structure):
    _fields_ = [("code", ctypes.c_int), ("errno", ctypes.c_int), ("offset", ctypes.c_uint64),
                ("message", ctypes.c_char * 1024), ("rest", ctypes.c_char * (4096 + 256 + 256 + 512))]


class Tensor(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("dtype", ctypes.c_char_p), ("data", ctypes.c_void_p),
                ("bytes", ctypes.c_uint64), ("shape", ctypes.POINTER(ctypes.c_uint64)), ("n_dims", ctypes.c_uint32),
                ("file", ctypes.c_size_t), ("offset", ctypes.c_uint64)]


class Options(ctypes.Structure):
    _fields_ = [("verify", ctypes.c_int), ("no_wait", ctypes.c_bool), ("globs", ctypes.c_void_p * 6),
                ("progress", ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)), ("user", ctypes.c_void_p)]


def say(value):
    print(json.dumps(value), flush=True)


def stop_at(stage):
    say(stage)
    while True:
        signal.pause()


class Artifact:
    def __init__(self, library, socket, ref, stage):
        self.lib = ctypes.CDLL(library)
        self.lib.hearth_tensor_count.restype = ctypes.c_size_t
        self.error = Error()
        self.connection, self.artifact = ctypes.c_void_p(), ctypes.c_void_p()
        info = ctypes.create_string_buffer(16384)  # struct hearth_info, which begins with the id
        self.check(self.lib.hearth_connect(socket, FOREVER, ctypes.byref(self.connection), ctypes.byref(self.error)))
        if stage == "connected":
            stop_at(stage)
        options = Options()
        if stage == "loading":
            options.progress = type(options.progress)(lambda *_: stop_at(stage))
        self.check(self.lib.hearth_load(self.connection, ref, ctypes.byref(options), FOREVER, info, ctypes.byref(self.error)))
        self.id = ctypes.cast(info, ctypes.POINTER(ctypes.c_uint64))[0]
        if stage == "loaded":
            stop_at(stage)
        self.check(self.lib.hearth_attach(self.connection, ctypes.c_uint64(self.id), FOREVER, ctypes.byref(self.artifact),
                                          ctypes.byref(self.error)))
        if stage == "attached":
            stop_at(stage)

    def check(self, code):
        if code:
            sys.exit(f"{code}: {self.error.message.decode(errors='replace')}")

    def tensors(self):
        found, t, again = {}, Tensor(), Tensor()
        for i in range(self.lib.hearth_tensor_count(self.artifact)):
            self.check(self.lib.hearth_tensor_at(self.artifact, ctypes.c_size_t(i), ctypes.byref(t), ctypes.byref(self.error)))
            self.check(self.lib.hearth_find_tensor(self.artifact, None, t.name, FOREVER, ctypes.byref(again),
                                                   ctypes.byref(self.error)))
            assert (again.data, again.bytes) == (t.data, t.bytes)
            content = (ctypes.c_char * t.bytes).from_address(t.data) if t.bytes else b""
            found[t.name.decode()] = [t.dtype.decode(), t.shape[: t.n_dims], t.file, hashlib.sha256(content).hexdigest()]
        return found


def main():
    library, socket, ref = sys.argv[1:4]
    artifact = Artifact(library, socket.encode(), ref.encode(), (sys.argv[4:] or [None])[0])
    say({"id": artifact.id, "tensors": artifact.tensors()})
    for _ in sys.stdin:
        say({"id": artifact.id, "tensors": artifact.tensors()})


if __name__ == "__main__":
    main()
