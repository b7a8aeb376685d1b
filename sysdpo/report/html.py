"""`results/report.html`: one self-contained page, made from the files below `results` and nothing else."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import jinja2
import pandas as pd

from sysdpo.base.errors import UserError
from sysdpo.report import captions, files
from sysdpo.report import story as sentences
from sysdpo.report.claims import VERDICTS, read_claim_table
from sysdpo.report.claims import sentence as claim_sentence
from sysdpo.report.experiments import read_experiment, setting_name, varied_settings
from sysdpo.report.gallery import Exhibit, pick
from sysdpo.report.hidden import sampling_against_all
from sysdpo.report.studies import STUDIES
from sysdpo.report.tables import Table, build_table
from sysdpo.report.transcripts import Transcript, pick_transcripts
from sysdpo.report.views import METHODS, SINGLE_MODELS, SUBJECTS, MethodView, method_view, order_methods, system_view

Shown = TypeVar("Shown")

# Figures set 9.5-point text; this shows it at the size of the page's captions.
PIXELS_PER_INCH = 110
# A longer table of a study would outweigh the page.
MOST_ROWS = 300


@dataclass(frozen=True)
class Picture:
    """A figure on the page; `source` is a data URI, `width` its widest in CSS pixels."""

    title: str
    caption: str
    source: str
    width: int | None = None


@dataclass(frozen=True)
class ClaimPage:
    """One claim as the page's head shows it: its question, what its interval says, and the verdict."""

    id: str
    system: str
    question: str
    sentence: str
    verdict: str


@dataclass(frozen=True)
class SystemPage:
    """Everything the page says of one system."""

    name: str
    title: str
    story: str
    numbers: Sequence[sentences.KeyNumber]
    result: Sequence[str]
    rivals: Sequence[str]
    hidden: Sequence[str]
    checks: Sequence[str]
    pictures: dict[str, Picture]
    exhibits: Sequence[Exhibit]
    transcripts: Sequence[Transcript]
    table: Table
    ablations: Table | None
    asides: Sequence[ClaimPage]
    methods: Sequence[tuple[str, MethodView]]
    foundation: pd.DataFrame | None
    credit: pd.DataFrame | None


@dataclass(frozen=True)
class StudyPage:
    """One study: its figure, sentences computed from its table, a summary of it, and where it is short the table."""

    name: str
    title: str
    intro: str
    picture: Picture | None
    sentences: Sequence[str]
    summary: pd.DataFrame | None
    table: pd.DataFrame | None
    rows: int


@dataclass(frozen=True)
class ExperimentPage:
    """One experiment: its figure, a sentence computed from it, and its table."""

    name: str
    picture: Picture | None
    sentence: str
    table: pd.DataFrame


def write_report(results: Path, output: Path, *, with_claims: bool = True) -> None:
    """Writes the page from `metrics.csv`, `comparisons.csv`, `claims.csv`, `tables/{system}_credit.csv`, `figures/`,
    `studies/`, `experiments/`, `manifest.json` and `runs/`.

    The first two are required; whatever else is missing is left out of the page. Raises UserError on a missing
    table or column.

    with_claims: whether the `claims.csv` that are there are this run's, and no earlier one's.
    """
    metrics = files.read_all_metrics(results / "metrics.csv")
    comparisons = files.read_all_comparisons(results / "comparisons.csv")
    names = sorted(metrics["system"].unique())
    asides = _claims(results / "ablations" / "claims.csv") if with_claims else []
    systems = [_system_page(results, name, names, metrics, comparisons, asides) for name in names]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"data_uri": data_uri, "method_view": method_view, "plain_table": plain_table}
    environment.globals |= {"subjects": SUBJECTS, "captions": captions}
    page = environment.get_template("template.html.j2").render(
        systems=systems,
        claims=_claims(results / "claims.csv") if with_claims else [],
        verdicts=VERDICTS,
        studies=_studies(results),
        experiments=_experiments(results),
        metrics=metrics,
        comparisons=comparisons,
        manifest=_manifest(results / "manifest.json"),
    )
    files.write_text(output, page)


def _system_page(
    results: Path,
    name: str,
    names: Sequence[str],
    metrics: pd.DataFrame,
    comparisons: pd.DataFrame,
    asides: Sequence[ClaimPage],
) -> SystemPage:
    metrics = metrics[metrics["system"] == name].reset_index(drop=True)
    comparisons = comparisons[comparisons["system"] == name].reset_index(drop=True)
    view = system_view(name, metrics["metric"])
    methods = order_methods(metrics["method"])
    runs = results / "runs" / name
    credit = results / "tables" / f"{name}_credit.csv"
    exhibits = _there(pick, runs, methods)
    pictures = _pictures(results / "figures", name, names)
    if exhibits:
        pictures.pop("gallery", None)
    return SystemPage(
        name=name,
        title=view.title,
        story=view.story,
        numbers=sentences.key_numbers(view, metrics, comparisons),
        result=sentences.main_result(view, metrics, comparisons),
        rivals=sentences.direct_against_separate(view, metrics, comparisons),
        hidden=sampling_against_all(view, metrics, comparisons),
        checks=sentences.checks(view, metrics, comparisons),
        pictures=pictures,
        exhibits=exhibits,
        transcripts=_there(pick_transcripts, runs, methods),
        table=build_table(name, metrics, comparisons),
        ablations=_ablations(results / "ablations", name),
        asides=[claim for claim in asides if claim.system == name],
        methods=[(name, method_view(name)) for name in methods if name in METHODS or name.startswith(SINGLE_MODELS)],
        foundation=_foundation(runs),
        credit=files.read_table(credit, ("method", "component", "margin")) if credit.is_file() else None,
    )


def _ablations(folder: Path, system: str) -> Table | None:
    """The table of the rows that answer a side question, where they have been run."""
    if not (folder / "metrics.csv").is_file():
        return None
    metrics = files.read_all_metrics(folder / "metrics.csv")
    comparisons = files.read_all_comparisons(folder / "comparisons.csv")
    mine, theirs = (table[table["system"] == system].reset_index(drop=True) for table in (metrics, comparisons))
    return build_table(system, mine, theirs) if len(mine) else None


def _claims(path: Path) -> list[ClaimPage]:
    if not path.is_file():
        return []
    rows = (row for _, row in read_claim_table(path).iterrows())
    shared = ("id", "system", "question", "verdict")
    return [ClaimPage(sentence=claim_sentence(row), **{name: row[name] for name in shared}) for row in rows]


def _there(pick_from: Callable[[Path, Sequence[str]], list[Shown]], runs: Path, methods: Sequence[str]) -> list[Shown]:
    """What is picked from the runs; nothing where they were not kept, or are another kind of system's."""
    try:
        return pick_from(runs, methods)
    except UserError:
        return []


def _pictures(folder: Path, name: str, names: Sequence[str]) -> dict[str, Picture]:
    """A system's figures by name, in the order of `CAPTIONS`, others last."""
    found = set()
    for path in [*folder.glob("*.svg"), *folder.glob("*.png")]:
        # One system's name may begin another's.
        owners = [other for other in names if path.stem.startswith(f"{other}_")]
        if name == max(owners, key=len, default=None):
            found.add(path.stem.removeprefix(f"{name}_"))
    places = {figure: place for place, figure in enumerate(captions.CAPTIONS)}
    pictures = {}
    for figure in sorted(found, key=lambda figure: (places.get(figure, len(places)), figure)):
        title, caption = captions.CAPTIONS.get(figure, (figure.replace("_", " ").capitalize(), ""))
        if (picture := _picture(folder / f"{name}_{figure}", title, caption)) is not None:
            pictures[figure] = picture
    return pictures


def _picture(stem: Path, title: str, caption: str) -> Picture | None:
    for kind, media in (("svg", "image/svg+xml"), ("png", "image/png")):
        path = stem.with_name(f"{stem.name}.{kind}")
        if path.is_file():
            content = path.read_bytes()
            points = re.search(rb'<svg[^>]*? width="([0-9.]+)pt"', content)
            width = round(float(points.group(1)) / 72 * PIXELS_PER_INCH) if points else None
            return Picture(title, caption, data_uri(content, media), width)
    return None


def data_uri(content: bytes, media: str) -> str:
    """The content itself as a source for `<img>`, so that the page needs no other file."""
    return f"data:{media};base64,{base64.b64encode(content).decode()}"


def plain_table(table: pd.DataFrame) -> list[list[str]]:
    """A raw table's cells as text, floats to four significant digits, a dash where there is none."""
    return [[_plain(cell) for cell in row] for row in table.itertuples(index=False)]


def _plain(cell: Any) -> str:
    if pd.isna(cell):
        return "–"
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)


def _studies(results: Path) -> list[StudyPage]:
    """Known studies in the order of `STUDIES`, then others under their names."""
    paths = {path.stem: path for path in sorted((results / "studies").glob("*.csv"))}
    pages = []
    for name in [*(name for name in STUDIES if name in paths), *(name for name in paths if name not in STUDIES)]:
        table = files.read_table(paths[name], ())
        study = STUDIES.get(name)
        title = study.title if study else name.replace("_", " ").capitalize()
        picture = _picture(results / "figures" / f"study_{name}", title, study.caption if study else "")
        found = study.sentences(table) if study else []
        summary = study.table(table) if study else None
        whole = table if len(table) <= MOST_ROWS else None
        intro = study.intro if study else ""
        pages.append(StudyPage(name, title, intro, picture, found, summary, whole, len(table)))
    return pages


def _experiments(results: Path) -> list[ExperimentPage]:
    pages = []
    for path in sorted((results / "experiments").glob("*.csv")):
        if path.stem.endswith("_comparisons"):
            continue
        table, differences = read_experiment(path)
        caption = f"{captions.EXPERIMENT} {captions.DIFFERENCES}" if differences is not None else captions.EXPERIMENT
        picture = _picture(results / "figures" / f"experiment_{path.stem}", path.stem, caption)
        settings = [setting_name(name) for name in varied_settings(table)]
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
