"""What other packages keep to themselves, and vqtok uses all the same: here alone, and each may go with any release.

Each function says what it does without; its test in tests/runtime fails when a new release has dropped the name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

_COMPILERS = ("torch._dynamo", "torch._inductor")


def pillow_library() -> str | None:
    """Return the path of Pillow's compiled part (`PIL._imaging`), to which its libtiff is linked.

    Without it, None: libtiff then writes to stderr. Should it move, look where `PIL.Image` imports its `core` from.
    """
    try:
        from PIL import _imaging
    except ImportError:
        return None
    return getattr(_imaging, "__file__", None)


def cpu_multiplies_bfloat16() -> bool:
    """Return whether the processor has instructions for products in bfloat16, by tests in `torch.cpu`.

    Without them, False: the network then runs in float32, which is slower and safe. Newer releases of torch may say the
    same in `torch.cpu.get_capabilities`.
    """
    import torch

    tests = (getattr(torch.cpu, name, bool) for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"))
    return any(test() for test in tests)


def lerp_all_(tensors: Sequence[Tensor], targets: Sequence[Tensor], weight: float) -> None:
    """Move each tensor towards its target by `weight` of the way, all in one call of `torch._foreach_lerp_`.

    Without it, one after the other, to the same values: several times slower where there are many small tensors.
    """
    import torch

    if at_once := getattr(torch, "_foreach_lerp_", None):
        at_once(tensors, targets, weight)
        return
    for tensor, target in zip(tensors, targets, strict=True):
        tensor.lerp_(target, weight)


def is_compiler_error(error: BaseException) -> bool:
    """Return whether an error is one of `torch.compile`, by the module of its class.

    Should these move, such an error is told with its traceback: look where `torch._dynamo.exc.TorchDynamoException` is.
    """
    return type(error).__module__.startswith(_COMPILERS)
