"""Where tokens go: one file, a stream, a tree of files, shards."""

from tokenizer.outputs.job import Job, Outcome
from tokenizer.outputs.shards import Piece, chunks, to_shards
from tokenizer.outputs.stacked import is_unfinished, to_file, to_stream
from tokenizer.outputs.tree import to_tree

__all__ = ["Job", "Outcome", "Piece", "chunks", "is_unfinished", "to_file", "to_shards", "to_stream", "to_tree"]
