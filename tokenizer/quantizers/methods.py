"""All methods: importing this module imports every file of the package, and each registers its own.

So the registry is complete for whoever takes one of these names from the package, and names that others register
afterwards join it.
"""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

from tokenizer.quantizers.registry import (
    METHODS,
    Method,
    build_quantizer,
    fitting_width,
    min_parameters,
    register,
    resolve_spec,
    short_spec,
)

for _module in pkgutil.iter_modules([str(Path(__file__).parent)]):
    importlib.import_module(f"{__package__}.{_module.name}")

__all__ = [
    "METHODS",
    "Method",
    "build_quantizer",
    "fitting_width",
    "min_parameters",
    "register",
    "resolve_spec",
    "short_spec",
]
