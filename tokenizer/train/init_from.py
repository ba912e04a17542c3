"""Starting from a checkpoint: what fits it, what a run takes over, where new codes start, and what stays as it is."""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tokenizer.config import NetworkConfig, coerce_option, to_dict
from tokenizer.errors import ConfigError
from tokenizer.models import Tokenizer, describe_checkpoint, fingerprint_of, load_checkpoint
from tokenizer.quantizers import (
    CodebookQuantizer,
    Combinator,
    DeadCodeReplacement,
    MovingAverages,
    Product,
    Quantizer,
    Residual,
)
from tokenizer.train.lineage import inherit_spec, spec_misfits
from tokenizer.train.state import TrainingState


def init_settings(folder: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested settings of a run that starts from the checkpoint in `folder`: those given over its own.

    What is not given of the network's shape and of the quantizer is the checkpoint's.

    Raises:
        CheckpointError: the checkpoint cannot be loaded.
        ConfigError: something given does not fit it; the message names each such setting with both values.
    """
    source = load_checkpoint(folder)
    shape, spec = given.get("network", {}), given.get("quantizer", {})
    if not isinstance(shape, Mapping) or not isinstance(spec, Mapping):
        return dict(given)  # not a table, which the parser says
    hints = typing.get_type_hints(NetworkConfig)
    typed = {key: coerce_option(shape[key], hints[key], f"network.{key}") for key in shape if key in hints}
    network = {**to_dict(source.network), **shape, **typed}
    quantizer = inherit_spec(source.quantizer.spec, spec)
    _check(folder, source, network, quantizer)
    return {**given, "network": network, "quantizer": quantizer}


def _check(folder: Path, source: Tokenizer, network: Mapping[str, Any], spec: Mapping[str, Any]) -> None:
    shape = to_dict(source.network)
    faults = [f"network.{key} is {shape[key]} there, now {network[key]}" for key in shape if shape[key] != network[key]]
    faults += spec_misfits(source.quantizer.spec, spec)
    if faults:
        raise ConfigError([f"cannot start from {folder} with other settings: {'; '.join(faults)}: leave them out"])


@torch.no_grad()
def init_state(
    state: TrainingState, folder: Path, encoder: nn.Module | None = None, decoder: nn.Module | None = None
) -> None:
    """Put a state that has not started where the checkpoint in `folder` ended.

    `encoder` and `decoder` load it where its network is not vqtok's, see `checkpoint.load`.

    Weights, codes and the average are the checkpoint's, and the codebook is in use. Codes that the checkpoint does
    not have are NaN until `place` gives them one, and until then it is not.

    Raises:
        CheckpointError: the checkpoint cannot be loaded.
        ConfigError: the state's network or quantizer does not fit it.
    """
    source, model = load_checkpoint(folder, encoder=encoder, decoder=decoder), state.model
    _check(folder, source, to_dict(model.network), model.quantizer.spec)
    model.encoder.load_state_dict(source.encoder.state_dict())
    model.decoder.load_state_dict(source.decoder.state_dict())
    _take_over(model.quantizer, source.quantizer)
    state.ema.load_state_dict(model.state_dict())
    state.quantizing = _is_placed(model.quantizer)


def readable_fingerprints(folder: Path, frozen: Sequence[str]) -> tuple[str, ...]:
    """Return the fingerprints of checkpoints whose tokens mean the same to one that starts from that in `folder`.

    Its own and those that it inherited, where the codes stay, and with them either what makes tokens of an image or
    what makes an image of tokens.
    """
    if "codebook" not in frozen or not {"encoder", "decoder"} & set(frozen):
        return ()
    return (fingerprint_of(folder), *describe_checkpoint(folder).reads)


def _take_over(target: Quantizer, source: Quantizer) -> None:
    """Give `target` the codes of `source`, and all else that both have."""
    if isinstance(target, Combinator) and isinstance(source, Combinator):
        for stages in zip(target.parts, source.parts, strict=True):
            _take_over(*stages)
    elif isinstance(target, CodebookQuantizer) and isinstance(source, CodebookQuantizer):
        codes, room = source.table(), target.table()
        missing = torch.full((len(room) - len(codes), codes.shape[1]), torch.nan)
        target.table.place(torch.cat([codes, missing]).to(room.device))
        own = [name for name in target.state_dict() if not name.startswith("table.")]
        shared = {name: value for name, value in source.state_dict().items() if name in own}
        target.load_state_dict(shared, strict=False)
        _restart(target)
    else:
        target.load_state_dict(source.state_dict())


def _restart(quantizer: CodebookQuantizer) -> None:
    """Let moving averages begin at the codes."""
    for averages in quantizer.children():
        if isinstance(averages, MovingAverages):
            averages.restart(quantizer.table())


def _is_placed(quantizer: Quantizer) -> bool:
    return not any(bool(parameter.isnan().any()) for parameter in quantizer.parameters())


@torch.no_grad()
def put_codes(quantizer: Quantizer, z: Tensor) -> None:
    """Place codes on (N, D) latents of the first batches: all of them, or those that a checkpoint did not have.

    The latter start, with a little noise, at latents drawn in proportion to their squared error, as codes that
    replacement moves do; on several ranks the first one draws for all.
    """
    if _is_placed(quantizer):
        quantizer.initialize(z)
    else:
        _grow(quantizer, z.float())


def _grow(quantizer: Quantizer, z: Tensor) -> None:
    """Place the missing codes of each stage on what it will see of (N, D) latents."""
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
    codes = quantizer.code_vectors()
    new = codes.isnan().any(dim=1)
    chosen = quantizer.select(z, codes[~new])
    replacement = DeadCodeReplacement(len(codes), patience=1).to(z.device)
    replacement.observe(z, codes[chosen], chosen)
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
