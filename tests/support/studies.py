"""Made-up tables of studies."""

import pandas as pd


def gradients() -> pd.DataFrame:
    """A study's table: beams whose bias is 1/K, draws without bias whose spread is 1/sqrt(K)."""
    rows = []
    for system in ("chain", "two_stage_qa"):
        for count in (1, 2, 4, 8):
            shared = {"system": system, "candidates": count, "value_bias": 0.1, "mass": 1 - 1 / count}
            for diversity in (0.0, 1.0):
                beams = {"generator": "diverse_beam", "estimator": "truncated", "diversity": diversity}
                rows.append({**shared, **beams, "bias": (1 + diversity) / count, "bias_se": 0.0, "spread": 0.0})
            draws = {"generator": "ancestral", "estimator": "importance", "temperature": 1.0}
            rows.append({**shared, **draws, "bias": 0.0, "bias_se": 0.01, "spread": count**-0.5})
    return pd.DataFrame(rows)


def coverage() -> pd.DataFrame:
    """A study's table: a mean always covered as it should be, a proportion that seeds' differences spoil."""
    rows = []
    for contents in (40, 10):
        for variance in (0.0, 1.0):
            for seeds in (1, 3, 5):
                fixed = {"prompts": 40, "contents": contents, "seed_variance": variance, "seeds": seeds}
                fixed |= {"coverage_se": 0.005, "width": 0.1}
                rows.append(
                    {"kind": "mean score", "rate": float("nan"), "rival_rate": float("nan"), **fixed, "coverage": 0.95}
                )
                spoilt = {"kind": "proportion", "rate": 0.9, "rival_rate": float("nan"), **fixed}
                rows.append(spoilt | {"coverage": 0.95 - variance / seeds / 2})
    return pd.DataFrame(rows)
