"""Means, spreads, ranks, and the first step at which a curve reaches a level."""

from __future__ import annotations

import statistics

import pytest

from tests.compare.conftest import made
from tokenizer.compare import FailedEntry, rank_entries, ranking_rows, shown_columns
from tokenizer.compare.columns import COLUMNS, RankingColumn, contestant_name, contestant_rank
from tokenizer.compare.measures import SoftFigures
from tokenizer.compare.ranking import SeedMean, first_step_reaching, mean_curve, seed_mean


def test_ranked_by_mean_psnr_over_seeds() -> None:
    results = [made("a", 0, 20.0), made("b", 0, 21.0), made("a", 1, 24.0), made("b", 1, 22.0), made("c", 0, 25.0)]
    table = rank_entries(["a", "b", "c"], results, [])
    assert [(row.rank, row.label) for row in table.rows] == [(1, "c"), (2, "a"), (3, "b")]
    a = table.rows[1]
    assert a.figures["psnr"] == SeedMean(22.0, pytest.approx(statistics.stdev([20, 24])))
    assert [result.seed for result in a.results] == [0, 1]
    assert table.rows[0].figures["psnr"] == SeedMean(25.0, None)
    assert table.common_psnr == 21.5


def test_equals_keep_the_order_given_and_exact_pictures_come_first() -> None:
    results = [made("a", 0, 20.0), made("b", 0, 20.0), made("c", 0, None)]
    table = rank_entries(["b", "a", "c"], results, [])
    assert [row.label for row in table.rows] == ["c", "b", "a"]
    assert table.common_psnr == 20.0
    assert contestant_rank(table.rows[0]) == "1"


def test_spread_is_that_of_a_sample() -> None:
    assert seed_mean([1.0]) == SeedMean(1.0, None)
    assert seed_mean([1.0, 3.0]) == SeedMean(2.0, pytest.approx(2**0.5))
    assert seed_mean([1.0, 2.0, 3.0]) == SeedMean(2.0, 1.0)
    assert seed_mean([]) == SeedMean(None)
    assert seed_mean([1.0, None]) == SeedMean(None), "a mean over the other seeds would be of other runs"


def test_soft_pictures_come_last_and_are_never_ranked() -> None:
    soft = SoftFigures(99.0, 1.0)
    results = [made("gumbel", seed, 20.0 + seed, soft=soft) for seed in (0, 1)] + [made("ste", 0, 19.0)]
    table = rank_entries(["ste", "gumbel", "ema"], results, [FailedEntry("ema", 0, "why")])
    assert [(row.kind, row.rank, row.label) for row in table.rows] == [
        ("ranked", 1, "gumbel"),
        ("ranked", 2, "ste"),
        ("failed", None, "ema"),
        ("soft", None, "gumbel, soft (not decodable from tokens)"),
    ]
    assert table.rows[3].figures == {"psnr": SeedMean(99.0, 0.0), "ssim": SeedMean(1.0, 0.0)}
    assert table.common_psnr == 19.0


def test_failed_seeds_are_told() -> None:
    failures = [FailedEntry("a", 1, "no memory"), FailedEntry("b", 0, "not finite"), FailedEntry("b", 1, "not finite")]
    table = rank_entries(["a", "b"], [made("a", 0, 20.0)], failures)
    assert [contestant_name(row) for row in table.rows] == ["a (1 of 2 seeds)", "b (failed)"]
    assert [(row.kind, contestant_rank(row)) for row in table.rows] == [("ranked", "1"), ("failed", "-")]
    assert ranking_rows(table)[2][:2] == ("-", "b (failed)")
    assert rank_entries(["b"], [], failures).common_psnr is None


def test_steps_to_the_lowest_final_psnr() -> None:
    slow = made("slow", 0, 20.0, curve=((4.0, 10.0), (8.0, 15.0), (12.0, 20.0)))
    fast = made("fast", 0, 30.0, curve=((4.0, 10.0), (8.0, 30.0), (12.0, 30.0)))
    at_once = made("at once", 0, 25.0, curve=((4.0, 22.0), (12.0, 25.0)))
    table = rank_entries(["slow", "fast", "at once"], [slow, fast, at_once], [])
    steps = {row.label: row.figures["steps_to_common"].mean for row in table.rows}
    assert steps == {"slow": 12.0, "fast": pytest.approx(6.0), "at once": 4.0}
    assert [column.title for column in shown_columns(table) if column.key == "steps_to_common"] == ["steps to 20.00 dB"]


def test_steps_to_common_are_of_the_mean_over_seeds() -> None:
    """One seed alone never reaches the common PSNR, which is the mean of both."""
    low = made("a", 0, 18.0, curve=((4.0, 10.0), (12.0, 18.0)))
    high = made("a", 1, 22.0, curve=((4.0, 14.0), (12.0, 22.0)))
    table = rank_entries(["a"], [low, high], [])
    assert table.rows[0].figures["steps_to_common"] == SeedMean(12.0)


def test_mean_of_curves_with_other_steps() -> None:
    """Runs of some minutes end at different steps."""
    one, two = ((0.0, 0.0), (10.0, 10.0)), ((2.0, 4.0), (6.0, 8.0), (14.0, 16.0))
    assert mean_curve([one, two]) == [(2.0, 3.0), (6.0, 7.0), (10.0, 11.0)]
    assert mean_curve([one]) == list(one)
    assert mean_curve([]) == []
    assert mean_curve([one, ()]) == []
    assert mean_curve([((0.0, 1.0), (1.0, 1.0)), ((5.0, 1.0), (6.0, 1.0))]) == []


def test_first_step() -> None:
    curve = [(10.0, 1.0), (20.0, 3.0), (30.0, 2.0), (40.0, 4.0)]
    assert first_step_reaching([curve], 2.0) == 15.0
    assert first_step_reaching([curve], 0.0) == 10.0
    assert first_step_reaching([curve], 3.5) == 37.5
    assert first_step_reaching([curve], 4.0) == 40.0
    assert first_step_reaching([curve], 4.1) is None


def test_figures_are_shown_with_their_spread() -> None:
    psnr, used = COLUMNS[0], next(column for column in COLUMNS if column.key == "used")
    assert psnr.show(SeedMean(23.801, 0.0512)) == "23.80 ±0.05"
    assert psnr.show(SeedMean(23.801)) == "23.80"
    assert psnr.show(SeedMean(None)) == psnr.show(None) == "-"
    assert used.show(SeedMean(0.9834, 0.002)) == "98.3 ±0.2"
    assert RankingColumn("x", "x", 0).show(SeedMean(3.0, 1.0)) == "3"


def test_rows_hold_the_shown_figures_without_empty_columns() -> None:
    rows = ranking_rows(rank_entries(["a", "longer"], [made("a", 0, 20.0), made("longer", 0, 9.5)], []))
    assert [row[:3] for row in rows] == [
        ("#", "quantizer", "PSNR dB"),
        ("1", "a", "20.00"),
        ("2", "longer", "9.50"),
    ]
    assert len(set(map(len, rows))) == 1
    assert "peak MB" not in rows[0]
