# The commands of the project. `make` lists them.
SHELL := /bin/bash
CARGO ?= cargo
SEEDS ?= 200
EXAMPLES ?= 200

.PHONY: help run test check bench sim demo test-tools fmt torture-run kills reloads contract package

help:
	@echo "make run      build the gateway and start it on embedded defaults"
	@echo "make demo     build it and show a whole call between two built-in phones"
	@echo "make test     install what the tests need, then run all of them"
	@echo "make check    formatting, lints, style"
	@echo "make sim      simulate SEEDS=$(SEEDS) runs over a bad network (SEED=n replays one)"
	@echo "make bench    measure parsing, relaying, calls, registrations and overload on this host"
	@echo "make torture-run  200 000 broken datagrams against a running gateway"
	@echo "make kills    500 times kill -9 under load, then every answered call against its record"
	@echo "make reloads  100 reloads and 300 changes over HTTP under 200 calls a second"
	@echo "make contract schemathesis with EXAMPLES=$(EXAMPLES) requests per operation and more, under every prefix"
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
	@echo "== test peers: SIPp, baresip, sippy, schemathesis, network namespaces, PostgreSQL"
	@sh loadtest/peers/install.sh target/peers

test: test-tools
	@echo "== building everything"
	$(CARGO) build --workspace --all-targets
	@echo "== unit, property, simulation and real-peer tests"
	$(CARGO) test --workspace --no-fail-fast

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
	@# A target that is not met is said and hides no other figure.
	-./target/release/registrations --register-rate 200
	-./target/release/overload

torture-run:
	$(CARGO) build --release --workspace
	./target/release/mutate

kills:
	$(CARGO) build --release --workspace
	./target/release/kills

reloads:
	$(CARGO) build --release --workspace
	./target/release/reload

contract: test-tools
	CONTRACT_EXAMPLES=$(EXAMPLES) $(CARGO) test -p controlplane --test schemathesis -- --nocapture

package:
	$(CARGO) build --profile shipped -p controlplane
