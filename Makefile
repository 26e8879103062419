# Two commands on a fresh machine: `make demo` runs the whole job against a simulated web, `make test` the tests.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
MARK = $(VENV)/.installed

.PHONY: demo test check campaign fuzz bench clean

$(MARK): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "quire needs Python 3.11 or later: make PYTHON=python3.12 …")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

demo: $(MARK)
	$(BIN)/quire demo

# The kit's own tests ask for a core and nothing else: they run beside the others, and are shown after them.
KIT = $(wildcard $(foreach one,state_machines power_loss disk_faults tamper fuzz simulation mutants \
	store_contract fallback testing_page invoices golden_logs,tests/test_$(one).py))

test: $(MARK)
	$(BIN)/python -m pytest $(KIT) > .kit-tests.txt 2>&1 & kit=$$!; \
	$(BIN)/python -m pytest $(addprefix --ignore=,$(KIT)); rest=$$?; \
	wait $$kit; kit=$$?; cat .kit-tests.txt; test $$rest -eq 0 && test $$kit -eq 0

check: $(MARK)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	mkdir -p .check && ln -sfn .. .check/quire
	MYPYPATH=.check $(BIN)/mypy -p quire

campaign: $(MARK)
	$(BIN)/python -m quire.testing.golden check
	$(BIN)/python -m quire.testing.mutants
	$(BIN)/python -m quire.testing.fuzz --bodies 20000
	QUIRE_MACHINES=campaign $(BIN)/python -m pytest tests/test_state_machines.py
	$(BIN)/python -m quire.testing.tamper --tampers 10000
	$(BIN)/python -m quire.testing.simulation --seeds 1000
	$(BIN)/python -m quire.testing.disk syscalls
	$(BIN)/python -m quire.testing.disk session
	$(BIN)/python -m quire.testing.disk powerloss
	$(BIN)/python -m quire.testing.disk full
	$(BIN)/python -m quire.testing.fencing --rounds 1000
	$(BIN)/python -m quire.testing.records --mix hard
	$(BIN)/python -m quire.testing.crash --kills 10000 --works 400 --json

fuzz: $(MARK)
	$(BIN)/python -m quire.testing.fuzz --bodies 20000 --keep fuzz-kept

bench: $(MARK)
	for one in benchmarks/*.py; do echo "== $$one"; $(BIN)/python $$one || exit 1; done

clean:
	rm -rf $(VENV) .kit-tests.txt .check .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info demo-library
