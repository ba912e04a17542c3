"""What names images: files, folders, lists, archives, URLs, a stream; their names and order, before any is read."""

from tokenizer.inputs.archives import Archive
from tokenizer.inputs.gathering import Inputs, find, from_stream, gather
from tokenizer.inputs.listing import Listing
from tokenizer.inputs.lists import entries

__all__ = ["Archive", "Inputs", "Listing", "entries", "find", "from_stream", "gather"]
