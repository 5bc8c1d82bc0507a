"""What plugins register: settings, storages, providers, templates of mails, kinds of messages, services. The plugins are those of the
documentation."""

import json
import pathlib
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlencode

import click
import pytest
import pytest_twisted
import tomli_w
from attrs import evolve, frozen
from pytest_twisted import ensureDeferred
from twisted.application.service import Service
from twisted.internet import defer, reactor
from twisted.internet.task import Clock
from zope.interface import implementer

from directus_tx.accounts.sso.interfaces import (
    Flow,
    IAuthenticationProvider,
    Identity,
    IPasswordProvider,
    Redemption,
    SignOnError,
)
from directus_tx.accounts.sso.settings import AuthenticationDriver
from directus_tx.api import hookimpl
from directus_tx.checks import project_problems
from directus_tx.cli.main import directus
from directus_tx.config import ConfigError, OutgoingSettings, PluginSettings, Settings, load, setting
from directus_tx.db.connection import pause
from directus_tx.db.session import Session
from directus_tx.files.storage.testing import CHECKS
from directus_tx.plugins.manager import PluginError, Plugins
from directus_tx.plugins.services import STOPPING, PluginService
from directus_tx.registered import COMMANDS, collect
from tests.api.outbox import all_ended, delivering, mails, rows
from tests.api.test_files import upload
from tests.api.test_sso import Browser
from tests.api.test_two_factor import code
from tests.conftest import SUPER_ADMIN_TOKEN, Client
from tests.plugged import documented, logged, plugins_of
from tests.receiver import Receiver, receiving

TOTP = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"


@pytest.fixture
def share(tmp_path: pathlib.Path) -> pathlib.Path:
    """The directory of the storages of the documented plugin."""
    path = tmp_path / "share"
    path.mkdir()
    return path


@pytest_twisted.async_yield_fixture
async def receiver() -> AsyncIterator[Receiver]:
    """A server beside the one that is tested: the directory of the staff, and the chat."""
    async with receiving() as found:
        yield found


@pytest.fixture
def settings(settings: Settings, share: pathlib.Path, receiver: Receiver, tmp_path: pathlib.Path) -> Settings:
    """As other tests have them, with settings of the plugins; requests to this machine are allowed."""
    file = tmp_path / "directus.toml"
    tables = {
        "share": {"share": str(share)},
        "chat": {"url": f"{receiver.url}/chat"},
        "polite": {"greeting": "Good day"},
    }
    file.write_text(tomli_w.dumps({"plugins": tables}))
    found = load(str(file), {"DIRECTUS_PLUGINS_POLITE_STYLE": "loud"})
    return evolve(settings, plugin_tables=found.plugin_tables, outgoing=OutgoingSettings(allowed_networks=("127.0.0.0/8",)))


@pytest.fixture
def plugins(tmp_path: pathlib.Path) -> Plugins:
    (tmp_path / "mails").mkdir()
    return plugins_of(
        polite=documented("register_settings"),
        share=documented("register_storages"),
        staff=documented("register_authentication_drivers"),
        mails=documented("register_mail_templates", str(tmp_path)),
        chat=documented("register_outbox_kinds"),
        census=documented("register_services"),
        search=documented("configure"),
    )


def change_project(client: Client, **tables: Any) -> None:
    """Adds tables to the project file."""
    path = client.backend.projects.files.directory / f"{client.project}.toml"
    path.write_text(f"{path.read_text()}\n{tomli_w.dumps(tables)}")


async def execute(client: Client, statement: str) -> Any:
    return await Session(client.backend.projects.get(client.project).database).query(statement)


# --- settings


@ensureDeferred
async def test_settings_come_from_the_file_and_the_environment(client: Client) -> None:
    assert (await client.get("/custom/polite/greeting/Ada", token=None)).data == {"text": "GOOD DAY, ADA"}


@frozen
class AllKinds:
    text: str = setting("t", "A text.")
    number: int = setting(1, "A number.")
    part: float = setting(0.5, "A number.")
    flag: bool = setting(False, "A flag.")
    several: tuple[str, ...] = setting((), "Texts.")
    key: str = setting("", "A secret.", secret=True)


class WithSettings:
    """A plugin whose settings are of a class."""

    def __init__(self, cls: Any) -> None:
        self.cls = cls

    @hookimpl
    def register_settings(self) -> Any:
        return self.cls


def settings_of(tmp_path: pathlib.Path, table: str, environ: dict[str, str] | None = None, cls: Any = AllKinds) -> Any:
    file = tmp_path / "other.toml"
    file.write_text(table)
    found = collect(plugins_of(**{"my-plugin": WithSettings(cls)}), load(str(file), environ or {}))
    return found.servers["my-plugin"].settings


def test_settings_are_of_the_declared_types(tmp_path: pathlib.Path) -> None:
    assert settings_of(tmp_path, "") == AllKinds()
    (tmp_path / "key").write_text("secret\n")
    environ = {
        "DIRECTUS_PLUGINS_MY_PLUGIN_" + name: text for name, text in {"FLAG": "true", "SEVERAL": "a, b", "NUMBER": "3"}.items()
    }
    environ["DIRECTUS_PLUGINS_MY_PLUGIN_KEY_FILE"] = str(tmp_path / "key")
    found = settings_of(tmp_path, '[plugins.my-plugin]\nnumber = 2\npart = 2\nseveral = ["c"]\nflag = false', environ)
    assert found == AllKinds(number=3, part=2.0, flag=True, several=("a", "b"), key="secret")
    assert load(None, environ).plugin_tables.variables == environ
    assert "hidden-key" not in repr(load(None, environ | {"DIRECTUS_PLUGINS_MY_PLUGIN_KEY": "hidden-key"}))


@pytest.mark.parametrize(
    ("table", "environ", "said"),
    [
        ("[plugins.my-plugin]\nnumbr = 1", {}, 'there is no setting plugins.my-plugin.numbr; did you mean "number"?'),
        ('[plugins.my-plugin]\nnumber = "1"', {}, "plugins.my-plugin.number: takes a whole number"),
        ("[plugins.my-plugin]\nflag = 1", {}, "plugins.my-plugin.flag: takes true or false"),
        ("[plugins.my-plugin]\nnumber = -1", {}, "plugins.my-plugin.number: takes no negative number"),
        ("[plugins.my-plugn]\nnumber = 1", {}, 'plugins.my-plugn: there is no plugin my-plugn; did you mean "my-plugin"?'),
        ("", {"DIRECTUS_PLUGINS_MY_PLUGIN_NUMBR": "1"}, "DIRECTUS_PLUGINS_MY_PLUGIN_NUMBR: there is no such setting"),
        ("", {"DIRECTUS_PLUGINS_MY_PLUGIN_NUMBER": "x"}, "DIRECTUS_PLUGINS_MY_PLUGIN_NUMBER: 'x' is no number"),
        ("", {"DIRECTUS_PLUGINS_MY_PLUGIN_FLAG": "maybe"}, "plugins.my-plugin.flag: takes true or false"),
        ("", {"DIRECTUS_PLUGINS_MY_PLUGIN_TEXT_FILE": "/etc/hosts"}, "TEXT_FILE: there is no such setting"),
        ("", {"DIRECTUS_PLUGINS_OTHER_TEXT": "x"}, "DIRECTUS_PLUGINS_OTHER_TEXT: there is no such setting"),
    ],
)
def test_wrong_settings_are_named(tmp_path: pathlib.Path, table: str, environ: dict[str, str], said: str) -> None:
    with pytest.raises((PluginError, ConfigError)) as refused:
        settings_of(tmp_path, table, environ)
    assert said in str(refused.value)


def test_settings_of_a_plugin_without_settings_are_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(PluginError, match=r"the plugin my-plugin cannot be used: there is no setting plugins.my-plugin.number\."):
        settings_of(tmp_path, "[plugins.my-plugin]\nnumber = 1", cls=None)


@frozen
class NotMade:
    number: int = 1


@frozen
class OfOtherTypes:
    table: dict[str, str] = setting({}, "A table.")  # noqa: RUF009


@pytest.mark.parametrize("cls", [NotMade, OfOtherTypes, 5, dict, AllKinds()])
def test_classes_that_settings_cannot_be_read_into_are_refused(tmp_path: pathlib.Path, cls: Any) -> None:
    with pytest.raises(PluginError, match="the plugin my-plugin cannot be used: register_settings: "):
        settings_of(tmp_path, "", cls=cls)


def test_a_plugin_can_refuse_its_settings(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "other.toml"
    file.write_text('[plugins.search]\nurl = "http://localhost"')
    with pytest.raises(PluginError, match="the plugin search cannot be used: configure: url requires key"):
        collect(plugins_of(search=documented("configure")), load(str(file), {}))


def test_settings_of_a_plugin_that_is_left_out_are_no_mistake(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "other.toml"
    file.write_text('[plugins.search]\nurl = "http://localhost"')
    settings = load(str(file), {"DIRECTUS_PLUGINS_SEARCH_KEY_FILE": "/nowhere"})
    plugins = plugins_of(search=documented("configure"), other=WithSettings(AllKinds))
    plugins.settings = PluginSettings(on_error="skip")
    found = collect(plugins, settings)
    assert list(found.servers) == ["other"]


# --- registrations that are wrong


class Registering:
    """A plugin that registers a value with a hook."""

    def __init__(self, hook: str, value: Any) -> None:
        def implementation() -> Any:
            return value

        setattr(self, hook, hookimpl(implementation))


class NoService:
    name = "no service"


class OtherKind:
    name = "chat"
    time_limit = 5.0

    async def deliver(self, project: Any, delivery: Any) -> Any:
        raise NotImplementedError


def kind(**attributes: Any) -> Any:
    found = OtherKind()
    for name, value in attributes.items():
        setattr(found, name, value)
    return found


WRONG = [
    ("register_storages", [], "it must return a dict, not list"),
    ("register_storages", {"x": 5}, '"x" must be a StorageAdapter, not int'),
    ("register_storages", {"": 5}, "a name must be a text"),
    ("register_storages", {"local": 5}, 'the name "local" is taken'),
    ("register_authentication_drivers", {"github": 5}, 'the name "github" is taken'),
    ("register_authentication_drivers", {"x": "y"}, '"x" must be a AuthenticationDriver, not str'),
    ("register_mail_templates", 5, "it must return the path of a directory, not int"),
    ("register_mail_templates", "/nowhere/at/all", "/nowhere/at/all is not a directory"),
    ("register_outbox_kinds", 5, "it must return a list, not int"),
    ("register_outbox_kinds", [5], "a name must be a text"),
    ("register_outbox_kinds", [kind(name="mail")], 'the name "mail" is taken'),
    ("register_outbox_kinds", [kind(), kind()], 'the name "chat" is taken'),
    ("register_outbox_kinds", [kind(time_limit=0)], "time_limit must be a number of seconds"),
    ("register_outbox_kinds", [kind(deliver=print)], "deliver must be a coroutine function"),
    ("register_services", Service(), "it must return a list, not Service"),
    ("register_services", [NoService()], "which NoService does not"),
    ("register_commands", click.Command("x"), "it must return a list, not Command"),
    ("register_commands", [print], "a command must be one of click, not builtin_function_or_method"),
    ("register_commands", [click.Command(None)], "a name must be a text"),
    ("register_commands", [click.Command("serve")], 'the name "serve" is taken'),
    ("register_commands", [click.Command("x"), click.Command("x")], 'the name "x" is taken'),
    ("configure", 5, "it must return nothing, not int"),
]


@pytest.mark.parametrize(("hook", "value", "said"), WRONG)
def test_wrong_registrations_name_the_plugin_and_the_hook(hook: str, value: Any, said: str) -> None:
    with pytest.raises(PluginError, match=f"the plugin wrong cannot be used: {hook}: ") as refused:
        collect(plugins_of(wrong=Registering(hook, value)), Settings(), ("mail",))
    assert said in str(refused.value)


def test_two_plugins_cannot_register_the_same_name() -> None:
    plugins = plugins_of(a=documented("register_storages"), b=documented("register_storages"))
    with pytest.raises(PluginError, match='the plugin b cannot be used: register_storages: the name "share" is taken'):
        collect(plugins, Settings())


def test_the_server_cannot_be_used_while_plugins_register() -> None:
    class Hasty:
        @hookimpl
        def configure(self, server: Any) -> None:
            server.projects()

    with pytest.raises(
        PluginError, match="the plugin hasty cannot be used: configure: RuntimeError: the server has not started yet"
    ):
        collect(plugins_of(hasty=Hasty()), Settings())


def test_the_names_of_the_servers_own_commands_are_taken() -> None:
    assert set(directus.commands) <= set(COMMANDS)


# --- storages


@ensureDeferred
async def test_files_are_in_the_storage_of_a_plugin(client: Client, share: pathlib.Path) -> None:
    change_project(client, storage={"adapter": "share"})
    found = await upload(client, ("data", b"hello", "a.txt"))
    assert found.status == 200, found.body
    assert found.data["storage"] == "share"
    (path,) = [path for path in (share / client.project).rglob("*") if path.is_file()]
    assert path.read_bytes() == b"hello"
    assert project_problems(client.backend.settings, client.backend.registered.storages) == []
    (problem,) = project_problems(client.backend.settings)
    assert "storage.adapter must be local or s3" in problem


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@ensureDeferred
async def test_the_storage_of_the_documentation_is_one(check: Any, client: Client) -> None:
    change_project(client, storage={"adapter": "share"})
    storage = client.backend.projects.get(client.project).storage
    assert storage.adapter == "share"
    await check(storage)


@ensureDeferred
async def test_clients_of_the_api_choose_no_directories_of_plugins(server: Client) -> None:
    body = {
        "project": "other",
        "super_admin_token": SUPER_ADMIN_TOKEN,
        "user_email": "a@example.com",
        "user_password": "password",
    }
    for table, said in (
        ({"adapter": "share", "root": "/etc"}, "can be set in the project file only"),
        ({"adapter": "shar"}, "storage.adapter must be local or s3 or share"),
    ):
        refused = await server.post("/server/projects", {**body, "storage": table}, token=None)
        assert refused.status == 422
        assert said in refused.json["error"]["message"]


# --- signing in

PASSWORDS = {"ada@example.com": "right", "bob@example.com": "right"}


def as_directory(receiver: Receiver) -> None:
    """Has a receiver answer like the directory of the staff."""

    def answer(request: Any) -> Any:
        asked = receiver.requests[-1].json
        if PASSWORDS.get(asked["email"].lower()) != asked["password"]:
            return 401
        person = {"number": len(asked["email"]), "email": asked["email"], "teams": ["editors"]}
        request.write(json.dumps(person).encode())
        request.finish()
        return None

    receiver.act = answer


@pytest.fixture
def directory(client: Client, receiver: Receiver) -> Receiver:
    """The directory of the staff, which the project asks for passwords and whose people become users."""
    as_directory(receiver)
    staff = {"driver": "staff", "url": f"{receiver.url}/check", "create_users": True, "role": 1, "trust_email": True}
    change_project(client, auth={"password_providers": {"staff": staff}})
    return receiver


async def sign_in(client: Client, email: str = "ada@example.com", password: str = "right", **more: Any) -> Any:
    return await client.post("~/auth/authenticate", {"email": email, "password": password, **more}, token=None)


@ensureDeferred
async def test_users_sign_in_with_the_password_of_a_provider(client: Client, directory: Receiver) -> None:
    found = await sign_in(client)
    assert found.status == 200, found.body
    me = await client.get("~/users/me?fields=email,role,status", token=found.data["token"])
    assert me.data == {"email": "ada@example.com", "role": 1, "status": "active"}
    again = await sign_in(client)
    assert again.data["user"]["id"] == found.data["user"]["id"]
    assert await execute(client, "SELECT count(*) FROM directus_users WHERE email = 'ada@example.com'") == [(1,)]
    assert await execute(client, "SELECT DISTINCT provider FROM directus_user_identities") == [("staff",)]
    actions = await execute(client, "SELECT count(*) FROM directus_activity WHERE action = 'authenticate'")
    assert actions == [(2,)]
    assert (await sign_in(client, mode="cookie")).headers["set-cookie"]
    assert directory.requests[0].json == {"email": "ada@example.com", "password": "right"}


@ensureDeferred
async def test_a_wrong_password_is_refused_as_without_providers_and_counted(client: Client, directory: Receiver) -> None:
    wrong = await sign_in(client, password="wrong")
    unknown = await sign_in(client, "nobody@example.com")
    assert (wrong.status, wrong.json) == (unknown.status, unknown.json) == (404, wrong.json)
    assert wrong.code == 100
    await sign_in(client)
    before = len(directory.requests)
    # The password of the project is tried first; a provider is asked if it is wrong.
    assert (await sign_in(client, "admin@example.com", "password")).status == 200
    assert len(directory.requests) == before
    assert (await sign_in(client, password="")).status == 422
    assert len(directory.requests) == before
    await execute(client, "UPDATE directus_settings SET value = '2' WHERE key = 'login_attempts_allowed'")
    for _ in range(3):
        last = await sign_in(client, password="wrong")
    assert last.code == 103
    assert (await sign_in(client)).code == 103


@ensureDeferred
async def test_the_second_factor_and_the_status_of_users_count(client: Client, directory: Receiver) -> None:
    user = (await sign_in(client)).data["user"]["id"]
    assert (await client.patch(f"~/users/{user}", {"2fa_secret": TOTP})).status == 200
    assert (await sign_in(client)).code == 111
    assert (await sign_in(client, otp="000000")).code == 112
    now = client.app.services.now()
    assert (await sign_in(client, otp=code(TOTP, now))).status == 200
    assert (await sign_in(client, otp=code(TOTP, now))).code == 112
    assert (await client.patch(f"~/users/{user}", {"status": "suspended"})).status == 200
    assert (await sign_in(client, otp=code(TOTP, now, 1))).code == 103


@ensureDeferred
async def test_people_without_a_user_are_refused_unless_users_are_created(client: Client, receiver: Receiver) -> None:
    as_directory(receiver)
    change_project(client, auth={"password_providers": {"staff": {"driver": "staff", "url": f"{receiver.url}/check"}}})
    with logged() as lines:
        refused = await sign_in(client)
    assert (refused.status, refused.code) == (401, 121)
    assert [line for line in lines if "sign-on with staff" in line and "belongs to no user" in line]
    assert (await client.get("~/auth/sso", token=None)).data == []
    assert (await client.get("~/auth/sso/staff", token=None)).status == 404


@ensureDeferred
async def test_a_provider_that_cannot_be_asked_is_logged_and_the_others_are_asked(client: Client, directory: Receiver) -> None:
    path = client.backend.projects.files.directory / f"{client.project}.toml"
    path.write_text(path.read_text().replace("[auth.password_providers.staff]", "[auth.password_providers.second]"))
    change_project(client, auth={"password_providers": {"first": {"driver": "staff", "url": "http://127.0.0.1:9/"}}})
    with logged() as lines:
        found = await sign_in(client)
        failed = await sign_in(client, password="wrong")
        own = await sign_in(client, "admin@example.com", "password")
    assert (found.status, failed.code, own.status) == (200, 120, 200)
    assert [line for line in lines if "sign-on with" in line and "the directory cannot be reached" in line]


class Broken:
    """Registers a driver whose providers fail in the way that the setting `how` says."""

    @hookimpl
    def register_authentication_drivers(self) -> Any:
        @frozen
        class How:
            how: str = setting("", "How the provider fails.")

        class Driver(AuthenticationDriver):
            settings = How
            password = True

            def open(self, provider: Any, tools: Any) -> Any:
                if provider.options.how == "open":
                    raise KeyError("nothing")
                return provider if provider.options.how == "no provider" else BrokenProvider(provider.options.how)

        return {"broken": Driver()}


@implementer(IPasswordProvider)
class BrokenProvider:
    issuer = "https://broken.example.com"

    def __init__(self, how: str) -> None:
        self.how = how

    async def verify(self, email: str, password: str) -> Any:
        if self.how == "raises":
            raise ZeroDivisionError("secret")
        if self.how == "refuses":
            raise SignOnError("not today")
        if self.how == "wrong type":
            return email
        return Identity(self.issuer, "1") if self.how == "nobody" else None


@pytest.mark.parametrize(
    ("how", "code"),
    [("open", 100), ("no provider", 100), ("raises", 120), ("refuses", 120), ("wrong type", 120), ("nobody", 121)],
)
@ensureDeferred
async def test_a_provider_that_fails_is_named_in_the_log_and_lets_nobody_in(
    settings: Settings, client: Client, how: str, code: int
) -> None:
    drivers = collect(plugins_of(broken=Broken()), Settings()).drivers
    client.backend.sign_on._drivers = drivers
    change_project(client, auth={"password_providers": {"odd": {"driver": "broken", "how": how}}})
    with logged() as lines:
        refused = await sign_in(client)
    assert refused.code == code
    assert b"secret" not in refused.body
    assert [line for line in lines if "odd" in line]
    assert (await sign_in(client, "admin@example.com", "password")).status == 200


@ensureDeferred
async def test_wrong_settings_of_providers_are_logged(client: Client) -> None:
    providers = {
        "a": {"driver": "staff", "url": "http://example.com"},
        "b": {"driver": "staff", "ulr": "x"},
        "c": {"driver": "github"},
        "d": {"driver": "staff", "create_users": True},
        "e": {"driver": "staff", "url": 5},
    }
    change_project(client, auth={"password_providers": providers})
    with logged() as lines:
        assert (await sign_in(client)).code == 100
    text = "\n".join(lines)
    for said in (
        "the provider a cannot be used: ValueError: url must begin with https://",
        'auth.password_providers.b: there is no setting ulr; did you mean "url"?',
        "auth.password_providers.c: driver must be one of staff",
        "auth.password_providers.d: create_users requires role or group_roles",
        "url: takes text",
    ):
        assert said in text
    refused = await client.post(
        "/server/projects",
        {
            "project": "other",
            "super_admin_token": SUPER_ADMIN_TOKEN,
            "user_email": "a@example.com",
            "user_password": "password",
            "auth": {"password_providers": providers},
        },
        token=None,
    )
    assert (refused.status, "project file only" in refused.json["error"]["message"]) == (422, True)


@implementer(IAuthenticationProvider)
class Guild:
    """A provider of single sign-on, whose page sends the browser back at once."""

    def __init__(self, issuer: str) -> None:
        self.issuer = issuer

    async def authorization_url(self, redirect_uri: str, flow: Flow) -> str:
        return f"{self.issuer}?{urlencode({'redirect_uri': redirect_uri, 'state': flow.state})}"

    def check_answer(self, issuer: str | None) -> None:
        if issuer is not None:
            raise SignOnError("it names another provider")

    async def identify(self, redemption: Redemption) -> Identity:
        if redemption.code != "good":
            raise SignOnError("the code is not good")
        return Identity(self.issuer, "7", "member@example.com", groups=frozenset({"masters"}))


@frozen
class GuildSettings:
    """Settings of the driver."""

    hall: str = setting("https://guild.example.com/", "The address of the page.")


class GuildDriver(AuthenticationDriver):
    settings = GuildSettings

    def open(self, provider: Any, tools: Any) -> Guild:
        return Guild(provider.options.hall)


@ensureDeferred
async def test_users_sign_on_with_a_provider_of_a_plugin(client: Client) -> None:
    client.backend.sign_on._drivers = {"guild": GuildDriver()}
    guild = {"driver": "guild", "hall": "https://hall.example.com/", "create_users": True, "group_roles": {"masters": 1}}
    change_project(client, auth={"social_providers": {"guild": guild, "wrong": {"driver": "guild", "hal": "x"}}})
    with logged() as lines:
        assert [each["name"] for each in (await client.get("~/auth/sso", token=None)).data] == ["guild"]
    assert [line for line in lines if 'auth.social_providers.wrong: there is no setting hal; did you mean "hall"?' in line]
    browser = Browser(client)
    for given, status in (("bad", 401), ("good", 200)):
        begun = await browser.get("~/auth/sso/guild?mode=cookie")
        assert begun.location.startswith("https://hall.example.com/?"), begun.reply.body
        back = begun.query["redirect_uri"]
        ended = await browser.get(f"{back}?{urlencode({'state': begun.query['state'], 'code': given})}")
        assert ended.status == status, ended.reply.body
    assert await execute(client, "SELECT role FROM directus_users WHERE email = 'member@example.com'") == [(1,)]


# --- templates of mails


@ensureDeferred
async def test_templates_of_projects_count_more_than_those_of_plugins(client: Client, tmp_path: pathlib.Path) -> None:
    sent = {"to": ["ada@example.com"], "subject": "s", "body": "hello", "type": "html"}
    for text in ("plugin", "project"):
        directory = tmp_path / "mails" if text == "plugin" else client.backend.projects.files.directory / f"{client.project}.mail"
        directory.mkdir(exist_ok=True)
        (directory / "mail.txt").write_text("unused")
        (directory / "mail.html").write_text(f"<p>of the {text}: {{{{ body }}}}</p>")
        assert (await client.post("~/mail", sent)).status == 204
        _, mail = (await mails(client))[-1]
        assert f"of the {text}: hello" in str(mail)


# --- kinds of messages


@ensureDeferred
async def test_messages_of_a_plugin_are_delivered_after_the_commit(client: Client, receiver: Receiver) -> None:
    statuses = [503, 200]
    receiver.act = lambda request: statuses.pop(0)
    assert (await client.post("~/custom/chat/messages", {"text": "héllo"})).status == 204
    async with delivering(client, client.backend.kinds["chat"]):
        await all_ended(client)
    first, second = receiver.of("/chat")
    assert first.json == second.json
    assert first.json["text"] == "héllo"
    assert [row[:2] for row in await rows(client)] == [("delivered", 2)]


# --- services


@ensureDeferred
async def test_services_have_the_projects_in_which_the_plugin_is_enabled(client: Client) -> None:
    (service,) = client.backend.registered.services
    assert (service.plugin, service.service.server.worker) == ("census", 0)
    service.startService()
    for _ in range(200):
        if service.service.counts:
            break
        await pause(reactor, 0.05)
    assert service.service.counts == {client.project: 1}
    await service.stopService()
    client.backend.plugins.enabled = lambda name, project: False
    assert service.service.server.projects() == []


class Failing(Service):
    def __init__(self, stopping: Any) -> None:
        self.stopping = stopping

    def startService(self) -> None:
        raise KeyError("cannot start")

    def stopService(self) -> Any:
        if isinstance(self.stopping, Exception):
            raise self.stopping
        return self.stopping


@pytest.mark.parametrize("stopping", [KeyError("cannot stop"), defer.Deferred(), None], ids=["raises", "hangs", "stops"])
def test_a_service_that_fails_is_named_and_keeps_nobody_waiting(stopping: Any) -> None:
    clock = Clock()
    service = PluginService(clock, "failing", Failing(stopping))
    with logged() as lines:
        service.startService()
        stopped: list[Any] = []
        service.stopService().addBoth(stopped.append)
        clock.advance(STOPPING)
    assert stopped == [None]
    assert [line for line in lines if "a service of the plugin failing cannot start" in line]
    assert bool([line for line in lines if "a service of the plugin failing cannot stop" in line]) == (stopping is not None)
