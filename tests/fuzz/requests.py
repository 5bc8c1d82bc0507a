"""Random requests: from what clients send every day to what nobody should, over a schema with every kind of field and relation.

A `Fuzz` of the same seed makes the same requests.
"""

import json
import random
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attrs import field, frozen

from directus_tx.compile.aggregates import FUNCTIONS
from directus_tx.compile.operators import OPERATORS
from directus_tx.schema.system import CATALOGUE
from directus_tx.system.permissions import LEVELS
from tests.conftest import KEY
from tests.conftest import field as plain

PROJECT = "fuzz"
LIMITED_ROLES = (3, 4, 5)

STATUS = {
    "status_mapping": {
        "published": {"name": "Published"},
        "draft": {"name": "Draft", "required_fields": False},
        "deleted": {"name": "Deleted", "soft_delete": True},
    }
}
NUMBERED_STATUS = {"status_mapping": {"1": {"name": "One"}, "2": {"name": "Two"}, "3": {"name": "Gone", "soft_delete": True}}}


def _list(name: str) -> dict[str, Any]:
    return {"field": name, "type": "o2m", "interface": "one-to-many"}


COLLECTIONS: dict[str, list[dict[str, Any]]] = {
    "articles": [
        KEY,
        plain("status", "status", "VARCHAR", 20, options=STATUS, default_value="draft"),
        plain("sort", "sort", "INT", 11),
        plain("owner", "owner", "INT", 11),
        plain("title", required=True),
        plain("slug", "slug", options={"mirroredField": "title"}),
        plain("body", "string", "TEXT", None),
        plain("views", "integer", "INT", 11, signed=True),
        plain("big", "integer", "BIGINT", 20, signed=True),
        plain("price", "decimal", "DECIMAL", "8,2"),
        plain("ratio", "decimal", "DOUBLE", None),
        plain("flag", "boolean", "TINYINT", 1),
        plain("day", "date", "DATE", None),
        plain("hour", "time", "TIME", None),
        plain("moment", "datetime", "DATETIME", None),
        plain("created", "datetime_created", "DATETIME", None),
        plain("tags", "array", "VARCHAR", 255),
        plain("data", "json", "TEXT", None),
        plain("password", "hash", "VARCHAR", 255),
        plain("blob", "binary", "BLOB", None),
        plain("code", "string", "VARCHAR", 20, validation="/^[a-z]*$/i", unique=True),
        plain("author", "m2o", "INT", 11),
        plain("parent", "m2o", "INT", 11),
        plain("image", "file", "INT", 11),
        _list("children"),
        _list("labels"),
    ],
    "authors": [KEY, plain("status", "status", "INT", 11, options=NUMBERED_STATUS), plain("name"), _list("articles")],
    "labels": [plain("name", "string", "VARCHAR", 40, primary_key=True), plain("note"), _list("articles")],
    "articles_labels": [KEY, plain("article", "m2o", "INT", 11), plain("label", "m2o", "VARCHAR", 40)],
}
RELATIONS = [
    {"collection_many": "articles", "field_many": "author", "collection_one": "authors", "field_one": "articles"},
    {"collection_many": "articles", "field_many": "parent", "collection_one": "articles", "field_one": "children"},
    {
        "collection_many": "articles_labels",
        "field_many": "article",
        "collection_one": "articles",
        "field_one": "labels",
        "junction_field": "label",
    },
    {
        "collection_many": "articles_labels",
        "field_many": "label",
        "collection_one": "labels",
        "field_one": "articles",
        "junction_field": "article",
    },
]
SYSTEM = (
    "activity collection_presets collections fields files folders permissions relations revisions roles settings users webhooks"
).split()

PATHS = ["author.name", "parent.title", "children.title", "labels.label.name", "author.articles.title", "owner.email"]

FIELDS: dict[str, Sequence[Mapping[str, Any]]] = {**CATALOGUE.collections, **COLLECTIONS}

HOSTILE = [
    "",
    " ",
    "\x00",
    "\\",
    "%\\",
    "_",
    "%",
    "%%",
    "%s",
    "%(x)s",
    "'",
    '"',
    "''; DROP TABLE x; --",
    "\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16"),
    "\ufeff",
    "\u00b2",
    "\u0663",
    "²",
    "NaN",
    "Infinity",
    "-Infinity",
    "1e400",
    "-1",
    "03",
    "9223372036854775808",
    "2147483647",
    "99999999999999999999999999",
    "0x10",
    "1.5",
    "true",
    "null",
    "now",
    "infinity",
    "0001-01-01",
    "9999-12-31 23:59:59",
    "99999-01-01",
    "2024-02-30",
    "2024-01-01T00:00:00+14:00",
    "24:00:00",
    "[",
    "{",
    "(",
    "a" * 300,
    "é" * 200,
    "=1+1",
    "../..",
    "$shown0",
    "xmin",
    "ctid",
    "*",
    "?",
    "-",
    ".",
    "a.b",
    "1,2,3",
    "me",
    "published",
    "draft",
    "deleted",
    "1",
    "2",
]


@frozen
class Sent:
    """A request: the body is None where there is none."""

    method: str
    path: str
    role: int | None
    body: bytes | None = None
    headers: dict[str, str] = field(factory=dict)


class Fuzz:
    """Makes requests of a seed. `role` of a request: 1, 2 for the public (no token), or one of LIMITED_ROLES."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.hostility = 0.0
        """The share of the words of the present request that are hostile."""

    # words

    def one(self, *choices: Any) -> Any:
        return self.random.choice(choices)

    def some(self, choices: list[Any], most: int = 4) -> list[Any]:
        return [self.random.choice(choices) for _ in range(self.random.randint(1, most))]

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def text(self) -> str:
        return str(self.random.choice(HOSTILE)) if self.chance(self.hostility) else "".join(self.some(list("abcxyz"), 6))

    def key(self) -> str:
        return str(self.random.randint(1, 12)) if not self.chance(self.hostility / 2) else self.text()

    def field(self, collection: str | None = None) -> str:
        names = [each["field"] for each in FIELDS.get(collection or self.one(*COLLECTIONS), COLLECTIONS["articles"])]
        return self.text() if self.chance(self.hostility / 6) else str(self.random.choice(names))

    def path(self, collection: str | None = None) -> str:
        if not self.chance(self.hostility):
            return self.random.choice(PATHS) if collection == "articles" and self.chance(0.3) else self.field(collection)
        return ".".join(self.some(["author", "parent", "children", "labels", "label", "articles", "owner", "image", "name", "*"]))

    def fitting(self, collection: str, name: str) -> Any:
        """A value of the field's kind."""
        found = next((each for each in FIELDS[collection] if each["field"] == name), {})
        number = self.random.randint(0, 5)
        return {
            "integer": number,
            "sort": number,
            "m2o": number or None,
            "owner": self.one(1, 2, None),
            "file": None,
            "decimal": self.one(number, 1.5, "2.25", None),
            "boolean": self.one(True, False, None),
            "date": "2024-02-29",
            "time": "12:00:00",
            "datetime": self.one("2024-01-01 00:00:00", "2024-01-01T00:00:00Z"),
            "datetime_created": "2024-01-01 00:00:00",
            "array": self.one([], ["a", "b"]),
            "json": self.one({}, {"a": [1]}, []),
            "status": self.one("published", "draft", "deleted", 1, 2, 3),
            "o2m": [],
        }.get(found.get("type", ""), self.text())

    def value(self) -> Any:
        return self.one(
            self.text,
            self.text,
            lambda: self.random.randint(-10, 10),
            lambda: self.one(None, True, False, 1.5, 1e300, 2**31, 2**63, 2**70, -(2**63)),
            lambda: [self.text() for _ in range(3)],
            lambda: {"a": self.text(), "b": [1, None]},
        )()

    # requests

    def permissions(self, role: int) -> list[dict[str, Any]]:
        """The permissions that a role gets."""
        rows = []
        for collection in [*COLLECTIONS, *(f"directus_{name}" for name in SYSTEM)]:
            if self.chance(0.15):
                continue
            names = [each["field"] for each in COLLECTIONS.get(collection, [])]
            statuses = {"articles": ["published", "draft", "deleted"], "authors": ["1", "2", "3"]}.get(collection, [])
            for status in self.random.sample(statuses, 2) if statuses and self.chance(0.5) else [None]:
                rows.append(
                    {
                        "role": role,
                        "collection": collection,
                        "status": status,
                        **{
                            name: self.random.choice([*levels, levels[-1]])
                            for name, levels in LEVELS.items()
                            if name != "explain"
                        },
                        "explain": self.one("none", "none", "none", "update", "always"),
                        "read_field_blacklist": self.random.sample(names, 3) if names and self.chance(0.6) else [],
                        "write_field_blacklist": self.random.sample(names, 2) if names and self.chance(0.4) else [],
                        "status_blacklist": self.random.sample(statuses, 1) if statuses and self.chance(0.3) else [],
                    }
                )
        return rows

    def request(self) -> Sent:
        """The next request."""
        self.hostility = self.one(0.0, 0.0, 0.05, 0.5)
        kinds: list[tuple[float, Callable[[], tuple[str, str, Any]]]] = [
            (30, self._list),
            (15, self._one),
            (15, self._create),
            (12, self._update),
            (4, self._delete),
            (4, self._comment),
            (4, self._revert),
            (8, self._system),
            (4, self._various),
            (4, self._garbage),
        ]
        method, path, body = self.random.choices([kind for _, kind in kinds], [weight for weight, _ in kinds])[0]()
        headers = {}
        if self.chance(0.1):
            headers["If-Match"] = self.one("*", '"x"', 'W/"abc-1"', "\\", "")
        if body is None:
            raw = None
        elif isinstance(body, bytes):
            raw = body
            headers["Content-Type"] = self.one(
                "application/json",
                "application/x-www-form-urlencoded",
                "multipart/form-data; boundary=x",
                "text/plain",
                "x/y+json",
                "",
            )
        else:
            raw = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        return Sent(method, path, self.one(1, 2, *LIMITED_ROLES, *LIMITED_ROLES), raw, headers)

    def _query(self, collection: str) -> str:
        pairs: list[tuple[str, str]] = []
        if self.chance(0.6):
            pairs.append(
                ("fields", ",".join(self.one(self.path(collection), "*", "*.*", "-" + self.field(collection)) for _ in range(3)))
            )
        for _ in range(self.one(0, 0, 1, 1, 2, 3)):
            operator = self.text() if self.chance(self.hostility / 5) else self.random.choice(list(OPERATORS))
            path = self.path(collection)
            if self.hostility == 0 and path in ("children", "labels", "articles"):
                operator = self.one("has", "empty", "nempty", "eq")
            value = self.key() if path.endswith(("id", "children", "labels", "articles")) else self.text()
            pairs.append((f"filter[{path}][{operator}]", value))
            if self.chance(0.3):
                pairs.append((f"filter[{path}][logical]", "or"))
        if self.chance(0.3):
            pairs.append(("sort", ",".join(self.one("", "-") + self.field(collection) for _ in range(2))))
        for name, values in {
            "limit": ["0", "1", "5", "-1"],
            "offset": ["0", "2", "-3"],
            "page": ["1", "3", "0"],
            "single": ["1", "0"],
            "status": ["*", "published,draft", "deleted"],
            "q": [self.text()],
            "meta": ["*", "total_count,filter_count", "status_count"],
            "lang": ["en", "*"],
            "groups": [self.field(collection)],
            "export": ["csv", "json"],
            "deep[children][limit]": ["1"],
            f"deep[labels][filter][{self.path()}][eq]": [self.text()],
            f"aggregate[{self.random.choice([*FUNCTIONS])}]": [self.field(collection), "*"],
            "groupby": [self.field(collection), "status"],
            "comment": [self.text()],
            "activity_skip": ["1"],
        }.items():
            if self.chance(
                self.hostility / 10 if name.startswith("deep") else 0.04 if name.startswith(("group", "agg")) else 0.1
            ):
                pairs.append((name, self.text() if self.chance(self.hostility) else self.random.choice(values)))
        return urllib.parse.urlencode(pairs, errors="replace")

    def _items(self) -> tuple[str, str]:
        if self.chance(0.75):
            collection = self.one(*COLLECTIONS)
            return collection, f"/{PROJECT}/items/{collection}"
        name = self.random.choice(SYSTEM)
        return f"directus_{name}", f"/{PROJECT}/{name}"

    def _keys(self) -> str:
        return urllib.parse.quote(",".join(self.key() for _ in range(self.one(1, 1, 1, 2, 3))), safe=",", errors="replace")

    def _list(self) -> tuple[str, str, Any]:
        collection, path = self._items()
        return self.one("GET", "GET", "GET", "HEAD"), f"{path}?{self._query(collection)}", None

    def _one(self) -> tuple[str, str, Any]:
        collection, path = self._items()
        below = self.one("", "", "", "/revisions", f"/revisions/{self.key()}")
        return "GET", f"{path}/{self._keys()}{urllib.parse.quote(below, errors='replace')}?{self._query(collection)}", None

    def payload(self, collection: str, depth: int = 0) -> Any:
        """A payload for an item, nested now and then."""
        if self.chance(self.hostility / 10):
            return self.value()
        payload: dict[str, Any] = {}
        names = {each["field"] for each in COLLECTIONS.get(collection, ())}
        for _ in range(self.random.randint(0, 5)):
            name = self.field(collection) if collection in FIELDS else self.text()
            tame = collection in FIELDS and not self.chance(self.hostility)
            payload[name] = self.fitting(collection, name) if tame else self.value()
        if self.chance(0.7) and collection == "articles":
            payload.setdefault("title", self.text())
        if self.chance(0.3) and collection in ("articles", "authors"):
            payload["status"] = self.one(
                "published", "draft", "deleted", 1, 2, *(["03", True, self.text()] if self.hostility else [])
            )
        known = names or {"title"}
        if self.chance(self.hostility):
            known |= {"author", "parent", "label", "article", "owner", "children", "labels", "articles"}
        if depth < 3:
            targets = {"author": "authors", "parent": "articles", "label": "labels", "article": "articles", "owner": "x"}
            for name, target in targets.items():
                if name in known and self.chance(0.15):
                    payload[name] = self.payload(target, depth + 1)
            for name, target in {"children": "articles", "labels": "articles_labels", "articles": "articles"}.items():
                if name in known and self.chance(0.15):
                    payload[name] = [self.payload(target, depth + 1) for _ in range(self.one(0, 1, 2))]
        if self.chance(0.1):
            payload["id"] = self.one(self.key(), self.random.randint(1, 12), 2**31 - 1)
        if self.chance(0.05):
            payload["$delete"] = self.one(True, False, 1)
        return payload

    def _create(self) -> tuple[str, str, Any]:
        collection, path = self._items()
        several = self.chance(0.25)
        body = [self.payload(collection) for _ in range(self.one(0, 1, 3))] if several else self.payload(collection)
        return "POST", f"{path}?{self._query(collection)}", body

    def _update(self) -> tuple[str, str, Any]:
        collection, path = self._items()
        if self.chance(0.2):
            return "PATCH", path, [self.payload(collection) for _ in range(2)]
        return "PATCH", f"{path}/{self._keys()}?{self._query(collection)}", self.payload(collection)

    def _delete(self) -> tuple[str, str, Any]:
        _, path = self._items()
        return "DELETE", f"{path}/{self._keys()}", None

    def _comment(self) -> tuple[str, str, Any]:
        path = f"/{PROJECT}/activity/comment"
        if self.chance(0.5):
            collection, _ = self._items()
            return "POST", path, {"collection": collection, "item": self.one(self.key(), 3), "comment": self.text()}
        return self.one("PATCH", "DELETE"), f"{path}/{self._keys()}", {"comment": self.value()}

    def _revert(self) -> tuple[str, str, Any]:
        collection, path = self._items()
        return "PATCH", f"{path}/{self._keys()}/revert/{self._keys()}?{self._query(collection)}", {}

    def _system(self) -> tuple[str, str, Any]:
        name = urllib.parse.quote(self.text(), safe="", errors="replace") or "x"
        collection = self.one(*COLLECTIONS, "directus_users", name)
        return self.one(
            ("GET", f"/{PROJECT}/collections?{self._query('articles')}", None),
            ("GET", f"/{PROJECT}/collections/{collection}", None),
            ("POST", f"/{PROJECT}/collections", {"collection": self.text(), "fields": [self.value()]}),
            ("PATCH", f"/{PROJECT}/collections/{collection}", self.value()),
            ("GET", f"/{PROJECT}/fields/{collection}/{name}", None),
            ("POST", f"/{PROJECT}/fields/{collection}", self._field_payload()),
            ("PATCH", f"/{PROJECT}/fields/{collection}", [self.value()]),
            ("GET", f"/{PROJECT}/permissions/me", None),
            (
                "GET",
                f"/{PROJECT}/permissions/explain?collection={collection}&action={self.one('read', 'delete', name)}&item={name}",
                None,
            ),
            ("POST", f"/{PROJECT}/permissions/import?dry_run=1", {"roles": self.value()}),
            ("GET", f"/{PROJECT}/specs/oas", None),
            ("GET", f"/{PROJECT}/settings/fields?{self._query('articles')}", None),
            ("GET", f"/{PROJECT}/users/me?{self._query('directus_users')}", None),
            ("PATCH", f"/{PROJECT}/users/{self._keys()}/tracking/page", {"last_page": self.value()}),
        )

    def _field_payload(self) -> Any:
        return {
            "field": self.text(),
            "type": self.one("string", "integer", "decimal", "json", self.text()),
            "datatype": self.one("VARCHAR", "INT", "DECIMAL", "TEXT", self.text()),
            "length": self.one(10, "10,2", None, self.text(), -1),
            "default_value": self.value(),
        }

    def _various(self) -> tuple[str, str, Any]:
        text = self.text()
        return self.one(
            ("POST", f"/{PROJECT}/auth/authenticate", {"email": text, "password": text}),
            ("POST", f"/{PROJECT}/auth/authenticate", {"email": "admin@example.com", "password": self.value()}),
            ("POST", f"/{PROJECT}/utils/hash", {"string": text, "hasher": self.one("md5", "sha256", text)}),
            ("POST", f"/{PROJECT}/utils/hash/match", {"string": text, "hash": text}),
            ("POST", f"/{PROJECT}/utils/random/string", {"length": self.one(text, 5, -1, 2**70, True)}),
            ("GET", f"/{PROJECT}?x={urllib.parse.quote(text, errors='replace')}", None),
            ("GET", "/server/info?super_admin_token=" + urllib.parse.quote(text, errors="replace"), None),
            ("POST", "/server/projects", {"project": text, "super_admin_token": text}),
            ("GET", "/types?project=" + urllib.parse.quote(text, errors="replace"), None),
        )

    def _garbage(self) -> tuple[str, str, Any]:
        data = bytes(self.random.choices(range(256), k=self.random.randint(0, 60)))
        body = self.one(
            data, b"[" * 500, b'{"a":' * 300 + b"1", b'{"title": "\\ud800"}', b"--x\r\n\r\nx\r\n--x--", b"a[b][c]=1&a=2&a[]=3"
        )
        junk = urllib.parse.quote(data[:20], safe="/")
        path = self.one(f"/{PROJECT}/items/articles", f"/{PROJECT}/{junk}", f"/{junk}", f"/{PROJECT}/items/{junk}/{junk}")
        return self.one("GET", "POST", "PATCH", "DELETE", "PUT", "OPTIONS"), path, body
