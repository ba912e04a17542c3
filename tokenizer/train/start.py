"""The state that a run begins with, or goes on from."""

from __future__ import annotations

import copy
import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tokenizer import runtime
from tokenizer.config import TrainConfig
from tokenizer.errors import CheckpointError, ConfigError, InputError
from tokenizer.images import Source
from tokenizer.models import CONFIG_FILE, WEIGHTS_FILE, Tokenizer, locate_checkpoint, refuse_larger_model
from tokenizer.train.init_from import freeze_parts, readable_fingerprints, start_from_checkpoint
from tokenizer.train.optimizers import make_optimizers
from tokenizer.train.planning import Plan
from tokenizer.train.saved_states import clear_states
from tokenizer.train.state import Saved, TrainingState, new_state, restore_state

BEST = "best"
_OTHER_NETWORK = "the run began with another encoder or decoder: pass modules like those"


def begin_run(plan: Plan, *, encoder: nn.Module | None = None, decoder: nn.Module | None = None) -> TrainingState:
    """Return the state of a new run: seeded, on its device, where its checkpoint ended if it starts from one.

    Args:
        plan: what to train on, and how.
        encoder: in place of the network's own, see `Tokenizer`. It is trained as it stands, and must not draw random
            numbers where a batch goes through it in parts.
        decoder: in place of the network's own.

    Raises:
        CheckpointError: that checkpoint cannot be loaded.
        ConfigError: the settings do not fit it, or `encoder` or `decoder` do not fit the settings.
    """
    state = prepare_run(plan, encoder, decoder)
    if plan.config.init_from:
        like = copy.deepcopy((encoder, decoder))
        source = locate_checkpoint(plan.config.init_from)
        start_from_checkpoint(state, source, *like)
        state.quantizing = state.quantizing and plan.config.quantize_after is None
        state.reads = readable_fingerprints(source, plan.config.freeze)
    return state


def prepare_run(plan: Plan, encoder: nn.Module | None = None, decoder: nn.Module | None = None) -> TrainingState:
    """Return the state of a new run whose weights are random, or those of `encoder` and `decoder`.

    Raises:
        ConfigError: `encoder` or `decoder` do not fit the settings.
        InputError: this rank sees other images than the first one.
    """
    config = plan.config
    mine = identify_images([*plan.train, *plan.validation])
    if runtime.object_from_first_rank(mine) != mine:
        raise InputError(f"process {runtime.rank()} of {runtime.world_size()} sees other images than the first one")
    if config.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cudnn.benchmark = False
        torch.use_deterministic_algorithms(mode=True)
    torch.manual_seed(config.seed)
    model = Tokenizer(config.network, config.quantizer, encoder=encoder, decoder=decoder)
    model = model.to(config.device).channels_last()
    if encoder is not None or decoder is not None:
        _check(model.eval(), config)
        for tensor in [*model.parameters(), *model.buffers()]:  # which each rank has drawn for itself
            tensor.data.copy_(runtime.from_first_rank(tensor.data))
    freeze_parts(model, config.freeze)
    state = new_state(model.train(), make_optimizers(model, config), config)
    if runtime.rank():
        # Each rank draws its own noise; what all must agree on comes from the first one.
        torch.manual_seed(config.seed + 1_000_003 * runtime.rank())
    if config.compile:
        model.encoder.compile()
        model.decoder.compile()
    return state


@torch.no_grad()
def _check(model: Tokenizer, config: TrainConfig) -> None:
    """Raise ConfigError unless encoder and decoder make of zeros what `Tokenizer` says, in shape and in type."""
    side, network = config.image_size or 0, config.network
    images = (1, 3, side, side)
    latents = (1, network.latent_dim, side // network.downsample, side // network.downsample)
    faults = []
    for name, module, given, wanted in (
        ("encoder", model.encoder, images, latents),
        ("decoder", model.decoder, latents, images),
    ):
        if types := {str(p.dtype) for p in module.parameters()} - {"torch.float32"}:
            faults.append(f"the {name} has parameters of {', '.join(types)}, expected torch.float32")
            continue
        made = module(torch.zeros(given, device=config.device).contiguous(memory_format=torch.channels_last))
        found = tuple(made.shape) if isinstance(made, Tensor) else type(made).__name__
        if found != wanted:
            faults.append(f"the {name} makes {found} of {given}, expected {wanted}")
    if faults:
        raise ConfigError(faults)


def resume_run(
    plan: Plan, saved: Saved, *, encoder: nn.Module | None = None, decoder: nn.Module | None = None
) -> TrainingState:
    """Return the state of a saved run; `encoder` and `decoder` are modules like those that it began with, if any.

    Raises:
        CheckpointError: it was trained on other images, or does not fit.
        ConfigError: `encoder` or `decoder` do not fit the settings.
    """
    if saved.data != identify_images(plan.train):
        raise CheckpointError("the training images are not those that this run began with: pass the same folder")
    tensors = {name: value for name, value in saved.tensors.items() if name.startswith("model/")}
    config, own = plan.config, encoder is None and decoder is None
    try:
        refuse_larger_model(config.quantizer, config.network, tensors, own=own)
    except ValueError as error:
        why = _OTHER_NETWORK if "coder." in str(error) else "the training state does not fit its own settings"
        raise CheckpointError(f"{why}: {error}") from error
    state = prepare_run(plan, encoder, decoder)
    model = {f"model/{name}": value for name, value in [*state.model.named_parameters(), *state.model.named_buffers()]}
    if _shapes(model) != _shapes(tensors):
        raise CheckpointError(_OTHER_NETWORK)
    restore_state(state, saved)
    return state


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[Any, ...]]:
    """Return shapes and types of what belongs to the encoder and the decoder."""
    network = ("model/encoder.", "model/decoder.")
    return {name: (value.shape, value.dtype) for name, value in tensors.items() if name.startswith(network)}


def clear_run(folder: Path) -> None:
    """Remove what an earlier run left in `folder`: --resume must not meet its states, nor a person its pictures."""
    clear_states(folder)
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        (folder / BEST / name).unlink(missing_ok=True)
    for old in [*folder.glob("pictures/step_*.png"), *folder.glob("tensorboard/events.out.tfevents.*")]:
        old.unlink(missing_ok=True)


def identify_images(sources: Sequence[Source]) -> str:
    """Return a digest of the images' names."""
    return hashlib.sha256("\0".join(s.name for s in sources).encode("utf-8", "surrogateescape")).hexdigest()
