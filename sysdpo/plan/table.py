"""The plan as a table to read, and as one to compute with."""

import csv
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from sysdpo.files import whole
from sysdpo.plan.cards import ARITHMETIC_REACHED, CARDS, GIB, READING_REACHED, RESERVED_SHARE, Card, start_seconds
from sysdpo.plan.rules import Row, SystemPlan

HEADINGS = ("rule", "jobs", "parameters", "trained", "reference", "GPU memory", "FLOP", "tokens", "images", "disk")
NONE = "–"
DOES_NOT_FIT = "no"


def hours(row: Row, card: Card) -> float:
    """GPU-hours of all jobs of a row, those that run no model taking none."""
    if not row.memory:
        return 0.0
    return (card.seconds(row.usage) + row.jobs * start_seconds(row.weights)) / 3600


def written(rows: Sequence[Row], systems: Sequence[SystemPlan]) -> str:
    """The table, what it rests on, and what it comes to."""
    cells = [_cells(row) for row in rows]
    heading = [*HEADINGS, *CARDS]
    widths = [max(len(line[place]) for line in [heading, *cells]) for place in range(len(heading))]
    lines = [_line(heading, widths)]
    for name, group in groupby(zip(rows, cells, strict=True), key=lambda each: each[0].system):
        lines += ["", name] if name else [""]
        lines += [_line(line, widths) for _, line in group]
    return "\n".join([*lines, "", *_legend(), "", *_assumptions(systems), "", _totals(rows, systems), ""])


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [cell.rjust(width) for cell, width in zip(cells, widths, strict=True)]
    return "  ".join([cells[0].ljust(widths[0]), *padded[1:]]).rstrip()


def _cells(row: Row) -> list[str]:
    return [
        row.rule,
        str(row.jobs),
        short(row.parameters),
        short(row.trainable),
        NONE if row.reference is None else f"+{short(row.reference) if row.reference else 0} B",
        _memory(row.memory),
        short(row.usage.total_flops),
        short(row.tokens),
        short(row.images),
        f"{short(row.disk)}B" if row.disk else NONE,
        *(_on(card, row) for card in CARDS.values()),
    ]


def _memory(size: float) -> str:
    return NONE if not size else f"{size / GIB:.1f} GiB" if size >= GIB else f"{1024 * size / GIB:.0f} MiB"


def _on(card: Card, row: Row) -> str:
    if not row.memory:
        return NONE
    return f"{hours(row, card):.2f} h" if card.fits(row.memory) else DOES_NOT_FIT


def short(number: float) -> str:
    """Three digits and a unit: `8.07 G`; a dash for nothing."""
    if not number:
        return NONE
    for unit in ("", "k", "M", "G", "T", "P", "E"):
        if abs(number) < 999.5 or unit == "E":
            break
        number /= 1000
    digits = 0 if abs(number) >= 99.5 or not unit else 1 if abs(number) >= 9.95 else 2
    return f"{number:.{digits}f} {unit}"


def _legend() -> list[str]:
    return [
        "Of one job: parameters, trained, reference (what it takes beside the policy, whose model it is), GPU memory.",
        "Of all jobs: FLOP, tokens, images, disk and, under each card, hours; 'no' where a job does not fit: its",
        f"memory, {RESERVED_SHARE:.0%} more for gaps and 1 GiB for CUDA itself are more than the card has.",
    ]


def _assumptions(systems: Sequence[SystemPlan]) -> list[str]:
    lines = [
        f"Assumed: {ARITHMETIC_REACHED:.0%} of a card's peak in arithmetic; {READING_REACHED:.0%} of its memory's",
        "speed where tokens are generated; prompts (the longest in brackets) and answers of so many tokens:",
    ]
    for system in systems:
        lengths = [
            f"{name} {part.typical.prompt} ({part.longest.prompt}) and {part.typical.completion}"
            for name, part in system.language_models.items()
        ]
        if lengths:
            unknown = "" if system.has_prompts else ", where the data set is not here"
            lines.append(f"  {system.name}: {'; '.join(lengths)}{unknown}")
    return lines


def _totals(rows: Sequence[Row], systems: Sequence[SystemPlan]) -> str:
    with_model = [row for row in rows if row.memory]
    if not with_model:
        return "In all, no GPU-hours: no rule runs a model."
    largest = max(with_model, key=lambda row: row.memory)
    spent = []
    for card in CARDS.values():
        fitting = [row for row in with_model if card.fits(row.memory)]
        missing = len(with_model) - len(fitting)
        total = f"{sum(hours(row, card) for row in fitting):.1f} on {card.name}"
        spent.append(total + (f" (without {missing} rules that do not fit)" if missing else ""))
    models = {name: size for system in systems for name, size in system.models.items()}
    downloads = f", {short(sum(models.values()))}B for the models {', '.join(models)}" if models else ""
    return "\n".join(
        [
            f"In all, GPU-hours: {', '.join(spent)}.",
            f"Disk: {short(sum(row.disk for row in rows))}B for results{downloads}.",
            f"The largest peak is {_memory(largest.memory)}, in '{largest.rule}' of {largest.system}.",
        ]
    )


def write_csv(rows: Sequence[Row], output: Path) -> None:
    """A line a row, bytes and hours in numbers; hours are left empty where a job does not fit."""
    columns = ["system", "rule", "jobs", "parameters", "trained", "reference_bytes", "peak_bytes", "flops"]
    columns += ["tokens", "images", "disk_bytes"]
    with whole(output) as path, path.open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow([*columns, *(f"hours {name}" for name in CARDS)])
        for row in rows:
            reference = "" if row.reference is None else row.reference
            counts = [round(each) for each in (row.memory, row.usage.total_flops, row.tokens, row.images, row.disk)]
            spent = [f"{hours(row, card):.4f}" if card.fits(row.memory) else "" for card in CARDS.values()]
            table.writerow([row.system, row.rule, row.jobs, row.parameters, row.trainable, reference, *counts, *spent])
