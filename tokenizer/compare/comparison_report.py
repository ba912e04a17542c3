"""The report of a comparison: what was compared, how, and the ranking; as JSON, and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tokenizer.compare.comparison import Comparison
from tokenizer.compare.measures import COMPARISON_DEFINITIONS
from tokenizer.compare.ranking import STEPS_TO_COMMON, ContestantRow, Ranking
from tokenizer.config import to_dict
from tokenizer.metrics import FEW_TOKENS_PER_CODE

COMPARISON_VERSION = 2
COMPARISON_FILE = "comparison.json"


@dataclass(frozen=True)
class ComparisonReport:
    """A comparison with its ranking.

    Attributes:
        comparison: what was compared.
        ranking: means, spreads and ranks.
        command: that makes it again; empty where none did.
    """

    comparison: Comparison
    ranking: Ranking
    command: str

    def settings(self) -> dict[str, Any]:
        """Return what all entries share."""
        values = to_dict(self.comparison.entries[0].plan.config)
        del values["quantizer"], values["seed"]
        return values

    def machines(self) -> list[Mapping[str, Any]]:
        """Return the machines that the entries ran on, each once."""
        found = [result.machine for row in self.ranking.ranked for result in row.results]
        return [machine for number, machine in enumerate(found) if machine not in found[:number]]

    def remarks(self) -> list[str]:
        """Return what a reader of the table must know, one line each."""
        lines = self.comparison.remarks()
        failed = [failure for row in self.ranking.rows if row.kind != "soft" for failure in row.failures]
        lines += [f"{failure.label} with seed {failure.seed} failed: {failure.reason}" for failure in failed]
        skipped = [(r.quantizer, r.seed, r.skipped) for row in self.ranking.ranked for r in row.results if r.skipped]
        lines += [f"{label} with seed {seed}: {count} steps had no finite gradient" for label, seed, count in skipped]
        few = [row.label for row in self.ranking.ranked if _few_tokens(row)]
        if few:
            about = "" if len(few) == len(self.ranking.ranked) else f" of {', '.join(few)}"
            few_tokens = f"fewer than {FEW_TOKENS_PER_CODE} validation tokens a code{about}"
            lines.append(f"{few_tokens}: used and perplexity are low for that alone")
        if len(self.machines()) > 1:
            lines.append("the entries ran on several machines: times and memory cannot be compared")
        return lines

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain values, with the definition of each figure."""
        plan = self.comparison.entries[0].plan
        return {
            "version": COMPARISON_VERSION,
            "command": self.command,
            "ranking": [row.label for row in self.ranking.ranked],
            "common_psnr": self.ranking.common_psnr,
            "contestants": [_contestant(row) for row in self.ranking.rows],
            "remarks": self.remarks(),
            "seeds": self.comparison.seeds,
            "images": {
                "train": len(plan.train),
                "validation": len(plan.validation),
                "seen_in_training": plan.overlap,
            },
            "settings": self.settings(),
            "machines": self.machines(),
            "definitions": COMPARISON_DEFINITIONS,
        }

    def to_csv(self) -> str:
        """Return a line for each contestant: rank, label, kind, finished seeds, mean and spread of each figure."""
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(
            [
                "rank",
                "quantizer",
                "kind",
                "seeds",
                *(column for name in COMPARISON_DEFINITIONS for column in (name, f"{name}_spread")),
            ]
        )
        for row in self.ranking.rows:
            seeds = " ".join(str(result.seed) for result in row.results)
            writer.writerow([row.rank, row.label, row.kind, seeds, *_cells(row)])
        return stream.getvalue()


def _few_tokens(row: ContestantRow) -> bool:
    result = row.results[0]
    return result.figures.tokens < FEW_TOKENS_PER_CODE * sum(result.codebook_sizes)


def _contestant(row: ContestantRow) -> dict[str, Any]:
    own = row.results if row.kind != "soft" else ()
    return {
        "quantizer": row.label,
        "kind": row.kind,
        "rank": row.rank,
        "figures": {name: asdict(stat) for name, stat in row.figures.items()},
        "spec": own[0].settings["quantizer"] if own else None,
        "codebook_sizes": own[0].codebook_sizes if own else None,
        "latent_dim": own[0].settings["network"]["latent_dim"] if own else None,
        "entries": [_entry(asdict(result)) for result in own],
        "failed": [{"seed": failure.seed, "reason": failure.reason} for failure in row.failures],
    }


def _entry(values: dict[str, Any]) -> dict[str, Any]:
    kept = ("seed", "steps", "seconds", "skipped", "figures", "curves")
    return {key: values[key] for key in kept}


def _cells(row: ContestantRow) -> Iterator[float | None]:
    for name in COMPARISON_DEFINITIONS:
        stat = row.figures.get(name)
        yield stat.mean if stat else None
        # A mean curve is one curve.
        yield stat.spread if stat and name != STEPS_TO_COMMON else None
