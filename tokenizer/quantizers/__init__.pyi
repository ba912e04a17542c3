from .base import Quantized, Quantizer, ReplacedRows
from .catalog import CatalogEntry, method_catalog
from .codebook import CodebookQuantizer
from .combinators import Combinator
from .dead_codes import DeadCodeReplacement
from .methods import (
    METHODS,
    Method,
    build_quantizer,
    fitting_width,
    min_parameters,
    register,
    resolve_spec,
    short_spec,
)
from .moving_averages import MovingAverages
from .notation import MOST_STAGES, STAGES, read_spec, split_specs, write_spec
from .product import Product
from .residual import Residual
from .search import nearest_several
from .space_filling import Curve
from .tables import PlainTable

__all__ = [
    "METHODS",
    "MOST_STAGES",
    "STAGES",
    "CatalogEntry",
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
    "method_catalog",
    "min_parameters",
    "nearest_several",
    "read_spec",
    "register",
    "resolve_spec",
    "short_spec",
    "split_specs",
    "write_spec",
]
