"""The examples of docs/hooks.rst and docs/plugins.rst: each is loaded as a plugin, and its hooks are seen to do what the page says."""

import pathlib
import re
import textwrap
from types import ModuleType

from pytest_twisted import ensureDeferred

from directus_tx.plugins import hookspecs
from tests.conftest import Client, field

DOCS = pathlib.Path(__file__).parents[2] / "docs"


def examples(page: str) -> dict[str, ModuleType]:
    """The examples of a page by the headings that they are under."""
    text = (DOCS / page).read_text()
    found: dict[str, ModuleType] = {}
    for place in re.finditer(r"^\.\. code-block:: python\n\n((?:    .*\n|\n)+)", text, re.MULTILINE):
        heading = re.findall(r"^(.+)\n[-=]{4,}$", text[: place.start()], re.MULTILINE)[-1]
        module = ModuleType(heading)
        exec(compile(textwrap.dedent(place[1]), f"docs/{page}", "exec"), vars(module))
        found[heading] = module
    return found


def test_each_hook_is_in_an_example() -> None:
    specified = {name for name, each in vars(hookspecs).items() if hasattr(each, f"{hookspecs.PROJECT}_spec")}
    shown = {name for module in examples("hooks.rst").values() for name in vars(module)}
    assert specified - shown == set()


@ensureDeferred
async def test_the_examples_do_what_the_page_says(client: Client) -> None:
    await client.collection("notes", field("text"))
    await client.collection("articles", field("body", length=1000), field("teaser"))
    modules = examples("hooks.rst")
    for heading, module in modules.items():
        client.backend.plugins.register(module, heading)

    assert (await client.post("~/items/articles", {"body": "b" * 300})).data["teaser"] == "b" * 200

    # Collections and fields.
    changes = modules["Collections and fields"].changes
    await client.collection("orders", field("number"), field("former_number"))
    assert (await client.post("~/collections", {"collection": "Orders2", "fields": [field("a")]})).status == 422
    for path, body, status in (
        ("~/collections/orders", {"hidden": True}, 422),
        ("~/collections/orders", {"note": "n"}, 200),
        ("~/fields/orders/number", {"hidden_browse": True}, 422),
        ("~/fields/orders/number", {"note": "n"}, 200),
    ):
        assert (await client.patch(path, body)).status == status
    assert (await client.post("~/fields/orders", field("extra", note=""))).status == 422
    assert (await client.post("~/fields/orders", field("extra"))).status == 200
    assert (await client.delete("~/fields/orders/number")).status == 422
    assert (await client.delete("~/fields/orders/extra")).status == 204
    assert changes == ["+ orders", "* orders", "* orders.number", "+ orders.extra", "- orders.extra"]

    # Items.
    orders = modules["Creating, updating and deleting items"].orders
    levels = {"create": "full", "read": "full", "update": "full", "delete": "full"}
    await client.post("~/permissions", {"collection": "orders", "role": 2, **levels})
    assert (await client.post("~/items/orders", {"number": " a1 "})).data["number"] == "A1"
    assert (await client.post("~/items/orders", {})).status == 422
    assert (await client.patch("~/items/orders/1", {"number": "A2"})).data["former_number"] == "A1"
    assert (await client.patch("~/items/orders/1", {"number": "A3"}, token=None)).status == 403
    assert orders == {1: {"number": "A2", "former_number": "A1"}}
    await client.post("~/items/orders", {"number": "p1"})
    assert (await client.delete("~/items/orders/2")).status == 403
    assert (await client.delete("~/items/orders/1")).status == 204
    assert list(orders) == [2]
    assert [note["text"] for note in (await client.get("~/items/notes?sort=id")).data] == [
        "create id 1",
        "update id 1",
        "create id 2",
        "order 1 is deleted",
        "delete id 1",
    ]

    # Reading and answers.
    seen = modules["Reading items"].seen
    seen.clear()
    answer = await client.get("~/items/orders")
    assert [(item["number"], item["label"]) for item in answer.data] == [("P1", "No. P1")]
    assert answer.headers["x-project"] == client.project
    assert "server_time" in answer.json["meta"]
    assert seen == [(1, 1)]
    assert (await client.get("~/items/orders?q=P", token=None)).status == 403
    assert (await client.delete("~/collections/orders")).status == 422
    await client.collection("empty", field("a"))
    assert (await client.delete("~/collections/empty")).status == 204
    assert changes[-2:] == ["+ empty", "- empty"]

    # Files.
    files = modules["Files"]

    async def upload(name: str, data: bytes) -> int:
        head = f'--x\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'.encode()
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        return (await client.post("~/files", head + data + b"\r\n--x--\r\n", headers=headers)).status

    assert [await upload("logo.txt", b"hello"), await upload("other.txt", b"hello!")] == [200, 200]
    assert files.sizes == {1: 5, 2: 6}
    files.refused.add("ce06092fb948d9ffac7d1a376e404b26b7575bcc11ee05a4615fef4fec3a308b")
    assert await upload("again.txt", b"hello!") == 422
    assert (await client.delete("~/files/1")).status == 403
    assert (await client.delete("~/files/2")).status == 204
    assert files.sizes == {1: 5}

    # Signing in.
    for password in ("password", "wrong"):
        await client.post("~/auth/authenticate", {"email": "admin@example.com", "password": password}, token=None)
    attempts = modules["Signing in"].attempts
    assert attempts == [(client.project, 1, None), (client.project, "admin@example.com", 100)]

    # The server.
    reported = modules["The server"].reported
    await client.backend.plugins.tell("application_boot", None)
    client.backend.plugins.report("application_error", None, error=ValueError("x"), request_id="r1")
    assert reported == ["started", "r1: ValueError"]

    failures = {each["name"]: hook for each in client.backend.plugins.shown() for hook in each["hooks"] if hook["failures"]}
    assert failures == {}
    uncalled = {hook["hook"] for each in client.backend.plugins.shown() for hook in each["hooks"] if not hook["calls"]}
    assert uncalled == set()


@ensureDeferred
async def test_the_example_of_the_page_on_plugins_makes_teasers(client: Client) -> None:
    await client.collection("articles", field("body", length=1000), field("teaser"))
    module = examples("plugins.rst")["Plugins"]
    client.backend.plugins.register(module, "teaser")
    assert (await client.post("~/items/articles", {"body": "b" * 300})).data["teaser"] == "b" * 200
