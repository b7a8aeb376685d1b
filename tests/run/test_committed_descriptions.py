"""What is committed of descriptions is what the code says: a clone has it, and its runs do not make it anew."""

from pathlib import Path

import pytest
import yaml

from sysdpo.method.config import load_config
from sysdpo.method.scales import merged, without_dropped
from sysdpo.run.cli import main

REPOSITORY = Path(__file__).parents[2]
SCALES = {"results": None, "results/debate": "debate", "results/crew": "crew"}


@pytest.mark.parametrize("folder", SCALES)
def test_committed_descriptions_are_those_of_the_code(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(REPOSITORY)
    config = load_config(Path("config.yaml"))
    if SCALES[folder] is not None:
        config = merged(config, yaml.safe_load(Path(f"workflow/scales/{SCALES[folder]}.yaml").read_text()))
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(without_dropped(config), sort_keys=False))
    output = tmp_path / "descriptions.json"
    assert main(["describe", "--config", str(tmp_path / "config.yaml"), "--output", str(output)]) == 0
    assert output.read_text() == Path(folder, "descriptions.json").read_text(), "sysdpo describe makes it again"
