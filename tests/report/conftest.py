"""A small, made-up run of the shape a real one leaves."""

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import studies
from described import committed
from PIL import Image

from sysdpo.base.tables import VALUE_COLUMNS
from sysdpo.report.descriptions import Descriptions
from sysdpo.report.experiments import write_experiment_figure
from sysdpo.report.run import Run, read_run, write_figure
from sysdpo.report.statistics import compare, summarise
from sysdpo.report.study import write_study_figure

SYSTEM = "progressive_images"
GALLERY = "sysdpo.applications.images.gallery:gallery"
OWN = "sysdpo.applications.images.figures"
FIGURES = {
    SYSTEM: ("comparison", GALLERY, f"{OWN}:attributes", "training", "frontier", f"{OWN}:words"),
    "two_stage_qa": ("comparison", "sampling", "credit"),
}
SHARES = {"before": 0.3, "only_writer": 0.45, "only_painter": 0.5, "separate": 0.7, "direct": 0.72}
TRAINED = [method for method in SHARES if method != "before"]
ANSWERED = {"before": 0.3, "best_of_n": 0.6, "only_first": 0.4, "only_second": 0.5, "separate": 0.75}
ANSWERED |= {"direct": 0.8, "sampling": 0.7, "single_sample": 0.5}


def png(rng: np.random.Generator) -> bytes:
    written = io.BytesIO()
    Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(written, "PNG")
    return written.getvalue()


@pytest.fixture(scope="session")
def described() -> Descriptions:
    """What is committed of the two applications."""
    return committed()


@pytest.fixture(scope="session")
def run_of(made_up_results: Path):
    """A function from the name of a system to its made-up run."""
    tables = made_up_results / "metrics.csv", made_up_results / "comparisons.csv"

    def read(system: str) -> Run:
        return read_run(system, committed(), *tables, made_up_results / "runs" / system)

    return read


@pytest.fixture(scope="session")
def made_up_results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two systems, two seeds, twelve prompts, one or two samples, an experiment, a study."""
    results = tmp_path_factory.mktemp("made-up") / "results"
    rng = np.random.default_rng(0)
    runs = results / "runs" / SYSTEM
    runs.mkdir(parents=True)
    prompts = [(f"p{i:02d}", "test", f"a cat getting angrier, <{i}>", "anger" if i % 2 else "size") for i in range(12)]
    pd.DataFrame(prompts, columns=["prompt_id", "split", "text", "attribute"]).to_parquet(runs / "prompts.parquet")
    tables = []
    for seed in (0, 1):
        _write_foundation(runs / str(seed))
        for method, share in SHARES.items():
            folder = runs / str(seed) / method
            values = _write_evaluation(folder / "evaluation", [p[0] for p in prompts], share, rng)
            tables.append(values.assign(system=SYSTEM, method=method, seed=seed))
            if method in TRAINED:
                _write_training(folder / "training", rng)
    values, answers = pd.concat(tables), _write_questions(results / "runs" / "two_stage_qa", rng)
    metric_of = committed().metric
    summarise(pd.concat([values, answers]), metric_of).to_csv(results / "metrics.csv", index=False)
    trained = [name for name in ANSWERED if name not in ("before", "best_of_n")]
    comparisons = (
        compare(values, list(SHARES), TRAINED, metric_of),
        compare(answers, list(ANSWERED), trained, metric_of),
    )
    pd.concat(comparisons).to_csv(results / "comparisons.csv", index=False)
    _write_experiments(results / "experiments")
    (results / "studies").mkdir()
    studies.gradients().to_csv(results / "studies" / "gradients.csv", index=False)
    studies.coverage().to_csv(results / "studies" / "coverage.csv", index=False)
    return results


@pytest.fixture(scope="session")
def made_up_figures(made_up_results: Path, run_of) -> Path:
    """The folder with all figures of the made-up run."""
    output = made_up_results / "figures"
    for system, names in FIGURES.items():
        for name in names:
            write_figure(run_of(system), name, output)
    for study in ("gradients", "coverage"):
        write_study_figure(study, made_up_results / "studies" / f"{study}.csv", output)
    write_experiment_figure("beta", made_up_results / "experiments" / "beta.csv", committed(), output)
    return output


def _write_foundation(folder: Path) -> None:
    (folder / "foundation").mkdir(parents=True)
    levels = [
        {
            "attribute": a,
            "word": w,
            "level_asked": x,
            "level_drawn_mean": x,
            "level_drawn_std": 0.1,
            "right_share": 0.6,
        }
        for a in ("anger", "size")
        for w, x in ((f"low-{a}", 0.1), (f"high-{a}", 0.9))
    ]
    quality = {
        "painter_levels": levels,
        "regressor_r2_rendered": {"anger": 0.9},
        "regressor_r2_generated": {"anger": 0.8},
    }
    (folder / "foundation" / "quality.json").write_text(json.dumps(quality))


def _write_evaluation(folder: Path, prompts: list[str], share: float, rng: np.random.Generator) -> pd.DataFrame:
    folder.mkdir(parents=True)
    samples, metrics = [], []
    for prompt in prompts:
        for sample in (0, 1):
            levels = rng.random(3)
            levels = np.sort(levels) if rng.random() < share else levels
            row = {"trajectory_id": f"{prompt}-{sample}", "prompt_id": prompt, "sample": sample}
            row |= {"score": float(levels[2] - levels[0])}
            for index, level in enumerate(levels, start=1):
                row |= {f"caption_{index}": "a calm cat & co", f"image_{index}": png(rng)}
                row |= {f"attribute_{index}": float(level)}
            samples.append(row)
            values = {
                "order_consistency": float(levels[0] < levels[1] < levels[2]),
                "preference_score": float(levels[2] - levels[0]),
                "kl_writer": share * 2,
                "kl_painter": share * 3,
            }
            metrics += [(prompt, prompt, sample, name, value) for name, value in values.items()]
    pd.DataFrame(samples).to_parquet(folder / "samples.parquet")
    table = pd.DataFrame(metrics, columns=list(VALUE_COLUMNS))
    table.to_parquet(folder / "metrics.parquet")
    return table


def _write_training(folder: Path, rng: np.random.Generator) -> None:
    folder.mkdir(parents=True)
    fields = ["loss", "accuracy", "margin"]
    fields += [f"{quantity}_{name}" for quantity in ("margin", "chosen", "rejected") for name in ("writer", "painter")]
    # The second round counts its steps from zero again, as a log may.
    lines = [
        {"step": step, "round": number, **{name: float(rng.random()) for name in fields}}
        for number in (0, 1)
        for step in range(0, 20, 2)
    ]
    (folder / "training.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def _write_experiments(folder: Path) -> None:
    folder.mkdir()
    rows, differences = [], []
    for index, (beta, pairs) in enumerate((b, p) for b in (0.1, 0.5, 1.0) for p in ("all", "best_worst")):
        point = {"experiment": "beta", "system": SYSTEM, "beta": beta, "pairs": pairs}
        for method in ("separate", "direct"):
            for metric in ("order_consistency", "preference_score", "kl_writer"):
                numbers = {"mean": beta, "ci_low": beta - 0.1, "ci_high": beta + 0.1}
                rows.append(
                    {
                        **point,
                        "variant": f"beta-{method}-{index:02d}",
                        "method": method,
                        "metric": metric,
                        **numbers,
                    }
                )
        against = {"method": "direct", "baseline": "separate", "metric": "order_consistency"}
        differences.append({**point, **against, "difference": beta - 0.5, "ci_low": beta - 0.6, "ci_high": beta - 0.4})
    pd.DataFrame(rows).to_csv(folder / "beta.csv", index=False)
    pd.DataFrame(differences).to_csv(folder / "beta_comparisons.csv", index=False)


def _write_questions(runs: Path, rng: np.random.Generator) -> pd.DataFrame:
    """A run of the second application; its evaluations as one long table."""
    runs.mkdir(parents=True)
    prompts = [(f"q{i:02d}", "test", f"What is {i} + <{i}>?", str(2 * i)) for i in range(12)]
    pd.DataFrame(prompts, columns=["prompt_id", "split", "text", "answer"]).to_parquet(runs / "prompts.parquet")
    tables = []
    for seed in (0, 1):
        for method, share in ANSWERED.items():
            right = rng.random(len(prompts)) < share
            samples = [
                {"prompt_id": name, "sample": 0, "draft": f"add {2 * i} & go", "answer": str(2 * i + (not good))}
                | {"draft_tokens": [1, 2], "answer_tokens": [3], "score": float(good)}
                for i, ((name, *_), good) in enumerate(zip(prompts, right, strict=True))
            ]
            folder = runs / str(seed) / method
            (folder / "evaluation").mkdir(parents=True)
            pd.DataFrame(samples).to_parquet(folder / "evaluation" / "samples.parquet")
            measured = {"accuracy": right * 1.0, "accuracy_greedy": right * 1.0, "preference_score": right * 1.0}
            measured |= {"length": right * 2.0, "kl_first": right * share, "kl_second": right + share}
            values = pd.DataFrame(measured).assign(prompt_id=[prompt[0] for prompt in prompts], sample=0)
            values = values.melt(["prompt_id", "sample"], var_name="metric")
            values["content"] = values["prompt_id"]
            values.to_parquet(folder / "evaluation" / "metrics.parquet")
            tables.append(values.assign(system="two_stage_qa", method=method, seed=seed))
            if method not in ("before", "best_of_n"):
                _write_log(folder / "training", method, seed, rng)
    return pd.concat(tables)


def _write_log(folder: Path, method: str, seed: int, rng: np.random.Generator) -> None:
    """The first model's chosen log-ratio rises, the second's falls."""
    trained = [method.removeprefix("only_")] if method.startswith("only_") else ["first", "second"]
    lines = []
    for step in range(40):
        line = {"step": step, "round": 0, "loss": 0.7 - step / 80 + 0.05 * rng.random(), "accuracy": 0.5 + step / 100}
        for name in trained:
            chosen = step / 10 * (1 if name == "first" else -1) + seed + 0.2 * rng.random()
            line |= {f"chosen_{name}": chosen, f"rejected_{name}": chosen - step / 20, f"margin_{name}": step / 20}
        if method in ("sampling", "single_sample"):
            count = 4 if method == "sampling" else 1
            line |= {"candidates": count, "effective_sample_size": 1 + (count - 1) / (2 + step)}
            line |= {"likeliest_candidate": 1 - (count - 1) / (10 + step)}
            line |= {"candidate_mass": 0.7} if method == "sampling" else {}
        lines.append(line)
    folder.mkdir(parents=True)
    (folder / "training.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
