# Two commands do all the set-up: `make demo` and `make test`.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Processes that share the tests out, one more than cores, since some wait; a file's tests stay
# together.
JOBS ?= $(shell echo $$(($$(nproc) + 1)))
# Real boots and real file systems want Debian packages; `make test` installs what is missing.
APT := $(shell cat .ci/apt-packages 2>/dev/null)

.PHONY: help demo test unit lint types bench apt golden clean
help:
	@echo 'make demo   your environment on a fresh local machine: cold, warm, and after an edit'
	@echo 'make test   everything that is promised, checked (Debian: installs what it needs)'
	@echo 'make unit   the fast tests: no network, no processes'
	@echo 'make bench  figures: scan and lock beside pip and uv, warm launch beside cp -a and tar'

$(STAMP): pyproject.toml
	@# Debian's own python3 comes without venv.
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { [ "$$(id -u)" = 0 ] && \
	  apt-get update -qq && apt-get install -y -qq --no-install-recommends python3-venv; } || \
	  { echo 'error: $(PYTHON) has no venv' && echo 'hint: apt install python3-venv' && false; } >&2
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --editable . --group dev
	@touch $@

demo: $(STAMP)
	$(BIN)/python docs/demo/demo.py

unit: $(STAMP)
	$(BIN)/python -m pytest -q -m 'not subprocess and not sockets and not boot and not network'

lint: $(STAMP)
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(STAMP)
	$(BIN)/mypy

test: $(STAMP) lint apt
	@# mypy works on one core for a minute, in which the first tests mostly wait.
	@{ $(BIN)/mypy >$(VENV)/types.log 2>&1 || { cat $(VENV)/types.log >&2; false; }; } & types=$$!; \
	$(BIN)/python -m pytest -q -n $(JOBS) --dist loadfile --no-loadscope-reorder; tests=$$?; \
	wait $$types || { echo 'error: mypy is not content: see above' >&2; exit 1; }; exit $$tests

bench: $(STAMP)
	$(BIN)/python -m tests.bench

golden: $(STAMP)
	$(BIN)/python -m pytest -q --update-golden tests/userdata tests/test_manifest.py tests/launch tests/docs tests/terraform/test_readme.py

# Root on Debian gets what is missing; elsewhere the tests say what they lack.
apt:
	@missing=$$(dpkg-query -W -f '$${Package} $${db:Status-Status}\n' $(APT) 2>/dev/null | \
	  awk '$$2 == "installed" {print $$1}' | sort >/tmp/envboot-apt.$$$$; \
	  printf '%s\n' $(APT) | sort | comm -23 - /tmp/envboot-apt.$$$$; rm -f /tmp/envboot-apt.$$$$); \
	if [ -n "$$missing" ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
	    apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
	fi

clean:
	rm -rf $(VENV) .cache build dist *.egg-info
