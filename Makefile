# make evaluate   set up what is missing, run the quick experiment, say where the report is
# make test       set up what is missing, run every test that this machine can run
# make stack      get the observability stack's programs (ten minutes where they are built): then it is tested, too
#                 (STACK=parca gets that one, too, which a stack has on request)
# make test-stack the same, and only its tests
# make data      install pandas and pyarrow too: harness export, harness.results.frames
# make helm       helm alone, built once: then the chart for clusters is tested, too
# make test-cluster real Kubernetes in kind, and only its tests (the first time it builds for half an hour)
# make test-hubble Cilium as the network of machines and of a kind cluster, and what Hubble costs there (ten minutes to build)
# make test-guests a guest of QEMU becomes a cluster and is bare again (an hour where KVM does not work)
# make test-kernels boots kernels of distributions in QEMU, and writes docs/kernels.md (minutes a kernel)
# make bench-collectors ours beside bpftrace, libbpf-tools and BCC's, same events (20 minutes; an idle machine)
# make soak      hours of mixed load on our collectors: memory, and what was lost unsaid (HOURS=1)
# make golden    write again what is printed of made-up runs: tests/cases/report (then look at git diff)
# make lint       style, types, import layers
# make clean      take the stack down, remove what was built and installed here (not packages, not reports)
.DELETE_ON_ERROR:
.PHONY: evaluate test data stack test-stack helm test-cluster test-hubble test-guests test-kernels bench-collectors soak golden lint setup setup-test bpf workloads clean format lock

PYTHON ?= $(shell for p in /usr/bin/python3 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
export PATH := $(PATH):/usr/sbin:/sbin

EXPERIMENT ?= quick
PYTEST_ARGS ?=
BENCH_ARGS ?=
HOURS ?= 1
STACK ?=

evaluate:
	@echo 'First what is missing is set up: a minute where packages are cached, up to ten where they are not.'
	@echo 'Then the experiment $(EXPERIMENT) runs; it says what it will have when.'
	@$(MAKE) --no-print-directory setup
	$(BIN)/harness evaluate $(EXPERIMENT)

test: setup setup-test
	$(BIN)/python -m pytest $(PYTEST_ARGS)

data: .venv/data

stack: setup
	$(BIN)/python -m harness.stack.selection $(STACK)

test-stack: setup setup-test
	HARNESS_STACK=1 $(BIN)/python -m pytest -m stack $(PYTEST_ARGS)

helm: setup setup-test
	$(BIN)/python -m tests.cluster.programs helm

test-cluster: setup setup-test .cache/packages-cluster stack
	$(BIN)/python -m tests.cluster.images
	HARNESS_CLUSTER=1 $(BIN)/python -m pytest -m cluster $(PYTEST_ARGS)

test-hubble: setup setup-test .cache/packages-cluster stack
	$(BIN)/python -m tests.cluster.images
	$(BIN)/python -m tests.cluster.cilium
	HARNESS_CLUSTER=1 HARNESS_HUBBLE=1 $(BIN)/python -m pytest tests/cluster/test_hubble.py tests/cluster/test_cilium.py $(PYTEST_ARGS)

test-guests: setup setup-test .cache/packages-cluster .cache/packages-guests
	$(BIN)/python -m tests.cluster.images
	$(BIN)/python -m tests.cluster.guest_image
	HARNESS_GUESTS=1 $(BIN)/python -m pytest tests/cluster/test_guests.py $(PYTEST_ARGS)

# HARNESS_KERNEL_SUITES="bookworm trixie": these alone. HARNESS_KERNEL_TESTS=tests/bpf: its tests there, too.
test-kernels: setup setup-test .cache/packages-kernels
	HARNESS_KERNELS=1 $(BIN)/python -m pytest -m kernels $(PYTEST_ARGS); \
	said=$$?; $(BIN)/python -m tests.kernels.page && exit $$said

# BENCH_ARGS='-o reports/published/collectors.md': the table is kept there, too.
bench-collectors: setup .cache/packages-collectors
	$(BIN)/python ci/bench_collectors.py $(BENCH_ARGS)

soak: setup
	$(BIN)/python ci/soak.py --hours $(HOURS)

golden: .venv/ready
	$(BIN)/python -m tests.cases.golden

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry harness workloads
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/ansible-lint --offline --strict playbooks
	@if command -v clang-format >/dev/null; then clang-format --dry-run -Werror bpf/*.c $(wildcard bpf/*.h); \
	else echo 'clang-format is not installed: bpf/ was not checked (make setup-test installs it)'; fi

setup: .cache/packages .venv/ready bpf workloads
setup-test: .cache/packages-test .venv/data

.cache/packages: .ci/packages
	@mkdir -p $(@D) && .ci/packages evaluate && touch $@
.cache/packages-cluster: .ci/packages
	@mkdir -p $(@D) && .ci/packages cluster && touch $@
.cache/packages-guests: .ci/packages
	@mkdir -p $(@D) && .ci/packages guests && touch $@
.cache/packages-kernels: .ci/packages
	@mkdir -p $(@D) && .ci/packages kernels && touch $@
.cache/packages-collectors: .ci/packages
	@mkdir -p $(@D) && .ci/packages collectors && touch $@
.cache/packages-test: .ci/packages
	@mkdir -p $(@D) && .ci/packages test && touch $@

.venv/ready: requirements.lock pyproject.toml | .cache/packages
	@test -n "$(PYTHON)" || { echo 'Python 3.11 or later is needed. Install python3 and try again.' >&2; exit 2; }
	@echo 'Installing the Python packages of requirements.lock into .venv'
	$(PYTHON) -m venv --clear .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@# Debian ships BCC as a package of the system's Python only; it is pure Python over libbcc.
	@for d in /usr/lib/python3/dist-packages/bcc; do \
	test -d $$d && ln -sfn $$d $$($(BIN)/python -c 'import site; print(site.getsitepackages()[0])')/bcc; done; true
	@touch $@

.venv/data: requirements-data.lock .venv/ready
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-data.lock
	@touch $@

bpf: | .cache/packages
	@$(MAKE) --no-print-directory -C bpf
workloads: | .cache/packages
	@$(MAKE) --no-print-directory -C workloads

format: .venv/ready
	$(BIN)/ruff check --fix-only . && $(BIN)/ruff format .
	clang-format -i bpf/*.c $(wildcard bpf/*.h)

# The lock holds hashes and no index address, so that any mirror serves it.
lock:
	uv pip compile pyproject.toml --group dev --extra services --extra vm --universal --generate-hashes \
	--no-emit-index-url --no-emit-find-links --python-version 3.11 -o requirements.lock
	uv pip compile pyproject.toml --extra data --constraint requirements.lock --universal --generate-hashes \
	--no-emit-index-url --no-emit-find-links --python-version 3.11 -o requirements-data.lock

clean:
	@# 2: something could not be ended, as without root; .venv stays, which can end it
	@! test -x $(BIN)/harness || { $(BIN)/harness down && $(BIN)/harness clean; } || test $$? -ne 2
	rm -rf build .venv .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info
	$(MAKE) -C bpf clean
	$(MAKE) -C workloads clean
