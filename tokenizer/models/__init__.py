"""The tokenizer: network, quantizer and checkpoint, and the checkpoints that ship. Describing one needs no torch."""

from __future__ import annotations

import lazy_loader

# `__init__.pyi` says which name lies in which module.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
