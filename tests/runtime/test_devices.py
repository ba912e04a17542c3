from __future__ import annotations

import pytest
import torch

from tokenizer import runtime
from tokenizer.errors import DeviceError, UsageError
from tokenizer.runtime import devices


def test_devices() -> None:
    assert runtime.choose_device("cpu") == torch.device("cpu")
    assert runtime.choose_device("auto").type in ("cpu", "cuda", "mps")
    with pytest.raises(UsageError, match="'gpu' is not a device: pass auto, cpu, cuda"):
        runtime.choose_device("gpu")
    with pytest.raises(DeviceError, match="there is no cuda:99 on this machine: pass --device auto"):
        runtime.choose_device("cuda:99")
    with pytest.raises(DeviceError, match="there is no xpu"):
        runtime.choose_device("xpu")


def test_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    assert runtime.choose_precision("float32", cpu) == "float32"
    assert runtime.choose_precision("tf32", cpu) == "tf32"
    for answer, wanted in [(True, "bfloat16"), (False, "float32")]:
        monkeypatch.setattr(devices, "cpu_multiplies_bfloat16", lambda answer=answer: answer)
        assert runtime.choose_precision("auto", cpu) == wanted
    assert runtime.choose_precision("auto", torch.device("meta")) == "float32"


def test_autocast_is_on_only_below_float32() -> None:
    a = torch.ones(4, 4)
    with runtime.autocast(torch.device("cpu"), "bfloat16"):
        assert (a @ a).dtype == torch.bfloat16
    for precision in ("float32", "tf32"):
        with runtime.autocast(torch.device("cpu"), precision):
            assert (a @ a).dtype == runtime.dtype_of(precision) == torch.float32


def test_errors_of_torch_become_one_line() -> None:
    from torch._dynamo.exc import TorchDynamoException

    told = runtime.explain_error(torch.OutOfMemoryError("CUDA out of memory"), "pass less")
    assert str(told) == "out of memory: pass less"
    told = runtime.explain_error(TorchDynamoException("No working C++ compiler found\n\nSet TORCHDYNAMO_VERBOSE=1"), "")
    assert str(told) == "the network cannot be compiled here, leave --compile out: No working C++ compiler found"
    assert runtime.explain_error(RuntimeError("shapes differ"), "pass less") is None


def test_processors_are_those_this_process_may_use() -> None:
    assert 1 <= runtime.processor_count() <= 4096
