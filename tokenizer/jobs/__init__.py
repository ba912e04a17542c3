"""Whole jobs: images to files of tokens and back, with names, resume and shares."""

from __future__ import annotations

from tokenizer.jobs.encode import EncodeJob, Outcome
from tokenizer.jobs.one_file import encode_to_file, encode_to_stream, is_unfinished
from tokenizer.jobs.pictures import (
    Picture,
    contact_sheet,
    is_whole_picture,
    lay_out_sheet,
    picture_size,
    restore_picture,
    write_pictures,
)
from tokenizer.jobs.shards import Piece, encode_to_shards, shard_pieces
from tokenizer.jobs.tree import encode_to_tree

__all__ = [
    "EncodeJob",
    "Outcome",
    "Picture",
    "Piece",
    "contact_sheet",
    "encode_to_file",
    "encode_to_shards",
    "encode_to_stream",
    "encode_to_tree",
    "is_unfinished",
    "is_whole_picture",
    "lay_out_sheet",
    "picture_size",
    "restore_picture",
    "shard_pieces",
    "write_pictures",
]
