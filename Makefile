# make demo: a clean pair and a broken one compared; make test: the tests; make lint: style, types, imports;
# make docs: the documentation as a site, build/site/index.html.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.rosetta-installed
DEMO   := demo

.PHONY: install demo test lint docs clean

install: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $(READY)

# The broken file has blk.0.attn_k.weight stored [in, out]; comparing it must end with exit code 1.
demo: $(READY)
	@rm -rf $(DEMO)
	@$(BIN)/python -m fixtures qwen2 $(DEMO) --container apr --dtype F16
	@$(BIN)/python -m fixtures qwen2 $(DEMO) --container gguf --dtype F16
	@$(BIN)/python -m fixtures qwen2 $(DEMO) --container apr --dtype F16 --stem broken \
		--fault transposed:blk.0.attn_k.weight
	$(BIN)/rosetta $(DEMO)/model.apr $(DEMO)/model.gguf --prompt "2+2=" --assert-match
	$(BIN)/rosetta $(DEMO)/broken.apr $(DEMO)/model.gguf --prompt "2+2=" --assert-match; test $$? -eq 1

# One process a core, each with one thread: more of them would wait for each other.
test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# A link or an anchor that leads nowhere fails the build.
docs: $(READY)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[docs]'
	$(BIN)/python -m fixtures.site

clean:
	rm -rf $(DEMO) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage
