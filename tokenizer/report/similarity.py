"""Order by similarity: vectors laid out on a grid so that neighbors are alike."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float64]

_COMPONENTS = 16
_GROUP = 128
_SHRINK = 0.9
_NARROWEST = 0.4


def grid_shape(count: int) -> tuple[int, int]:
    """Return (rows, columns) of the squarest grid for so many cells, at least one; the last row may be shorter."""
    columns = math.ceil(math.sqrt(count))
    return -(-count // columns), columns


def similar_order(features: Vectors, *, seed: int = 0) -> NDArray[np.int64]:
    """Return which of N vectors goes into each cell of `grid_shape(N)`, row by row, so that neighbors are alike.

    Linear assignment sorting: the grid is blurred, and vectors are assigned to the cells so that the squared distances
    to the blurred grid are least; then with less blur, again. In random groups of cells, which costs little quality
    and makes 16,384 vectors affordable; and on the first principal components.

    Source: Barthel, Hezel, Jung, Schall, "Improved Evaluation and Generation of Grid Layouts Using Distance
    Preservation Quality and Linear Assignment Sorting" (Computer Graphics Forum 2023), section 5.

    Args:
        features: (N, D), N at least 1.
        seed: of the groups.
    """
    from scipy.optimize import linear_sum_assignment
    from scipy.spatial.distance import cdist

    vectors, random = _components(features), np.random.default_rng(seed)
    order = _by_components(vectors)
    radius = max(grid_shape(len(vectors))) / 4
    while radius > _NARROWEST:
        blurred = _blurred(vectors[order], radius)
        cells = random.permutation(len(order))
        for group in np.split(cells, range(_GROUP, len(cells), _GROUP)):
            _, taken = linear_sum_assignment(cdist(blurred[group], vectors[order[group]], "sqeuclidean"))
            order[group] = order[group][taken]
        radius *= _SHRINK
    return order


def _components(features: Vectors) -> Vectors:
    centerd = features - features.mean(0)
    left, values, _ = np.linalg.svd(centerd, full_matrices=False)
    components: Vectors = (left * values)[:, :_COMPONENTS]
    return components


def _by_components(vectors: Vectors) -> NDArray[np.int64]:
    """Return rows by the first component, and each row by the second."""
    _, columns = grid_shape(len(vectors))
    rows = np.split(np.argsort(vectors[:, 0], kind="stable"), range(columns, len(vectors), columns))
    second = vectors[:, min(1, vectors.shape[1] - 1)]
    return np.concatenate([row[np.argsort(second[row], kind="stable")] for row in rows])


def _blurred(cells: Vectors, radius: float) -> Vectors:
    """Return the (N, D) cells of a grid, each the Gaussian mean of those around it; cells that are empty count not."""
    from scipy.ndimage import gaussian_filter

    shape = grid_shape(len(cells))
    whole = np.zeros((shape[0] * shape[1], cells.shape[1] + 1))
    whole[: len(cells), :-1], whole[: len(cells), -1] = cells, 1
    blurred: Vectors = gaussian_filter(whole.reshape(*shape, -1), (radius, radius, 0), mode="nearest")
    flat = blurred.reshape(len(whole), -1)[: len(cells)]
    return flat[:, :-1] / flat[:, -1:]
