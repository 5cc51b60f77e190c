# Everything sets itself up from nothing: a Python of 3.11 or later is all that must be there.
#   make demo    a real C project is built once, and then fetched; a calculation is recorded, and compared
#   make test    the whole test suite, through the installed commands
#   make test-all  the same, and on servers that take longer to set up (Ceph, Swift, Azurite, another BuildGrid, Bazel)
#   make check   format, lint, types, layers, dead code
#   make bench   side by side with other task caches (BENCH_ARGS=... is passed on)
#   make docs    the reference pages that are made from the code, and every link
# CAPSULA_PYTHON=/path/to/python3 chooses the interpreter; PYTEST_ARGS='-k glob' chooses tests.

.DELETE_ON_ERROR:
.PHONY: all demo test test-all check bench docs format clean
all: check test

BIN = .venv/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check -qq
# Two at a time: many tests wait for processes. -n 0 runs them in one process, for a debugger.
PYTEST_ARGS = -n 2

# What the wheel is made of: when one of these is newer than the installed commands, they are installed again.
SOURCES := $(shell find src scripts -name __pycache__ -prune -o -print) pyproject.toml dev/hatch_together.py

.venv/bin/python:
	dev/venv .venv

.venv/tools.stamp: .venv/bin/python pyproject.toml dev/constraints.txt
	dev/install-tools $(BIN)/python
	@touch $@

# As users get it, from a wheel: the tests of the commands run what pip installs, not the source tree.
.venv/capsula.stamp: .venv/tools.stamp $(SOURCES)
	$(PIP) install --no-build-isolation --no-deps --force-reinstall .
	@touch $@

.venv/servers.stamp: .venv/bin/python dev/servers dev/servers.txt
	dev/servers $(BIN)/python .venv/servers
	@touch $@

test: .venv/capsula.stamp .venv/servers.stamp
	@dev/need git cc nginx
	$(BIN)/python -m pytest $(PYTEST_ARGS)

.venv/more-servers.stamp: .venv/bin/python dev/more-servers dev/more-servers.txt
	dev/more-servers $(BIN)/python .venv/more-servers
	@touch $@

# Servers take long to start: the tests of a module or class stay together.
test-all: .venv/capsula.stamp .venv/servers.stamp .venv/more-servers.stamp
	@dev/need git cc nginx
	$(BIN)/python -m pytest -m '' --dist loadscope $(PYTEST_ARGS)

check: .venv/tools.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	PYTHONPATH=src $(BIN)/lint-imports --no-cache
	$(BIN)/python dev/dead_code.py

format: .venv/tools.stamp
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

demo: .venv/capsula.stamp
	@dev/need make cc
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python demo/build.py
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python demo/record.py

bench: .venv/capsula.stamp
	$(BIN)/python bench/run.py $(BENCH_ARGS)

docs: .venv/tools.stamp
	PYTHONPATH=src $(BIN)/python -m capsula.cli.help --markdown > docs/reference.md
	$(BIN)/python dev/links.py

clean:
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
