"""Checkpoints and training states that lie: refused in one line, before memory is asked for or anything is executed."""

from __future__ import annotations

import json
import pickle
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from cli.settings import fresh
from tokenizer import quantizers, train
from tokenizer.config import NetworkConfig, TrainConfig, parse_assignments, read_toml
from tokenizer.errors import CheckpointError, ConfigError, InputError
from tokenizer.files import canonical_json, load_weights
from tokenizer.models import Tokenizer, fingerprint_of, load_checkpoint
from tokenizer.train.saved_states import _checksum


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    shutil.copytree(run, tmp_path / "copy")
    return tmp_path / "copy"


def edit(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def refused(folder: Path) -> str:
    """Return what loading says, after little memory was asked for."""
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError) as caught:
            load_checkpoint(folder)
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 1000 + len(str(folder))
    return str(caught.value)


NESTED: Any = {"name": "diveq"}
for _ in range(200):
    NESTED = {"name": "residual", "stages": [NESTED]}
NETWORK = {"downsample": 8, "widths": [32, 32], "depths": [1, 1], "latent_dim": 4}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"quantizer": {"name": "diveq", "codebook_size": 10**12}}, "numbers or more are described"),
        ({"quantizer": {"name": "diveq", "codebook_size": 10**40}}, "expected a whole number"),
        ({"quantizer": {"name": "diveq", "codebook_size": -5}}, "expected 1 or more"),
        ({"quantizer": {"name": "residual", "stages": [{"name": "ema", "codebook_size": 2**40}]}}, "are described"),
        ({"quantizer": {"name": "residual(256*residual(256*diveq))"}}, "more than 256 stages"),
        ({"quantizer": {"name": "residual(" * 2000 + ")" * 2000}}, "brackets in each other"),
        ({"quantizer": NESTED}, "too deep"),
        ({"quantizer": {"name": "residual", "stages": [{"name": "residual(9*fsq)"}] * 10**3}}, "more than 256 stages"),
        ({"quantizer": {"name": "multiscale(ste(codebook_size=2), scales=1 100000)"}}, "expected at most 16"),
        ({"quantizer": {"name": "fsq", "levels": [2**40, 2**40]}}, "more than 63 bits"),
        ({"quantizer": {"name": "lfq", "codebook_size": 2**62}}, "take 62"),
        ({"network": {**NETWORK, "widths": [10**6, 10**6]}}, "network.widths must be 1 to 65536"),
        ({"network": {**NETWORK, "widths": [65536, 65536]}}, "numbers or more are described"),
        ({"network": {**NETWORK, "depths": [10**9, 1]}}, "network.depths 0 to 256"),
        ({"network": {**NETWORK, "depths": [256, 256]}}, "numbers or more are described"),
        ({"network": {**NETWORK, "latent_dim": 10**9}}, "network.latent_dim is 1000000000, expected 1 to 4096"),
        ({"network": {**NETWORK, "latent_dim": 10**400}}, "network.latent_dim is 1000"),
        ({"network": {**NETWORK, "latent_dim": float("nan")}}, "network.latent_dim is nan"),
        ({"codebook_sizes": []}, "codebook_sizes is ()"),
        ({"codebook_sizes": [0]}, "codebook_sizes is (0,)"),
        ({"codebook_sizes": [2**62]}, "names codebook sizes"),
        ({"downsample": 0}, "downsample is 0"),
        ({"downsample": 16}, "a downsample of 16, its quantizer has (32,) and 8"),
        ({"network": ["x" * 10**5]}, "expected a table of settings"),
        ({"version": "1"}, "not that of a vqtok checkpoint"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_configs_that_lie(copy: Path, changes: dict[str, Any], message: str) -> None:
    edit(copy, **changes)
    assert message in refused(copy)


def test_more_is_asked_for_than_is_promised_of_no_quantizer() -> None:
    """What `min_parameters` says is a lower bound, and for tables near what there is."""
    for name, spec in [(name, {"name": name}) for name in quantizers.METHODS] + [
        ("", {"name": "product(2*fsq, 2*ste)"})
    ]:
        dim = quantizers.fitting_width(spec, 16)
        made = quantizers.build_quantizer(spec, dim)
        held = sum(parameter.numel() for parameter in made.parameters())
        assert quantizers.min_parameters(spec, dim) <= held, name
    network = NetworkConfig(8, (16, 24), (2, 1), 4)
    held = sum(p.numel() for p in Tokenizer(network, {"name": "fsq", "levels": [2]}).parameters())
    assert 0.9 * held < network.min_parameters < held


@pytest.mark.parametrize("dtype", ["float64", "int32", "float8_e4m3fn", "complex64", "bool"])
def test_weights_of_other_types(copy: Path, dtype: str) -> None:
    path = copy / "model.safetensors"
    weights = safetensors.torch.load_file(path)
    name = "quantizer.table.weight"
    try:
        safetensors.torch.save_file({**weights, name: weights[name].to(getattr(torch, dtype))}, path)
    except KeyError:
        pytest.skip(f"safetensors {safetensors.__version__} knows no {dtype}")
    assert f"{name} is (32, 4) {dtype}, expected (32, 4) float32" in refused(copy)


def test_headers_that_lie(copy: Path) -> None:
    path = copy / "model.safetensors"
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    entries = json.loads(data[8 : 8 + length])
    first, second = sorted(entries)[:2]

    def put(header: Any, size: int | None = None) -> None:
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        path.write_bytes((len(text) if size is None else size).to_bytes(8, "little") + text + data[8 + length :])

    for change in (
        {first: {**entries[first], "data_offsets": entries[second]["data_offsets"]}},
        {first: {**entries[first], "data_offsets": [-8, 4]}},
        {first: {**entries[first], "data_offsets": [0, 2**62]}},
        {first: {**entries[first], "shape": [2**40, 2**40]}},
        {first: {**entries[first], "shape": None}},
        {first: {**entries[first], "dtype": "OBJECT"}},
        {first: 3},
        {"\ud800": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}},
    ):
        put({**entries, **change})
        for call in (fingerprint_of, load_checkpoint):
            with pytest.raises(CheckpointError, match="cannot read"):
                call(copy)
    for text, size in ((b"[" * 10**5, None), (b"{}", 2**63), (b'{"a": NaN}', None), (b"\xff\xfe", None)):
        put(text, size)
        assert "cannot read" in refused(copy)


def test_every_cut_of_a_header(copy: Path) -> None:
    path = copy / "model.safetensors"
    data = path.read_bytes()
    for length in range(0, 2000, 7):
        path.write_bytes(data[:length])
        with pytest.raises(CheckpointError, match="cannot read"):
            fingerprint_of(copy)


class Trap:
    """What creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.mkdir, (self.path,))


def test_pickles_are_refused_as_models(tmp_path: Path, copy: Path) -> None:
    trap = Trap(tmp_path / "owned")
    for name, data in [
        ("model.pt", pickle.dumps(trap)),
        ("model.npz", b"PK\3\4"),
        ("model.ckpt", pickle.dumps(trap, 0)),
    ]:
        (tmp_path / name).write_bytes(data)
        with pytest.raises(CheckpointError, match=r"pickled weights \(\.pt, \.pth, \.ckpt\) are never opened"):
            load_checkpoint(tmp_path / name)
    (copy / "model.safetensors").write_bytes(pickle.dumps(trap))
    assert "cannot read" in refused(copy)
    torch.save({"x": trap}, tmp_path / "weights.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(trap))
    np.save(tmp_path / "objects.pth", np.array([trap], object), allow_pickle=True)
    for path in tmp_path.glob("*.pth"):
        with pytest.raises(InputError, match="damaged, or not a file of tensors"):
            load_weights(path, "VGG-16", "get it")
    assert not (tmp_path / "owned").exists()


def test_settings_without_end(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    for text in (
        "a = " + "9" * 5000,
        "a = " + "[" * 5000,
        "a." * 900 + "b = 1",
        "\0",
        "a = 1\na = 2",
        'a = "\\ud800"',
    ):
        path.write_text(text)
        with pytest.raises((InputError, ConfigError)):
            fresh(read_toml(path))
    for value in ({}, [[]], 3):
        with pytest.raises(ConfigError, match=r"preset is .*, expected text"):
            fresh({"preset": value})
    with pytest.raises(ConfigError, match="has too many dots"):
        parse_assignments(["a." * 5000 + "b=1"])
    for key in ("steps", "seed", "batch_size", "val_images"):
        with pytest.raises(ConfigError, match=f"{key} is 1000.*expected a whole number"):
            fresh({key: 10**30})


@pytest.fixture
def state(copy: Path) -> Callable[..., None]:
    """Write the copy's newest state anew, with another header, and a checksum that is right."""
    path = sorted((copy / "states").glob("*.safetensors"))[-1]
    with safetensors.safe_open(path, "pt") as file:
        header = json.loads(file.metadata()["vqtok"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
    for old in (copy / "states").iterdir():
        old.unlink()

    def write(change: Callable[[dict[str, Any], dict[str, torch.Tensor]], object]) -> None:
        said, held = json.loads(json.dumps(header)), dict(tensors)
        change(said, held)
        said["checksum"] = said.get("checksum") and _checksum(held)
        path.write_bytes(safetensors.torch.save(held, metadata={"vqtok": json.dumps(said)}))

    return write


@pytest.mark.parametrize(
    "change",
    [
        lambda said, held: said.pop("config"),
        lambda said, held: said.update(config=[1]),
        lambda said, held: said.update(plain=None),
        lambda said, held: said["plain"].update(step="x"),
        lambda said, held: said["plain"].update(step=-1),
        lambda said, held: said["plain"].update(step=10**40),
        lambda said, held: said["plain"].update(seconds=float("inf")),
        lambda said, held: said["plain"].update(lr_share=0),
        lambda said, held: said["plain"].update(figures=3),
        lambda said, held: said["plain"].update(reads=5),
        lambda said, held: said["plain"].update(scaler={"scale": "x"}),
        lambda said, held: said["plain"].pop("best"),
        lambda said, held: said["config"].update(seed=10**30),
        lambda said, held: said["config"]["network"].update(widths=[10**6, 10**6]),
        lambda said, held: said.update(checksum=0),
    ],
)
def test_states_that_cannot_be_read(copy: Path, state: Callable[..., None], change: Callable[..., object]) -> None:
    state(change)
    with pytest.raises(CheckpointError, match="training state") as caught:
        train.read_newest_state(copy)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda said, held: said["config"]["network"].update(widths=[4096, 4096]),
        lambda said, held: said["config"]["network"].update(depths=[200, 200]),
        lambda said, held: said["config"]["quantizer"].update(codebook_size=10**12),
        lambda said, held: said["config"]["quantizer"].update(codebook_size=33),
        lambda said, held: said["config"]["quantizer"].update(name="no such"),
        lambda said, held: held.pop("model/quantizer.table.weight"),
        lambda said, held: held.pop("ema/encoder.layers.1.weight"),
        lambda said, held: held.pop("random/cpu"),
        lambda said, held: held.update({"random/cpu": torch.zeros(())}),
        lambda said, held: held.update({"random/cpu": torch.zeros(1, 7)}),
        lambda said, held: held.update({name: torch.zeros(3) for name in held if name.startswith("optimizer")}),
        lambda said, held: held.update({"model/encoder.layers.1.weight": torch.zeros(1)}),
        lambda said, held: held.update({"model/encoder.layers.1.bias": torch.zeros(32, dtype=torch.int64)}),
    ],
)
def test_states_that_do_not_fit(
    copy: Path, state: Callable[..., None], change: Callable[..., object], photos: Path, quick: TrainConfig
) -> None:
    """Their settings are larger than their tensors, or other ones."""
    state(change)
    saved, _ = train.read_newest_state(copy)
    tracemalloc.start()
    with pytest.raises((CheckpointError, ConfigError)) as caught:
        train.resume_run(train.plan_run(saved.config, [photos]), saved)
    assert tracemalloc.get_traced_memory()[1] < 2**25
    tracemalloc.stop()
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e5m2])
def test_states_of_types_that_are_never_written(copy: Path, state: Callable[..., None], dtype: torch.dtype) -> None:
    state(lambda said, held: None)
    (path,) = (copy / "states").glob("*.safetensors")
    path.write_bytes(safetensors.torch.save({"x": torch.zeros(2).to(dtype)}, metadata={"vqtok": "{}"}))
    with pytest.raises(CheckpointError, match="cannot read the training state"):
        train.read_newest_state(copy)


def test_a_state_of_its_own_is_read(copy: Path, state: Callable[..., None]) -> None:
    state(lambda said, held: None)
    saved, faults = train.read_newest_state(copy)
    assert (saved.plain["step"], faults) == (12, [])
    assert canonical_json(dict(saved.plain))
