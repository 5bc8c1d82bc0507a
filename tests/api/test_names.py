"""Names, defaults and values of every character: each is stored as it is, or refused by name; none fails the server."""

from urllib.parse import quote

from pytest_twisted import ensureDeferred

from tests.conftest import Client, field

TEXTS = [
    "50%",
    "50%%",
    "%%",
    "%s",
    "%(x)s",
    "100%% of %s and %d",
    "%%%",
    "{}",
    "{0}",
    "it's",
    "a\\b",
    'q"q',
    "E'x'",
    "\n\t",
    "ä%",
]


@ensureDeferred
async def test_a_default_is_kept_character_by_character(client: Client) -> None:
    number = field("n", "integer", "INT", 11)
    await client.collection("t", number, *(field(f"a{n}", default_value=text) for n, text in enumerate(TEXTS)))
    for n, text in enumerate(TEXTS):
        made = await client.post("~/fields/t", field(f"b{n}", default_value=text))
        assert (made.status, made.data["default_value"]) == (200, text)
        # Of another field, to a longer text; of this one, to what it is.
        changed = await client.patch(f"~/fields/t/a{n}", {"default_value": text + "!"})
        assert (changed.status, changed.data["default_value"]) == (200, text + "!")
        again = await client.patch(f"~/fields/t/b{n}", {"note": "the same", "default_value": text})
        assert (again.status, again.data["default_value"]) == (200, text)
    item = (await client.post("~/items/t", {"n": 1})).data
    for n, text in enumerate(TEXTS):
        assert (item[f"a{n}"], item[f"b{n}"]) == (text + "!", text)
        found = await client.get(f"~/items/t?filter[b{n}][eq]={quote(text, safe='')}&fields=n")
        assert found.data == [{"n": 1}], text


@ensureDeferred
async def test_the_values_of_an_enum_are_kept_character_by_character(client: Client) -> None:
    length = ",".join("'{}'".format(text.replace("'", "''")) for text in TEXTS)
    await client.collection("t", field("kind", datatype="ENUM", length=length, default_value=TEXTS[1]))
    assert (await client.get("~/fields/t/kind")).data["length"] == length
    assert (await client.post("~/items/t", {})).data["kind"] == TEXTS[1]
    for text in TEXTS:
        assert (await client.post("~/items/t", {"kind": text})).data["kind"] == text
        assert (await client.post("~/items/t", {"kind": text + "?"})).code == 4
