# Two commands do all the set-up: `make demo` and `make test`.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# The development tools and what envboot needs, exact and with hashes, for each Python.
LOCK := .ci/requirements-dev.txt
# Processes that share the tests out, one more than cores, since some wait; a file's tests stay
# together.
JOBS ?= $(shell echo $$(($$(nproc) + 1)))
# Real boots and real file systems want Debian packages; `make test` installs what is missing.
APT := $(shell cat .ci/apt-packages 2>/dev/null)
SCRIPTS := .ci/run templates/envboot-agent tests/boot/collect.sh
TERRAFORM := $(shell command -v terraform)
export CHECKPOINT_DISABLE := 1

# The oldest Python that envboot runs on, where there is one. A pyenv shim may run nothing.
OLDEST := .venv310
PYENVS := $(or $(PYENV_ROOT),$(HOME)/.pyenv)/versions
PYTHON310 ?= $(shell for python in python3.10 $(PYENVS)/3.10.*/bin/python3.10; do \
  "$$python" -c 'import venv' 2>/dev/null && echo "$$python" && break; done)
OLDEST_TESTS := $(addprefix tests/,launch lock lockfiles private select)
FAST := not subprocess and not sockets and not boot and not network

.PHONY: help demo test unit oldest boots lint types relock bench apt golden clean ensurepip
help:
	@echo 'make demo   your environment on a fresh local machine: cold, warm, and after an edit'
	@echo 'make test   everything that is promised, checked (Debian: installs what it needs)'
	@echo 'make unit   the fast tests: no network, no processes'
	@echo 'make lint   what the linters find; `make types` what mypy finds'
	@echo 'make relock exact versions of the development tools, written again (UPGRADE=1: the newest)'
	@echo 'make bench  figures: scan and lock beside pip and uv, warm launch beside cp -a and tar'

# Debian's own python3 comes without venv.
ensurepip:
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { [ "$$(id -u)" = 0 ] && \
	  apt-get update -qq && apt-get install -y -qq --no-install-recommends python3-venv; } || \
	  { echo 'error: $(PYTHON) has no venv' && echo 'hint: apt install python3-venv' && false; } >&2

$(STAMP): pyproject.toml $(LOCK) | ensurepip
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep -o '^uv==[^ ]*' $(LOCK))"
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes --requirements $(LOCK)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

demo: $(STAMP)
	$(BIN)/python docs/demo/demo.py

unit: $(STAMP)
	$(BIN)/python -m pytest -q -m '$(FAST)'

# Fast tests under the oldest Python; mypy holds all of the code to it, everywhere.
oldest: $(if $(PYTHON310),$(OLDEST)/.installed)
	$(if $(PYTHON310),$(OLDEST)/bin/python -m pytest -q -n $(JOBS) -p no:cacheprovider -m '$(FAST)' \
	  $(OLDEST_TESTS),@echo 'python3.10 is not here, so nothing ran under it')

$(OLDEST)/.installed: $(STAMP)
	$(BIN)/uv venv --quiet --clear --python $(PYTHON310) $(OLDEST)
	$(BIN)/uv pip install --quiet --python $(OLDEST)/bin/python --require-hashes --requirements $(LOCK)
	$(BIN)/uv pip install --quiet --python $(OLDEST)/bin/python --no-deps --editable .
	@touch $@

# The boots alone.
boots: $(STAMP) apt
	$(BIN)/python -m pytest -q -n $(JOBS) --dist loadfile -m boot

# .pre-commit-config.yaml has the same commands; a test compares them.
lint: $(STAMP)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/shellcheck $(SCRIPTS)
	$(BIN)/actionlint -shellcheck $(BIN)/shellcheck
	$(if $(TERRAFORM),terraform fmt -check -diff -recursive terraform,@echo 'terraform is not on PATH, so its files were not checked')

types: $(STAMP)
	$(BIN)/mypy

test:
	@# While packages are installed, a core is free.
	@$(MAKE) --no-print-directory --jobs=3 --output-sync=line apt lint oldest
	@# mypy works on one core for a minute, in which the first tests mostly wait.
	@{ $(BIN)/mypy >$(VENV)/types.log 2>&1 || { cat $(VENV)/types.log >&2; false; }; } & types=$$!; \
	$(BIN)/python -m pytest -q -n $(JOBS) --dist loadfile --no-loadscope-reorder; tests=$$?; \
	wait $$types || { echo 'error: mypy is not content: see above' >&2; exit 1; }; exit $$tests

# Keeps the versions that still fit; UPGRADE=1 takes the newest of all.
relock: $(STAMP)
	$(BIN)/uv pip compile --quiet pyproject.toml --all-extras --group dev --universal \
	  --python-version 3.10 --generate-hashes --no-annotate --custom-compile-command 'make relock' \
	  $(if $(UPGRADE),--upgrade) --output-file $(LOCK) >/dev/null

bench: $(STAMP)
	$(BIN)/python -m tests.bench

golden: $(STAMP)
	$(BIN)/python -m pytest -q --update-golden tests/userdata tests/test_manifest.py tests/launch tests/docs tests/terraform/test_readme.py

# Root on Debian gets what is missing; elsewhere the tests say what they lack. Only one apt-get
# can update its lists at a time.
apt: | ensurepip
	@missing=$$(dpkg-query -W -f '$${Package} $${db:Status-Status}\n' $(APT) 2>/dev/null | \
	  awk '$$2 == "installed" {print $$1}' | sort >/tmp/envboot-apt.$$$$; \
	  printf '%s\n' $(APT) | sort | comm -23 - /tmp/envboot-apt.$$$$; rm -f /tmp/envboot-apt.$$$$); \
	if [ -n "$$missing" ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
	    apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
	fi

clean:
	rm -rf $(VENV) $(OLDEST) .cache build dist *.egg-info bootstrap/*.egg-info
