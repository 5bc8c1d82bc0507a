"""The requests that Okta and Microsoft Entra ID document, in their order."""

from typing import Any
from uuid import uuid4

from pytest_twisted import ensureDeferred

from tests.api.accounts import execute
from tests.api.scim import ENTERPRISE, GROUP, PATCH, USER, filtered, scim
from tests.conftest import Client, Reply

OKTA = {"Accept": "application/scim+json", "Content-Type": "application/scim+json; charset=utf-8"}


async def okta(client: Client, method: str, path: str, body: Any = ..., status: int = 200) -> Reply:
    answer = await scim(client, method, path, body, headers=OKTA if body is not ... else None)
    assert answer.status == status, answer.body
    return answer


@ensureDeferred
async def test_okta_provisions_users(client: Client) -> None:
    assert (await okta(client, "GET", "/Users?startIndex=1&count=2")).json["totalResults"] == 1
    search = filtered("Users", 'userName eq "test.user@okta.local"') + "&startIndex=1&count=100"
    nobody = (await okta(client, "GET", search)).json
    assert (nobody["totalResults"], nobody["startIndex"], nobody["itemsPerPage"]) == (0, 1, 0)
    user: dict[str, Any] = {
        "schemas": [USER],
        "userName": "test.user@okta.local",
        "name": {"givenName": "Test", "familyName": "User"},
        "emails": [{"primary": True, "value": "test.user@okta.local", "type": "work"}],
        "displayName": "Test User",
        "locale": "en-US",
        "externalId": "00ujl29u0le5T6Aj10h7",
        "groups": [],
        "password": "1mz050nq",
        "active": True,
    }
    made = (await okta(client, "POST", "/Users", user, 201)).json
    assert made["externalId"] == "00ujl29u0le5T6Aj10h7"
    assert (made["active"], made["displayName"]) == (True, "Test User")
    conflict = await okta(client, "POST", "/Users", user, 409)
    assert conflict.json["scimType"] == "uniqueness"
    read = (await okta(client, "GET", f"/Users/{made['id']}")).json
    assert read == made
    changed = (
        await okta(client, "PUT", f"/Users/{made['id']}", read | {"name": {"givenName": "Another", "familyName": "User"}})
    ).json
    assert (changed["name"]["givenName"], changed["id"]) == ("Another", made["id"])
    body = {"schemas": [PATCH], "Operations": [{"op": "replace", "value": {"active": False}}]}
    assert (await okta(client, "PATCH", f"/Users/{made['id']}", body)).json["active"] is False
    assert (await okta(client, "GET", search)).json["Resources"][0]["active"] is False
    assert (await okta(client, "PUT", f"/Users/{made['id']}", read)).json["active"] is True


@ensureDeferred
async def test_okta_pushes_groups(client: Client) -> None:
    ids = []
    for name in ("ann", "bob"):
        body = {"schemas": [USER], "userName": f"{name}@okta.local", "active": True}
        ids.append((await okta(client, "POST", "/Users", body, 201)).json["id"])
    assert (await okta(client, "GET", "/Groups?startIndex=1&count=100")).json["totalResults"] == 2
    search = filtered("Groups", 'displayName eq "Test SCIMv2"') + "&startIndex=1&count=100"
    assert (await okta(client, "GET", search)).json["Resources"] == []
    group = {"schemas": [GROUP], "displayName": "Test SCIMv2", "members": [{"value": ids[0], "display": "ann@okta.local"}]}
    made = (await okta(client, "POST", "/Groups", group, 201)).json
    assert [each["value"] for each in made["members"]] == ids[:1]
    renamed = {"op": "replace", "value": {"id": made["id"], "displayName": "Test SCIMv2-1"}}
    body = {"schemas": [PATCH], "Operations": [renamed]}
    assert (await okta(client, "PATCH", f"/Groups/{made['id']}", body)).json["displayName"] == "Test SCIMv2-1"
    operations = [
        {"op": "remove", "path": f'members[value eq "{ids[0]}"]'},
        {"op": "add", "path": "members", "value": [{"value": ids[1], "display": "bob@okta.local"}]},
    ]
    changed = (await okta(client, "PATCH", f"/Groups/{made['id']}", {"schemas": [PATCH], "Operations": operations})).json
    assert [each["value"] for each in changed["members"]] == ids[1:]
    # Unlinking with "push now" sends the whole group.
    whole = {"op": "replace", "path": "members", "value": [{"value": id} for id in ids]}
    changed = (await okta(client, "PATCH", f"/Groups/{made['id']}", {"schemas": [PATCH], "Operations": [whole]})).json
    assert [each["value"] for each in changed["members"]] == ids
    assert (await okta(client, "GET", f"/Users/{ids[0]}")).json["groups"][0]["value"] == made["id"]
    await okta(client, "DELETE", f"/Groups/{made['id']}", status=204)
    await okta(client, "GET", f"/Groups/{made['id']}", status=404)
    assert "groups" not in (await okta(client, "GET", f"/Users/{ids[0]}")).json


async def entra(client: Client, path: str, *operations: dict[str, Any]) -> Any:
    answer = await scim(client, "PATCH", path, {"schemas": [PATCH], "Operations": list(operations)})
    assert answer.status in (200, 204), answer.body
    return answer.json


@ensureDeferred
async def test_entra_id_provisions_users(client: Client) -> None:
    # The test of the connection looks for a user that does not exist.
    probe = await scim(client, "GET", filtered("Users", f'userName eq "{uuid4()}"'))
    assert (probe.status, probe.json["totalResults"], probe.json["Resources"]) == (200, 0, [])
    assert (await scim(client, "GET", "/Schemas")).json["totalResults"] == 3
    name = f"Test_User_{uuid4()}@testuser.com"
    user = {
        "schemas": [USER, ENTERPRISE],
        "externalId": "0a21f0f2-8d2a-4f8e-bf98-7363c4aed4ef",
        "userName": name,
        "active": True,
        "emails": [{"primary": True, "type": "work", "value": name}],
        "meta": {"resourceType": "User"},
        "name": {"formatted": "givenName familyName", "familyName": "familyName", "givenName": "givenName"},
        "roles": [],
    }
    made = await scim(client, "POST", "/Users", user)
    assert made.status == 201, made.body
    path = f"/Users/{made.json['id']}"
    assert made.json["name"]["formatted"] == "givenName familyName"
    for filter in (f'userName eq "{name.upper()}"', f'externalId eq "{user["externalId"]}"'):
        assert (await scim(client, "GET", filtered("Users", filter))).json["totalResults"] == 1
    changed = await entra(
        client,
        path,
        {"op": "Replace", "path": 'emails[type eq "work"].value', "value": "updatedEmail@microsoft.com"},
        {"op": "Replace", "path": "name.familyName", "value": "updatedFamilyName"},
        {"op": "Add", "path": 'phoneNumbers[type eq "mobile"].value', "value": "+49 1"},
        {"op": "Add", "path": 'addresses[type eq "work"].country', "value": "DE"},
        {"op": "Add", "path": f"{ENTERPRISE}:department", "value": "Sales"},
        {"op": "Add", "path": f"{ENTERPRISE}:manager", "value": "7"},
        {"op": "Add", "path": "displayName", "value": "Updated"},
        {"op": "Add", "path": "preferredLanguage", "value": "de"},
    )
    assert changed["emails"][0]["value"] == changed["userName"] == "updatedEmail@microsoft.com"
    assert changed["name"]["familyName"] == "updatedFamilyName"
    assert changed["phoneNumbers"] == [{"type": "mobile", "value": "+49 1"}]
    assert changed["addresses"] == [{"type": "work", "country": "DE"}]
    assert changed[ENTERPRISE] == {"department": "Sales", "manager": {"value": "7"}}
    assert (changed["displayName"], changed["preferredLanguage"]) == ("Updated", "de")
    assert (await entra(client, path, {"op": "Replace", "path": "userName", "value": "new@testuser.com"}))[
        "userName"
    ] == "new@testuser.com"
    changed = await entra(client, path, {"op": "Add", "value": {"name.givenName": "New", f"{ENTERPRISE}:division": "West"}})
    assert (changed["name"]["givenName"], changed[ENTERPRISE]["division"]) == ("New", "West")
    changed = await entra(
        client, path, {"op": "Remove", "path": f"{ENTERPRISE}:manager"}, {"op": "Remove", "path": "displayName"}
    )
    assert "displayName" not in changed
    assert changed[ENTERPRISE] == {"department": "Sales", "division": "West"}
    assert (await entra(client, path, {"op": "Replace", "path": "active", "value": "False"}))["active"] is False
    assert (await entra(client, path, {"op": "Replace", "path": "active", "value": "True"}))["active"] is True
    assert (await scim(client, "DELETE", path)).status == 204
    assert (await scim(client, "DELETE", path)).status == 404


@ensureDeferred
async def test_entra_id_provisions_groups(client: Client) -> None:
    made = await scim(client, "POST", "/Users", {"schemas": [USER], "userName": "ann@testuser.com", "active": True})
    user = made.json["id"]
    body = {
        "schemas": [GROUP, "http://schemas.microsoft.com/2006/11/ResourceManagement/ADSCIM/2.0/Group"],
        "externalId": "8aa1a0c0-c4c3-4bc0-b4a5-2ef676900159",
        "displayName": "displayName",
        "meta": {"resourceType": "Group"},
    }
    group = await scim(client, "POST", "/Groups", body)
    assert group.status == 201, group.body
    path, id = f"/Groups/{group.json['id']}", group.json["id"]
    assert "members" not in (await scim(client, "GET", f"{path}?excludedAttributes=members")).json
    search = filtered("Groups", 'displayName eq "displayName"') + "&excludedAttributes=members"
    assert [each["id"] for each in (await scim(client, "GET", search)).json["Resources"]] == [id]
    assert (await entra(client, path, {"op": "Replace", "path": "displayName", "value": "updated"}))["displayName"] == "updated"
    member = {"op": "Add", "path": "members", "value": [{"$ref": None, "value": user}]}
    assert [each["value"] for each in (await entra(client, path, member))["members"]] == [user]
    asked = filtered("Groups", f'id eq "{id}" and members eq "{user}"') + "&excludedAttributes=members"
    assert (await scim(client, "GET", asked)).json["totalResults"] == 1
    assert "members" not in await entra(client, path, member | {"op": "Remove"})
    assert (await scim(client, "GET", asked)).json["totalResults"] == 0
    assert (await entra(client, path, member))["members"]
    assert "members" not in await entra(client, path, {"op": "Remove", "path": f'members[value eq "{user}"]'})
    assert (await scim(client, "DELETE", path)).status == 204
    assert await execute(client, "SELECT count(*) FROM directus_scim_groups") == [(0,)]
