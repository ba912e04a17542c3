"""The pipelines that must work as written, in a shell."""

from __future__ import annotations

import dataclasses
import io
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.cli.conftest import Vqtok
from tests.conftest import draw
from tokenizer import codec, train
from tokenizer.config import TrainConfig
from tokenizer.images import Source, placement_of, read_image
from tokenizer.models import load_checkpoint, to_pixels, to_unit_range
from tokenizer.quantizers import read_spec
from tokenizer.tokens import read_tokens

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder `photos` of JPEG files with awkward names, and `photo.jpg` beside it."""
    for number, name in enumerate(["photo.jpg", "photos/a b.jpg", "photos/new\nline.jpg", "photos/sub/[x].jpg"]):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw(40, 51 + number, number)).save(tmp_path / name)
    return tmp_path


def test_encode_decode(shell: Vqtok, folder: Path, run: Path) -> None:
    result = shell("vqtok encode photo.jpg -o - | vqtok decode - -o back.png", VQTOK_MODEL=str(run))
    assert (result.code, result.out) == (0, b"")
    assert sorted(line.rpartition(" in ")[0] for line in result.err.splitlines()) == [
        "1 images decoded to back.png",
        "1 of 1 images encoded to stdout",
    ]
    model, options = load_checkpoint(run), codec.EncodeOptions()
    encoded = codec.collect_tokens(
        codec.encode_images(model, [Source("x", folder / "photo.jpg")], options), codec.token_header(model, "", options)
    )
    ((record, canvas),) = codec.decode_tokens(model, zip(encoded.images, encoded.grids, strict=True))
    assert record.placement is not None
    with Image.open(folder / "back.png") as image:
        assert np.array_equal(np.asarray(image), record.placement.restore(canvas))
        assert image.size == (51, 40)


def test_find_encode_report(shell: Vqtok, folder: Path, run: Path) -> None:
    script = """
        find photos -name '*.jpg' -print0 | vqtok encode --files-from - -0 -o tokens.safetensors &&
        vqtok report tokens.safetensors --json | python -c 'import json, sys; print(json.load(sys.stdin)["perplexity"])'
    """
    result = shell(script, VQTOK_MODEL=str(run))
    assert result.code == 0
    assert float(result.out) > 1
    tokens = read_tokens(folder / "tokens.safetensors")
    assert {record.name for record in tokens.images} == {"a b.jpg", "new\nline.jpg", "sub/[x].jpg"}


def test_report_to_jq(shell: Vqtok, vqtok: Vqtok, folder: Path, run: Path) -> None:
    if shutil.which("jq") is None:
        pytest.skip("there is no jq here")
    vqtok("encode", folder / "photos", "-m", run, "-o", folder / "tokens.safetensors")
    result = shell("vqtok report tokens.safetensors --json | jq .perplexity")
    assert result.code == 0
    assert float(result.out) > 1


def test_reader_that_leaves(vqtok: Vqtok, folder: Path, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb", buffering=0) as raw, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", io.TextIOWrapper(io.BufferedWriter(raw)))
        result = vqtok("encode", folder / "photos", "-m", run, "-o", "-", "-q")
        sys.stdout.close()  # as at exit: nothing is left that would fail once more
    assert (result.code, result.err) == (141, "")


def test_cluster_shards(shell: Vqtok, folder: Path, run: Path) -> None:
    script = """
        for i in 3 1 2; do vqtok encode photos -o shards/ --shard-size 1 --shard $i/3 -q || exit; done
        vqtok encode photos -o whole/ --shard-size 1 -q && diff -r shards whole &&
        vqtok decode shards/ -o back/ -q && ls back
    """
    result = shell(script, VQTOK_MODEL=str(run))
    assert (result.code, result.err) == (0, "")
    assert result.out.decode().split("\n") == ["a b.png", "new", "line.png", "sub", ""]


def test_tars_through_pipes(shell: Vqtok, folder: Path, run: Path) -> None:
    """Images and labels in a tar, tokens and labels in a tar, pictures: no file in between."""
    (folder / "photos/a b.cls").write_text("7")
    script = """
        tar c -C photos . | vqtok encode - -o - --format tar -q > tokens.tar &&
        tar xOf tokens.tar "./a b.cls" && cat tokens.tar | vqtok decode - -o back/ -q &&
        vqtok encode photos -o whole.safetensors -q && vqtok decode whole.safetensors -o whole/ -q && diff -r back whole
    """
    result = shell(script, VQTOK_MODEL=str(run))
    assert (result.code, result.out, result.err) == (0, b"7", "")


def test_torchrun_shares_the_work(shell: Vqtok, folder: Path, run: Path) -> None:
    script = """
        torchrun --nproc-per-node 2 -m cli encode photos -o shared.safetensors --device cpu -q 2> log &&
        vqtok encode photos -o whole.safetensors --device cpu -q && cmp shared.safetensors whole.safetensors && ls
    """
    result = shell(script, VQTOK_MODEL=str(run), PYTHONPATH=str(ROOT))
    assert (result.code, result.err) == (0, "")
    assert result.out.split() == [b"log", b"photo.jpg", b"photos", b"shared.safetensors", b"whole.safetensors"]


FAMILIES = [
    "diveq(codebook_size=32)",
    "residual(2*ste(codebook_size=16))",
    "product(fsq(codebook_size=64), lfq(codebook_size=16))",
    "sf-diveq(codebook_size=32)",
    "multiscale(2*ema(codebook_size=32))",
]


@pytest.mark.parametrize("spec", FAMILIES)
@pytest.mark.parametrize("form", ["-", "t.npy", "t.safetensors", "t.tar", "tree/", "shards/"])
def test_round_trips(vqtok: Vqtok, folder: Path, spec: str, form: str, models: dict[str, Path]) -> None:
    """What comes back is the reconstruction in memory, bit for bit, for each format and family of quantizers."""
    source, output = folder / "photo.jpg", "-" if form == "-" else f"{folder}/{form}"
    sharded = ["--shard-size", 1] if form == "shards/" else []
    encoded = vqtok("encode", source, "-m", models[spec], "-o", output, *sharded)
    assert encoded.code == 0, encoded.err
    decoded = vqtok("decode", output, "-m", models[spec], "-o", folder / "back/", stdin=encoded.out)
    assert decoded.code == 0, decoded.err
    model = load_checkpoint(models[spec])
    pixels = read_image(source)
    placement = placement_of(pixels.shape[:2], "none", None, model.downsample)
    with torch.inference_mode():
        canvas = to_pixels(model(to_unit_range(torch.from_numpy(placement.apply(pixels)[None]))).images)[0].numpy()
    with Image.open(folder / "back/photo.png") as image:
        assert np.array_equal(np.asarray(image), placement.restore(canvas))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, photos: Path, quick: TrainConfig) -> dict[str, Path]:
    """A hardly trained checkpoint of each family."""
    made = {}
    for number, spec in enumerate(FAMILIES):
        made[spec] = tmp_path_factory.mktemp("families") / str(number)
        config = dataclasses.replace(quick, quantizer=read_spec(spec), steps=2)
        plan = train.plan_run(config, [photos])
        list(train.train(plan, train.begin_run(plan), made[spec]))
    return made
