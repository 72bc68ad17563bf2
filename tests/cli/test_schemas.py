"""The JSON Schemas under workflows/schemas are those of the models; `make schemas` writes them."""

import pytest

from cascadebench.cli.schemas import MODELS, schema
from cascadebench.core.configuration import PROJECT
from cascadebench.core.files import read_json

FOLDER = PROJECT / "workflows" / "schemas"


@pytest.mark.parametrize("name", MODELS)
def test_the_schema_on_disk_is_the_model_s(name):
    assert read_json(FOLDER / f"{name}.schema.json") == schema(name)


def test_there_is_no_other_schema():
    assert {path.name for path in FOLDER.iterdir()} == {f"{name}.schema.json" for name in MODELS}
