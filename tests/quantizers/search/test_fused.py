"""The Triton kernel, in Triton's interpreter: no GPU is needed."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import textwrap

import pytest
import torch

from tokenizer.quantizers.search.fused import _runs, fits_kernel
from tokenizer.quantizers.search.scores import ScoreFactors

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not on this machine"),
]


def interpret(code: str) -> None:
    """Run code where Triton's kernels run on NumPy: that is decided when Triton is first imported."""
    program = "import os; os.environ['TRITON_INTERPRET'] = '1'\n" + textwrap.dedent(code)
    # The interpreter of Triton 3.2 does what NumPy 1.25 and later deprecate.
    warnings = ["-W", "error", "-W", "ignore::DeprecationWarning:triton.runtime.interpreter"]
    done = subprocess.run([sys.executable, *warnings, "-c", program], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr


def test_the_kernel_finds_what_the_tiles_find() -> None:
    interpret("""
        import torch
        from tokenizer.quantizers.search import fused, tiles
        from tokenizer.quantizers.search.scores import ScoreFactors
        torch.manual_seed(0)
        for rows, codes, dim in [(1, 1, 1), (70, 700, 3), (130, 2500, 8), (65, 3000, 64), (5, 4097, 33), (64, 64, 16)]:
            z, codebook = torch.randn(rows, dim), torch.randn(codes, dim)
            for factors in (ScoreFactors.of_distances(z, codebook), ScoreFactors.of_products(z, codebook)):
                found, expected = fused.scan_fused(factors), tiles.scan_tiles(factors)
                sure = found.certain(factors)
                assert sure.float().mean() > 0.95, (rows, codes, dim)
                assert torch.equal(found.codes[sure], expected.codes[sure])
                torch.testing.assert_close(found.best, expected.best)
                torch.testing.assert_close(found.second, expected.second)
    """)


def test_ties_are_seen_within_and_across_tiles_and_shares() -> None:
    interpret("""
        import torch
        from tokenizer.quantizers.search import fused
        from tokenizer.quantizers.search.scores import ScoreFactors
        torch.manual_seed(0)
        for first, again in ((3, 5), (3, 67), (3, 2500)):
            codebook = torch.randn(3000, 4)
            codebook[again] = codebook[first]
            z = codebook[[first, 10]] + 0.001
            factors = ScoreFactors.of_distances(z, codebook)
            found = fused.scan_fused(factors)
            assert found.codes.tolist() == [first, 10]
            assert found.certain(factors).tolist() == [False, True]
    """)


def test_the_whole_search_through_the_kernel() -> None:
    interpret("""
        import torch
        from tokenizer.errors import NonFiniteError
        from tokenizer.quantizers import search
        torch.manual_seed(0)
        z, codebook = torch.randint(-2, 3, (90, 5)).float(), torch.randint(-2, 3, (1500, 5)).float()
        expected = ((z[:, None] - codebook) ** 2).sum(dim=2).argmin(dim=1)
        search.fits_kernel = lambda factors: True
        assert torch.equal(search.nearest(z, codebook), expected)
        codebook[700, 2] = torch.nan
        try:
            search.nearest(z, codebook)
        except NonFiniteError as error:
            assert "code vector" in str(error)
        else:
            raise AssertionError("a code vector is NaN")
    """)


def test_it_is_for_gpus_only() -> None:
    assert not fits_kernel(ScoreFactors.of_distances(torch.randn(3, 4), torch.randn(5, 4)))


def test_where_it_does_not_run_it_says_why_once_and_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    device = torch.device("cpu")  # Triton has no driver for it
    _runs.cache_clear()
    with pytest.warns(UserWarning, match="the fused search does not run on cpu, a slower one does"):
        assert not _runs(device)
    assert not _runs(device)
    _runs.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert not _runs(device)
    _runs.cache_clear()


@pytest.mark.parametrize("capability", [75, 80, 90])
@pytest.mark.parametrize("whole", [True, False])
def test_it_compiles_for_gpus_that_are_not_here(capability: int, whole: bool) -> None:
    """To machine code, in shared memory that every such GPU has."""
    code = f"""
        from triton.backends.compiler import GPUTarget
        from triton.compiler import ASTSource, compile
        from tokenizer.quantizers.search import kernel
        floats, numbers = ("latents", "vectors", "best", "second"), ("rows", "count", "dim", "per_share")
        shape = {{"ROWS": kernel._ROWS, "CODES": kernel._CODES, "DEPTH": kernel._DEPTH, "WHOLE": {whole}}}
        types = {{"codes": "*i32", **dict.fromkeys(floats, "*fp32"), **dict.fromkeys(numbers, "i32")}}
        types |= dict.fromkeys(shape, "constexpr")
        source = ASTSource(kernel._scan, {{name: types[name] for name in kernel._scan.arg_names}}, shape)
        options = {{"num_warps": kernel._WARPS, "num_stages": 2}}
        made = compile(source, target=GPUTarget("cuda", {capability}, 32), options=options)
        assert made.asm["cubin"]
        assert made.metadata.shared <= 48 * 1024
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
