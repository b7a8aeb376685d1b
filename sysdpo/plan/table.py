"""The plan as text and as a table of numbers."""

import math
from collections.abc import Sequence

import pandas as pd

from sysdpo.plan.cards import CARDS, GIB
from sysdpo.plan.rules import Row, SystemPlan

COLUMNS = ["system", "rule", "jobs", "gpus", "parameters", "trained", "reference_bytes", "peak_bytes"]
COLUMNS += ["flops", "tokens", "images", "disk_bytes"]
HOURS = {f"hours {name}": name for name in CARDS}
OF_ALL_JOBS = ["jobs", "flops", "tokens", "images", "disk_bytes", *HOURS]
NONE, DOES_NOT_FIT = "–", "no fit"
LONGEST_NAME = 34  # characters
LEGEND = """\
Weights, trained ones and GPU memory are those of one job, the reference what it takes beside the policy; all else is of
all jobs: seeds, parts, and methods that share a line. The last columns are GPU-hours on named cards, an estimate. Rules
without a model take seconds and have no line. docs/plan.md says how all of it is computed and how far to trust it."""
NOT_PLANNED = "Not planned: models that the workflow makes itself. They train in minutes on any machine."


def plan_table(rows: Sequence[Row]) -> pd.DataFrame:
    """One row each, in bytes and hours; hours are missing if a job does not fit."""
    values = [vars(row.usage) | vars(row) | {"flops": round(row.usage.total_flops)} for row in rows]
    table = pd.DataFrame(values, columns=COLUMNS)
    whole = ["reference_bytes", "peak_bytes", "tokens", "images", "disk_bytes"]
    table[whole] = table[whole].astype(float).round().astype("Int64")
    for column, name in HOURS.items():
        spent = [CARDS[name].hours(row.usage, starts=row.jobs * row.gpus, weights=row.weights) for row in rows]
        table[column] = pd.Series(spent).where(pd.Series([CARDS[name].fits(row.peak_bytes) for row in rows]))
    return table


def written(rows: Sequence[Row], systems: Sequence[SystemPlan], not_planned: Sequence[str]) -> str:
    """The table, its totals and its assumptions as text. not_planned: names of systems."""
    lines = []
    if rows:
        table = plan_table(rows)
        lines = [_shown(table), *_totals(table, systems), "", LEGEND, "", *_lengths(systems), ""]
    lines += [NOT_PLANNED, *(f"  {name} is left out: it has such models, or none at all" for name in not_planned)]
    return "\n".join([*lines, ""])


def _shown(table: pd.DataFrame) -> str:
    """The rows as text, below their system's name; a rule's methods with equal costs share a line."""
    shown = []
    for system, rows in table.groupby("system", sort=False):
        shown.append({"rule": f"[{system}]"})
        alike = [rows["rule"].str.partition(" ")[0].rename("kind"), *(rows[name] for name in rows if name != "rule")]
        for _, group in rows.groupby(alike, sort=False, dropna=False):
            total, (first, *others) = group.iloc[0].copy(), group["rule"]
            total[OF_ALL_JOBS] *= len(group)
            total["rule"] = ", ".join([first, *(rule.partition(" ")[2] for rule in others)])
            if len(total["rule"]) > LONGEST_NAME:
                total["rule"] = f"{first} and {len(others)} alike"
            shown.append(_cells(total))
    cells = pd.DataFrame(shown).fillna("")
    name = "rule".ljust(cells["rule"].str.len().max())
    cells = cells.rename(columns={"rule": name})
    return cells.to_string(index=False, formatters={name: lambda rule: rule.ljust(len(name))})


def _cells(row: pd.Series) -> dict[str, str]:
    reference = row["reference_bytes"]
    return {
        "rule": row["rule"],
        "jobs": str(row["jobs"]),
        "weights": short(row["parameters"]),
        "trained": short(row["trained"]),
        "reference": NONE if pd.isna(reference) else f"+{short(reference)}B" if reference else "+0 B",
        "GPU memory": _memory(row["peak_bytes"]),
        "FLOP": short(row["flops"]),
        "tokens": short(row["tokens"]),
        "images": short(row["images"]),
        "disk": f"{short(row['disk_bytes'])}B",
    } | {name: _hours(row[column]) for column, name in HOURS.items()}


def _memory(size: float) -> str:
    return f"{size / GIB:.1f} GiB" if size >= GIB else f"{1024 * size / GIB:.0f} MiB"


def _hours(number: float) -> str:
    return DOES_NOT_FIT if math.isnan(number) else f"{number:#.3g}".rstrip(".") if number >= 1 else f"{number:.2f}"


def short(number: float) -> str:
    """Three digits and a unit, `8.07 G`, or a dash for zero."""
    power = min(max(0, int(math.log10(max(1, number) * 1.0005) // 3)), 6)
    return f"{number / 1000**power:#.3g}".rstrip(".") + " " + ["", *"kMGTPE"][power] if number else NONE


def _totals(table: pd.DataFrame, systems: Sequence[SystemPlan]) -> list[str]:
    lines = ["", "In all"]
    for column, name in HOURS.items():
        left_out = int(table[column].isna().sum())
        but = f", without {left_out} of {len(table)} rules and methods, which do not fit" if left_out else ""
        lines.append(f"  {name:9} {_hours(table[column].sum()):>6} GPU-hours{but}")
    largest = table.sort_values("peak_bytes").iloc[-1]
    lines.append(f"  largest peak {_memory(largest['peak_bytes'])} in '{largest['rule']}' of {largest['system']}")
    files = {name: size for system in systems for name, size in system.files.items()}
    for size, what in ((table["disk_bytes"].sum(), "results"), (sum(files.values()), "models")):
        lines.append(f"  disk {short(size)}B for {what}")
    return [*lines, *(f"    {short(size):>6}B  {name}" for name, size in files.items())]


def _lengths(systems: Sequence[SystemPlan]) -> list[str]:
    lines = ["Lengths in tokens: prompts as usual (and the longest), answers"]
    for system in systems:
        rehearsal = system.rehearsal
        for name, model in rehearsal.language_models.items():
            usual, longest = (rehearsal.prompt(name, inputs) for inputs in (rehearsal.typical, rehearsal.longest))
            assumed = "" if system.has_prompts else "   prompts assumed, their data set is not here"
            lengths = f"{f'{usual} ({longest})':>13}  {model.max_new_tokens:>6}"
            lines.append(f"  {f'{system.name}, {name}':32} {lengths}{assumed}")
    return lines
