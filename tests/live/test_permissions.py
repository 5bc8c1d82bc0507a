"""Permissions by the hundred, against a plain model of their rules: what is read, what a question finds out, what may be written."""

import copy
import http.client
import itertools
import json
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
from attrs import frozen
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st

from tests.conftest import KEY, examples, field
from tests.daemon import SUPER_ADMIN_TOKEN, TOKEN, Daemon

Row = dict[str, Any]
Data = dict[str, dict[int, Row]]
Tree = dict[str, Any]

PROJECT = "perms"
PUBLIC, WRITERS, READERS = 2, 3, 4
WANDA, WALT, RITA = 2, 3, 4
ROLE_OF = {1: 1, WANDA: WRITERS, WALT: WRITERS, RITA: READERS}
FAR = 10_000


@frozen
class Table:
    """A collection: its columns; its many-to-one fields with where they lead; its lists with the collection and field of the other
    side; its statuses, the first being the default; those that mean deleted."""

    name: str
    columns: tuple[str, ...]
    ones: Mapping[str, str] = {}
    manies: Mapping[str, tuple[str, str]] = {}
    statuses: tuple[str, ...] = ()
    deleted: str = ""

    @property
    def owned(self) -> bool:
        return "owner" in self.columns


TABLES = {
    table.name: table
    for table in [
        Table(
            "things",
            ("id", "status", "title", "secret", "rank", "topic", "kind", "owner"),
            {"topic": "topics", "kind": "kinds"},
            statuses=("open", "1", "gone"),
            deleted="gone",
        ),
        Table(
            "topics",
            ("id", "status", "name", "code", "owner"),
            manies={"things": ("things", "topic")},
            statuses=("open", "2", "0"),
            deleted="0",
        ),
        Table("kinds", ("id", "name", "code"), manies={"things": ("things", "kind")}),
    ]
}


# --- the rules


@frozen
class Rule:
    """A row of directus_permissions."""

    create: str = "none"
    read: str = "none"
    update: str = "none"
    delete: str = "none"
    explain: str = "none"
    hidden: frozenset[str] = frozenset()
    unwritable: frozenset[str] = frozenset()
    forbidden: frozenset[str] = frozenset()

    def row(self, role: int, table: str, status: str | None) -> Row:
        lists = {
            "read_field_blacklist": sorted(self.hidden),
            "write_field_blacklist": sorted(self.unwritable),
            "status_blacklist": sorted(self.forbidden),
        }
        levels = {name: getattr(self, name) for name in ("create", "read", "update", "delete", "explain")}
        return {"role": role, "collection": table, "status": status, **levels, **lists}


NOTHING = Rule()
Rules = Mapping[str, Mapping[str | None, Rule]]


class Refused(Exception):
    """The rules do not allow this."""


@frozen
class Caller:
    """Who asks: a user and its token, both None for the public, and its role with what that may do."""

    user: int | None
    token: str | None
    role: int
    rules: Rules

    def by_status(self, table: str) -> bool:
        return bool(TABLES[table].statuses) and any(status is not None for status in self.rules.get(table, {}))

    def of(self, table: str, status: str | None) -> Rule:
        """The rule for the items of a status."""
        rules = self.rules.get(table, {})
        if self.by_status(table):
            return NOTHING if status is None else rules.get(status, NOTHING)
        return rules.get(None, NOTHING)

    def counting(self, table: str) -> list[Rule]:
        """The rules that count for a collection."""
        rules = self.rules.get(table, {})
        return [rule for status, rule in rules.items() if (status is not None) == self.by_status(table)]

    def level(self, table: str, rule: Rule, action: str) -> str:
        level: str = getattr(rule, action)
        return "none" if level in ("mine", "role") and not TABLES[table].owned else level

    def may(self, table: str, action: str, row: Row) -> bool:
        level = self.level(table, self.of(table, row.get("status")), action)
        if level in ("none", "full") or self.user is None:
            return level == "full"
        return row["owner"] == self.user if level == "mine" else ROLE_OF.get(row["owner"]) == self.role

    def reads(self, table: str) -> bool:
        return any(self.level(table, rule, "read") != "none" for rule in self.counting(table))

    def hidden(self, table: str) -> frozenset[str]:
        """The fields that no item shows. The key and the status are hidden in all items where they are in some."""
        lists = [rule.hidden for rule in self.counting(table) if self.level(table, rule, "read") != "none"]
        if not lists:
            return frozenset([*TABLES[table].columns, *TABLES[table].manies])
        return frozenset.intersection(*lists) | (frozenset.union(*lists) & {"id", "status"})

    def hidden_in(self, table: str, row: Row) -> frozenset[str]:
        return self.hidden(table) | self.of(table, row.get("status")).hidden


# --- reading


@frozen
class Wanted:
    """A condition of a filter."""

    path: str
    operator: str
    text: str
    logical: str = "and"


@frozen
class Question:
    """A query string that the model can answer too."""

    tree: Tree
    filter: tuple[Wanted, ...] = ()
    sort: tuple[str, ...] = ()
    status: tuple[str, ...] | None = None
    q: str | None = None
    limit: int = -1
    offset: int = 0

    def parameters(self) -> list[tuple[str, str]]:
        found = [("fields", ",".join(dotted(self.tree))), ("limit", str(self.limit)), ("meta", "total_count,filter_count")]
        for wanted in self.filter:
            found.append((f"filter[{wanted.path}][{wanted.operator}]", wanted.text))
            if wanted.logical == "or":
                found.append((f"filter[{wanted.path}][logical]", "or"))
        if self.sort:
            found.append(("sort", ",".join(self.sort)))
        if self.status is not None:
            found.append(("status", ",".join(self.status)))
        if self.q is not None:
            found.append(("q", self.q))
        if self.offset:
            found.append(("offset", str(self.offset)))
        return found


def dotted(tree: Tree) -> list[str]:
    return [
        path
        for name, below in tree.items()
        for path in ([name] if below is None else [f"{name}.{rest}" for rest in dotted(below)])
    ]


@frozen
class Reader:
    """Answers like the server, in plain Python, over rows in memory."""

    caller: Caller
    data: Data

    def seen(self, table: str) -> list[Row]:
        """The rows that may be read, by key, as they look to the caller: what they hide is null."""
        rows = [row for _, row in sorted(self.data[table].items()) if self.caller.may(table, "read", row)]
        return [{n: None if n in self.caller.hidden_in(table, row) else v for n, v in row.items()} for row in rows]

    def alive(self, table: str, row: Row) -> bool:
        return not TABLES[table].statuses or self.data[table][self.key(table, row)]["status"] != TABLES[table].deleted

    def key(self, table: str, row: Row) -> int:
        """The key of a row, which the row itself may hide."""
        return row["id"] if row["id"] is not None else row["$id"]

    def rows(self, table: str) -> list[Row]:
        """`seen`, with the keys kept aside."""
        keys = [key for key, row in sorted(self.data[table].items()) if self.caller.may(table, "read", row)]
        return [{**row, "$id": key} for key, row in zip(keys, self.seen(table), strict=True)]

    # what is shown

    def shows_something(self, table: str, tree: Tree) -> bool:
        """Whether some item can show something of the fields."""
        hidden = self.caller.hidden(table)
        return any(
            name not in hidden
            and (name in TABLES[table].columns or (below is not None and self.lists(*TABLES[table].manies[name])))
            for name, below in expanded(table, tree).items()
        )

    def lists(self, many: str, back: str) -> bool:
        return self.caller.reads(many) and back not in self.caller.hidden(many)

    def show(self, table: str, key: int, tree: Tree) -> Any:
        """What the answer shows of an item."""
        row = self.data[table][key]
        hidden = self.caller.hidden_in(table, row)
        item: Row = {}
        for name, below in expanded(table, tree).items():
            if name in hidden:
                continue
            if name in TABLES[table].columns:
                item[name] = row[name] if below is None or row[name] is None else self.one(table, name, row[name], below)
            elif below is not None and self.lists(*TABLES[table].manies[name]):
                item[name] = self.many(*TABLES[table].manies[name], key, below)
        return item or []

    def one(self, table: str, name: str, key: int, tree: Tree) -> Any:
        target = TABLES[table].ones.get(name)
        if target is None or not self.caller.reads(target):
            # Owners are active users, whom every role may read, and whose keys alone are asked for here.
            return {"id": key}
        row = self.data[target].get(key)
        if row is None or not self.caller.may(target, "read", row) or not self.alive(target, row):
            return None
        return self.show(target, key, tree)

    def many(self, table: str, back: str, parent: int, tree: Tree) -> list[Any]:
        if not self.shows_something(table, tree):
            return []
        rows = [row for row in self.rows(table) if row[back] == parent and self.alive(table, row)]
        return [self.show(table, row["$id"], tree) for row in rows]

    # what is found

    def values(self, table: str, row: Row, path: Sequence[str]) -> list[Any]:
        """The values that a path leads to. Raises Refused where no question about them is answered."""
        head, *rest = path
        if head in self.caller.hidden(table):
            raise Refused
        if head in TABLES[table].manies:
            many, back = TABLES[table].manies[head]
            if not self.lists(many, back):
                raise Refused
            others = [other for other in self.rows(many) if other[back] == row["$id"] and not self.hides(table, row, head)]
            if not rest:
                return [len(others)]
            self.check(many, rest)
            return [value for other in others for value in self.values(many, other, rest)]
        if not rest:
            return [row[head]]
        target = TABLES[table].ones[head]
        if not self.caller.reads(target):
            raise Refused
        self.check(target, rest)
        return [v for other in self.rows(target) if other["$id"] == row[head] for v in self.values(target, other, rest)]

    def hides(self, table: str, row: Row, name: str) -> bool:
        """Whether one row hides a field that others show."""
        return row["$id"] is not None and name in self.caller.hidden_in(table, self.data[table][row["$id"]])

    def check(self, table: str, path: Sequence[str]) -> None:
        """Raises Refused where no question about a path is answered, whatever rows there are."""
        nobody = dict.fromkeys(TABLES[table].columns)
        self.values(table, {**nobody, "$id": None}, path)

    def holds(self, table: str, row: Row, wanted: Wanted) -> bool:
        return any(compared(wanted, value) for value in self.values(table, row, wanted.path.split(".")))

    def found(self, table: str, question: Question) -> list[Row]:
        """The rows that a question finds, in order. Raises Refused."""
        hidden = self.caller.hidden(table)
        for name in [*(wanted.path for wanted in question.filter), *(name.lstrip("-") for name in question.sort)]:
            self.check(table, name.split("."))
        rows = self.rows(table)
        if question.status is None:
            rows = [row for row in rows if self.alive(table, row)]
        elif "*" not in question.status and TABLES[table].statuses:
            if "status" in hidden:
                raise Refused
            rows = [row for row in rows if row["status"] in question.status]
        if question.q is not None:
            texts = {"title", "secret", "name", "code"} & set(TABLES[table].columns)
            rows = [row for row in rows if any(question.q in (row[name] or "") for name in texts)]
        if question.filter:
            rows = [row for row in rows if self.fits(table, row, question.filter)]
        for name in reversed(question.sort):
            plain = name.lstrip("-")
            present = sorted((r for r in rows if r[plain] is not None), key=lambda r: r[plain], reverse=name.startswith("-"))
            if name.startswith("-"):
                groups = itertools.groupby(present, key=lambda r: r[plain])
                present = [row for _, group in groups for row in sorted(group, key=rows.index)]
            rows = present + [row for row in rows if row[plain] is None]
        return rows

    def fits(self, table: str, row: Row, chain: Sequence[Wanted]) -> bool:
        groups: list[list[bool]] = [[]]
        for wanted in chain:
            if wanted.logical == "or" and groups[-1]:
                groups.append([])
            groups[-1].append(self.holds(table, row, wanted))
        return any(all(group) for group in groups)

    def answer(self, table: str, question: Question) -> tuple[list[Any], dict[str, int]]:
        """The data and the counts of a list. Raises Refused."""
        if not self.caller.reads(table):
            raise Refused
        rows = self.found(table, question)
        total = sum(self.alive(table, row) for row in self.rows(table))
        meta = {"total_count": total, "filter_count": len(rows) if question.filter or question.q else total}
        if not self.shows_something(table, question.tree):
            return [], meta
        cut = rows if question.limit < 0 else rows[question.offset : question.offset + question.limit]
        return [self.show(table, row["$id"], question.tree) for row in cut], meta

    def aggregates(self, table: str, question: Question, functions: Sequence[tuple[str, str]], by: str | None) -> list[Any]:
        """The aggregates of what a question finds, for each value of a field. Raises Refused."""
        if not self.caller.reads(table):
            raise Refused
        for name in [name for _, name in functions if name != "*"] + ([by] if by else []):
            self.check(table, [name])
        rows = self.found(table, question)
        groups = {None: rows} if by is None else {value: [r for r in rows if r[by] == value] for value in {r[by] for r in rows}}
        items = []
        for value in sorted(groups, key=lambda v: (v is None, v)):
            item: Row = {} if by is None else {by: value}
            for function, name in functions:
                shown = [row.get(name) for row in groups[value] if name == "*" or row[name] is not None]
                item.setdefault(function, {})[name] = FUNCTIONS[function](shown)
            items.append(item)
        return items


FUNCTIONS: Mapping[str, Any] = {
    "count": len,
    "countDistinct": lambda values: len(set(values)),
    "sum": lambda values: sum(values) if values else None,
    "min": lambda values: min(values, default=None),
    "max": lambda values: max(values, default=None),
}


def expanded(table: str, tree: Tree) -> Tree:
    """What a tree means: all columns for a star, and the keys of relations that are only named beside deeper ones."""
    if "*" in tree:
        tree = {**dict.fromkeys(TABLES[table].columns), **{name: below for name, below in tree.items() if below is not None}}
    if not any(tree.values()):
        return tree
    keys: Tree = {name: {"id": None} for name in (*TABLES[table].ones, "owner")}
    keys |= {name: {back: None} for name, (_, back) in TABLES[table].manies.items()}
    return {name: below or keys.get(name) for name, below in tree.items()}


def compared(wanted: Wanted, value: Any) -> bool:
    """Whether one value fulfils a condition."""
    operator, text = wanted.operator, wanted.text
    if operator in ("null", "nnull"):
        return (value is None) == (operator == "null")
    if operator == "has":
        return bool(value >= int(text))
    if value is None:
        return False
    parts: list[Any] = text.split(",") if isinstance(value, str) else [int(part) for part in text.split(",")]
    return {
        "eq": lambda: value == parts[0],
        "neq": lambda: value != parts[0],
        "gt": lambda: value > parts[0],
        "lte": lambda: value <= parts[0],
        "in": lambda: value in parts,
        "nin": lambda: value not in parts,
        "contains": lambda: text in str(value),
        "ncontains": lambda: text not in str(value),
    }[operator]()


# --- writing


class Writer:
    """Writes like the server: changes `data`, or raises Refused. New rows count on from FAR."""

    def __init__(self, caller: Caller, data: Data, comment: bool) -> None:
        self.caller = caller
        self.data = data
        self.comment = comment
        self.next = dict.fromkeys(TABLES, FAR)

    def refuse_unless(self, allowed: bool) -> None:
        if not allowed:
            raise Refused

    def create(self, table: str, payloads: Sequence[Row]) -> list[int]:
        for payload in payloads:
            # Not to name a status is to give the default one.
            status = stored_status(payload.get("status", TABLES[table].statuses[0])) if TABLES[table].statuses else None
            rule = self.caller.of(table, status)
            self.refuse_unless(rule.create == "full" and status not in rule.forbidden)
            self.refuse_unless(self.comment or rule.explain not in ("create", "always"))
            self.refuse_unless(not rule.unwritable & set(payload))
        rows = []
        for payload in payloads:
            row = dict.fromkeys(TABLES[table].columns)
            if TABLES[table].statuses:
                row["status"] = TABLES[table].statuses[0]
            self.fill(table, row, payload)
            if TABLES[table].owned:
                row["owner"] = self.caller.user
            rows.append(row)
        for row in rows:
            if row["id"] is None:
                row["id"] = self.next[table]
                self.next[table] += 1
            self.data[table][row["id"]] = row
        for row, payload in zip(rows, payloads, strict=True):
            self.spread(table, row["id"], payload)
        return [row["id"] for row in rows]

    def update(self, table: str, changes: Sequence[tuple[int, Row]]) -> None:
        for key, payload in changes:
            self.judge(table, key, payload)
        for key, payload in changes:
            self.fill(table, self.data[table][key], payload)
        for key, payload in changes:
            self.spread(table, key, payload)

    def judge(self, table: str, key: int, payload: Row) -> None:
        row = self.data[table].get(key)
        self.refuse_unless(row is not None and self.caller.may(table, "read", row))
        assert row is not None
        status = row.get("status")
        self.refuse_unless(not TABLES[table].statuses or status != TABLES[table].deleted)
        wanted = stored_status(payload["status"]) if "status" in payload else status
        present, new = self.caller.of(table, status), self.caller.of(table, wanted)
        deletes = wanted != status and wanted == TABLES[table].deleted
        self.refuse_unless(self.caller.may(table, "delete" if deletes else "update", row))
        # Where there are rules by status, a status without one is no place to move to.
        known = not self.caller.by_status(table) or wanted in self.caller.rules.get(table, {})
        self.refuse_unless(wanted == status or deletes or known)
        self.refuse_unless(wanted == status or wanted not in present.forbidden | new.forbidden)
        self.refuse_unless(self.comment or not {present.explain, new.explain} & {"update", "always"})
        self.refuse_unless(not (present.unwritable | new.unwritable) & set(payload))

    def delete(self, table: str, keys: Sequence[int]) -> None:
        for key in keys:
            row = self.data[table].get(key)
            self.refuse_unless(row is not None and self.caller.may(table, "delete", row))
            assert row is not None
            self.refuse_unless(self.comment or self.caller.of(table, row.get("status")).explain != "always")
        for key in keys:
            del self.data[table][key]

    def fill(self, table: str, row: Row, payload: Row) -> None:
        """Puts the values of a payload into a row, and writes the items that many-to-one fields hold."""
        for name, value in payload.items():
            if name == "status":
                row[name] = stored_status(value)
            elif name in TABLES[table].columns:
                row[name] = self.link(TABLES[table].ones[name], value) if isinstance(value, dict) else value

    def link(self, table: str, value: Row) -> int | None:
        key = value.get("id")
        rest = {name: each for name, each in value.items() if name not in ("id", "$delete")}
        if value.get("$delete"):
            self.delete(table, [key])  # type: ignore[list-item]
            return None
        if key is None:
            return self.create(table, [rest])[0] if rest else None
        if rest and key in self.data[table]:
            self.update(table, [(key, rest)])
        elif rest:
            self.create(table, [value])
        self.refuse_unless(key in self.data[table])
        self.refuse_unless(bool(rest) or self.caller.may(table, "read", self.data[table][key]))
        return int(key)

    def spread(self, table: str, key: int, payload: Row) -> None:
        """Writes the items that lists hold: those to delete, then those that are there, then new ones."""
        for name, members in payload.items():
            if name not in TABLES[table].manies:
                continue
            many, back = TABLES[table].manies[name]
            self.delete(many, [member["id"] for member in members if "$delete" in member])
            kept = [{back: key, **member} for member in members if "$delete" not in member]
            old = [({**member}.pop("id"), {n: v for n, v in member.items() if n != "id"}) for member in kept if "id" in member]
            if old:
                self.update(many, old)
            fresh = [member for member in kept if "id" not in member]
            if fresh:
                self.create(many, fresh)


def stored_status(value: Any) -> Any:
    """A status as the column holds it: text."""
    if isinstance(value, bool):
        return str(int(value))
    return None if value is None else str(value)


# --- a server with such collections


@frozen
class World:
    """A server, and a connection to the database of its project."""

    daemon: Daemon
    connection: Any
    http: http.client.HTTPConnection
    permissions: list[int]

    def call(self, method: str, path: str, body: Any = None, token: str | None = TOKEN) -> tuple[int, bytes]:
        headers = {"Content-Type": "application/json"} | ({} if token is None else {"Authorization": f"bearer {token}"})
        data = None if body is None else json.dumps(body).encode()
        self.http.request(method, f"/{PROJECT}{path}", data, headers)
        answer = self.http.getresponse()
        return answer.status, answer.read()

    def ask(self, caller: Caller, path: str, parameters: Sequence[tuple[str, str]] = ()) -> tuple[int, Any]:
        status, body = self.call("GET", f"{path}?{urllib.parse.urlencode(parameters)}", token=caller.token)
        return status, json.loads(body)

    def grant(self, rules: Mapping[int, Rules]) -> None:
        """Gives roles these permissions on the collections, and no others."""
        if self.permissions:
            status, body = self.call("DELETE", "/permissions/" + ",".join(map(str, self.permissions)))
            assert status == 204, body
        self.permissions.clear()
        rows = [
            rule.row(role, table, status)
            for role, tables in rules.items()
            for table, by_status in tables.items()
            for status, rule in by_status.items()
        ]
        if rows:
            status, body = self.call("POST", "/permissions?fields=id&activity_skip=1", rows)
            assert status == 200, body
            self.permissions.extend(row["id"] for row in json.loads(body)["data"])

    def query(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self.connection.cursor() as cursor:
            cursor.execute(sql, values)
            return cursor.fetchall() if cursor.description else []

    def store(self, data: Data) -> None:
        """Makes these the rows of the tables, and FAR the next key of each."""
        for name, table in TABLES.items():
            self.query(f"DELETE FROM {name}")
            columns = ", ".join(f'"{column}"' for column in table.columns)
            for row in data[name].values():
                marks = ", ".join(["%s"] * len(table.columns))
                self.query(f"INSERT INTO {name} ({columns}) VALUES ({marks})", [row[column] for column in table.columns])
        self.rewind()

    def rewind(self) -> None:
        for name in TABLES:
            self.query("SELECT setval(pg_get_serial_sequence(%s, 'id'), %s, false)", (name, FAR))

    def stored(self) -> Data:
        found: Data = {}
        for name, table in TABLES.items():
            columns = ", ".join(f'"{column}"' for column in table.columns)
            rows = self.query(f"SELECT {columns} FROM {name} ORDER BY id")
            found[name] = {row[0]: dict(zip(table.columns, row, strict=True)) for row in rows}
        return found


def status_field(table: Table) -> Row:
    mapping = {
        status: {"name": status, "value": status, "soft_delete": status == table.deleted, "required_fields": False}
        for status in table.statuses
    }
    return field("status", "status", length=20, default_value=table.statuses[0], options={"status_mapping": mapping})


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, postgres: dict[str, Any]) -> Iterator[World]:
    """A server with the collections of TABLES, two roles, and three users."""
    url = f"postgresql://{postgres['user']}@/{postgres['dbname']}?host={postgres['host']}"
    daemon = Daemon(tmp_path_factory.mktemp("permissions"), url=url).start()
    daemon.create_project(PROJECT)
    number = {"type": "integer", "datatype": "INT", "length": 11}
    fields: dict[str, Row] = {
        "id": KEY,
        "rank": field("rank", **number),
        "owner": field("owner", "owner", "INT", 11),
        "topic": field("topic", "m2o", "INT", 11),
        "kind": field("kind", "m2o", "INT", 11),
    }
    for table in TABLES.values():
        if table.statuses:
            fields["status"] = status_field(table)
        columns = [fields.get(name) or field(name) for name in table.columns]
        lists = [{"field": name, "type": "o2m", "interface": "one-to-many"} for name in table.manies]
        daemon.call("POST", f"/{PROJECT}/collections", {"collection": table.name, "fields": columns + lists})
    for table in TABLES.values():
        for name, (many, back) in table.manies.items():
            relation = {"collection_many": many, "field_many": back, "collection_one": table.name, "field_one": name}
            daemon.call("POST", f"/{PROJECT}/relations", relation)
    for name in ("Writers", "Readers"):
        daemon.call("POST", f"/{PROJECT}/roles", {"name": name})
    for user, name in ((WANDA, "wanda"), (WALT, "walt"), (RITA, "rita")):
        person = {"first_name": name, "last_name": name, "email": f"{name}@example.com", "password": "password"}
        more = {"role": ROLE_OF[user], "status": "active", "token": f"{name}-token"}
        assert daemon.call("POST", f"/{PROJECT}/users", person | more)["data"]["id"] == user
    connection = daemon.connect(PROJECT)
    connection.autocommit = True
    http_connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=60)
    yield World(daemon, connection, http_connection, [])
    connection.close()
    http_connection.close()
    daemon.call("DELETE", f"/server/projects/{PROJECT}?super_admin_token={SUPER_ADMIN_TOKEN}", token=None)
    assert daemon.stop() == 0


# --- anything

WORDS = st.sampled_from(["alpha", "beta", "gamma", "delta", None])
OWNERS = st.sampled_from([1, WANDA, WALT, RITA, None])
NO_NAMES: st.SearchStrategy[frozenset[str]] = st.just(frozenset())


def rules_for(table: Table) -> st.SearchStrategy[Mapping[str | None, Rule]]:
    names = [*table.columns, *table.manies]
    # Where nobody owns anything, only "full" is anything.
    levels = st.sampled_from(
        ["full", "full", "full", "full", "role", "mine", "none"] if table.owned else ["full"] * 5 + ["mine", "none"]
    )
    rule = st.builds(
        Rule,
        create=st.sampled_from(["full", "full", "full", "none"]),
        read=levels,
        update=levels,
        delete=levels,
        explain=st.sampled_from(["none"] * 7 + ["create", "update", "always"]),
        hidden=NO_NAMES | st.frozensets(st.sampled_from(names), max_size=3),
        unwritable=NO_NAMES | st.frozensets(st.sampled_from(names[1:]), min_size=1, max_size=3),
        forbidden=NO_NAMES | NO_NAMES | st.frozensets(st.sampled_from(table.statuses or [""]), max_size=1),
    )
    plain: st.SearchStrategy[Any] = st.fixed_dictionaries({None: rule})
    if not table.statuses:
        return plain
    each = st.fixed_dictionaries(dict.fromkeys(table.statuses, rule), optional={None: rule})
    some = st.dictionaries(st.sampled_from([*table.statuses, None]), rule, max_size=2)
    return st.one_of(plain, each, each, some)


RULES: st.SearchStrategy[Rules] = st.fixed_dictionaries({name: rules_for(table) for name, table in TABLES.items()})
CALLERS = st.builds(
    lambda who, rules: Caller(*who, rules),
    st.sampled_from(
        [(WANDA, "wanda-token", WRITERS), (RITA, "rita-token", READERS), (WALT, "walt-token", WRITERS)] * 2
        + [(None, None, PUBLIC)]
    ),
    RULES,
)


def rows_of(table: Table, least: int, most: int) -> st.SearchStrategy[dict[int, Row]]:
    values = {
        "status": st.sampled_from([*table.statuses, *table.statuses[:2] * 3, None, "odd"]) if table.statuses else st.none(),
        "rank": st.integers(0, 3) | st.none(),
        "topic": st.sampled_from([1, 2, 3, None]),
        "kind": st.sampled_from([1, 2, None]),
        "owner": OWNERS,
    }
    row = st.fixed_dictionaries({name: values.get(name, WORDS) for name in table.columns if name != "id"})
    return st.lists(row, min_size=least, max_size=most).map(lambda rows: {n: {"id": n, **r} for n, r in enumerate(rows, 1)})


DATA: st.SearchStrategy[Data] = st.fixed_dictionaries(
    {
        "things": rows_of(TABLES["things"], 4, 8),
        "topics": rows_of(TABLES["topics"], 2, 3),
        "kinds": rows_of(TABLES["kinds"], 2, 2),
    }
)
ANY = settings(
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)


def prepare(world: World, caller: Caller, others: Rules, data: Data) -> Reader:
    """Gives the caller's role its rules, another role others, and the tables their rows."""
    note(f"{caller}\nother role: {others}\n{data}")
    world.grant({caller.role: caller.rules, (READERS if caller.role == WRITERS else WRITERS): others})
    world.store(data)
    return Reader(caller, data)


def refusal(caller: Caller, table: str) -> set[int]:
    """The statuses of what a list is refused with."""
    return {401} if caller.token is None and not caller.reads(table) else {403}


# --- the properties


@settings(ANY, max_examples=examples(50))
@given(caller=CALLERS, others=RULES, data=DATA)
def test_lists_and_items_show_what_the_rules_say_and_no_more(world: World, caller: Caller, others: Rules, data: Data) -> None:
    reader = prepare(world, caller, others, data)
    for table in TABLES:
        for status in (None, ("*",), ("open", "gone")):
            question = Question({"*": None}, status=status)
            answered, body = world.ask(caller, f"/items/{table}", question.parameters())
            try:
                expected, meta = reader.answer(table, question)
            except Refused:
                assert answered in refusal(caller, table), (table, status, body)
            else:
                assert (answered, body.get("data")) == (200, expected), (table, status, body)
                assert body["meta"] == meta, (table, status)
        for key, row in {**data[table], 99: {}}.items():
            answered, body = world.ask(caller, f"/items/{table}/{key}", [("fields", "*")])
            if row and caller.may(table, "read", row) and reader.alive(table, row):
                assert (answered, body.get("data")) == (200, reader.show(table, key, {"*": None})), (table, key)
            else:
                assert (answered, body["error"]["code"]) == (404, 203), (table, key)


PATHS = {
    "things": "id status title secret rank topic kind owner topic.name topic.code kind.code topic.things.secret".split(),
    "topics": "id status name code owner things things.title things.secret things.rank things.kind.name".split(),
    "kinds": "id name code things things.secret things.topic.code".split(),
}
NUMBERS = frozenset({"id", "rank", "topic", "kind", "owner"})


@st.composite
def conditions(draw: st.DrawFn, table: str) -> Wanted:
    path = draw(st.sampled_from(PATHS[table]))
    last = path.rpartition(".")[2]
    logical = draw(st.sampled_from(["and", "or"]))
    if last == "things":
        return Wanted(path, "has", draw(st.sampled_from(["0", "1", "2"])), logical)
    operators = ["eq", "neq", "gt", "lte", "in", "nin", "null", "nnull"]
    if last in NUMBERS:
        return Wanted(path, draw(st.sampled_from(operators)), draw(st.sampled_from(["0", "1", "2", "1,2", "3"])).strip(), logical)
    operator = draw(st.sampled_from([*operators, "contains", "ncontains"]))
    return Wanted(path, operator, draw(st.sampled_from(["alpha", "beta", "a", "gone", "open"])), logical)


def listless(wanted: Wanted) -> bool:
    """A list of values is for the operators that take one."""
    return "," not in wanted.text or wanted.operator in ("in", "nin", "null", "nnull")


@st.composite
def trees(draw: st.DrawFn, table: str, depth: int = 2) -> Tree:
    if draw(st.integers(0, 5)) == 0:
        return {"*": None}
    names = draw(st.lists(st.sampled_from([*TABLES[table].columns, *TABLES[table].manies]), min_size=1, max_size=4, unique=True))
    found: Tree = {}
    for name in names:
        target = TABLES[table].ones.get(name) or TABLES[table].manies.get(name, ("",))[0]
        found[name] = draw(trees(target, depth - 1)) if target and depth and draw(st.integers(0, 3)) else None
    return found


@st.composite
def questions(draw: st.DrawFn, table: str) -> Question:
    chain = draw(st.lists(conditions(table).filter(listless), max_size=3, unique_by=lambda wanted: wanted.path))
    sortable = [name for name in TABLES[table].columns if name != "status"]
    sorts = draw(st.lists(st.sampled_from([*sortable, *(f"-{name}" for name in sortable)]), max_size=2))
    status = draw(st.none() | st.just(("*",)) | st.just(("open", "1")))
    limit, offset = draw(st.sampled_from([(-1, 0), (-1, 0), (2, 0), (2, 1)]))
    q = draw(st.none() | st.none() | st.sampled_from(["alp", "mm", "elt"]))
    sorts = [name for n, name in enumerate(sorts) if name.lstrip("-") not in {s.lstrip("-") for s in sorts[:n]}]
    return Question(draw(trees(table)), tuple(chain), tuple(sorts), status, q, limit, offset)


@st.composite
def aggregates(draw: st.DrawFn, table: str) -> tuple[Question, list[tuple[str, str]], str | None]:
    chain = draw(st.lists(conditions(table).filter(listless), max_size=2, unique_by=lambda wanted: wanted.path))
    columns = [name for name in TABLES[table].columns if name != "status"]
    numbers = [name for name in columns if name in NUMBERS]
    functions = [st.tuples(st.sampled_from(["count", "countDistinct", "min", "max"]), st.sampled_from(columns))]
    functions.append(st.tuples(st.just("sum"), st.sampled_from(numbers)))
    functions.append(st.just(("count", "*")))
    found = draw(st.lists(st.one_of(functions), min_size=1, max_size=2, unique_by=lambda each: each[0]))
    return Question({}, tuple(chain), status=draw(st.none() | st.just(("*",)))), found, draw(st.none() | st.sampled_from(columns))


ON_ANY_TABLE = st.sampled_from(list(TABLES))


@settings(ANY, max_examples=examples(60))
@given(
    caller=CALLERS,
    others=RULES,
    data=DATA,
    asked=st.lists(ON_ANY_TABLE.flatmap(lambda table: st.tuples(st.just(table), questions(table))), min_size=10, max_size=12),
    summed=st.lists(ON_ANY_TABLE.flatmap(lambda table: st.tuples(st.just(table), aggregates(table))), min_size=5, max_size=6),
)
def test_no_question_finds_more_than_the_rules_allow(
    world: World, caller: Caller, others: Rules, data: Data, asked: list[Any], summed: list[Any]
) -> None:
    reader = prepare(world, caller, others, data)
    for table, question in asked:
        parameters = question.parameters()
        answered, body = world.ask(caller, f"/items/{table}", parameters)
        try:
            expected, meta = reader.answer(table, question)
        except Refused:
            assert answered in refusal(caller, table), (table, parameters, body)
        else:
            assert (answered, body.get("data")) == (200, expected), (table, parameters, body)
            assert body["meta"] == meta, (table, parameters)
    for table, (question, functions, by) in summed:
        parameters = [pair for pair in question.parameters() if pair[0] not in ("fields", "meta")]
        parameters += [(f"aggregate[{function}]", name) for function, name in functions]
        parameters += [("groupby", by)] if by else []
        answered, body = world.ask(caller, f"/items/{table}", parameters)
        try:
            expected = reader.aggregates(table, question, functions, by)
        except Refused:
            assert answered in refusal(caller, table), (table, parameters, body)
        else:
            assert (answered, body.get("data")) == (200, expected), (table, parameters, body)


NAMES = st.sampled_from(
    "id status title secret rank topic kind owner name code things * *.* topic.* topic.name topic.code topic.things.secret"
    " things.* things.secret things.topic.code things.kind.name kind.* kind.things.title -title".split()
)
OPERATORS = st.sampled_from("eq neq lt gte in nin null nnull contains ncontains between nbetween empty nempty has all".split())
VALUES = st.sampled_from(["", "0", "1", "1,2", "alpha", "a", "alpha,gamma", "open", "gone"])
PARAMETERS = st.one_of(
    st.tuples(st.just("fields"), st.lists(NAMES, min_size=1, max_size=4).map(",".join)),
    st.tuples(st.just("sort"), st.tuples(st.sampled_from(["", "-"]), NAMES).map("".join)),
    st.tuples(st.just("q"), VALUES),
    st.tuples(st.just("status"), st.sampled_from(["*", "open", "1,0", "gone"])),
    st.tuples(st.just("meta"), st.just("*")),
    st.tuples(st.just("groups"), NAMES),
    st.tuples(st.sampled_from(["limit", "offset", "page"]), st.sampled_from(["1", "2"])),
    st.tuples(st.just("single"), st.just("1")),
    st.tuples(st.builds("filter[{}][{}]".format, NAMES, OPERATORS), VALUES),
    st.tuples(st.builds("filter[{}][logical]".format, NAMES), st.just("or")),
    st.tuples(st.builds("deep[{}][filter][{}][{}]".format, NAMES, NAMES, OPERATORS), VALUES),
    st.tuples(st.builds("deep[{}][sort]".format, NAMES), NAMES),
    st.tuples(st.builds("deep[{}][limit]".format, NAMES), st.sampled_from(["1", "2"])),
    st.tuples(st.builds("aggregate[{}]".format, st.sampled_from("count sum avg min max countDistinct".split())), NAMES),
    st.tuples(st.just("groupby"), NAMES),
    st.tuples(st.just("export"), st.sampled_from(["json", "csv"])),
)


@st.composite
def requests(draw: st.DrawFn) -> str:
    path = draw(st.sampled_from(["things", "things", "topics", "kinds", "things/1", "things/1,2,3,4", "topics/1", "kinds/1,2"]))
    return f"/items/{path}?" + urllib.parse.urlencode(draw(st.lists(PARAMETERS, max_size=4)))


@settings(ANY, max_examples=examples(60))
@given(
    caller=CALLERS,
    others=RULES,
    data=DATA,
    other_data=DATA,
    queries=st.lists(requests(), min_size=20, max_size=24),
)
def test_what_is_hidden_has_no_influence_on_any_answer(
    world: World, caller: Caller, others: Rules, data: Data, other_data: Data, queries: list[str]
) -> None:
    prepare(world, caller, others, data)
    queries = [*queries, *(f"/items/{table}?fields=*,*.*&status=*&limit=-1&meta=*" for table in TABLES)]
    queries += [f"/items/{table.name}?fields={table.columns[-2]}&status=*&export=csv" for table in TABLES.values()]
    before = [world.call("GET", query, token=caller.token) for query in queries]
    changed = copy.deepcopy(data)
    for table, rows in changed.items():
        spare = itertools.cycle(other_data[table].values())
        for row, other in zip(rows.values(), spare, strict=False):
            seen = caller.may(table, "read", row)
            for name in (caller.hidden_in(table, row) if seen else set(row)) & set(row) - {"id", "status", "owner"}:
                row[name] = other[name]
    world.store(changed)
    note(f"changed: {changed}")
    after = [world.call("GET", query, token=caller.token) for query in queries]
    for query, one, other in zip(queries, before, after, strict=True):
        assert one[0] in (200, 401, 403, 404, 422), (query, one)
        assert one == other, query


# writes


def payloads(table: str, depth: int = 2) -> st.SearchStrategy[Row]:
    """Payloads for an item, with related items in them."""
    values: dict[str, st.SearchStrategy[Any]] = {
        "status": st.sampled_from(TABLES[table].statuses or [""]),
        "rank": st.integers(0, 3) | st.none(),
        "owner": OWNERS,
    }
    for name, target in TABLES[table].ones.items():
        values[name] = st.sampled_from([1, 2, None])
        if depth:
            values[name] |= related(target, depth - 1)
    if depth:
        for name, (many, _) in TABLES[table].manies.items():
            values[name] = st.lists(
                related(many, depth - 1), max_size=2, unique_by=lambda member: member.get("id") or json.dumps(member)
            )
    names = [*(name for name in TABLES[table].columns if name != "id"), *(TABLES[table].manies if depth else ())]
    often = ["status"] * 4 if TABLES[table].statuses else []
    wanted = st.lists(st.sampled_from([*names, *often]), min_size=1, max_size=3, unique=True)
    return wanted.flatmap(lambda chosen: st.fixed_dictionaries({name: values.get(name, WORDS) for name in chosen}))


def related(table: str, depth: int) -> st.SearchStrategy[Row]:
    """An item within another's payload: one that is there, to be linked, changed or deleted, or a new one."""
    keys = st.fixed_dictionaries({"id": st.sampled_from([1, 2, 1, 2, 3])})
    there = st.builds(lambda key, rest: {**key, **rest}, keys, payloads(table, depth))
    return st.one_of(there, payloads(table, depth), there, keys, keys.map(lambda key: {**key, "$delete": True}))


@st.composite
def writes(draw: st.DrawFn) -> tuple[str, str, Any, Any]:
    """A method, a collection, the keys in the path, and a body."""
    table = draw(st.sampled_from(["things", "things", "topics", "kinds"]))
    method = draw(st.sampled_from(["PATCH", "PATCH", "POST", "PATCH", "DELETE"]))
    keys = draw(st.lists(st.sampled_from([1, 2, 3, 4] if table == "things" else [1, 2]), min_size=1, max_size=2, unique=True))
    if method == "DELETE":
        return method, table, keys, None
    if method == "POST":
        several = draw(st.booleans())
        body = draw(st.lists(payloads(table, 0), min_size=1, max_size=2)) if several else draw(payloads(table))
        return method, table, [], body
    if draw(st.booleans()):
        keys = keys[: draw(st.sampled_from([1, 1, 2]))]
        return method, table, keys, draw(payloads(table, 2 if len(keys) == 1 else 0))
    return method, table, [], [{"id": key, **draw(payloads(table, 0))} for key in keys]


def write(writer: Writer, method: str, table: str, keys: list[int], body: Any) -> list[int]:
    """Does what a request asks, and gives the keys of the items that its answer is about."""
    if method == "DELETE":
        writer.delete(table, keys)
        return []
    if method == "POST":
        return writer.create(table, body if isinstance(body, list) else [body])
    if keys:
        writer.update(table, [(key, body) for key in keys])
        return keys
    writer.update(table, [(each["id"], {n: v for n, v in each.items() if n != "id"}) for each in body])
    return [each["id"] for each in body]


def shown_after(writer: Writer, method: str, table: str, keys: Sequence[int]) -> list[Any]:
    """What the answer to a write shows: items that may be read; to their creator whoever's they are."""
    caller, reader = writer.caller, Reader(writer.caller, writer.data)
    items = []
    for key in keys:
        row = writer.data[table].get(key)
        if row is None or not caller.reads(table) or not reader.alive(table, row):
            continue
        created = method == "POST" and caller.of(table, row.get("status")).read != "none"
        if created or caller.may(table, "read", row):
            items.append(reader.show(table, key, {"*": None}))
    return items


def check_write(
    world: World, caller: Caller, data: Data, method: str, table: str, keys: list[int], body: Any, comment: bool
) -> None:
    """A request writes what the model writes, and shows what it shows; or it is refused where the model refuses, and nothing changes."""
    writer = Writer(caller, copy.deepcopy(data), comment)
    try:
        affected = write(writer, method, table, keys, body)
        allowed = True
    except Refused:
        allowed = False
    world.rewind()
    path = f"/items/{table}" + ("/" + ",".join(map(str, keys)) if keys else "")
    parameters = "?fields=*" + ("&comment=because" if comment else "")
    answered, text = world.call(method, path + parameters, body, token=caller.token)
    told = (method, path + parameters, body, answered, text)
    if not allowed:
        # That the key of a new item is taken says so of a hidden item too.
        assert answered in (403, 404, 409, 422), told
        assert world.stored() == data, told
        return
    assert answered in (200, 204), told
    assert world.stored() == writer.data, told
    shown = shown_after(writer, method, table, affected)
    one = not isinstance(body, list) and len(keys) < 2
    found = json.loads(text).get("data") if text else None
    assert found == (None if not shown else shown[0] if one else shown), (told, shown)
    world.store(data)


@settings(ANY, max_examples=examples(60))
@given(
    caller=CALLERS,
    others=RULES,
    data=DATA,
    wanted=st.lists(st.tuples(writes(), st.booleans()), min_size=14, max_size=16),
)
def test_writes_do_what_the_rules_allow_or_nothing(
    world: World, caller: Caller, others: Rules, data: Data, wanted: list[Any]
) -> None:
    prepare(world, caller, others, data)
    for (method, table, keys, body), comment in wanted:
        check_write(world, caller, data, method, table, keys, body, comment)


def status_rules_for(table: Table) -> st.SearchStrategy[Mapping[str | None, Rule]]:
    """Rules that differ in what they say of statuses."""
    rule = st.builds(
        Rule,
        create=st.sampled_from(["full", "none"]),
        read=st.just("full"),
        update=st.sampled_from(["full", "full", "none"]),
        delete=st.sampled_from(["full", "none"]),
        unwritable=st.frozensets(st.sampled_from(["title", "name"]), max_size=1),
        forbidden=st.frozensets(st.sampled_from(table.statuses), max_size=2),
    )
    return st.fixed_dictionaries({None: rule}) | st.fixed_dictionaries(dict.fromkeys(table.statuses, rule))


STATUS_RULES: st.SearchStrategy[Rules] = st.fixed_dictionaries(
    {name: status_rules_for(table) for name, table in TABLES.items() if table.statuses}
)
FORMS = st.sampled_from(["open", "gone", "1", "0", 1, 0, True, False, "2", 2])


@settings(ANY, max_examples=examples(60))
@given(
    rules=STATUS_RULES,
    data=DATA,
    wanted=st.lists(
        st.tuples(
            st.sampled_from(["POST", "PATCH", "PATCH"]),
            st.sampled_from([("things", "title"), ("topics", "name")]),
            st.sampled_from([1, 2]),
            st.fixed_dictionaries({}, optional={"status": FORMS, "text": WORDS}).filter(bool),
        ),
        min_size=10,
        max_size=12,
    ),
)
def test_a_status_is_judged_as_it_is_stored_whether_named_or_not(
    world: World, rules: Rules, data: Data, wanted: list[Any]
) -> None:
    caller = Caller(WANDA, "wanda-token", WRITERS, rules)
    prepare(world, caller, {}, data)
    for method, (table, text), key, payload in wanted:
        body = {text if name == "text" else name: value for name, value in payload.items()}
        check_write(world, caller, data, method, table, [key] if method == "PATCH" else [], body, comment=False)
