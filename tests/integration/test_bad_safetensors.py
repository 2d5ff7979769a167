"""safetensors files that break a rule of the format: written by the real library, then damaged.

Each is refused with the rule's name and the offset where it is broken, publishes nothing and leaves nothing behind. What
the real library refuses is refused here too, and each rule is shown to be the same one by its name.
"""

import json
import random
import struct

import packets
import pytest
from packets import Client
from vitals import close_all, good, guard, guarded, refused  # noqa: F401  (fixtures)

np = pytest.importorskip("numpy", reason="numpy is not installed")
library = pytest.importorskip("safetensors", reason="the safetensors library is not installed")
from safetensors.numpy import save  # noqa: E402

TENSORS = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.arange(5, dtype=np.int64), "c": np.ones(3, np.uint8)}
WHOLE = save(TENSORS, {"format": "np", "note": "ü"})


def split(file):
    (n,) = struct.unpack_from("<Q", file)
    return file[8 : 8 + n], file[8 + n :]


def join(text, data):
    return struct.pack("<Q", len(text)) + text + data


HEADER, DATA = split(WHOLE)


def edited(**tensors):
    """The file with some of its tensors' entries changed: a="field=value", or None to take one out."""
    entries = json.loads(HEADER)
    for name, change in tensors.items():
        if change is None:
            del entries[name]
        else:
            entries.setdefault(name, {}).update(change)
    return join(json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode(), DATA)


def text(old, new, data=DATA):
    """The file with a piece of its header's text replaced."""
    assert HEADER.count(old) == 1, (HEADER, old)
    return join(HEADER.replace(old, new), data)


def at(file, needle):
    return file.index(needle)


END = len(DATA)
BAD_HEADER = "InvalidHeaderDeserialization"
LIBRARY_SAYS = {  # how the real library words the rules
    "HeaderTooSmall": "header too small",
    "HeaderTooLarge": "header too large",
    "InvalidHeaderLength": "invalid header length",
    "InvalidHeader": "invalid UTF-8 in header",
    BAD_HEADER: "invalid JSON in header",
    "InvalidOffset": "invalid offset",
    "ValidationOverflow": "overflow computing buffer size",
    "MisalignedSlice": "does not end up at a byte boundary",
    "TensorInvalidInfo": "invalid shape, data type, or offset",
    "MetadataIncompleteBuffer": "incomplete metadata",
}
BROKEN = {  # what: (file, rule, offset or None where it depends on the reader)
    "nothing but 7 bytes": (WHOLE[:7], "HeaderTooSmall", 0),
    "an empty file": (b"", "HeaderTooSmall", 0),
    "a length of 2^64 - 1": (b"\xff" * 8 + WHOLE[8:], "HeaderTooLarge", 0),
    "a length over the limit": (struct.pack("<Q", 100_000_001) + WHOLE[8:], "HeaderTooLarge", 0),
    "a length past the end": (struct.pack("<Q", len(WHOLE) - 7) + WHOLE[8:], "InvalidHeaderLength", 0),
    "cut inside its header": (WHOLE[: 8 + len(HEADER) // 2], "InvalidHeaderLength", 0),
    "a length of 0": (struct.pack("<Q", 0) + WHOLE[8:], BAD_HEADER, 8),
    "bad UTF-8": (text("ü".encode(), b"\xc3\x28"), "InvalidHeader", at(WHOLE, "ü".encode())),
    "a surrogate in UTF-8": (text("ü".encode(), b"\xed\xa0\x80"), "InvalidHeader", at(WHOLE, "ü".encode())),
    "an overlong form": (text("ü".encode(), b"\xc0\xaf"), "InvalidHeader", at(WHOLE, "ü".encode())),
    "no JSON": (join(b"\x00" * 16, DATA), BAD_HEADER, 8),
    "JSON cut short": (join(HEADER.rstrip()[:-1], DATA), BAD_HEADER, None),
    "bytes behind the JSON": (join(HEADER.rstrip() + b" x", DATA), BAD_HEADER, None),
    "a list": (join(b"[]", b""), BAD_HEADER, 8),
    "a number": (join(b"1", b""), BAD_HEADER, 8),
    "very deep JSON": (join(b'{"a":' + b"[" * 100_000, b""), BAD_HEADER, None),
    "a lone surrogate": (text("ü".encode(), b"\\ud800"), BAD_HEADER, None),
    "metadata that is no text": (text(b'"format":"np"', b'"format":1'), BAD_HEADER, None),
    "metadata that is a list": (join(b'{"__metadata__":[]}', b""), BAD_HEADER, None),
    "metadata twice": (join(b'{"__metadata__":{},"__metadata__":{}}', b""), BAD_HEADER, None),
    "an unknown dtype": (edited(a={"dtype": "F31"}), BAD_HEADER, None),
    "a dtype that is a number": (edited(a={"dtype": 1}), BAD_HEADER, None),
    "a negative size": (edited(a={"shape": [-2, 3]}), BAD_HEADER, None),
    "a size with a fraction": (edited(a={"shape": [2.5, 3]}), BAD_HEADER, None),
    "a size over 2^64": (edited(a={"shape": [2**64, 3]}), BAD_HEADER, None),
    "one offset": (edited(b={"data_offsets": [0]}), BAD_HEADER, None),
    "three offsets": (edited(b={"data_offsets": [0, 40, 64]}), BAD_HEADER, None),
    "no shape": (text(b'"shape":[2,3],', b""), BAD_HEADER, None),
    "a gap": (edited(b=None), "InvalidOffset", "a"),
    "an overlap": (edited(a={"data_offsets": [0, 24]}), "InvalidOffset", None),
    "an end before its beginning": (edited(b={"data_offsets": [40, 0]}), "InvalidOffset", None),
    "offsets near 2^64": (edited(c={"data_offsets": [2**64 - 4, 2**64 - 1]}), "InvalidOffset", "c"),
    "a shape that overflows": (edited(b={"shape": [2**33, 2**33]}), "ValidationOverflow", "b"),
    "bits that overflow": (edited(b={"shape": [2**59]}), "ValidationOverflow", "b"),
    "half a byte": (edited(c={"dtype": "F4"}), "MisalignedSlice", "c"),
    "a shape that is too small": (edited(b={"shape": [4]}), "TensorInvalidInfo", "b"),
    "a shape that is too large": (edited(b={"shape": [6]}), "TensorInvalidInfo", "b"),
    "a scalar that is none": (edited(b={"shape": []}), "TensorInvalidInfo", "b"),
    "cut by a byte": (WHOLE[:-1], "MetadataIncompleteBuffer", len(WHOLE) - END),
    "cut behind its header": (WHOLE[:-END], "MetadataIncompleteBuffer", len(WHOLE) - END),
    "a byte too many": (WHOLE + b"\0", "MetadataIncompleteBuffer", len(WHOLE) - END),
    "data without tensors": (join(b"{}", b"x"), "MetadataIncompleteBuffer", 10),
}


def twice(name):
    first, second = (b'{"dtype":"U8","shape":[%d],"data_offsets":[0,%d]}' % (n, n) for n in (0, 1))
    return join(b'{"a":%b,"%b":%b}' % (first, name, second), b"x")


# Accepted by the library, since the last one wins; two readers could see two models.
STRICTER = {
    "a tensor twice": twice(b"a"),
    "a tensor twice, once escaped": twice(b"\\u0061"),
    "a key of metadata twice": text(b'"format":"np"', b'"format":"np","format":"pt"'),
}


def test_the_undamaged_file_is_loaded(guard, tmp_path):
    path = tmp_path / "whole.safetensors"
    path.write_bytes(WHOLE)
    library.deserialize(WHOLE)
    with Client(guard.socket) as client:
        assert client.evict(client.load(path)["id"]) == 1


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_rule_is_named_with_its_place(guard, tmp_path, what):
    content, rule, offset = BROKEN[what]
    with pytest.raises(library.SafetensorError, match=LIBRARY_SAYS[rule]):
        library.deserialize(content)
    folder = tmp_path / "bad"
    folder.mkdir()
    path = folder / "model.safetensors"
    path.write_bytes(content)
    for ref in (path, folder):
        error = guard.refuses(ref, "malformed")
        assert error.file == str(path)
        assert rule in error.message, error.message
        if isinstance(offset, str):
            offset = at(content, f'"{offset}":'.encode())
        assert error.offset == offset if offset is not None else 8 <= error.offset <= len(content)


@pytest.mark.parametrize("what", STRICTER)
def test_what_two_readers_could_read_differently_is_refused(guard, tmp_path, what):
    path = tmp_path / "twice.safetensors"
    path.write_bytes(STRICTER[what])
    library.deserialize(STRICTER[what])
    assert "duplicate" in guard.refuses(path, "malformed").message


def test_every_truncation_is_refused(guard, tmp_path, sanitizer):
    path = tmp_path / "cut.safetensors"
    step = 17 if sanitizer else 1
    with Client(guard.socket) as client:
        for length in range(0, len(WHOLE), step):
            path.write_bytes(WHOLE[:length])
            error = refused(client, path)
            assert (error.code, error.file) == ("malformed", str(path)), length
            if length >= 8:
                assert error.expected and error.found, length


def library_refuses(content):
    try:
        library.deserialize(content)
    except library.SafetensorError:
        return True
    return False


def test_what_the_library_refuses_is_refused(guard, tmp_path, sanitizer):
    """Headers with bytes changed at random, from a fixed seed."""
    dice = random.Random(1)
    path = tmp_path / "mutant.safetensors"
    verdicts = {True: 0, False: 0}
    with Client(guard.socket) as client:
        for _ in range(30 if sanitizer else 200):
            mutant = bytearray(WHOLE)
            for _ in range(dice.randint(1, 3)):
                mutant[dice.randrange(len(WHOLE) - END)] = dice.choice(b'0129{}[],:" \\\xff' + HEADER)
            path.write_bytes(mutant)
            verdicts[library_refuses(bytes(mutant))] += 1
            if library_refuses(bytes(mutant)):
                assert refused(client, path).code == "malformed", mutant
            else:
                loaded_or_malformed(client, path)
    assert min(verdicts.values()) > 0


def loaded_or_malformed(client, path):
    """hearth is stricter than the library in a few things."""
    try:
        client.evict(client.load(path)["id"])
    except packets.Refused as error:
        assert error.code == "malformed" and "duplicate" in error.message


def test_a_large_file_that_was_cut_says_what_is_missing(guard, tmp_path):
    folder = tmp_path / "large"
    folder.mkdir()
    path = packets.make_safetensors(folder / "model.safetensors", 64 << 20, b"\x01" * 4096)
    (folder / "config.json").write_text("{}")
    with open(path, "r+b") as f:
        header = 8 + struct.unpack("<Q", f.read(8))[0]
        f.truncate(header + (48 << 20))
    error = guard.refuses(folder, "malformed")
    assert (error.file, error.offset) == (path, header)
    assert (error.expected, error.found) == (f"{64 << 20} bytes of data", f"{48 << 20} bytes")


ATTACKS = {
    "100,000 tensors over the same bytes": lambda: {
        f"t{i}": {"dtype": "U8", "shape": [8], "data_offsets": [0, 8]} for i in range(100_000)
    },
    "100,000 empty tensors at a place past the end": lambda: {
        f"t{i}": {"dtype": "U8", "shape": [0], "data_offsets": [9, 9]} for i in range(100_000)
    },
}


@pytest.mark.parametrize("what", ATTACKS)
def test_headers_made_to_be_slow_are_refused(guard, tmp_path, what):
    path = tmp_path / "attack.safetensors"
    path.write_bytes(join(json.dumps(ATTACKS[what]()).encode(), bytes(8)))
    assert guard.refuses(path, "malformed").file == str(path)


def test_shards_must_agree_with_their_index(guard, tmp_path):
    folder = tmp_path / "sharded"
    folder.mkdir()
    names = [f"model-{i:05}-of-00002.safetensors" for i in (1, 2)]
    (folder / names[0]).write_bytes(save({"a": TENSORS["a"]}))
    (folder / names[1]).write_bytes(save({"b": TENSORS["b"]}))
    index = folder / "model.safetensors.index.json"

    def write(weight_map):
        index.write_text(json.dumps({"metadata": {"total_size": 64}, "weight_map": weight_map}))

    for weight_map in ({"a": names[0], "b": names[0]}, {"a": names[0], "b": names[1], "c": names[1]},
                       {"a": names[0], "b": "elsewhere.safetensors"}, {"a": names[0], "b": "../../etc/passwd"}):
        write(weight_map)
        error = guard.refuses(folder, "malformed")
        assert error.file.startswith(str(folder)), weight_map
    for broken in ("", "[]", "{", '{"weight_map": 1}'):
        index.write_text(broken)
        assert guard.refuses(folder, "malformed").file == str(index), broken
    write({"a": names[0], "b": names[1]})
    with Client(guard.socket) as client:
        id_ = client.load(folder)["id"]
        close_all(client.attach(id_))
        client.detach(id_)
        client.evict(id_)
    (folder / names[1]).unlink()
    assert names[1] in str(vars(guard.refuses(folder, "malformed")))
