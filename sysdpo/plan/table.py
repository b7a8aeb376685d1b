"""The plan as a table to read, and as one to compute with."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from sysdpo.base.files import whole
from sysdpo.plan.cards import (
    ARITHMETIC_REACHED,
    CARDS,
    GIB,
    READING_REACHED,
    RESERVED_BYTES,
    RESERVED_SHARE,
    START_SECONDS,
    Card,
    start_seconds,
)
from sysdpo.plan.rules import Row, SystemPlan

GROUPS = {
    "": ("rule", "jobs"),
    "each job": ("weights", "trained", "reference", "GPU memory"),
    "all jobs": ("FLOP", "tokens", "images", "disk"),
    "all jobs, GPU-hours on": tuple(CARDS),
}
NONE = "–"
DOES_NOT_FIT = "no fit"
LONGEST_NAME = 34  # characters
GAP = "  "


def hours(row: Row, card: Card) -> float:
    """GPU-hours of all jobs of a row, those that run no model taking none."""
    if not row.memory:
        return 0.0
    return (card.seconds(row.usage) + row.jobs * row.gpus * start_seconds(row.weights)) / 3600


def written(rows: Sequence[Row], systems: Sequence[SystemPlan]) -> str:
    """The table, what it comes to, how to read it, and what it rests on."""
    shown = list(together(rows))
    cells = [_cells(row) for row in shown]
    heading = [name for group in GROUPS.values() for name in group]
    widths = [max(len(line[place]) for line in [heading, *cells]) for place in range(len(heading))]
    lines = [_groups(widths), _line(heading, widths)]
    for name, group in groupby(zip(shown, cells, strict=True), key=lambda each: each[0].system):
        lines += ["", name, *(_line(line, widths) for _, line in group)]
    return "\n".join([*lines, "", *_totals(rows, systems), "", *_legend(), "", *_assumptions(systems), ""])


def together(rows: Sequence[Row]) -> Iterator[Row]:
    """The rows, those of a rule that differ in their method alone put into one."""
    waiting = list(rows)
    while waiting:
        alike = [row for row in waiting if _but_method(row) == _but_method(waiting[0])]
        one, count = alike[0], len(alike)
        waiting = [row for row in waiting if row not in alike]
        kind, _, method = one.rule.partition(" ")
        name = " ".join([kind, ", ".join(row.rule.partition(" ")[2] for row in alike)]).strip()
        name = name if len(name) <= LONGEST_NAME else f"{kind} {method} and {count - 1} alike"
        total = {each: count * getattr(one, each) for each in ("jobs", "tokens", "images", "disk")}
        yield replace(one, rule=name, usage=one.usage.times(count), **total)


def _but_method(row: Row) -> Row:
    return replace(row, rule=row.rule.split()[0])


def _groups(widths: Sequence[int]) -> str:
    """What neighbouring columns have in common, above them."""
    rest, parts = list(widths), []
    for name, columns in GROUPS.items():
        own, rest = rest[: len(columns)], rest[len(columns) :]
        width = sum(own) + len(GAP) * (len(own) - 1)
        parts.append(f" {name} ".center(width, "─") if name else " " * width)
    return GAP.join(parts)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [cell.rjust(width) for cell, width in zip(cells, widths, strict=True)]
    return GAP.join([cells[0].ljust(widths[0]), *padded[1:]]).rstrip()


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
        _size(row.disk),
        *(_on(card, row) for card in CARDS.values()),
    ]


def _memory(size: float) -> str:
    return NONE if not size else f"{size / GIB:.1f} GiB" if size >= GIB else f"{1024 * size / GIB:.0f} MiB"


def _size(size: float) -> str:
    return f"{short(size)}B" if size else NONE


def _on(card: Card, row: Row) -> str:
    if not row.memory:
        return NONE
    return _hours(hours(row, card)) if card.fits(row.memory) else DOES_NOT_FIT


def _hours(number: float) -> str:
    return f"{number:.2f}" if number < 9.995 else f"{number:.1f}" if number < 99.95 else f"{number:.0f}"


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


def _totals(rows: Sequence[Row], systems: Sequence[SystemPlan]) -> list[str]:
    with_model = [row for row in rows if row.memory]
    if not with_model:
        return ["In all: no rule runs a model."]
    lines = ["In all"]
    for card in CARDS.values():
        left_out = [row for row in with_model if not card.fits(row.memory)]
        total = _hours(sum(hours(row, card) for row in with_model if row not in left_out))
        but = f", without {len(left_out)} of {len(with_model)} rules and methods, which do not fit" if left_out else ""
        lines.append(f"  {card.name:9} {total:>6} GPU-hours{but}")
    largest = max(with_model, key=lambda row: row.memory)
    lines.append(f"  largest peak {_memory(largest.memory)} in '{largest.rule}' of {largest.system}")
    lines.append(f"  disk {_size(sum(row.disk for row in rows))} for results")
    models = {name: size for system in systems for name, size in system.models.items()}
    if models:
        lines.append(f"  disk {_size(sum(models.values()))} for models")
        lines += [f"    {_size(size):>7}  {name}" for name, size in models.items()]
    return lines


def _legend() -> list[str]:
    return [
        "How to read it",
        "  weights     of all models of a job, adapters included; trained: those of the adapters that it trains",
        "  reference   memory for the reference beside the policy: none where it is the policy with its adapter off",
        "  GPU memory  of each GPU at its fullest moment",
        f"  {DOES_NOT_FIT}      the card (named with its GB; an RTX 4090 has 24) holds less than that memory with "
        f"{RESERVED_SHARE:.0%} of it for gaps",
        f"              and {RESERVED_BYTES / GIB:.0f} GiB for CUDA",
        "  all jobs    of all seeds and parts; methods that take the same share a line",
        "  FLOP        multiplications and additions of matrix products, convolutions and attention; P is 1e15, E 1e18",
        f"  GPU-hours   at {ARITHMETIC_REACHED:.0%} of a card's peak arithmetic and, where tokens are generated, "
        f"{READING_REACHED:.0%} of its",
        f"              memory's speed; with {START_SECONDS:.0f} s and the loading of the weights for each job's start",
        "  other jobs  prompts, pairs, parts put together, tables, figures: of seconds and without a model",
    ]


def _assumptions(systems: Sequence[SystemPlan]) -> list[str]:
    lines = ["Lengths in tokens: prompts as usual (and the longest), answers"]
    for system in systems:
        for name, part in system.language_models.items():
            prompt = f"{part.typical.prompt} ({part.longest.prompt})"
            assumed = "" if system.has_prompts else "   prompts assumed, their data set is not here"
            lines.append(f"  {f'{system.name}, {name}':32} {prompt:>13}  {part.typical.completion:>6}{assumed}")
    return lines if len(lines) > 1 else []


def write_csv(rows: Sequence[Row], output: Path) -> None:
    """A line a row, bytes and hours in numbers; hours are left empty where a job does not fit."""
    columns = ["system", "rule", "jobs", "gpus", "parameters", "trained", "reference_bytes", "peak_bytes", "flops"]
    columns += ["tokens", "images", "disk_bytes"]
    with whole(output) as path, path.open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow([*columns, *(f"hours {name}" for name in CARDS)])
        for row in rows:
            reference = "" if row.reference is None else row.reference
            weights = [row.parameters, row.trainable, reference]
            counts = [round(each) for each in (row.memory, row.usage.total_flops, row.tokens, row.images, row.disk)]
            spent = [f"{hours(row, card):.4f}" if card.fits(row.memory) else "" for card in CARDS.values()]
            table.writerow([row.system, row.rule, row.jobs, row.gpus, *weights, *counts, *spent])
