"""An image tokenizer: images to grids of integers and back.

Nothing here imports torch: the parts that compute do (`model`, `checkpoint.load`, `train`, `codec`), the parts that
read and describe files (`token_files`, `images`, `metrics`, `checkpoint.describe`) do not. `load_tokens` and
`TokenDataset`, for those who train on tokens, are imported when they are asked for.
"""

from typing import TYPE_CHECKING, Any

from tokenizer._version import __version__

if TYPE_CHECKING:
    from tokenizer.tokens import TokenDataset, load_tokens

__all__ = ["TokenDataset", "__version__", "load_tokens"]


def __getattr__(name: str) -> Any:
    if name == "load_tokens":
        from tokenizer.tokens import load_tokens

        return load_tokens
    if name == "TokenDataset":
        from tokenizer.tokens import TokenDataset

        return TokenDataset
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
