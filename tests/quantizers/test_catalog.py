"""The catalog says of every method what the registry says, without importing what they compute with."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tokenizer.quantizers import METHODS, STAGES, Method, catalog, method_catalog

PACKAGE = Path(catalog.__file__).parent
NEW = """
from typing import Any, Literal

from tokenizer.quantizers.codebook import CodebookQuantizer, Normalize
from tokenizer.quantizers.registry import register
from tokenizer.quantizers.straight_through import STE

_WEIGHTS: tuple[float, ...] = (0.5,) * 2
Way = Literal["up", "down"]


@register("brand-new", "one line")
class BrandNew(STE):
    def __init__(self, dim: int, shift: float = -1.0, *, way: Way | None = None, weights: tuple[float, ...] = _WEIGHTS,
                 normalize: Normalize = "rms", **shared: Any) -> None:
        super().__init__(dim, normalize=normalize, **shared)


@register("as-above", "another")
class AsAbove(BrandNew):
    pass
"""


def test_it_says_what_the_registry_says() -> None:
    entries = method_catalog()
    assert set(entries) == set(METHODS)
    for name, method in METHODS.items():
        entry = entries[name]
        assert (entry.name, entry.summary) == (method.name, method.summary)
        assert list(entry.options.items()) == list(method.options.items())
        assert entry.is_combinator == (STAGES in method.options)
    assert {name for name, entry in entries.items() if entry.is_combinator} == {"multiscale", "product", "residual"}


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(PACKAGE, tmp_path / "quantizers"))


def test_a_new_method_is_one_new_file(copied: Path) -> None:
    (copied / "brand_new.py").write_text(NEW)
    entries = method_catalog(copied)
    names: dict[str, object] = {}
    try:
        exec(NEW, names)  # the registry's word on the same lines
        for name in ("brand-new", "as-above"):
            assert (entries[name].summary, dict(entries[name].options)) == (
                METHODS[name].summary,
                METHODS[name].options,
            )
        assert entries["brand-new"].options["weights"] == (tuple[float, ...], (0.5, 0.5))
        assert method_catalog()["brand-new"].options == METHODS["brand-new"].options
    finally:
        for name in ("brand-new", "as-above"):
            METHODS.pop(name, None)


def test_what_others_register_is_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "outside", Method("outside", METHODS["ste"].cls, "from elsewhere"))
    entry = method_catalog()["outside"]
    assert (entry.summary, entry.options) == ("from elsewhere", METHODS["ste"].options)


def test_what_only_running_it_would_tell_is_an_error_that_says_where(copied: Path) -> None:
    (copied / "brand_new.py").write_text(NEW.replace("= -1.0", "= max(1.0, 2.0)"))
    with pytest.raises(ValueError, match=r"brand_new\.py:14: max\(1\.0, 2\.0\) cannot be read without running it"):
        method_catalog(copied)


@pytest.mark.slow
def test_neither_it_nor_the_notation_imports_torch() -> None:
    code = """
import sys
from tokenizer.quantizers import method_catalog, read_spec, split_specs, write_spec
method_catalog(), write_spec(read_spec("residual(2*diveq)"))
assert not {"torch", "numpy"} & set(sys.modules)
from tokenizer.quantizers import register
from tokenizer.quantizers import METHODS
assert len(METHODS) == len(method_catalog())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
