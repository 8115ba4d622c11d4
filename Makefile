# Two commands: `make quickstart` and `make test`. Everything that they need beside make itself is set up by them (with root,
# Debian packages too).
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
LOCK := requirements/dev.txt
UV_VERSION := 0.13.9
STAMP := $(VENV)/.installed-$(shell cat $(LOCK) pyproject.toml 2>/dev/null | sha256sum | cut -c1-16)
# Converters for other runtimes want a torch of their own, so their tests have an environment of their own.
EXPORTS := .venv-exports
EXPORTS_LOCK := requirements/exports.txt
EXPORTS_STAMP := $(EXPORTS)/.installed-$(shell cat $(EXPORTS_LOCK) pyproject.toml 2>/dev/null | sha256sum | cut -c1-16)
COMPILE_FOR := $(BIN)/uv pip compile --quiet --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate --no-header \
  --python-version
COMPILE := $(COMPILE_FOR) 3.11
PYTEST := $(BIN)/python -m pytest -p no:cacheprovider

.PHONY: help
help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F':.*## ' '{printf "  %-18s %s\n", $$1, $$2}'

# --- set-up ---------------------------------------------------------------------------------------------------------

.PHONY: setup system-packages
setup: $(STAMP) ## Make .venv with every pinned package (about 6 GB, most of it torch)

# Debian splits what other systems ship with Python; with root they are installed, without it the message says what to ask for.
system-packages:
	@PYTHON=$(PYTHON) scripts/system-packages.sh

$(STAMP): | system-packages
	@test -x $(BIN)/python || { echo "making $(VENV) with $$($(PYTHON) --version) and pip (some seconds)"; $(PYTHON) -m venv $(VENV); }
	@$(BIN)/python -c 'import uv' 2>/dev/null || \
	  { echo "fetching uv, which installs the packages"; $(BIN)/pip install --quiet --require-hashes --requirement requirements/uv.txt; }
	@scripts/install.sh $(VENV) $(LOCK)
	@rm -f $(VENV)/.installed-*
	@touch $@

$(EXPORTS_STAMP): | $(STAMP)
	@test -x $(EXPORTS)/bin/python || { echo "making $(EXPORTS)"; $(PYTHON) -m venv $(EXPORTS); }
	@UV=$(BIN)/uv scripts/install.sh $(EXPORTS) $(EXPORTS_LOCK)
	@rm -f $(EXPORTS)/.installed-*
	@touch $@

.PHONY: lock
lock: ## Resolve the dependencies anew (pinned, with hashes); what an image holds is a part of what is tested
	$(COMPILE) --upgrade --extra dev pyproject.toml --output-file $(LOCK)
	$(COMPILE) --constraint $(LOCK) --extra serve pyproject.toml --output-file requirements/serve.txt
	$(COMPILE_FOR) 3.12 --constraint $(LOCK) --extra serve-nvidia pyproject.toml --output-file requirements/serve-nvidia.txt
	$(COMPILE) --constraint $(LOCK) --extra gateway pyproject.toml --output-file requirements/gateway.txt
	$(COMPILE) --constraint $(LOCK) --extra operator pyproject.toml --output-file requirements/operator.txt
	$(COMPILE) --constraint $(LOCK) --extra build pyproject.toml --output-file requirements/worker.txt
	$(COMPILE) --upgrade --extra dev-exports pyproject.toml --output-file $(EXPORTS_LOCK)

# --- the main job ---------------------------------------------------------------------------------------------------

.PHONY: quickstart
quickstart: setup ## Texts and a teacher in, a served student out: set-up and the whole job (under 10 minutes on 2 cores)
	@PATH="$(CURDIR)/$(BIN):$$PATH" examples/docstring-search/quickstart.sh

.PHONY: example-data
example-data: setup ## Build the data of every example
	$(BIN)/python examples/docstring-search/build_data.py
	$(BIN)/python examples/docstring-topics-few/build_data.py
	$(BIN)/python examples/digits/build_data.py

# --- checks ---------------------------------------------------------------------------------------------------------

.PHONY: lint
lint: setup ## Style, types, architecture
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Seven gigabytes more, for two formats: where CI=true, in `make test-full`, and for whoever asks for it.
.PHONY: test-exports
test-exports: $(EXPORTS_STAMP) ## LiteRT and Core ML, in an environment of their own (7 GB, most of it another torch)
	$(EXPORTS)/bin/python -m pytest -p no:cacheprovider --durations=5 --durations-min=2 tests/exports

.PHONY: test
test: lint cluster-packages $(if $(filter true,$(CI)),test-exports) ## Every tier, bounded samples of the long suites
	@TIERS="unit contract triton integration cluster" scripts/test.sh

.PHONY: test-full
test-full: lint cluster-packages test-exports ## Every tier, everything
	@TIERS="unit contract triton integration cluster" FULL=1 scripts/test.sh

.PHONY: test-unit test-contract test-triton test-integration test-cluster
test-unit test-contract test-triton test-integration test-cluster: test-%: setup ## One tier
	$(PYTEST) tests/$*

# With root, Debian packages are installed; without, the tier says what is missing and is skipped.
.PHONY: cluster-packages cluster cluster-down cluster-exec
cluster-packages:
	@scripts/cluster-packages.sh

cluster: setup cluster-packages ## A real Kubernetes of two nodes on this machine, with our images (root; nothing of it leaves)
	@$(BIN)/python -m tests.support.nodes up

cluster-exec: ## Run CMD='…' inside its network, where Services and pods are reached
	@$(BIN)/python -m tests.support.nodes exec sh -c '$(subst ','\'',$(CMD))'

cluster-down: ## Remove it
	@$(BIN)/python -m tests.support.nodes down

.PHONY: generate
generate: setup ## Write what is generated from the models: the CRDs, the chart's, and the reference
	$(BIN)/python -m stillhouse.api.generate

# --- benchmarks -----------------------------------------------------------------------------------------------------

.PHONY: bench-auto bench-compress bench-learned bench-losses pictures bench-end-to-end bench-store bench-serving bench-distill bench-reconcile bench-rollout bench-gateway bench-cascade bench-edge-node soak-gateway
bench-serving: setup ## Latency and throughput against the peers; writes bench/results/serving.json
	$(BIN)/python -m bench.serving

bench-distill: setup ## Quality of the examples' students against their teachers and the simple rivals; about two hours
	$(BIN)/python examples/docstring-search/build_data.py
	$(BIN)/python -m bench.distill
	$(BIN)/python -m bench.few --split test

bench-compress: setup ## Our precisions beside other quantizers: size, quality, speed; about ten minutes, most of it the first time
	$(BIN)/python -m bench.compress $(ARGS)

bench-auto: setup ## How long `precision: auto` takes for MiniLM, with a stop on the way, and again; about fifteen minutes
	$(BIN)/python -m bench.auto $(ARGS)

bench-learned: setup ## What is left of students that learned to be pruned or rounded; ARGS='--seeds 7 8 9 10 11': some minutes a seed
	$(BIN)/python -m bench.learned $(ARGS)

bench-losses: setup ## What the losses of distillation teach the same students, a quarter of an hour a seed; ARGS as above
	$(BIN)/python examples/docstring-search/build_data.py
	$(BIN)/python -m bench.losses $(ARGS)
	$(BIN)/python -m bench.losses_search $(ARGS)

pictures: setup ## Draw the docs' pictures from bench/results
	$(BIN)/python -m bench.pictures

bench-end-to-end: setup ## One YAML from MiniLM to a served student: quality and speed; ARGS='--seeds 7 8 9 10 11': ten minutes of training a seed
	$(BIN)/python examples/docstring-search/build_data.py
	$(BIN)/python -m bench.end_to_end $(ARGS)

bench-reconcile: setup ## The operator with 1,000 models on a real API server; about five minutes; writes bench/results/reconcile.json
	$(BIN)/python -m bench.reconcile

bench-gateway: setup ## What the gateway costs, beside grpc.aio and nginx (Debian's package, unpacked); about ten minutes
	$(BIN)/python -m bench.gateway

bench-cascade: setup ## What a cascade saves and loses, on docstring-packages; its data and models included about half an hour
	$(BIN)/python examples/docstring-packages/build_data.py
	$(BIN)/python examples/docstring-packages/make_teacher.py
	$(BIN)/python -m bench.cascade

bench-edge-node: setup ## A gateway with a model in its process: start, memory, latency on one core; ARGS: a model or its file
	$(BIN)/python -m bench.edge_node $(ARGS)

bench-store: setup ## What compressing the store saves, and loading from it; ARGS: a store (left out: this user's); some minutes
	$(BIN)/python -m bench.store $(ARGS)

soak-gateway: setup ## A million requests through gateways while backends, cloud and gateways roll; ARGS='--requests N'
	$(BIN)/python -m bench.soak_gateway $(ARGS)

bench-rollout: setup cluster-packages ## A model changed, scaled, its node drained under load, on real nodes (root); about ten minutes
	$(BIN)/python -m bench.rollout

.PHONY: fuzz
FUZZ_INPUTS ?= 10000000
fuzz: setup ## The gateway's decoders under a fuzzer guided by coverage (x86_64); FUZZ_INPUTS of them, some minutes
	$(BIN)/python -m bench.fuzz --inputs $(FUZZ_INPUTS) --corpus .cache/fuzz --json bench/results/fuzz.json

.PHONY: clean
clean: ## Remove what make has made here (not the store)
	rm -rf $(VENV) $(EXPORTS) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
