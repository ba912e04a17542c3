"""What names images: files, folders, lists, archives, URLs, a stream, data sets of Python.

Their names and order are known before any is read. torch and fsspec are imported once a data set or a URL is named.
"""

from __future__ import annotations

from tokenizer.inputs.archives import Archive
from tokenizer.inputs.datasets import dataset_image, dataset_sources
from tokenizer.inputs.gathering import Inputs, find_images, gather_inputs, inputs_from_stream
from tokenizer.inputs.listing import Listing
from tokenizer.inputs.named_inputs import NamedInputs
from tokenizer.inputs.path_lists import read_path_list

__all__ = [
    "Archive",
    "Inputs",
    "Listing",
    "NamedInputs",
    "dataset_image",
    "dataset_sources",
    "find_images",
    "gather_inputs",
    "inputs_from_stream",
    "read_path_list",
]
