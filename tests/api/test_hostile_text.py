"""Random texts of a nasty alphabet as names, defaults, lengths, values, filters and keys: nothing fails the server."""

import random
from typing import Any
from urllib.parse import quote

import orjson
from pytest_twisted import ensureDeferred

from tests.conftest import KEY, Client, Reply, field

ALPHABET = [
    *"abzA019 _-.,;:/\\?#%&=+*!~^|<>()[]{}'\"`$@\n\r\t\x00\x01\x1f\x7f\x80\x85\xa0\u00ad\u200b\u2028\u202e\ufeff\ufffe\uffff²³٣½äßİıΩ名😀",
    "%s", "%%", "%(x)s", "{}", "{0}", "''", '""', "--", "/*", "*/", "$$", "$1", "::", "\\u0000", "\\x00", "E'", "U&'", "NULL", "now()",
    "DEFAULT", "1e400", "-0", "NaN", "infinity", "2024-02-30", "24:00:00", "٢٠٢٤-٠١-٠١", "9" * 30, "0x1f", "true", "..", "%2F", "%00",
]  # fmt: skip
DATATYPES: list[tuple[str, str | None, Any]] = [
    ("string", "VARCHAR", 40), ("string", "TEXT", None), ("string", "CHAR", 3), ("string", "ENUM", "'a','b%'"), ("array", "VARCHAR", 40),
    ("json", "TEXT", None), ("integer", "INT", 11), ("integer", "SMALLINT", None), ("integer", "BIGINT", None), ("integer", "YEAR", None),
    ("decimal", "DECIMAL", "10,2"), ("decimal", "DOUBLE", None), ("boolean", "TINYINT", 1), ("date", "DATE", None), ("time", "TIME", None),
    ("datetime", "DATETIME", None), ("binary", "BLOB", None), ("uuid", "VARCHAR", 36), ("slug", "VARCHAR", 20), ("status", "VARCHAR", 20),
    ("lang", "VARCHAR", 8), ("hash", "VARCHAR", 255), ("sort", "INT", None), ("m2o", "INT", None), ("file", "INT", None),
    ("owner", "INT", None),
]  # fmt: skip


class Texts:
    """Random texts and values, the same in each run."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def text(self, most: int = 12) -> str:
        return "".join(self.random.choices(ALPHABET, k=self.random.randint(1, most)))

    def name(self) -> str:
        """A text that may be a name, more often than not."""
        if self.random.random() < 0.1:
            return self.text(8)
        letters = [each for each in ALPHABET if each.isprintable() and not set(each) & set("/,.[]")]
        return "a" + "".join(self.random.choices(letters, k=self.random.randint(0, 4))).rstrip()

    def value(self, depth: int = 0) -> Any:
        kind = self.random.randrange(12 if depth < 3 else 8)
        if kind < 5:
            return self.text()
        if kind == 5:
            return self.random.choice([0, -1, 1, 2**31, 2**63, -(2**63) - 1, 10**40, 1.5, -0.0, 1e308, 5e-324])
        if kind < 8:
            return self.random.choice([None, True, False, "", " "])
        if kind < 10:
            return [self.value(depth + 1) for _ in range(self.random.randrange(3))]
        return {self.text(4): self.value(depth + 1) for _ in range(self.random.randrange(3))}

    def choice(self, values: Any) -> Any:
        return self.random.choice(values)


class Asked:
    """Sends requests, and fails where an answer is none to a client's own fault. `statuses` counts the answers."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.statuses: dict[int, int] = {}

    async def send(self, method: str, path: str, body: Any = ...) -> Reply:
        sent = body if body is ... else orjson.dumps(body) if _is_json(body) else repr(body).encode()
        answer = await self.client.call(method, path, sent)
        self.statuses[answer.status] = self.statuses.get(answer.status, 0) + 1
        assert answer.status < 500, (method, path, body, answer.body)
        if answer.status >= 400:
            assert answer.code > 0
            assert not [word for word in ("psycopg", "LINE 1", "SQLSTATE", "pg_") if word in answer.json["error"]["message"]]
        return answer


def _is_json(value: Any) -> bool:
    try:
        orjson.dumps(value)
    except (TypeError, ValueError):
        return False
    return True


def part(text: str) -> str:
    return quote(text, safe="", errors="surrogatepass")


@ensureDeferred
async def test_collections_and_fields_of_random_names_and_attributes(client: Client) -> None:
    texts, asked = Texts(1), Asked(client)
    made: dict[str, list[str]] = {}
    for _ in range(60):
        name = texts.name()
        names = [texts.name() for _ in range(3)]
        fields = [field(each, default_value=texts.choice([None, texts.text()])) for each in names]
        answer = await asked.send("POST", "~/collections", {"collection": name, "note": texts.text(40), "fields": [KEY, *fields]})
        if answer.status == 200:
            made[name] = names
    await client.collection("plain", field("a"))
    made["plain"] = ["a"]
    assert len(made) > 5
    for _ in range(150):
        name = texts.choice(list(made))
        kind, datatype, length = texts.choice(DATATYPES)
        payload: dict[str, Any] = {"field": texts.name(), "type": kind, "datatype": datatype, "length": length}
        for attribute in (
            "default_value",
            "length",
            "datatype",
            "type",
            "options",
            "validation",
            "unique",
            "note",
            "interface",
            "width",
        ):
            if texts.random.random() < 0.2:
                payload[attribute] = texts.value()
        answer = await asked.send("POST", f"~/fields/{part(name)}", payload)
        if answer.status == 200:
            made[name].append(payload["field"])
        changed = {
            texts.choice(["default_value", "length", "datatype", "type", "unique", "required", "note", "sort"]): texts.value()
        }
        await asked.send("PATCH", f"~/fields/{part(name)}/{part(texts.choice(made[name]))}", changed)
        await asked.send(
            "PATCH", f"~/collections/{part(name)}", {texts.choice(["note", "icon", "hidden", texts.text()]): texts.value()}
        )
    for name, fields in made.items():
        item = {texts.choice(fields): texts.value() for _ in range(3)}
        answer = await asked.send("POST", f"~/items/{part(name)}", item)
        asked_for = ",".join(part(each) for each in fields)
        await asked.send(
            "GET", f"~/items/{part(name)}?fields={asked_for}&sort={asked_for}&filter[{part(fields[0])}]={part(texts.text())}"
        )
        if answer.status == 200:
            await asked.send("PATCH", f"~/items/{part(name)}/1", {texts.choice(fields): texts.value()})
        await asked.send("DELETE", f"~/fields/{part(name)}/{part(fields[0])}")
        await asked.send("DELETE", f"~/collections/{part(name)}")
    assert {200, 204, 422} <= asked.statuses.keys()
    assert asked.statuses[200] > 150, asked.statuses


@ensureDeferred
async def test_values_filters_and_options_of_random_texts(client: Client) -> None:
    texts, asked = Texts(2), Asked(client)
    fields = [field(f"f{number}", kind, datatype or "", length) for number, (kind, datatype, length) in enumerate(DATATYPES)]
    statuses = {"status_mapping": {"a": {"name": "a"}, "b": {"name": "b", "soft_delete": True}}}
    for each in fields:
        if each["type"] == "status":
            each["options"] = statuses
    await client.collection("t", *fields)
    names = [each["field"] for each in fields]
    operators = [
        "eq",
        "neq",
        "lt",
        "gte",
        "in",
        "nin",
        "between",
        "nbetween",
        "contains",
        "rlike",
        "null",
        "empty",
        "has",
        "all",
        texts.text(),
    ]
    parameters = [
        "limit",
        "offset",
        "page",
        "single",
        "status",
        "q",
        "meta",
        "lang",
        "groups",
        "groupby",
        "aggregate[max]",
        "deep[f1][limit]",
    ]
    written = 0
    for number in range(250):
        payload = {texts.choice(names): texts.value() for _ in range(texts.random.randrange(1, 4))}
        answer = await asked.send("POST", "~/items/t", payload)
        written += answer.status == 200
        if number % 2:
            key = str(texts.choice([1, written, texts.text()]))
            await asked.send("PATCH", f"~/items/t/{part(key)}", payload)
        name = texts.choice([*names, texts.text()])
        await asked.send(
            "GET", f"~/items/t?filter[{part(name)}][{part(texts.choice(operators))}]={part(texts.text())}&sort={part(name)}"
        )
        await asked.send(
            "GET",
            f"~/items/t?{texts.choice(parameters)}={part(texts.text())}&fields={part(texts.choice([name, '*', texts.text()]))}",
        )
        for path in (
            "~/items/t/{}",
            "~/items/{}",
            "~/items/{}/{}",
            "~/fields/t/{}",
            "~/collections/{}",
            "~/revisions/{}",
            "~/users/{}",
        ):
            await asked.send("GET", path.format(part(texts.text()), part(texts.text())))
    assert written > 20
    for kind in (
        "/folders",
        "/roles",
        "/permissions",
        "/collection_presets",
        "/relations",
        "/webhooks",
        "/settings",
        "/activity/comment",
    ):
        for _ in range(10):
            names = [
                "name",
                "collection",
                "title",
                "key",
                "value",
                "role",
                "status",
                "description",
                "comment",
                "item",
                texts.text(),
            ]
            await asked.send("POST", f"~{kind}", {texts.choice(names): texts.value() for _ in range(3)})
    assert {200, 404, 422} <= asked.statuses.keys()


@ensureDeferred
async def test_halves_of_surrogates_and_wrong_utf_8_are_refused(client: Client) -> None:
    await client.collection("t", field("a"), field("b", "json", "TEXT", None))
    for text in (
        b'"\\ud800"',
        b'"\\udfff\\ud800"',
        b'"\xed\xa0\x80"',
        b'"\xff"',
        b'"a\x00"',
        b'"\\u0000"',
        b'{"\\ud800": 1}',
        b'["\\udc00"]',
    ):
        for path in ("~/items/t", "~/folders", "~/collections", "~/fields/t", "~/auth/authenticate"):
            body = b'{"a": ' + text + b', "collection": ' + text + b', "field": ' + text + b', "name": ' + text + b"}"
            answer = await client.post(path, body)
            assert answer.status in (400, 422), (path, text)
        form = {"Content-Type": "application/x-www-form-urlencoded"}
    for text in ("%ED%A0%80", "%FF", "%00", "a%C3", "%C0%80"):
        answer = await client.call("POST", "~/items/t", f"a={text}".encode(), headers=form)
        assert answer.status in (400, 422), text
        for path in (
            f"~/items/t?filter[a]={text}",
            f"~/items/t?{text}=1",
            f"~/items/t?fields={text}",
            f"~/items/t/{text}",
            f"~/items/{text}",
        ):
            answer = await client.get(path)
            assert answer.status in (400, 404, 422), path
    assert (await client.get("~/items/t")).data == []
