"""Every quantizer, by name. A new one is one new file here with one `@register("name", "one line")`."""

import importlib
import pkgutil

from tokenizer.quantizers.base import Quantized, Quantizer, Reseeded
from tokenizer.quantizers.codebook import CodebookQuantizer
from tokenizer.quantizers.notation import read_spec, split, write_spec
from tokenizer.quantizers.registry import METHODS, Method, build, register, resolve, short, values, width

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = [
    "METHODS",
    "CodebookQuantizer",
    "Method",
    "Quantized",
    "Quantizer",
    "Reseeded",
    "build",
    "read_spec",
    "register",
    "resolve",
    "short",
    "split",
    "values",
    "width",
    "write_spec",
]
