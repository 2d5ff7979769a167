"""`hearth inspect --json` of safetensors files, beside what the real library reads from the same files."""

import json
import os
import struct
import subprocess

import pytest
from conftest import DEADLINE

np = pytest.importorskip("numpy", reason="numpy is not installed")
library = pytest.importorskip("safetensors", reason="the safetensors library is not installed")
from safetensors.numpy import load_file, save_file  # noqa: E402
from test_bad_safetensors import BROKEN, STRICTER  # noqa: E402

NUMPY = {
    "BOOL": np.bool_, "U8": np.uint8, "I8": np.int8, "U16": np.uint16, "I16": np.int16, "F16": np.float16,
    "U32": np.uint32, "I32": np.int32, "F32": np.float32, "U64": np.uint64, "I64": np.int64, "F64": np.float64,
    "C64": np.complex64,
}
BITS = {
    "BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32,
    "C64": 64, "F64": 64, "I64": 64, "U64": 64,
}


@pytest.fixture
def inspect(bin_dir):
    """A function: path -> (exit status, document)."""

    def call(path):
        ended = subprocess.run(
            [bin_dir / "hearth", "inspect", "--json", path], capture_output=True, timeout=DEADLINE, check=False
        )
        assert ended.stdout.count(b"\n") == 1, ended.stderr
        return ended.returncode, json.loads(ended.stdout)

    return call


def assert_same(document, path):
    """What the document says of this file's tensors is what the library reads, byte for byte."""
    content = path.read_bytes()
    read = dict(library.deserialize(content))
    found = {tensor["name"]: tensor for tensor in document["tensors"]}
    assert sorted(found) == sorted(read) and len(document["tensors"]) == len(read)
    for name, tensor in found.items():
        assert (tensor["dtype"], tensor["shape"]) == (read[name]["dtype"], list(read[name]["shape"])), name
        assert tensor["file"] == path.name
        assert content[tensor["offset"] : tensor["offset"] + tensor["bytes"]] == bytes(read[name]["data"]), name


def test_what_the_library_writes_is_read_alike(inspect, tmp_path):
    random = np.random.default_rng(1)
    tensors = {f"{name}.weight": random.integers(0, 2, (3, 5)).astype(kind) for name, kind in NUMPY.items()}
    tensors |= {"scalar": np.array(2.5), "empty": np.zeros((0, 4), np.int8), "deep": np.ones((1,) * 12, np.float16)}
    metadata = {"format": "np", "note": "Ünïcode \"quoted\"\n", "empty": ""}
    path = tmp_path / "model.safetensors"
    save_file(tensors, path, metadata)
    status, document = inspect(path)
    assert (status, document["verdict"], document["format"]) == (0, "ok", "safetensors")
    assert document["findings"] == [] and document["metadata"] == metadata
    assert document["files"] == [
        {"path": path.name, "role": "weights", "bytes": path.stat().st_size, "format": "safetensors"}
    ]
    assert_same(document, path)
    for tensor in document["tensors"]:  # from the file by offset alone, as numpy would map it
        array = np.fromfile(path, NUMPY[tensor["dtype"]], tensor["bytes"] // np.dtype(NUMPY[tensor["dtype"]]).itemsize,
                            offset=tensor["offset"]).reshape(tensor["shape"])
        np.testing.assert_array_equal(array, load_file(path)[tensor["name"]])


@pytest.mark.parametrize("dtype", BITS)
def test_every_dtype_of_the_format_is_read_alike(inspect, tmp_path, dtype):
    path = tmp_path / "model.safetensors"
    shape = [2, 8, 3]
    data = os.urandom(2 * 8 * 3 * BITS[dtype] // 8)
    tensors = {"pad": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]},
               "odd place": {"dtype": dtype, "shape": shape, "data_offsets": [1, 1 + len(data)]}}
    header = json.dumps(tensors).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + b"\1" + data)
    status, document = inspect(path)
    assert (status, document["verdict"]) == (0, "ok")
    assert_same(document, path)


def test_names_of_every_kind_are_read_alike(inspect, tmp_path):
    names = ["a" * 4000, "ключ", "名前", "a b/c\\d", 'quote"', "new\nline", "tab\t", "\x7f", "😀", " ", "__metadata", "."]
    path = tmp_path / "model.safetensors"
    save_file({name: np.full(i, i, np.uint8) for i, name in enumerate(names)}, path)
    status, document = inspect(path)
    assert status == 0
    assert_same(document, path)


def test_thousands_of_tensors_are_read_alike(inspect, tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({f"layers.{i}.weight": np.full(i % 7, i % 251, np.uint8) for i in range(5000)}, path)
    status, document = inspect(path)
    assert status == 0 and len(document["tensors"]) == 5000
    assert_same(document, path)


def test_shards_are_read_alike_and_belong_together(inspect, tmp_path):
    where = {}
    for shard in (1, 2):
        name = f"model-0000{shard}-of-00002.safetensors"
        tensors = {f"layers.{shard}.{part}": np.full((2, 2), shard, np.float32) for part in ("q", "k")}
        save_file(tensors, tmp_path / name, {"format": "np"})
        where |= {tensor: name for tensor in tensors}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    status, document = inspect(tmp_path)
    assert (status, document["verdict"], document["format"]) == (0, "ok", "safetensors")
    assert {tensor["name"]: tensor["file"] for tensor in document["tensors"]} == where
    for name in set(where.values()):
        part = {"tensors": [tensor for tensor in document["tensors"] if tensor["file"] == name]}
        assert_same(part, tmp_path / name)


@pytest.mark.parametrize("what", [*BROKEN, *STRICTER])
def test_a_broken_rule_is_refused_with_its_place(inspect, tmp_path, what):
    content, rule, offset = BROKEN[what] if what in BROKEN else (STRICTER[what], "duplicate", None)
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    for ref, shown in ((path, path.name), (tmp_path, path.name)):
        status, document = inspect(ref)
        assert (status, document["verdict"], document["tensors"]) == (4, "refused", [])
        (finding,) = document["findings"]
        assert finding["code"] == "malformed" and finding["file"] == shown and rule in finding["message"]
        error = document["error"]
        assert (error["code"], error["file"], error["offset"]) == ("malformed", str(path), finding["offset"])
        if isinstance(offset, int):
            assert finding["offset"] == offset
        else:
            assert 8 <= finding["offset"] <= len(content)
