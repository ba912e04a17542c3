"""Settings that had another name in version 0.1."""

from __future__ import annotations

# Old name to new one, wherever it is set: of a run, or of a quantizer.
RENAMED = {
    "normalise": "normalize",
    "revival_patience": "dead_code_patience",
    "revive_until": "replace_dead_until",
}
