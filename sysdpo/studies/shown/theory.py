"""Figure, table and sentences of the study `theory`: which methods reach perfect alignment, and where."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sysdpo.method.method_words import OBJECTIVES, RIVAL, SUBJECT
from sysdpo.report.study import STUDIES, Study, check_columns
from sysdpo.report.style import INK, LOOKS, SOFT, styled, styled_line
from sysdpo.studies.graphs import EDGE, TIED, draw_graph, graph_title

ALIGNED = 1e-3
FLOOR = 1e-8  # smaller gaps, which are rounding errors, are drawn here
COLUMNS = ("system", "shared", "method", "candidates", "refreshed", "coverage", "step", "max_gap")
RUN = ["system", "shared", "method", "candidates", "refreshed", "coverage"]
CEILING = 6.0
NAMES = {name: method.label for name, method in OBJECTIVES.items()}
_LOOKS = dict(zip(("direct", "sampling", "separate"), (*LOOKS[SUBJECT], *LOOKS[RIVAL]), strict=True))
_PALE: dict[str, Any] = {"marker": "", "linestyle": "-", "linewidth": 1.2, "zorder": 2.5}


def theory_figure(table: pd.DataFrame) -> Figure:
    """One column per system: its graph, the largest alignment gap over the updates, and the final gap over the number
    of candidates and the share of intermediates seen.

    `table`: columns `COLUMNS`, one row per run and recorded step; gaps in units of the preference's logit. The lower
    panels show systems whose nodes share no component, if the table has them. Raises `UserError` on a missing column.
    """
    check_columns(table, "theory", COLUMNS)
    systems, ways = list(dict.fromkeys(table["system"])), sorted(table["shared"].unique())
    end = final(table[table["shared"] == ways[0]])
    with styled():
        size = (max(1.82 * len(systems), 4.6) + 0.9, 1.0 + 1.95 * (len(ways) + 2) + 0.5)
        figure = Figure(figsize=size, layout="constrained")
        figure.get_layout_engine().set(h_pad=0.06, w_pad=0.04)  # type: ignore[union-attr, call-arg]
        heights = [0.62, *[1.0] * (len(ways) + 2)]
        grid = figure.subplots(len(heights), len(systems), squeeze=False, height_ratios=heights)
        for index, system in enumerate(systems):
            column = grid[:, index]
            draw_graph(column[0], system)
            for axes, shared in zip(column[1:], ways, strict=False):
                _over_updates(axes, table[(table["system"] == system) & (table["shared"] == shared)])
            _over_candidates(column[-2], end[end["system"] == system])
            _over_coverage(column[-1], end[end["system"] == system])
            for axes in column[1:]:
                _gap_axis(axes, labelled=index == 0)
        during = ["Over training, every node a model of its own", "Over training, two nodes sharing one model"]
        after = [
            "After training, over the number of candidates",
            "After training, over the share of intermediates that are in the data (Direct) or candidates (Sampling)",
        ]
        for row, heading in zip(grid[1:], [*(during[int(shared)] for shared in ways), *after], strict=True):
            _heading(row, heading)
        _legend(figure)
        _settle(figure)
    return figure


def _settle(figure: Figure) -> None:
    """Round the layout: the last bits of the solver vary, and matplotlib derives ids in an svg from them."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for axes in figure.axes:
        left, bottom, width, height = (round(edge, 5) for edge in axes.get_position().bounds)
        axes.set_position((left, bottom, width, height))


def final(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of each run's last recorded step."""
    return table.loc[table.groupby(RUN, dropna=False, sort=False)["step"].idxmax()].reset_index(drop=True)


def _heading(row: np.ndarray, heading: str) -> None:
    """A heading over a row of panels, with space of its own, but without widening the first panel."""
    for axes in row:
        axes.set_title(" ", fontsize=9, pad=4)
    text = row[0].text(0, 1.05, heading, transform=row[0].transAxes, fontsize=9, color=INK, va="bottom")
    text.set_in_layout(False)
    row[0].set_ylabel("alignment gap", fontsize=8.5)


def _over_updates(axes: Axes, rows: pd.DataFrame) -> None:
    whole = rows[rows["method"].isin(("direct", "separate")) & (rows["coverage"] > 1 - 1e-9)]
    fixed = rows[(rows["method"] == "sampling") & ~rows["refreshed"].astype(bool)]
    most = fixed["candidates"].max()
    for count in sorted(fixed["candidates"].unique()):
        line = fixed[fixed["candidates"] == count]
        style: dict[str, Any] = _sampling_style(count / most)
        _line(axes, line, style if count == most else style | _PALE, 0.5)
    for method, line in whole.groupby("method"):
        _line(axes, line, _line_style(str(method), size=5), 0 if method == "direct" else 0.25)
    direct, separate = (whole.loc[whole["method"] == name, "max_gap"] for name in ("direct", "separate"))
    if len(direct) == len(separate) and np.allclose(direct, separate, rtol=1e-3):
        axes.text(0.04, 0.07, "one model in all:\nseparate is direct", transform=axes.transAxes, fontsize=8, color=SOFT)
    axes.set_xscale("symlog", linthresh=1, linscale=0.4)
    axes.set_xlim(0, rows["step"].max() * 1.25)
    decades = [10**power for power in range(6) if 10**power <= rows["step"].max()]
    axes.set_xticks([0, *decades], ["0", *(f"{tick:g}" for tick in decades)])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("update", fontsize=8.5, labelpad=1)


def _line(axes: Axes, rows: pd.DataFrame, style: dict[str, Any], phase: float) -> None:
    """`phase` in [0, 1) staggers the markers of coinciding lines."""
    rows = rows.sort_values("step")
    every = max(1, len(rows) // 4)
    axes.plot(rows["step"], _shown(rows["max_gap"]), **style, markevery=(int(phase * every), every))


def _over_candidates(axes: Axes, rows: pd.DataFrame) -> None:
    sampling = rows[rows["method"] == "sampling"]
    fixed = sampling[~sampling["refreshed"].astype(bool)].sort_values("candidates")
    again = sampling[sampling["refreshed"].astype(bool)].sort_values("candidates")
    axes.plot(fixed["candidates"], _shown(fixed["max_gap"]), **_line_style("sampling"))
    axes.plot(again["candidates"], _shown(again["max_gap"]), **_refreshed_style())
    counts = sorted(int(count) for count in fixed["candidates"])
    axes.set_xticks(counts if len(counts) <= 6 else counts[1::2])
    axes.set_xlim(0.6, max(counts, default=1) + 0.4)
    axes.set_xlabel(f"candidates K of {max(counts, default=1)}", fontsize=8.5, labelpad=1)


def _over_coverage(axes: Axes, rows: pd.DataFrame) -> None:
    fixed = rows[~rows["refreshed"].astype(bool)]
    for method in ("sampling", "direct"):
        line = fixed[fixed["method"] == method].sort_values("coverage")
        axes.plot(100 * line["coverage"], _shown(line["max_gap"]), **_line_style(method))
    axes.set_xlim(100 * fixed["coverage"].min() - 4, 104)
    axes.set_xlabel("intermediates seen (%)", fontsize=8.5, labelpad=1)


def _gap_axis(axes: Axes, *, labelled: bool) -> None:
    axes.set_yscale("log")
    axes.set_ylim(FLOOR * 0.7, CEILING)
    axes.axhline(ALIGNED, color=SOFT, linewidth=0.9, linestyle=(0, (3, 3)), zorder=2)
    ticks = [FLOOR, 1e-6, 1e-4, 1e-2, 1]
    labels = ["≤10⁻⁸", "10⁻⁶", "10⁻⁴", "10⁻²", "1"] if labelled else [""] * len(ticks)
    axes.set_yticks(ticks, labels)
    axes.set_yticks([], minor=True)
    axes.tick_params(labelsize=8)


def _shown(gaps: pd.Series) -> np.ndarray:
    return gaps.to_numpy(dtype=float).clip(FLOOR)


def _sampling_style(share: float) -> dict[str, Any]:
    """Paler for a smaller share of all candidates."""
    ink = np.array(to_rgb(_LOOKS["sampling"].colour))
    pale = ink + (1 - ink) * 0.8 * (1 - share)
    return _line_style("sampling", size=4.5) | {"color": to_hex((pale[0], pale[1], pale[2]))}


def _line_style(method: str, size: float = 5.5) -> dict[str, Any]:
    """The usual style, with the dashes of `sampling` above the solid line of `direct`, which often coincide."""
    over: dict[str, dict[str, Any]] = {"sampling": {"zorder": 5}, "direct": {"linewidth": 3.0}}
    return styled_line(_LOOKS[method], size=size, foremost=method == "direct") | over.get(method, {})


def _refreshed_style() -> dict[str, Any]:
    colour = _LOOKS["sampling"].colour
    return _line_style("sampling") | {
        "markerfacecolor": "white", "markeredgecolor": colour, "markeredgewidth": 1.1, "linestyle": (0, (1, 1.5)),
        "linewidth": 1.1,
    }  # fmt: skip


def _legend(figure: Figure) -> None:
    shared: dict[str, Any] = {"color": "white", "marker": "o", "markersize": 11, "markerfacecolor": TIED}
    aligned: dict[str, Any] = {"color": SOFT, "linewidth": 0.9, "linestyle": (0, (3, 3))}
    styles: dict[str, dict[str, Any]] = {
        NAMES["direct"]: _line_style("direct"),
        NAMES["separate"]: _line_style("separate", size=5.0),
        f"{NAMES['sampling']}, all candidates": _line_style("sampling"),
        "fewer candidates (paler)": _sampling_style(0.3) | _PALE,
        "candidates chosen anew": _refreshed_style(),
        "10⁻³: aligned": aligned,
        "nodes that may share": shared | {"markeredgecolor": EDGE, "markeredgewidth": 0.9},
    }
    handles = [Line2D([], [], label=label, **style) for label, style in styles.items()]
    columns = 4 if figure.get_figwidth() > 8 else 2
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, handlelength=3, columnspacing=1.4)


def theory_table(table: pd.DataFrame) -> pd.DataFrame:
    """The largest alignment gap after training: one row per system, one column per method, empty if it did not run.

    `direct` and `separate` with every intermediate in their data, `direct` with the fewest, `sampling` over all
    candidates and over half of them, fixed and chosen anew.
    """
    check_columns(table, "theory", COLUMNS)
    rows = []
    for (system, shared), runs in final(table).groupby(["system", "shared"], sort=False):
        direct, separate = (runs[runs["method"] == method] for method in ("direct", "separate"))
        fixed = runs[(runs["method"] == "sampling") & ~runs["refreshed"].astype(bool)]
        anew = runs[(runs["method"] == "sampling") & runs["refreshed"].astype(bool)]
        most = fixed["candidates"].max()
        half = most // 2 if len(fixed) else 0
        partial = direct[direct["coverage"] < 1 - 1e-9].sort_values("coverage")
        rows.append(
            {
                "system": graph_title(str(system)) + (", shared" if shared else ""),
                "separate": _gap(separate),
                "direct": _gap(direct[direct["coverage"] > 1 - 1e-9]),
                "direct, least coverage": _gap(partial),
                "sampling, K = all": _gap(fixed[fixed["candidates"] == most]),
                "sampling, K = half": _gap(fixed[fixed["candidates"] == half]),
                "sampling, K = half, chosen anew": _gap(anew[anew["candidates"] == half]),
            }
        )
    return pd.DataFrame(rows)


def _gap(rows: pd.DataFrame) -> float:
    return float(rows["max_gap"].iloc[0]) if len(rows) else float("nan")


def sentences(table: pd.DataFrame) -> list[str]:
    """Which methods get below `ALIGNED` on which systems, and what fewer intermediates cost."""
    check_columns(table, "theory", COLUMNS)
    summary = theory_table(table)
    names = {
        "direct": f"{NAMES['direct']} with every intermediate in its data",
        "sampling, K = all": f"{NAMES['sampling']} over all intermediates",
        "separate": NAMES["separate"],
    }
    lines = [_reach(name, summary["system"], summary[column]) for column, name in names.items()]
    alike = summary.loc[np.isclose(summary["separate"], summary["direct"], rtol=1e-3, atol=0), "system"]
    if len(alike):
        lines.append(
            f"{names['separate']} does what direct does on {', '.join(alike)}: one model owns every node there."
        )
    end = final(table)
    partial = end[(end["method"] == "direct") & (end["coverage"] < 1 - 1e-9)]
    if len(partial):
        aligned = int((partial["max_gap"] < ALIGNED).sum())
        lines.append(
            f"With only {100 * partial['coverage'].min():.0f} to {100 * partial['coverage'].max():.0f} % of the "
            f"intermediates in its data, {NAMES['direct']} is aligned in {aligned} of {len(partial)} runs; "
            f"its gap is up to {_number(partial['max_gap'].max())}."
        )
    sampling = end[end["method"] == "sampling"]
    keys = ["system", "shared", "candidates"]
    fixed, anew = (sampling[sampling["refreshed"].astype(bool) == way].set_index(keys)["max_gap"] for way in (0, 1))
    both = pd.concat([fixed.rename("fixed"), anew.rename("anew")], axis=1, join="inner")
    if len(both):
        apart = both[(both["fixed"] / both["anew"] - 1).abs() > 0.01]
        lower = int((apart["anew"] < apart["fixed"]).sum())
        lines.append(
            f"With fewer candidates than intermediates, {int((both['fixed'] < ALIGNED).sum())} of {len(both)} runs of "
            f"{NAMES['sampling']} are aligned; choosing the candidates anew as training goes ends with a "
            f"smaller gap in {lower} of these, a larger one in {len(apart) - lower}, the same in "
            f"{len(both) - len(apart)}."
        )
    return lines


def _reach(name: str, systems: pd.Series, gaps: pd.Series) -> str:
    ran = gaps.notna()
    systems, gaps = systems[ran], gaps[ran]
    if gaps.empty:
        return f"{name} did not run."
    aligned = gaps < ALIGNED
    sentence = f"{name} is aligned (a gap below 10⁻³) on {int(aligned.sum())} of {len(gaps)} systems"
    if aligned.any():
        few = f" ({', '.join(systems[aligned])})" if aligned.sum() <= 2 else ""
        sentence += f"{few}, there at most {_number(gaps[aligned].max())}"
    if not aligned.all():
        left = [f"{system} ({_number(gap)})" for system, gap in zip(systems[~aligned], gaps[~aligned], strict=True)]
        sentence += "; not on " + ", ".join(left)
    return sentence + "."


def _number(value: float) -> str:
    return f"{value:.2g}" if value >= ALIGNED else f"{value:.0e}".replace("e-0", "e−").replace("e-", "e−")


STUDIES.register("theory")(
    Study(
        title="Theory",
        intro=(
            "Aligned perfectly, a system is tilted by exactly the preference. On systems small enough to count every "
            "outcome, with preferences from a known reward, there is no sampling noise: one sees whether the optimum "
            "of a loss is that system."
        ),
        caption=(
            "The alignment gap is the largest difference, in logits, between what a trained system prefers and the "
            "true preference; below the dashed line it counts as aligned. A column a system, its graph above: the gap "
            "over the updates, then at their end over how many candidates SysDPO-Sampling sums over, and over how many "
            "of the intermediates the preference data contain."
        ),
        figure=theory_figure,
        table=theory_table,
        sentences=sentences,
        lead="on systems small enough to count every outcome, it is held against what theory says",
    )
)
