"""Whole jobs: images to files of tokens and back, with names, resume and shares."""

from __future__ import annotations

from tokenizer.jobs.decode_run import DecodeOptions, decode
from tokenizer.jobs.encode_job import EncodeJob
from tokenizer.jobs.encode_run import encode
from tokenizer.jobs.job_run import JobRun
from tokenizer.jobs.one_file import encode_to_file, encode_to_stream
from tokenizer.jobs.outcomes import OnError, Outcome, Totals
from tokenizer.jobs.shards import Piece, encode_to_shards, shard_pieces
from tokenizer.jobs.tree import encode_to_tree

__all__ = [
    "DecodeOptions",
    "EncodeJob",
    "JobRun",
    "OnError",
    "Outcome",
    "Piece",
    "Totals",
    "decode",
    "encode",
    "encode_to_file",
    "encode_to_shards",
    "encode_to_stream",
    "encode_to_tree",
    "shard_pieces",
]
