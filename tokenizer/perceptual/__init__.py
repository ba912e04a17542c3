"""What trained networks see: VGG-16 and EfficientNet-Lite0, the distance of their features, and what they recognize.

Asking whether the extra is installed needs no torch.
"""

from __future__ import annotations

import lazy_loader

# `__init__.pyi` says which name lies in which module.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
