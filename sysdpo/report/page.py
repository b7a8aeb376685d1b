"""`results/report.html`: one self-contained page, from the files below `results` alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from sysdpo.base.errors import UserError
from sysdpo.base.files import read_table
from sysdpo.method.description import Pictures, Quality, Texts
from sysdpo.report import embedding, files, samples, sentences
from sysdpo.report.claim_file import VERDICTS
from sysdpo.report.claims import BESIDES, ClaimResult, read_claim_table
from sysdpo.report.descriptions import Descriptions, Shown
from sysdpo.report.embedding import read_picture
from sysdpo.report.experiments import CAPTION, DIFFERENCES, read_experiment, setting_name
from sysdpo.report.graph import draw_graph
from sysdpo.report.live_curves import live_curves
from sysdpo.report.run import Run
from sysdpo.report.study import STUDIES
from sysdpo.report.tables import Table, build_table

MOST_ROWS = 300  # longer tables of studies and experiments would make the page too large


def write_report(results: Path, descriptions: Descriptions, output: Path, *, with_claims: bool = True) -> None:
    """Write the page from a run's folder `results`, which needs `metrics.csv` and `comparisons.csv`; the page lists
    other files that are missing. Raises `UserError` if a file is invalid.

    with_claims: whether existing `claims.csv` are from this run, not from an earlier one.
    """
    metrics, comparisons = (read(results / f"{name}.csv") for name, read in TABLES.items())
    paths = (results / "claims.csv", results / "ablations" / "claims.csv")
    claims, ablation_claims = (read_claim_table(path) if with_claims and path.is_file() else [] for path in paths)
    systems = []
    for name in sorted(metrics["system"].unique()):
        mine, theirs = (_of(name, table) for table in (metrics, comparisons))
        shown = descriptions.system(name).among(mine["metric"])
        systems.append(_system_page(results, Run(shown, mine, theirs, results / "runs" / name), ablation_claims))
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    options: dict[str, Any] = {"trim_blocks": True, "lstrip_blocks": True, "undefined": jinja2.StrictUndefined}
    environment = jinja2.Environment(loader=loader, autoescape=True, **options)
    environment.globals |= {"embedding": embedding, "plain": plain_table, "samples": samples, "verdicts": VERDICTS}
    page = environment.get_template("template.html.j2").render(
        systems=systems,
        claims=claims,
        besides=BESIDES,
        studies=_studies(results, descriptions.studies),
        experiments=_experiments(results, descriptions),
        metrics=metrics,
        comparisons=comparisons,
        manifest=_manifest(results / "manifest.json"),
    )
    files.write_text(output, page)


TABLES = {"metrics": files.read_metrics, "comparisons": files.read_comparisons}


def _of(system: str, table: pd.DataFrame) -> pd.DataFrame:
    return table[table["system"] == system].reset_index(drop=True)


def _system_page(results: Path, run: Run, ablation_claims: Sequence[ClaimResult]) -> dict[str, Any]:
    """The template's variables for one system; `missing`: a sentence for each missing file."""
    shown, name, missing = run.shown, run.shown.name, list[str]()
    page: dict[str, Any] = {"exhibits": [], "transcripts": [], "quality": None, "credit": None, "pictures": {}}
    # Of a system that says nothing of its pictures and texts, the variables are shown by their names alone.
    texts = Texts({}) if shown.graph and not (shown.pictures or shown.texts) else shown.texts
    contents = [content for content in (shown.pictures, texts, shown.quality) if content is not None]
    if contents and not (run.folder.is_dir() and any(path.name.isdigit() for path in run.folder.iterdir())):
        missing.append(f"What the methods made cannot be shown: {run.folder.relative_to(results)} was not kept.")
        contents = []
    for content in contents:
        match content:
            case Pictures():
                page["exhibits"] = samples.pick_pictures(shown, content, run.folder, run.methods)
            case Texts():
                page["transcripts"] = samples.pick_texts(shown, content, run.folder, run.methods)
            case Quality():
                page["quality"] = _quality(content, run)
    for figure, words in shown.figures.items():
        title, caption = (text.format(**shown.words) for text in words)
        picture = read_picture(results / "figures" / f"{name}_{figure}", title, caption)
        if picture is None:
            missing.append(f"The figure “{title}” cannot be shown: figures/{name}_{figure}.svg is not there.")
        elif figure != "gallery" or not page["exhibits"]:  # the gallery shows the exhibits' pictures, smaller
            page["pictures"][figure] = picture
    credit = results / "tables" / f"{name}_credit.csv"
    if credit.is_file():
        page["credit"] = read_table(credit, ("method", "component", "margin"))
    else:
        missing.append(f"Who earns the preference cannot be shown in numbers: tables/{credit.name} is not there.")
    return page | {
        "shown": shown,
        "texts": texts,
        "curves": live_curves(run),
        "graph": _drawn(shown),
        "numbers": sentences.key_numbers(run),
        "result": sentences.main_result(run),
        "sections": sentences.sections(run),
        "checks": sentences.checks(run),
        "table": build_table(shown, run.metrics, run.comparisons),
        "ablations": _ablations(results / "ablations", shown),
        "asides": [claim for claim in ablation_claims if claim.system == name],
        "methods": [method for method in run.methods if shown.method(method).meaning],
        "missing": missing,
    }


def _drawn(shown: Shown) -> str | None:
    """The drawing of the system's graph, if it is described."""
    if shown.graph is None:
        return None
    words = dict.fromkeys(shown.graph.inputs, "input")
    for one in shown.graph.variables:
        words[one.name] = f"by {shown.component(one.component)}, {'trained' if one.trained else 'not trained'}"
        words[one.name] += ", output" if one.output else ""
    return draw_graph(shown.graph, words)


def _ablations(folder: Path, shown: Shown) -> Table | None:
    """The table of a system's ablations, if they have been run."""
    if not (folder / "metrics.csv").is_file():
        return None
    metrics, comparisons = (_of(shown.name, read(folder / f"{name}.csv")) for name, read in TABLES.items())
    return build_table(shown, metrics, comparisons) if len(metrics) else None


def _quality(quality: Quality, run: Run) -> pd.DataFrame:
    seeds, columns = files.read_quality(run.folder).values(), quality.columns.items()
    means = {title: pd.DataFrame([measured.get(key, {}) for measured in seeds]).mean() for title, key in columns}
    return pd.DataFrame(means).rename_axis(quality.rows).reset_index()


def plain_table(table: pd.DataFrame) -> str:
    """A table in HTML, with floats to four significant digits and dashes for missing values."""
    with pd.option_context("display.max_colwidth", None):  # or long texts are cut
        text = table.to_html(
            index=False, classes="raw sortable n-last", border=0, na_rep="–", float_format="{:.4g}".format
        )
    return text.replace("<td>–</td>", '<td data-sort="">–</td>')  # missing values come last, whatever the order


def _studies(results: Path, order: Sequence[str]) -> list[dict[str, Any]]:
    """The configuration's studies in its order, then others with a table."""
    paths = {path.stem: path for path in sorted((results / "studies").glob("*.csv"))}
    pages = []
    for name in [*(name for name in order if name in paths), *(name for name in paths if name not in order)]:
        table, words = read_table(paths[name], ()), STUDIES.get(name)
        title = words.title if words else name.replace("_", " ").capitalize()
        page: dict[str, Any] = {"name": name, "words": words, "title": title, "sentences": [], "summary": None}
        if words:
            page |= {"sentences": words.sentences(table), "summary": words.table(table)}
        picture = read_picture(results / "figures" / f"study_{name}", title, words.caption if words else "")
        page |= {"picture": picture, "table": table if len(table) <= MOST_ROWS else None, "rows": len(table)}
        pages.append(page)
    return pages


def _experiments(results: Path, descriptions: Descriptions) -> list[dict[str, Any]]:
    pages = []
    for path in sorted((results / "experiments").glob("*.csv")):
        if path.stem.endswith("_comparisons"):
            continue
        experiment = read_experiment(path)
        settings = ", ".join(map(setting_name, experiment.varied)) or "nothing"
        sentence = f"{experiment.table['variant'].nunique()} trained variants over {settings}."
        if experiment.differences is not None:
            shown = descriptions.system(experiment.table["system"].iloc[0])
            sentence += f" {sentences.count_of_verdicts(experiment.differences, shown)}"
        caption = CAPTION if experiment.differences is None else DIFFERENCES
        picture = read_picture(results / "figures" / f"experiment_{path.stem}", path.stem, caption)
        table = experiment.table if len(experiment.table) <= MOST_ROWS else None
        rows = len(experiment.table)
        pages.append({"name": path.stem, "picture": picture, "sentence": sentence, "table": table, "rows": rows})
    return pages


def _manifest(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        manifest: dict[str, Any] = json.loads(path.read_text())
    except json.JSONDecodeError as problem:
        raise UserError(f"{path} is not JSON: {problem}; write it again with 'sysdpo manifest'.") from problem
    return manifest
