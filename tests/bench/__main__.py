"""Measures the server against the bare program of `tests.bench.bare`: the same answers, the same data, the same run.

    python -m tests.bench [--rounds N] [--seconds N] [--against CHECKOUT | --plugins] [--processes N]

Starts a private server with 10,000 articles (200 authors, 50 tags, 3 tags an article) and loads both with wrk in turns. For each side it
prints the requests a second, the microseconds of processor time that the server process took for a request, and the milliseconds within
which half and 99 of 100 requests were answered; then the ratio of the rates (above 1: ours is faster) and that of the processor times
(below 1: ours takes less). The ratios are what counts, because machines are noisy, and the processor time is the least noisy.

With --against the other side is not the bare program but the server of another checkout, such as a git worktree of an older commit, with
the same data. With --plugins one side is a server with a plugin, first one whose hook is never called, then one that filters answers, and
the other side is a server without plugins on the same database. Needs wrk (Debian: apt-get install wrk).
"""

import argparse
import json
import os
import pathlib
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib
import urllib.request
from collections.abc import Callable, Sequence

import psycopg2
from attrs import frozen

from tests.conftest import KEY
from tests.daemon import TOKEN, Daemon, free_port

WRITER = "writer-token"
ARTICLES, AUTHORS, TAGS, TAGS_EACH, NOTES = 10_000, 200, 50, 3, 100_000
EXPLICIT = "fields=id,status,title,body,views,rating,featured,published_on,author.*,tags.tag.*&limit=100"
WRITTEN = "/bench/items/written"
ROW = {"title": "A title", "body": "Some text that is about as long as a teaser would be. " * 4, "views": 7}


@frozen
class Changes:
    """Requests that change items of the collection written: by their keys in the path, one each, or *several* items by a list. Each changes
    other items than the one before, or the same to other values, so that history is written."""

    method: str
    several: int = 0

    def script(self, first: int, rows: int) -> str:
        """Returns the Lua script for wrk. The keys of the items are *first* and the *rows* - 1 following ones."""
        start = random.randrange(10**9)
        if self.method == "DELETE":
            request = 'wrk.format("DELETE", wrk.path .. "/" .. (first + n))'
        elif not self.several:
            request = (
                'wrk.format("PATCH", wrk.path .. "/" .. (first + n % rows), nil, string.format(\'{"views": %d}\', start + n))'
            )
        else:
            request = 'wrk.format("PATCH", wrk.path, nil, list())'
        return f"""
local n, first, rows, start = -1, {first}, {rows}, {start}
local function list()
  local items = {{}}
  for i = 1, {self.several} do
    items[i] = string.format('{{"id": %d, "views": %d}}', first + (n * {self.several} + i) % rows, start + n)
  end
  return "[" .. table.concat(items, ",") .. "]"
end
wrk.headers["Content-Type"] = "application/json"
request = function()
  n = n + 1
  return {request}
end
"""


CASES = (
    # name, path of ours, path of the bare program, the ratio aimed at (if any), whose token, the body of a write or the changes
    ("one item", "/bench/items/articles/{key}", "/one/{key}", 1.0, TOKEN, None),
    ("100 flat", "/bench/items/articles?limit=100", "/flat", 0.95, TOKEN, None),
    ("100 nested", "/bench/items/articles?" + EXPLICIT, "/nested", 1.1, TOKEN, None),
    ("filtered", "/bench/items/articles?filter[author.name]=Author%207&limit=100", "/filtered", None, TOKEN, None),
    ("deep page", "/bench/items/articles?sort=-views&limit=20&offset=9000", "/deep-page", None, TOKEN, None),
    ("q in 100,000", "/bench/items/notes?q=note%204711&fields=id&limit=100", "/search", None, TOKEN, None),
    (
        "aggregate",
        "/bench/items/articles?aggregate[count]=*&aggregate[sum]=views&groupby=author",
        "/aggregate",
        None,
        TOKEN,
        None,
    ),
    ("write one", WRITTEN, "/write", 1.0, TOKEN, ROW),
    ("write 100", WRITTEN, "/write", 1.0, TOKEN, [ROW] * 100),
    ("write nested", WRITTEN, "/write-nested", 1.0, TOKEN, ROW | {"parts": [{"name": "a"}, {"name": "b"}]}),
    ("write patch", WRITTEN, "/write", 1.0, TOKEN, Changes("PATCH")),
    ("write patch 100", WRITTEN, "/write", 1.0, TOKEN, Changes("PATCH", 100)),
    ("write delete", WRITTEN, "/write", 1.0, TOKEN, Changes("DELETE")),
)
LIMITED = "/bench/items/owned?" + "fields=id,title,body,views,author.*,tags.tag.*&limit=100"
"""What a member of a limited role is measured by against the administrator: its own items, with a hidden field."""

NESTED = (
    "{articles(limit:100){data{id status title body views rating featured published_on author{id name email}"
    " tags{tag{id name}}}}}"
)
"""The document of GraphQL that shows what the case "100 nested" does."""

ALIASES = (
    "{" + " ".join(f"a{n}: articles(limit: 2, offset: {n}) {{ data {{ id title author {{ name }} }} }}" for n in range(50)) + "}"
)
"""A document of 50 lists."""


PLUGINS = {
    "other hook": """
from directus_tx.api import hookimpl
directus_tx_api = 1

@hookimpl
def collection_create_after(collection): ...
""",
    "response": """
from directus_tx.api import hookimpl
directus_tx_api = 1

@hookimpl
def response(response):
    response.headers["X-Measured"] = "yes"
""",
}
"""The plugins that are measured, by what they implement."""

CHANGED = 2000
"""The items that changes go round."""

MOST_DELETED = 5000
"""Items to be deleted in a second of load: more than a server can."""


def string(name: str, length: int = 200) -> dict:
    return {"field": name, "type": "string", "datatype": "VARCHAR", "length": length}


def m2o(name: str) -> dict:
    return {"field": name, "type": "m2o", "datatype": "INT", "length": 11, "interface": "many-to-one"}


def memory(server: Daemon) -> float:
    """The resident memory of the server process in MB."""
    status = pathlib.Path(f"/proc/{server.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024


def dsn(server: Daemon) -> str:
    """Where the project's database is, for the bare program."""
    data_dir = server.directory / "var"
    project = tomllib.loads((data_dir / "projects" / "bench.toml").read_text())
    lines = (data_dir / "postgres" / "postmaster.pid").read_text().splitlines()
    return f"host={lines[4]} port={lines[3]} user=postgres dbname={project['database']['name']}"


def processor_time(pid: int) -> float:
    """The processor time that a server has taken, in seconds: its process and, if it has several, those that answer."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    own = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    below = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    workers = [int(each) for each in below if b"twistd" in pathlib.Path(f"/proc/{each}/cmdline").read_bytes()]
    return own + sum(processor_time(each) for each in workers)


def wait_for(url: str, seconds: float = 60) -> None:
    """Waits until something answers at a URL."""
    until = time.monotonic() + seconds
    while True:
        try:
            urllib.request.urlopen(url).read()
            return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)


def fill(server: Daemon) -> None:
    """The project and its rows."""
    server.create_project("bench")
    print(f"idle memory with one project: {memory(server):.0f} MB")
    make = lambda name, fields: server.call("POST", "/bench/collections", {"collection": name, "fields": [KEY, *fields]})  # noqa: E731
    o2m = {"type": "o2m", "interface": "one-to-many"}
    make("authors", [string("name"), string("email"), {"field": "articles", **o2m}])
    make("tags", [string("name")])
    status = {"published": {"name": "Published"}, "deleted": {"name": "Deleted", "soft_delete": True}}
    make(
        "articles",
        [
            {
                "field": "status",
                "type": "status",
                "datatype": "VARCHAR",
                "length": 20,
                "default_value": "published",
                "options": {"status_mapping": status},
            },
            string("title"),
            {"field": "body", "type": "string", "datatype": "TEXT"},
            {"field": "views", "type": "integer", "datatype": "INT", "length": 11},
            {"field": "rating", "type": "decimal", "datatype": "DECIMAL", "length": "5,2"},
            {"field": "featured", "type": "boolean", "datatype": "TINYINT", "length": 1},
            {"field": "published_on", "type": "datetime", "datatype": "DATETIME"},
            m2o("author"),
            {"field": "tags", **o2m},
        ],
    )
    make("articles_tags", [m2o("article"), m2o("tag")])
    relations = [
        ("articles", "author", "authors", "articles", None),
        ("articles_tags", "article", "articles", "tags", "tag"),
        ("articles_tags", "tag", "tags", None, "article"),
    ]
    names = ("collection_many", "field_many", "collection_one", "field_one", "junction_field")
    for relation in relations:
        server.call("POST", "/bench/relations", dict(zip(names, relation, strict=True)))
    draw = random.Random(1)
    post(server, "authors", [{"name": f"Author {n}", "email": f"author{n}@example.com"} for n in range(AUTHORS)])
    post(server, "tags", [{"name": f"tag {n}"} for n in range(TAGS)])
    articles = [
        {
            "title": f"Article number {n}",
            "body": "Some text that is about as long as a teaser would be. " * 4,
            "views": draw.randrange(10_000),
            "rating": draw.randrange(500) / 100,
            "featured": draw.random() < 0.1,
            "published_on": f"2024-0{draw.randrange(1, 10)}-1{draw.randrange(10)} 10:00:00",
            "author": draw.randrange(AUTHORS) + 1,
        }
        for n in range(ARTICLES)
    ]
    started = time.monotonic()
    post(server, "articles", articles)
    print(f"{ARTICLES} articles created in {time.monotonic() - started:.1f} s")
    links = [{"article": n + 1, "tag": tag + 1} for n in range(ARTICLES) for tag in draw.sample(range(TAGS), TAGS_EACH)]
    post(server, "articles_tags", links)
    text = {"field": "body", "type": "string", "datatype": "TEXT"}
    views = {"field": "views", "type": "integer", "datatype": "INT", "length": 11}
    make("written", [string("title"), text, views, {"field": "parts", **o2m}])
    make("parts", [string("name"), m2o("whole")])
    server.call("POST", "/bench/relations", dict(zip(names, ("parts", "whole", "written", "parts", None), strict=True)))
    limited(server, make)
    make("notes", [string("text")])
    post(server, "notes", [{"text": f"A note {n} of no importance"} for n in range(NOTES)], 10_000)


def limited(server: Daemon, make: Callable[[str, list[dict]], object]) -> None:
    """A role that sees its own items without one of their fields, and what it needs of the others; 10,000 items of a user of it."""
    owner = {"field": "owner", "type": "owner", "datatype": "INT", "length": 11}
    body = {"field": "body", "type": "string", "datatype": "TEXT"}
    views = {"field": "views", "type": "integer", "datatype": "INT", "length": 11}
    tags = {"field": "tags", "type": "o2m", "interface": "one-to-many"}
    make("owned", [string("title"), body, string("secret"), views, owner, m2o("author"), tags])
    make("owned_tags", [m2o("owned"), m2o("tag")])
    names = ("collection_many", "field_many", "collection_one", "field_one", "junction_field")
    for relation in (
        ("owned", "author", "authors", None, None),
        ("owned_tags", "owned", "owned", "tags", "tag"),
        ("owned_tags", "tag", "tags", None, "owned"),
    ):
        server.call("POST", "/bench/relations", dict(zip(names, relation, strict=True)))
    role = server.call("POST", "/bench/roles", {"name": "Writers"})["data"]["id"]
    user = {"email": "writer@example.com", "role": role, "status": "active", "token": WRITER, "password": "password"}
    server.call("POST", "/bench/users", user)
    mine = {"create": "full", "read": "mine", "read_field_blacklist": ["secret"]}
    for collection, levels in (
        ("owned", mine),
        ("owned_tags", {"read": "full"}),
        ("tags", {"read": "full"}),
        ("authors", {"read": "full"}),
    ):
        server.call("POST", "/bench/permissions", {"collection": collection, "role": role, **levels})
    rows = [{**ROW, "secret": "hidden", "author": n % AUTHORS + 1} for n in range(ARTICLES)]
    for start in range(0, len(rows), 1000):
        server.call("POST", "/bench/items/owned?activity_skip=1&fields=id", rows[start : start + 1000], token=WRITER)
    post(server, "owned_tags", [{"owned": n + 1, "tag": n % TAGS + 1} for n in range(ARTICLES)])


def stock(dsn: str, rows: int) -> int:
    """Adds rows to the collection written. Returns the key of the first; the others follow it."""
    with psycopg2.connect(dsn) as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT setval('written_id_seq', nextval('written_id_seq') + %s)", (rows,))
        ((last,),) = cursor.fetchall()
        cursor.execute(
            "INSERT INTO written (id, title, body, views) SELECT key, %s, %s, 0 FROM generate_series(%s, %s) AS key",
            (ROW["title"], ROW["body"], last - rows, last - 1),
        )
    connection.close()
    return int(last) - rows


def analyze(dsn: str) -> None:
    """Brings the planner's statistics up to date, as autovacuum does in its own time."""
    connection = psycopg2.connect(dsn)
    connection.autocommit = True
    connection.cursor().execute("ANALYZE")
    connection.close()


def post(server: Daemon, collection: str, rows: list[dict], batch: int = 1000) -> None:
    for start in range(0, len(rows), batch):
        server.call("POST", f"/bench/items/{collection}?activity_skip=1&fields=id", rows[start : start + batch])


@frozen
class Load:
    """What a server did under load: requests a second, microseconds of processor time for one, and the milliseconds within which half and
    99 of 100 were answered."""

    rate: float
    cost: float
    median: float
    slow: float


@frozen
class Side:
    """One side of a comparison: the process that answers, the address, whose token is sent, the database, and a body that is sent by POST
    if it is not that of both sides."""

    pid: int
    url: str
    token: str
    dsn: str = ""
    body: object = None


def wrk(side: Side, seconds: int, connections: int, body: object, scripts: pathlib.Path) -> Load:
    """Loads a server with GETs, with POSTs of a body, or with changes. Raises where an answer was an error."""
    command = ["wrk", "--latency", "-t1", f"-c{connections}", f"-d{seconds}s", "-H", f"Authorization: bearer {side.token}"]
    command.append(side.url)
    if isinstance(body, Changes):
        script = scripts / "change.lua"
        rows = MOST_DELETED * seconds if body.method == "DELETE" else CHANGED
        script.write_text(body.script(stock(side.dsn, rows), rows))
        command[1:1] = ["-s", str(script)]
    elif body is not None:
        script = scripts / "post.lua"
        lines = (
            'wrk.method = "POST"',
            f"wrk.body = {json.dumps(json.dumps(body))}",
            'wrk.headers["Content-Type"] = "application/json"',
        )
        script.write_text("\n".join(lines))
        command[1:1] = ["-s", str(script)]
    before = processor_time(side.pid)
    report = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    taken = processor_time(side.pid) - before
    if "Non-2xx" in report:
        raise SystemExit(f"{side.url} answered with errors:\n{report}")
    half, slow = (float(re.search(rf"{part}%\s+([\d.]+)", report)[1]) * _unit(report, part) for part in (50, 99))
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", report)[1])
    number = int(re.search(r"(\d+) requests in", report)[1])
    return Load(rate, taken / number * 1e6, half, slow)


def _unit(report: str, part: int) -> float:
    """How many milliseconds the unit of a latency is."""
    return {"us": 0.001, "ms": 1.0, "s": 1000.0}[re.search(rf"{part}%\s+[\d.]+(us|ms|s)", report)[1]]


def get(side: Side, body: object) -> object:
    """An answer; of a write what does not differ from one to the next."""
    headers = {"Authorization": f"bearer {side.token}", "Content-Type": "application/json"}
    if isinstance(body, Changes):
        first = stock(side.dsn, 3)
        items: object = [{"id": first + 2, "views": 5}, {"id": first, "views": 6}] if body.several else {"views": 5}
        data = None if body.method == "DELETE" else json.dumps(items).encode()
        request = urllib.request.Request(side.url + ("" if body.several else f"/{first}"), data, headers, method=body.method)
        if data is None:
            with urllib.request.urlopen(request) as answer:
                return answer.status, answer.read()
    else:
        request = urllib.request.Request(side.url, None if body is None else json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request) as answer:
        found = json.loads(answer.read())
    for item in [] if body is None else found["data"] if isinstance(found["data"], list) else [found["data"]]:
        assert item.pop("id")
    return found


def compare(
    name: str,
    sides: Sequence[Side],
    body: object,
    aim: float | None,
    options: argparse.Namespace,
    scripts: pathlib.Path,
) -> None:
    """Measures two sides in turns and prints what they did."""
    pairs = []
    for _ in range(options.rounds):
        pairs.append([wrk(side, options.seconds, options.connections, side.body or body, scripts) for side in sides])
    ratio, cost = (statistics.median(getattr(a, part) / getattr(b, part) for a, b in pairs) for part in ("rate", "cost"))
    cells = [f"{name:<20}"]
    for side in (0, 1):
        loads = [pair[side] for pair in pairs]
        cells += [f"{statistics.median(getattr(each, part) for each in loads):>8.0f}" for part in ("rate", "cost")]
        cells += [f"{statistics.median(getattr(each, part) for each in loads):>7.1f}" for part in ("median", "slow")]
    print(" ".join(cells), f"{ratio:>6.2f} {cost:>6.2f}  {aim or ''}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--only", default="", help="the cases whose name holds this")
    parser.add_argument("--processes", type=int, default=1, help="the number of processes of our server")
    parser.add_argument("--keep", action="store_true", help="leave the server running until a key is pressed")
    parser.add_argument("--against", type=pathlib.Path, help="another checkout, whose server is the other side")
    parser.add_argument("--plugins", action="store_true", help="compare servers with plugins with one without")
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed: apt-get install wrk")
    with tempfile.TemporaryDirectory(prefix="directus-bench-") as directory:
        place = pathlib.Path(directory)
        server = Daemon(place, *(["--processes", str(options.processes)] if options.processes > 1 else [])).start()
        try:
            fill(server)
            analyze(dsn(server))
            if options.plugins:
                with_plugins(server, options, place)
            elif options.against is None:
                against_bare(server, options, place)
            else:
                against_checkout(server, options, place)
            print(f"memory after the load: {memory(server):.0f} MB")
            if options.keep:
                input(f"{server.base} — press Enter to stop ")
        finally:
            server.stop()


HEADER = "case                     ours  us each    p50     p99   theirs  us each    p50     p99   rate   cost  aim"


def against_bare(server: Daemon, options: argparse.Namespace, directory: pathlib.Path) -> None:
    """Compares with the bare program on the same database, and a limited role with the administrator."""
    port = free_port()
    # It reports each connection that wrk closes at the end.
    bare = subprocess.Popen([sys.executable, "-m", "tests.bench.bare", str(port), dsn(server)], stderr=subprocess.DEVNULL)
    try:
        base = f"http://127.0.0.1:{port}"
        wait_for(base + "/one/1")
        print(HEADER)
        for name, path, bare_path, aim, token, body in CASES:
            if options.only in name:
                sides = (
                    Side(server.pid, server.base + path.format(key=4711), token, dsn(server)),
                    Side(bare.pid, base + bare_path.format(key=4711), token, dsn(server)),
                )
                check_alike(name, sides, body)
                compare(name, sides, body, aim, options, directory)
        if options.only in "limited role":
            # Of the same items, as the same plan but for the permissions.
            sides = tuple(Side(server.pid, server.base + LIMITED, token) for token in (WRITER, TOKEN))
            check_alike("limited role", sides, None)
            compare("limited role", sides, None, 0.8, options, directory)
        against_rest(server, options, directory)
    finally:
        bare.kill()
        bare.wait()


def against_rest(server: Daemon, options: argparse.Namespace, directory: pathlib.Path) -> None:
    """Compares GraphQL with the REST API on the same server: the same items, and a document of 50 lists with one of them."""
    rest = next(path for name, path, *_ in CASES if name == "100 nested")
    one = f"/bench/items/articles?{rest.partition('?')[2].partition('&')[0]}&limit=2"
    for name, document, path, aim in (("gql 100 nested", NESTED, rest, 0.7), ("gql 50 aliases", ALIASES, one, None)):
        if options.only in name:
            sides = (
                Side(server.pid, server.base + "/bench/gql", TOKEN, body={"query": document}),
                Side(server.pid, server.base + path, TOKEN),
            )
            compare(name, sides, None, aim, options, directory)


def against_checkout(server: Daemon, options: argparse.Namespace, directory: pathlib.Path) -> None:
    """Compares with the server of another checkout, on a database of its own with the same data."""
    place = directory / "other"
    place.mkdir()
    other = Daemon(place, checkout=options.against).start()
    try:
        fill(other)
        analyze(dsn(other))
        print(HEADER)
        limited_case = ("limited role", LIMITED, "", None, WRITER, None)
        for name, path, _, _, token, body in (*CASES, limited_case):
            if options.only in name:
                both = (server, other)
                sides = tuple(Side(each.pid, each.base + path.format(key=4711), token, dsn(each)) for each in both)
                check_alike(name, sides, body)
                compare(name, sides, body, None, options, directory)
    finally:
        other.stop()


def with_plugins(server: Daemon, options: argparse.Namespace, directory: pathlib.Path) -> None:
    """Compares servers with a plugin with the one that has none, on the same database."""
    socket, port = (
        (server.directory / "var" / "postgres" / "postmaster.pid").read_text().splitlines()[place] for place in (4, 3)
    )
    print(HEADER)
    for plugin, text in PLUGINS.items():
        plugins = directory / plugin.replace(" ", "_")
        plugins.mkdir()
        (plugins / "measured.py").write_text(text)
        other = Daemon(directory, url=f"postgresql://postgres@/postgres?host={socket}&port={port}")
        other.environment["DIRECTUS_PLUGINS_DIRECTORY"] = str(plugins)
        other.start()
        try:
            for name, path, *_ in CASES:
                if name in ("one item", "100 flat") and options.only in name:
                    both = (other, server)
                    sides = tuple(Side(each.pid, each.base + path.format(key=4711), TOKEN) for each in both)
                    check_alike(name, sides, None)
                    compare(f"{plugin}: {name}", sides, None, None, options, directory)
        finally:
            other.stop()


def check_alike(name: str, sides: Sequence[Side], body: object) -> None:
    """Stops the benchmark where the two sides answer differently."""
    if get(sides[0], body) != get(sides[1], body):
        raise SystemExit(f"{name}: the two programs answer differently")


if __name__ == "__main__":
    main()
