"""Every quantizer, by name. A new one is one new file here with one `@register("name", "one line")`."""

from __future__ import annotations

import importlib
import pkgutil

from tokenizer.quantizers.base import Quantized, Quantizer, ReplacedRows
from tokenizer.quantizers.codebook import CodebookQuantizer
from tokenizer.quantizers.combinators import Combinator
from tokenizer.quantizers.dead_codes import DeadCodeReplacement
from tokenizer.quantizers.moving_averages import MovingAverages
from tokenizer.quantizers.notation import MOST_STAGES, read_spec, split_specs, write_spec
from tokenizer.quantizers.product import Product
from tokenizer.quantizers.registry import (
    METHODS,
    STAGES,
    Method,
    build_quantizer,
    fitting_width,
    min_parameters,
    register,
    resolve_spec,
    short_spec,
)
from tokenizer.quantizers.residual import Residual
from tokenizer.quantizers.search import nearest_several
from tokenizer.quantizers.space_filling import Curve
from tokenizer.quantizers.tables import PlainTable

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = [
    "METHODS",
    "MOST_STAGES",
    "STAGES",
    "CodebookQuantizer",
    "Combinator",
    "Curve",
    "DeadCodeReplacement",
    "Method",
    "MovingAverages",
    "PlainTable",
    "Product",
    "Quantized",
    "Quantizer",
    "ReplacedRows",
    "Residual",
    "build_quantizer",
    "fitting_width",
    "min_parameters",
    "nearest_several",
    "read_spec",
    "register",
    "resolve_spec",
    "short_spec",
    "split_specs",
    "write_spec",
]
