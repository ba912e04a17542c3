"""Where codes start: k-means on latents, and a short way through points."""

from __future__ import annotations

import torch

from tokenizer.quantizers.k_means import k_means, short_tour


def test_spread_puts_codes_on_clusters() -> None:
    torch.manual_seed(0)
    centers = torch.tensor([[0.0, 0], [10, 0], [0, 10]])
    z = centers[torch.arange(3000) % 3] + 0.1 * torch.randn(3000, 2)
    codes = k_means(z, 30)
    assert torch.cdist(codes, centers).amin(dim=1).max() < 0.6
    error = torch.cdist(z, codes).amin(dim=1).square().mean()
    assert error < 0.1**2 * 2 / 5, "30 codes must explain far more than 3 centers do"


def test_spread_is_a_fixed_point_of_its_own_step() -> None:
    torch.manual_seed(0)
    z = torch.randn(200, 2)
    codes = k_means(z, 5, iterations=100)
    owner = torch.cdist(z, codes).argmin(dim=1)
    means = torch.stack([z[owner == code].mean(dim=0) for code in range(5)])
    torch.testing.assert_close(codes, means)


def test_spread_with_fewer_latents_than_codes_gives_distinct_codes() -> None:
    torch.manual_seed(0)
    codes = k_means(torch.randn(7, 3), 50)
    assert codes.shape == (50, 3)
    assert torch.isfinite(codes).all()
    assert len(codes.unique(dim=0)) == 50


def test_spread_of_equal_latents_is_finite() -> None:
    assert torch.equal(k_means(torch.ones(10, 3), 4), torch.ones(4, 3))


def test_spread_takes_half_precision() -> None:
    # Half of the latents at 1, half at 3, both whole in bfloat16.
    z = (1 + 2.0 * (torch.arange(40) % 2))[:, None].bfloat16()
    torch.manual_seed(0)
    codes = k_means(z, 2)
    assert codes.dtype == torch.float32
    assert sorted(codes.flatten().tolist()) == [1, 3]


def test_tour_goes_on_to_the_nearest_left() -> None:
    # The mean is 3.6, so the tour starts at 9, the farthest; then 5, 3 and 1 in turn, and 0 last.
    points = torch.tensor([[3.0], [9.0], [0.0], [5.0], [1.0]])
    assert short_tour(points).tolist() == [1, 3, 0, 4, 2]


def test_tour_in_the_plane_by_hand() -> None:
    # Mean (2, 0.6), the farthest point is (6, 0). Its nearest is (3, 0), from there (1, 0), (0, 0), (0, 3).
    points = torch.tensor([[0.0, 0.0], [6.0, 0.0], [0.0, 3.0], [3.0, 0.0], [1.0, 0.0]])
    assert short_tour(points).tolist() == [1, 3, 4, 0, 2]


def test_tour_visits_each_point_once_also_where_they_are_equal() -> None:
    torch.manual_seed(0)
    for points in (torch.randn(50, 4), torch.ones(6, 2), torch.zeros(1, 3)):
        order = short_tour(points)
        assert order.dtype == torch.int64
        assert sorted(order.tolist()) == list(range(len(points)))


def test_tour_of_a_line_is_the_line() -> None:
    along = torch.arange(40.0)
    points = torch.stack([along, -2 * along], dim=1)[torch.randperm(40, generator=torch.Generator().manual_seed(0))]
    steps = points[short_tour(points)].diff(dim=0).norm(dim=1)
    torch.testing.assert_close(steps, torch.full((39,), 5**0.5))
