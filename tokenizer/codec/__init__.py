"""Images to tokens, tokens to images: in order, in bounded memory, and the same whatever shares the work.

The path of an image: a thread of `readers` opens it and fits it to the grid, within a `PixelBudget`; `to_tokens`
puts it into a batch with others of its grid, or lets `tiling` cut it; `batched` makes tokens of that in one of the
`threads`; `to_tokens` hands them out in the order of the sources.
"""

from __future__ import annotations

import lazy_loader

# `__init__.pyi` says which name lies in which module; those that need torch import it when they are asked for.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
