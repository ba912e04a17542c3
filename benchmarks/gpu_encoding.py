"""The rows of `benchmarks.gpu` about encoding and decoding, memory, ranks and commands."""

from __future__ import annotations

import itertools
import json
import os
import platform
import sys
import time

import numpy as np
import torch
from torch import Tensor

from benchmarks.gpu_setting import Found, Setting, pictures_of, run, tokens_of
from tokenizer import codec
from tokenizer.codec.batched import BatchedNetwork
from tokenizer.codec.tiling import grid_tiles
from tokenizer.errors import DeviceError
from tokenizer.images import encode_image
from tokenizer.inputs import find_images
from tokenizer.metrics import psnr
from tokenizer.models import Tokenizer

# Tokens that may differ from those of the CPU in float32, and decibels that may be lost.
MOST_DIFFERING = {"float32": 0.002, "tf32": 0.05, "float16": 0.05, "bfloat16": 0.25}
MOST_LOST = 0.1
LAUNCHER = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "1")


def machine(setting: Setting) -> Found:
    """Name the machine and what runs on it."""
    name = platform.processor() or platform.machine()
    if setting.device.type == "cuda":
        properties = torch.cuda.get_device_properties(setting.device)
        name = f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}"
    return Found(f"{name}, torch {torch.__version__}, {len(setting.sources)} pictures, {os.cpu_count()} processors")


def encoded_in(name: str, precision: str, setting: Setting) -> Found:
    """Encode at a precision, and compare tokens and pictures with those of the CPU in float32."""
    model, wanted = setting.model(name, setting.device.type), setting.cpu_tokens(name)
    options = setting.options(precision=precision)
    tokens_of(model, setting.sources[:16], options)
    began = time.perf_counter()
    tokens = tokens_of(model, setting.sources, options)
    rate = len(tokens) / (time.perf_counter() - began)
    canvases = torch.from_numpy(pictures_of(setting))
    lost = quality(model, canvases, wanted) - quality(model, canvases, tokens)
    differing = float((tokens != wanted).mean())
    passed = differing <= MOST_DIFFERING[precision] and lost <= MOST_LOST
    return Found(f"{100 * differing:.3f} % differ, {lost:+.3f} dB lost, {rate:.0f} images/s", passed)


def quality(model: Tokenizer, originals: Tensor, tokens: np.ndarray) -> float:
    """Return the mean PSNR of what (B, h, w, C) tokens decode to."""
    made = decode(model, tokens)
    return float(np.mean([psnr(*pair) for pair in zip(originals.numpy(), made, strict=True)]))


def decode(model: Tokenizer, tokens: np.ndarray) -> np.ndarray:
    """Return the (B, H, W, 3) uint8 pictures of tokens."""
    network = BatchedNetwork(model)
    (tile,) = grid_tiles(model, tokens.shape[1:3])
    return np.concatenate([network.decode(part, tile) for part in np.array_split(tokens, -(-len(tokens) // 8))])


def batches(name: str, setting: Setting) -> Found:
    """Encode in batches of several sizes."""
    model = setting.model(name, setting.device.type)
    found = [tokens_of(model, setting.sources, setting.options(batch_size=size)) for size in (1, 3, 16)]
    shares = [float((a != b).mean()) for a, b in itertools.combinations(found, 2)]
    return Found(f"{', '.join(f'{100 * share:.4f} %' for share in shares)} differ", max(shares) <= 0.002)


def compiled(name: str, setting: Setting) -> Found:
    """Encode with a compiled encoder."""
    model = setting.model(name, setting.device.type)
    plain = tokens_of(model, setting.sources, setting.options())
    began = time.perf_counter()
    first = tokens_of(model, setting.sources, setting.options(compile=True))
    spent = time.perf_counter() - began
    differing = float((first != plain).mean())
    return Found(f"{100 * differing:.3f} % differ, {spent:.1f} s with compiling", differing <= 0.01)


def decoded(name: str, setting: Setting) -> Found:
    """Decode the CPU's tokens on both."""
    tokens = setting.cpu_tokens(name)
    here, there = (decode(setting.model(name, device), tokens) for device in ("cpu", setting.device.type))
    apart = int(np.abs(here.astype(int) - there).max())
    decibels = min(psnr(*pair) for pair in zip(here, there, strict=True))
    return Found(f"{apart} levels apart at most, {decibels:.1f} dB at least", decibels >= 50)


def encoding_memory(name: str, setting: Setting) -> Found:
    """Measure the peak of a batch, and of one large picture in tiles."""
    model = setting.model(name, "cuda")
    large = np.random.default_rng(0).integers(0, 256, (4096, 4096, 3), dtype=np.uint8)
    (setting.scratch / "large.png").write_bytes(encode_image(large, "png"))
    peaks = []
    for sources, options in (
        (setting.sources[:16], setting.options()),
        (list(find_images([setting.scratch / "large.png"])), codec.EncodeOptions()),
    ):
        torch.cuda.reset_peak_memory_stats()
        list(codec.encode_images(model, sources, options))
        peaks.append(torch.cuda.max_memory_allocated() / 2**20)
    return Found("{:.0f} and {:.0f} MiB".format(*peaks))


def too_little_memory(setting: Setting) -> Found:
    """Allow hardly any memory: the error must be the one that a person can read."""
    model = setting.model(setting.models[0], "cuda")
    before = tokens_of(model, setting.sources[:4], setting.options())
    torch.cuda.empty_cache()
    held = torch.cuda.memory_reserved() / torch.cuda.get_device_properties(setting.device).total_memory
    torch.cuda.set_per_process_memory_fraction(held)
    try:
        tokens_of(model, setting.sources[:64], setting.options(batch_size=64))
        text = "no error"
    except DeviceError as error:
        text = str(error)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    again = tokens_of(model, setting.sources[:4], setting.options())
    return Found(text, text.startswith("out of memory") and bool((again == before).mean() > 0.998))


def one_rank(setting: Setting) -> Found:
    """Run `benchmarks.gpu_rank` under torchrun."""
    printed = run([*LAUNCHER, "-m", "benchmarks.gpu_rank", setting.device.type]).splitlines()[-1]
    return Found(printed, printed.endswith("all as sent"))


def commands(setting: Setting) -> Found:
    """Train, encode, decode and report as anyone would."""
    device, scratch, few = ["--device", setting.device.type, "-q"], setting.scratch, setting.scratch / "few"
    vqtok, model, tokens = [sys.executable, "-m", "cli"], ["-m", f"{scratch}/commands"], f"{scratch}/few.safetensors"
    shape = ["--image-size", "32", "-b", "4", "--set", "network.widths=16,16", "--set", "network.depths=1,1"]
    budget = ["-o", f"{scratch}/commands", "--downsample", "8", "--steps", "8"]
    run([*LAUNCHER, "-m", "cli", "train", str(setting.folder), *budget, *shape, *device])
    few.mkdir()
    pictures = pictures_of(setting)[:4]
    for number, picture in enumerate(pictures):
        (few / f"{number}.png").write_bytes(encode_image(picture, "png"))
    run([*vqtok, "encode", str(few), *model, "-o", tokens, *device])
    run([*vqtok, "decode", tokens, *model, "-o", f"{scratch}/back", *device])
    report = json.loads(run([*vqtok, "report", tokens, *model, "--images", str(few), "--json", *device]))
    text = f"{report['images']} images, {report['psnr']:.1f} dB after 8 steps"
    return Found(text, report["images"] == len(pictures))
