# One command each; every one makes what it needs: a virtual environment, the tools, the build. `make help` lists them.

PYTHON ?= python3
PYTHON_FREETHREADED ?= $(shell command -v python3.14t)

VENV := .venv
BIN := $(VENV)/bin
VENV_FT := .venv-freethreaded
SOURCES := Cargo.toml build.rs Cargo.lock pyproject.toml $(shell find src -name '*.rs')
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help build demo test test-python test-freethreaded test-rust model tsan soak lint format bench bench-quick bench-check docs wheel clean
.DELETE_ON_ERROR:

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: $(VENV)/.built ## build the library into a virtual environment, .venv

demo: build ## drive the echo and chat servers of examples/ with 1,000 connections and 1 GB, checking every byte
	$(BIN)/python examples/demo.py

test: test-freethreaded test-python test-rust ## run all tests

test-python: build ## the Python tests
	$(BIN)/python -m pytest

test-freethreaded: ## the Python tests on a free-threaded interpreter, where there is one
ifeq ($(PYTHON_FREETHREADED),)
	@echo 'No free-threaded Python found: neither PYTHON_FREETHREADED= nor python3.14t on PATH. Its tests are NOT run.'
else
	@$(MAKE) --no-print-directory $(VENV_FT)/.built
	PYTHON_GIL=0 $(VENV_FT)/bin/python -m pytest
	$(VENV_FT)/bin/python -m pip install -q --group parallel
	PYTHON_GIL=0 $(VENV_FT)/bin/python -m pytest $(PARALLEL)
endif

# Each test in four OS threads at once, where it shares nothing with itself: no fixture with a socket, no figures.
PARALLEL := --parallel-threads=4 -o thread_unsafe_fixtures="$$(printf '%s\n' peer reported tcp udp other listener dead names)" \
	tests/test_sync.py tests/test_group.py tests/test_tcp.py tests/test_udp.py tests/test_accept.py \
	tests/test_errors.py tests/test_addrinfo.py tests/test_misuse.py

test-rust: ## the Rust tests, which need no Python
	cargo test --locked --no-default-features

model: ## the core's locks and wake-ups in every order that a model checker finds, minutes long; less with PREEMPTIONS=2
	LOOM_MAX_PREEMPTIONS=$(or $(PREEMPTIONS),4) cargo test --locked --no-default-features --features model --lib model::

tsan: ## the core's tests under ThreadSanitizer, with a standard library built for it: needs rust-src (rustup component add)
	RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=thread cargo test --locked -Zbuild-std --no-default-features --lib \
		--target $$(rustc -vV | sed -n 's/^host: //p') --target-dir target/tsan

soak: build ## ten minutes of random closes, cancels and timeouts over several pollers and OS threads; SECONDS= for another time
	$(BIN)/python tests/soak.py --seconds $(or $(SECONDS),600)
ifneq ($(PYTHON_FREETHREADED),)
	@$(MAKE) --no-print-directory $(VENV_FT)/.built
	PYTHON_GIL=0 $(VENV_FT)/bin/python tests/soak.py --seconds $(or $(SECONDS),600)
endif

lint: $(VENV)/.lint ## rustfmt, clippy, ruff, mypy --strict, stubtest; every finding is an error
	cargo fmt --check
	cargo fmt --check --manifest-path benches/native/Cargo.toml
	PYO3_PYTHON=$(abspath $(BIN)/python) cargo clippy --locked --all-targets -- -D warnings
	cargo clippy --locked --all-targets --no-default-features -- -D warnings
	cargo clippy --locked --all-targets --no-default-features --features model -- -D warnings
	cargo clippy --locked --all-targets --manifest-path benches/native/Cargo.toml -- -D warnings
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	cd python && ../$(BIN)/stubtest sock --mypy-config-file ../pyproject.toml --allowlist ../stubtest.allow --ignore-unused-allowlist

format: $(VENV)/.lint ## format all sources
	cargo fmt
	cargo fmt --manifest-path benches/native/Cargo.toml
	$(BIN)/ruff check --fix-only
	$(BIN)/ruff format

bench: $(VENV)/.bench ## measure against a native server and the other libraries, half an hour; makes docs/benchmarks.md
	$(BIN)/python benches/bench.py
	$(BIN)/python benches/scheduling.py
	$(BIN)/python benches/sharing.py
ifneq ($(PYTHON_FREETHREADED),)
	@$(MAKE) --no-print-directory $(VENV_FT)/.bench
	$(BIN)/python benches/bench.py --quick --python $(abspath $(VENV_FT)/bin/python) --name latest-freethreaded
	$(BIN)/python benches/scheduling.py --quick --python $(abspath $(VENV_FT)/bin/python) --name scheduling-freethreaded
	$(BIN)/python benches/sharing.py --python $(abspath $(VENV_FT)/bin/python)
endif
	$(BIN)/python benches/await_cost.py
	$(BIN)/python benches/idle_memory.py
	$(BIN)/python benches/import_time.py
	$(BIN)/python docs/make_benchmarks.py > docs/benchmarks.md

QUICK := 'bench.py --quick' 'scheduling.py --quick --rounds 1 --libraries sock,asyncio,uvloop,rloop' \
	await_cost.py idle_memory.py import_time.py

bench-quick: $(VENV)/.bench ## the main rows, in under two minutes; fails where a bar is missed
	@failed=0; for each in $(QUICK); do $(BIN)/python benches/$$each --check || failed=1; done; exit $$failed

bench-check: build ## count instructions under valgrind against the recorded numbers; RECORD=1 records them
	$(BIN)/python benches/instructions.py $(if $(RECORD),--record)

docs: build ## the API reference as HTML, into docs/api
	$(BIN)/python -m pip install -q --group docs
	$(BIN)/python -m pdoc --no-show-source -o docs/api sock

wheel: $(VENV)/.tools ## a wheel for this interpreter, into dist
	$(BIN)/maturin build --release --locked -i $(BIN)/python -o dist

clean: ## remove what the other commands made
	rm -rf $(VENV) $(VENV_FT) dist docs/api target benches/native/target python/sock/*.so .pytest_cache .mypy_cache .ruff_cache

# How a virtual environment comes about: $(1) its folder, $(2) its interpreter.
define venv
$(1)/.tools: pyproject.toml
	@$(2) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo '$(2) is older than Python 3.11: name a newer one with PYTHON=...'; exit 1; }
	@command -v cargo >/dev/null || { echo 'cargo is not there: install Rust, see https://rustup.rs'; exit 1; }
	test -x $(1)/bin/python || $(2) -m venv $(1)
	$(1)/bin/python -m pip install -q --upgrade 'pip>=25.1'
	$(1)/bin/python -m pip install -q --group build
	@touch $$@

$(1)/.built: $(1)/.tools $$(SOURCES)
	VIRTUAL_ENV=$$(abspath $(1)) $(1)/bin/maturin develop --release --locked --quiet
	@touch $$@
endef
$(eval $(call venv,$(VENV),$(PYTHON)))
$(eval $(call venv,$(VENV_FT),$(PYTHON_FREETHREADED)))

$(VENV_FT)/.bench: $(VENV_FT)/.built pyproject.toml
	$(VENV_FT)/bin/python -m pip install -q --group bench-freethreaded
	@touch $@

$(VENV)/.lint $(VENV)/.bench: $(VENV)/.%: $(VENV)/.built
	$(BIN)/python -m pip install -q --group $*
	@touch $@
