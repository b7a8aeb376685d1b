"""`results/report.html`: one self-contained page, made from the files below `results` and nothing else."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from sysdpo.errors import UserError
from sysdpo.report import files
from sysdpo.report import story as sentences
from sysdpo.report.experiments import read_experiment, varied_settings
from sysdpo.report.gallery import Exhibit, pick
from sysdpo.report.tables import Table, build_table
from sysdpo.report.views import METHODS, MethodView, method_view, order_methods, system_view
from sysdpo.statistics import COMPARISON_COLUMNS, METRIC_COLUMNS

# What to see in each figure; a figure without an entry is shown under its name.
CAPTIONS: dict[str, tuple[str, str]] = {
    "comparison": (
        "All methods",
        "Each bar is a mean over held-out prompts and seeds, the black line its 95 % interval. The dashed "
        "line is the system before alignment; the solid orange bar is SysDPO-Direct, which trains all "
        "models with one loss.",
    ),
    "gallery": (
        "What it looks like",
        "Of each kind the prompt on which SysDPO-Direct scores its median, at the first seed: typical by that "
        "rule, not picked by eye. The bar under an image is how much of what was asked for the regressor sees in "
        "it; ✓ means that it rises from image to image.",
    ),
    "attributes": (
        "From the first image to the last",
        "How much of what was asked for (anger, or calm) the regressor sees in the first, second and third image. "
        "A steep, "
        "even line is what the prompts ask for. The thin dashed line is the system before alignment; bars "
        "are 95 % intervals.",
    ),
    "training": (
        "While training",
        "Loss, the share of pairs ranked right, and how far each model has come to prefer the chosen output "
        "over the rejected one (its margin). Lines are means over seeds, bands their range. A vertical "
        "dotted line starts a new round: fresh outputs are sampled and margins start at zero again. A model "
        "that is not trained stays at zero.",
    ),
    "frontier": (
        "Score against drift",
        "Every preference method buys score with distance from the system it started from. Of two methods "
        "at the same height the one further left paid less. Best of n changes no model, so it stands at "
        "zero: it pays in samples at every use instead.",
    ),
    "words": (
        "How the painter reads words, before alignment",
        "For each word the level it means (across) and the level drawn (up); a perfect painter would follow "
        "the dashed line. Bars are one standard deviation; percentages say how often the drawn level is the "
        "right one.",
    ),
}


EXPERIMENT_CAPTION = (
    "Every point is one setting, bars are 95 % intervals. Where direct minus separate lies above zero and "
    "its bar does not touch it, training all models with one loss was better at that setting."
)

# Figures set 9.5-point text; this shows it at the size of the page's captions.
PIXELS_PER_INCH = 110


@dataclass(frozen=True)
class Picture:
    """A figure on the page; `source` is a data URI, `width` its widest in CSS pixels."""

    name: str
    title: str
    caption: str
    source: str
    width: int | None = None


@dataclass(frozen=True)
class SystemPage:
    """Everything the page says of one system."""

    name: str
    title: str
    story: str
    numbers: Sequence[sentences.KeyNumber]
    result: Sequence[str]
    rivals: Sequence[str]
    checks: Sequence[str]
    pictures: Sequence[Picture]
    exhibits: Sequence[Exhibit]
    table: Table
    methods: Sequence[tuple[str, MethodView]]
    foundation: pd.DataFrame | None


@dataclass(frozen=True)
class ExperimentPage:
    """One experiment: its figure, a sentence computed from it, and its table."""

    name: str
    picture: Picture | None
    sentence: str
    table: pd.DataFrame


def write_report(results: Path, output: Path) -> None:
    """Writes the page from `metrics.csv`, `comparisons.csv`, `figures/`, `experiments/`, `manifest.json` and
    `runs/`.

    The tables are required; whatever else is missing is left out of the page. Raises UserError on a missing
    table or column.
    """
    metrics = files.read_table(results / "metrics.csv", METRIC_COLUMNS)
    comparisons = files.read_table(results / "comparisons.csv", COMPARISON_COLUMNS)
    systems = [_system_page(results, str(name), metrics, comparisons) for name in sorted(metrics["system"].unique())]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"data_uri": data_uri, "method_view": method_view, "plain_table": plain_table}
    page = environment.get_template("template.html.j2").render(
        systems=systems,
        experiments=_experiments(results),
        metrics=metrics,
        comparisons=comparisons,
        manifest=_manifest(results / "manifest.json"),
        gallery_caption=CAPTIONS["gallery"],
    )
    files.write_text(output, page)


def _system_page(results: Path, name: str, metrics: pd.DataFrame, comparisons: pd.DataFrame) -> SystemPage:
    metrics = metrics[metrics["system"] == name].reset_index(drop=True)
    comparisons = comparisons[comparisons["system"] == name].reset_index(drop=True)
    view = system_view(name, metrics["metric"])
    methods = order_methods(metrics["method"])
    runs = results / "runs" / name
    exhibits = _exhibits(runs, methods) if "gallery" in view.figures else []
    shown = [figure for figure in view.figures if not (figure == "gallery" and exhibits)]
    pictures = [_picture(results / "figures", f"{name}_{figure}", figure) for figure in shown]
    return SystemPage(
        name=name,
        title=view.title,
        story=view.story,
        numbers=sentences.key_numbers(view, metrics, comparisons),
        result=sentences.main_result(view, metrics, comparisons),
        rivals=sentences.direct_against_separate(view, metrics, comparisons),
        checks=sentences.checks(view, metrics, comparisons),
        pictures=[picture for picture in pictures if picture is not None],
        exhibits=exhibits,
        table=build_table(name, metrics, comparisons),
        methods=[(method, method_view(method)) for method in methods if method in METHODS or method[:5] == "only_"],
        foundation=_foundation(runs) if "words" in view.figures else None,
    )


def _exhibits(runs: Path, methods: Sequence[str]) -> Sequence[Exhibit]:
    """The gallery's pictures; none where the runs were not kept: the page then shows the figure."""
    try:
        return pick(runs, methods)
    except UserError:
        return []


def _picture(folder: Path, stem: str, figure: str) -> Picture | None:
    unnamed = (figure.replace("_", " ").capitalize(), EXPERIMENT_CAPTION if "experiment" in figure else "")
    title, caption = CAPTIONS.get(figure, unnamed)
    for kind, media in (("svg", "image/svg+xml"), ("png", "image/png")):
        path = folder / f"{stem}.{kind}"
        if path.is_file():
            content = path.read_bytes()
            points = re.search(rb'<svg[^>]*? width="([0-9.]+)pt"', content)
            width = round(float(points.group(1)) / 72 * PIXELS_PER_INCH) if points else None
            return Picture(figure, title, caption, data_uri(content, media), width)
    return None


def data_uri(content: bytes, media: str) -> str:
    """The content itself as a source for `<img>`, so that the page needs no other file."""
    return f"data:{media};base64,{base64.b64encode(content).decode()}"


def plain_table(table: pd.DataFrame) -> list[list[str]]:
    """A raw table's cells as text, floats to four significant digits."""
    return [
        [f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in row]
        for row in table.itertuples(index=False)
    ]


def _experiments(results: Path) -> list[ExperimentPage]:
    pages = []
    for path in sorted((results / "experiments").glob("*.csv")):
        if path.stem.endswith("_comparisons"):
            continue
        table, differences = read_experiment(path)
        picture = _picture(results / "figures", f"experiment_{path.stem}", f"experiment_{path.stem}")
        settings = [name.replace("_", " ") for name in varied_settings(table)]
        sentence = f"{table['variant'].nunique()} trained variants over {', '.join(settings) or 'nothing'}."
        if differences is not None:
            sentence += f" {sentences.count_of_verdicts(differences)}"
        pages.append(ExperimentPage(path.stem, picture, sentence.strip(), table))
    return pages


def _foundation(runs: Path) -> pd.DataFrame | None:
    """How well the regressor explains the attributes of rendered and of generated images: R² each."""
    try:
        quality = files.read_quality(runs)
    except UserError:
        return None
    parts = {
        "rendered images": pd.DataFrame([entry.get("regressor_r2_rendered", {}) for entry in quality.values()]),
        "generated images": pd.DataFrame([entry.get("regressor_r2_generated", {}) for entry in quality.values()]),
    }
    table = pd.DataFrame({name: part.mean() for name, part in parts.items() if not part.empty})
    return None if table.empty else table.rename_axis("attribute").reset_index()


def _manifest(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        manifest: dict[str, Any] = json.loads(path.read_text())
    except json.JSONDecodeError as problem:
        raise UserError(f"{path} is not JSON: {problem}; write it again with 'sysdpo manifest'.") from problem
    return manifest
