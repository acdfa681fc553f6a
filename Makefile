# Two commands for a fresh machine: `make demo` and `make test`. Each does its own set-up.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup demo test lint clean

# The stamp is older than pyproject.toml when dependencies changed.
.venv/.ready: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q -U 'pip>=25.1'
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[local,qlora,deepspeed,onnx]' --group dev --group official --group bench
	touch $@

setup: .venv/.ready

demo: setup
	$(BIN)/maas-client demo

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	$(BIN)/python -m pytest

clean:
	rm -rf .venv dist build .mypy_cache .ruff_cache .hypothesis
