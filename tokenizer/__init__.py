"""An image tokenizer: images to grids of integers and back.

Nothing here imports torch: the parts that compute do (`model`, `checkpoint.load`, `train`, `codec`), the parts that
read and describe files (`token_files`, `images`, `metrics`, `checkpoint.describe`) do not.
"""

from tokenizer._version import __version__

__all__ = ["__version__"]
