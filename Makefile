# What a newcomer, the README and CI use. Relative paths only: make can't handle a space in an absolute one.

PYTHON ?= python3
ARGS ?=
# test processes at once; they also wait for databases, so one more than a small machine has cores
JOBS ?= 3

VENV := .venv
PY := $(VENV)/bin/python
PIP_INSTALL := $(PY) -m pip install --quiet --disable-pip-version-check
# The suite and the benchmarks never touch the lab's own database. They start many processes: bytecode makes these faster.
CLEAN_ENV := env -u PYTHONDONTWRITEBYTECODE -u LABWEAVE_DATABASE_URL -u LABWEAVE_PREFIX -u LABWEAVE_LAB -u LABWEAVE_CONFIG

VENV_WORKS := $(PY) -c 'import pip, sys; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1

unexport PYTHONPATH PYTHONHOME

.DEFAULT_GOAL := help
.PHONY: help demo test fuzz bench lint docs clean remake

help:
	@echo "make demo    install labweave into .venv, run its demo on the embedded database, show the result"
	@echo "make test    the whole test suite, on the embedded database"
	@echo "make fuzz    10,000 damaged files through each reader, 10,000 hostile statements through the guard"
	@echo "make bench   the benchmarks in tests/benchmarks"
	@echo "make lint    ruff, pyright and the import contracts"
	@echo "make docs    the documentation, into site/"
	@echo "make clean   remove .venv, caches and everything built"
	@echo
	@echo "PYTHON=python3.12 chooses another Python (3.10 or newer; make clean first when .venv exists),"
	@echo "ARGS=... goes to the command: make test ARGS=\"-k rheobase\""

demo: $(VENV)/.installed
	$(PY) -m labweave --database embedded: demo $(ARGS)

test: $(VENV)/.installed-dev
	$(CLEAN_ENV) $(PY) -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

fuzz: $(VENV)/.installed-dev
	$(CLEAN_ENV) LABWEAVE_MUTANTS=10000 LABWEAVE_STATEMENTS=10000 $(PY) -m pytest tests/fuzz tests/database/test_guarded_queries.py -s -q -p no:cacheprovider $(ARGS)

bench: $(VENV)/.installed-dev
	$(CLEAN_ENV) $(PY) -m pytest tests/benchmarks -s -q -p no:cacheprovider $(ARGS)

lint: $(VENV)/.installed-dev
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m pyright
	$(PY) -c 'from importlinter.cli import lint_imports_command; lint_imports_command()'

docs: $(VENV)/.installed-docs
	$(PY) -m mkdocs build --strict $(ARGS)

clean:
	rm -rf $(VENV) build dist site .pytest_cache .ruff_cache .hypothesis .import_linter_cache .coverage
	find . -name .git -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

# Installs: once, and again when pyproject.toml has changed.

$(VENV)/.installed: $(VENV)/.made pyproject.toml
	@echo "Installing labweave into .venv (a minute or two the first time) ..."
	@$(PIP_INSTALL) --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.made pyproject.toml
	@echo "Installing labweave and its development tools into .venv (a minute or two the first time) ..."
	@$(PIP_INSTALL) --editable ".[dev]"
	@touch $(VENV)/.installed $@

$(VENV)/.installed-docs: $(VENV)/.made pyproject.toml
	@echo "Installing what builds the documentation into .venv ..."
	@$(PIP_INSTALL) --editable ".[docs]"
	@touch $(VENV)/.installed $@

# A .venv that does not run any more (moved Python, half made) is made anew; one that runs is kept.
ifneq ($(shell $(VENV_WORKS) && echo yes),yes)
$(VENV)/.made: remake
endif

$(VENV)/.made:
	@if ! $(VENV_WORKS); then \
	  "$(PYTHON)" --version >/dev/null 2>&1 || { \
	    echo "labweave needs Python 3.10 or newer, and there is no '$(PYTHON)' that runs." \
	      "Install Python, or name one: make demo PYTHON=python3.12" >&2; exit 1; }; \
	  "$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || { \
	    echo "labweave needs Python 3.10 or newer; '$(PYTHON)' is $$("$(PYTHON)" --version 2>&1)." \
	      "Name another: make demo PYTHON=python3.12" >&2; exit 1; }; \
	  "$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
	    echo "'$(PYTHON)' has no venv module." \
	      "On Debian or Ubuntu: apt-get install python3-venv, then the same command again." >&2; exit 1; }; \
	  echo "Making .venv with $$("$(PYTHON)" --version 2>&1) ..."; \
	  "$(PYTHON)" -m venv --clear $(VENV) || exit 1; \
	fi
	@touch $@
