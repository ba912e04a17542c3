"""Tokens for those who train on them: one array, or a dataset of PyTorch (`dataset`, which imports torch)."""

from tokenizer.loading.array import TokenArray, load_tokens

__all__ = ["TokenArray", "load_tokens"]
