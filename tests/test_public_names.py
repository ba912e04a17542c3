"""The public names: of the library, and of each room."""

from __future__ import annotations

import ast
import importlib
import pkgutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

import tokenizer

FOLDER = Path(tokenizer.__file__).parent
ROOMS = [f"tokenizer.{module.name}" for module in pkgutil.iter_modules([str(FOLDER)]) if module.ispkg]


def names_of(room: str) -> list[str]:
    """`__all__` as it is written: in the stub, where the room is lazy."""
    folder = FOLDER.joinpath(*room.split(".")[1:])
    source = next(path for path in (folder / "__init__.pyi", folder / "__init__.py") if path.exists())
    (written,) = (
        node.value
        for node in ast.parse(source.read_text("utf-8")).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    )
    names: list[str] = ast.literal_eval(written)
    return names


def in_order(names: Sequence[str]) -> list[str]:
    """Constants, then classes, then the rest."""
    return sorted(names, key=lambda name: (not name.isupper(), not name[0].isupper(), name))


def test_what_the_library_offers() -> None:
    assert names_of("tokenizer") == [
        *("EncodeOptions", "NetworkConfig", "TokenArray", "TokenDataset", "Tokenizer", "TrainConfig", "VqtokError"),
        *("__version__", "begin_run", "dataset_sources", "decode_tokens", "encode_images", "load_checkpoint"),
        *("load_tokens", "locate_checkpoint", "plan_run", "read_newest_state", "read_tokens", "resume_run"),
        *("to_pixels", "to_unit_range", "write_tokens"),
    ]


@pytest.mark.parametrize("room", ["tokenizer", *ROOMS])
def test_names_are_there_and_in_order(room: str) -> None:
    module, names = importlib.import_module(room), names_of(room)
    assert sorted(module.__all__) == sorted(names)
    assert names == in_order(set(names))
    assert [name for name in names if not hasattr(module, name)] == []
    with pytest.raises(AttributeError):
        module.nothing_of_that_name  # noqa: B018  # looked up for its error


@pytest.mark.parametrize("room", ["tokenizer", *ROOMS])
def test_no_name_hides_a_module(room: str) -> None:
    folder = FOLDER.joinpath(*room.split(".")[1:])
    assert {module.name for module in pkgutil.iter_modules([str(folder)])}.isdisjoint(names_of(room))


def test_a_name_belongs_to_one_room() -> None:
    rooms = Counter(name for room in ROOMS for name in names_of(room))
    assert [name for name, count in rooms.items() if count > 1] == []
