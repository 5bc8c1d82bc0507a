"""Values of settings: of the kind that the setting needs, or refused by its name."""

import base64
from typing import Any

import pytest
from pytest_twisted import ensureDeferred

from directus_tx.schema.system import CATALOGUE
from tests.conftest import Client

FITTING: dict[str, list[Any]] = {
    "string": ["x", "2026", 2026, 1.5, "", None],
    "integer": [0, 60, -1, "15", " 7 ", 3.0, "", None],
    "boolean": [True, False, 1, 0, "true", "0", "", None],
    "array": [[], ["a", "b"], "a,b", [1], "", None],
    "json": [[], {}, [{"key": "a"}], "[]", '{"a": 1}', "", None],
    "file": ["", None],
}
UNFIT: dict[str, list[Any]] = {
    "string": [["x"], {"a": 1}, True],
    "integer": ["abc", "1.5", 1.5, True, [1], {"id": 1}, "9" * 30],
    "boolean": ["yes please", 2, [True], {"a": 1}],
    "array": [1, True, {"a": 1}, [["a"]], [{"a": 1}], [None]],
    "json": ["{", "abc", "1", 1, True],
    "file": [[1], True, "abc", {"name": "x"}, {"id": "x"}],
}


async def ids(client: Client) -> dict[str, int]:
    rows = (await client.get("~/settings?fields=id,key&limit=-1")).data
    return {row["key"]: row["id"] for row in rows}


@ensureDeferred
async def test_every_setting_takes_values_of_its_kind_only_and_names_itself(client: Client) -> None:
    known = await ids(client)
    for setting in CATALOGUE.setting_fields:
        key, kind = setting["field"], setting["type"]
        if key not in known:
            made = await client.post("~/settings", {"key": key, "value": None})
            known[key] = made.data["id"]
        for value in FITTING[kind]:
            assert (await client.patch(f"~/settings/{known[key]}", {"value": value})).status == 200, (key, value)
        before = (await client.get(f"~/settings/{known[key]}")).data
        for value in UNFIT[kind]:
            refused = await client.patch(f"~/settings/{known[key]}", {"value": value})
            assert (refused.status, refused.code) == (422, 4), (key, value)
            assert f'"{key}" takes ' in refused.json["error"]["message"]
        assert (await client.get(f"~/settings/{known[key]}")).data == before


@ensureDeferred
async def test_batches_and_new_settings_are_checked_and_write_nothing_when_one_is_refused(client: Client) -> None:
    known = await ids(client)
    batch = [{"id": known["project_name"], "value": "Renamed"}, {"id": known["default_limit"], "value": "many"}]
    assert (await client.patch("~/settings", batch)).status == 422
    assert (await client.get(f"~/settings/{known['project_name']}")).data["value"] == "Test"
    await client.delete(f"~/settings/{known['default_limit']}")
    assert (await client.post("~/settings", {"key": "default_limit", "value": ["x"]})).status == 422
    assert (await client.post("~/settings", {"key": "default_limit", "value": 5})).status == 200


@ensureDeferred
async def test_settings_of_other_programs_take_any_value(client: Client) -> None:
    for number, value in enumerate(["x", 1, True, ["a"], {"a": [1]}, None]):
        made = await client.post("~/settings", {"key": f"own_{number}", "value": value})
        assert made.status == 200, value


@ensureDeferred
async def test_renaming_a_setting_does_not_bring_a_value_of_the_wrong_kind(client: Client) -> None:
    known = await ids(client)
    await client.delete(f"~/settings/{known['default_limit']}")
    own = (await client.post("~/settings", {"key": "own", "value": "abc"})).data["id"]
    assert (await client.patch(f"~/settings/{own}", {"key": "default_limit"})).status == 422
    assert (await client.patch(f"~/settings/{own}", {"key": "default_limit", "value": 7})).status == 200


@pytest.mark.parametrize(("sent", "listed"), [("true", True), ("0", False), (1, True), (False, False)])
@ensureDeferred
async def test_a_boolean_is_stored_as_what_it_means(client: Client, sent: Any, listed: bool) -> None:
    known = await ids(client)
    assert (await client.patch(f"~/settings/{known['sort_null_last']}", {"value": sent})).data["value"] is listed
    assert (await client.get("~/settings?filter[key]=sort_null_last")).data[0]["value"] is listed


@ensureDeferred
async def test_files_are_shown_as_objects_to_callers_who_may_read_them(client: Client) -> None:
    known = await ids(client)
    made = {"filename_disk": "a.txt", "filename_download": "a.txt", "title": "Logo", "data": base64.b64encode(b"text").decode()}
    file = (await client.post("~/files", made)).data["id"]
    for key, value in (("project_logo", file), ("project_background", {"id": file}), ("project_foreground", "")):
        answer = await client.patch(f"~/settings/{known[key]}?fields=value", {"value": value})
        assert answer.data == {"value": None} if value == "" else answer.data["value"]["title"] == "Logo"
    names = "filter[key][in]=project_logo,project_background,project_foreground&fields=value"
    shown = [row["value"] for row in (await client.get(f"~/settings?{names}&sort=id")).data]
    assert [value and (value["id"], value["title"], value["type"]) for value in shown] == [
        (file, "Logo", "text/plain"),
        None,
        (file, "Logo", "text/plain"),
    ]
    assert (await client.get(f"~/settings/{known['project_logo']}")).data["value"] == str(file)
    # Whoever may not read files sees the key, and so does everybody if there is no such file any more.
    role = (await client.post("~/roles", {"name": "Readers"})).data["id"]
    for row in (await client.get(f"~/permissions?filter[role]={role}&filter[collection]=directus_files&fields=id")).data:
        assert (await client.delete(f"~/permissions/{row['id']}")).status == 204
    await client.post("~/permissions", {"collection": "directus_settings", "role": role, "read": "full"})
    reader = {"email": "reader@example.com", "password": "x", "role": role, "status": "active", "token": "reader-token"}
    assert (await client.post("~/users", reader)).status == 200
    listed = (await client.get(f"~/settings?{names}&sort=id", token="reader-token")).data
    assert [row["value"] for row in listed] == [str(file), None, str(file)]
    assert (await client.delete(f"~/files/{file}")).status == 204
    assert [row["value"] for row in (await client.get(f"~/settings?{names}&sort=id")).data] == [str(file), None, str(file)]
