# Every word works from a fresh clone on a bare Debian 12, as root.
#   make         build            make test    every test        make demo   see it run
#   make debug   ASan + UBSan     make lint    all linters       make bench  against other tunnels
#   make fuzz    libFuzzer runs   make clean   back to a clone   make soak   what takes long
#   make bench-check    instructions per packet against the stored budgets
#   make audit          nothing here is unused, and every function of the core is reached

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := build

# The one list of Debian packages.
DEBIAN_BUILD := gcc make clang lld libbpf-dev libxdp-dev liburing-dev libssl-dev libnftables1 \
                libcap-ng-dev libseccomp-dev linux-libc-dev libc6-dev pkg-config python3-venv python3-dev
DEBIAN_TEST  := ethtool iproute2 iputils-ping iperf3 nftables postgresql procps clang-format libclang-rt-dev \
                llvm valgrind
DEBIAN_BENCH := openvpn wireguard-go wireguard-tools nebula
ifeq ($(shell uname -m),x86_64)
DEBIAN_BUILD += libipsec-mb-dev
endif
DEBIAN_PACKAGES := $(DEBIAN_BUILD) $(DEBIAN_TEST)

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
NATIVE := $(wildcard native/*.pyx native/core/* native/path/* bpf/*) setup.py

.PHONY: build test soak demo debug lint audit bench bench-check fuzz clean install-packages

build: $(VENV)/.built

# apt runs only when something on the list is missing, so a second run costs nothing.
.PHONY: packages bench-packages
packages:
	@deploy/packages.sh $(DEBIAN_PACKAGES)
bench-packages: packages
	@deploy/packages.sh $(DEBIAN_BENCH)

$(VENV)/.dependencies: pyproject.toml | packages
	@echo "==> virtual environment"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --group dev
	@touch $@

$(VENV)/.built: $(VENV)/.dependencies $(NATIVE)
	@echo "==> C core, extensions and XDP object"
	@mkdir -p build && $(BIN)/python -m pip install --disable-pip-version-check \
	    --no-build-isolation --config-settings editable_mode=compat --editable . >build/install.log 2>&1 || { cat build/install.log; exit 1; }
	@touch $@

# Shared out among the cores as tests/conftest.py has it.
test: build
	@$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4

soak: build
	@$(BIN)/python -m pytest -m soak

demo: build
	@$(BIN)/python -m bench.demo

debug: build
	@deploy/debug.sh

lint: build
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .
	@$(BIN)/mypy
	@PATH=$(CURDIR)/$(BIN):$$PATH cython-lint native
	@clang-format --dry-run --Werror $$(git ls-files '*.c' '*.h')

audit: build
	@$(BIN)/python -m tests.audit

# Each goes on when one before it missed a goal; the answer is the worst of them.
bench: build bench-packages
	@mkdir -p build/bench; status=0; for part in bench bench.stages bench.scale; do \
	    $(BIN)/python -m $$part --json build/bench/$$part.json || status=$$?; done; exit $$status

bench-check: build
	@$(BIN)/python -m bench.check

fuzz: build
	@$(BIN)/python -m tests.fuzz --seconds 300

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name '*.so' -not -path './.venv/*' -delete
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
	rm -f hub/steer.bpf.o
