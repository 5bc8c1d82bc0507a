"""Signing in with the passwords of a directory: Debian's slapd, as a process of its own."""

import pathlib
import socket
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from directory import SERVICE, SERVICE_PASSWORD, SLAPD, SUFFIX, Directory, group, person

from directus_tx.testing import Answer, Caller, Project, Server

pytestmark = pytest.mark.skipif(SLAPD is None, reason="no slapd on this machine (Debian: apt-get install slapd)")
ANNA = {"email": "anna@example.com", "password": "annas-password"}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Directory]:
    found = Directory(
        tmp_path_factory.mktemp("slapd"),
        person("anna", "anna@example.com", "annas-password", "Anna", "Ålesund"),
        person("bert", "bert@example.com", "berts-password"),
        person("nopassword", "nopassword@example.com", None),
        person("twin1", "twin@example.com", "twins-password"),
        person("twin2", "twin@example.com", "twins-password"),
        person("star", "a*b@example.com", "stars-password"),
        group("editors", "anna"),
        group("staff", "anna", "bert"),
    )
    found.start()
    yield found
    found.stop()


def provider(directory: Directory, **more: Any) -> dict[str, Any]:
    return {
        "driver": "ldap",
        "url": directory.url,
        "ca_file": str(directory.ca_file),
        "bind_dn": SERVICE,
        "bind_password": SERVICE_PASSWORD,
        "base_dn": f"ou=people,{SUFFIX}",
        "create_users": True,
        "role": "Staff",
        **more,
    }


def project_with(server: Server, *roles: str, **providers: Mapping[str, Any]) -> Project:
    project = server.create_project()
    server.change_project_file(project, auth={"password_providers": providers})
    for role in roles or ("Staff",):
        assert project.post("/roles", {"name": role}).status == 200
    return project


def sign_in(project: Caller, **credentials: str) -> Answer:
    return project.server.call("POST", f"/{project.project}/auth/authenticate", credentials)


def users(project: Project, **query: str) -> list[dict[str, Any]]:
    return project.get("/users", fields="id,email,first_name,last_name,role.name", **query).data


@pytest.mark.parametrize("encryption", ["start_tls", "ldaps", "none"])
def test_users_sign_in_with_the_password_of_the_directory(directus_server: Server, directory: Directory, encryption: str) -> None:
    more = {"start_tls": {}, "ldaps": {"url": directory.tls_url}, "none": {"start_tls": False}}[encryption]
    project = project_with(directus_server, office=provider(directory, **more))
    answer = sign_in(project, **ANNA)
    assert answer.status == 200, answer.body
    me = Caller(directus_server, project.project, answer.data["token"]).get("/users/me").data
    assert (me["email"], me["first_name"], me["last_name"]) == ("anna@example.com", "Anna", "Ålesund")
    assert sign_in(project, email="ANNA@example.com", password="annas-password").status == 200
    assert [each["role"]["name"] for each in users(project, **{"filter[email]": "anna@example.com"})] == ["Staff"]
    # The administrator has a password in the project.
    assert sign_in(project, email="admin@example.com", password="password").status == 200


def test_nobody_else_signs_in(directus_server: Server, directory: Directory) -> None:
    project = project_with(directus_server, office=provider(directory))
    unknown = sign_in(project, email="unknown@example.com", password="x")
    assert (unknown.status, unknown.code) == (404, 100)
    for email, password in (
        ("anna@example.com", "berts-password"),
        ("anna@example.com", "annas-password "),
        ("anna@example.com", "*"),
        ("nopassword@example.com", "anything"),
        ("*@example.com", "annas-password"),
        ("*", "annas-password"),
        ("anna@example.com)(uid=anna", "annas-password"),
        ("anna@example.com\\2a", "annas-password"),
        ("x)(|(mail=anna@example.com", "annas-password"),
        ("anna@example.com\0", "annas-password"),
        ("", "annas-password"),
    ):
        answer = sign_in(project, email=email, password=password)
        assert answer.status in (404, 422), (email, password)
        assert answer.code in (100, 114, 4), (email, password, answer.body)
    assert sign_in(project, email="anna@example.com", password="").status == 422
    assert [each["email"] for each in users(project)] == ["admin@example.com"]
    # What means something in filters can be in an address.
    assert sign_in(project, email="a*b@example.com", password="stars-password").status in (200, 401)


def test_groups_decide_the_role(directus_server: Server, directory: Directory) -> None:
    groups = {"group_base_dn": f"ou=groups,{SUFFIX}", "group_roles": {"editors": "Editors", "staff": "Staff"}}
    project = project_with(directus_server, "Editors", "Staff", office=provider(directory, role="Staff", **groups))
    assert sign_in(project, **ANNA).status == 200
    assert sign_in(project, email="bert@example.com", password="berts-password").status == 200
    found = {each["email"]: each["role"]["name"] for each in users(project, **{"filter[email][like]": "@example.com"})}
    assert (found["anna@example.com"], found["bert@example.com"]) == ("Editors", "Staff")


def test_several_entries_for_an_address_are_refused(directus_server: Server, directory: Directory) -> None:
    project = project_with(directus_server, office=provider(directory))
    answer = sign_in(project, email="twin@example.com", password="twins-password")
    assert (answer.status, answer.code) == (401, 120)
    directus_server.logged(project.project, "user_filter finds several entries")


def test_a_directory_that_cannot_be_asked_is_no_wrong_password(
    directus_server: Server, directory: Directory, tmp_path: pathlib.Path
) -> None:
    """The log says why; the answer says nothing about it."""
    (tmp_path / "other.pem").write_text(_other_authority())
    with socket.socket() as silent, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        cases = {
            "refuses": ({"bind_password": "wrong"}, "the directory refuses bind_dn"),
            "silent": ({"url": f"ldap://127.0.0.1:{silent.getsockname()[1]}", "timeout": 0.3}, "has not answered within 0.3 s"),
            "closed": ({"url": f"ldap://127.0.0.1:{closed.getsockname()[1]}"}, "the directory cannot be asked: Connection"),
            "untrusted": ({"ca_file": str(tmp_path / "other.pem")}, "the directory cannot be asked"),
            "anonymous": ({"base_dn": "ou=nothing,dc=example,dc=com"}, "the directory cannot be asked: LDAPNoSuchObject"),
        }
        for name, (more, said) in cases.items():
            project = project_with(directus_server, **{name: provider(directory, **more)})
            answer = sign_in(project, **ANNA)
            assert (answer.status, answer.code) == (401, 120), name
            assert "annas-password" not in directus_server.logged(project.project, said)
            assert b"directory" not in answer.body


def test_settings_that_cannot_be_used_are_named(directus_server: Server, directory: Directory) -> None:
    """The other providers of the project work."""
    cases = {
        "scheme": {"url": "http://localhost"},
        "host": {"url": "ldap://"},
        "base": {"base_dn": ""},
        "dn": {"bind_dn": "no name"},
        "password": {"bind_password": ""},
        "filter": {"user_filter": "(mail={email}"},
        "placeholder": {"user_filter": "(mail=*)"},
        "groups": {"group_filter": "(member=x)"},
        "file": {"ca_file": "/nothing.pem"},
    }
    wrong = {name: provider(directory, **more) for name, more in cases.items()}
    project = project_with(directus_server, **wrong, office=provider(directory))
    assert sign_in(project, **ANNA).status == 200
    for name in cases:
        directus_server.logged(f"project {project.project}: the provider {name} cannot be used: ")


def test_a_directory_that_starts_again_is_asked_again(directus_server: Server, directory: Directory) -> None:
    project = project_with(directus_server, office=provider(directory, start_tls=False))
    assert sign_in(project, **ANNA).status == 200
    directory.stop()
    try:
        assert sign_in(project, **ANNA).code == 120
    finally:
        directory.start()
    assert sign_in(project, **ANNA).status == 200


def _other_authority() -> str:
    import trustme

    return trustme.CA().cert_pem.bytes().decode()
