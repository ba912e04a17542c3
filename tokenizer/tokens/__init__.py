"""Tokens: files of them, folders of files, and arrays and data sets for those who train on them."""

from __future__ import annotations

import lazy_loader

# `__init__.pyi` says which name lies in which module.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
