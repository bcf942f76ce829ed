# The front door. Every target installs what it needs and is missing, builds, and runs.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: demo test up down bench chaos release lint help tools mariadb mysql postgres curl network ruby build

CARGO ?= cargo
# The servers, the copy tool and the reader of binary logs; none of these packages brings a service that would start by itself.
MARIADB_PACKAGES := mariadb-server-core mariadb-client-core mariadb-client mariadb-backup
MARIADB_PROGRAMS := mariadbd mariadb-install-db mariadb mariadb-binlog mariadb-backup
BUILD_PACKAGES := gcc libc6-dev make pkg-config
# What the programs of the release are built for: a stemcell like this machine, if nothing else is said.
TARGET ?= $(shell PATH="$(PATH)" $(CARGO) -vV | sed -n 's/^host: //p')
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
APT := $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get
# Set: `make test` fails where MySQL or PostgreSQL cannot be fetched. Otherwise it says so and tests without them.
REQUIRE_MYSQL ?=
REQUIRE_POSTGRES ?=
# The tests that have a state database. (Of the whole workspace, like all others: for one package alone cargo builds anew.)
ON_POSTGRES := shared every_step secrets
# sbin (mariadbd) and the place where rustup puts cargo are not in everybody's PATH.
export PATH := $(PATH):/usr/sbin:/sbin:$(HOME)/.cargo/bin

help: ## Show the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 16

demo: mariadb curl build ## Walk the main job, from create-service to a healed pair, and clean up
	@target/debug/demo

test: mariadb mysql postgres network ruby lint build ## Check and test everything
	@# Temporary files have a place of their own (its name is short: sockets are below it). However the tests end, every
	@# process that works below it ends, and it goes.
	@scratch=$$(mktemp -d /tmp/tt.XXXXXX); export TMPDIR=$$scratch; \
	trap 'target/debug/stack down --dir "$$scratch" >/dev/null' EXIT; trap 'exit 130' INT TERM; \
	$(CARGO) test --workspace || exit; \
	if [ -x target/mysql/bin/mysqld ]; then TANDEM_SERVER=mysql $(CARGO) test --workspace --test agent; \
	else echo "NOT TESTED: MySQL, which could not be fetched; only MariaDB was tested" >&2; fi || exit; \
	if ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1; then tests/with-postgres.sh $(CARGO) test --workspace --bin mysql-broker $(foreach test,$(ON_POSTGRES),--test $(test)); \
	else echo "NOT TESTED: PostgreSQL as state database, which could not be installed; only SQLite was tested" >&2; fi

up: $(if $(filter simulated,$(CPI)),,mariadb) build ## Leave a director and a broker running in the background (CPI=simulated: a fake IaaS, no MySQL)
	@target/debug/stack up --dir .run $(if $(CPI),--cpi $(CPI))

down: ## Remove what `make up` started
	@if [ -x target/debug/stack ]; then target/debug/stack down --dir .run; \
	elif [ -e .run ]; then echo "target/debug/stack is gone, run: cargo build -p tests && make down"; exit 1; fi

bench: mariadb mysql tools ## Measure against a floor of bare servers (release build)
	$(CARGO) build --release --workspace --bins
	@target/release/bench

chaos: mariadb mysql network build ## Play seeded faults on simulated voters and real pairs, and judge them (SCHEDULES=, SEED=, CELL=)
	@# The rules alone first: the voters, their messages, clocks and clients in a simulation, which is fast in a release build.
	QUORUM_SCHEDULES=100000 $(CARGO) test --release -p agent --lib quorum
	@target/debug/chaos $(if $(SCHEDULES),--schedules $(SCHEDULES)) $(if $(SEED),--seed $(SEED)) $(if $(CELL),--cell $(CELL))

release: tools ## Write the BOSH release into target/ (SERVER=archive of a MySQL server, TARGET=another Rust target, VERSION=)
	@# Whole programs, without a C library of the VM: a stemcell may have an older one. With a target named, cargo does not link
	@# what only runs while it builds in the same way.
	RUSTFLAGS="-C target-feature=+crt-static" $(CARGO) build --release --workspace --bins --target $(TARGET)
	@target/$(TARGET)/release/release --programs target/$(TARGET)/release $(if $(SERVER),--server $(SERVER)) $(if $(VERSION),--version $(VERSION))

lint: tools ## Formatting, lints, documentation
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --document-private-items -q

build: tools
	$(CARGO) build --workspace --bins

tools:
	@command -v $(CARGO) >/dev/null || { echo "cargo is missing: install Rust $$(sed -n 's/^rust-version = //p' Cargo.toml) or later, see https://rustup.rs" >&2; exit 1; }
	@command -v gcc >/dev/null && [ -e /usr/include/stdlib.h ] || { echo "installing $(BUILD_PACKAGES)"; $(APT) update -q && $(APT) install -qy --no-install-recommends $(BUILD_PACKAGES); }

mariadb:
	@for program in $(MARIADB_PROGRAMS); do command -v $$program >/dev/null || missing=1; done; \
	if [ -n "$$missing" ]; then echo "installing $(MARIADB_PACKAGES)"; $(APT) update -q && $(APT) install -qy --no-install-recommends $(MARIADB_PACKAGES); fi

# Network namespaces and wall clocks for the faults; what is not played without them is said.
network:
	@{ command -v ip && command -v faketime; } >/dev/null || { echo "installing iproute2, faketime"; $(APT) update -q && $(APT) install -qy --no-install-recommends iproute2 faketime; }

# A director renders the templates of a release with it; the tests do the same.
ruby:
	@command -v ruby >/dev/null || { echo "installing ruby"; $(APT) update -q && $(APT) install -qy --no-install-recommends ruby; }

mysql: ## Put a MySQL server into target/mysql, where the VMs find it
	@tests/fetch-mysql.sh target/mysql || { [ -z "$(REQUIRE_MYSQL)" ] && echo "going on without MySQL" >&2; }

# The server without a cluster: the tests make their own, and no service is to run.
postgres:
	@ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || { \
	echo "installing postgresql"; \
	[ -e /etc/postgresql-common/createcluster.conf ] || { $(SUDO) mkdir -p /etc/postgresql-common && \
	echo "create_main_cluster = false" | $(SUDO) tee /etc/postgresql-common/createcluster.conf >/dev/null; }; \
	$(APT) update -q && $(APT) install -qy --no-install-recommends -o Dpkg::Options::=--force-confold postgresql; } || \
	{ [ -z "$(REQUIRE_POSTGRES)" ] && echo "going on without PostgreSQL" >&2; }

curl:
	@command -v curl >/dev/null || { echo "installing curl"; $(APT) update -q && $(APT) install -qy --no-install-recommends curl; }
