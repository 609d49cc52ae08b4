"""What the runs have found, for people: a table with a column for each queue, and bars; and as files."""

import json
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.bar import Bar
from rich.console import Console
from rich.table import Table

from coupons.benchmark.figures import Figures, Status

BAR_WIDTH = 40
LATENCIES = ("p50", "p90", "p99", "max")

# A label, and a cell for each queue.
Row = tuple[str, list[str]]


def show(found: Sequence[Figures], console: Console) -> None:
    """Print the table and the bars."""
    table = Table("", title=_title(found))
    for figures in found:
        table.add_column(figures.queue, justify="right")
    for label, cells in _rows(found):
        table.add_row(label, *cells)
    table.add_section()
    for label in found[0].faults:
        counts = [figures.faults[label] for figures in found]
        table.add_row(f"{label} (must be 0)", *(f"[red]{count:,}[/]" if count else "0" for count in counts))
    console.print(table, highlight=False)
    _show_latencies(found, console)
    for figures in found:
        _show_progress(figures, console)


def document(found: Sequence[Figures], seed: int) -> dict[str, Any]:
    """Return all that was found, for programs."""
    queues = {
        figures.queue: {
            **asdict(figures),
            "requests_per_second": figures.requests_per_second,
            "faults": figures.faults,
            "is_sound": figures.is_sound,
        }
        for figures in found
    }
    return {"machine": platform.platform(), "python": platform.python_version(), "seed": seed, "queues": queues}


def save(found: Sequence[Figures], seed: int, folder: Path) -> list[Path]:
    """Write results.json and results.md, over those of an earlier run, and return them."""
    folder.mkdir(parents=True, exist_ok=True)
    text, table = folder / "results.json", folder / "results.md"
    text.write_text(json.dumps(document(found, seed), indent=1) + "\n")
    table.write_text(_markdown(found))
    return [text, table]


def _title(found: Sequence[Figures]) -> str:
    return f"{found[0].users:,} users, {found[0].quantity:,} coupons"


def _rows(found: Sequence[Figures]) -> list[Row]:
    outcomes = [status for status in Status if any(status in figures.outcomes for figures in found)]
    refusals = sorted({code for figures in found for code in figures.refused})
    return [
        ("accepted, p50 (ms)", [_number(figures.accept_ms["p50"]) for figures in found]),
        ("accepted, p99 (ms)", [_number(figures.accept_ms["p99"]) for figures in found]),
        ("refused at once, p50 (ms)", [_number(figures.refuse_ms["p50"]) for figures in found]),
        ("refused at once, p99 (ms)", [_number(figures.refuse_ms["p99"]) for figures in found]),
        ("until every request has its final answer (s)", [f"{figures.final_seconds:.2f}" for figures in found]),
        ("requests a second", [_number(figures.requests_per_second) for figures in found]),
        ("in the processor, a request (ms)", [f"{figures.processor_ms_per_request:.2f}" for figures in found]),
        ("batches", [f"{len(figures.batch_sizes):,}" for figures in found]),
        ("requests in a batch, median and most", [_sizes(figures.batch_sizes) for figures in found]),
        *[(status.value, [f"{figures.outcomes.get(status, 0):,}" for figures in found]) for status in outcomes],
        *[
            (f"refused at once: {code}", [f"{figures.refused.get(code, 0):,}" for figures in found])
            for code in refusals
        ],
    ]


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _sizes(sizes: Sequence[int]) -> str:
    return f"{statistics.median(sizes):.0f}, {max(sizes):,}" if sizes else "0"


def _markdown(found: Sequence[Figures]) -> str:
    faults = [(label, [f"{figures.faults[label]:,}" for figures in found]) for label in found[0].faults]
    lines = [f"| {_title(found)} | {' | '.join(figures.queue for figures in found)} |", f"|---|{'---:|' * len(found)}"]
    lines += [f"| {label} | {' | '.join(cells)} |" for label, cells in [*_rows(found), *faults]]
    return "\n".join(lines) + "\n"


def _show_latencies(found: Sequence[Figures], console: Console) -> None:
    bars = Table.grid(padding=(0, 1))
    most = max(figures.accept_ms["max"] for figures in found)
    for percentile in LATENCIES:
        for figures in found:
            value = figures.accept_ms[percentile]
            bars.add_row(percentile, figures.queue, Bar(most, 0, value, width=BAR_WIDTH), f"{_number(value)} ms")
    console.print("\nUntil a request is accepted", style="bold")
    console.print(bars, highlight=False)


def _show_progress(figures: Figures, console: Console) -> None:
    bars = Table.grid(padding=(0, 1))
    for moment in figures.progress:
        for label, count in (("answered", moment.answered), ("final", moment.final)):
            at = f"{moment.at_seconds:.2f} s" if label == "answered" else ""
            bars.add_row(at, label, Bar(figures.users, 0, count, width=BAR_WIDTH), f"{count:,}")
    console.print(f"\n{figures.queue}: users who have an answer, and who have their final one", style="bold")
    console.print(bars, highlight=False)
