"""An image tokenizer: images to grids of integers and back.

Names are imported once they are asked for: torch comes with those that compute, not with those that read and describe
files. The rooms beneath (`tokenizer.tokens`, `tokenizer.train`, ...) have more.
"""

from __future__ import annotations

import lazy_loader

# `__init__.pyi` says which name lies in which module.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
