# `make run` and `make test` set up everything they need in .venv/ and do it.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: run test test-slow test-browser test-tpu test-cuda mutants lint benchmarks setup clean
setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Python >= 3.11 is needed: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing ssddl_jax and what it needs into $(VENV)/ (once; a minute or two)" >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	@touch $@

run: setup
	@$(BIN)/ssddl run --out runs/mnist --overwrite

test: setup
	@$(BIN)/python -m pytest -n auto --dist loadfile -m "not slow"

test-slow: setup
	@$(BIN)/python -m pytest -n auto --dist loadfile -m slow

# Five planted faults, drawn by the commit: a test must find each.
mutants: setup
	@$(BIN)/python tests/mutants.py --five --until module

# The report in a real headless browser: the system's chromium, driven by the extra `browser`.
$(VENV)/.browser: $(VENV)/.installed
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[browser]'
	@touch $@

test-browser: $(VENV)/.browser
	@$(BIN)/python -m pytest -rs tests/test_report_browser.py

# The TPU's compiler in an environment of its own: where it is installed, JAX looks for TPUs.
test-tpu:
	@$(MAKE) --no-print-directory setup VENV=.venv-tpu
	@.venv-tpu/bin/python -m pip install --quiet --disable-pip-version-check -e '.[test,tpu]'
	@JAX_PLATFORMS=cpu .venv-tpu/bin/python -m pytest -m slow -k "chips or topology" tests/test_ahead.py
	@.venv-tpu/bin/python benchmarks/tpu_estimates.py --tiny

# XLA's compiler for GPUs, which needs none, in an environment of its own: it is 3 GB.
test-cuda:
	@$(MAKE) --no-print-directory setup VENV=.venv-cuda
	@.venv-cuda/bin/python -m pip install --quiet --disable-pip-version-check -e '.[test,cuda]'
	@JAX_PLATFORMS=cpu .venv-cuda/bin/python -m pytest -m slow -k "gpus_of_one_host" tests/test_ahead.py

$(VENV)/.linters: $(VENV)/.installed
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[lint]'
	@touch $@

lint: $(VENV)/.linters
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo --no-cache

# That each runs whole, compiled without optimisation, as the tests are. `tpu_estimates.py` needs
# the TPU's compiler: `make test-tpu` runs it.
benchmarks: setup
	@for file in benchmarks/*.py; do \
		echo "$$file --tiny"; \
		JAX_DISABLE_MOST_OPTIMIZATIONS=1 $(BIN)/python $$file --tiny || exit 1; done

clean:
	rm -rf .venv .venv-3.12 .venv-tpu .venv-cuda .venv-peers-* .pytest_cache .mypy_cache .ruff_cache build
