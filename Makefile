# `make demo` and `make test` set everything up by themselves; all they need is Python 3.10 or newer.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

FRAMEWORKS := .venv-frameworks

.PHONY: help setup demo test test-full rivals frameworks fuzz lint bench lock clean

help:  ## what there is to make
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "CEML needs Python 3.10 or newer; name one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	@echo "Setting up $(VENV) (once) ..."
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

setup: $(READY)  ## the environment, from the lock file

demo: $(READY)  ## a real application process on a simulated Jetson TX2, tuned while it runs
	@$(BIN)/python examples/01-simulated/run.py

test: $(READY)  ## everything that must hold, floors included
	@$(BIN)/python -m pytest -n auto --dist loadfile -m "not fuzz" --ignore tests/benchmarks

test-full: rivals frameworks  ## everything, the long ones and those that need rivals or frameworks too
	@$(BIN)/python -m pytest -n auto --dist loadfile --hypothesis-profile full

rivals: $(VENV)/.rivals  ## what other strategies of `ceml bench tables` need, into the same environment
$(VENV)/.rivals: $(READY) requirements-rivals.lock
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements-rivals.lock
	@touch $@

frameworks: $(FRAMEWORKS)/.ready  ## PyTorch, Lightning, Transformers, Keras, ONNX Runtime, in an environment of their own
$(FRAMEWORKS)/.ready: requirements-frameworks.txt
	@echo "Setting up $(FRAMEWORKS) (once; PyTorch is large) ..."
	@$(PYTHON) -m venv --clear $(FRAMEWORKS)
	@$(FRAMEWORKS)/bin/python -m pip install -qq --disable-pip-version-check $$(grep '^torch==' $<)
	@$(FRAMEWORKS)/bin/python -m pip install -qq --disable-pip-version-check -r $<
	@echo "$(CURDIR)" > $$($(FRAMEWORKS)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/ceml.pth
	@touch $@

fuzz: $(READY)  ## only the long random ones
	@$(BIN)/python -m pytest -m fuzz

lint: $(READY)  ## style, types, floors
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/pyright
	@$(BIN)/lint-imports

bench: $(READY)  ## how fast: search, heartbeat, bus, an hour of virtual time
	@$(BIN)/python -m pytest tests/benchmarks --benchmark-enable --benchmark-only \
	  --benchmark-columns=min,median,max,rounds --benchmark-sort=name

lock:  ## resolve the dependencies anew (needs uv); hashes, no registry named
	uv pip compile --universal --python-version 3.10 --generate-hashes --no-header --no-annotate \
	  pyproject.toml --group dev -o requirements.lock
	uv pip compile --universal --python-version 3.10 --generate-hashes --no-header --no-annotate \
	  pyproject.toml --group rivals -c requirements.lock -o requirements-rivals.lock

clean:  ## remove what setup and the tests made
	rm -rf $(VENV) $(FRAMEWORKS) .pytest_cache .ruff_cache .hypothesis .benchmarks
