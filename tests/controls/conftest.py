"""Studies and their readings."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from readings import Controls, right_controls
from small_studies import two_detectors

from cascadebench.core.configuration import CONFIG, merged, read_yaml
from cascadebench.study.study import Study
from cascadebench.study_loading import load_study


@pytest.fixture
def changed_study(tmp_path: Path) -> Callable[..., Study]:
    """Load a study of config/studies/ with some keys changed; of the embedded one the first two detectors."""

    def load(name: str = "tiny", **changes: Any) -> Study:
        content = read_yaml(CONFIG / "studies" / f"{name}.yaml")
        if name == "tiny":
            content["variants"] = content["variants"][:2]
        content = merged(content, {"name": "changed"} | changes)
        (tmp_path / "changed.yaml").write_text(yaml.safe_dump(content))
        return load_study(str(tmp_path / "changed.yaml"))

    return load


@pytest.fixture(scope="session")
def study() -> Study:
    """Of the embedded study Faster R-CNN, the baseline, and Cascade R-CNN in both frameworks, one seed."""
    return two_detectors()


@pytest.fixture
def study_file(tmp_path: Path) -> Path:
    """File of that study, for the command line."""
    content = read_yaml(CONFIG / "studies" / "tiny.yaml")
    content["variants"] = content["variants"][:2]
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture
def controls(study: Study) -> Controls:
    """Readings of the embedded study without a violation."""
    return right_controls(study)
