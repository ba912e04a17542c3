"""Quantizers, a method a file. A new one is one new file here with one `@register("name", "one line")`.

What is written on one line, and the catalog of the methods, are read without torch.
"""

from __future__ import annotations

import lazy_loader

# `__init__.pyi` says which name lies in which module.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
