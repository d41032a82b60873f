# Entry points. `make run` and `make test` install what is missing first; see Scripts/setup.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := build
.NOTPARALLEL:

# Found when first used, so that `make clean` works without a toolchain.
SWIFT = $(eval SWIFT := $$(shell Scripts/setup swift))$(SWIFT)
PYTHON := .venv/bin/python
BINARY := .build/release/millrace
SWIFT_FOLDERS := Package.swift $(wildcard Sources Tests Benchmarks Fuzz Simulator examples docs/tutorial)

# Knobs: make run DATA=/somewhere/else DEMO='--repeat', make crash CYCLES=1000 SEED=7, make faults SEED=7, make soak MINUTES=60,
# make transfers TRANSFERS=10000000 CYCLES=40, make fuzz TARGET=json SECONDS=60 (or RUNS=100000), make bench RUNS=9
CYCLES ?= 200
SEED ?=
SEEDS ?= 2000
CUTS ?= 40
SCALE ?= 10
TRANSFERS ?= 10000000
EVENTS ?= 4000000
ATTEMPTS ?= 100000
MINUTES ?= 10
RUNS ?= 5
DATA ?= data/demo
DEMO ?=
SECONDS ?= 30
TARGET ?= all
SMOKE_SECONDS ?= 2
# Runs what follows with encrypted data directories.
ENCRYPTED = rm -f .build/test.keys && $(BINARY) key new --file .build/test.keys && MILLRACE_ENCRYPTION_KEY=$(CURDIR)/.build/test.keys
FUZZ_AMOUNT = $(if $(filter command,$(firstword $(origin RUNS))),$(RUNS)x,$(SECONDS))

.PHONY: run build test simulate power lint unit clients cli nexmark-oracle amqp amqp-reference crash crash-counts transfers faults soak oracles examples bench bench-large bench-amqp fuzz fuzz-smoke format clean setup setup-test

run: setup build-release
	$(BINARY) demo --data $(DATA) $(DEMO)

build: setup build-release

.PHONY: build-release
build-release:
	$(SWIFT) build -c release --product millrace

# What comes later is built beside what is tested, and takes what that leaves of the processors.
test: setup-test lint build-unit
	Scripts/beside "$(MAKE) --no-print-directory build-programs" "$(MAKE) --no-print-directory run-unit"
	Scripts/beside "$(MAKE) --no-print-directory build-fuzzers" \
	  "$(MAKE) --no-print-directory clients cli amqp http nexmark crash-run simulate power-run CYCLES=10 SEEDS=1000 CUTS=10"
	$(MAKE) --no-print-directory fuzz-smoke
	$(MAKE) --no-print-directory faults-smoke soak-smoke
	$(MAKE) --no-print-directory examples

# All programs, also the benchmarks, and the examples.
.PHONY: build-programs
build-programs:
	$(SWIFT) build -c release
	Scripts/examples build

setup:
	@Scripts/setup build

setup-test:
	@Scripts/setup test

lint:
	$(SWIFT) format lint --strict -r $(SWIFT_FOLDERS)

# Whole modules at a time and without the programs, which is less work than `swift test`; in a folder of its own, so that neither
# builds again what the other has built, and programs can be built meanwhile.
UNIT = --scratch-path .build/unit -Xswiftc -whole-module-optimization -Xswiftc -num-threads -Xswiftc 2

unit: build-unit run-unit

.PHONY: build-unit
build-unit:
	$(SWIFT) build --product millracePackageTests $(UNIT)

.PHONY: run-unit
run-unit:
	$(SWIFT) test --skip-build $(UNIT)

# Tests of clients, three at a time, because they wait more than they work.
clients:
	$(MAKE) --no-print-directory -C Tests/clients/drivers
	$(PYTHON) -m pytest -q -n 3 --dist loadfile Tests/harness Tests/crash Tests/clients Tests/security

# What strangers may do, in full, and what others notice of it.
.PHONY: attacks
attacks: setup-test build-release
	$(PYTHON) -m pytest -q -s Tests/security/test_attacks.py --attempts $(ATTEMPTS)

# TLS as testssl.sh sees it, on a listener of each protocol: three minutes each.
.PHONY: tls-audit
tls-audit: setup-test build-release
	@Scripts/setup tls-audit
	$(PYTHON) Tests/security/tls_audit.py

amqp: build-crash-worker
	$(PYTHON) -m pytest -q -n 2 --dist loadfile Tests/amqp --amqp-backend millrace

# The HTTP API, metrics and health: with the standard library, schemathesis, rabbitmqadmin, Flower and promtool. A minute.
.PHONY: http
http:
	$(PYTHON) -m pytest -q -n 2 Tests/http

# The same tests against RabbitMQ, which shows that they expect what RabbitMQ does.
amqp-reference:
	@Scripts/setup reference
	$(PYTHON) -m pytest -q Tests/amqp --amqp-backend rabbitmq

# What the Nexmark queries give, by PostgreSQL, whether that is right, and whether Millrace gives the same.
nexmark-oracle: setup-test build-release nexmark

.PHONY: nexmark
nexmark:
	$(PYTHON) -m pytest -q Tests/nexmark

# The same over a million events: a minute.
.PHONY: nexmark-million
nexmark-million: setup-test build-release
	$(PYTHON) Tests/nexmark/compare.py --events 1000000 --rate 10000
	$(PYTHON) Tests/nexmark/compare.py --events 1000000 --rate 1000 --crash-at 600000

cli:
	$(PYTHON) -m pytest -q -n 2 --dist loadfile Tests/cli

crash: setup-test build-release build-crash-worker crash-run

.PHONY: build-crash-worker
build-crash-worker:
	$(SWIFT) build -c release --product CrashWorker

.PHONY: crash-run
crash-run:
	$(PYTHON) Tests/crash/log_crash.py --cycles $(CYCLES) $(if $(SEED),--seed $(SEED))
	$(ENCRYPTED) $(PYTHON) Tests/crash/log_crash.py --cycles $(CYCLES) $(if $(SEED),--seed $(SEED))
	$(PYTHON) Tests/crash/txn_crash.py --cycles $(CYCLES) $(if $(SEED),--seed $(SEED))
	$(PYTHON) Tests/crash/count_crash.py --cycles $(CYCLES) $(if $(SEED),--seed $(SEED))
	$(PYTHON) Tests/crash/queue_crash.py --cycles $(CYCLES) $(if $(SEED),--seed $(SEED))
	$(PYTHON) Tests/crash/worker_crash.py --cycles $(CYCLES) $(if $(SEED),--seed $(SEED))
	$(PYTHON) Tests/crash/balance_crash.py --cycles $(CYCLES) $(if $(SEED),--seed $(SEED))

# Ten million transfers, through kills of server and workers: totals are 0 at every commit. Some minutes.
transfers: setup-test build-release build-crash-worker
	$(PYTHON) Tests/crash/balance_crash.py --transfers $(TRANSFERS) --cycles $(CYCLES) $(if $(SEED),--seed $(SEED))

# The whole broker on a simulated disk, network and clock, a seed at a time; a failing seed is printed and repeats exactly.
simulate: setup build-simulator
	.build/release/Simulator plants
	.build/release/Simulator --seeds $(SEEDS) $(if $(SEED),--from $(SEED))

.PHONY: build-simulator
build-simulator:
	$(SWIFT) build -c release --product Simulator

# The real program's writes, recorded under load and cut at random as by a power loss.
power: setup-test build-release build-simulator
	$(MAKE) --no-print-directory power-run

.PHONY: power-run
power-run:
	$(PYTHON) Tests/power/power_loss.py --cuts $(CUTS) $(if $(SEED),--seed $(SEED))
	$(ENCRYPTED) $(PYTHON) Tests/power/power_loss.py --cuts $(CUTS) $(if $(SEED),--seed $(SEED))
	$(PYTHON) Tests/power/power_loss.py --cuts 3 --canary $(if $(SEED),--seed $(SEED))

# Full disks, failed and slow system calls, damaged files: the full counts take some minutes.
faults: setup-test build-release
	$(PYTHON) -m pytest -q -s -o faulthandler_timeout=3600 Tests/faults --full $(if $(SEED),--fault-seed $(SEED))

.PHONY: faults-smoke
faults-smoke:
	$(PYTHON) -m pytest -q Tests/faults $(if $(SEED),--fault-seed $(SEED))

# A mixed load through librdkafka, whose own statistics must show nothing unexpected.
soak: setup-test build-release
	$(PYTHON) Tests/soak/soak.py --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

.PHONY: soak-smoke
soak-smoke:
	$(PYTHON) Tests/soak/soak.py --seconds 10 $(if $(SEED),--seed $(SEED))

# The stream engine over SCALE times as many random histories as its tests were first run over.
oracles: setup
	MILLRACE_ORACLE_SCALE=$(SCALE) $(SWIFT) test --filter MillraceStreamsTests

examples: setup-test build-release
	Scripts/examples
	Scripts/tutorial

# The tutorial's pages, made by DocC, in .build/tutorial.
.PHONY: tutorial
tutorial:
	Scripts/tutorial pages

bench: setup-test build-release
	$(MAKE) --no-print-directory -C Benchmarks/kafka
	$(SWIFT) build -c release --product WordCountBenchmark
	$(SWIFT) build -c release --package-path Benchmarks/Library --scratch-path .build/library-benchmarks
	$(PYTHON) Benchmarks/run.py --runs $(RUNS) --write docs/benchmarks.md

# The Nexmark queries on one core, over events in memory: half a minute.
.PHONY: bench-nexmark
bench-nexmark: setup
	$(SWIFT) build -c release --product NexmarkBenchmark
	.build/release/NexmarkBenchmark 1 $(RUNS)

# Keyed state of ten million keys, and restarts with a gigabyte of it: some five minutes, 6 GB of disk and 6 GB of memory.
.PHONY: bench-state
bench-state: setup
	$(SWIFT) build -c release --product StateBenchmark
	@mkdir -p .build/state-benchmark
	.build/release/StateBenchmark all 10000 .build/state-benchmark

# What TLS costs a server in processor time, with librdkafka and alone: some five minutes.
.PHONY: bench-tls
bench-tls: setup-test build-release
	$(MAKE) --no-print-directory -C Benchmarks/kafka
	$(SWIFT) build -c release --product TLSBenchmark
	$(PYTHON) Benchmarks/tls.py --runs $(RUNS) --write docs/benchmarks-tls.md

# What encryption at rest costs the log, in processor time: two minutes.
.PHONY: bench-encryption
bench-encryption: setup
	$(SWIFT) build -c release --product EncryptionBenchmark
	.build/release/EncryptionBenchmark 1024 $(RUNS) .build

# What a server costs whose metrics are asked for every second, with up to 10,000 queues: a quarter of an hour.
.PHONY: bench-scrape
bench-scrape: setup-test build-release
	$(PYTHON) Benchmarks/scrape.py --runs $(RUNS) --seconds $(SECONDS) --write docs/benchmarks-scrape.md

# AMQP beside RabbitMQ: some ten minutes, and a table of its own.
bench-amqp: setup-test build-release
	@Scripts/setup amqp-bench
	$(MAKE) --no-print-directory -C Benchmarks/amqp
	$(SWIFT) build -c release --package-path Benchmarks/Library --scratch-path .build/library-benchmarks --product BrokerQueueBenchmark
	$(PYTHON) Benchmarks/amqp.py --runs $(RUNS) --write docs/benchmarks-amqp.md

# Stream jobs on topics: latency of a record, and JSON from the log.
.PHONY: bench-streams
bench-streams: setup-test build-release build-crash-worker
	$(MAKE) --no-print-directory -C Benchmarks/kafka
	$(SWIFT) build -c release --product LogBidsBenchmark
	$(PYTHON) Benchmarks/streams.py --runs $(RUNS) --write docs/benchmarks-streams.md

# The Nexmark queries beside Apache Flink, which is installed for this alone: an hour with five runs.
.PHONY: bench-flink
bench-flink: setup-test build-release
	@Scripts/setup flink
	$(PYTHON) Benchmarks/flink.py --check
	$(PYTHON) Benchmarks/flink.py --events $(EVENTS) --runs $(RUNS) --write docs/benchmarks-flink.md

# What takes half an hour and 70 GB of disk; writes a table of its own.
bench-large: setup-test build-release
	$(MAKE) --no-print-directory -C Benchmarks/kafka
	$(PYTHON) Benchmarks/large.py --write docs/benchmarks-large.md

fuzz: setup
	PATH="$$(dirname $(SWIFT)):$$PATH" Fuzz/run.sh $(TARGET) $(FUZZ_AMOUNT)

.PHONY: build-fuzzers
build-fuzzers:
	PATH="$$(dirname $(SWIFT)):$$PATH" Fuzz/run.sh build

# Every target for a moment, and the canary: a build that fuzzes at all, and parsers that survive their seeds.
fuzz-smoke: setup
	FUZZ_SEED=1 FUZZ_MOST=60000 FUZZ_JOBS=2 PATH="$$(dirname $(SWIFT)):$$PATH" Fuzz/run.sh all $(SMOKE_SECONDS)

format:
	$(SWIFT) format -i -r $(SWIFT_FOLDERS)

clean:
	rm -rf .build .venv
	$(MAKE) --no-print-directory -C Benchmarks/kafka clean
	$(MAKE) --no-print-directory -C Benchmarks/amqp clean
