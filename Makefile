# Each chore sets up what it needs: a virtual environment and caches in .cache/ (or in the
# folder that QUIESCE_CACHE names), and packages of the distribution where they are missing.
SHELL := /bin/bash
.DEFAULT_GOAL := help

TOOLS := tests/tools
RUN := $(TOOLS)/run.sh
# The parts of `make test`, in order. vm+unit is vm beside unit: what takes long and counts no milliseconds
# leaves a processor for others of that kind.
PARTS := format-check types vm+unit+sanity+lint fleet molecule+providers kernel faults torture
# Of Debian, for `make test-vm`; QUIESCE_VM_RELEASES names others.
RELEASES := 11,12,13
# make unit ARGS='-k order -x': more arguments for the tool behind a target
ARGS ?=

export QUIESCE_BENCH_DIRTY_MIB QUIESCE_BENCH_FLEET_RUNS QUIESCE_BENCH_HOSTS QUIESCE_BENCH_PARTS
export QUIESCE_BENCH_RUNS QUIESCE_BENCH_SECONDS QUIESCE_CACHE QUIESCE_FLEET_HOSTS QUIESCE_PYTHON QUIESCE_TORTURE_SECONDS QUIESCE_VM_RELEASES MAKE

.PHONY: help demo test $(subst +, ,$(PARTS)) applications bench controllers faults-page lvm test-applications test-fuzz test-faults test-torture test-vm format py38 changelog-check link setup clean

help: ## list the chores
	@echo "make TARGET [ARGS='more arguments for the tool']"
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' Makefile

demo: ## show clean snapshots of busy filesystems (as root; makes its own filesystems)
	@$(RUN) --system ansible-playbook quiesce.storage.demo $(ARGS)

test: ## everything that has to pass: format-check, types, vm, unit, sanity, lint, fleet, molecule, providers, kernel, faults, torture
	@$(TOOLS)/chain.sh $(PARTS)

format: ## format the Python code, and mend what ruff can mend by itself
	@$(RUN) ruff check --fix-only .
	@$(RUN) ruff format .

format-check: changelog-check ## are the Python code's format and style right, and the changelog?
	@$(RUN) ruff format --check .
	@$(RUN) ruff check --output-format concise .

types: ## mypy, and py38
	@$(TOOLS)/types.sh

py38: ## does the code for managed hosts keep to Python 3.8?
	@$(TOOLS)/py38.sh

unit: ## pytest tests/unit, and a little of tests/fuzz: no root, no filesystems
	@$(RUN) pytest tests/unit tests/fuzz $(ARGS)

test-fuzz: ## 10,000 examples for each property, the guard's real socket among them (as root)
	@$(RUN) --system pytest tests/fuzz tests/kernel/test_guard_fuzz.py \
		--hypothesis-profile=long $(ARGS)

kernel: ## pytest tests/kernel: freezes real filesystems on loop devices (as root)
	@$(TOOLS)/kernel.sh $(ARGS)

faults: ## what goes wrong with a frozen host, each fault once, on test hosts (as root)
	@$(TOOLS)/faults.sh $(ARGS)

test-faults: ## each of them 20 times, and those of a virtual machine; writes docs/faults.md (as root; hours)
	@$(TOOLS)/faults.sh 20 $(ARGS)

faults-page: ## docs/faults.md from what test-faults and test-vm have measured so far
	@$(TOOLS)/faults.sh page

providers: ## the provider ec2 on a test host, with EC2 as moto has it (as root)
	@$(TOOLS)/providers.sh $(ARGS)

torture: ## seven scenarios of file system developers, 30 s each (as root)
	@$(TOOLS)/torture.sh $(ARGS)

test-torture: export QUIESCE_TORTURE_SECONDS = 300
test-torture: ## the same, 5 minutes each
	@$(TOOLS)/torture.sh $(ARGS)

applications: ## snapshots of PostgreSQL and MariaDB under load, 3 each, and backups (as root)
	@$(TOOLS)/applications.sh $(ARGS)

test-applications: ## the same with 20 snapshots each (as root; most of an hour)
	@$(TOOLS)/applications.sh --snapshots 20 $(ARGS)

sanity: ## ansible-test sanity, with every Python found here
	@$(TOOLS)/sanity.sh $(ARGS)

lint: ## yamllint, ansible-lint with the profile production, shellcheck
	@$(TOOLS)/lint.sh $(ARGS)

molecule: ## the molecule scenario: playbooks run twice on test hosts (as root)
	@$(TOOLS)/molecule.sh $(ARGS)

fleet: ## the scenario for fleets, on QUIESCE_FLEET_HOSTS=3 hosts of three Debian releases (as root)
	@$(TOOLS)/fleet.sh $(ARGS)

vm: ## the scenario on a virtual machine: Debian 12 with its own kernel and systemd (as root)
	@$(TOOLS)/vm.sh $(ARGS)

lvm: ## the provider lvm on the same (as root)
	@QUIESCE_SCENARIO=lvm $(TOOLS)/vm.sh $(ARGS)

test-vm: export QUIESCE_VM_RELEASES := $(or $(QUIESCE_VM_RELEASES),$(RELEASES))
test-vm: ## the same on Debian 11, 12 and 13, and the faults that need a machine (as root; more than an hour)
	@$(TOOLS)/vm.sh
	@QUIESCE_SCENARIO=lvm $(TOOLS)/vm.sh
	@$(RUN) pytest tests/vm -n 2 --table tests/faults/measured.jsonl $(ARGS)
	@$(TOOLS)/faults.sh page

bench: ## how long writers wait, what a task and a fleet cost; writes docs/performance.md (as root; hours)
	@$(TOOLS)/bench.sh $(ARGS)

controllers: ## the playbook under ansible-runner and in slices, and the execution environment (as root)
	@$(TOOLS)/controllers.sh $(ARGS)

changelog-check: ## are the changelog fragments well-formed?
	@$(RUN) antsibull-changelog lint

link: ## make the checkout usable as a collection by plain `ansible` in this folder
	@$(TOOLS)/setup.sh link

setup: ## set up all that the other chores need, and do nothing else
	@$(TOOLS)/setup.sh system

clean: ## remove everything that these chores have made
	rm -rf .cache .ansible collections tests/output
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
