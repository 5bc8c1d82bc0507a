"""The JavaScript client of Directus 8, `@directus/sdk-js` 6 from the npm registry, drives a server: each of its methods is called."""

import base64
import io
import itertools
import pathlib
import re
import time
from collections.abc import Iterator
from email import message_from_bytes
from email.policy import default
from typing import Any

import pytest
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor.hotp import HOTP
from PIL import Image

from tests.api.test_files import picture
from tests.conftest import KEY, field
from tests.daemon import SUPER_ADMIN_TOKEN, TOKEN, Daemon, wait_for
from tests.live.browser import needs_browser, pages
from tests.live.javascript import PATIENCE, Node, Sdk, SdkError, needs_javascript, write_page
from tests.smtp_server import Mailbox, mail_server_for_processes

pytestmark = needs_javascript

ADMIN = {"email": "admin@example.com", "password": "password"}
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A server whose admin app is a page with the client."""
    found = Daemon(tmp_path_factory.mktemp("sdk"))
    write_page(found.directory / "pages")
    found.environment["DIRECTUS_SERVER_ADMIN_APP"] = str(found.directory / "pages")
    found.start()
    found.create_project("shop")
    yield found
    assert found.stop() == 0


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    with Node() as found:
        yield found


@pytest.fixture(scope="module")
def admin(node: Node, daemon: Daemon) -> Sdk:
    """An administrator who has signed in with a JWT."""
    found = node.client(daemon.base, "shop")
    found.login(ADMIN)
    return found


def collection(admin: Sdk, *fields: dict[str, Any]) -> str:
    """Makes a collection with a counting key and these fields. Returns its name."""
    name = f"things{next(_numbers)}"
    admin.createCollection({"collection": name, "fields": [KEY, *fields]})
    return name


def user_of_role(admin: Sdk, node: Node, daemon: Daemon, *permissions: dict[str, Any]) -> tuple[Sdk, int, int]:
    """A user who has signed in and may do what *permissions* say; the ids of the user and of the role."""
    number = next(_numbers)
    role = admin.createRole({"name": f"Role {number}"})["data"]["id"]
    if permissions:
        admin.createPermissions([{"role": role, **each} for each in permissions])
    credentials = {"email": f"user{number}@example.com", "password": "secret"}
    user = admin.createUser({**credentials, "role": role, "status": "active"})["data"]["id"]
    found = node.client(daemon.base, "shop")
    found.login(credentials)
    return found, user, role


# --- signing in


def test_signing_in_gives_a_token_that_the_client_reads_and_uses(node: Node, daemon: Daemon) -> None:
    sdk = node.client(daemon.base + "/", "shop")
    assert sdk.isLoggedIn() is False
    found = sdk.login(ADMIN)
    assert (found["data"]["token"], found["data"]["user"]["email"]) == (sdk.value("config.token"), ADMIN["email"])
    payload = sdk.at("api.getPayload")()
    assert (payload["id"], payload["type"], payload["project"]) == (1, "auth", "shop")
    assert sdk.isLoggedIn() is True
    assert sdk.getMe({"fields": "id,role.name"}) == {"data": {"id": 1, "role": {"name": "Administrator"}}}
    # The address and the project can come with the credentials.
    other = node.client("http://127.0.0.1:1", "none")
    other.login({**ADMIN, "url": daemon.base, "project": "shop"})
    assert other.isLoggedIn() is True


def test_wrong_credentials_are_an_error_of_the_client(node: Node, daemon: Daemon) -> None:
    sdk = node.client(daemon.base, "shop")
    with pytest.raises(SdkError) as refused:
        sdk.login({**ADMIN, "password": "wrong"})
    assert (refused.value.name, refused.value.code, refused.value.status) == ("APIError", "100", 404)
    assert sdk.isLoggedIn() is False


def test_a_token_is_refreshed(node: Node, daemon: Daemon) -> None:
    sdk = node.client(daemon.base, "shop")
    first = sdk.login(ADMIN)["data"]["token"]
    token = sdk.refresh(first)["data"]["token"]
    assert node.client(daemon.base, "shop", token=token).getMe({"fields": "id"}) == {"data": {"id": 1}}
    # The client refreshes a token that it has for less than 30 seconds more.
    sdk.assign("config.token", first)
    sdk.assign("config.localExp", sdk.value("config.localExp") - 1)
    assert sdk.refreshIfNeeded() == [True]
    assert sdk.at("api.getPayload")()["id"] == 1
    assert sdk.isLoggedIn() is True
    with pytest.raises(SdkError) as refused:
        sdk.refresh("no.such.token")
    assert refused.value.status == 401


def test_signing_out_ends_the_session(node: Node, daemon: Daemon) -> None:
    sdk = node.client(daemon.base, "shop")
    token = sdk.login(ADMIN)["data"]["token"]
    sdk.logout()
    assert (sdk.value("config.token"), sdk.isLoggedIn()) == (None, False)
    with pytest.raises(SdkError) as refused:
        sdk.refresh(token)
    assert refused.value.status == 401
    with pytest.raises(SdkError) as refused:
        sdk.getMe()
    assert (refused.value.code, refused.value.status) == ("3", 401)
    sdk.login(ADMIN)
    sdk.reset()
    wait_for(lambda: sdk.value("config.token") is None)
    assert sdk.isLoggedIn() is False


def test_a_session_cookie_signs_in(node: Node, daemon: Daemon) -> None:
    for options, login in (({"mode": "cookie"}, ()), ({}, ({"mode": "cookie"},))):
        sdk = node.client(daemon.base, "shop", **options)
        # The client takes the mode of its own options alone as the reason to send cookies.
        sdk.assign("api.xhr.defaults.withCredentials", True)
        assert "token" not in sdk.login(ADMIN, *login)["data"]
        assert sdk.value("config.token") is None
        assert (sdk.isLoggedIn(), sdk.getMe({"fields": "id"})) == (True, {"data": {"id": 1}})
        name = collection(sdk, field("name"))
        assert sdk.createItem(name, {"name": "by a cookie"})["data"]["name"] == "by a cookie"
        assert sdk.getModules() == {"data": []}
        sessions = sdk.at("api.get")("/auth/sessions")["data"]
        assert "cookie" in {each["token_type"] for each in sessions}
        sdk.logout()
        assert sdk.isLoggedIn() is False


def test_a_static_token_signs_in(node: Node, daemon: Daemon) -> None:
    sdk = node.client(daemon.base, "shop", token=TOKEN)
    assert (sdk.isLoggedIn(), sdk.getMe({"fields": "id"})) == (True, {"data": {"id": 1}})


def test_providers_of_single_sign_on_are_listed(node: Node, daemon: Daemon) -> None:
    assert node.client(daemon.base, "shop").getThirdPartyAuthProviders() == {"data": [], "public": True}
    daemon.create_project("company")
    file = daemon.directory / "var" / "projects" / "company.toml"
    file.write_text(f'{file.read_text()}\n[auth.social_providers.github]\nclient_id = "id"\nclient_secret = "secret"\n')
    providers = node.client(daemon.base, "company").getThirdPartyAuthProviders()["data"]
    assert providers == [{"name": "github", "icon": None}]


# --- the server


def test_the_server_and_the_project_say_what_they_are(node: Node, daemon: Daemon, admin: Sdk) -> None:
    assert admin.ping() == "pong"
    info = admin.projectInfo()["data"]
    assert info["api"]["version"]
    for sdk in (admin, node.client(daemon.base, "shop", token=TOKEN)):
        assert sdk.serverInfo() == {"data": info}
    # To the public, the server says no versions.
    public = node.client(daemon.base, "shop").serverInfo()
    assert (public["public"], "version" in public["data"]["api"]) == (True, False)
    with pytest.raises(SdkError) as refused:
        node.client(daemon.base, "nothing").serverInfo()
    assert refused.value.status == 401
    assert admin.updateDatabase() == ""


def test_lists_of_extensions_are_empty(admin: Sdk) -> None:
    assert [admin.getInterfaces(), admin.getLayouts(), admin.getModules()] == [{"data": []}] * 3


def test_settings(admin: Sdk) -> None:
    settings = {each["key"]: each for each in admin.getSettings()["data"]}
    assert settings["auto_sign_out"]["value"] == 10080
    assert admin.getSettings({"filter": {"key": "auto_sign_out"}, "fields": ["key"]})["data"] == [{"key": "auto_sign_out"}]
    assert {"auto_sign_out", "project_name"} <= {each["field"] for each in admin.getSettingsFields()["data"]}
    assert admin.updateItem("directus_settings", settings["project_name"]["id"], {"value": "Shop"})["data"]["value"] == "Shop"
    assert admin.projectInfo()["data"]["api"]["project_name"] == "Shop"


# --- the schema


def test_collections(admin: Sdk) -> None:
    name = f"things{next(_numbers)}"
    made = admin.createCollection({"collection": name, "fields": [KEY, field("title")], "note": "first"})["data"]
    assert (made["collection"], made["note"]) == (name, "first")
    assert name in {each["collection"] for each in admin.getCollections()["data"]}
    assert sorted(admin.getCollection(name)["data"]["fields"]) == ["id", "title"]
    assert admin.getCollection(name)["data"]["note"] == "first"
    assert admin.updateCollection(name, {"note": "second", "hidden": True})["data"]["note"] == "second"
    assert admin.deleteCollection(name) == ""
    with pytest.raises(SdkError) as refused:
        admin.getCollection(name)
    assert (refused.value.code, refused.value.status) == ("203", 404)


def test_fields(admin: Sdk) -> None:
    name = collection(admin, field("title"))
    made = admin.createField(name, {"field": "pages", "type": "integer", "datatype": "INT", "length": 11})["data"]
    assert (made["field"], made["length"]) == ("pages", "11")
    assert admin.getField(name, "pages")["data"]["type"] == "integer"
    assert [each["field"] for each in admin.getFields(name)["data"]] == ["id", "title", "pages"]
    everywhere = {(each["collection"], each["field"]) for each in admin.getAllFields()["data"]}
    assert {(name, "pages"), ("directus_users", "email")} <= everywhere
    assert admin.updateField(name, "pages", {"note": "How many"})["data"]["note"] == "How many"
    changed = admin.updateFields(name, [{"field": "title", "sort": 2}, {"field": "pages", "sort": 1}])["data"]
    assert [(each["field"], each["sort"]) for each in changed] == [("title", 2), ("pages", 1)]
    changed = admin.updateFields(name, ["title", "pages"], {"width": "half"})["data"]
    assert [each["width"] for each in changed] == ["half", "half"]
    assert admin.deleteField(name, "pages") == ""
    assert [each["field"] for each in admin.getFields(name)["data"]] == ["id", "title"]


def test_relations(admin: Sdk) -> None:
    many = collection(admin, field("title"), field("writer", "m2o", "INT", 11))
    one = collection(admin, field("name"), {"field": "works", "type": "o2m"})
    relation = {"collection_many": many, "field_many": "writer", "collection_one": one, "field_one": "works"}
    made = admin.createRelation(relation)["data"]
    assert {name: made[name] for name in relation} == relation
    assert made in admin.getRelations({"limit": -1})["data"]
    assert [found["data"] for found in admin.getCollectionRelations(many)] == [[made], []]
    assert [found["data"] for found in admin.getCollectionRelations(one)] == [[], [made]]
    assert admin.updateRelation(made["id"], {"field_one": None})["data"]["field_one"] is None


# --- items


@pytest.fixture
def library(admin: Sdk) -> tuple[str, str]:
    """Books that each have a writer, and the writers with their books."""
    books = collection(admin, field("title"), field("pages", "integer", "INT", 11), field("writer", "m2o", "INT", 11))
    writers = collection(admin, field("name"), {"field": "books", "type": "o2m"})
    admin.createRelation({"collection_many": books, "field_many": "writer", "collection_one": writers, "field_one": "books"})
    return books, writers


def test_items_are_created_read_changed_and_deleted(admin: Sdk, library: tuple[str, str]) -> None:
    books, writers = library
    writer = admin.createItem(writers, {"name": "Ada", "books": [{"title": "Notes", "pages": 66}]})["data"]["id"]
    made = admin.createItems(books, [{"title": "Engines", "pages": 12, "writer": writer}, {"title": "Empty"}])["data"]
    assert [each["title"] for each in made] == ["Engines", "Empty"]
    query = {
        "fields": ["title", "writer.name"],
        "filter": {"pages": {"gt": 10}, "writer.name": {"in": "Ada,Bob"}},
        "sort": "-pages",
        "limit": 1,
        "meta": "*",
    }
    found = admin.getItems(books, query)
    assert found["data"] == [{"title": "Notes", "writer": {"name": "Ada"}}]
    assert (found["meta"]["result_count"], found["meta"]["filter_count"], found["meta"]["total_count"]) == (1, 2, 3)
    pages = {"filter": {"pages": {"in": [12, 66]}}, "fields": ["pages"], "sort": ["pages"]}
    assert admin.getItems(books, pages)["data"] == [{"pages": 12}, {"pages": 66}]
    nested = admin.getItem(writers, writer, {"fields": ["name", "books.title"], "deep": {"books": {"sort": "title", "limit": 1}}})
    assert nested["data"] == {"name": "Ada", "books": [{"title": "Engines"}]}
    assert admin.getItems(books, {"q": "engin", "single": 1, "fields": "title"})["data"] == {"title": "Engines"}
    key = made[0]["id"]
    assert admin.updateItem(books, key, {"pages": 13}, {"fields": ["pages", "writer.name"]})["data"] == {
        "pages": 13,
        "writer": {"name": "Ada"},
    }
    changed = admin.updateItems(books, [{"id": each["id"], "pages": 7} for each in made], {"fields": "pages"})["data"]
    assert changed == [{"pages": 7}, {"pages": 7}]
    assert admin.deleteItem(books, key) == ""
    assert admin.deleteItems(books, [1, made[1]["id"]]) == ""
    assert admin.getItems(books)["data"] == []
    with pytest.raises(SdkError) as refused:
        admin.getItem(books, key)
    assert (refused.value.code, refused.value.status) == ("203", 404)


def test_text_in_parameters_arrives_as_it_is(admin: Sdk, library: tuple[str, str]) -> None:
    books, _ = library
    for title in ("a b", "a+b", "50% & more?", '#1 = "one"', "Ünïcödé 😀", "x[y]"):
        admin.createItem(books, {"title": title})
        assert admin.getItems(books, {"filter": {"title": {"eq": title}}, "fields": ["title"]})["data"] == [{"title": title}]


def test_revisions_and_reverting(admin: Sdk, library: tuple[str, str]) -> None:
    books, _ = library
    key = admin.createItem(books, {"title": "first"})["data"]["id"]
    admin.updateItem(books, key, {"title": "second"})
    revisions = admin.getItemRevisions(books, key, {"fields": ["id", "delta", "activity.action"]})["data"]
    assert [(each["delta"]["title"], each["activity"]["action"]) for each in revisions] == [
        ("first", "create"),
        ("second", "update"),
    ]
    assert admin.revert(books, key, revisions[0]["id"])["data"]["title"] == "first"
    actions = admin.getActivity({"filter": {"collection": books}, "fields": ["action"], "sort": "id"})["data"]
    assert [each["action"] for each in actions] == ["create", "update", "revert"]
    user = admin.createUser({"email": f"u{next(_numbers)}@example.com", "password": "x", "role": 1})["data"]["id"]
    assert len(admin.getItemRevisions("directus_users", user)["data"]) == 1


# --- users, roles, permissions


def test_users(admin: Sdk) -> None:
    email = f"new{next(_numbers)}@example.com"
    user = admin.createUser({"email": email, "password": "secret", "role": 1, "status": "active"})["data"]
    assert (user["email"], user.get("password")) == (email, None)
    assert admin.getUser(user["id"], {"fields": ["email", "role.name"]})["data"] == {
        "email": email,
        "role": {"name": "Administrator"},
    }
    assert email in {each["email"] for each in admin.getUsers({"limit": -1})["data"]}
    assert admin.updateUser(user["id"], {"first_name": "Grace"})["data"]["first_name"] == "Grace"
    assert admin.deleteItem("directus_users", user["id"]) == ""


def test_roles(admin: Sdk) -> None:
    role = admin.createRole({"name": f"Role {next(_numbers)}"})["data"]
    assert admin.getRole(role["id"], {"fields": "name"})["data"] == {"name": role["name"]}
    assert {"Administrator", role["name"]} <= {each["name"] for each in admin.getRoles({"limit": -1})["data"]}
    assert admin.updateRole(role["id"], {"description": "New"})["data"]["description"] == "New"
    assert admin.deleteRole(role["id"]) == ""


def test_a_limited_user_can_do_what_the_permissions_say(admin: Sdk, node: Node, daemon: Daemon, library: tuple[str, str]) -> None:
    books, writers = library
    admin.createItem(books, {"title": "Shown", "pages": 5, "writer": {"name": "Ada"}})
    allowed = {"collection": books, "create": "full", "read": "full", "update": "none", "delete": "none"}
    sdk, user, _ = user_of_role(admin, node, daemon, {**allowed, "read_field_blacklist": ["pages"]})
    assert sdk.getMe({"fields": "id"}) == {"data": {"id": user}}
    mine = {each["collection"]: each for each in sdk.getMyPermissions()["data"]}
    assert (mine[books]["create"], mine[books]["update"]) == ("full", "none")
    assert [each["id"] for each in sdk.getPermissions({"filter": {"collection": books}})["data"]] == [mine[books]["id"]]
    assert sdk.getItems(books) == {"data": [{"id": 1, "title": "Shown", "writer": 1}]}
    assert sdk.createItem(books, {"title": "Mine"})["data"]["title"] == "Mine"
    for work, code in (
        (lambda: sdk.updateItem(books, 1, {"title": "Changed"}), "302"),
        (lambda: sdk.deleteItem(books, 1), "303"),
        (lambda: sdk.getItems(writers), "300"),
        (lambda: sdk.createItem(writers, {"name": "Bob"}), "301"),
        (lambda: sdk.createCollection({"collection": "mine", "fields": [KEY]}), "3"),
        (lambda: sdk.updateUser(user, {"role": 1}), "302"),
    ):
        with pytest.raises(SdkError) as refused:
            work()
        assert (refused.value.code, refused.value.name) == (code, "APIError")
    # What is changed counts from the next request on.
    admin.updatePermissions([{"id": mine[books]["id"], "update": "full", "read_field_blacklist": []}])
    assert sdk.updateItem(books, 1, {"title": "Changed"})["data"] == {"id": 1, "title": "Changed", "pages": 5, "writer": 1}
    assert sdk.getFields(books)["data"][1]["field"] == "title"


def test_presets_of_a_limited_user(admin: Sdk, node: Node, daemon: Daemon, library: tuple[str, str]) -> None:
    """The client takes the role of the user from `role.id`."""
    books, _ = library
    sdk, user, role = user_of_role(admin, node, daemon, {"collection": books, "read": "full"})
    assert (sdk.getMyBookmarks(), sdk.getMyListingPreferences(books)) == ([], {})
    admin.createCollectionPreset({"collection": books, "view_type": "global"})
    assert sdk.getMyListingPreferences(books)["view_type"] == "global"
    admin.createCollectionPreset({"collection": books, "role": role, "view_type": "of the role"})
    assert sdk.getMyListingPreferences(books)["view_type"] == "of the role"
    preset = sdk.createCollectionPreset({"collection": books, "user": user, "view_type": "own"})["data"]["id"]
    assert sdk.getMyListingPreferences(books)["view_type"] == "own"
    assert sdk.updateCollectionPreset(preset, {"title": "Bookmark"})["data"]["title"] == "Bookmark"
    admin.createCollectionPreset({"collection": books, "title": "Everybody's"})
    assert [each["title"] for each in sdk.getCollectionPresets()] == ["Bookmark", "Everybody's"]
    assert sdk.deleteCollectionPreset(preset) == ""
    assert [each["title"] for each in sdk.getMyBookmarks()] == ["Everybody's"]


# --- passwords and invitations by mail


@pytest.fixture(scope="module")
def mailbox() -> Iterator[tuple[Mailbox, int]]:
    """What a mail server has received, and its port."""
    box = Mailbox()
    with mail_server_for_processes(box) as port:
        yield box, port


@pytest.fixture(scope="module")
def mailing(node: Node, daemon: Daemon, mailbox: tuple[Mailbox, int]) -> Sdk:
    """The administrator of a project that sends mail."""
    attributes = {
        "project": "mailing",
        "super_admin_token": SUPER_ADMIN_TOKEN,
        "user_email": ADMIN["email"],
        "user_password": ADMIN["password"],
        "mail_from": "shop@example.com",
        "mail": {"transport": "smtp", "host": "127.0.0.1", "port": mailbox[1]},
    }
    daemon.call("POST", "/server/projects", attributes, token=None)
    found = node.client(daemon.base, "mailing")
    found.login(ADMIN)
    return found


def mailed_token(box: Mailbox, email: str) -> str:
    """The token in the link of the mail to an address, when it has arrived. Removes the mail."""

    def arrived() -> list[Any]:
        return [each for each in box.mails if each.rcpt_tos == [email]]

    wait_for(arrived)
    (envelope,) = arrived()
    box.mails.remove(envelope)
    text = message_from_bytes(envelope.content, policy=default).get_body(("plain",)).get_content()
    found = re.search(r"token=([\w.-]+)", text)
    assert found is not None, text
    return found[1]


def test_a_forgotten_password_is_replaced(mailing: Sdk, node: Node, daemon: Daemon, mailbox: tuple[Mailbox, int]) -> None:
    email = "forgetful@example.com"
    mailing.createUser({"email": email, "password": "forgotten", "role": 1, "status": "active"})
    public = node.client(daemon.base, "mailing")
    public.requestPasswordReset(email)
    token = mailed_token(mailbox[0], email)
    public.resetPassword("remembered", token)
    with pytest.raises(SdkError) as refused:
        public.resetPassword("again", token)
    assert (refused.value.code, refused.value.status) == ("105", 401)
    with pytest.raises(SdkError):
        public.login({"email": email, "password": "forgotten"})
    public.login({"email": email, "password": "remembered"})
    assert public.getMe({"fields": "email"})["data"]["email"] == email


def test_an_invited_user_accepts_and_signs_in(mailing: Sdk, node: Node, daemon: Daemon, mailbox: tuple[Mailbox, int]) -> None:
    """The client has no methods for it; the admin app sends these requests with it."""
    email = "guest@example.com"
    (user,) = mailing.at("api.post")("/users/invite", {"email": email})["data"]
    assert (user["email"], user["status"]) == (email, "invited")
    mailing.updateUser(user["id"], {"role": 1, "password": "chosen"})
    public = node.client(daemon.base, "mailing")
    with pytest.raises(SdkError) as refused:
        public.login({"email": email, "password": "chosen"})
    assert (refused.value.code, refused.value.status) == ("103", 401)
    accepted = public.at("api.post")(f"/users/invite/{mailed_token(mailbox[0], email)}")["data"]
    assert (accepted["email"], accepted["status"]) == (email, "active")
    public.login({"email": email, "password": "chosen"})
    assert public.isLoggedIn() is True


# --- second factors


def one_time_password(secret: str, steps: int = 0) -> str:
    """The one-time password that an authenticator app shows, by a clock that is ahead by some steps of 30 seconds."""
    hotp = HOTP(base64.b32decode(secret), 6, SHA1(), enforce_key_length=False)
    return hotp.generate(int(time.time()) // 30 + steps).decode()


def test_a_second_factor(admin: Sdk, node: Node, daemon: Daemon) -> None:
    sdk, user, role = user_of_role(admin, node, daemon)
    credentials = {"email": sdk.getMe({"fields": "email"})["data"]["email"], "password": "secret"}
    # The role demands it: signing in answers an error beside the token, which opens nothing else than activating it.
    admin.updateRole(role, {"enforce_2fa": True})
    assert sdk.login(credentials)["error"]["code"] == 113
    with pytest.raises(SdkError) as refused:
        sdk.getMe()
    assert refused.value.status == 401
    secret = sdk.at("api.get")("/utils/2fa_secret")["data"]["2fa_secret"]
    # A step that is past by the time of the sign-in, which does not accept it twice.
    sdk.at("api.post")(f"/users/{user}/activate_2fa", {"2fa_secret": secret, "otp": one_time_password(secret, -1)})
    assert sdk.getMe({"fields": "id"}) == {"data": {"id": user}}
    for more, code in (({}, "111"), ({"otp": "000000"}, "112")):
        with pytest.raises(SdkError) as refused:
            sdk.login({**credentials, **more})
        assert (refused.value.code, refused.value.status) == (code, 404)
    found = sdk.login({**credentials, "otp": one_time_password(secret)})
    assert ("error" in found, sdk.getMe({"fields": "id"})) == (False, {"data": {"id": user}})
    admin.updateUser(user, {"2fa_secret": None})
    admin.updateRole(role, {"enforce_2fa": False})
    sdk.login(credentials)
    assert sdk.isLoggedIn() is True


# --- in a browser

IN_A_PAGE = """
const [url, project, done] = arguments;
const name = "things";
const sdk = new DirectusSDK.SDK({url, project, mode: "cookie"});
const credentials = {email: "admin@example.com", password: "password"};
(async () => {
    const before = await sdk.isLoggedIn();
    await sdk.login(credentials);
    const during = await sdk.isLoggedIn();
    const {data: made} = await sdk.createItem(name, {title: "made in a page"});
    const {data: changed} = await sdk.updateItem(name, made.id, {title: "changed"});
    const {data: found} = await sdk.getItems(name, {filter: {title: {contains: "chang"}}, fields: ["title"]});
    const {data: me} = await sdk.getMe({fields: ["id"]});
    await sdk.deleteItems(name, [made.id]);
    await sdk.logout();
    const after = await sdk.isLoggedIn();
    const jwt = new DirectusSDK.SDK({url, project});
    await jwt.login(credentials);
    const info = await jwt.serverInfo();
    await jwt.logout();
    return [before, during, changed.title, found, me, after, info.data.api.database];
})().then(done, error => done(String(error)));
"""


@pytest.fixture
def web(daemon: Daemon) -> str:
    """A project with a collection. Returns its key."""
    key = f"web{next(_numbers)}"
    daemon.create_project(key)
    daemon.call("POST", f"/{key}/collections", {"collection": "things", "fields": [KEY, field("title")]})
    return key


DONE = [False, True, "changed", [{"title": "changed"}], {"id": 1}, False, "mysql"]


def run_in_page(browser: Any, url: str, project: str) -> Any:
    browser.set_script_timeout(PATIENCE)
    return browser.execute_async_script(IN_A_PAGE, url, project)


@needs_browser
def test_a_page_of_another_origin_uses_the_client_with_a_cookie(daemon: Daemon, browser: Any, web: str) -> None:
    with pages(daemon.directory / "pages") as port:
        file = daemon.directory / "var" / "projects" / f"{web}.toml"
        file.write_text(file.read_text() + f'\n[cors]\norigin = ["http://127.0.0.1:{port}"]\n')
        browser.get(f"http://127.0.0.1:{port}/")
        assert run_in_page(browser, daemon.base, web) == DONE
        # A page that the project does not name reaches nothing with it.
        browser.get(f"http://localhost:{port}/")
        assert "Network error" in run_in_page(browser, daemon.base, web)


@needs_browser
def test_the_admin_app_uses_the_client_with_a_cookie(daemon: Daemon, browser: Any, web: str) -> None:
    browser.get(f"{daemon.base}/admin/")
    assert run_in_page(browser, "../", web) == DONE


# --- files


def test_files_are_read_and_their_contents(admin: Sdk, node: Node, daemon: Daemon) -> None:
    with pytest.raises(SdkError) as refused:
        admin.getFile("1")
    assert (refused.value.code, refused.value.status) == ("203", 404)
    content = picture("PNG", (300, 200))
    payload = {"filename_disk": "harbour.png", "filename_download": "harbour.png", "data": base64.b64encode(content).decode()}
    file = admin.at("api.post")("/files", payload)["data"]
    assert admin.getFiles({"fields": "id,title"}) == {"data": [{"id": file["id"], "title": "Harbour"}]}
    found = admin.getFile(str(file["id"]), {"fields": ["width", "data"]})["data"]
    assert (found["width"], found["data"]["asset_url"]) == (300, file["data"]["asset_url"])
    private_hash = file["private_hash"]
    assert admin.getAssetUrl(private_hash) == daemon.base + file["data"]["asset_url"]
    assert admin.getAssetUrl(private_hash, {"key": "thumbnail"}) == f"{daemon.base}/shop/assets/{private_hash}?key=thumbnail"
    for sdk in (admin, node.client(daemon.base, "shop")):
        assert sdk.getAsset(private_hash) == content
        small = sdk.getAsset(private_hash, {"w": 64, "h": 64, "f": "crop", "q": 80})
        assert Image.open(io.BytesIO(small)).size == (64, 64)
    with pytest.raises(SdkError):
        admin.getAsset("nothing")


UPLOADING = """
const [url, project, bytes, done] = arguments;
const told = [];
(async () => {
    const sdk = new DirectusSDK.SDK({url, project, mode: "jwt"});
    await sdk.login({email: "admin@example.com", password: "password"});
    const form = new FormData();
    form.append("title", "Sent by a page");
    form.append("data", new Blob([new Uint8Array(bytes)], {type: "image/png"}), "sent.png");
    const {data: file} = await sdk.uploadFiles(form, event => told.push(event.loaded));
    const content = await sdk.getAsset(file.private_hash);
    const asset = await (await fetch(sdk.getAssetUrl(file.private_hash))).arrayBuffer();
    const failed = await sdk.uploadFiles(new FormData()).catch(error => error.response.status);
    return [file.title, file.width, Array.from(new Uint8Array(content)), Array.from(new Uint8Array(asset)), failed, told.length > 0];
})().then(done, error => done(String(error)));
"""


@needs_browser
def test_a_page_uploads_a_file_and_reads_it(daemon: Daemon, browser: Any, web: str) -> None:
    content = list(picture("PNG", (30, 20)))
    with pages(daemon.directory / "pages") as port:
        file = daemon.directory / "var" / "projects" / f"{web}.toml"
        file.write_text(file.read_text() + f'\n[cors]\norigin = ["http://127.0.0.1:{port}"]\n')
        browser.set_script_timeout(PATIENCE)
        for address, url in ((f"http://127.0.0.1:{port}/", daemon.base), (f"{daemon.base}/admin/", "../")):
            browser.get(address)
            found = browser.execute_async_script(UPLOADING, url, web, content)
            assert found == ["Sent by a page", 30, content, content, 422, True]


# --- all of it


def test_every_method_of_the_client_is_tested(node: Node) -> None:
    methods = set(node.call("", "methods"))
    called = set(re.findall(r"\.(\w+)\(", pathlib.Path(__file__).read_text()))
    assert methods - called == set()
