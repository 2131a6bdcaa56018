# Everything that is done to this project, by name. `make` alone prints the names.
# Each target sets up by itself what it needs; a second run of `make setup` does nothing.

PYTHON ?= python3
RUN := .venv/bin/python -P
SETUP := .venv/.installed
# What other compiled modules have in them: a change makes those that are kept out of date.
COMPILED := compiled/memory.py $(addprefix ingest/,plain_json.py plain_text.py plain_times.py topic.py)
CODE := compiled ingest pipelines billing infra tollbook sql tests

# A copied or moved tree must not use the environment of the tree it came from.
ifneq ($(shell cat $(SETUP) 2>/dev/null),$(shell pwd -P))
$(shell rm -f $(SETUP))
endif

.PHONY: help setup demo test test-shared test-stacks test-parts check format format-check lint types tidy lock mutate bench clean

help: ## Print this list.
	@echo "make TARGET:"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' Makefile | \
	  while IFS="$$(printf '\t')" read -r name text; do printf '  %-8s %s\n' "$$name" "$$text"; done

setup: $(SETUP) ## Install everything into .venv, by hash; without network once it was done here.

$(SETUP): requirements.lock requirements-tools.lock pyproject.toml infra/bootstrap.py $(COMPILED)
	@TOLLBOOK_PYTHON="$(filter-out python3,$(PYTHON))" $(PYTHON) infra/bootstrap.py

demo: $(SETUP) ## Run a year of flights from event to balanced ledger, on real servers.
	@$(RUN) -m tollbook.cli demo

test: $(SETUP) ## Run all tests, on real servers.
	@$(MAKE) --no-print-directory -j3 test-shared test-stacks test-parts

# Those that share a stack; beside them those that start their own, and those that need none. What
# runs beside is printed when it has ended.
PRINTED_LATER = > .venv/$@.log 2>&1; status=$$?; cat .venv/$@.log; exit $$status

test-shared: $(SETUP)
	@$(RUN) -m pytest tests --stack shared

test-stacks: $(SETUP)
	@$(RUN) -m pytest tests/crash tests/e2e --stack none $(PRINTED_LATER)

test-parts: $(SETUP)
	@$(RUN) -m pytest tests --ignore=tests/crash --ignore=tests/e2e --stack none $(PRINTED_LATER)

check: format-check lint types test ## Run what CI runs: format, lint, types, all tests.

format: $(SETUP) ## Format the code.
	@$(RUN) -m ruff format $(CODE)

format-check: $(SETUP)
	@$(RUN) -m ruff format --check $(CODE)

lint: $(SETUP) ## Look for faults that ruff knows.
	@$(RUN) -m ruff check $(CODE)

types: $(SETUP) ## Check the types (mypy --strict).
	@$(RUN) -m mypy

tidy: $(SETUP) ## Check the rules of the house: layout, names, sizes, docs.
	@$(RUN) -m pytest -q tests/tidy

lock: $(SETUP) ## Resolve the dependencies anew into the lock files.
	@.venv/bin/uv pip compile --quiet --universal --generate-hashes --no-header --upgrade \
	  --extra dev -o requirements.lock pyproject.toml
	@printf 'setuptools>=77\nuv\n' | .venv/bin/uv pip compile --quiet --universal \
	  --generate-hashes --no-header --no-annotate --upgrade --python-version 3.11 \
	  -o requirements-tools.lock -

mutate: $(SETUP) ## Change rating and proration line by line, and see that a test fails each time.
	@$(RUN) -m mutmut run
	@$(RUN) -m mutmut results --all true | awk -F'[.:]' 'NF > 2 { all[$$2]++; if ($$NF ~ /killed|timeout/) killed[$$2]++ } \
	  END { for (name in all) printf "%-14s %4d of %4d killed\n", name, killed[name], all[name] }' | sort

bench: $(SETUP) ## Print measured rates; asserts nothing.
	@$(RUN) -m pytest -q -s tests/bench --override-ini=python_files='bench_*.py'

clean: ## Remove what was built here; data of stacks and the caches stay.
	@rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
