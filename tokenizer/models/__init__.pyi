from .checkpoint import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    CheckpointDescription,
    describe_checkpoint,
    fingerprint_of,
    load_checkpoint,
    refuse_larger_model,
    save_checkpoint,
)
from .loaded import LoadedModel, find_maker, is_maker, load_model
from .network import Decoder, Encoder
from .shipped import DEFAULT_CHECKPOINT, locate_checkpoint, shipped_folder, shipped_names
from .tokenizer import Tokenizer, to_pixels, to_unit_range

__all__ = [
    "CONFIG_FILE",
    "DEFAULT_CHECKPOINT",
    "WEIGHTS_FILE",
    "CheckpointDescription",
    "Decoder",
    "Encoder",
    "LoadedModel",
    "Tokenizer",
    "describe_checkpoint",
    "find_maker",
    "fingerprint_of",
    "is_maker",
    "load_checkpoint",
    "load_model",
    "locate_checkpoint",
    "refuse_larger_model",
    "save_checkpoint",
    "shipped_folder",
    "shipped_names",
    "to_pixels",
    "to_unit_range",
]
