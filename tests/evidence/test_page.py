"""docs/evidence.md names every claim and every metric."""

from cascadebench.core.configuration import PROJECT
from cascadebench.evidence.claims import load_claims
from cascadebench.evidence.metrics import PUBLISHED_METRICS

PAGE = (PROJECT / "docs" / "evidence.md").read_text(encoding="utf-8")


def test_every_claim_has_its_row_in_order():
    rows = [f"| `{claim.id}` | {claim.words} | {claim.place} |" for claim in load_claims().values()]
    assert [
        line for line in PAGE.splitlines() if line.startswith("| `") and line.split("`")[1] in load_claims()
    ] == rows


def test_every_kind_of_metric_is_named():
    plain = [name for name in PUBLISHED_METRICS if not name.startswith(("AP", "mask_", "proposal_AR"))]
    assert [name for name in [*plain, "proposal_AR100", "proposal_AR1000", "mask_"] if f"`{name}`" not in PAGE] == []
