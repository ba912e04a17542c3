"""Moving the least used codes to solid colors."""

from __future__ import annotations

from pathlib import Path

import torch

from benchmarks.colors import latents_of, move_codes, photographs
from tests.conftest import TINY, draw, save
from tokenizer.models import Tokenizer


def test_the_least_used_codes_move_to_colors_that_err_most() -> None:
    torch.manual_seed(0)
    stage = {"name": "diveq", "codebook_size": 40}
    model = Tokenizer(TINY, {"name": "residual", "stages": [stage, stage]}).eval()
    first = model.quantizer.parts[0]  # type: ignore[union-attr, index]
    before = first.code_vectors().detach().clone()  # type: ignore[union-attr, operator]
    of_photographs = before[torch.arange(36).repeat(50)]  # four of 40 codes, a tenth, are not used
    far = 100 * torch.eye(4).repeat(20, 1)
    near = before[:8].repeat(10, 1)
    move_codes(model, of_photographs, torch.cat([far, near]))
    after = first.code_vectors().detach()  # type: ignore[union-attr, operator]
    assert torch.equal(after[:36], before[:36])
    # Means of the far ones: of each, all numbers together are 100.
    torch.testing.assert_close(after[36:].sum(dim=1), torch.full((4,), 100.0))
    assert (after[36:] >= 0).all()


def test_photographs_that_are_too_small_are_passed_over(tmp_path: Path) -> None:
    for number, (height, width) in enumerate(((130, 200), (127, 200), (128, 128))):
        save(tmp_path / f"{number}.png", draw(height, width, number))
    pixels = photographs(tmp_path)
    assert pixels.shape == (2, 128, 128, 3)
    model = Tokenizer(TINY, {"name": "diveq", "codebook_size": 8}).eval()
    assert latents_of(model, pixels).shape == (2 * 16 * 16, 4)
