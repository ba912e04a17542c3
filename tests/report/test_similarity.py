"""Vectors on a grid: neighbors are alike."""

from __future__ import annotations

import numpy as np
import pytest

from tokenizer.report.similarity import grid_shape, similar_order


def between_neighbors(vectors: np.ndarray, order: np.ndarray) -> float:
    """Mean distance between cells side by side and one above the other, of a grid that is full."""
    rows, columns = grid_shape(len(vectors))
    grid = vectors[order].reshape(rows, columns, -1)
    steps = [np.linalg.norm(np.diff(grid, axis=axis), axis=-1).ravel() for axis in (0, 1)]
    return float(np.concatenate(steps).mean())


@pytest.mark.parametrize(
    ("count", "shape"), [(1, (1, 1)), (2, (1, 2)), (3, (2, 2)), (5, (2, 3)), (512, (23, 23)), (1024, (32, 32))]
)
def test_grids_are_about_square(count: int, shape: tuple[int, int]) -> None:
    assert grid_shape(count) == shape


@pytest.mark.parametrize("count", [1, 2, 3, 7, 150])
@pytest.mark.parametrize("width", [1, 2, 40])
def test_every_vector_has_a_cell(count: int, width: int) -> None:
    vectors = np.random.default_rng(0).normal(size=(count, width))
    assert sorted(similar_order(vectors)) == list(range(count))


def test_equal_vectors() -> None:
    assert sorted(similar_order(np.ones((10, 3)))) == list(range(10))


def test_a_lattice_is_found_again() -> None:
    """Points of a 12 x 12 lattice lie 1 apart from their neighbors, in no order closer on average."""
    lattice = np.stack(np.mgrid[0:12, 0:12], axis=-1).reshape(-1, 2).astype(float)
    shuffled = 5 + np.random.default_rng(1).permutation(lattice)
    assert between_neighbors(shuffled, np.arange(144)) > 5
    assert between_neighbors(shuffled, similar_order(shuffled)) < 1.15


def test_colors_lie_closer_than_sorted_by_their_components() -> None:
    colors = np.random.default_rng(2).uniform(size=(400, 3))
    rows = np.split(np.argsort(colors[:, 0]), 20)
    sorted_twice = np.concatenate([row[np.argsort(colors[row, 1])] for row in rows])
    found = between_neighbors(colors, similar_order(colors))
    assert found < 0.8 * between_neighbors(colors, sorted_twice)


def test_equal_seeds_give_equal_orders() -> None:
    vectors = np.random.default_rng(3).normal(size=(300, 5))
    assert np.array_equal(similar_order(vectors, seed=4), similar_order(vectors, seed=4))
    assert not np.array_equal(similar_order(vectors, seed=4), similar_order(vectors, seed=5))
