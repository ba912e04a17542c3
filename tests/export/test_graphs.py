"""Exported graphs, run by onnxruntime alone, against the tokenizer they come from."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.conftest import TINY, draw
from tokenizer import export, quantizers
from tokenizer.config import NetworkConfig
from tokenizer.errors import InputError, OutputError
from tokenizer.export import ExportCheck, Exported
from tokenizer.models import Tokenizer, to_pixels, to_unit_range
from tokenizer.quantizers import METHODS, STAGES

pytestmark = pytest.mark.slow

onnx = pytest.importorskip("onnx", reason="the extra 'onnx' is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")
pytest.importorskip("onnxscript", reason="the extra 'onnx' is not installed")

# Every method of the registry, but one of those whose tokens come from the same code: an export costs seconds.
CODE = ("encode", "decode", "select", "codes", "prepare", "pieces", "bound", "digits", "grid", "unit")
BY_CODE = {
    tuple(getattr(method.cls, part, None) for part in CODE): name
    for name, method in METHODS.items()
    if STAGES not in method.options
}
SINGLES = sorted(BY_CODE.values())


def tokenizer(spec: str) -> Tokenizer:
    """Return a small tokenizer with random weights: 4x4 pixels a position, or a few of these."""
    torch.manual_seed(0)
    chosen = {"codebook_size": 16, **quantizers.read_spec(spec)}
    network = NetworkConfig(downsample=4, widths=(8,), depths=(0,), latent_dim=quantizers.fitting_width(chosen, 6))
    return Tokenizer(network, chosen).channels_last().eval().requires_grad_(False)


def run_alone(data: bytes, values: np.ndarray) -> np.ndarray:
    """Return what onnxruntime, which knows nothing of vqtok, makes of `values`."""
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    (given,), (made,) = session.get_inputs(), session.get_outputs()
    return session.run([made.name], {given.name: values})[0]


@pytest.mark.parametrize(("height", "width"), [(8, 8), (8, 80), (64, 48)])
@pytest.mark.parametrize("count", [1, 3])
def test_tokens_and_pixels_are_ours(
    trained: Tokenizer, exported: Exported, count: int, height: int, width: int
) -> None:
    pixels = np.stack([draw(height, width, seed) for seed in range(count)])
    tokens = run_alone(exported.encoder, pixels)
    assert tokens.dtype == np.int64
    assert np.array_equal(tokens, trained.encode(to_unit_range(torch.from_numpy(pixels))).numpy())
    images = run_alone(exported.decoder, tokens)
    assert images.dtype == np.uint8
    assert images.shape == pixels.shape
    ours = to_pixels(trained.decode(torch.from_numpy(tokens))).numpy()
    assert np.abs(images.astype(int) - ours).max() <= 1


@pytest.mark.parametrize(
    "spec",
    [
        f"product({', '.join(SINGLES)}, residual(2*ste), diveq(normalize=sphere), ibq(normalize=rms))",
        "multiscale(fsq, scales=1 2)",  # whose blocks are no stage of others
    ],
)
def test_every_quantizer(spec: str) -> None:
    model = tokenizer(spec)
    checked = export.check_exported(export.to_onnx(model, ""), model)
    assert checked.tokens == 607 * len(model.codebook_sizes)
    assert checked.near_ties == 0  # on these few images
    assert checked.off_by_one < 1e-3 * checked.values


def test_the_singles_stand_for_all() -> None:
    assert {"fsq", "lfq", "bsq", "ibq"} < set(SINGLES)
    assert len(SINGLES) >= 6
    assert {name for name, method in METHODS.items() if STAGES in method.options} == {
        "product",
        "residual",
        "multiscale",
    }


def test_files_describe_themselves(trained: Tokenizer, exported: Exported, tmp_path: Path) -> None:
    export.write_exported(tmp_path, exported, ExportCheck(1, 2, 0, 3, 1))
    about = json.loads((tmp_path / "vqtok.json").read_text())
    facts = {"model": "f" * 64, "downsample": 8, "codebook_sizes": [32]}
    assert about.items() >= facts.items()
    assert about["checked"] == {"images": 1, "tokens": 2, "near_ties": 0, "values": 3, "off_by_one": 1}
    for name in ("encoder", "decoder"):
        data = (tmp_path / about[name]["file"]).read_bytes()
        assert about[name]["sha256"] == hashlib.sha256(data).hexdigest()
        proto = onnx.load_from_string(data)
        onnx.checker.check_model(proto, full_check=True)
        assert [opset.version for opset in proto.opset_import if opset.domain == ""] == [about["opset"]]
        assert {opset.domain for opset in proto.opset_import} == {""}
        assert json.loads(proto.metadata_props[0].value) == facts
        assert str(Path(export.__file__).parent).encode() not in data  # no stack traces
        session = onnxruntime.InferenceSession(data)
        for value in (*session.get_inputs(), *session.get_outputs()):
            layout = about["layouts"][value.name]
            assert (value.shape, value.type) == (layout["shape"], f"tensor({layout['type']})")


def test_computed_codes_become_a_table_and_the_model_stays() -> None:
    model = tokenizer("diveq(transform=linear)")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    exported = export.to_onnx(model, "")
    assert export.check_exported(exported, model).near_ties == 0
    shapes = [tuple(tensor.dims) for tensor in onnx.load_from_string(exported.encoder).graph.initializer]
    assert (16, 6) in shapes
    assert (6, 6) not in shapes
    assert before.keys() == model.state_dict().keys()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_codes_that_are_equal_and_many() -> None:
    model = tokenizer("ste(codebook_size=1000)")
    model.quantizer.table.place(torch.randn(2, 6, generator=torch.Generator().manual_seed(0)).repeat(500, 1))
    tokens = run_alone(export.to_onnx(model, "").encoder, draw(64, 64)[None])
    assert set(tokens.flatten().tolist()) <= {0, 1}  # the lowest of equals


def test_what_has_no_onnx_form_is_refused() -> None:
    class Branching(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x[:, :4] if x.sum() > 0 else -x[:, :4]

    network = dataclasses.replace(TINY, downsample=4, widths=(8,), depths=(0,))
    model = Tokenizer(network, {"name": "fsq", "levels": (4,)}, encoder=Branching(), decoder=nn.Identity())
    with pytest.raises(OutputError, match=r"what turns images into tokens has no ONNX form: .") as error:
        export.to_onnx(model, "")
    assert "\n" not in str(error.value)


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name.startswith("onnx") else found(name))
    with pytest.raises(InputError, match=r"^onnx and onnxscript and onnxruntime not installed.*'vqtok\[onnx\]'"):
        export.require_packages()
