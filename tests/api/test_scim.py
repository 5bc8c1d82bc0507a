"""SCIM 2 as RFC 7643 and RFC 7644 define it."""

from random import Random
from typing import Any
from urllib.parse import quote

import pytest
from attrs import evolve
from pytest_twisted import ensureDeferred
from twisted.internet import defer

from directus_tx.scim.filters import matches, parse_filter
from tests.api.accounts import execute, make_role, make_user, sign_in
from tests.api.scim import ENTERPRISE, GROUP, MEDIA_TYPE, USER, filtered, found, make, make_group, patched, scim
from tests.api.test_escalation import permit
from tests.conftest import Client

pytestmark = pytest.mark.usefixtures("client")


def limited(client: Client, **settings: Any) -> None:
    """Changes settings of the section scim."""
    services = client.app.services
    changed = evolve(services.settings, scim=evolve(services.settings.scim, **settings))
    client.app.services = evolve(services, settings=changed)


async def people(client: Client) -> None:
    """Ann Lee (active, in Editors), Bob Lind (not active), and Cyd without a name."""
    ann = await make(client, "ann", name={"givenName": "Ann", "familyName": "Lee"}, title="Chief", locale="de-DE")
    await make(client, "bob", name={"givenName": "Bob", "familyName": "Lind"}, active=False)
    await make(client, "cyd", timezone="Europe/Berlin")
    await make_group(client, "Editors", ann)


# --- reading


@ensureDeferred
async def test_a_user_in_the_form_of_the_standard(client: Client) -> None:
    body = {
        "schemas": [USER, ENTERPRISE],
        "userName": "kim@example.com",
        "externalId": "k/im ü",
        "name": {"givenName": "Kim", "familyName": "Kay", "formatted": "Dr. Kim Kay"},
        "displayName": "Kimmy",
        "title": "Chief",
        "phoneNumbers": [{"value": "+49 1", "type": "work", "primary": True}],
        "active": True,
        "password": "kim-secret",
        "nonsense": {"a": 1},
        ENTERPRISE: {"department": "Sales", "manager": {"value": "1"}},
    }
    answer = await scim(client, "POST", "/Users", body)
    assert answer.status == 201, answer.body
    location = f"{client.base}/{client.project}/scim/v2/Users/{quote('k/im ü', safe='')}"
    assert answer.headers["location"] == location
    version = answer.headers["etag"]
    assert answer.json == {
        "schemas": [USER, ENTERPRISE],
        "id": "k/im ü",
        "externalId": "k/im ü",
        "userName": "kim@example.com",
        "name": {"givenName": "Kim", "familyName": "Kay", "formatted": "Dr. Kim Kay"},
        "displayName": "Kimmy",
        "title": "Chief",
        "emails": [{"value": "kim@example.com", "type": "work", "primary": True}],
        "phoneNumbers": [{"value": "+49 1", "type": "work", "primary": True}],
        "timezone": "UTC",
        "active": True,
        ENTERPRISE: {"department": "Sales", "manager": {"value": "1"}},
        "meta": {"resourceType": "User", "location": location, "version": version},
    }
    read = await scim(client, "GET", "/Users/" + quote("k/im ü", safe=""))
    assert (read.status, read.json, read.headers["etag"]) == (200, answer.json, version)
    assert (await sign_in(client, "kim-secret", "kim@example.com")).status == 200
    shown = (await client.get("~/users/2?fields=*")).data
    assert (shown["external_id"], shown["title"]) == ("k/im ü", "Chief")
    assert not any("kimmy" in str(value).lower() for value in shown.values())


@ensureDeferred
async def test_filters_find_users(client: Client) -> None:
    await people(client)
    for filter, wanted in {
        'userName eq "ANN@example.com"': ["ann"],
        'userName ne "ann@example.com"': ["admin", "bob", "cyd"],
        'userName co "N@EX"': ["admin", "ann"],
        'userName sw "b"': ["bob"],
        'userName ew "example.com" and active eq true': ["admin", "ann", "cyd"],
        "active eq false": ["bob"],
        'active ne "True"': ["bob"],
        "not (active eq false)": ["admin", "ann", "cyd"],
        "name.givenName pr": ["admin", "ann", "bob"],
        "not (name.givenName pr)": ["cyd"],
        'name.familyName ne "Lee"': ["admin", "bob", "cyd"],
        'not (name.familyName eq "Lee")': ["admin", "bob", "cyd"],
        "name.familyName eq null": ["cyd"],
        'name.familyName ge "lee" and name.familyName lt "Lz"': ["ann", "bob"],
        'userName gt "b" or title eq "chief"': ["ann", "bob", "cyd"],
        'emails.value eq "cyd@example.com"': ["cyd"],
        'emails[type eq "work" and value sw "bob"]': ["bob"],
        'emails[type eq "home"]': [],
        'emails eq "bob@example.com"': ["bob"],
        f'{USER}:userName eq "bob@example.com"': ["bob"],
        'id eq "ann-id"': ["ann"],
        'id eq "directus_users:1"': ["admin"],
        'id ne "directus_users:1" and id pr': ["ann", "bob", "cyd"],
        'id eq "directus_users:2"': [],
        'groups.value eq "directus_roles:1"': ["admin"],
        'externalId eq "bob-id" or externalId eq "cyd-id"': ["bob", "cyd"],
        'externalId ne "bob-id"': ["admin", "ann", "cyd"],
        'groups.display eq "editors"': ["ann"],
        'groups[display sw "Ed"]': ["ann"],
        'locale eq "de-de"': ["ann"],
        'timezone eq "Europe/Berlin"': ["cyd"],
        'meta.resourceType eq "User" and title pr': ["ann"],
        '(title eq "x" or (title eq "Chief" and not (active eq false))) and not (userName sw "c")': ["ann"],
        'userName co "%"': [],
        'userName co "_nn@"': [],
        'userName sw "a%"': [],
        "userName eq \"x' OR '1'='1\"": [],
        'userName eq "x"": eq "y"': None,
        'userName co ""': ["admin", "ann", "bob", "cyd"],
        'userName eq "a\\u0000b"': [],
    }.items():
        if wanted is not None:
            assert await found(client, filter) == wanted, filter
        else:
            assert (await scim(client, "GET", filtered("Users", filter))).json["scimType"] == "invalidFilter"


@ensureDeferred
async def test_filters_find_groups(client: Client) -> None:
    await people(client)
    editors = (await scim(client, "GET", filtered("Groups", 'displayName eq "EDITORS"'))).json["Resources"][0]
    assert editors["members"] == [
        {
            "value": "ann-id",
            "$ref": f"{client.base}/{client.project}/scim/v2/Users/ann-id",
            "type": "User",
        }
    ]
    for filter, wanted in {
        'members.value eq "ann-id"': ["Editors"],
        'members[value eq "ann-id"]': ["Editors"],
        'members eq "ann-id"': ["Editors"],
        'members.value eq "directus_users:1"': ["Administrator"],
        'id eq "directus_roles:2"': ["Public"],
        'members eq "bob-id"': [],
        f'id eq "{editors["id"]}" and members eq "ann-id"': ["Editors"],
        'displayName sw "E" or displayName eq "Public"': ["Public", "Editors"],
        'not (displayName sw "E")': ["Administrator", "Public"],
    }.items():
        assert await found(client, filter, "Groups") == wanted, filter


UNUSABLE = [
    "userName",
    "nope eq 1",
    "userName.x eq 1",
    'userName xx "a"',
    "userName gt 5",
    "active gt true",
    "active eq 5",
    'password eq "x"',
    'displayName eq "x"',
    f'{ENTERPRISE}:department eq "Sales"',
    'urn:x:y:z:userName eq "a"',
    "emails[value[a eq 1]]",
    'externalId co "x"',
    "externalId pr",
    "meta.version eq 1",
    "(" * 40 + "userName pr" + ")" * 40,
    " or ".join(['userName eq "a"'] * 200),
    'userName co "' + "%" * 300 + '" and userName sw "' + "%" * 300 + '"',
]


@ensureDeferred
async def test_filters_that_cannot_be_used_are_refused(client: Client) -> None:
    for filter in UNUSABLE:
        answer = await scim(client, "GET", filtered("Users", filter))
        assert answer.status == 400, (filter, answer.body)
        assert answer.json["scimType"] in ("invalidFilter", "invalidValue"), filter


def model_of(user: dict[str, Any]) -> dict[str, Any]:
    """The attributes of a user as a value filter compares them."""
    parts = {"userName": user["userName"], "title": user.get("title"), "active": user["active"]}
    return parts | {name: user.get("name", {}).get(name) for name in ("givenName", "familyName")}


def any_filter(random: Random, depth: int = 3) -> str:
    """Any filter on the attributes of `model_of`."""
    if depth and random.random() < 0.6:
        kind = random.choice(("and", "or", "not"))
        if kind == "not":
            return f"not ({any_filter(random, depth - 1)})"
        return f" {kind} ".join(f"({any_filter(random, depth - 1)})" for _ in range(random.randint(2, 3)))
    name = random.choice(("userName", "title", "active", "givenName", "familyName"))
    if random.random() < 0.2:
        return f"{name} pr"
    if name == "active":
        return f"active {random.choice(('eq', 'ne'))} {random.choice(('true', 'false'))}"
    operator = random.choice(("eq", "ne", "co", "sw", "ew", "gt", "ge", "lt", "le"))
    return f'{name} {operator} "{random.choice(("a", "Ann", "LEE", "e", "%", "_", "m", "z@example.com", "bob@example.com"))}"'


@ensureDeferred
async def test_filters_find_what_they_say(client: Client) -> None:
    """Any filter finds the users that a plain evaluation of it finds."""
    await people(client)
    for number, (first, last, title) in enumerate((("Ann", None, "a_b"), (None, "Lee", "100%"), ("Zoe", "Amm", None))):
        more = {"name": {"givenName": first, "familyName": last}, "title": title, "active": number != 1}
        await make(client, f"x{number}", **more)
    users = (await scim(client, "GET", "/Users")).json["Resources"]
    random = Random(7)
    counts = set()
    for _ in range(120):
        text = any_filter(random)
        wanted = [user["userName"].partition("@")[0] for user in users if matches(parse_filter(text), model_of(user))]
        asked = text.replace("givenName", "name.givenName").replace("familyName", "name.familyName")
        assert await found(client, asked) == wanted, asked
        counts.add(len(wanted))
    assert len(counts) > 5


@ensureDeferred
async def test_concurrent_changes_of_members_leave_a_user_in_one_group(client: Client) -> None:
    for name in ("ann", "bob", "cyd"):
        await make(client, name)
    groups = [await make_group(client, f"Group {number}") for number in range(4)]
    everybody = [{"value": f"{name}-id"} for name in ("ann", "bob", "cyd")]
    changes = [
        defer.ensureDeferred(patched(client, f"/Groups/{group}", {"op": "add", "path": "members", "value": value}))
        for group, value in zip(groups, (everybody, everybody[::-1], everybody[1:], everybody[:2]), strict=True)
    ]
    assert [answer.status for answer in await defer.gatherResults(changes)] == [200] * 4
    there = [member for group in groups for member in await members(client, group)]
    assert sorted(there) == ["ann", "bob", "cyd"]


@ensureDeferred
async def test_lists_are_paged_and_sorted(client: Client) -> None:
    await people(client)

    async def page(query: str) -> tuple[int, int, int, list[str]]:
        answer = await scim(client, "GET", f"/Users?{query}")
        assert answer.status == 200, answer.body
        names = [each["userName"].partition("@")[0] for each in answer.json["Resources"]]
        return answer.json["totalResults"], answer.json["startIndex"], answer.json["itemsPerPage"], names

    assert await page("startIndex=2&count=2") == (4, 2, 2, ["ann", "bob"])
    assert await page("startIndex=4&count=9") == (4, 4, 1, ["cyd"])
    assert await page("startIndex=-3&count=1") == (4, 1, 1, ["admin"])
    assert await page("count=0") == (4, 1, 0, [])
    assert await page("count=-1") == (4, 1, 0, [])
    assert await page("startIndex=99999999999999999999999999") == (4, 2**62, 0, [])
    assert await page("sortBy=userName&sortOrder=descending") == (4, 1, 4, ["cyd", "bob", "ann", "admin"])
    assert (await page("sortBy=name.familyName"))[3] == ["ann", "bob", "admin", "cyd"]
    limited(client, max_results=3)
    assert await page("") == (4, 1, 3, ["admin", "ann", "bob"])
    assert await page("count=1000") == (4, 1, 3, ["admin", "ann", "bob"])
    assert (await scim(client, "GET", "/ServiceProviderConfig")).json["filter"]["maxResults"] == 3
    for wrong in (
        "startIndex=x",
        "count=1.5",
        "sortBy=nope",
        "sortBy=emails.type",
        "sortOrder=up",
        "attributes=a&excludedAttributes=b",
    ):
        assert (await scim(client, "GET", f"/Users?{wrong}")).status == 400, wrong


@ensureDeferred
async def test_a_search_is_a_list_by_post(client: Client) -> None:
    await people(client)
    body = {
        "schemas": ["urn:ietf:params:scim:api:messages:2.0:SearchRequest"],
        "filter": 'userName sw "a" or userName sw "b"',
        "sortBy": "userName",
        "sortOrder": "descending",
        "startIndex": 2,
        "count": 1,
        "attributes": ["name.givenName"],
    }
    answer = await scim(client, "POST", "/Users/.search", body)
    assert answer.json["totalResults"] == 3
    (one,) = answer.json["Resources"]
    assert one == {"schemas": [USER], "id": "ann-id", "userName": "ann@example.com", "name": {"givenName": "Ann"}}
    assert (await scim(client, "POST", "/Groups/.search", {"excludedAttributes": ["members"]})).json["totalResults"] == 3
    for wrong in ({"filter": 5}, {"count": "x"}, {"count": True}, {"attributes": 5}, {"attributes": [5]}, {"sortBy": []}):
        assert (await scim(client, "POST", "/Users/.search", wrong)).status == 400, wrong
    assert (await scim(client, "POST", "/.search", {})).status == 501


@ensureDeferred
async def test_answers_have_the_attributes_that_are_asked_for(client: Client) -> None:
    await people(client)
    answer = await scim(client, "GET", "/Users/ann-id?attributes=active,emails.value")
    assert answer.json == {
        "schemas": [USER],
        "id": "ann-id",
        "userName": "ann@example.com",
        "active": True,
        "emails": [{"value": "ann@example.com"}],
    }
    for method, body in (("GET", ...), ("PUT", {"title": "Boss"}), ("PATCH", {"title": "Chair"})):
        answer = await scim(client, method, "/Users/ann-id?excludedAttributes=emails,meta,title,groups", body)
        assert answer.json.keys() == {
            "schemas",
            "id",
            "externalId",
            "userName",
            "name",
            "locale",
            "timezone",
            "active",
        }
    groups = (await scim(client, "GET", "/Groups?attributes=displayName")).json["Resources"]
    assert [each.keys() for each in groups] == [{"schemas", "id", "displayName"}] * 3


@ensureDeferred
async def test_entity_tags_tell_whether_a_resource_has_changed(client: Client) -> None:
    await people(client)
    (group,) = [
        each["id"] for each in (await scim(client, "GET", "/Groups")).json["Resources"] if each["displayName"] == "Editors"
    ]
    for path, change in ((f"/Groups/{group}", {"members": []}), ("/Users/ann-id", {"title": "Boss"})):
        first = await scim(client, "GET", path)
        tag = first.headers["etag"]
        assert tag == first.json["meta"]["version"]
        assert tag.startswith('W/"')
        same = await scim(client, "GET", path, headers={"If-None-Match": tag})
        assert (same.status, same.body, same.headers["etag"]) == (304, b"", tag)
        assert (await scim(client, "GET", path, headers={"If-None-Match": 'W/"x"'})).status == 200
        listed = (await scim(client, "GET", path[: path.rindex("/")])).json["Resources"]
        assert tag in [each["meta"]["version"] for each in listed]
        changed = await scim(client, "PUT", path, change, headers={"If-Match": tag})
        assert changed.status == 200, changed.body
        assert changed.headers["etag"] != tag
        for method, body in (("PUT", change), ("PATCH", change), ("DELETE", ...)):
            answer = await scim(client, method, path, body, headers={"If-Match": tag})
            assert answer.status == 412
        assert (await scim(client, "DELETE", path, headers={"If-Match": f'"x", {changed.headers["etag"]}'})).status == 204


@ensureDeferred
async def test_of_concurrent_changes_with_the_same_tag_one_succeeds(client: Client) -> None:
    await people(client)
    tag = (await scim(client, "GET", "/Users/ann-id")).headers["etag"]
    answers = await defer.gatherResults(
        [
            defer.ensureDeferred(scim(client, "PUT", "/Users/ann-id", {"title": f"T{n}"}, headers={"If-Match": tag}))
            for n in range(6)
        ]
    )
    assert sorted(answer.status for answer in answers) == [200, 412, 412, 412, 412, 412]


# --- writing


@ensureDeferred
async def test_users_are_unique(client: Client) -> None:
    await make(client, "ann")
    for body in ({"userName": "ANN@example.com"}, {"userName": "x@example.com", "externalId": "ANN-id"}):
        answer = await scim(client, "POST", "/Users", body)
        assert (answer.status, answer.json["scimType"]) == (409, "uniqueness")
    await make(client, "bob")
    answer = await scim(client, "PUT", "/Users/bob-id", {"userName": "ann@example.com", "title": "x"})
    assert (answer.status, answer.json["scimType"]) == (409, "uniqueness")
    assert "title" not in (await scim(client, "GET", "/Users/bob-id")).json
    answers = await defer.gatherResults(
        [defer.ensureDeferred(scim(client, "POST", "/Users", {"userName": "new@example.com"})) for _ in range(6)]
    )
    assert sorted(answer.status for answer in answers) == [201, 409, 409, 409, 409, 409]
    assert await found(client, 'userName eq "new@example.com"') == ["new"]


@ensureDeferred
async def test_the_external_id_changes_and_the_id_does_not(client: Client) -> None:
    await make(client, "ann")
    await make(client, "bob")
    for changed in (
        await patched(client, "/Users/ann-id", {"op": "replace", "path": "externalId", "value": "new"}),
        await scim(client, "GET", "/Users/ann-id"),
    ):
        assert (changed.json["id"], changed.json["externalId"]) == ("ann-id", "new")
    assert await found(client, 'externalId eq "NEW"') == ["ann"]
    assert await found(client, 'externalId eq "ann-id"') == []
    assert await found(client, 'externalId ne "ann-id"') == ["admin", "ann", "bob"]
    assert (await scim(client, "PUT", "/Users/bob-id", {"externalId": "ann-id"})).json["externalId"] == "ann-id"
    assert await found(client, 'externalId eq "ann-id"') == ["bob"]
    assert "externalId" not in (await patched(client, "/Users/bob-id", {"op": "remove", "path": "externalId"})).json
    assert await found(client, 'externalId eq "ann-id" or externalId eq "bob-id"') == []
    without = (await scim(client, "POST", "/Users", {"userName": "cyd@example.com"})).json
    assert "externalId" not in without
    assert await found(client, f'externalId eq "{without["id"]}"') == []
    # A user whom SCIM has not made has the external id.
    assert (await client.post("~/users", {"email": "dan@example.com", "external_id": "dan-id"})).status == 200
    assert (await scim(client, "GET", "/Users/dan-id")).json["externalId"] == "dan-id"
    assert await found(client, 'externalId eq "dan-id"') == ["dan"]


@ensureDeferred
async def test_deactivation_ends_sessions_and_tokens(client: Client) -> None:
    role = await make_role(client, "Staff")
    await permit(client, role, "directus_users", read="mine")
    await make(client, "ann", password="ann-secret")
    await execute(client, "UPDATE directus_users SET role = %s, token = 'ann-token' WHERE email = 'ann@example.com'", (role,))
    token = (await sign_in(client, "ann-secret", "ann@example.com")).data["token"]
    for each in (token, "ann-token"):
        assert (await client.get("~/users/me", token=each)).status == 200
    answer = await patched(client, "/Users/ann-id", {"op": "Replace", "path": "active", "value": "False"})
    assert answer.json["active"] is False
    assert (await client.get("~/users/2?fields=status")).data == {"status": "suspended"}
    for each in (token, "ann-token"):
        assert (await client.get("~/users/me", token=each)).status == 401
    assert (await sign_in(client, "ann-secret", "ann@example.com")).status == 404
    actions = [each["action"] for each in (await client.get("~/activity?filter[item]=2&fields=action&sort=id")).data]
    assert actions[-2:] == ["update", "status-update"]
    assert (await patched(client, "/Users/ann-id", {"op": "Replace", "value": {"active": True}})).json["active"] is True
    assert (await scim(client, "DELETE", "/Users/ann-id")).status == 204
    assert (await client.get("~/users/me", token="ann-token")).status == 401
    assert (await scim(client, "GET", "/Users/ann-id")).status == 404
    assert await execute(client, "SELECT count(*) FROM directus_scim_users") == [(0,)]


@ensureDeferred
async def test_a_deactivation_keeps_the_status_of_users_who_are_not_active(client: Client) -> None:
    for status in ("draft", "invited", "suspended"):
        user = (await client.post("~/users", {"email": f"{status}@example.com", "external_id": status, "status": status})).data
        assert (await scim(client, "PUT", f"/Users/{status}", {"active": False})).json["active"] is False
        assert (await client.get(f"~/users/{user['id']}?fields=status")).data["status"] == status
    assert (await client.patch("~/users/2", {"status": "deleted"})).status == 204
    assert (await scim(client, "GET", "/Users/draft")).status == 404


@ensureDeferred
async def test_what_does_not_change_is_not_written(client: Client) -> None:
    await people(client)
    before = await execute(client, "SELECT count(*) FROM directus_activity")
    shown = (await scim(client, "GET", "/Users/ann-id")).json
    assert (await scim(client, "PUT", "/Users/ann-id", shown)).json == shown
    group = (await scim(client, "GET", filtered("Groups", 'displayName eq "Editors"'))).json["Resources"][0]
    assert (await scim(client, "PUT", f"/Groups/{group['id']}", group)).json == group
    assert await execute(client, "SELECT count(*) FROM directus_activity") == before


@ensureDeferred
async def test_the_caller_is_a_resource(client: Client) -> None:
    answer = await scim(client, "GET", "/Me")
    assert answer.json["userName"] == "admin@example.com"
    assert answer.json["meta"]["location"].endswith(f"/Users/{answer.json['id']}")
    assert (await patched(client, "/Me", {"op": "add", "path": "name.givenName", "value": "Ada"})).json["name"][
        "givenName"
    ] == "Ada"
    assert (await scim(client, "PUT", "/Me", {"title": "Boss"})).json["title"] == "Boss"
    for method in ("POST", "DELETE"):
        assert (await scim(client, method, "/Me", {} if method == "POST" else ...)).status == 405
    assert (await scim(client, "GET", "/Me", token=None)).status == 401


# --- groups


async def members(client: Client, group: str) -> list[str]:
    answer = await scim(client, "GET", f"/Groups/{group}")
    assert answer.status == 200, answer.body
    return [each["value"].removesuffix("-id") for each in answer.json.get("members", [])]


@ensureDeferred
async def test_members_join_and_leave(client: Client) -> None:
    for name in ("ann", "bob", "cyd", "dan"):
        await make(client, name)
    editors, writers = await make_group(client, "Editors", "ann-id"), await make_group(client, "Writers")
    one, several = {"value": "bob-id"}, [{"value": "cyd-id", "display": "x"}, {"value": "CYD-id"}, {"value": "dan-id"}]
    await patched(client, f"/Groups/{editors}", {"op": "Add", "path": "members", "value": one})
    await patched(client, f"/Groups/{editors}", {"op": "add", "value": {"members": several}})
    assert await members(client, editors) == ["ann", "bob", "cyd", "dan"]
    # A user has one role.
    await patched(client, f"/Groups/{writers}", {"op": "add", "path": "members", "value": [{"value": "ann-id"}]})
    assert (await members(client, editors), await members(client, writers)) == (["bob", "cyd", "dan"], ["ann"])
    # Leaving a group that one is not in changes nothing.
    await patched(client, f"/Groups/{editors}", {"op": "remove", "path": 'members[value eq "ann-id" or value eq "bob-id"]'})
    assert (await members(client, editors), await members(client, writers)) == (["cyd", "dan"], ["ann"])
    await patched(client, f"/Groups/{editors}", {"op": "Remove", "path": "members", "value": [{"value": "cyd-id"}]})
    assert await members(client, editors) == ["dan"]
    await patched(client, f"/Groups/{editors}", {"op": "replace", "path": "members", "value": [{"value": "ann-id"}, one]})
    assert (await members(client, editors), await members(client, writers)) == (["ann", "bob"], [])
    await patched(
        client,
        f"/Groups/{editors}",
        {"op": "remove", "path": 'members[value eq "ann-id"]'},
        {"op": "add", "path": "members", "value": [{"value": "cyd-id"}, {"value": "ann-id"}]},
        {"op": "replace", "path": "displayName", "value": "Editors 2"},
        {"op": "remove", "path": 'members[value eq "nobody"]'},
    )
    assert await members(client, editors) == ["ann", "bob", "cyd"]
    await scim(client, "PUT", f"/Groups/{editors}", {"displayName": "Editors", "members": [{"value": "dan-id"}]})
    assert await members(client, editors) == ["dan"]
    await scim(client, "PUT", f"/Groups/{editors}", {"displayName": "Editors"})
    assert await members(client, editors) == ["dan"]
    answer = await patched(client, f"/Groups/{editors}", {"op": "remove", "path": "members"})
    assert "members" not in answer.json
    assert await execute(client, "SELECT count(*) FROM directus_users WHERE role IS NOT NULL") == [(1,)]


@ensureDeferred
async def test_a_change_of_members_is_all_or_nothing(client: Client) -> None:
    await make(client, "ann")
    group = await make_group(client, "Editors", "ann-id")
    for operation in (
        {"op": "add", "path": "members", "value": [{"value": "ann-id"}, {"value": "nobody"}]},
        {"op": "add", "path": "members", "value": [{"display": "x"}]},
        {"op": "add", "path": "members", "value": [{"value": 5}]},
        {"op": "add", "path": "members", "value": 5},
        {"op": "replace", "path": 'members[value eq "ann-id"].display', "value": "x"},
        {"op": "replace", "path": 'members[value eq "ann-id"]', "value": {"value": "bob-id"}},
        {"op": "remove", "path": 'members[display eq "x"]'},
        {"op": "remove", "path": 'members[value ne "x"]'},
        {"op": "remove", "path": "displayName"},
    ):
        answer = await patched(client, f"/Groups/{group}", {"op": "replace", "path": "displayName", "value": "X"}, operation)
        assert answer.status == 400, (operation, answer.body)
        shown = (await scim(client, "GET", f"/Groups/{group}")).json
        assert (shown["displayName"], len(shown["members"])) == ("Editors", 1)
    answer = await scim(client, "POST", "/Groups", {"displayName": "New", "members": [{"value": "nobody"}]})
    assert (answer.status, answer.json["scimType"]) == (400, "invalidValue")
    assert await found(client, 'displayName eq "New"', "Groups") == []


@ensureDeferred
async def test_large_groups_are_changed_but_not_shown(client: Client) -> None:
    limited(client, max_members=3)
    for name in "abcd":
        await make(client, name)
    group = await make_group(client, "Editors", "a-id", "b-id", "c-id")
    answer = await patched(client, f"/Groups/{group}", {"op": "add", "path": "members", "value": [{"value": "d-id"}]})
    assert (answer.status, answer.body) == (204, b"")
    answer = await scim(client, "GET", f"/Groups/{group}")
    assert (answer.status, answer.json["scimType"]) == (400, "tooMany")
    assert "max_members" in answer.json["detail"]
    answer = await scim(client, "GET", f"/Groups/{group}?excludedAttributes=members")
    assert (answer.status, answer.json["displayName"]) == (200, "Editors")
    assert (await scim(client, "GET", "/Groups?excludedAttributes=members")).json["totalResults"] == 3
    many = [{"value": f"{name}-id"} for name in "abcd"]
    assert (await patched(client, f"/Groups/{group}", {"op": "add", "path": "members", "value": many})).status == 400
    answer = await patched(client, f"/Groups/{group}", {"op": "remove", "path": 'members[value eq "a-id"]'})
    assert (answer.status, len(answer.json["members"])) == (200, 3)


@ensureDeferred
async def test_all_operations_together_name_a_bounded_number_of_members(client: Client) -> None:
    limited(client, max_members=10)
    group = await make_group(client, "Editors")

    def naming(first: int, number: int) -> list[dict[str, Any]]:
        ids = [f"u{n}" for n in range(first, first + number)]
        chosen = " or ".join([f'value eq "{id}"' for id in ids])
        return [{"op": "add", "path": "members", "value": ids}, {"op": "remove", "path": f"members[{chosen}]"}]

    for operations in (
        [*naming(0, 6), naming(6, 6)[0]],
        [naming(0, 6)[1], naming(6, 6)[1]],
        naming(0, 11)[1:],
        naming(0, 11)[:1],
    ):
        answer = await patched(client, f"/Groups/{group}", *operations)
        assert (answer.status, "scim.max_members" in answer.json["detail"]) == (400, True)
    assert (await patched(client, f"/Groups/{group}", *naming(0, 6), *naming(0, 6))).status == 200


@ensureDeferred
async def test_members_beyond_a_batch_are_all_there(client: Client) -> None:
    group = await make_group(client, "Editors")
    sql = "INSERT INTO directus_users (email, external_id) SELECT 'u' || n || '@example.com', 'u' || n FROM generate_series(1, 1234) n"
    await execute(client, sql)
    everybody = [{"value": f"u{n}"} for n in range(1, 1235)]
    answer = await patched(client, f"/Groups/{group}", {"op": "add", "path": "members", "value": everybody})
    assert answer.status == 200, answer.body
    assert [each["value"] for each in answer.json["members"]] == [each["value"] for each in everybody]
    answer = await patched(client, f"/Groups/{group}", {"op": "replace", "path": "members", "value": everybody[600:]})
    assert len(answer.json["members"]) == 634


# --- permissions


STATUSES = ("draft", "invited", "active", "suspended")


async def provisioner(client: Client, **users: Any) -> int:
    """A user with the token "idp" whose role may write users and roles as *users* say. Returns the role."""
    role = await make_role(client, "Provisioning")
    everything = {"create": "full", "read": "full", "update": "full", "delete": "full"}
    for status in STATUSES:
        await permit(client, role, "directus_users", status, **(everything | users))
    await permit(client, role, "directus_roles", **everything)
    body = {"email": "idp@example.com", "status": "active", "role": role, "token": "idp"}
    assert (await client.post("~/users", body)).status == 200
    return role


@ensureDeferred
async def test_a_role_that_may_write_users_is_enough(client: Client) -> None:
    await provisioner(client)
    body = {"userName": "ann@example.com", "externalId": "ann-id", "active": True, ENTERPRISE: {"department": "Sales"}}
    answer = await scim(client, "POST", "/Users", body, token="idp")
    assert (answer.status, answer.json["id"]) == (201, "ann-id")
    assert answer.json[ENTERPRISE] == {"department": "Sales"}
    assert (await scim(client, "PUT", "/Users/ann-id", {"title": "Boss"}, token="idp")).json["title"] == "Boss"
    group = (await scim(client, "POST", "/Groups", {"displayName": "Editors", "externalId": "e"}, token="idp")).json["id"]
    assert group == "e"
    add = {"op": "add", "path": "members", "value": [{"value": "ann-id"}]}
    assert (await patched(client, "/Groups/e", add, token="idp")).json["members"][0]["value"] == "ann-id"
    assert (await scim(client, "DELETE", "/Users/ann-id", token="idp")).status == 204
    assert (await scim(client, "DELETE", "/Groups/e", token="idp")).status == 204


@ensureDeferred
async def test_a_put_with_the_present_address_changes_the_rest(client: Client) -> None:
    """Identity providers send all attributes of a user, also the address, which only administrators change."""
    await provisioner(client)
    await make(client, "ann", name={"givenName": "Ann", "familyName": "Lee"}, password="first-secret")
    whole = (await scim(client, "GET", "/Users/ann-id", token="idp")).json
    for changes in ({"name": {"givenName": "Anna", "familyName": "Lee"}}, {"active": False}, {"active": True, "title": "Chief"}):
        answer = await scim(client, "PUT", "/Users/ann-id", whole | changes, token="idp")
        assert answer.status == 200, (changes, answer.body)
        assert {name: answer.json[name] for name in changes} == changes
    other = await scim(client, "PUT", "/Users/ann-id", {"userName": "other@example.com", "title": "Boss"}, token="idp")
    password = await scim(client, "PUT", "/Users/ann-id", {"password": "another-secret", "title": "Boss"}, token="idp")
    assert (other.status, password.status) == (403, 403)
    shown = (await scim(client, "GET", "/Users/ann-id")).json
    assert (shown["userName"], shown["title"]) == ("ann@example.com", "Chief")
    ((stored,),) = await execute(client, "SELECT password FROM directus_users WHERE external_id = 'ann-id'")
    assert (await scim(client, "PUT", "/Users/ann-id", {"password": stored}, token="idp")).status == 403


@ensureDeferred
async def test_a_name_that_is_no_address_is_refused_by_its_name(client: Client) -> None:
    await make(client, "ann")
    for method, path in (("POST", "/Users"), ("PUT", "/Users/ann-id")):
        refused = await scim(client, method, path, {"userName": "ann", "active": True})
        assert (refused.status, refused.json["scimType"]) == (400, "invalidValue")
        assert refused.json["detail"] == '"userName" must be an e-mail address, unless "emails" has one.'
    named = {"userName": "bob", "emails": [{"value": "bob@example.com", "primary": True}]}
    assert (await scim(client, "POST", "/Users", named)).json["userName"] == "bob@example.com"


@ensureDeferred
async def test_nobody_gives_a_role_that_they_may_not_give(client: Client) -> None:
    await provisioner(client)
    await make(client, "ann")
    administrators, public = [each["id"] for each in (await scim(client, "GET", "/Groups")).json["Resources"]][:2]
    (admin,) = await found(client, 'groups.display eq "Administrator"')
    assert admin == "admin"
    me = (await scim(client, "GET", "/Me", token="idp")).json["id"]
    boss = (await scim(client, "GET", "/Me")).json["id"]
    group = await make_group(client, "Editors")

    def add(id: str) -> dict[str, Any]:
        return {"op": "add", "path": "members", "value": [{"value": id}]}

    for path, operation in (
        (f"/Groups/{administrators}", add("ann-id")),
        (f"/Groups/{administrators}", add(me)),
        (f"/Groups/{administrators}", {"op": "replace", "path": "members", "value": [{"value": me}]}),
        (f"/Groups/{administrators}", {"op": "remove", "path": "members"}),
        (f"/Groups/{administrators}", {"op": "replace", "path": "displayName", "value": "X"}),
        (f"/Groups/{group}", add(boss)),
        (f"/Groups/{group}", add(me)),
        (f"/Groups/{public}", add("ann-id")),
        (f"/Users/{boss}", {"op": "replace", "path": "active", "value": False}),
        (f"/Users/{boss}", {"op": "replace", "path": "title", "value": "X"}),
        ("/Users/ann-id", {"op": "replace", "path": "userName", "value": "x@example.com"}),
        ("/Users/ann-id", {"op": "replace", "path": "password", "value": "stolen-secret"}),
    ):
        answer = await patched(client, path, operation, token="idp")
        assert answer.status == 403, (path, operation, answer.body)
    assert (await scim(client, "PUT", f"/Groups/{administrators}", {"members": [{"value": me}]}, token="idp")).status == 403
    for path in (f"/Users/{boss}", f"/Groups/{administrators}", f"/Groups/{public}"):
        assert (await scim(client, "DELETE", path, token="idp")).status == 403
        assert (await scim(client, "GET", path)).status == 200
    # The role of a user is no attribute of the user.
    await scim(client, "PUT", "/Users/ann-id", {"groups": [{"value": administrators}], "role": 1, "roles": [{"value": "1"}]})
    assert await execute(client, "SELECT role FROM directus_users WHERE external_id = 'ann-id'") == [(None,)]


@ensureDeferred
async def test_the_last_administrator_is_kept(client: Client) -> None:
    boss = (await scim(client, "GET", "/Me")).json["id"]
    administrators = (await scim(client, "GET", "/Groups")).json["Resources"][0]["id"]
    group = await make_group(client, "Editors")
    for path, operation in (
        (f"/Users/{boss}", {"op": "replace", "path": "active", "value": False}),
        (f"/Groups/{administrators}", {"op": "remove", "path": "members"}),
        (f"/Groups/{administrators}", {"op": "replace", "path": "members", "value": []}),
        (f"/Groups/{group}", {"op": "add", "path": "members", "value": [{"value": boss}]}),
    ):
        assert (await patched(client, path, operation)).status == 403
    for path in (f"/Users/{boss}", f"/Groups/{administrators}"):
        assert (await scim(client, "DELETE", path)).status == 403
    # An administrator can make another one, and is then not the last one.
    await make(client, "ann")
    add = {"op": "add", "path": "members", "value": [{"value": "ann-id"}]}
    assert (await patched(client, f"/Groups/{administrators}", add)).status == 200
    assert (await patched(client, f"/Users/{boss}", {"op": "replace", "path": "active", "value": False})).status == 200


@ensureDeferred
async def test_permissions_hold_for_what_is_read_and_written(client: Client) -> None:
    role = await provisioner(client, create="none", update="none", delete="none")
    await make(client, "ann", name={"familyName": "Secret"}, **{ENTERPRISE: {"department": "Secret"}})
    for status in STATUSES:
        await permit(client, role, "directus_users", status, read_field_blacklist=["last_name", "role"])
    shown = await scim(client, "GET", "/Users/ann-id", token="idp")
    assert b"Secret" not in shown.body
    assert shown.json["userName"] == "ann@example.com"
    assert (await scim(client, "GET", filtered("Users", 'name.familyName sw "S"'), token="idp")).status == 403
    assert (await scim(client, "GET", filtered("Users", 'groups.display sw "S"'), token="idp")).status == 403
    assert (await scim(client, "GET", "/Users?sortBy=name.familyName", token="idp")).status in (200, 403)
    assert all("members" not in each for each in (await scim(client, "GET", "/Groups", token="idp")).json["Resources"])
    assert (await scim(client, "GET", filtered("Groups", 'members eq "x"'), token="idp")).status == 403
    for method, path, body in (
        ("POST", "/Users", {"userName": "x@example.com"}),
        ("PUT", "/Users/ann-id", {"title": "x"}),
        ("PUT", "/Users/ann-id", {"active": True}),
        ("PUT", "/Users/ann-id", {}),
        ("PUT", "/Users/ann-id", {ENTERPRISE: {"department": "x"}}),
        ("DELETE", "/Users/ann-id", ...),
    ):
        assert (await scim(client, method, path, body, token="idp")).status == 403, (method, body)


HIDDEN_FIELDS = ["email", "title", "last_name", "role", "locale", "timezone"]


def replacing(path: str, value: Any) -> dict[str, Any]:
    return {"op": "replace", "path": path, "value": value}


@ensureDeferred
async def test_changes_tell_nothing_of_hidden_values(client: Client) -> None:
    """A change to the value that is stored is answered like one to another value."""
    role = await provisioner(client)
    phone = {"phoneNumbers": [{"value": "+49 1", "type": "work"}]}
    known = {"title": "Chief", "locale": "de-DE", "timezone": "Europe/Berlin"}
    await make(
        client,
        "ann",
        name={"familyName": "Lee", "formatted": "Ann Lee"},
        **known,
        **phone,
        **{ENTERPRISE: {"department": "Sales"}},
    )
    await make(client, "bob")
    group = await make_group(client, "Editors", "ann-id")
    for status in STATUSES:
        lists = {"read_field_blacklist": HIDDEN_FIELDS, "write_field_blacklist": HIDDEN_FIELDS}
        await permit(client, role, "directus_users", status, **lists)
    await permit(client, role, "directus_users", "draft", update="none")
    await permit(client, role, "directus_roles", read_field_blacklist=["name"], write_field_blacklist=["name"])
    before = await execute(client, "SELECT * FROM directus_users, directus_roles ORDER BY 1, directus_roles.id")
    for path, right, wrong in (
        ("title", "Chief", "Boss"),
        ("userName", "ann@example.com", "ann@example.org"),
        ("emails", [{"value": "ann@example.com"}], [{"value": "ann@example.org"}]),
        ("name.familyName", "Lee", "Lea"),
        ("name", {"familyName": "Lee"}, {"familyName": "Lea"}),
        ("name.formatted", "Ann Lee", "Ann Lea"),
        ("locale", "de-DE", "fr-FR"),
        ("timezone", "Europe/Berlin", "UTC"),
        (f"{ENTERPRISE}:department", "Sales", "Research"),
        ("phoneNumbers", [{"value": "+49 1", "type": "work"}], [{"value": "+49 2", "type": "work"}]),
    ):
        answers = [await patched(client, "/Users/ann-id", replacing(path, value), token="idp") for value in (right, wrong)]
        assert [each.status for each in answers] == [403, 403], path
        assert answers[0].json["detail"] == answers[1].json["detail"]
        if "." not in path and ":" not in path:
            sent = [await scim(client, "PUT", "/Users/ann-id", {path: value}, token="idp") for value in (right, wrong)]
            assert [each.status for each in sent] == [403, 403], path
    for path, texts in (('emails[value sw "{}"].type', ("ann", "x")), ('phoneNumbers[value ew "{}"].type', (" 1", "2"))):
        answers = [await patched(client, "/Users/ann-id", replacing(path.format(t), "home"), token="idp") for t in texts]
        assert [each.status for each in answers] == [400, 400], path
    for value in ("Editors", "Other"):
        assert (await patched(client, f"/Groups/{group}", replacing("displayName", value), token="idp")).status == 403
        assert (await scim(client, "PUT", f"/Groups/{group}", {"displayName": value}, token="idp")).status == 403
    for op in ("add", "remove"):
        for id in ("ann-id", "bob-id"):
            change = {"op": op, "path": "members", "value": [{"value": id}]}
            assert (await patched(client, f"/Groups/{group}", change, token="idp")).status == 403, (op, id)
    assert await execute(client, "SELECT * FROM directus_users, directus_roles ORDER BY 1, directus_roles.id") == before


@ensureDeferred
async def test_what_is_hidden_but_writable_is_written_and_nothing_else(client: Client) -> None:
    role = await provisioner(client)
    await make(
        client, "ann", name={"givenName": "Ann", "familyName": "Lee"}, title="Chief", **{ENTERPRISE: {"department": "Sales"}}
    )
    for status in STATUSES:
        await permit(client, role, "directus_users", status, read_field_blacklist=["title", "last_name", "locale", "external_id"])
    await permit(client, role, "directus_users", "draft", read_field_blacklist=["title", "last_name", "locale"])
    for status in STATUSES[1:]:
        await permit(client, role, "directus_users", status, read_field_blacklist=["title", "last_name", "locale"])
    for operation in (
        replacing("name.givenName", "Anna"),
        replacing("title", "Chief"),
        replacing("locale", "de-DE"),
        replacing(f"{ENTERPRISE}:division", "North"),
    ):
        answer = await patched(client, "/Users/ann-id", operation, token="idp")
        assert answer.status == 200, (operation, answer.body)
    shown = (await scim(client, "GET", "/Users/ann-id")).json
    assert shown["name"] == {"givenName": "Anna", "familyName": "Lee"}
    assert (shown["title"], shown["locale"], shown["externalId"]) == ("Chief", "de-DE", "ann-id")
    assert shown[ENTERPRISE] == {"department": "Sales", "division": "North"}
    removed = await patched(client, "/Users/ann-id", {"op": "remove", "path": "title"}, token="idp")
    assert removed.status == 200
    assert "title" not in (await scim(client, "GET", "/Users/ann-id")).json


@ensureDeferred
async def test_the_external_id_of_the_client_is_as_hidden_as_the_field(client: Client) -> None:
    role = await provisioner(client)
    await make(client, "ann")
    await make(client, "bob", active=False)
    await patched(client, "/Users/bob-id", replacing("externalId", "other"))
    for status in ("draft", "suspended"):
        await permit(client, role, "directus_users", status, read_field_blacklist=["external_id"])
    listed = (await scim(client, "GET", "/Users", token="idp")).json["Resources"]
    told = {each["userName"]: each.get("externalId") for each in listed}
    assert (told["ann@example.com"], told["bob@example.com"]) == ("ann-id", None)
    for text, wanted in {"ann-id": ["ann"], "other": [], "bob-id": []}.items():
        assert await found(client, f'externalId eq "{text}"', token="idp") == wanted
    for status in STATUSES:
        await permit(client, role, "directus_users", status, read_field_blacklist=["external_id"])
    assert b"ann-id" not in (await scim(client, "GET", "/Users", token="idp")).body
    assert (await scim(client, "GET", filtered("Users", 'externalId eq "ann-id"'), token="idp")).status == 403


@ensureDeferred
async def test_users_see_and_change_themselves(client: Client) -> None:
    role = await make_role(client, "Staff")
    await permit(client, role, "directus_users", "active", read="mine", update="mine")
    await make(client, "ann", **{ENTERPRISE: {"department": "Sales"}})
    await execute(client, "UPDATE directus_users SET role = %s, token = 'ann' WHERE external_id = 'ann-id'", (role,))
    me = (await scim(client, "GET", "/Me", token="ann")).json
    assert (me["userName"], ENTERPRISE in me) == ("ann@example.com", False)
    assert (await scim(client, "GET", "/Users", token="ann")).json["totalResults"] == 1
    assert (await scim(client, "PUT", "/Me", {"title": "Boss"}, token="ann")).json["title"] == "Boss"
    assert (await scim(client, "PUT", "/Me", {ENTERPRISE: {"department": "x"}}, token="ann")).status == 403
    other = (await scim(client, "GET", "/Me")).json["id"]
    assert (await scim(client, "GET", f"/Users/{other}", token="ann")).status == 404
    assert (await scim(client, "PUT", f"/Users/{other}", {"title": "x"}, token="ann")).status == 404
    shown = (await scim(client, "GET", "/Users/ann-id")).json
    assert shown[ENTERPRISE] == {"department": "Sales"}


@ensureDeferred
async def test_the_public_is_refused(client: Client) -> None:
    for path in ("/Users", "/Users/x", "/Groups", "/ServiceProviderConfig", "/Schemas", "/ResourceTypes", "/Me"):
        for token in (None, "wrong"):
            assert (await scim(client, "GET", path, token=token)).status == 401
    assert (await scim(client, "POST", "/Users", {"userName": "x@example.com"}, token=None)).status == 401


# --- errors


@ensureDeferred
async def test_malformed_requests_are_refused_in_the_form_of_scim(client: Client) -> None:
    await make(client, "ann")
    for body in (b"", b"{", b"[]", b"5", b"\xff", b'{"userName": "\\ud800"}'):
        for method, path in (("POST", "/Users"), ("PUT", "/Users/ann-id"), ("PATCH", "/Groups/x"), ("POST", "/Users/.search")):
            assert (await scim(client, method, path, body)).status in (400, 404), (method, body)
    for wrong in (
        {},
        {"userName": None},
        {"userName": ""},
        {"userName": 5},
        {"userName": "no address"},
        {"userName": "a@example.com" * 30},
        {"userName": "x@example.com", "name": "x"},
        {"userName": "x@example.com", "name": {"givenName": "x" * 51}},
        {"userName": "x@example.com", "name": {"givenName": "a\0b"}},
        {"userName": "x@example.com", "active": "maybe"},
        {"userName": "x@example.com", "emails": [{"value": 5}]},
        {"userName": "x@example.com", "emails": [{"value": "x@example.com"}] * 200},
        {"userName": "x@example.com", "externalId": "x" * 300},
        {"userName": "x@example.com", "externalId": 5},
        {"userName": "x@example.com", "externalId": "directus_users:1"},
        {"userName": "x@example.com", "displayName": "x" * 70_000},
        {"userName": "x@example.com", ENTERPRISE: [1]},
        {"userName": "x@example.com", ENTERPRISE: {"manager": [[]]}},
        {"userName": "x@example.com", "timezone": "x" * 40},
    ):
        answer = await scim(client, "POST", "/Users", wrong)
        assert (answer.status, answer.json["scimType"]) == (400, "invalidValue"), (wrong, answer.body)
    assert (await scim(client, "POST", "/Users", b"x" * 5_000_000)).status == 413
    assert await found(client, 'userName sw "x"') == []
    assert (await patched(client, "/Users/ann-id")).status == 400
    assert (await scim(client, "PATCH", "/Users/ann-id", {"Operations": {}})).status == 400
    many = [{"op": "replace", "path": "title", "value": "x"}] * 1001
    assert (await patched(client, "/Users/ann-id", *many)).status == 400


def any_value(random: Random, depth: int = 3) -> Any:
    """Any JSON, with names that mean something."""
    kind = random.randrange(9 if depth else 6)
    if kind < 6:
        return random.choice(
            (None, True, 0, -1.5, 10**30, "", "a", "ann-id", "é\u0000", "x" * 300, "members[value eq", "name.givenName")
        )
    if kind == 6:
        return [any_value(random, depth - 1) for _ in range(random.randrange(4))]
    names = (
        "userName",
        "emails",
        "name",
        "value",
        "members",
        "Operations",
        "op",
        "path",
        "active",
        "externalId",
        "id",
        ENTERPRISE,
        "x",
    )
    found = {random.choice(names): any_value(random, depth - 1) for _ in range(random.randrange(5))}
    if random.random() < 0.3:
        found["Operations"] = [{"op": random.choice(("add", "replace", "remove")), **found} for _ in range(2)]
    return found


@ensureDeferred
async def test_any_body_is_taken_or_refused(client: Client) -> None:
    await make(client, "ann")
    group = await make_group(client, "Editors", "ann-id")
    paths = [("POST", "/Users"), ("POST", "/Groups"), ("POST", "/Users/.search"), ("POST", "/Groups/.search")]
    paths += [(method, path) for method in ("PUT", "PATCH") for path in ("/Users/ann-id", f"/Groups/{group}", "/Me")]
    random = Random(11)
    for _ in range(25):
        for method, path in paths:
            body = any_value(random)
            answer = await scim(client, method, path, body)
            assert answer.status < 500, (method, path, body)


@ensureDeferred
async def test_what_is_not_there_is_refused_in_the_form_of_scim(client: Client) -> None:
    for method, path, status in (
        ("GET", "/Users/nobody", 404),
        ("PUT", "/Users/nobody", 404),
        ("DELETE", "/Groups/nobody", 404),
        ("GET", "/Nothing", 404),
        ("GET", "/Schemas/nothing", 404),
        ("GET", "/ResourceTypes/nothing", 404),
        ("POST", "/Schemas", 405),
        ("DELETE", "/Users", 405),
        ("POST", "/Bulk", 501),
    ):
        assert (await scim(client, method, path, {} if method in ("POST", "PUT") else ...)).status == status, path
    answer = await client.get("/nowhere/scim/v2/Users", headers={"Accept": MEDIA_TYPE})
    assert (answer.status, answer.json["status"]) == (401, "401")


@ensureDeferred
async def test_the_form_of_directus_8_is_shown_without_the_media_type(client: Client) -> None:
    await make(client, "ann", displayName="Annie")
    shown = (await client.get("~/scim/v2/Users/ann-id")).json
    assert (shown["id"], shown["externalId"], shown["locale"]) == ("ann-id", 2, None)
    assert "displayName" not in shown
    assert (await client.call("PUT", "~/scim/v2/Users/ann-id", {**shown, "displayName": "X", "externalId": "x"})).status == 200
    again = (await scim(client, "GET", "/Users/ann-id")).json
    assert (again["externalId"], again["displayName"]) == ("ann-id", "Annie")
    group = await make_group(client, "Editors", "ann-id")
    (member,) = (await client.get(f"~/scim/v2/Groups/{group}")).json["members"]
    assert member["value"] == "ann@example.com"
    # What is shown can be sent back.
    assert (await client.call("PUT", f"~/scim/v2/Groups/{group}", {"members": [member]})).json["members"] == [member]
    refused = await client.get("~/scim/v2/Users?filter=userName%20sw%20%22a%22")
    assert (refused.status, refused.json["status"]) == (422, 422)
    assert (await client.get("~/scim/v2" + filtered("Groups", 'members eq "ann@example.com"'))).json["totalResults"] == 1
    body = {"displayName": "Team", "schemas": [GROUP], "id": 5}
    assert (await client.post("~/scim/v2/Groups", body)).status == 422


# --- the history


async def revisions(client: Client, key: int, collection: str = "directus_users", **options: Any) -> list[tuple[Any, Any]]:
    """What the revisions of a user or role hold beside the fields: all, and what has changed; None where nothing is."""
    path = f"~/revisions?filter[collection]={collection}&filter[item]={key}&sort=id&fields=data,delta&limit=-1"
    answer = await client.get(path, **options)
    assert answer.status == 200, answer.body
    return [(each["data"].get("scim"), each["delta"].get("scim") if each["delta"] else None) for each in answer.data]


@ensureDeferred
async def test_what_is_kept_of_a_user_is_in_the_history(client: Client) -> None:
    work = {"department": "Engines", "costCenter": "7"}
    id = await make(client, "ada", displayName="Ada", password="ada-secret", **{ENTERPRISE: work})
    key = (await client.get(f"~/users?filter[external_id]={id}&single=1&fields=id")).data["id"]
    kept = {"externalId": "ada-id", "displayName": "Ada", ENTERPRISE: work}
    assert await revisions(client, key) == [(kept, kept)]
    # Only what is kept changes, then fields as well, then fields alone.
    await patched(client, f"/Users/{id}", {"op": "replace", "path": "displayName", "value": "Countess"})
    both = {"title": "Dr", "nickName": "A", ENTERPRISE: {"department": None}}
    await patched(client, f"/Users/{id}", {"op": "replace", "value": both})
    await patched(client, f"/Users/{id}", {"op": "replace", "path": "title", "value": "Prof"})
    await patched(
        client, f"/Users/{id}", {"op": "remove", "path": "nickName"}, {"op": "replace", "path": "externalId", "value": "x"}
    )
    second = kept | {"displayName": "Countess"}
    third = second | {"nickName": "A", ENTERPRISE: {"costCenter": "7"}}
    last = {name: value for name, value in third.items() if name != "nickName"} | {"externalId": "x"}
    assert (await revisions(client, key))[1:] == [
        (second, {"displayName": "Countess"}),
        (third, {"nickName": "A", ENTERPRISE: {"costCenter": "7"}}),
        (None, None),
        (last, {"nickName": None, "externalId": "x"}),
    ]
    # What is refused leaves nothing, and no password is anywhere.
    refused = await patched(client, f"/Users/{id}", {"op": "replace", "value": {"nickName": "B", "locale": "x" * 99}})
    assert refused.status == 400, refused.body
    assert len(await revisions(client, key)) == 5
    text = (await client.get("~/revisions?limit=-1")).body.decode()
    assert "ada-secret" not in text
    assert "$argon2" not in text


@ensureDeferred
async def test_only_who_may_change_all_users_sees_what_is_kept_in_the_history(client: Client) -> None:
    id = await make(client, "ada", nickName="hidden-nickname")
    key = (await client.get(f"~/users?filter[external_id]={id}&single=1&fields=id")).data["id"]
    group = await make_group(client, "Staff")
    await patched(client, f"/Groups/{group}", {"op": "replace", "path": "externalId", "value": "staff-7"})
    ((role,),) = await execute(client, "SELECT id FROM directus_roles WHERE external_id = %s", (group,))
    assert await revisions(client, role, "directus_roles") == [
        (None, None),
        ({"externalId": "staff-7"}, {"externalId": "staff-7"}),
    ]
    readers = await make_role(client, "Readers")
    await make_user(client, email="r@example.com", token="reader", role=readers)
    await permit(client, readers, "directus_revisions", read="full")
    for level, sees in (("mine", False), ("full", True)):
        for status in ("draft", "invited", "active", "suspended", "deleted"):
            await permit(client, readers, "directus_users", status, read="full", update=level)
        token = "reader"
        shown = await revisions(client, key, token=token)
        assert len(shown) == 1
        assert (shown[0][0] is not None) == sees
        path = "~/revisions?filter[data][contains]=hidden-nickname"
        assert len((await client.get(path, token=token)).data) == sees
