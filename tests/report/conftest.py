"""A small, made-up run of the shape a real one leaves."""

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from sysdpo.report.figures import write_experiment_figure, write_figures
from sysdpo.statistics import compare, summarise

SYSTEM = "progressive_images"
SHARES = {"before": 0.3, "only_writer": 0.45, "only_painter": 0.5, "separate": 0.7, "direct": 0.72}
TRAINED = [method for method in SHARES if method != "before"]


def png(rng: np.random.Generator) -> bytes:
    written = io.BytesIO()
    Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(written, "PNG")
    return written.getvalue()


@pytest.fixture(scope="session")
def made_up_results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five methods, two seeds, twelve prompts, two samples, two experiments."""
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
    values = pd.concat(tables)
    summarise(values).to_csv(results / "metrics.csv", index=False)
    compare(values, list(SHARES), TRAINED).to_csv(results / "comparisons.csv", index=False)
    _write_experiments(results / "experiments")
    return results


@pytest.fixture(scope="session")
def made_up_figures(made_up_results: Path) -> Path:
    """The folder with all figures of the made-up run."""
    output = made_up_results / "figures"
    tables = made_up_results / "metrics.csv", made_up_results / "comparisons.csv"
    write_figures(SYSTEM, *tables, made_up_results / "runs" / SYSTEM, output)
    write_experiment_figure("beta", made_up_results / "experiments" / "beta.csv", output)
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
            for place, level in enumerate(levels, start=1):
                row |= {f"caption_{place}": "a calm cat & co", f"image_{place}": png(rng)}
                row |= {f"attribute_{place}": float(level)}
            samples.append(row)
            values = {
                "order_consistency": float(levels[0] < levels[1] < levels[2]),
                "preference_score": float(levels[2] - levels[0]),
                "kl_writer": share * 2,
                "kl_painter": share * 3,
            }
            metrics += [(prompt, sample, name, value) for name, value in values.items()]
    pd.DataFrame(samples).to_parquet(folder / "samples.parquet")
    table = pd.DataFrame(metrics, columns=["prompt_id", "sample", "metric", "value"])
    table.to_parquet(folder / "metrics.parquet")
    return table


def _write_training(folder: Path, rng: np.random.Generator) -> None:
    folder.mkdir(parents=True)
    fields = ("loss", "accuracy", "margin_writer", "margin_painter")
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
    for place, (beta, pairs) in enumerate((b, p) for b in (0.1, 0.5, 1.0) for p in ("all", "best_worst")):
        point = {"experiment": "beta", "beta": beta, "pairs": pairs}
        for method in ("separate", "direct"):
            for metric in ("order_consistency", "preference_score", "kl_writer"):
                numbers = {"mean": beta, "ci_low": beta - 0.1, "ci_high": beta + 0.1}
                rows.append(
                    {
                        **point,
                        "variant": f"beta-{method}-{place:02d}",
                        "method": method,
                        "metric": metric,
                        **numbers,
                    }
                )
        against = {"method": "direct", "baseline": "separate", "metric": "order_consistency"}
        differences.append({**point, **against, "difference": beta - 0.5, "ci_low": beta - 0.6, "ci_high": beta - 0.4})
    pd.DataFrame(rows).to_csv(folder / "beta.csv", index=False)
    pd.DataFrame(differences).to_csv(folder / "beta_comparisons.csv", index=False)
