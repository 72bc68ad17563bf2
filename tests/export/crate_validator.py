"""The public validator of RO-Crates (PyPI: roc-validator), offline: the JSON-LD context is the one rocrate carries."""

from io import BytesIO
from pathlib import Path

import pytest
import rocrate


def required_issues(crate: Path, profiles: list[str], folder: Path) -> dict[str, list[str]]:
    """What a crate lacks of what each profile requires; skips if the validator is not installed."""
    pytest.importorskip("rocrate_validator", reason="the package roc-validator is not installed")
    from rocrate_validator.models import Severity
    from rocrate_validator.services import ValidationSettings, validate

    cache = folder / "documents"
    keep_context(cache, "https://w3id.org/ro/crate/1.1/context")
    found = {}
    for profile in profiles:
        settings = {
            "rocrate_uri": str(crate),
            "profile_identifier": profile,
            "requirement_severity": Severity.REQUIRED,
            "offline": True,
            "cache_path": str(cache),
        }
        found[profile] = [issue.message for issue in validate(ValidationSettings.parse(settings)).get_issues()]
    return found


def keep_context(cache: Path, url: str) -> None:
    """Put the JSON-LD context that rocrate carries into the validator's store of documents.

    It is that of a later version, in which every term of the asked one means the same.
    """
    from requests import Response
    from requests.adapters import BaseAdapter
    from requests_cache import CachedSession
    from urllib3 import HTTPResponse

    text = (Path(rocrate.__file__).parent / "data" / "ro-crate.jsonld").read_bytes()

    class Shelf(BaseAdapter):
        def send(self, request, **_) -> Response:
            response = Response()
            response.status_code, response.url, response.request = 200, request.url, request
            response.headers["Content-Type"] = "application/ld+json"
            response.raw = HTTPResponse(BytesIO(text), response.headers, preload_content=False, request_url=request.url)
            return response

        def close(self) -> None:
            pass

    with CachedSession(cache_name=str(cache), backend="sqlite", expire_after=-1) as session:
        session.mount("https://", Shelf())
        session.get(url)
