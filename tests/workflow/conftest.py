"""Projects to run the workflow in; the steps are stubs, see `project.py`."""

import shutil
from pathlib import Path

import pytest
from project import Project, make_project

EXPERIMENTS = {
    "tune": {
        "system": "progressive_images",
        "seeds": [0],
        "split": "validation",
        "methods": ["direct", "separate"],
        "grid": {"beta": [0.1, 1.0]},
    },
    "sweep_pairs": {
        "system": "progressive_images",
        "seeds": [0],
        "split": "test",
        "methods": ["direct"],
        "grid": {"choice": {"extreme": {"pairs": "best_worst"}, "all": {"pairs": "all"}}},
    },
}


ABLATIONS = {
    "direct+likelihood": {"objective": "direct", "chosen_weight": {"writer": 0.5, "painter": 0.1}},
    "swap": {"objective": "none", "take": {"writer": "direct", "painter": "separate"}},
}

CLAIMS = """
claims:
  - {id: one, system: progressive_images, metric: order_consistency, method: direct, baseline: separate, sign: above}
"""


def small_project(folder: Path) -> Project:
    """One system and seed, no study, a claim, two experiments, and of the methods two without training and two with."""
    (folder / "claims.yaml").write_text(CLAIMS)
    over = {"seeds": [0], "claims": "claims.yaml", "experiments": EXPERIMENTS, "studies": {}}
    project = make_project(folder, over)
    config = project.config
    project.config = config | {"systems": {project.system: config["systems"][project.system]}}
    rows = project.config["systems"]["progressive_images"]["methods"]
    project.edit({name: rows[name] for name in ("before", "best_of_n", "separate", "direct")}, "methods")
    project.edit(ABLATIONS, "ablations")
    project.edit(["before", "separate"], "baselines")
    return project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Nothing has run yet."""
    return small_project(tmp_path)


@pytest.fixture(scope="session")
def finished_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    project = small_project(tmp_path_factory.mktemp("finished"))
    project.run()
    return project.folder


@pytest.fixture
def finished(finished_once: Path, tmp_path: Path) -> Project:
    """A copy of a project whose default target has been made."""
    copy = tmp_path / "project"
    shutil.copytree(finished_once, copy, symlinks=True)
    return Project(copy)
