"""What codes mean: decoded alone, in a picture, and the patches of originals that chose them."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch

from tests.conftest import TINY, draw
from tokenizer import codec
from tokenizer.errors import InputError, UsageError
from tokenizer.images import Source, placement_of
from tokenizer.models import Tokenizer, load_checkpoint, to_pixels
from tokenizer.quantizers import read_spec
from tokenizer.report import code_pictures as codes
from tokenizer.report import codebook_picture
from tokenizer.report.code_pictures import CodePictures
from tokenizer.tokens import ImageRecord, TokenSet

SIZES = [(24, 33), (30, 17), (9, 40), (64, 64)]


@pytest.fixture(scope="module")
def model(run: Path) -> Tokenizer:
    return load_checkpoint(run)


@pytest.fixture(scope="module")
def originals() -> dict[str, Source]:
    return {str(number): Source(str(number), draw(*size, number).copy) for number, size in enumerate(SIZES)}


def encoded(model: Tokenizer, originals: dict[str, Source]) -> TokenSet:
    options = codec.EncodeOptions()
    results = codec.encode_images(model, originals.values(), options)
    return codec.collect_tokens(results, codec.token_header(model, "f", options))


def pictures_of(model: Tokenizer, tokens: TokenSet, originals: dict[str, Source], **options: int) -> CodePictures:
    return codebook_picture(model, zip(tokens.images, tokens.grids, strict=True), originals, **options)


def decode(model: Tokenizer, grid: np.ndarray) -> np.ndarray:
    """Without the codec."""
    return to_pixels(model.decode(torch.from_numpy(grid)[None]))[0].numpy()


def seen_by(model: Tokenizer, tokens: TokenSet, code: int, slot: int = 0) -> list[tuple[bytes, bytes]]:
    """Original and decoded pixels, 8 x 8 each, of every position that chose a code."""
    found = []
    for number, grid in enumerate(tokens.grids):
        height, width = SIZES[number]
        canvas = np.pad(draw(height, width, number), ((0, -height % 8), (0, -width % 8), (0, 0)), mode="edge")
        decoded = decode(model, grid)
        for row, column in np.argwhere(grid[..., slot] == code):
            here = slice(8 * row, 8 * row + 8), slice(8 * column, 8 * column + 8)
            found.append((canvas[here].tobytes(), decoded[here].tobytes()))
    return found


def test_against_a_computation_by_hand(model: Tokenizer, originals: dict[str, Source]) -> None:
    tokens = encoded(model, originals)
    found = pictures_of(model, tokens, originals)
    assert sorted(found.codes) == list(range(32))
    assert found.counts.sum() == sum(grid.size for grid in tokens.grids)
    for number, code in enumerate(found.codes):
        pairs = seen_by(model, tokens, code)
        assert found.counts[number] == len(pairs)
        assert found.examples[number] == min(3, len(pairs))
        alone = decode(model, np.full((9, 9, 1), code))[32:40, 32:40]
        assert np.array_equal(found.alone[number], alone)
        patches = [np.frombuffer(original, np.uint8).astype(float) for original, _ in pairs]
        mean = np.rint(np.mean(patches, axis=0)) if patches else np.zeros(192)
        assert np.array_equal(found.means[number].ravel(), mean)
        for example in range(3):
            pair = found.originals[number, example], found.decoded[number, example]
            if example < len(pairs):
                assert (pair[0].tobytes(), pair[1].tobytes()) in pairs
            else:
                assert not np.any(pair)


@pytest.mark.parametrize("spec", ["residual(3*diveq)", "product(2*ste)", "multiscale(diveq, scales=1 2)", "lfq", "fsq"])
def test_other_slots_hold_their_most_used_code(spec: str, originals: dict[str, Source]) -> None:
    torch.manual_seed(1)
    wanted = read_spec(spec)
    for stage in wanted.get("stages", []):
        stage["codebook_size"] = 16
    network = replace(TINY, downsample=4, widths=(16,), depths=(1,)) if "multi" in spec else TINY
    if not wanted.get("stages"):
        wanted["levels" if spec == "fsq" else "codebook_size"] = (4, 3) if spec == "fsq" else 16
    model = Tokenizer(network, wanted).eval()
    tokens = encoded(model, originals)
    slot = len(model.codebook_sizes) - 1
    found = pictures_of(model, tokens, originals, slot=slot)
    every = np.concatenate([grid.reshape(-1, slot + 1) for grid in tokens.grids])
    most_used = [int(np.bincount(every[:, place]).argmax()) for place in range(slot + 1)]
    for number, code in enumerate(found.codes):
        grid = np.tile(np.array([*most_used[:-1], code]), (9, 9, 1))
        difference = found.alone[number].astype(int) - decode(model, grid)[32:40, 32:40]
        assert abs(difference).max() <= 1
        assert found.counts[number] == (every[:, slot] == code).sum()
    pairs = seen_by(model, tokens, int(found.codes[found.counts.argmax()]), slot)
    assert len(pairs) == found.counts.max()
    assert found.originals[found.counts.argmax(), 0].tobytes() in {original for original, _ in pairs}


def test_the_sample_is_uniform() -> None:
    """Of 12 patches that come in three images, each is among the three kept equally often."""
    times = np.zeros(12)
    first = np.zeros(12)
    for seed in range(1200):
        patches = codes._Patches(2, 2, seed)
        for start in (0, 5, 6):
            stop = {0: 5, 5: 6, 6: 12}[start]
            row = np.arange(start, stop, dtype=np.uint8).repeat(2)[None].repeat(2, 0)
            canvas = np.stack([row] * 3, -1)
            patches.add(np.ones((1, stop - start), int), canvas, 100 + canvas)
        _, originals, decoded, examples = patches.of(np.array([1, 0]))
        assert examples.tolist() == [3, 0]
        assert np.array_equal(decoded[0], originals[0] + 100)
        kept = originals[0, :, 0, 0, 0]
        assert len(set(kept)) == 3
        times[kept] += 1
        first[kept[0]] += 1
    assert scipy.stats.chisquare(times).pvalue > 0.001
    assert scipy.stats.chisquare(first).pvalue > 0.001


def test_of_many_codes_the_most_used(model: Tokenizer, originals: dict[str, Source]) -> None:
    tokens = encoded(model, originals)
    every, few = pictures_of(model, tokens, originals), pictures_of(model, tokens, originals, most=5)
    assert len(few.codes) == 5
    assert sorted(few.counts, reverse=True) == sorted(every.counts, reverse=True)[:5]
    for number, code in enumerate(few.codes):
        other = int(np.flatnonzero(every.codes == code)[0])
        assert np.array_equal(few.means[number], every.means[other])
        assert np.array_equal(few.originals[number], every.originals[other])


def test_patches_of_more_codes_than_fit_are_not_kept(
    model: Tokenizer, originals: dict[str, Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = encoded(model, originals)
    monkeypatch.setattr(codes, "_MEMORY", 3 * 8 * 8 * 3 * (8 + 6))
    monkeypatch.setattr(codes, "_PIXELS_AT_ONCE", 64 * 7)
    found = pictures_of(model, tokens, originals)
    assert (found.examples > 0).sum() == 3
    assert found.counts.sum() == sum(grid.size for grid in tokens.grids)
    for number in np.flatnonzero(found.examples):
        patches = [original for original, _ in seen_by(model, tokens, found.codes[number])]
        mean = np.mean([np.frombuffer(patch, np.uint8).astype(float) for patch in patches], axis=0)
        assert np.array_equal(found.means[number].ravel(), np.rint(mean))


def test_names_without_an_original_are_counted_alone(model: Tokenizer, originals: dict[str, Source]) -> None:
    tokens = encoded(model, originals)
    every, some = pictures_of(model, tokens, originals), pictures_of(model, tokens, {"2": originals["2"]})
    assert np.array_equal(some.codes, every.codes)
    assert np.array_equal(some.counts, every.counts)
    grid = tokens.grids[2]
    assert set(some.codes[some.examples > 0]) == set(grid.ravel())
    none = pictures_of(model, tokens, {})
    assert not none.examples.any()
    assert none.picture().shape == every.picture().shape


def test_nothing_was_encoded(model: Tokenizer) -> None:
    found = codebook_picture(model, [], {})
    assert len(found.codes) == 32
    assert not found.counts.any()
    crossed = (found.picture() == (255, 0, 200)).all(-1)
    assert crossed.any()


def test_one_and_two_codes(originals: dict[str, Source]) -> None:
    for size, seed in itertools.product((1, 2), (0, 1)):
        torch.manual_seed(seed)
        model = Tokenizer(TINY, {"name": "ste", "codebook_size": size}).eval()
        found = pictures_of(model, encoded(model, originals), originals)
        assert len(found.codes) == size
        assert found.picture().dtype == np.uint8


def test_equal_seeds_give_equal_pictures(model: Tokenizer, originals: dict[str, Source]) -> None:
    tokens = encoded(model, originals)
    first, again, other = (pictures_of(model, tokens, originals, seed=seed).picture() for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_what_cannot_be_pictured(model: Tokenizer, originals: dict[str, Source]) -> None:
    tokens = encoded(model, originals)
    with pytest.raises(UsageError, match=r"^there is no code slot 1: pass 0 to 0$"):
        pictures_of(model, tokens, originals, slot=1)
    with pytest.raises(InputError, match=r"^the tokens of 0 do not say how the image was fitted"):
        codebook_picture(model, [(ImageRecord("0", (3, 5)), tokens.grids[0])], originals)
    record = ImageRecord("0", (3, 5), placement_of((24, 34), "none", None, 8))
    with pytest.raises(InputError, match=r"^0 is 33x24 pixels, it was not when encoded$"):
        codebook_picture(model, [(record, tokens.grids[0])], originals)
