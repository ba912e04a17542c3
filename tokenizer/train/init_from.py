"""Starting from a checkpoint: settings that fit it, weights taken over, code vectors added, parts that stay."""

from __future__ import annotations

import contextlib
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tokenizer.config import NetworkConfig, coerce_option, to_dict
from tokenizer.errors import ConfigError
from tokenizer.models import Decoder, Encoder, Tokenizer, describe_checkpoint, fingerprint_of, load_checkpoint
from tokenizer.quantizers import (
    CodebookQuantizer,
    Combinator,
    DeadCodeReplacement,
    MovingAverages,
    Product,
    Quantizer,
    Residual,
)
from tokenizer.train.lineage import inherit_spec, misfitting_settings
from tokenizer.train.state import TrainingState


def init_settings(folder: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested settings of a run that starts from the checkpoint in `folder`: those given over its own.

    What is not given of the network's shape and of the quantizer is the checkpoint's.

    Raises:
        CheckpointError: the checkpoint cannot be loaded.
        ConfigError: something given does not fit it; the message names each such setting with both values.
    """
    settings, faults = inherit_settings(folder, given)
    if faults:
        raise ConfigError(faults)
    return settings


def inherit_settings(folder: Path, given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return what `init_settings` does, and what is wrong instead of raising it.

    Where something does not fit, the checkpoint's own stands in the settings; values of a wrong type and unknown names
    stay in them, for the parser to tell.

    Raises:
        CheckpointError: the checkpoint cannot be loaded.
    """
    source = load_checkpoint(folder)
    own_network, own_spec = to_dict(source.network), source.quantizer.spec
    shape, spec = given.get("network", {}), given.get("quantizer", {})
    if not isinstance(shape, Mapping) or not isinstance(spec, Mapping):
        return {"network": own_network, "quantizer": own_spec, **given}, []  # not a table, which the parser says
    typed = _typed(shape)
    network = {**own_network, **typed}
    faults: list[str] = []
    try:
        quantizer = inherit_spec(own_spec, spec)
    except ConfigError as error:
        faults += error.faults
        quantizer = own_spec
    misfits = _misfits(source, network, quantizer)
    if misfits:
        faults.append(f"cannot start from {folder} with other settings: {'; '.join(misfits)}: leave them out")
        network, quantizer = own_network, own_spec
    untyped = {key: value for key, value in shape.items() if key not in typed}
    return {**given, "network": {**network, **untyped}, "quantizer": quantizer}, faults


def _typed(shape: Mapping[str, Any]) -> dict[str, Any]:
    """Return those settings of a network that are known and can be read, as what they are."""
    hints = typing.get_type_hints(NetworkConfig)
    typed: dict[str, Any] = {}
    for key in shape:
        if key in hints:
            with contextlib.suppress(ConfigError):
                typed[key] = coerce_option(shape[key], hints[key], f"network.{key}")
    return typed


def _misfits(source: Tokenizer, network: Mapping[str, Any], spec: Mapping[str, Any]) -> list[str]:
    """Return a line for each setting for which a run cannot start from `source`, with both values.

    Stages may get deeper, and the network a linear path, which begins at 0.
    """
    shape = to_dict(source.network)
    found = [
        f"network.{key} is {shape[key]} there, now {network[key]}"
        for key in shape
        if shape[key] != network[key] and not _is_more(source.network, key, network[key])
    ]
    return found + misfitting_settings(source.quantizer.spec, spec)


def _is_more(before: NetworkConfig, key: str, now: Any) -> bool:
    """Return whether a network with this setting can begin as one with that of `before`."""
    widths, depths = before.decoder_shape
    if key == "linear":
        return bool(now)
    if key == "decoder_widths":
        return tuple(before.widths if now is None else now) == widths
    if key not in ("depths", "decoder_depths"):
        return False
    least = before.depths if key == "depths" else depths
    return now is None or (len(now) == len(least) and all(new >= old for new, old in zip(now, least, strict=True)))


@torch.no_grad()
def start_from_checkpoint(
    state: TrainingState, folder: Path, encoder: nn.Module | None = None, decoder: nn.Module | None = None
) -> None:
    """Put a state that has not started where the checkpoint in `folder` ended.

    Weights and code vectors of the model and of its moving average become the checkpoint's, and the codebook is in use
    from the first step. Where the run has more code vectors than the checkpoint, those that are missing are NaN until
    `place_code_vectors` gives them a place; until then the run trains without quantization.

    Args:
        state: of a new run.
        folder: of the checkpoint.
        encoder: module to load its encoder into, where that is not vqtok's own, see `load_checkpoint`.
        decoder: the same for its decoder.

    Raises:
        CheckpointError: the checkpoint cannot be loaded.
        ConfigError: the state's network or quantizer does not fit it.
    """
    source, model = load_checkpoint(folder, encoder=encoder, decoder=decoder), state.model
    misfits = _misfits(source, to_dict(model.network), model.quantizer.spec)
    if misfits:
        raise ConfigError([f"cannot start from {folder} with other settings: {'; '.join(misfits)}: leave them out"])
    _start_deeper(model.encoder, source.encoder)
    _start_deeper(model.decoder, source.decoder)
    _take_over(model.quantizer, source.quantizer)
    state.ema.load_state_dict(model.state_dict())
    state.quantizing = _is_placed(model.quantizer)


def _start_deeper(target: nn.Module, source: nn.Module) -> None:
    """Let `target`, which may have more residual blocks and a linear path, begin with what `source` computes."""
    if isinstance(target, Encoder | Decoder) and isinstance(source, Encoder | Decoder):
        target.start_from(source)
    else:
        target.load_state_dict(source.state_dict())


def readable_fingerprints(folder: Path, frozen: Sequence[str]) -> tuple[str, ...]:
    """Return the fingerprints of checkpoints whose tokens mean the same to one that starts from that in `folder`.

    Its own and those that it inherited, where the codes stay, and with them either what makes tokens of an image or
    what makes an image of tokens.
    """
    if "codebook" not in frozen or not {"encoder", "decoder"} & set(frozen):
        return ()
    return (fingerprint_of(folder), *describe_checkpoint(folder).reads)


def _take_over(target: Quantizer, source: Quantizer) -> None:
    """Give `target` the code vectors of `source`, and all else that both have; those that are missing are NaN."""
    if isinstance(target, Combinator) and isinstance(source, Combinator):
        for stages in zip(target.parts, source.parts, strict=True):
            _take_over(*stages)
    elif isinstance(target, CodebookQuantizer) and isinstance(source, CodebookQuantizer):
        vectors, before = source.table(), target.table()
        missing = torch.full((len(before) - len(vectors), vectors.shape[1]), torch.nan)
        target.table.place(torch.cat([vectors, missing]).to(before.device))
        own = [name for name in target.state_dict() if not name.startswith("table.")]
        shared = {name: value for name, value in source.state_dict().items() if name in own}
        target.load_state_dict(shared, strict=False)
        _restart(target)
    else:
        target.load_state_dict(source.state_dict())


def _restart(quantizer: CodebookQuantizer) -> None:
    """Let the moving averages of a codebook begin at its code vectors."""
    for averages in quantizer.children():
        if isinstance(averages, MovingAverages):
            averages.restart(quantizer.table())


def _is_placed(quantizer: Quantizer) -> bool:
    return not any(bool(parameter.isnan().any()) for parameter in quantizer.parameters())


@torch.no_grad()
def place_code_vectors(quantizer: Quantizer, z: Tensor, *, anew: bool = False) -> None:
    """Place code vectors on (N, D) latents: all of them, or, unless `anew`, those that a checkpoint did not have.

    All are placed by the quantizer's own k-means. Those that are added to a checkpoint's start where dead codes are
    moved to: with a little noise at latents that are drawn in proportion to their squared error. On several ranks the
    first one draws for all.
    """
    if anew or _is_placed(quantizer):
        quantizer.initialize(z)
    else:
        _grow(quantizer, z.float())


def _grow(quantizer: Quantizer, z: Tensor) -> None:
    """Place the missing code vectors of each stage on what that stage will see of (N, D) latents."""
    if isinstance(quantizer, Residual):
        for stage in quantizer.parts:
            _grow(stage, z)
            z = z - stage.decode(stage.encode(z))
    elif isinstance(quantizer, Product):
        for stage, part in zip(quantizer.parts, torch.split(z, quantizer.width, dim=-1), strict=True):
            _grow(stage, part)
    elif isinstance(quantizer, CodebookQuantizer) and not _is_placed(quantizer):
        _add_codes(quantizer, quantizer.prepare(z))


def _add_codes(quantizer: CodebookQuantizer, z: Tensor) -> None:
    vectors = quantizer.code_vectors()
    new = vectors.isnan().any(dim=1)
    chosen = quantizer.select(z, vectors[~new])
    # To a replacement of their own, missing code vectors are dead: idle for as long as its patience, one step.
    replacement = DeadCodeReplacement(len(vectors), patience=1).to(z.device)
    replacement.observe(z, vectors[chosen], chosen)
    replacement.idle_steps.copy_(new)
    placed = replacement.replacements()
    if placed is not None:
        quantizer.table.replace(placed.vectors, placed.rows)
    _restart(quantizer)


def freeze_parts(model: Tokenizer, parts: Sequence[str]) -> None:
    """Keep parts of a tokenizer, of `config.FREEZABLE`, as they are: nothing in training moves them.

    Of the quantizer all that can be learned counts as `codebook`.
    """
    named = {"encoder": model.encoder, "decoder": model.decoder, "codebook": model.quantizer}
    for name in parts:
        named[name].requires_grad_(requires_grad=False)
    if "codebook" not in parts:
        return
    for module in model.quantizer.modules():
        if isinstance(module, DeadCodeReplacement):
            module.patience = 0
        if isinstance(getattr(module, "averages", None), MovingAverages):
            module.register_module("averages", None)
