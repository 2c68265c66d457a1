# Portcullis. Two commands for a newcomer: `make run` tells the story, `make test` proves it.

.DEFAULT_GOAL := help
.PHONY: help run test test-pod check certs bench bench-peers bench-swap bench-cut image image-check fuzz deny

# Debian packages that images are made with; nft and its libraries go into one of them.
IMAGE_PACKAGES := buildah runc nftables python3-venv
# Debian packages that the tests use: real clients and a real Prometheus, none of them ours; Python for what comes from PyPI.
PACKAGES := $(IMAGE_PACKAGES) podman catatonit iproute2 curl openssl nghttp2-client prometheus redis-server redis-tools haproxy nginx postgresql
TARGET := $(or $(CARGO_TARGET_DIR),target)

help: ## This list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

run: ## Build, mint certs-dev/ and watch sessions be trusted and cut (ONCE=1: end after the story)
	@cargo build --locked -p portcullis
	@$(TARGET)/debug/portcullis demo certs-dev

test: ## Install what the tests need and prove everything
	@tests/tools $(PACKAGES)
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets --quiet -- -D warnings
	cargo nextest run --locked --workspace
	cargo test --locked --doc --quiet -p trust
	tests/pod/run --or-skip

test-pod: ## A pod under podman, and nftables in network namespaces: what of make test takes user 0
	@tests/tools $(PACKAGES)
	tests/pod/run

check: ## Format, lints and unit tests: under a minute once built
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets --quiet -- -D warnings
	cargo nextest run --locked --workspace --lib --bins

certs: ## The development PKI alone, in certs-dev/
	@cargo build --locked --quiet -p portcullis
	@$(TARGET)/debug/portcullis certs certs-dev

bench: ## Judge, lookup, sweep, import and injection, by criterion; lists of sessions; the webhook; an idle sidecar; the memory of a CRL
	cargo bench --locked -p trust -p revocation -p injector
	cargo bench --locked -p portcullis --bench sessions
	cargo build --locked --release --quiet -p portcullis
	benches/admission $(TARGET)/release/portcullis
	benches/idle $(TARGET)/release/portcullis
	@cargo build --locked --release --quiet -p revocation --example memory
	@folder=$$(mktemp -d) && $(TARGET)/release/examples/memory write $$folder \
	  && for file in crl.der crl.pem list.jsonl list.bin; do $(TARGET)/release/examples/memory $$folder/$$file || exit 1; done; rm -rf $$folder

bench-peers: ## Side by side with nginx, HAProxy and Envoy (ten minutes)
	cargo build --locked --release -p portcullis
	benches/peers/run

bench-swap: ## What clients feel while a list of 1,000,000 entries is swapped in (three minutes)
	cargo build --locked --release -p portcullis
	benches/peers/swap

bench-cut: ## How fast 10,000 live sessions are cut, what the others feel, what a session weighs (five minutes)
	cargo build --locked --release -p portcullis
	cargo build --locked --release -p testkit --example crowd
	benches/peers/cut

image: ## Both images with their digests and SBOMs, in target/images (eight minutes when built anew)
	@tests/tools $(IMAGE_PACKAGES)
	deploy/image/build $(TARGET)/images

image-check: ## Builds the images twice in different places: the same digests
	@tests/tools $(IMAGE_PACKAGES)
	deploy/image/check

fuzz: ## Every parser of foreign bytes, a minute each (needs a nightly toolchain, installs cargo-fuzz)
	@command -v cargo-fuzz >/dev/null || cargo install --locked --quiet cargo-fuzz
	cd fuzz && for target in list compiled signed crl certificate manifest; do cargo +nightly fuzz run $$target -- -max_total_time=60 || exit 1; done

deny: ## Licences, duplicate and banned crates, registries (installs cargo-deny)
	@command -v cargo-deny >/dev/null || cargo install --locked --quiet cargo-deny
	cargo deny check --hide-inclusion-graph bans licenses sources
