# make demo    a video goes in through a presigned URL and comes out upscaled and cut into scenes, all on this machine
# make test    the tests, five to eight minutes on two cores; JOBS=4 takes four processes
# make fast    the tests that start no process and import no torch, FFmpeg or OpenCV
# make client  the client's tests in .venv-client, where there is no torch, processor or worker
# make check   lint, types, import rules, no int() on foreign text, generated docs are current
# make docs    writes the generated docs
# make bench   peers and us side by side in one run; writes docs/benchmarks.md
# Every target first makes its .venv from python3 alone. VIDEO=path gives the demo your own clip.

PYTHON ?= python3
JOBS   ?= 2
IMAGE  ?= gpu-worker:dev
BIN    := .venv/bin
REQ    := requirements/worker.txt requirements/dev.txt
READY  := .venv/.ready
# A file is one process's, with what its tests share; tests/longest.txt has those that come first.
SHARED := -n $(JOBS) --dist loadfile --no-loadscope-reorder
# Bytecode from the start, as pip makes it and uv does not by itself: the engine's sandbox lets none be written, and without it
# every engine compiles torch anew.
INSTALL := $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python

# pytest keeps what it made of the tests' asserts: half of the time to collect them.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: setup demo test fast client test-all check bench lock reference image wheels version docs clean
.DEFAULT_GOAL := demo

setup: $(READY)

$(READY): $(REQ) client/pyproject.toml processors/pyproject.toml gpu-worker/pyproject.toml
	@echo "setting up .venv (once; about a minute from a cold cache)"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@$(INSTALL) --require-hashes --no-deps -r requirements/worker.txt -r requirements/dev.txt
	@$(INSTALL) --no-deps --no-build-isolation -e client -e processors -e gpu-worker
	@$(BIN)/python -m compileall -q client processors gpu-worker
	@touch $@

demo: $(READY)
	@$(BIN)/gpu-worker demo $(if $(VIDEO),--video "$(VIDEO)") --output demo-output

# A test that hangs in a library, where no signal reaches Python, ends after 330 s with the stacks of all its threads.
test: $(READY)
	@$(BIN)/python -m pytest -q -m "not slow and not gpu" $(SHARED) --max-worker-restart=2 --durations=10 \
	  -o faulthandler_timeout=330 -o faulthandler_exit_on_timeout=true $(ARGS)

fast: $(READY)
	@$(BIN)/python -m pytest -q -p no:xdist --fast -m "not slow and not gpu" $(ARGS)

# tests/client.txt has what runs there, and what needs more than the client.
client: .venv-client/.ready
	@.venv-client/bin/python -m pytest -q -m "not slow" $(SHARED) @tests/client.txt $(ARGS)

.venv-client/.ready: requirements/client.txt client/pyproject.toml
	@test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	@test -x $(@D)/bin/uv || $(@D)/bin/python -m pip install --quiet --disable-pip-version-check uv
	@$(@D)/bin/uv pip install --quiet --python $(@D)/bin/python --require-hashes --no-deps -r requirements/client.txt
	@$(@D)/bin/uv pip install --quiet --python $(@D)/bin/python --no-deps --no-build-isolation -e client
	@touch $@

test-all: $(READY) reference
	@$(BIN)/python -m pytest -q $(ARGS)

check: $(READY)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/pyright
	@$(BIN)/python docs/generate.py --check
	@$(BIN)/python -m pytest -q -p no:xdist tests/contract/test_foreign_numbers.py # no int() on foreign text

# docs/tasks.md and docs/settings.md, from the wire models and the settings.
docs: $(READY)
	@$(BIN)/python docs/generate.py

bench: $(READY) reference
	@$(BIN)/python benchmarks/run.py $(ARGS)

# The unmaintained originals, as oracle of the parity test and peer of the benchmark. Never part of the image.
reference: .venv/.reference
.venv/.reference: requirements/reference.txt $(READY)
	@$(INSTALL) --no-deps --no-build-isolation -r requirements/reference.txt --require-hashes
	@touch $@

# Recompiles the pins. The files name no index host, so they work behind any mirror.
lock: $(READY)
	@cd requirements && for name in worker dev client build reference; do \
	  ../$(BIN)/uv pip compile --quiet --universal --python-version 3.10 --generate-hashes --no-emit-index-url \
	    --no-emit-find-links --no-annotate --no-header --override overrides.txt $$name.in -o $$name.txt || exit 1; done

image:
	docker build --platform linux/amd64 -t $(IMAGE) .

wheels: $(READY)
	@rm -rf dist
	@for package in client processors gpu-worker; do \
	  $(BIN)/uv build --quiet --wheel --no-build-isolation --python $(BIN)/python --out-dir dist $$package || exit 1; done

version:
	@sed -n 's/^version = "\(.*\)"/\1/p' client/pyproject.toml

clean:
	rm -rf .venv .venv-client demo-output
