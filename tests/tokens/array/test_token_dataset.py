"""Tokens as items of a torch dataset."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from tests.tokens.array.conftest import COUNT, NAMES, lay, stacked, whole
from tokenizer.tokens import TokenDataset, load_tokens


@pytest.mark.parametrize(("codes", "shape"), [(1, (2, 3)), (2, (2, 3, 2))])
def test_items_are_int64(codes: int, shape: tuple[int, ...], tmp_path: Path) -> None:
    (path,) = lay("file of npy", tmp_path, whole(codes))
    dataset, expected = TokenDataset(path), torch.from_numpy(stacked(whole(codes)).astype(np.int64))
    assert isinstance(dataset, Dataset)
    assert (len(dataset), dataset.codebook_sizes, list(dataset.names)) == (COUNT, (1000,) * codes, NAMES)
    assert dataset[3].shape == shape
    assert torch.equal(dataset[3], expected[3])
    assert torch.equal(dataset[-1], expected[-1])
    assert torch.equal(torch.stack(dataset.__getitems__([5, 29, 5])), expected[[5, 29, 5]])
    assert list(dataset.__getitems__([])) == []
    dataset[3].zero_()  # an item is the caller's own
    assert torch.equal(dataset[3], expected[3])


def test_flat_items_keep_the_codes_of_a_position_together(tmp_path: Path) -> None:
    dataset = TokenDataset(load_tokens(*lay("parts of tar", tmp_path, whole(2))), flat=True)
    rows = stacked(whole(2)).astype(int)
    assert dataset[8].shape == (12,)
    assert dataset[8].tolist() == [rows[8, y, x, code] for y in range(2) for x in range(3) for code in range(2)]
    assert torch.equal(dataset.__getitems__([8])[0], dataset[8])


@pytest.mark.filterwarnings("ignore:This DataLoader will create 2 worker processes")  # where there is one core
@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_in_this_process_or_in_others(workers: int, tmp_path: Path) -> None:
    dataset = TokenDataset(load_tokens(*lay("shards of safetensors", tmp_path, whole())))
    assert dataset[0].shape == (2, 3)  # a file is open when workers are started
    context = multiprocessing.get_context("spawn") if workers else None
    batches = list(DataLoader(dataset, batch_size=7, num_workers=workers, multiprocessing_context=context))
    assert [len(batch) for batch in batches] == [7, 7, 7, 7, 2]
    assert torch.equal(torch.cat(batches), torch.from_numpy(stacked(whole()).astype(np.int64)))


def test_a_loader_that_shuffles_gives_every_image_once(tmp_path: Path) -> None:
    dataset = TokenDataset(lay("file of npy", tmp_path, whole())[0], flat=True)
    torch.manual_seed(0)
    drawn = torch.cat(list(DataLoader(dataset, batch_size=4, shuffle=True))).tolist()
    assert drawn != torch.stack(list(dataset)).tolist()
    assert sorted(drawn) == sorted(stacked(whole()).reshape(COUNT, -1).tolist())
