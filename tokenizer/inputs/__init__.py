"""What names images: files, folders, lists, archives, URLs, a stream; their names and order, before any is read."""

from __future__ import annotations

from tokenizer.inputs.archives import Archive
from tokenizer.inputs.gathering import Inputs, find_images, gather_inputs, inputs_from_stream
from tokenizer.inputs.listing import Listing
from tokenizer.inputs.named_inputs import NamedInputs
from tokenizer.inputs.path_lists import read_path_list

__all__ = [
    "Archive",
    "Inputs",
    "Listing",
    "NamedInputs",
    "find_images",
    "gather_inputs",
    "inputs_from_stream",
    "read_path_list",
]
