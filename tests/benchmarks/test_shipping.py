"""The recipes of the checkpoints that ship: the cards have their commands, and they train elsewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks import shipping
from benchmarks.shipping import Recipe, commands, elsewhere, read_recipes
from tests.conftest import draw, save
from tokenizer.config import to_dict
from tokenizer.models import describe_checkpoint, load_checkpoint, locate_checkpoint, shipped_names
from tokenizer.train import new_settings

TWO_STAGES = Recipe(
    "fine",
    ("photos", "large"),
    (
        {"network": {"downsample": 8, "widths": [16, 16]}, "loss": {"l1": 1.0, "l2": 0}, "minutes": 30, "workers": 1},
        {"freeze": ["encoder", "codebook"], "minutes": 10, "device": "cpu", "deterministic": True},
    ),
)
TINY = """
[tiny]
data = ["photos"]

[[tiny.stages]]
network = {downsample = 8, widths = [16, 16], depths = [1, 1], latent_dim = 4}
quantizer = {codebook_size = 32}
steps = 6
batch_size = 2
image_size = 32
val_images = 2
device = "cuda"

[[tiny.stages]]
freeze = ["encoder", "codebook"]
steps = 4
batch_size = 2
image_size = 32
val_images = 2
"""


def test_each_checkpoint_has_a_recipe() -> None:
    assert sorted(read_recipes()) == list(shipped_names())


@pytest.mark.parametrize("name", shipped_names())
def test_the_card_has_its_commands(name: str) -> None:
    card = (locate_checkpoint(name) / "README.md").read_text("utf-8")
    shown = re.sub(r"\\\n\s+", "", card).splitlines()
    assert [line for line in shown if line.startswith("vqtok train") and "-o run" in line and "#" not in line] == (
        commands(read_recipes()[name])
    )


@pytest.mark.parametrize("name", shipped_names())
def test_the_recipe_is_that_of_the_checkpoint(name: str) -> None:
    config = new_settings(read_recipes()[name].stages[0])
    made = describe_checkpoint(locate_checkpoint(name))
    assert config.network.downsample == made.downsample
    assert to_dict(config)["batch_size"] == 16


def test_commands_of_several_stages() -> None:
    first, second = commands(TWO_STAGES)
    shape = "--downsample 8 --set network.widths=16,16 --set loss.l1=1.0 --set loss.l2=0 --minutes 30 -j 1"
    assert first == f"vqtok train photos/ large/ -o run {shape}"
    rest = "--set freeze=encoder,codebook --minutes 10 --device cpu --set deterministic=true"
    assert second == f"vqtok train photos/ large/ -o run2 --init-from run {rest}"


def test_another_machine_and_budget(tmp_path: Path) -> None:
    first, second = elsewhere(TWO_STAGES, tmp_path, {"device": "cuda"}, 8)
    assert (first["minutes"], second["minutes"]) == (6, 2)
    assert first["device"] == second["device"] == "cuda"
    assert "workers" not in first
    whole = elsewhere(TWO_STAGES, tmp_path, {}, None)
    assert [stage["minutes"] for stage in whole] == [30, 10]
    in_steps = Recipe("a", ("photos",), ({"steps": 5}, {"minutes": 9}))
    assert elsewhere(in_steps, tmp_path, {}, 4) == [{"minutes": 2}, {"minutes": 2}]


def test_from_what_was_trained_beside_it(tmp_path: Path) -> None:
    sharp = Recipe("sharp", ("photos",), ({"init_from": "photo-f8"},))
    assert elsewhere(sharp, tmp_path, {}, None) == [{"init_from": "photo-f8"}]
    (tmp_path / "photo-f8").mkdir()
    assert elsewhere(sharp, tmp_path, {}, None) == [{"init_from": str(tmp_path / "photo-f8")}]


@pytest.mark.slow
def test_training(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for number in range(8):
        save(tmp_path / f"data/photos/{number}.png", draw(48, 40, number))
    (tmp_path / "table.toml").write_text(TINY)
    arguments = ["--table", str(tmp_path / "table.toml"), "train", "--data", str(tmp_path / "data")]
    arguments += ["-o", str(tmp_path / "made"), "--device", "cpu", "-j", "1", "--set", "eval_every=100"]
    shipping.main(arguments)
    made = load_checkpoint(tmp_path / "made/tiny")
    assert made.codebook_sizes == (32,)
    first, second = (tmp_path / f"made/runs/tiny/stage{number}/model.safetensors" for number in (1, 2))
    assert (tmp_path / "made/tiny/model.safetensors").stat().st_size < second.stat().st_size
    before = second.stat().st_mtime_ns, first.stat().st_mtime_ns
    capfd.readouterr()
    shipping.main([*arguments, "--resume"])
    assert (second.stat().st_mtime_ns, first.stat().st_mtime_ns) == before
    assert "$ vqtok" not in capfd.readouterr().out
