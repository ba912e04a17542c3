"""Every quantizer as a user meets it: named on the command line, trained, encoded, decoded, reported, resumed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.cli.conftest import QUICK, Vqtok
from tests.conftest import draw, save
from tokenizer.metrics import psnr
from tokenizer.models import describe_checkpoint, load_checkpoint
from tokenizer.quantizers import METHODS
from tokenizer.tokens import read_tokens

TINY = f"""
{QUICK}steps = 4
[network]
downsample = 8
widths = [32, 32]
depths = [1, 1]
latent_dim = 4
"""
NESTED = [
    "diveq(transform=linear, normalize=sphere)",
    "ste(transform=mlp)",
    "residual(diveq, fsq)",
    "multiscale(diveq, scales=1 2)",
    "residual(product(2*diveq), ema)",
]


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A config file of a run of four steps, without its quantizer."""
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    return path


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


@pytest.mark.slow
@pytest.mark.parametrize("name", [*sorted(METHODS), *NESTED])
def test_images_to_tokens_and_back(vqtok: Vqtok, photos: Path, tiny: Path, tmp_path: Path, name: str) -> None:
    run, tokens = tmp_path / "run", tmp_path / "t.safetensors"
    trained = vqtok("train", photos, "-o", run, "-c", tiny, "--quantizer", name, "--codebook-size", 16)
    assert trained.code == 0, trained.err
    assert vqtok("encode", photos, "-m", run, "-o", tokens).code == 0
    assert vqtok("decode", tokens, "-m", run, "-o", tmp_path / "back").code == 0
    assert pixels(tmp_path / "back" / "a" / "00.png").shape == (64, 64, 3)
    assert pixels(tmp_path / "back" / "b" / "01.png").shape == (48, 72, 3)
    report = vqtok("report", tokens, "-m", run, "--images", photos, "--json").json
    sizes = [slot["codebook_size"] for slot in report["slots"]]
    assert sizes == list(describe_checkpoint(run).codebook_sizes)
    assert report["psnr"] > 5
    assert vqtok("info", run, "--json").json["downsample"] == read_tokens(tokens).header.downsample


def test_codes_that_are_computed_are_saved_as_a_table(vqtok: Vqtok, photos: Path, tiny: Path, tmp_path: Path) -> None:
    for name in ("ste(transform=linear)", "residual(diveq(transform=mlp), ema)"):
        run = tmp_path / name
        vqtok("train", photos, "-o", run, "-c", tiny, "--quantizer", name, "--codebook-size", 16)
        spec = vqtok("info", run, "--json").json["quantizer"]
        assert all(stage["transform"] == "none" for stage in spec.get("stages", [spec]))
        names = list(load_checkpoint(run).quantizer.state_dict())
        assert all(name.endswith("table.weight") for name in names)
        again = vqtok("train", photos, "-o", run, "--resume", "--json")
        assert again.code == 0, "a finished run is found finished: its training state has the parameters"


def test_wider_latents_where_a_method_needs_them(vqtok: Vqtok, photos: Path, tiny: Path) -> None:
    result = vqtok("train", photos, "-c", tiny, "-n", "--json", "--quantizer", "lfq", "--codebook-size", 64)
    assert result.json["settings"]["network"]["latent_dim"] == 6
    assert "lfq needs wider latents: network.latent_dim is 6, not 4" in result.err


def test_codebooks_is_a_residual_of_as_many(vqtok: Vqtok, photos: Path, tiny: Path) -> None:
    call = ["train", photos, "-c", tiny, "-n", "--json", "--codebook-size", 16, "--quantizer"]
    short = vqtok(*call, "ste(beta=1)", "--codebooks", 3).json["settings"]["quantizer"]
    assert short == vqtok(*call, "residual(3*ste(beta=1))").json["settings"]["quantizer"]
    assert [stage["codebook_size"] for stage in short["stages"]] == [16, 16, 16]
    refused = vqtok(*call, "ste", "--codebooks", 1_000_000_000)
    assert (refused.code, "quantizer.codebooks is 1000000000, expected 1 to 256" in refused.error) == (2, True)


def test_printed_config_of_stages_is_read_back(vqtok: Vqtok, photos: Path, tiny: Path, tmp_path: Path) -> None:
    printed = vqtok("train", photos, "-c", tiny, "--quantizer", "residual(2*diveq, fsq, drop=0.5)", "--print-config")
    (tmp_path / "printed.toml").write_bytes(printed.out)
    assert vqtok("train", photos, "-c", tmp_path / "printed.toml", "--print-config").out == printed.out


@pytest.fixture
def residual(vqtok: Vqtok, photos: Path, tiny: Path, tmp_path: Path) -> Path:
    """A run with three codes per position."""
    run = tmp_path / "residual"
    options = ("--quantizer", "residual(3*diveq-detach, drop=0.5)", "--codebook-size", 16)
    assert vqtok("train", photos, "-o", run, "-c", tiny, "--set", "steps=60", "--set", "lr=0.004", *options).code == 0
    return run


@pytest.mark.slow
def test_a_prefix_of_the_codes_is_a_coarser_picture(vqtok: Vqtok, residual: Path, photos: Path, tmp_path: Path) -> None:
    tokens = tmp_path / "t.safetensors"
    vqtok("encode", photos, "-m", residual, "-o", tokens)
    quality = []
    for codes in (1, 2, 3):
        assert vqtok("decode", tokens, "-m", residual, "-o", tmp_path / str(codes), "--codes", codes).code == 0
        found = sorted((tmp_path / str(codes)).rglob("*.png"))
        originals = [photos / path.relative_to(tmp_path / str(codes)) for path in found]
        quality.append(np.mean([psnr(pixels(one), pixels(two)) for one, two in zip(originals, found, strict=True)]))
    assert quality[0] < min(quality[1:])
    vqtok("decode", tokens, "-m", residual, "-o", tmp_path / "all")
    for path in (tmp_path / "all").rglob("*.png"):
        assert path.read_bytes() == (tmp_path / "3" / path.relative_to(tmp_path / "all")).read_bytes()


@pytest.mark.slow
def test_more_codes_than_there_are(vqtok: Vqtok, residual: Path, run: Path, photos: Path, tmp_path: Path) -> None:
    for model, said in ((residual, "the first 1, 2, 3 of 3 codes"), (run, "the first 1 of 1 codes")):
        tokens = tmp_path / "t.safetensors"
        vqtok("encode", photos, "-m", model, "-o", tokens, "-f")
        result = vqtok("decode", tokens, "-m", model, "-o", tmp_path / "back", "--codes", 4)
        assert result.code == 2
        assert f"--codes is 4, this checkpoint decodes {said}" in result.error


@pytest.mark.slow
def test_stages_that_differ_on_resume_are_named(vqtok: Vqtok, residual: Path, photos: Path) -> None:
    def go_on(*options: object) -> str:
        result = vqtok("train", photos, "-o", residual, "--resume", *options)
        assert result.code in (0, 1)
        return result.err

    assert "cannot resume" not in go_on("--quantizer", "residual(3*diveq-detach)")
    assert "cannot resume" not in go_on("--quantizer", "diveq-detach", "--codebooks", 3, "--codebook-size", "16")
    said = go_on("--quantizer", "residual(2*diveq-detach, diveq-detach(codebook_size=32), drop=0.5)")
    assert "quantizer.stages.2.codebook_size was 16, now 32" in said
    assert "quantizer.drop was 0.5, now 0.2" in go_on("--set", "quantizer.drop=0.2")
    assert "quantizer.stages.1.name was diveq-detach, now ste" in go_on(
        "--quantizer", "residual(diveq-detach, ste, diveq-detach)"
    )
    assert "quantizer.name was residual, now fsq" in go_on("--quantizer", "fsq")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("residual(diveq, emma)", "unknown quantizer 'emma', did you mean 'ema'?"),
        ("residual(diveq, ema", "is not of the form NAME(STAGE, ..., KEY=VALUE, ...)"),
        ("diveq(noise_sdt=1)", "unknown setting 'quantizer.noise_sdt' of diveq, did you mean 'noise_std'?"),
        (
            "diveq(transform=linar)",
            "quantizer.transform is 'linar', expected one of none, linear, linear-frozen, mlp, bridge",
        ),
        ("ema(transform=linear)", "quantizer ema: moving averages set each code vector themselves"),
        ("product(3*diveq(normalize=sphere))", None),
        ("residual(diveq(normalize=sphere))", "stages of residual cannot normalize"),
        ("lfq(codebook_size=48)", "codebook_size"),
        ("residual(1000000000*diveq)", "asks for more than 256 stages"),
    ],
)
def test_wrong_quantizers(vqtok: Vqtok, photos: Path, tiny: Path, name: str, said: str | None) -> None:
    result = vqtok("train", photos, "-c", tiny, "-n", "--quantizer", name)
    assert result.code == (0 if said is None else 2), result.err
    if said is not None:
        assert said in result.error


def test_blocks_of_latents_ask_for_whole_positions(vqtok: Vqtok, photos: Path, tiny: Path, tmp_path: Path) -> None:
    call = ["train", photos, "-c", tiny, "-n", "--quantizer", "multiscale(diveq, scales=1 2 4)"]
    result = vqtok(*call, "--image-size", 40)
    assert result.code == 2
    assert "image_size is 40, expected a multiple of 32" in result.error
    assert vqtok(*call, "--image-size", 64).code == 0


def test_tokens_do_not_depend_on_the_size_of_the_image(vqtok: Vqtok, photos: Path, tiny: Path, tmp_path: Path) -> None:
    """Blocks belong to places, not to the image: what lies far from an edge that is cut away stays as it is."""
    run = tmp_path / "run"
    vqtok("train", photos, "-o", run, "-c", tiny, "--quantizer", "multiscale(2*diveq)", "--codebook-size", 16)
    model = load_checkpoint(run)
    wide = torch.from_numpy(draw(64, 160)).permute(2, 0, 1)[None] / 127.5 - 1
    whole, part = model.encode(wide), model.encode(wide[..., :128])
    assert whole.shape == (1, 4, 10, 5)
    assert torch.equal(whole[:, :, :5], part[:, :, :5])


def test_metrics_count_every_code_of_a_position(vqtok: Vqtok, photos: Path, tiny: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    vqtok("train", photos, "-o", run, "-c", tiny, "--quantizer", "residual(2*diveq)", "--codebook-size", 16)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert all(1 <= line["perplexity"] <= 16 for line in lines if "perplexity" in line)
    save(tmp_path / "p.png", draw(64, 64))
    vqtok("encode", tmp_path / "p.png", "-m", run, "-o", tmp_path / "p.npy")
    assert np.load(tmp_path / "p.npy").shape == (1, 8, 8, 2)
