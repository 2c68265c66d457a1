# Portcullis. Two commands for a newcomer: `make run` tells the story, `make test` proves it.

.DEFAULT_GOAL := help
.PHONY: help run test check tools

# Debian packages that the tests use: real clients and a real Prometheus, none of them ours.
PACKAGES := curl openssl nghttp2-client prometheus

help: ## This list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

run: ## Build, mint certs-dev/, and watch sessions be trusted and cut (ONCE=1: end after the story)
	cargo build --quiet --locked
	./target/debug/portcullis demo certs-dev

tools: ## Install what the tests need
	@./tests/tools $(PACKAGES)

test: tools ## Everything that proves it
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets --quiet -- -D warnings
	cargo nextest run --locked --workspace
	cargo test --locked --doc --quiet -p trust

check: ## Format, lints and unit tests: under a minute when built
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets --quiet -- -D warnings
	cargo nextest run --locked --workspace --lib
