"""A serving process that streams an artifact through libhearth. Run by tests as a program:

    streamer.py LIBRARY SOCKET REF [speculative]

begins the load, attaches it while it loads, says {"attached": id}, and then answers each line on its standard input with a
line of JSON, {"code": the name of the error or "ok", "message": ...} and more:

    tensor NAME SECONDS      waits for it: "bytes" is the SHA-256 of its content
    range FILE OFFSET LENGTH SECONDS    likewise
    at NAME                  looks for it without waiting: "here"
    resident SECONDS         waits for all
    progress                 "landed", "exposed", "resident"
    verified FILE            "verified", a number of enum hearth_verified; "settled"
    dispatch                 what the connection says
"""

import ctypes
import hashlib
import json
import sys

from packets import CODES
from worker import Error, FOREVER, Options, Tensor, say


class Stream(ctypes.Structure):
    _fields_ = [("bytes", ctypes.c_uint64), ("landed", ctypes.c_uint64), ("exposed", ctypes.c_uint64),
                ("resident", ctypes.c_bool)]


class File(ctypes.Structure):
    _fields_ = [("path", ctypes.c_char_p), ("format", ctypes.c_char_p), ("role", ctypes.c_int),
                ("verified", ctypes.c_int), ("bytes", ctypes.c_uint64), ("sha256", ctypes.c_void_p)]


class Streamer:
    def __init__(self, library, socket, ref, flags):
        self.lib = ctypes.CDLL(library)
        self.lib.hearth_deadline_in.restype = ctypes.c_uint64
        self.lib.hearth_file_settled.restype = ctypes.c_bool
        self.lib.hearth_tensor_count.restype = ctypes.c_size_t
        self.error, self.connection, self.artifact = Error(), ctypes.c_void_p(), ctypes.c_void_p()
        info = ctypes.create_string_buffer(16384)  # struct hearth_info, which begins with the id
        options = Options()
        options.no_wait = True
        self.must(self.lib.hearth_connect(socket, FOREVER, ctypes.byref(self.connection), ctypes.byref(self.error)))
        self.must(self.lib.hearth_load(self.connection, ref, ctypes.byref(options), FOREVER, info, ctypes.byref(self.error)))
        id_ = ctypes.cast(info, ctypes.POINTER(ctypes.c_uint64))[0]
        self.must(self.lib.hearth_attach_stream(self.connection, ctypes.c_uint64(id_), flags, FOREVER,
                                                ctypes.byref(self.artifact), ctypes.byref(self.error)))
        say({"attached": id_})

    def must(self, code):
        if code:
            say(self.answer(code))
            sys.exit(1)

    def answer(self, code, **more):
        found = {"code": CODES[code]}
        if code:
            found["message"] = self.error.message.decode(errors="replace")
        return {**found, **({} if code else more)}

    def in_(self, seconds):
        return ctypes.c_uint64(self.lib.hearth_deadline_in(ctypes.c_uint64(int(float(seconds) * 1000))))

    def digest(self, address, bytes_):
        return hashlib.sha256((ctypes.c_char * bytes_).from_address(address) if bytes_ else b"").hexdigest()

    def tensor(self, name, seconds):
        t = Tensor()
        code = self.lib.hearth_find_tensor(self.artifact, None, name.encode(), self.in_(seconds), ctypes.byref(t),
                                           ctypes.byref(self.error))
        return self.answer(code, bytes=None if code else self.digest(t.data, t.bytes))

    def range(self, file, offset, length, seconds):
        at = ctypes.c_void_p()
        code = self.lib.hearth_wait_range(self.artifact, ctypes.c_size_t(int(file)), ctypes.c_uint64(int(offset)),
                                          ctypes.c_uint64(int(length)), self.in_(seconds), ctypes.byref(at),
                                          ctypes.byref(self.error))
        return self.answer(code, bytes=None if code else self.digest(at.value, int(length)))

    def at(self, name):
        t = Tensor()
        for i in range(self.lib.hearth_tensor_count(self.artifact)):
            code = self.lib.hearth_tensor_at(self.artifact, ctypes.c_size_t(i), ctypes.byref(t), ctypes.byref(self.error))
            if code or t.name.decode() == name:
                return self.answer(code, here=bool(t.data))
        return {"code": "not_found"}

    def resident(self, seconds):
        return self.answer(self.lib.hearth_wait_resident(self.artifact, self.in_(seconds), ctypes.byref(self.error)))

    def progress(self):
        s = Stream()
        code = self.lib.hearth_stream_progress(self.artifact, ctypes.byref(s), ctypes.byref(self.error))
        return self.answer(code, landed=s.landed, exposed=s.exposed, bytes=s.bytes, resident=s.resident)

    def verified(self, file):
        f, number = File(), ctypes.c_size_t(int(file))
        code = self.lib.hearth_file_at(self.artifact, number, ctypes.byref(f), ctypes.byref(self.error))
        settled = self.lib.hearth_file_settled(self.artifact, number)
        return self.answer(code, verified=f.verified, sha256=bool(f.sha256), settled=settled)

    def dispatch(self):
        return self.answer(self.lib.hearth_dispatch(self.connection, ctypes.byref(self.error)))


def main():
    library, socket, ref = sys.argv[1:4]
    streamer = Streamer(library, socket.encode(), ref.encode(), 1 if sys.argv[4:] == ["speculative"] else 0)
    for line in sys.stdin:
        word, *arguments = line.split()
        say(getattr(streamer, word)(*arguments))


if __name__ == "__main__":
    main()
