"""All that can stop a command, at random moments, again and again: what is there after it, and what going on makes.

    python -m robustness.dying photos/ --times 10

For each command and each way to die, the command is started in a process of its own and stopped at a moment drawn from
a seed: by a signal, a limit on the size of files, an error of the system where it touches a file, a full file system
(as root), the removal of its output. Then the same command goes on (`--resume`, or `--overwrite` where there is none),
and its result is compared byte for byte with that of an undisturbed run. Linux only.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import io
import math
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

import safetensors
from PIL import Image

from robustness.calls import Call, Ended, Limit, Raises

SIGNALS = {
    "kill -9": ((signal.SIGKILL,), -9),
    "SIGTERM": ((signal.SIGTERM,), 143),
    "SIGHUP": ((signal.SIGHUP,), 129),
    "Ctrl-C": ((signal.SIGINT,), 130),
    "Ctrl-C twice": ((signal.SIGINT, signal.SIGINT), 130),
}
ERRORS = (errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EMFILE)
FAULTS = (*SIGNALS, "files too large", "error of a file", "full file system", "output removed")

IMAGES = 60
SETTINGS = """\
image_size = 32
batch_size = 8
precision = "float32"
device = "cpu"
workers = 0
val_images = 4
log_every = 4
eval_every = 8
save_every = 0.002
[network]
downsample = 8
widths = [32, 32]
depths = [1, 1]
latent_dim = 4
"""


@dataclass(frozen=True)
class Command:
    """A command that writes into the folder it is called in.

    Attributes:
        words: its command line.
        again: what is added to go on.
        same: patterns of the files whose bytes are promised; of the others, clocks and machines are part.
    """

    words: Sequence[str]
    again: Sequence[str]
    same: Sequence[str] = ("*",)

    def counts(self, name: str) -> bool:
        """Return whether a file is promised to be the same, to the last byte."""
        return any(fnmatch(name, pattern) for pattern in self.same)

    def is_half(self, name: str, made: bytes, wanted: bytes) -> bool:
        """Return whether a file under its final name is not whole."""
        if ".partial/" in name or made == wanted or name.endswith("metrics.jsonl"):
            return False
        if self.same == ("*",):
            return True
        return not _is_sound(name, made)


def _is_sound(name: str, data: bytes) -> bool:
    try:
        if name.endswith(".safetensors"):
            safetensors.deserialize(data)
        elif name.endswith(".png"):
            Image.open(io.BytesIO(data)).load()
    except (safetensors.SafetensorError, OSError):
        return False
    return not name.endswith((".json", ".html", ".csv", ".onnx")) or data.endswith((b"}\n", b"\n", b"</html>", b"\0"))


_ENCODE = ("encode", "../photos", "-m", "../run", "-b", "2", "-o")
_DECODE = ("decode", "../t.npy", "-m", "../run", "-b", "2", "-o")
_TRAIN = ("-c", "../settings.toml", "-o")
_WEIGHTS = ("*/model.safetensors",)

COMMANDS = {
    "train": Command(["train", "../photos", "--steps", "40", *_TRAIN, "run"], ["--resume"], _WEIGHTS),
    "encode .safetensors": Command([*_ENCODE, "t.safetensors"], ["--resume"]),
    "encode .npy": Command([*_ENCODE, "t.npy", "--image-size", "64"], ["--resume"]),
    "encode .tar": Command([*_ENCODE, "t.tar"], ["--resume"]),
    "encode tree": Command([*_ENCODE, "tree"], ["--resume"]),
    "encode shards": Command([*_ENCODE, "shards", "--shard-size", "13"], ["--resume"]),
    "decode": Command([*_DECODE, "back"], ["--resume"]),
    "decode sheet": Command([*_DECODE, "sheet.png", "--contact-sheet"], ["--overwrite"]),
    "report": Command(
        ["report", "../t.npy", "-m", "../run", "--html", "r.html", "--csv", "r.csv"], ["--overwrite"], ["r.csv"]
    ),
    "compare": Command(
        ["compare", "../photos", "--quantizers", "fsq, ste", "--steps", "12", *_TRAIN, "cmp", "--csv", "c.csv"],
        ["--resume"],
        _WEIGHTS,
    ),
    "export": Command(["export", "-m", "../run", "-o", "onnx"], ["--overwrite"], ["*.onnx"]),
}


@dataclass
class Tally:
    """What became of the tries of one command with one fault."""

    tried: int = 0
    stopped: int = 0
    codes: int = 0
    lines: int = 0
    half: int = 0
    differ: int = 0
    odd: list[str] = field(default_factory=list)


def main() -> None:
    """Stop, go on, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--times", type=int, default=10, help="tries of each command with each fault")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--commands", default=",".join(COMMANDS))
    parser.add_argument("--faults", default=",".join(FAULTS))
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nothing stays mounted
    print("| command | fault | tried | stopped | wrong exit code | not one line | half files | other bytes, resumed |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        begin(root, arguments.photos)
        for name in arguments.commands.split(","):
            attempt(root, name, arguments.faults.split(","), arguments.times, arguments.seed)


def begin(root: Path, photos: Path) -> None:
    """Put some photographs, small, into a folder, and train a checkpoint and encode tokens beside it."""
    found = sorted(path for path in photos.rglob("*") if path.suffix.lower() in (".png", ".jpg", ".jpeg"))[:IMAGES]
    for number, path in enumerate(found):
        (root / "photos" / "abc"[number % 3]).mkdir(parents=True, exist_ok=True)
        side = (64, 48 + 8 * (number % 3))
        with Image.open(path) as image:
            image.convert("RGB").resize(side).save(root / "photos" / "abc"[number % 3] / f"{number:03d}.png")
    (root / "settings.toml").write_text(SETTINGS)
    (root / "first").mkdir()
    for words in (
        ["train", "../photos", "--steps", "12", *_TRAIN, "../run"],
        [*_ENCODE, "../t.npy", "--image-size", "64"],
    ):
        ended = Call(words, root / "first").end()
        assert ended.code == 0, ended.err
    shutil.rmtree(root / "first")


def attempt(root: Path, name: str, faults: list[str], times: int, seed: int) -> None:
    """Try one command with each fault, and print a line of the table for each."""
    command, folder = COMMANDS[name], root / "here"
    with fresh(folder, None):
        began = time.perf_counter()
        ended = Call(command.words, folder).end()
        seconds, wanted = time.perf_counter() - began, files_of(folder)
    assert ended.code == 0, ended.err
    for fault in faults:
        if fault == "full file system" and os.geteuid() != 0:
            continue
        dice, tally = random.Random(f"{seed} {name} {fault}"), Tally()
        for _ in range(times):
            once(root, command, wanted, fault, seconds, dice, tally)
        counts = (tally.tried, tally.stopped, tally.codes, tally.lines, tally.half, tally.differ)
        print(f"| {name} | {fault} | {' | '.join(map(str, counts))} |", *tally.odd[:3], flush=True)


def once(
    root: Path,
    command: Command,
    wanted: dict[str, bytes],
    fault: str,
    seconds: float,
    dice: random.Random,
    tally: Tally,
) -> None:
    """Stop the command once, look, go on, compare."""
    folder = root / "here"
    size = math.exp(dice.uniform(math.log(300), math.log(1.2 * sum(map(len, wanted.values())))))
    with fresh(folder, size if fault == "full file system" else None) as grow:
        ended, code = stop(command, folder, fault, size, seconds, dice)
        tally.tried += 1
        stopped = ended.code != 0
        tally.stopped += stopped
        told = code == -9 or len(ended.lines) == 1 or "everything is saved" in ended.err
        wrong = [stopped and ended.code != code, stopped and not (told and "Traceback" not in ended.err)]
        made = files_of(folder)
        half = [name for name in made.keys() & wanted.keys() if command.is_half(name, made[name], wanted[name])]
        grow()
        again = go_on(command, folder)
        last = files_of(folder)
        differ = [name for name in wanted if command.counts(name) and last.get(name) != wanted[name]]
    tally.codes, tally.lines = tally.codes + wrong[0], tally.lines + wrong[1]
    tally.half, tally.differ = tally.half + bool(half), tally.differ + bool(differ)
    if any(wrong) or half or differ:
        tally.odd.append(f"{ended.code} {ended.err[-300:]!r} half {half} differ {differ} then {again.err[-300:]!r}")


def stop(
    command: Command, folder: Path, fault: str, size: float, seconds: float, dice: random.Random
) -> tuple[Ended, int]:
    """Let the command end by the fault, and return what it did and the exit code that it should have."""
    moment = dice.uniform(0, seconds)
    if fault in SIGNALS:
        numbers, code = SIGNALS[fault]
        call = Call(command.words, folder)
        call.send(*numbers, after=moment)
        return call.end(), code
    if fault == "files too large":
        return Call(command.words, folder, Limit(resource.RLIMIT_FSIZE, int(size))).end(), 1
    if fault == "error of a file":
        count = int(math.exp(dice.uniform(0, math.log(200))))
        return Call(command.words, folder, Raises(str(folder), count, dice.choice(ERRORS))).end(), 1
    call = Call(command.words, folder)
    if fault == "output removed" and call.process.join(moment) is None:
        for path in folder.iterdir():
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    return call.end(), 1


def go_on(command: Command, folder: Path) -> Ended:
    """Run the command once more, as its user would."""
    again = Call([*command.words, *command.again], folder).end()
    if again.code and "no training to resume" in again.err:  # it died before it first saved
        again = Call([*command.words, "--overwrite"], folder).end()
    return again


def files_of(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder with its bytes, but temporary ones."""
    paths = [path for path in folder.rglob("*") if path.is_file() and not re.search(r"\.tmp$|/\.lock", str(path))]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


@contextlib.contextmanager
def fresh(folder: Path, size: float | None) -> Iterator[object]:
    """Make an empty folder, with `size`, on a file system of so many bytes; yield what makes that one large."""
    folder.mkdir()
    if size is None:
        yield lambda: None
        shutil.rmtree(folder)
        return
    pages = 1 + int(size) // resource.getpagesize()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"nr_blocks={pages}", "tmpfs", folder], check=True)
    try:
        yield lambda: subprocess.run(["mount", "-o", "remount,size=256m", folder], check=True)
    finally:
        subprocess.run(["umount", folder], check=True)
        folder.rmdir()


if __name__ == "__main__":
    main()
