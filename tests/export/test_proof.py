"""When exported graphs pass for the same, and when they do not."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.conftest import TINY, draw
from tokenizer import export
from tokenizer.errors import OutputError
from tokenizer.export import Exported, proof
from tokenizer.models import Tokenizer, to_unit_range

onnx = pytest.importorskip("onnx", reason="the extra 'onnx' is not installed")
for package in ("onnxruntime", "onnxscript"):
    pytest.importorskip(package, reason="the extra 'onnx' is not installed")


def changed(data: bytes, edit: Any) -> bytes:
    """Return an ONNX file whose constants, an array by name, `edit` has changed."""
    proto = onnx.load_from_string(data)
    for tensor in proto.graph.initializer:
        tensor.CopyFrom(onnx.numpy_helper.from_array(edit(onnx.numpy_helper.to_array(tensor)), tensor.name))
    return proto.SerializeToString()


@pytest.mark.slow
def test_check_counts_images_of_ones_own(trained: Tokenizer, exported: Exported) -> None:
    drawn = export.check_exported(exported, trained)
    both = export.check_exported(exported, trained, [draw(17, 40), draw(9, 8)])
    assert both.images == drawn.images + 2
    assert both.tokens == drawn.tokens + 3 * 5 + 2 * 1
    assert both.values == drawn.values + 2 * 3 * 64 * (3 * 5 + 2 * 1)


@pytest.mark.slow
def test_check_refuses_another_encoder(trained: Tokenizer, exported: Exported) -> None:
    wrong = changed(exported.encoder, lambda array: array * 1.05 if array.ndim == 4 else array)
    with pytest.raises(OutputError, match=r"tokens of the exported encoder differ on an image of .* not from rounding"):
        export.check_exported(dataclasses.replace(exported, encoder=wrong), trained)


def test_check_refuses_another_decoder(trained: Tokenizer, exported: Exported) -> None:
    wrong = changed(exported.decoder, lambda array: array * 1.2 if array.ndim == 4 else array)
    with pytest.raises(OutputError, match=r"pixels of the exported decoder are off by up to \d+ of 255"):
        export.check_exported(dataclasses.replace(exported, decoder=wrong), trained)


def test_check_refuses_what_does_not_run(trained: Tokenizer, exported: Exported) -> None:
    with pytest.raises(OutputError, match="onnxruntime cannot run the exported encoder: "):
        export.check_exported(dataclasses.replace(exported, encoder=b"no graph"), trained)


def on_the_border(share: float) -> tuple[Tokenizer, np.ndarray, np.ndarray]:
    """Return a tokenizer, an image and its other token; the latent lies `share` of its size off the middle of two."""
    model = Tokenizer(TINY, {"name": "ste", "codebook_size": 2}).eval().requires_grad_(False)
    images = draw(8, 8)[None]
    latent = model.latents(to_unit_range(torch.from_numpy(images)))[0, 0, 0]
    axis = nn.functional.normalize(torch.randn(4, generator=torch.Generator().manual_seed(1)), dim=0)
    middle = latent + share * latent.square().mean().sqrt() * axis
    model.quantizer.table.place(torch.stack([middle + axis, middle - axis]))
    return model, images, np.array([[[[0]]]])


def test_a_near_tie_is_told_from_a_difference() -> None:
    model, images, other = on_the_border(1e-6)
    ours, ties = proof._compare_tokens(model, images, other)
    assert (ours.item(), ties) == (1, 1)
    model, images, other = on_the_border(1e-2)
    with pytest.raises(OutputError, match="not from rounding alone"):
        proof._compare_tokens(model, images, other)


def test_many_near_ties_are_refused(trained: Tokenizer, exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proof, "_compare_tokens", lambda _, images, theirs: (theirs, theirs.size))
    with pytest.raises(OutputError, match="607 of 607 tokens of the exported encoder differ, each from rounding alone"):
        export.check_exported(exported, trained)
