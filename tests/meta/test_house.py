"""The house as the architecture says it is: imports point one way, only some modules run SQL, and the architecture lists all modules."""

import ast
import configparser
import functools
import graphlib
import importlib.metadata
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

from directus_tx import config
from directus_tx.http import openapi
from directus_tx.http.endpoints import all_routes
from directus_tx.schema import migrations

ROOT = pathlib.Path(__file__).parents[2]
PACKAGE = ROOT / "directus_tx"

LAYERS = (
    "importing",
    "control_codes",
    "suggestions",
    "private_files",
    "extensions",
    "sealing",
    "errors",
    "cache",
    "rate_limits",
    "threads",
    "slices",
    "schema.numbers",
    "schema.statistics",
    "schema.sealed",
    "schema.custom",
    "schema.model",
    "schema.thumbnail_sizes",
    "query",
    "config",
    "schema.datatypes",
    "schema.patterns",
    "schema.parsing",
    "schema.showing",
    "schema.comparing",
    "db.sql",
    "db.sqlstate",
    "db.addresses",
    "db.connection",
    "db.cancelling",
    "db.callers",
    "db.long_reads",
    "db.budget",
    "db.pool",
    "db.session",
    "context",
    "schema.system",
    "schema.tables",
    "schema.native_types",
    "schema.indexes",
    "schema.event_triggers",
    "schema.foreign_keys",
    "schema.introspect",
    "schema.ddl",
    "schema.migrations",
    "schema.plugin_migrations",
    "embedded",
    "outgoing",
    "outbox",
    "access",
    "compile",
    "items",
    "schema_service",
    "mail",
    "accounts",
    "webhooks",
    "files",
    "system",
    "graphql",
    "scim",
    "projects",
    "plugins",
    "health",
    "jobs",
    "logs",
    "process",
    "http.params",
    "http.json_text",
    "http.spool",
    "http.body_stream",
    "http.payload",
    "http.form_stream",
    "http.ranges",
    "http.client",
    "http.rate_limits",
    "http.cursors",
    "http.headers",
    "http.request_head",
    "http.encode",
    "http.pages",
    "http.operations",
    "http.answers",
    "http.static_files",
    "http.refusals",
    "http.admin_app",
    "http.extension_files",
    "http.request",
    "http.channel",
    "http.connections",
    "http.sending",
    "http.tus",
    "http.cors",
    "http.cookies",
    "http.routes",
    "http.custom",
    "http.openapi",
    "http.endpoints",
    "http.matching",
    "http.site",
    "http.listening",
    "http.app",
    "checks",
    "workers",
    "registered",
    "backend",
    "service",
    "tap",
    "cli",
    "api",
    "testing",
)
"""The modules and packages in the order of their dependencies: each may import those before it."""

WITHIN: dict[str, tuple[str, ...]] = {
    "config": (
        "values",
        "environment",
        "server",
        "database",
        "requests",
        "messages",
        "accounts",
        "files",
        "plugins",
        "settings",
        "loading",
    ),
    "accounts": (
        "hashes",
        "passwords",
        "user_tokens",
        "tokens",
        "credentials",
        "sessions",
        "throttle",
        "two_factor",
        "attempts",
        "sign_in",
        "sso",
        "links",
        "mails",
        "notices",
        "password_resets",
        "invitations",
    ),
    "mail": ("addresses", "server", "compose", "templates", "smtp", "users", "delivery"),
    "webhooks": ("signing", "secrets", "events", "before", "delivery"),
    "outgoing": ("policy", "failures", "urls", "connecting", "bodies", "client"),
    "outbox": ("messages", "copies", "kinds", "queue", "records"),
    "access": ("view", "grant", "subjects", "history", "refusals", "addresses", "caller"),
    "compile": (
        "conditions",
        "bounds",
        "output",
        "shape",
        "operators",
        "custom",
        "order",
        "keyset",
        "filters",
        "plan",
        "file_data",
        "fields",
        "statements",
        "read",
        "aggregates",
    ),
    "files": (
        "storage",
        "names",
        "pictures",
        "content",
        "focus",
        "contents",
        "small",
        "reading",
        "sharing",
        "delivery",
        "embeds",
        "base64_data",
        "imports",
        "quota",
        "fairness",
        "intake",
        "uploads",
        "resumable",
        "encodings",
        "resizing",
        "metadata",
        "decoder",
        "decoding",
        "details",
        "thumbnails",
        "removal",
        "presigned",
        "checking",
        "write",
    ),
    "embedded": ("processes", "server", "supervisor"),
    "scim": (
        "errors",
        "dialects",
        "schemas",
        "filters",
        "documents",
        "patch",
        "conditions",
        "stored",
        "resources",
        "users",
        "groups",
        "service",
    ),
    "items": (
        "changes",
        "hooks",
        "history",
        "rules",
        "values",
        "sealed",
        "service",
        "meta",
        "batches",
        "read",
        "counters",
        "rows",
        "relations",
        "write",
        "export",
    ),
    "graphql": (
        "names",
        "scalars",
        "catalog",
        "definitions",
        "types",
        "filters",
        "bounds",
        "selecting",
        "shaping",
        "documents",
        "planning",
        "reading",
        "mutations",
        "requests",
        "keeping",
        "service",
    ),
    "cli": (
        "output",
        "command",
        "passwords",
        "projects",
        "schema",
        "users",
        "accounts",
        "identities",
        "permissions",
        "mail",
        "outbox",
        "files",
        "graphql",
        "plugin",
        "advise",
        "plugins",
        "configuration",
        "serve",
        "main",
    ),
    "system": (
        "references",
        "presets",
        "files",
        "webhooks",
        "relations",
        "activity",
        "permissions",
        "settings",
        "users",
        "roles",
    ),
    "schema_service": (
        "payloads",
        "definitions",
        "indexes",
        "advice",
        "rows",
        "read",
        "deletion",
        "columns",
        "adopt",
        "locks",
        "fields",
        "collections",
    ),
    "jobs": (
        "runner",
        "removal",
        "retention",
        "sessions",
        "failed_attempts",
        "outbox",
        "uploads",
        "presigned",
        "indexes",
        "delivery",
    ),
    "plugins": ("context", "hookspecs", "registrations", "costs", "discovery", "time_limits", "watchdog", "manager", "services"),
    "projects": ("files", "rotation", "unsealed", "archive", "availability", "provisioning", "project", "registry", "demo"),
}
"""The order of the modules of a package, likewise."""

MAY_SEE_THE_DRIVER = {
    "checks",
    "projects.archive",
    "db.sql",
    "db.sqlstate",
    "db.cancelling",
    "db.connection",
    "db.pool",
    "db.session",
    "projects.provisioning",
}
MAY_RUN_SQL = {
    "db",
    "schema.native_types",
    "schema.indexes",
    "schema.event_triggers",
    "schema.foreign_keys",
    "schema.introspect",
    "schema.tables",
    "schema.migrations",
    "schema.plugin_migrations",
    "items",
    "outbox",
    "schema_service",
    "mail",
    "accounts",
    "files",
    "webhooks",
    "scim",
    "system",
    "projects",
    "plugins.context",
    "jobs",
    "cli",
}


@functools.cache
def modules() -> dict[str, ast.Module]:
    return {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): ast.parse(path.read_text())
        for path in PACKAGE.rglob("*.py")
    }


def place_of(module: str) -> tuple[int, int] | None:
    """The place of a module in LAYERS, and in its package's order; None for a package that only holds others."""
    found = [index for index, layer in enumerate(LAYERS) if module == layer or module.startswith(layer + ".")]
    if not found:
        return None
    package, name = (*module.split("."), "")[:2]
    order = WITHIN.get(package, ())
    return found[-1], order.index(name) if name in order else len(order)


def imported(tree: ast.Module) -> set[str]:
    """The modules of ours that a module imports, or the packages, where it imports what they re-export; imports for type checkers
    count as well."""
    known = modules()
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("directus_tx"):
            base = node.module.removeprefix("directus_tx").lstrip(".")
            for alias in node.names:
                inner = f"{base}.{alias.name}".lstrip(".")
                names.add(inner if inner in known else base)
    return names


def test_every_module_has_a_place() -> None:
    empty = {"directus_tx", "", "schema", "http", "db", "files", "__init__"}
    assert [name for name in modules() if name not in empty and place_of(name) is None] == []


def test_the_order_of_a_package_names_all_of_its_modules() -> None:
    """Packages whose modules are in LAYERS have their order there; a package with a single module needs none."""
    for package in (path.parent for path in PACKAGE.glob("*/__init__.py")):
        names = {path.stem for path in package.glob("*.py")} | {path.parent.name for path in package.glob("*/__init__.py")}
        names.discard("__init__")
        if len(names) > 1 and not any(layer.startswith(f"{package.name}.") for layer in LAYERS):
            assert set(WITHIN.get(package.name, ())) == names, package.name


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Also not those of a package in a package, nor by imports within functions."""
    graph = {name: imported(tree) - {name} for name, tree in modules().items()}
    # This module describes all routes, its own among them, when it is asked.
    graph["http.endpoints.specs"].remove("http.endpoints")
    order = list(graphlib.TopologicalSorter(graph).static_order())
    assert len(order) >= len(graph)


def test_imports_point_one_way() -> None:
    wrong = []
    for name, tree in modules().items():
        here = place_of(name)
        for target in imported(tree):
            there = place_of(target)
            if here is not None and there is not None and there > here:
                wrong.append(f"{name} imports {target}")
    assert wrong == []


def required(requirements: list[str] | None) -> set[str]:
    """Returns the names of the distributions that requirements name, in lower case with hyphens."""
    names = (re.match(r"[\w.-]+", line.strip()) for line in requirements or [])
    return {re.sub(r"[-_.]+", "-", name[0]).lower() for name in names if name}


def test_the_libraries_that_modules_import_are_installed_with_the_server() -> None:
    """Each is a requirement in setup.cfg, or a requirement of one of these, such as MarkupSafe of Jinja2."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    extras = setup["options.extras_require"]
    direct = required((setup["options"]["install_requires"] + extras["embedded"] + extras["s3"] + extras["testing"]).splitlines())
    installed = direct.union(*(required(importlib.metadata.requires(name)) for name in direct))
    distributions = importlib.metadata.packages_distributions()
    missing = {}
    for module, tree in modules().items():
        nodes = list(ast.walk(tree))
        names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
        names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level}
        for name in {name.split(".")[0] for name in names} - sys.stdlib_module_names - {"directus_tx"}:
            if not installed & required(distributions.get(name, [])):
                missing[module] = name
    assert not missing


def test_only_the_database_modules_see_the_driver() -> None:
    seen = {
        name
        for name, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom)) and re.search(r"\b(psycopg2|txpostgres)\b", ast.unparse(node))
    }
    assert seen == MAY_SEE_THE_DRIVER


def test_only_the_modules_meant_to_run_sql() -> None:
    running = {
        name
        for name, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr == "query" and re.search(r"\b(db|session)\b", ast.unparse(node.value))
    }
    strangers = {name for name in running if not any(name == each or name.startswith(each + ".") for each in MAY_RUN_SQL)}
    assert strangers == set()
    idle = {each for each in MAY_RUN_SQL - {"db"} if not any(name == each or name.startswith(each + ".") for name in running)}
    assert idle == set()


def test_nothing_below_http_sees_a_request() -> None:
    for name, tree in modules().items():
        # A command of `cli` is a client of the server, and `outgoing` of other servers.
        if not name.startswith(("http", "cli", "outgoing")):
            lines = [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
            assert not [line for line in lines if "klein" in line or "twisted.web" in line], name


def test_no_module_imports_the_reactor_but_the_plugin() -> None:
    importing = {
        name
        for name, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        and any(alias.name.rpartition(".")[2] == "reactor" for alias in node.names)
    }
    assert importing == {"tap"}


def test_the_architecture_lists_every_module_of_the_top_level_and_of_its_packages() -> None:
    text = (ROOT / "docs" / "architecture.rst").read_text().partition("\nModules\n")[2]
    listed = set(re.findall(r"^``(\w+)``", text, re.MULTILINE))
    top = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert listed == top - {"__init__"}
    for package in (path for path in PACKAGE.iterdir() if (path / "__init__.py").exists()):
        (line,) = re.findall(rf"^``{package.name}``((?:.|\n(?!``|=))*)", text, re.MULTILINE)
        modules = {path.stem for path in package.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
        assert set(re.findall(r"``(\w+)``", line)) >= modules - {"__init__"}, package.name


def texts_of(tree: ast.Module) -> list[str]:
    """The texts in a module, but for its docstrings; those that stand beside each other are one, as are the parts of an f-string."""
    skipped = set[int]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            skipped.add(id(node.value))
        if isinstance(node, ast.JoinedStr):
            skipped |= {id(part) for part in node.values}
    found = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in skipped]
    formatted = [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)]
    return [text for text in found if isinstance(text, str)] + formatted


def tables_named(tree: ast.Module) -> set[str]:
    """The tables that the SQL in a module reads by name, rather than by what is put in: not those that its WITH defines, nor cursors."""
    texts = [re.sub(r"FETCH \S+ FROM \w+", "", text) for text in texts_of(tree)]
    defined = {name for text in texts for name in re.findall(r"\b(\w+) AS \(", text)}
    named = {name for text in texts for name in re.findall(r"(?<!DISTINCT )\b(?:FROM|JOIN)\s+\"?(\w+)", text)}
    return named - defined


def names_used(tree: ast.Module) -> set[str]:
    """The names that a module imports or takes from another."""
    imports = {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    return imports | {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}


def test_what_reads_names_no_table_of_its_own() -> None:
    """All that is read is read through the view of a grant: only `access` puts a table behind FROM."""
    reading = {
        name: tree for name, tree in modules().items() if name.startswith("compile.") or name in ("items.read", "items.export")
    }
    assert len(reading) > 5
    for name, tree in reading.items():
        assert "Identifier" not in names_used(tree), name
        assert tables_named(tree) == set(), name
    # That the search finds what there is to find.
    assert tables_named(modules()["accounts.tokens"]) == {"directus_users"}
    assert "Identifier" in names_used(modules()["access.grant"])


def test_no_route_is_there_twice() -> None:
    routes = [(route.method, re.sub(r"<\w+>", "<>", route.path)) for route in all_routes()]
    assert sorted(set(routes)) == sorted(routes)


def test_the_arguments_of_all_paths_are_described() -> None:
    arguments = {name for route in all_routes() if route.in_project for name in re.findall(r"<(\w+)>", route.path)}
    assert arguments - {"project"} <= set(openapi._PATH_PARAMETERS)


def test_public_functions_have_docstrings() -> None:
    """In what services and plugins call; an endpoint's route says enough."""
    missing = []
    for name, tree in modules().items():
        assert ast.get_docstring(tree), name
        if name.startswith("http.endpoints"):
            continue
        for node in tree.body:
            if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and not node.name.startswith("_"):
                long = (node.end_lineno or 0) - node.lineno > 8
                if long and not ast.get_docstring(node):
                    missing.append(f"{name}.{node.name}")
    assert missing == []


def test_the_picture_of_the_imports_is_as_the_code_imports() -> None:
    """Each name of the top level with those that it imports, the lowest first; the assertion shows the picture as it should be."""
    imports: dict[str, set[str]] = {}
    for name, tree in modules().items():
        package = name.partition(".")[0]
        if package and package != "__init__":
            found = {target.partition(".")[0] for target in imported(tree)}
            imports.setdefault(package, set()).update(found - {package, ""})
    lines, drawn = [], set[str]()
    while len(drawn) < len(imports):
        ready = sorted(name for name, below in imports.items() if name not in drawn and below <= drawn)
        assert ready, f"packages import each other in a circle: {sorted(set(imports) - drawn)}"
        lines += [f"    {name:<16}{' '.join(sorted(imports[name]))}".rstrip() for name in ready]
        drawn.update(ready)
    picture = "\n".join(lines)
    assert picture in (ROOT / "docs" / "architecture.rst").read_text(), f"docs/architecture.rst lacks:\n{picture}"


UNIT = ROOT / "etc" / "directus.service"


def test_the_systemd_unit_signals_the_server_alone_and_gives_it_time_to_stop() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[method-assign, assignment]
    unit.read(UNIT)
    service = unit["Service"]
    assert service["KillMode"] == "mixed"
    assert service["Restart"] in ("always", "on-failure")
    # pg_ctl waits for a minute.
    defaults = config.ServerSettings()
    assert float(service["TimeoutStopSec"]) > defaults.shutdown_delay + defaults.shutdown_timeout + 60
    assert int(service["LimitNOFILE"]) >= 65536
    assert "network-online.target" in unit["Unit"]["After"].split()
    assert unit["Unit"]["Wants"] == "network-online.target"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_takes_the_unit(tmp_path: pathlib.Path) -> None:
    """With a program and a user that this machine has."""
    text = re.sub(r"(?m)^(ExecStart=)\S+", r"\1/bin/true", UNIT.read_text())
    copy = tmp_path / UNIT.name
    copy.write_text(re.sub(r"(?m)^(User|Group)=.*", r"\1=daemon", text))
    done = subprocess.run(["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_each_migration_has_a_number_of_its_own() -> None:
    numbers = [migration.version for migration in migrations.migrations()]
    assert numbers == list(range(1, len(numbers) + 1)), "two files have the same number, or one is missing"
