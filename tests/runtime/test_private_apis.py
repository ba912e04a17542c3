"""Names that other packages keep to themselves: they are there, and their absence is no end."""

from __future__ import annotations

import ctypes
import sys

import PIL
import pytest
import torch

from tokenizer.runtime import cpu_multiplies_bfloat16, is_compiler_error, lerp_all_, pillow_library


def test_pillow_library(monkeypatch: pytest.MonkeyPatch) -> None:
    path = pillow_library()
    assert path is not None
    ctypes.CDLL(path)
    monkeypatch.delattr(PIL._imaging, "__file__")
    assert pillow_library() is None
    monkeypatch.setitem(sys.modules, "PIL._imaging", None)
    monkeypatch.delattr(PIL, "_imaging")
    assert pillow_library() is None


def test_cpu_multiplies_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(cpu_multiplies_bfloat16(), bool)
    names = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    for answers in ((True, False), (False, True), (False, False)):
        for name, answer in zip(names, answers, strict=True):
            monkeypatch.setattr(torch.cpu, name, lambda answer=answer: answer)
        assert cpu_multiplies_bfloat16() == any(answers)
    for name in names:
        monkeypatch.delattr(torch.cpu, name)
    assert not cpu_multiplies_bfloat16()


def test_lerp_all_(monkeypatch: pytest.MonkeyPatch) -> None:
    assert hasattr(torch, "_foreach_lerp_")
    torch.manual_seed(0)
    shapes = [(3,), (16, 5), ()]
    targets = [torch.randn(shape) for shape in shapes]
    at_once = [torch.randn(shape) for shape in shapes]
    one_by_one = [tensor.clone() for tensor in at_once]
    wanted = [tensor.lerp(target, 0.3) for tensor, target in zip(at_once, targets, strict=True)]
    lerp_all_(at_once, targets, 0.3)
    monkeypatch.delattr(torch, "_foreach_lerp_")
    lerp_all_(one_by_one, targets, 0.3)
    for first, second, value in zip(at_once, one_by_one, wanted, strict=True):
        assert torch.equal(first, second)
        assert torch.equal(first, value)


def test_is_compiler_error() -> None:
    import torch._inductor.exc
    from torch._dynamo.exc import TorchDynamoException

    assert is_compiler_error(TorchDynamoException("no"))
    assert is_compiler_error(torch._inductor.exc.InvalidCxxCompiler())
    assert not is_compiler_error(RuntimeError("no"))
