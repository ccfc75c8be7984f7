# The commands of the project. `make` lists them.
SHELL := /bin/bash
CARGO ?= cargo
SEEDS ?= 200
# Debian packages that the tests need; everything else is a crate.
TEST_PACKAGES := sip-tester baresip-core iproute2 nftables curl ca-certificates
BUILD_PACKAGES := build-essential pkg-config

.PHONY: help run test check bench sim demo test-tools fmt torture-run package

help:
	@echo "make run      build the gateway and start it on embedded defaults"
	@echo "make demo     build it and show a whole call between two built-in phones"
	@echo "make test     install what the tests need, then run all of them"
	@echo "make check    formatting, lints, style"
	@echo "make sim      simulate SEEDS=$(SEEDS) runs over a bad network (SEED=n replays one)"
	@echo "make bench    measure parsing, relaying and calls on this host"
	@echo "make torture-run  200 000 broken datagrams against a running gateway"
	@echo "make package  the stripped binary that is shipped"

run:
	@echo "== building (the first time takes some minutes)"
	$(CARGO) build --release -p controlplane
	@echo "== starting; ctrl-c drains and stops"
	./target/release/ringgate serve

demo:
	$(CARGO) build --release -p controlplane
	./target/release/ringgate demo

test-tools:
	@missing=""; for package in $(TEST_PACKAGES); do \
	  dpkg -s $$package >/dev/null 2>&1 || missing="$$missing $$package"; done; \
	if [ -n "$$missing" ]; then \
	  echo "== installing test peers:$$missing"; \
	  export DEBIAN_FRONTEND=noninteractive; sudo=$$(command -v sudo || true); \
	  $$sudo apt-get update -qq && $$sudo apt-get install -y -qq --no-install-recommends $$missing; \
	else echo "== test peers are installed"; fi

test: test-tools
	@echo "== building everything"
	$(CARGO) build --workspace --all-targets
	@echo "== unit, property, simulation and real-peer tests"
	$(CARGO) test --workspace

fmt:
	$(CARGO) fmt --all

check:
	@echo "== formatting"
	$(CARGO) fmt --all --check
	@echo "== style (tidy)"
	$(CARGO) test -q -p shared --test tidy
	@echo "== lints"
	$(CARGO) clippy --workspace --all-targets -- -D warnings

sim:
	$(CARGO) run --release -p sim -- $(if $(SEED),--seed $(SEED) --trace,--seeds $(SEEDS))

bench: test-tools
	$(CARGO) build --release --workspace
	$(CARGO) bench -p benches
	./target/release/relay
	./target/release/calls

torture-run:
	$(CARGO) build --release --workspace
	./target/release/mutate

package:
	$(CARGO) build --profile shipped -p controlplane
