"""Studies and their readings."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from readings import Controls, right_controls

from cascadebench.configuration import CONFIG, merged, read_yaml
from cascadebench.study import Study, load_study


@pytest.fixture
def changed_study(tmp_path: Path) -> Callable[..., Study]:
    """Load a study of config/studies/ with some keys changed."""

    def load(name: str = "tiny", **changes: Any) -> Study:
        content = merged(read_yaml(CONFIG / "studies" / f"{name}.yaml"), {"name": "changed"} | changes)
        (tmp_path / "changed.yaml").write_text(yaml.safe_dump(content))
        return load_study(str(tmp_path / "changed.yaml"))

    return load


@pytest.fixture
def study() -> Study:
    """The embedded study: Faster R-CNN, the baseline, and Cascade R-CNN in both frameworks, one seed."""
    return load_study("tiny")


@pytest.fixture
def controls(study: Study) -> Controls:
    """Readings of the embedded study without a violation."""
    return right_controls(study)
