"""The checkpoints that ship, trained from one table of recipes, `benchmarks/shipping.toml`.

    python -m benchmarks.shipping show photo-f8                  # the commands of its card
    python -m benchmarks.packed photos/ -o packed/ --mib 60      # what is carried to a machine with a GPU
    python -m benchmarks.shipping train photo-f8 photo-f16 --data packed/ -o made/ --device cuda --minutes 9
    python -m benchmarks.shipping train photo-f8 --data packed/ -o made/ --device cuda --minutes 9 --resume

`train` runs the commands that `show` prints, with folders, device and budget put in their place: `--minutes` are those
of all stages of a checkpoint together, shared out as the recipe does. `made/NAME/` is the last stage's checkpoint as it
would ship, in half precision; `python -m benchmarks.shipped measure -m made/NAME` measures it.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.shipped import halve
from tokenizer.config import merge_settings, parse_assignments, read_toml
from tokenizer.train import has_states

TABLE = Path(__file__).with_name("shipping.toml")
# Settings that have an option of their own; all others are KEY=VALUE.
OPTIONS = {
    "network.downsample": "--downsample",
    "quantizer.codebook_size": "--codebook-size",
    "quantizer.name": "--quantizer",
    "init_from": "--init-from",
    "steps": "--steps",
    "minutes": "--minutes",
    "image_size": "--image-size",
    "batch_size": "-b",
    "lr": "--lr",
    "device": "--device",
    "workers": "-j",
    "seed": "--seed",
}


@dataclass(frozen=True)
class Recipe:
    """How one checkpoint is trained: folders of photographs, and the settings of each stage."""

    name: str
    data: tuple[str, ...]
    stages: tuple[Mapping[str, Any], ...]


def read_recipes(path: Path = TABLE) -> dict[str, Recipe]:
    """Return the recipes of a table by name."""
    table = read_toml(path)
    return {name: Recipe(name, tuple(own["data"]), tuple(own["stages"])) for name, own in table.items()}


def commands(recipe: Recipe) -> list[str]:
    """Return the commands of a recipe, as its card has them."""
    runs = [Path("run" if number == 0 else f"run{number + 1}") for number in range(len(recipe.stages))]
    data = [f"{folder}/" for folder in recipe.data]
    return [shlex.join(["vqtok", *stage]) for stage in stage_arguments(recipe.stages, data, runs)]


def stage_arguments(
    stages: Sequence[Mapping[str, Any]], data: Sequence[str], runs: Sequence[Path]
) -> Iterator[list[str]]:
    """Yield the arguments of `vqtok` for each stage; `runs` are the folders that they write."""
    for number, stage in enumerate(stages):
        before = {"init_from": str(runs[number - 1])} if number and "init_from" not in stage else {}
        yield ["train", *data, "-o", str(runs[number]), *setting_arguments({**before, **stage})]


def setting_arguments(settings: Mapping[str, Any]) -> Iterator[str]:
    """Yield settings as a command line names them, in their order."""
    for key, value in _flat(settings):
        text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
        text = text.lower() if isinstance(value, bool) else text
        yield from (OPTIONS[key], text) if key in OPTIONS else ("--set", f"{key}={text}")


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def elsewhere(
    recipe: Recipe, output: Path, changes: Mapping[str, Any], minutes: float | None
) -> list[Mapping[str, Any]]:
    """Return the stages of a recipe with `changes`, their budgets as shares of `minutes`, from what `output` holds."""
    budgets = [stage.get("minutes") for stage in recipe.stages]
    shares = [1 if None in budgets else budget for budget in budgets]  # alike where some are in steps
    stages = []
    for stage, share in zip(recipe.stages, shares, strict=True):
        own = {key: value for key, value in stage.items() if key not in ("device", "workers")}
        if minutes is not None:
            own = {key: value for key, value in own.items() if key not in ("minutes", "steps")}
            own["minutes"] = round(minutes * share / sum(shares), 3)
        if "init_from" in own and (output / own["init_from"]).is_dir():
            own["init_from"] = str(output / own["init_from"])
        stages.append(merge_settings(own, changes))
    return stages


def train(recipe: Recipe, data: Path, output: Path, stages: Sequence[Mapping[str, Any]], *, resume: bool) -> Path:
    """Run every stage that has not ended yet, and return the folder of the checkpoint in half precision."""
    runs = [output / "runs" / recipe.name / f"stage{number + 1}" for number in range(len(stages))]
    folders = [str(data / folder) for folder in recipe.data]
    for run, arguments in zip(runs, stage_arguments(stages, folders, runs), strict=True):
        ended = run.with_suffix(".ended")
        if resume and ended.exists():
            continue
        how = "--resume" if resume and has_states(run) else "-f"
        print(f"$ vqtok {shlex.join([*arguments, how])}", flush=True)
        subprocess.run([sys.executable, "-m", "cli", *arguments, how, "--no-progress"], check=True)
        ended.touch()
    halve(runs[-1], output / recipe.name)
    return output / recipe.name


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, show or train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, default=TABLE, help="another table of recipes")
    verbs = parser.add_subparsers(dest="command", required=True)
    showing, training = verbs.add_parser("show"), verbs.add_parser("train")
    for verb in (showing, training):
        verb.add_argument("names", nargs="*", help="of the table; all without")
    training.add_argument("--data", type=Path, required=True, help="folder that holds the folders of the recipes")
    training.add_argument("-o", "--output", type=Path, required=True)
    training.add_argument("--device", default="auto")
    training.add_argument("-j", "--workers", type=int)
    training.add_argument("--minutes", type=float, help="of all stages of a checkpoint; the recipe's own without")
    training.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="settings of every stage")
    training.add_argument("--resume", action="store_true", help="go on where it stopped")
    given = parser.parse_args(arguments)
    recipes = read_recipes(given.table)
    for recipe in (recipes[name] for name in given.names or recipes):
        if given.command == "show":
            print(*commands(recipe), sep="\n")
            continue
        workers = {} if given.workers is None else {"workers": given.workers}
        changes = merge_settings({"device": given.device, **workers}, parse_assignments(given.set))
        stages = elsewhere(recipe, given.output, changes, given.minutes)
        folder = train(recipe, given.data, given.output, stages, resume=given.resume)
        print(f"{folder}: done", flush=True)


if __name__ == "__main__":
    main()
