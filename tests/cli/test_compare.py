"""`vqtok compare`."""

from __future__ import annotations

import csv
import json
import os
import shlex
import shutil
import signal
from pathlib import Path

import pytest
from PIL import Image
from torch import Tensor

from tests.cli.conftest import Vqtok
from tests.cli.test_train import TINY, stop_at
from tokenizer.compare import COMPARISON_DEFINITIONS
from tokenizer.errors import TrainingError
from tokenizer.quantizers import METHODS
from tokenizer.train.metrics_log import Passed
from tokenizer.train.step import Learner

SMALL = TINY.partition("[quantizer]")[0]


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A config file of runs that take a second, without their budget."""
    path = tmp_path_factory.mktemp("config") / "small.toml"
    path.write_text(f"eval_every = 4\n{SMALL}")
    return path


@pytest.fixture
def asked(photos: Path, small: Path, tmp_path: Path) -> list[object]:
    """The words of a call that compares in `tmp_path`/out, without the quantizers."""
    return ["compare", photos, "-o", tmp_path / "out", "-c", small, "--steps", 12, "--codebook-size", 32]


@pytest.mark.slow
def test_a_comparison(vqtok: Vqtok, asked: list[object], photos: Path, tmp_path: Path) -> None:
    files = ["--html", tmp_path / "c.html", "--csv", tmp_path / "c.csv"]
    result = vqtok(*asked, "--quantizers", "ema, gumbel", "--seeds", 2, *files)
    assert result.code == 0, result.err
    lines = result.out.decode().splitlines()
    assert lines[0].split("  ")[0] == "#"
    assert {"PSNR dB", "bits/px", "reached %"} <= {word.strip() for word in lines[0].split("  ")}
    assert [line.split()[:2] for line in lines[1:4]] in (
        [["1", "ema"], ["2", "gumbel"], ["-", "gumbel,"]],
        [["1", "gumbel"], ["2", "ema"], ["-", "gumbel,"]],
    )
    assert lines[1].count("±") == 5
    assert "gumbel, soft (not decodable from tokens)" in lines[3]
    assert f"SSIM: {COMPARISON_DEFINITIONS['ssim']}" in lines
    assert "20 images to train on, compared on 4 validation images\n" in result.err
    assert "each: 12 steps, batches of 8 crops, float32 on cpu, 0 reading threads\n" in result.err
    assert "4 entries: ema, gumbel; seeds 0, 1\n" in result.err
    told = [line for line in result.err.splitlines() if line.startswith("entry ")]
    assert told[0] == "entry 1 of 4: ema, seed 0"
    assert told[1].startswith("entry 1 of 4: ema, seed 0: psnr ")
    assert len(told) == 8
    written = json.loads((tmp_path / "out/comparison.json").read_text())
    with (tmp_path / "c.csv").open() as file:
        assert [row["quantizer"] for row in csv.DictReader(file)][:2] == written["ranking"]
    page = (tmp_path / "c.html").read_text()
    assert f"<pre>vqtok compare {photos}" in page
    for name in ("curves.png", "reconstructions.png"):
        with Image.open(tmp_path / "out" / name) as picture:
            assert picture.width > 500
    assert not list(tmp_path.rglob("training.safetensors"))

    encoded = vqtok("encode", photos / "a", "-m", tmp_path / "out/runs/ema/seed1", "-o", tmp_path / "t.npy", "-q")
    assert (encoded.code, encoded.err) == (0, "")

    # Once more: everything is there already, and says the same.
    again = vqtok(*asked, "--quantizers", "ema, gumbel", "--seeds", 2, "--resume", "--json")
    assert (again.code, again.json["ranking"]) == (0, written["ranking"])
    assert again.json["contestants"] == written["contestants"]
    assert again.err.count(": is there already\n") == 4
    assert "--resume" in again.json["command"]

    other = vqtok(*asked, "--quantizers", "ema", "--resume", "--steps", 20)
    assert other.code == 1
    assert (
        "vqtok compare: error: cannot resume with other settings: steps was 12, now 20 (ema with seed 0)" in other.err
    )

    taken = vqtok(*asked, "--quantizers", "ema")
    assert taken.code == 1
    assert taken.error.endswith("out exists: pass --overwrite to replace it, or name another output")
    table = vqtok(*asked, "--quantizers", "ema", "--steps", 4, "--seeds", "7,", "-qf", "--csv", "-")
    assert (table.code, table.err) == (0, "")
    (row,) = csv.DictReader(table.out.decode().splitlines())
    assert (row["rank"], row["quantizer"], row["seeds"], row["psnr_spread"]) == ("1", "ema", "7", "")
    assert sorted(path.name for path in (tmp_path / "out/runs").rglob("seed*")) == ["seed7"]


@pytest.mark.slow
def test_interrupted_and_resumed(
    vqtok: Vqtok, asked: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [*asked, "--quantizers", "residual(2*ste), diveq(noise_std=0.1)"]
    with monkeypatch.context() as patch:
        stop_at(patch, 5, signal.SIGTERM)
        stopped = vqtok(*asked, "-f")
    assert (stopped.code, stopped.out) == (143, b"")
    words = [str(word) for word in asked[1:]]
    again = shlex.join(["vqtok", "compare", "--resume", *words])
    assert stopped.err.splitlines()[-1] == (
        "vqtok compare: warning: entry 1 of 2: residual(2*ste), seed 0: stopped at step 5, everything is saved. "
        f"To go on: {again}"
    )
    resumed = vqtok(*shlex.split(again)[1:], "--json")
    assert resumed.code == 0, resumed.err
    whole = vqtok(*[tmp_path / "whole" if word == tmp_path / "out" else word for word in asked], "--json")
    costs = {"seconds_per_step", "cpu_seconds_per_step", "peak_memory_mb"}
    for one, two in zip(resumed.json["contestants"], whole.json["contestants"], strict=True):
        assert one["quantizer"] == two["quantizer"]
        for name in set(COMPARISON_DEFINITIONS) - costs:
            assert one["figures"][name] == two["figures"][name], name


def test_interrupted_at_the_end_of_an_entry(vqtok: Vqtok, asked: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    stop_at(monkeypatch, 4, signal.SIGINT)
    asked[asked.index(12)] = 4
    stopped = vqtok(*asked, "--quantizers", "ste, ema")
    assert (stopped.code, stopped.out) == (130, b"")
    assert "entry 1 of 2: ste, seed 0: stopped" in stopped.err.splitlines()[-1]


def failing(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Have the quantizers of these names fail in training."""
    plain = Learner.step

    def learn(learner: Learner, batch: Tensor, progress: float) -> Passed | None:
        if learner.state.model.quantizer.settings["name"] in names:
            raise TrainingError("the gradient was not finite")
        return plain(learner, batch, progress)

    monkeypatch.setattr(Learner, "step", learn)


@pytest.mark.slow
def test_one_that_fails_does_not_stop_the_others(
    vqtok: Vqtok, asked: list[object], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    failing(monkeypatch, "ste")
    asked[asked.index(12)] = 4
    result = vqtok(*asked, "--quantizers", "ste, ema", "--html", tmp_path / "c.html")
    assert result.code == 3
    warned = "vqtok compare: warning: entry 1 of 2: ste, seed 0: failed: the gradient was not finite\n"
    assert warned in result.err
    lines = result.out.decode().splitlines()
    assert lines[1].split()[:2] == ["1", "ema"]
    assert lines[2].split()[:3] == ["-", "ste", "(failed)"]
    assert "ste with seed 0 failed: the gradient was not finite" in lines
    assert "ste (failed)" in (tmp_path / "c.html").read_text()
    monkeypatch.undo()
    mended = vqtok(*asked, "--quantizers", "ste, ema", "--resume", "-q", "--json")
    assert (mended.code, len(mended.json["ranking"])) == (0, 2)


def test_all_fail(vqtok: Vqtok, asked: list[object], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    failing(monkeypatch, "ste", "ema")
    result = vqtok(*asked, "--quantizers", "ste, ema")
    assert (result.code, result.out) == (1, b"")
    assert result.err.endswith(
        "vqtok compare: error: 0 of 2 entries finished, the first failed: ste: the gradient was not finite\n"
    )
    assert not (tmp_path / "out/comparison.json").exists()


@pytest.mark.slow
def test_unreadable_images_are_told_once(vqtok: Vqtok, asked: list[object], photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos, tmp_path / "in")
    (tmp_path / "in/[b]bad.png").write_text("text")
    asked[asked.index(photos)], asked[asked.index(12)] = tmp_path / "in", 4
    result = vqtok(*asked, "--quantizers", "ste, ema", "--val-data", photos / "a", "--json")
    assert (result.code, len(result.json["ranking"])) == (3, 2)
    assert result.err.count("vqtok compare: warning: [b]bad.png: not an image, or of an unknown format\n") == 1


def test_dry_run(vqtok: Vqtok, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    plain = vqtok("compare", photos, "-o", "out", "-n")
    assert (plain.code, plain.out) == (0, b"")
    singles = [name for name, method in METHODS.items() if "stages" not in method.options]
    assert f"{len(singles)} entries: {', '.join(singles)}; seeds 0\n" in plain.err
    assert "each: 1000 steps, " in plain.err
    result = vqtok("compare", photos, "-o", "out", "-n", "--json", "--quantizers", "ste, residual(ste, ema)", "-q")
    assert [(entry["quantizer"], entry["seed"]) for entry in result.json["entries"]] == [
        ("ste", 0),
        ("residual(ste, ema)", 0),
    ]
    assert result.json["entries"][0]["settings"]["eval_every"] == 100
    assert list(tmp_path.iterdir()) == []


def test_seeds_and_budget(vqtok: Vqtok, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ["compare", photos, "-o", tmp_path / "out", "-n", "--quantizers", "ste"]
    for words, said in (
        (["--seeds", "3"], "seeds 0, 1, 2"),
        (["--seeds", "0,4, 7"], "seeds 0, 4, 7"),
        (["--seeds", "9,"], "seeds 9"),
        (["--minutes", "2.5"], "each: 2.5 minutes, "),
        (["--steps", "7"], "each: 7 steps, "),
    ):
        assert said in vqtok(*asked, *words).err
    monkeypatch.setenv("VQTOK_SEEDS", "2")
    monkeypatch.setenv("VQTOK_MINUTES", "2")
    result = vqtok(*asked)
    assert "seeds 0, 1\n" in result.err
    assert "each: 2 minutes" in result.err


def test_quantizer_of_a_config_file(vqtok: Vqtok, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("steps = 5\n[quantizer]\nname = 'ste'\nbeta = 1\ncodebook_size = 16\n")
    asked = [
        "compare",
        photos,
        "-o",
        tmp_path / "out",
        "-n",
        "--json",
        "--quantizers",
        "ema",
        "-c",
        tmp_path / "c.toml",
    ]
    result = vqtok(*asked)
    said = "warning: quantizer.name, quantizer.beta of the config file are left out: --quantizers says it\n"
    assert said in result.err
    assert result.json["entries"][0]["settings"]["quantizer"]["codebook_size"] == 16
    assert result.json["entries"][0]["settings"]["steps"] == 5
    flag = vqtok(*asked, "--codebook-size", 64)
    assert flag.json["entries"][0]["settings"]["quantizer"]["codebook_size"] == 64


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (
            ["-o", "out", "--set", "quantizer.beta=1"],
            2,
            "write it in brackets behind the name: --quantizers 'diveq(beta=1)'",
        ),
        (["-o", "out", "--set", "quantizer=ste"], 2, "write it in brackets"),
        (
            ["-o", "out", "--quantizers", "stee, dive"],
            2,
            "unknown quantizer 'stee', did you mean 'ste'?; unknown quant",
        ),
        (["-o", "out", "--quantizers", "ste(beta=x), ema(beta=-1)"], 2, "quantizer.beta is 'x', expected a number"),
        (["-o", "out", "--quantizers", "ste(beta=-1), ste, lr"], 2, "unknown quantizer 'lr'"),
        (["-o", "out", "--quantizers", "ste(beta=1"], 2, "the brackets of 'ste(beta=1' do not match"),
        (["-o", "out", "--quantizers", "ste(x)y, a(b"], 2, "do not match"),
        (["-o", "out", "--quantizers", "ste(x)y, B()"], 2, "is not of the form NAME(STAGE, ..., KEY=VALUE, ...)"),
        (["-o", "out", "--quantizers", " , "], 2, "--quantizers names none: vqtok list does"),
        (["-o", "out", "--quantizers", "ste, ema, ste"], 2, "the quantizer ste is named twice"),
        (["-o", "out", "--seeds", "two"], 2, "--seeds is 'two', expected how many, such as 3, or which, such as 0,4,7"),
        (["-o", "out", "--seeds", "0"], 2, "--seeds is '0', expected how many"),
        (["-o", "out", "--seeds", "1,1"], 2, "the seed 1 is named twice"),
        (["-o", "out", "--seeds", "-1"], 2, "--seeds is '-1', expected how many"),
        (["-o", "out", "--steps", "5", "--minutes", "5"], 2, "steps and minutes are both given: name one budget"),
        (["-o", "out", "--csv", "-", "--json"], 2, "--csv - and --json both write to stdout: pass one of the two"),
        (["-o", "out", "--resume", "-f"], 2, "--resume keeps what is there, --overwrite replaces it"),
        (["-o", "PHOTOS/out"], 2, "its pictures would be trained on, name another folder"),
        ([], 2, "no output: pass -o OUT, the folder of all runs"),
        (["-o", "full"], 1, "full exists: pass --overwrite to replace it, or name another output"),
        (["-o", "out", "--html", "full/x"], 1, "full/x exists: pass --overwrite"),
        (["-o", "out", "--csv", "full", "-f"], 1, "cannot write full: it is a folder"),
        (["-o", "full/x", "-f"], 1, "cannot write full/x: full/x is not a folder"),
        (["-o", "out", "--val-data", "nowhere"], 1, "nowhere does not exist"),
        (["-o", "out", "--set", "lr=-1"], 2, "vqtok compare: error: lr is -1.0, expected more than 0"),
        (["-o", "out", "--quantizer", "ste"], 2, "no such option --quantizer, did you mean '--quantizers'?"),
    ],
)
def test_wrong_calls(
    vqtok: Vqtok,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    code: int,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("full").mkdir()
    Path("full/x").write_text("mine")
    words = [word.replace("PHOTOS", str(photos)) for word in words]
    result = vqtok("compare", photos, *words)
    assert result.code == code
    assert result.error.startswith("vqtok compare: error: ")
    assert said in result.error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full"]
    assert Path("full/x").read_text() == "mine"


def test_full_disk(vqtok: Vqtok, asked: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    plain = os.fsync

    def fsync(number: int) -> None:
        if os.fstat(number).st_size > 200_000:
            raise OSError(28, "No space left on device")
        plain(number)

    monkeypatch.setattr(os, "fsync", fsync)
    result = vqtok(*asked, "--quantizers", "ste")
    assert result.code == 1
    assert "what was saved before stands. To go on from there: vqtok compare --resume " in result.err
    assert "No space left on device\n" in result.err.splitlines(keepends=True)[-1]
