# make demo | example | test | coverage | browser | test-faults | test-cluster | lint | docs | schemas | lock | clean; each runs in a fresh clone with nothing else done first.
VENV ?= .venv
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
BIN := $(VENV)/bin
READY := $(VENV)/.ready
CORES ?= 2
export PATH := $(abspath $(BIN)):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help setup demo example test coverage browser test-faults test-cluster lint schemas docs lock clean

help:
	@echo "make setup    environment in $(VENV), from requirements.lock"
	@echo "make demo     the embedded study, from nothing to reports/tiny.html"
	@echo "make example  the same, and its page as reports/example.html"
	@echo "make test     the tests, with a small study through both frameworks"
	@echo "make coverage the tests, and which lines of cascadebench/ and adapters/ they run"
	@echo "make browser  Chromium for the tests of the report, by apt-get; as root"
	@echo "make test-faults  kills and restarts a small study, some sixty times"
	@echo "make test-cluster   a study with faults on a Slurm of this machine's own; as root"
	@echo "make lint     ruff, snakefmt, snakemake --lint"
	@echo "make docs     the generated pages under docs/ and the schemas under workflows/schemas/"

setup: $(READY)

# The packages come with all their pins, so pip need not resolve (--no-deps). setuptools and wheel first: mmcv is built
# from source in seconds, without compiled operators, because the isolated build sees no torch.
$(READY): requirements.lock detectron2.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(v not in [(3, 11), (3, 12)] and \
	  f"CascadeBench needs Python 3.11 or 3.12; {sys.executable} is {v[0]}.{v[1]}. Say: make setup PYTHON=/path/to/python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-deps -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	$(BIN)/python -c 'import detectron2' 2>/dev/null || $(BIN)/python -m pip install --quiet --no-deps \
	  --target "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
	  --python-version 3.10 --implementation cp --abi none --platform any --only-binary=:all: -r detectron2.lock
	touch $@
	$(BIN)/cascadebench doctor

demo: $(READY)
	$(BIN)/snakemake --cores $(CORES) --config study=tiny
	@echo "Open reports/tiny.html in a browser."

# Its tables stay under results/studies/tiny: the bootstrap samples behind the verdicts are a megabyte and more.
example: demo
	cp reports/tiny.html reports/example.html

# Files of tests are shared out among the cores; each stays in one process, with what it has prepared.
test: $(READY)
	$(BIN)/python -m pytest tests -n $(CORES) --dist loadfile

# Programs that the tests start are counted, too. Every line: build/coverage/index.html.
coverage: $(READY)
	$(BIN)/python -m pytest tests -n $(CORES) --dist loadfile --cov --cov-report=term --cov-report=html

# Without a browser the tests that open the report in one are skipped, and say so.
browser:
	@if ! { test "$$CHROMIUM" || command -v chromium || command -v chromium-browser || command -v google-chrome; } > /dev/null; then \
	  command -v apt-get > /dev/null || { echo "make browser: install Chromium or Chrome" >&2; exit 1; }; \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends chromium; \
	fi

# Minutes: kills every step of a small study again and again, and compares every byte at the end.
test-faults: $(READY)
	rm -rf build/faults
	$(BIN)/python tests/faults/campaign.py --kills 60 --folder build/faults

test-cluster: $(READY)
	@if [ "$$(id -u)" != 0 ]; then echo "make test-cluster: slurmd starts jobs as root; run it as root, in a container" >&2; exit 1; fi
	@for daemon in munged slurmctld slurmd; do command -v $$daemon > /dev/null || missing=yes; done; \
	if [ "$$missing" ]; then \
	  command -v apt-get > /dev/null || { echo "make test-cluster: install slurm-wlm and munge" >&2; exit 1; }; \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends slurm-wlm munge; \
	fi
	$(BIN)/python -m pytest tests/cluster/faults.py

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflows
	$(BIN)/snakemake --lint

schemas: $(READY)
	$(BIN)/cascadebench schemas

# The controls' page says where each framework's values are read: the embedded study is inspected for it.
docs: schemas
	mkdir -p build/docs
	$(BIN)/snakemake --cores $(CORES) --quiet all --workflow-profile profiles/default --directory build/docs inspections \
	  --config study=tiny
	$(BIN)/cascadebench docs tiny --results build/docs/results

lock: $(READY)
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --override requirements.overrides --no-annotate \
	  --custom-compile-command "make lock" requirements.in -o requirements.lock

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache
