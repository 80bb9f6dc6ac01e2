# A machine needs Rust (rustup's stable toolchain with clippy and rustfmt), a C compiler, Node.js 20 and npm, Python 3.10 with venv.
# Whatever else a target needs, it installs at a pinned version into .tools/ or a folder that git ignores.

# A pipeline fails where its first part does.
SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c

DENY_VERSION := 0.20.2
CARGO_DENY := .tools/cargo-deny-$(DENY_VERSION)/bin/cargo-deny
BOTH := tests/both_providers/Cargo.toml
FUZZ := tests/fuzz/Cargo.toml
PEERS := benches/peers/Cargo.toml
BENCH_SERVER := benches/server/Cargo.toml

# libFuzzer wants the compiler to count branches, and the address sanitizer wants a nightly one. These are the flags of
# `cargo fuzz build`, which works as well.
NIGHTLY := nightly-2026-03-01
FUZZ_HOST = $(shell rustc -vV | sed -n 's/^host: //p')
FUZZ_FLAGS := --cfg fuzzing -Zsanitizer=address -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
  -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
  -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=8
FUZZ_TARGETS := $(notdir $(wildcard tests/fuzz/corpus/*))
FUZZ_SECONDS ?= 60

# What the compiler makes of the read path depends on its version.
COUNTING_RUST := 1.95.0

# The native half of the Python package is no program, and needs no Python to link with.
export PYO3_BUILD_EXTENSION_MODULE := 1

SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
MEMCHECK := valgrind --quiet --leak-check=full --show-leak-kinds=definite,indirect --errors-for-leak-kinds=definite,indirect --error-exitcode=1

# Every feature that Cargo.toml declares; `default`, which is empty, stands for none.
FEATURES := $(shell sed -n '/^\[features\]/,/^\[dep/s/^\([a-z][a-z0-9-]*\) = .*/\1/p' Cargo.toml)

.PHONY: help test more fmt lint deny unit doc package examples simulation mutations both-providers leaks instructions leak-check valgrind nginx tinyproxy wrk bench-server fuzz fuzz-build audit fleet bench python bench-python node runtimes bench-node

help: ## Shows this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24

test: lint deny doc examples unit simulation leaks instructions python node ## Checks what a change can break, from formatting to a real authorization server; 40 minutes on a new machine

more: package leak-check both-providers fuzz-build runtimes ## Checks what takes long and breaks rarely: package, valgrind, the second provider, fuzz targets, runtimes

fmt: ## Formats the code
	cargo fmt --all
	cargo fmt --manifest-path $(BOTH)
	cargo fmt --manifest-path $(FUZZ)
	cargo fmt --manifest-path $(PEERS)
	cargo fmt --manifest-path $(BENCH_SERVER)

lint: ## Formatting, and clippy with no feature, each alone, and all
	cargo fmt --all --check
	cargo fmt --manifest-path $(BOTH) --check
	cargo fmt --manifest-path $(FUZZ) --check
	cargo fmt --manifest-path $(PEERS) --check
	cargo fmt --manifest-path $(BENCH_SERVER) --check
	for feature in $(FEATURES); do \
	  cargo clippy --locked --no-default-features --features $$feature -- -D warnings || exit 1; \
	done
	cargo clippy --locked --all-features --all-targets -- -D warnings
	cargo clippy --locked --package evertoken-python --package evertoken-node -- -D warnings
	bindings/features.sh
	cargo clippy --locked --package evertoken-bindings --all-targets -- -D warnings

unit: nginx tinyproxy ## All tests, examples and doc tests
	cargo test --locked --all-features --all-targets
	cargo test --locked --package evertoken-bindings
	cargo test --locked --all-features --doc

doc: ## The documentation, without and with all features, with no warning
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-default-features --no-deps
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --all-features --no-deps

package: ## The crate as it is published builds on its own
	cargo package --locked --package evertoken --allow-dirty --all-features

examples: ## Runs every example
	for example in $(patsubst examples/%.rs,%,$(wildcard examples/*.rs)); do \
	  echo "-- $$example"; \
	  cargo run --quiet --locked --example $$example -- --demo | tail -n 12 || exit 1; \
	done

simulation: ## Thousands of client lives in which everything goes wrong
	cargo test --locked --release --test simulation -- --nocapture

mutations: ## Breaks the code in many places, and expects the simulation to see each; takes 15 minutes
	tests/simulation/mutations.sh

fleet: ## Writes the token requests of a fleet of 10,000 clients, for the plot
	EVERTOKEN_FLEET_CSV=$(CURDIR)/benches/results/fleet.csv EVERTOKEN_SLICES_CSV=$(CURDIR)/benches/results/slices.csv \
	  cargo test --locked --all-features --lib renewal -- --nocapture fleet clients_that_failed

bench: fleet ## Measures beside the peers, and writes tables and plots; takes 10 minutes on a machine that does nothing else
	cargo clippy --locked --manifest-path $(PEERS) --all-targets -- -D warnings
	cargo run --locked --release --manifest-path $(PEERS) -- $(PARTS)

VENV := .tools/python
BENCH_VENV := .tools/python-bench
PYTHON = cd bindings/python && VIRTUAL_ENV=$(CURDIR)/$(VENV) $(CURDIR)/$(VENV)/bin
# Where the native half is built, also for a folder of its own.
TARGET = $(or $(CARGO_TARGET_DIR),$(CURDIR)/target)

python: $(VENV)/ready ## Builds the Python package, and checks it with ruff, mypy, pyright, stubtest and pytest; EVERTOKEN_THOROUGH=1 for all
	$(PYTHON)/maturin develop --release --locked --quiet
	$(PYTHON)/ruff format --check .
	$(PYTHON)/ruff check .
	$(PYTHON)/mypy python/evertoken tests examples
	$(PYTHON)/pyright --pythonpath $(CURDIR)/$(VENV)/bin/python
	$(PYTHON)/python -m mypy.stubtest evertoken._native --allowlist stubtest-allowlist.txt
	$(PYTHON)/pytest -q tests
	bindings/python/tests/packages.sh $(CURDIR)/$(VENV)/bin $(TARGET)

bench-python: $(BENCH_VENV)/ready ## Measures the Python package beside its peers, and writes tables and a picture; takes 5 minutes
	cd bindings/python && VIRTUAL_ENV=$(CURDIR)/$(BENCH_VENV) $(CURDIR)/$(BENCH_VENV)/bin/maturin develop --release --locked --quiet
	cd bindings/python/benches/empty && CARGO_TARGET_DIR=$(TARGET) cargo build --release --locked
	cp $(TARGET)/release/libempty.so bindings/python/benches/empty.abi3.so
	$(BENCH_VENV)/bin/python bindings/python/benches/run.py

$(VENV)/ready: bindings/python/requirements-dev.txt
	python3 -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --requirement $<
	touch $@

$(BENCH_VENV)/ready: bindings/python/benches/requirements.txt
	python3 -m venv $(BENCH_VENV)
	$(BENCH_VENV)/bin/pip install --quiet --requirement $<
	touch $@

node: ## Builds the Node package, and checks it with biome, the compiler and node's test runner
	cd bindings/node && npm ci --ignore-scripts --no-fund --loglevel=error
	cd bindings/node && npm run --silent compile && npm run --silent native
	cd bindings/node && npm run --silent lint && npm run --silent types
	cd bindings/node && npm test --silent

runtimes: ## Tries the Node package in Node.js 20 to 26, Bun and Deno, with jest and bundlers; downloads 300 MB once
	cd bindings/node && npm ci --ignore-scripts --no-fund --loglevel=error
	cd bindings/node && npm run --silent compile && npm run --silent native
	cd bindings/node/runtimes && npm ci --ignore-scripts --no-fund --loglevel=error
	cd bindings/node && node --test runtimes/*.test.mjs

bench-node: ## Measures the Node package beside its peers, and writes its README's table and plot; needs `make node`
	cd bindings/node/bench && npm ci --ignore-scripts --no-fund --loglevel=error && npm start --silent

both-providers: ## The box works beside jsonwebtoken's other crypto provider
	cargo test --locked --manifest-path $(BOTH) --target-dir target

leaks: ## Ten thousand clients in every state leave nothing, to the byte
	cargo test --locked --release --test leaks -- --nocapture

instructions: valgrind toolchain-$(COUNTING_RUST) ## Instructions of the read path against the committed; DO=write commits others
	cargo +$(COUNTING_RUST) bench --locked --bench instructions -- $(or $(DO),check)

leak-check: valgrind ## Clients in every state under valgrind, which finds what nobody can reach any more
	EVERTOKEN_LEAK_CLIENTS=20 cargo --config "target.'cfg(unix)'.runner='$(MEMCHECK)'" \
	  test --locked --release --test leaks -- --nocapture

toolchain-%:
	rustup run $* rustc --version || rustup toolchain install $* --profile minimal

tinyproxy:
	PATH="$$PATH:/usr/sbin" command -v tinyproxy || { $(SUDO) apt-get update -qq && $(SUDO) apt-get install -y --no-install-recommends tinyproxy-bin; }

nginx:
	PATH="$$PATH:/usr/sbin" command -v nginx || { $(SUDO) apt-get update -qq && $(SUDO) apt-get install -y --no-install-recommends nginx-light; }

bench-server: wrk ## Measures the API's side beside its peers, and writes the tables in the README
	cargo run --locked --release --manifest-path $(BENCH_SERVER)

wrk:
	command -v wrk || { $(SUDO) apt-get update -qq && $(SUDO) apt-get install -y --no-install-recommends wrk; }

valgrind:
	command -v valgrind || { $(SUDO) apt-get update -qq && $(SUDO) apt-get install -y valgrind; }

fuzz-build: toolchain-$(NIGHTLY) ## Builds all fuzz targets and runs each on its seeds; `make fuzz` runs them for longer
	RUSTFLAGS="$(FUZZ_FLAGS)" cargo +$(NIGHTLY) build --locked --release --manifest-path $(FUZZ) \
	  --target $(FUZZ_HOST) --target-dir target/fuzz
	$(MAKE) --no-print-directory fuzz-run FUZZ_LIMIT="-runs=2000 -seed=1"

fuzz: fuzz-build ## Fuzzes each input for FUZZ_SECONDS (60)
	$(MAKE) --no-print-directory fuzz-run FUZZ_LIMIT=-max_total_time=$(FUZZ_SECONDS)

.PHONY: fuzz-run
fuzz-run:
	for target in $(FUZZ_TARGETS); do \
	  echo "-- $$target"; mkdir -p target/fuzz/found/$$target; \
	  target/fuzz/$(FUZZ_HOST)/release/$$target $(FUZZ_LIMIT) -timeout=10 -max_len=4096 -print_final_stats=1 \
	    -artifact_prefix=target/fuzz/ target/fuzz/found/$$target tests/fuzz/corpus/$$target \
	    2>&1 | grep -E "^(stat::number|stat::average|stat::new|thread|SUMMARY|[^#]*panicked|artifact|Test unit)" || exit 1; \
	done

deny: $(CARGO_DENY) ## Licences, sources and banned crates
	$(CARGO_DENY) --locked check --hide-inclusion-graph bans licenses sources

audit: $(CARGO_DENY) ## Security advisories; fetches their database
	$(CARGO_DENY) --locked check advisories

$(CARGO_DENY):
	CARGO_PROFILE_DEV_DEBUG=false cargo install --locked --debug cargo-deny@$(DENY_VERSION) --root .tools/cargo-deny-$(DENY_VERSION)
