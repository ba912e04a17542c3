"""What a version makes of fixed inputs: tokens, pixels and short trainings, to tell whether a change changed any bit.

    python -m robustness.unchanged > now.json                 of this checkout
    python -m robustness.unchanged ../other > before.json     of another one, on the same machine
    python -m robustness.unchanged --compare before.json      says what differs, and exits with 1 if anything does

Bits are those of one processor and one torch: both are in the file. `tests/golden/unchanged.json` holds what the last
version before a change made; `tests/test_unchanged.py` holds this one to it.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

CHECKPOINTS = ("photo-f16", "photo-f8", "photo-f8-rvq")
STEPS = 6
STEPS_TO_DEAD_CODES = 90  # codes that no latent chose for 50 steps are replaced
# Every registered method, and what they are combined to; the last ones go through the phase without quantization.
QUANTIZERS = (
    *("bsq", "diveq", "diveq-detach", "ema", "fsq", "gumbel", "ibq", "lfq", "nsvq", "rotation"),
    *("sf-diveq", "sf-diveq-detach", "sfvq", "ste"),
    *("multiscale(2*diveq)", "product(2*ema)", "residual(2*diveq, drop=0.5)", "residual(diveq, fsq)"),
)


def results() -> dict[str, Any]:
    """Return what the version that this process imports makes of all inputs."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        _draw(Path("images"), 24, (48, 48))
        _draw(Path("photos"), 2, (72, 104))
        return {
            "machine": machine(),
            "checkpoints": {name: _coded(name) for name in CHECKPOINTS},
            "trainings": {spec: _trained(spec, STEPS) for spec in QUANTIZERS},
            "dead codes": {spec: _trained(spec, STEPS_TO_DEAD_CODES) for spec in ("diveq", "ema")},
        }


def machine() -> dict[str, str]:
    """Return what bits depend on."""
    import torch

    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "torch": torch.__version__,
        "processor": names[0] if names else platform.processor(),
        "kernels": torch.backends.cpu.get_cpu_capability(),
    }


def _draw(folder: Path, count: int, size: tuple[int, int]) -> None:
    """Draw gradients with edges and some grain, the same each time."""
    import numpy as np
    from PIL import Image

    folder.mkdir()
    rows, columns = np.mgrid[0 : size[0], 0 : size[1]] / max(size)
    for number in range(count):
        turn = 0.7 * number
        slope = np.cos(turn) * rows + np.sin(turn) * columns
        bands = 0.5 + 0.5 * np.sign(np.sin(9 * slope + number))
        grain = np.random.default_rng(number).integers(0, 24, (*size, 3))
        colors = np.stack([slope % 1, bands, rows], axis=-1) * 220
        Image.fromarray((colors + grain).clip(0, 255).astype(np.uint8)).save(folder / f"{number:02}.png")


def _vqtok(*arguments: str) -> None:
    """Run a command in this process."""
    from cli.app import app

    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        app(list(arguments), prog_name="vqtok", standalone_mode=False)


def _coded(name: str) -> dict[str, Any]:
    import numpy as np
    from PIL import Image

    _vqtok("encode", "photos", "-m", name, "-o", f"{name}.npy")
    _vqtok("decode", f"{name}.npy", "-m", name, "-o", f"{name}-back/")
    pictures = [np.asarray(Image.open(path)) for path in sorted(Path(f"{name}-back").glob("*.png"))]
    return {
        "tokens": np.load(f"{name}.npy").astype(int).tolist(),
        "pixels": [hashlib.sha256(picture.tobytes()).hexdigest() for picture in pictures],
        "means": [[round(float(mean), 3) for mean in picture.mean((0, 1))] for picture in pictures],
    }


def _trained(spec: str, steps: int) -> dict[str, Any]:
    run = Path(tempfile.mkdtemp(dir=".")) / "run"
    _vqtok(
        *("train", "images", "-o", str(run), "--quantizer", spec, "--steps", str(steps), "--codebook-size", "32"),
        *("--image-size", "32", "--batch-size", "4", "--downsample", "4", "--set", "network.widths=16"),
        *("--set", "network.depths=1", "--set", "network.latent_dim=6", "--set", "quantize_after=0.3"),
        *("--set", "native_crops=0", "--set", "smallest_crop=0.5"),  # crops as they were before there were others
        *("--precision", "float32", "--device", "cpu", "--workers", "1", "--log-every", "1", "--seed", "3"),
    )
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {"weights": _digest(run / "model.safetensors"), "losses": [line["loss"] for line in lines if "loss" in line]}


def _digest(path: Path) -> str:
    """Return a digest of the tensors of a file, whatever they are called."""
    import safetensors.numpy

    tensors = safetensors.numpy.load_file(path).values()
    parts = sorted(hashlib.sha256(f"{tensor.shape}".encode() + tensor.tobytes()).hexdigest() for tensor in tensors)
    return hashlib.sha256("".join(parts).encode()).hexdigest()


def of_checkout(checkout: Path) -> dict[str, Any]:
    """Return what the version in a checkout makes of all inputs, in a process of one thread."""
    code = f"import sys; sys.path.insert(0, {str(checkout)!r}); import runpy; runpy.run_path({__file__!r})['show']()"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(checkout)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, check=False, env=environment, capture_output=True, text=True, cwd=checkout)
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def show() -> None:
    """Print the results of this process."""
    sys.stdout.write(json.dumps(results(), indent=1) + "\n")


def differences(before: Mapping[str, Any], now: Mapping[str, Any], where: str = "") -> Iterator[str]:
    """Yield where two results differ."""
    for key in sorted({*before, *now}):
        old, new, name = before.get(key), now.get(key), f"{where}{key}"
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from differences(old, new, f"{name}: ")
        elif old != new:
            yield name


def main(arguments: list[str]) -> int:
    """Print results, or what differs from stored ones."""
    here = Path(__file__).resolve().parents[1]
    if arguments[:1] == ["--compare"]:
        found = list(differences(json.loads(Path(arguments[1]).read_text()), of_checkout(here)))
        sys.stdout.write("\n".join(found) + "\n" if found else "no bit differs\n")
        return int(bool(found))
    sys.stdout.write(json.dumps(of_checkout(Path(arguments[0]).resolve() if arguments else here), indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
