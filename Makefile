# `make demo`: install, train for a minute, read what the model writes, see how it chose.
# `make test`: lint, types, and tests, a process for each core.
# `make machines`: the tests of compiled code and commands, as on other processors and with other compilers.
# `make sanitize`: the C code with all warnings, and its tests with sanitizers.
# `make versions`: the tests with the lowest and the newest versions that are promised.
# `make audit`: known vulnerabilities of what is installed (asks PyPI).
# `make reliability`: every trial of SECURITY.md in its long form, an hour or two.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: demo test machines sanitize versions audit reliability format clean

demo: .venv/installed
	$(BIN)/mygpt train --name demo --time 1m
	@echo
	$(BIN)/mygpt sample --prompt "The" --max-new-tokens 120 --seed 1
	@echo
	$(BIN)/mygpt inspect --prompt "The" --steps 3 --seed 1

test: .venv/tested
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist loadfile --no-loadscope-reorder

machines: .venv/tested
	$(BIN)/python -m benchmarks.machines
	$(BIN)/python -m benchmarks.machines.arm

sanitize: .venv/tested
	$(BIN)/python -m benchmarks.machines.sanitize

# Every Python that is there; another torch than the one that pip would take: `make versions TORCH=2.13.0`.
PYTHONS := $(foreach n,11 12 13 14,$(shell command -v python3.$(n)))
versions: .venv/tested
	$(BIN)/python -m benchmarks.machines.versions lowest
	for python in $(PYTHONS); do \
	  $(BIN)/python -m benchmarks.machines.versions newest --python $$python $(if $(TORCH),--torch $(TORCH)) || exit; \
	done

audit: .venv/tested
	$(PIP) install --quiet 'pip-audit>=2.7'
	$(BIN)/pip-audit --local --skip-editable

TRIALS := disk damage mutations kills resuming interruptions numbers texts terminal sharing full large
reliability: .venv/tested
	for trial in $(TRIALS); do $(BIN)/python -m benchmarks.reliability.$$trial || exit; done

format: .venv/tested
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("mygpt needs Python 3.11 or newer" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(PIP) install --quiet --constraint constraints.txt --editable .
	touch $@

.venv/tested: .venv/installed
	$(PIP) install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@
