# netpoll: `make help` says what there is.

SHELL := /bin/bash
export PATH := $(PATH):$(or $(CARGO_HOME),$(HOME)/.cargo)/bin
.DEFAULT_GOAL := help
.NOTPARALLEL:

# $(call step,NAME,COMMAND): the command under a heading, with its time and how it ended. Exit code 77: it was skipped, and
# has said so.
define step
@printf '\n=== %s\n' '$(1)'; begin=$$SECONDS; \
if $(2); then printf '=== %s: ok, %s s\n' '$(1)' $$((SECONDS - begin)); elif [ $$? -eq 77 ]; then :; \
else printf '=== %s: FAILED, %s s\n' '$(1)' $$((SECONDS - begin)) >&2; exit 1; fi
endef

.PHONY: help
help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /make \1\t/' | expand -t 20

.PHONY: run
run: ## installs what is missing, builds, runs the demo
	@tests/install-deps.sh build
	cargo build --release --locked -p netpoll --bin netpoll
	target/release/netpoll demo

.PHONY: test
test: test-deps check-format check-lint check-doc check-deny test-engine test-all test-loom test-docker ## every check and test
	@printf '\n=== make test: all passed\n'

# A target directory of its own: the flag would have everything else built anew.
loom := RUSTFLAGS='--cfg loom' cargo test -p netpoll --no-default-features --lib --locked --target-dir target/loom loom

.PHONY: test-deps check-format check-lint check-doc check-deny test-engine test-all test-loom test-docker
test-deps:
	$(call step,packages,tests/install-deps.sh test)

check-format:
	$(call step,format,cargo fmt --all --check)

check-lint:
	$(call step,lint,cargo clippy --workspace --all-targets --locked -- -D warnings)
	$(call step,lint without DPDK,cargo clippy -p netpoll --no-default-features --all-targets --locked -- -D warnings)

check-doc:
	$(call step,documentation,RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --locked)

check-deny:
	$(call step,dependencies,tests/deny.sh licenses bans sources)
	$(call step,advisories,tests/deny.sh advisories)

test-engine:
	$(call step,tests without DPDK,cargo test -p netpoll --no-default-features --locked --no-fail-fast)

test-all:
	$(call step,tests,cargo test --workspace --locked --no-fail-fast)

test-loom:
	$(call step,loom models,$(loom))

test-docker:
	$(call step,docker,docker/test.sh)

.PHONY: docker-test
docker-test: ## the image and the tests in containers
	@docker/test.sh

.PHONY: strangers
strangers: ## lines of ten million forged sources, from the wire to Parquet; what lists and limits cost
	NETPOLL_FORGED=10000000 cargo test --release --locked -p netpoll --test strangers -- --nocapture
	cargo bench --locked -p netpoll --bench strangers

FUZZ_SECONDS ?= 30
FUZZ_TARGETS ?= frame netconsole syslog options config spool

.PHONY: fuzz
fuzz: ## fuzzes each target for FUZZ_SECONDS; tests/fuzz/README.md
	@tests/fuzz/run.sh $(FUZZ_SECONDS) $(FUZZ_TARGETS)

shuttle := RUSTFLAGS='--cfg shuttle' cargo test -p netpoll --no-default-features --lib --locked --target-dir target/shuttle life_tests

.PHONY: sanitize
sanitize: ## tests and stress under AddressSanitizer, valgrind and shuttle; tests/sanitize/README.md (half an hour)
	$(call step,packages,tests/install-deps.sh sanitize)
	$(call step,shuttle,$(shuttle))
	$(call step,memcheck,tests/sanitize/run.sh memcheck)
	$(call step,AddressSanitizer,tests/sanitize/run.sh asan)
	$(call step,AddressSanitizer with DPDK,tests/sanitize/run.sh asan-dpdk)

# SECONDS and SEED from the command line only: bash has a SECONDS of its own.
soak_seconds := $(if $(filter command line,$(origin SECONDS)),$(SECONDS),600)
.PHONY: soak
soak: ## traffic, reloads and faults at random: SECONDS=600 SEED=a number (default: another one each time)
	SOAK_SECONDS=$(soak_seconds) SOAK_SEED=$(or $(SEED),$$RANDOM) cargo test -p netpoll --locked --test soak --test soak_program -- --nocapture

.PHONY: bench
bench: ## every comparison with dpdk-testpmd; results in bench/runs
	bench/compare.py

.PHONY: clean
clean: ## removes what was built
	cargo clean
