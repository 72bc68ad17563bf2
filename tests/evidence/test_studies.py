"""The project's studies run what the claims that they name are about."""

import pytest

from cascadebench.core.configuration import CONFIG, read_yaml
from cascadebench.evidence.claims import load_claims
from cascadebench.evidence.comparability import reasons_not_comparable
from cascadebench.evidence.published import complete_options
from cascadebench.study_loading import load_study

ON_OTHER_DATA = {"tiny": "shapes", "blood_cells": "blood_cells"}
"""Studies that measure claims where no source made them."""
STUDIES = [path.stem for path in sorted((CONFIG / "studies").glob("*.yaml")) if read_yaml(path).get("claims")]


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_has_the_runs_of_its_claims_on_their_data_and_schedule(name):
    study = load_study(name)
    runs = [planned.run for planned in study.runs]
    for claim in (load_claims()[name] for name in study.file.claims):
        of_claim = []
        for term in claim.terms:
            options = complete_options(term.variant, term.options, claim.id)
            found = [run for run in runs if (run.variant.name, run.variant.options) == (term.variant, options)]
            assert found, f"{claim.id}: {term.variant} {term.options} is not in the study"
            of_claim += found
        *reasons, audit = reasons_not_comparable(claim, of_claim, None)
        assert audit == "the controls were not audited"
        if name in ON_OTHER_DATA:
            assert reasons[0] == f"data: {ON_OTHER_DATA[name]} here, coco2017 in the source", claim.id
        else:
            assert reasons == [], claim.id


@pytest.mark.parametrize("name", sorted(set(STUDIES) - set(ON_OTHER_DATA)))
def test_a_study_has_the_seeds_that_its_claims_need(name):
    """Else all its runs may succeed, and the claim reads that it was not run."""
    file = load_study(name).file
    assert [claim for claim in file.claims if load_claims()[claim].seeds > len(file.seeds)] == []


def test_every_claim_is_tested_by_a_study():
    named = {claim for name in STUDIES for claim in read_yaml(CONFIG / "studies" / f"{name}.yaml")["claims"]}
    assert named == set(load_claims())
