"""What was measured, and what it says of the issue's aims: as a table, as files, and as a plot."""

import json
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Row:
    """One quantity, measured once a round."""

    part: str
    subject: str
    unit: str
    values: list[float]
    # Compared with it in the plot: the subject of another row of this part.
    group: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.values)


@dataclass(frozen=True)
class Aim:
    """What the issue asks for: a ratio, a size or a count, and its limit. Never a time."""

    part: str
    text: str
    value: float
    limit: float
    at_most: bool = False

    @property
    def holds(self) -> bool:
        return self.value <= self.limit if self.at_most else self.value >= self.limit

    @property
    def is_error(self) -> bool:
        """Something was lost, doubled or out of order: no ratio, which another minute might change."""
        return not self.holds and self.at_most and self.limit == 0


@dataclass
class Report:
    """All that one run of the benchmarks has found."""

    rows: list[Row] = field(default_factory=list)
    aims: list[Aim] = field(default_factory=list)

    def add(self, part: str, subject: str, unit: str, values: Sequence[float], *, group: str = "") -> Row:
        """Add a quantity, measured once a round. Those of one group are plotted side by side."""
        row = Row(part, subject, unit, list(values), group)
        self.rows.append(row)
        return row

    def aim(self, part: str, text: str, value: float, *, at_least: float | None = None, at_most: float = 0.0) -> None:
        """Hold a value against the issue's limit."""
        limit = at_most if at_least is None else at_least
        self.aims.append(Aim(part, text, value, limit, at_most=at_least is None))


def ratio(ours: Sequence[float], baseline: Sequence[float]) -> float:
    """Return the median of the rounds' ratios: both of a round were measured in the same minute."""
    return statistics.median(one / other for one, other in zip(ours, baseline, strict=True))


def number(value: float) -> str:
    """Return a number as a person reads it: three digits that say something."""
    if value == int(value) or abs(value) >= 1_000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def show(report: Report, console: Console) -> None:
    """Print what was measured and what holds."""
    table = Table("part", "what", "median", "unit", "runs", title="Measured")
    for row in report.rows:
        runs = "  ".join(number(value) for value in row.values) if len(row.values) > 1 else ""
        table.add_row(row.part, row.subject, number(row.median), row.unit, runs)
    for position in (2, 4):
        table.columns[position].justify = "right"
    console.print(table)
    if report.aims:
        console.print(_aims(report.aims))


def _aims(aims: Sequence[Aim]) -> Table:
    table = Table("part", "aim", "measured", "limit", "holds", title="Aims of the issue")
    for aim in aims:
        verdict = "[green]yes[/]" if aim.holds else "[red]NO[/]"
        table.add_row(aim.part, aim.text, number(aim.value), _limit(aim), verdict)
    return table


def _limit(aim: Aim) -> str:
    return f"{'≤' if aim.at_most else '≥'} {number(aim.limit)}"


def save(report: Report, folder: Path) -> list[Path]:
    """Write the report as JSON, Markdown and, if there is something to draw, a plot, over those of an earlier run.

    Return the files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    text, table, plot = folder / "results.json", folder / "results.md", folder / "results.svg"
    text.write_text(json.dumps({"machine": machine(), **_plain(report)}, indent=1) + "\n")
    table.write_text(_markdown(report))
    plot.unlink(missing_ok=True)
    groups: dict[str, list[Row]] = {}
    for row in report.rows:
        if row.group:
            groups.setdefault(row.group, []).append(row)
    if not groups:
        return [text, table]
    _plot(groups, plot)
    return [text, table, plot]


def machine() -> str:
    """Return what it was measured on."""
    memory = psutil.virtual_memory().total / 2**30
    return f"{psutil.cpu_count()} cores, {memory:.0f} GB, {platform.system()}, Python {platform.python_version()}"


def _plain(report: Report) -> dict[str, Any]:
    return {
        "rows": [{**asdict(row), "median": row.median} for row in report.rows],
        "aims": [{**asdict(aim), "holds": aim.holds} for aim in report.aims],
    }


def _markdown(report: Report) -> str:
    lines = [f"Measured on {machine()}. Medians.", "", "| part | what | median | unit |", "|---|---|---:|---|"]
    lines += [f"| {row.part} | {row.subject} | {number(row.median)} | {row.unit} |" for row in report.rows]
    lines += ["", "| part | aim | measured | limit | holds |", "|---|---|---:|---:|---|"]
    lines += [
        f"| {aim.part} | {aim.text} | {number(aim.value)} | {_limit(aim)} | {'yes' if aim.holds else '**no**'} |"
        for aim in report.aims
    ]
    return "\n".join(lines) + "\n"


def _plot(groups: Mapping[str, Sequence[Row]], file: Path) -> None:
    """Draw a bar for each row of each group, with its slowest and its fastest run as a whisker."""
    # Only here: of benchmarks/requirements.txt, which a part that draws nothing does without.
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot

    heights = [len(rows) + 1.2 for rows in groups.values()]
    figure, axes = pyplot.subplots(
        len(groups), 1, figsize=(9, 0.36 * sum(heights) + 0.6), squeeze=False, gridspec_kw={"height_ratios": heights}
    )
    for axis, (title, rows) in zip(axes[:, 0], groups.items(), strict=True):
        medians = [row.median for row in rows]
        whiskers = [[row.median - min(row.values) for row in rows], [max(row.values) - row.median for row in rows]]
        colours = ["#0f766e" if row.subject.startswith("ours") else "#94a3b8" for row in rows]
        bars = axis.barh([row.subject for row in rows], medians, xerr=whiskers, color=colours, ecolor="#475569")
        axis.bar_label(bars, [f" {number(median)}" for median in medians], padding=2, fontsize=8)
        axis.set_title(f"{title} ({rows[0].unit})", loc="left", fontsize=9)
        axis.invert_yaxis()
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(file)
