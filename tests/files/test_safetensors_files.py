"""The header of a `.safetensors` file, against the library's own reader and writer."""

from __future__ import annotations

import json
import mmap
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from safetensors import SafetensorError

from tokenizer.files import TensorEntry, read_safetensors_header, safetensors_header_of

ARRAYS = {
    "b": np.arange(6, dtype=np.uint16).reshape(2, 3),
    "a": np.ones((), np.float32),
    "empty": np.zeros((0, 4), bool),
}
DATA = safetensors.numpy.save(ARRAYS, metadata={"key": "value"})


def test_the_library_reads_what_is_written() -> None:
    header = safetensors_header_of({name: (array.dtype, array.shape) for name, array in ARRAYS.items()}, {"key": "é"})
    assert len(header) % 8 == 0
    data = header + b"".join(array.tobytes() for array in ARRAYS.values())
    read = safetensors.numpy.load(data)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(read[name], array, strict=True)
    assert read_safetensors_header(data).metadata == {"key": "é"}


def test_what_the_library_writes_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(DATA)
    header = read_safetensors_header(DATA)
    assert header.metadata == {"key": "value"}
    for name, entry in header.entries.items():
        held = DATA[header.length + entry.start : header.length + entry.end]
        array = np.frombuffer(held, entry.numpy_dtype).reshape(entry.shape)
        np.testing.assert_array_equal(array, ARRAYS[name], strict=True)
    assert read_safetensors_header(np.frombuffer(DATA, np.uint8)) == header
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        assert read_safetensors_header(data, path) == header


def test_types_that_numpy_lacks() -> None:
    assert TensorEntry("BF16", (2,), 0, 4).numpy_dtype is None
    assert TensorEntry("I64", (2,), 0, 16).numpy_dtype == np.int64


def test_no_metadata() -> None:
    assert read_safetensors_header(safetensors.numpy.save({"a": np.zeros(1)})).metadata == {}


def damaged() -> dict[str, bytes]:
    def of(**entry: object) -> bytes:
        text = json.dumps({"a": {"dtype": "U8", "shape": [2], "data_offsets": [0, 2], **entry}}).encode()
        return len(text).to_bytes(8, "little") + text + b"xy"

    assert read_safetensors_header(of()).entries == {"a": TensorEntry("U8", (2,), 0, 2)}
    return {
        "nothing": b"",
        "cut": DATA[:-1],
        "cut in the header": DATA[:50],
        "more": DATA + b"x",
        "a length without end": (2**63).to_bytes(8, "little") + DATA[8:],
        "outside": of(data_offsets=[0, 3]),
        "backwards": of(data_offsets=[2, 0]),
        "another size": of(shape=[3]),
        "an unknown type": of(dtype="X9"),
        "brackets": (10**5).to_bytes(8, "little") + b"[" * 10**5,
        "no object": (2).to_bytes(8, "little") + b"[]",
        "a pickle": b"\x80\x04\x95" + bytes(20),
    }


@pytest.mark.parametrize("name", damaged())
def test_what_is_damaged(tmp_path: Path, name: str) -> None:
    data, path = damaged()[name], tmp_path / "a.safetensors"
    path.write_bytes(data)
    with pytest.raises((SafetensorError, ValueError, RecursionError)):
        read_safetensors_header(data)
    with pytest.raises((SafetensorError, ValueError, RecursionError)):
        read_safetensors_header(data, path)


def test_torch_is_not_imported() -> None:
    code = "import sys; from tokenizer.files import read_safetensors_header as read; read(bytes.fromhex(sys.argv[1])); "
    code += "sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code, DATA.hex()], check=False).returncode == 0
