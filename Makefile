# Two commands: `make run` runs the server with a demo project, `make test` runs every test.
# Both set up what they need in .venv first.

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTHON ?= python3

.PHONY: run test bench docs clean

run: $(STAMP)
	@exec $(BIN)/twistd -n --pidfile= directus --demo $(OPTIONS)

test: $(STAMP)
	$(BIN)/ruff check directus_tx tests twisted
	$(BIN)/ruff format --check directus_tx tests twisted
	$(BIN)/mypy
	$(BIN)/pytest

bench: $(STAMP)
	$(BIN)/python -m tests.bench

docs: $(STAMP)
	$(BIN)/pip install -q --disable-pip-version-check -e '.[docs]' --config-settings editable_mode=compat
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build

# Debian and Ubuntu ship Python without venv; root can help that.
$(STAMP): setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or later is needed" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || \
	  { test "$$(id -u)" = 0 && apt-get update -q && apt-get install -y -q python3-venv; } || \
	  { echo "python3-venv is needed: apt-get install python3-venv" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --disable-pip-version-check -e '.[embedded,test]' --config-settings editable_mode=compat
	@touch $(STAMP)

clean:
	rm -rf $(VENV) build dist docs/_build *.egg-info
