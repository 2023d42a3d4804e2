# Every target makes the environment that it needs, so each works as the first command on a fresh machine.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# The installation compiles the native programs: it is made anew when they change.
PROGRAMS := nystra/programs/cpu/build.py $(wildcard nystra/programs/cpu/source/*)

.PHONY: demo test test-all attack interpreted gpu lowest newest lint format docs gallery wheels

$(INSTALLED): pyproject.toml constraints.txt $(PROGRAMS)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev,docs]"
	touch $@

demo: $(INSTALLED)
	$(BIN)/lowrank demo

test: $(INSTALLED)
	$(BIN)/python -m pytest -n 2 -m "not slow"

test-all: $(INSTALLED)
	$(BIN)/python -m pytest -n 2

# Thousands of hostile inputs and a table of what came of them; SEED=… repeats a campaign, ONLY=images/17 one input.
attack: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.attack.campaign $(if $(SEED),--seed $(SEED)) $(if $(ONLY),--only "$(ONLY)")

# Programs for CUDA devices by Triton's interpreter, on a processor. Triton comes with torch for such devices; by itself it
# is a gigabyte, for these tests alone.
interpreted: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check triton==3.9.0
	TRITON_INTERPRET=1 $(BIN)/python -m pytest -n 2 -m "not slow" tests/nystra/programs/gpu

# On a machine with an accelerator: what has to be the same there, then every table in logs/gpu.
gpu: $(INSTALLED)
	$(BIN)/python -m pytest -m gpu
	$(BIN)/lowrank bench gpu

# The least and the newest versions that pyproject.toml allows, torch excepted, which is installed first and kept:
# images, data, metrics and the command line work with them, too. TESTS=… names others; CI runs a part (.ci/run).
# What the package stands on is installed alone; the package itself is in place, compiled.
# Deprecations that old versions meet in new ones are not this package's to mend.
TESTS := tests/datamodules tests/trainers/cli tests/trainers/commands/restore tests/trainers/metrics tests/trainers/tuning \
	tests/trainers/reports tests/trainers/monitoring
lowest newest: $(INSTALLED)
	test -x .venv-$@/bin/python || $(PYTHON) -m venv .venv-$@
	.venv-$@/bin/python -m pip install --quiet --disable-pip-version-check uv
	grep '^torch==' constraints.txt > .venv-$@/torch.txt
	.venv-$@/bin/python -m pip install --quiet --disable-pip-version-check --requirement .venv-$@/torch.txt
	.venv-$@/bin/uv pip install --quiet --python .venv-$@/bin/python --constraint .venv-$@/torch.txt \
		$(if $(filter lowest,$@),--resolution lowest-direct,--resolution highest) --requirement pyproject.toml --extra dev
	PYTHONPATH=$(CURDIR) .venv-$@/bin/python -m pytest -n 2 -m "not slow" -o filterwarnings=ignore $(TESTS)

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(INSTALLED)
	$(BIN)/python -m mkdocs build --strict

gallery: $(INSTALLED)
	$(BIN)/python docs/gallery.py

# To be published: native programs of the named architecture. That of aarch64 needs Debian's g++-aarch64-linux-gnu.
wheels: $(INSTALLED)
	NYSTRA_PROGRAMS=x86_64 $(BIN)/python -m build --outdir dist
	NYSTRA_PROGRAMS=aarch64 $(BIN)/python -m build --wheel --outdir dist
