"""JSON Schemas, generated from the models: editors complete and check configuration files with them."""

from pathlib import Path

from cascadebench.core.configuration import Configuration
from cascadebench.core.files import write_json
from cascadebench.datasets.card import DatasetCard
from cascadebench.detectors.backbone import BackboneFile, WeightsCard
from cascadebench.detectors.cards import FrameworkCard, VariantCard
from cascadebench.evidence.claims import ClaimsFile
from cascadebench.evidence.hypotheses import StudyFileWithHypotheses
from cascadebench.evidence.published import PublishedFile
from cascadebench.evidence.source_protocols import SourceFile
from cascadebench.imported.record import ImportedFile
from cascadebench.study.protocol import Protocol
from cascadebench.study.run import Run

MODELS: dict[str, type[Configuration]] = {
    "study": StudyFileWithHypotheses,
    "protocol": Protocol,
    "dataset": DatasetCard,
    "backbone": BackboneFile,
    "weights": WeightsCard,
    "variant": VariantCard,
    "framework": FrameworkCard,
    "run": Run,
    "published": PublishedFile,
    "claims": ClaimsFile,
    "source_protocol": SourceFile,
    "imported": ImportedFile,
}


def schema(name: str) -> dict:
    """JSON Schema of the model with this name."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | MODELS[name].model_json_schema()


def write_schemas(folder: Path) -> None:
    """Write ``<name>.schema.json`` for every model."""
    for name in MODELS:
        write_json(folder / f"{name}.schema.json", schema(name))
