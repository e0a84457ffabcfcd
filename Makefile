# `make demo` shows everything on a real cluster, `make test` proves it. Both install what they need.

STACK := tests/stack
# What runs longer under SEXTON_SOAK, beside the kills.
SOAKS := migrate::rehearsals visibility::soak visibility::rebuild visibility::adopt::load orphans::forest orphans::binary overdue incremental faults
CARGO ?= cargo
# The tests wait for the engines more than they work.
THREADS ?= 4

.DEFAULT_GOAL := help
.PHONY: help demo test soak bench-visibility bench-audit bench-backup bench-churn bench-move bench-http pictures lint build up down clean

help: ## Show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: build up ## A real Temporal cluster, every job once, and what changed
	tests/demo/demo

test: lint up ## Every check and test, on the real engines (they keep running; see `make down`)
	environment=$$($(STACK)/env) && eval "$$environment" && RUST_BACKTRACE=0 $(CARGO) test --locked -- --test-threads $(THREADS)
	$(MAKE) --no-print-directory build
	@echo 'test: the demo, from end to end'
	@tests/demo/demo >target/demo.log 2>&1 || { cat target/demo.log; exit 1; }
	@echo 'test: the demo ran to its end (target/demo.log)'

soak: up ## Kills at random instants, thirty for each verb that writes; faults of stores, networks and servers; ten minutes of rollovers under load; 10,000 history trees
	environment=$$($(STACK)/env) && eval "$$environment" && export SEXTON_SOAK=$${SEXTON_SOAK:-30} && \
	  $(CARGO) test --locked --test it kills -- --nocapture && \
	  $(CARGO) test --locked --test it -- --nocapture --test-threads 1 $(SOAKS)

bench-visibility: up ## What a reconcile costs, beside the engine's own _reindex
	$(CARGO) build --locked --profile benchmark --bin sexton --example bench-visibility
	environment=$$($(STACK)/env) && eval "$$environment" && target/benchmark/examples/bench-visibility

bench-audit: up build ## What an audit of a million runs costs, beside a plain COPY
	$(CARGO) build --locked --profile benchmark --bin sexton
	environment=$$($(STACK)/env) && eval "$$environment" && tests/bench/audit/run

bench-backup: up build ## What a backup, the next one and a restore cost, beside pg_dump, pgBackRest and pg_restore (SIZE=4 gigabytes)
	$(CARGO) build --locked --profile benchmark --bin sexton
	environment=$$($(STACK)/env) && eval "$$environment" && tests/bench/backup/run

bench-churn: up build ## What the backup after a day of churn adds to the store, by how a table is read
	environment=$$($(STACK)/env) && eval "$$environment" && tests/bench/backup/churn

bench-move: up ## What it takes to copy a database to a newer server, beside pgcopydb (SIZE=1 gigabyte)
	$(CARGO) build --locked --profile benchmark --bin sexton
	environment=$$($(STACK)/env) && eval "$$environment" && tests/bench/move/run

bench-http: up ## What the API costs: requests beside a backup, memory, how soon it is ready
	$(CARGO) build --locked --profile benchmark --bin sexton --example bench-http
	environment=$$($(STACK)/env) && eval "$$environment" && tests/bench/http/run

pictures: demo ## The pictures of docs/pictures/, taken from the demo's cluster
	environment=$$($(STACK)/env) && eval "$$environment" && tests/browser/pictures

lint: ## Formatting, clippy, licences, shell scripts
	tests/lint

build: ## The binary, target/debug/sexton, and the demo's seed
	$(CARGO) build --locked --bin sexton --example seed

up: ## Start the real engines
	$(STACK)/up

down: ## End the engines
	$(STACK)/down

clean: down ## End the engines and remove what was built
	$(CARGO) clean
