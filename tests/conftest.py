"""What the conformance suite takes on the command line."""

import os
from pathlib import Path

import pytest

from adapters.portable_arithmetic import PORTABLE, missing_instructions
from cascadebench.core.errors import InputError
from cascadebench.detectors.variant_catalog import find_variant, own_variants

if not missing_instructions():
    os.environ.update(PORTABLE)  # before torch: the embedded study's runs, which tests build here, ask for it


def pytest_addoption(parser: pytest.Parser) -> None:
    """Which variants the conformance suite examines."""
    group = parser.getgroup("conformance of variants")
    group.addoption("--variant", action="append", default=[], help="examine this variant; default: the project's own")
    group.addoption(
        "--variant-folder", action="append", default=[], help="folder with variants of your own, each in its folder"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Refuse variants that do not load before any test begins."""
    folders = [Path(folder) for folder in config.getoption("--variant-folder")]
    try:
        for name in config.getoption("--variant"):
            find_variant(name, "--variant", folders)
    except InputError as error:
        raise pytest.UsageError(str(error)) from error


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test once for every variant that it asks for by the argument `variant_name`."""
    if "variant_name" in metafunc.fixturenames:
        names = metafunc.config.getoption("--variant") or own_variants()
        metafunc.parametrize("variant_name", names, scope="module")
