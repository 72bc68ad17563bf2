"""Run ids of every study: finished results are found until a revision says that numbers have changed."""

from itertools import groupby
from pathlib import Path

import pytest

from cascadebench.study_loading import load_study

LINES = [line.split() for line in Path(__file__).with_name("run_ids.txt").read_text().splitlines()]
RUN_IDS = {study: [run_id for _, run_id in lines] for study, lines in groupby(LINES, key=lambda line: line[0])}


@pytest.mark.parametrize("study", RUN_IDS)
def test_the_runs_of_a_study_have_the_ids_that_they_had(study):
    assert [planned.run.id for planned in load_study(study).runs] == RUN_IDS[study]
