"""The errors that a person can cause.

VqtokError
├── UsageError       the call itself is wrong: a flag, a choice, a setting (exit code 2)
│   └── ConfigError      one or more settings, all faults listed
├── InputError       something named is missing, unreadable or empty
│   ├── ImageError       one image cannot be read
│   ├── TokenFileError   a token file is truncated, foreign, or does not fit
│   └── CheckpointError  a checkpoint is missing, damaged, or does not fit
├── OutputError      something cannot be written, or would be overwritten
├── DeviceError      the device is absent or out of memory
├── TrainingError    training cannot go on
└── NonFiniteError   a number that must be finite is not

A message is one line that says what, where, and what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

# What torch, the libraries below it, the loader and Python's threads say when memory runs out.
_NO_MEMORY = (
    "DefaultCPUAllocator",
    "annot allocate memory",
    "bad_alloc",
    "can't start new thread",
    "could not create a memory object",
    "could not create a primitive",
    "unable to mmap",
    "failed to map segment from shared object",
    "error return without exception set",
)


class VqtokError(Exception):
    """Base of every error that vqtok raises on purpose."""


class UsageError(VqtokError):
    """The call itself is wrong."""


class ConfigError(UsageError):
    """One or more settings are wrong; `faults` lists them all."""

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(self.faults))


class InputError(VqtokError):
    """Something that was named is missing, unreadable or empty."""


class ImageError(InputError):
    """One image cannot be read."""


class TokenFileError(InputError):
    """A token file is truncated, foreign, or does not fit."""


class CheckpointError(InputError):
    """A checkpoint is missing, damaged, or does not fit."""


class OutputError(VqtokError):
    """Something cannot be written, or would be overwritten."""


class DeviceError(VqtokError):
    """The device is absent or out of memory."""


class TrainingError(VqtokError):
    """Training cannot go on."""


class NonFiniteError(VqtokError):
    """A number that must be finite is not."""


def reason(error: BaseException) -> str:
    """Return what an error of the system or of a library says, on one line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    if isinstance(error, FileNotFoundError):  # fsspec's have a URL for a text
        return "no such file"
    return " ".join(str(error).split()) or type(error).__name__


def lacks_memory(error: BaseException) -> bool:
    """Return whether an error of torch, of a library below it, or of Python itself is for want of memory."""
    return any(words in str(error) for words in _NO_MEMORY)


def closest_name(name: str, known: Iterable[str]) -> str | None:
    """Return the known name closest to `name`, or None where none is near."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return close[0] if close else None


def nearest_name(name: str, known: Iterable[str]) -> str:
    """Return `, did you mean 'x'?` for the known name closest to `name`, or an empty string."""
    closest = closest_name(name, known)
    return f", did you mean {closest!r}?" if closest else ""
