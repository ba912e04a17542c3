from ._version import __version__
from .codec import EncodeOptions, decode_tokens, encode_images
from .config import NetworkConfig, TrainConfig
from .errors import VqtokError
from .inputs import dataset_sources
from .models import Tokenizer, load_checkpoint, locate_checkpoint, to_pixels, to_unit_range
from .tokens import TokenArray, TokenDataset, load_tokens, read_tokens, write_tokens
from .train import begin_run, plan_run, read_newest_state, resume_run

__all__ = [
    "EncodeOptions",
    "NetworkConfig",
    "TokenArray",
    "TokenDataset",
    "Tokenizer",
    "TrainConfig",
    "VqtokError",
    "__version__",
    "begin_run",
    "dataset_sources",
    "decode_tokens",
    "encode_images",
    "load_checkpoint",
    "load_tokens",
    "locate_checkpoint",
    "plan_run",
    "read_newest_state",
    "read_tokens",
    "resume_run",
    "to_pixels",
    "to_unit_range",
    "write_tokens",
]
