"""The settings of single sign-on, and the pages that a sign-on may return to."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from directus_tx.accounts.sso.redirects import check_redirect, origin_of, with_parameters
from directus_tx.accounts.sso.settings import sign_on_settings

CLIENT = {"client_id": "x", "client_secret": "y"}
COMPANY = {**CLIENT, "issuer": "https://id.example.com/realm"}


def mistakes(name: str, table: Any) -> list[str]:
    found = sign_on_settings({"social_providers": {name: table}})
    assert bool(found.mistakes) != bool(found.providers)
    return [each.removeprefix(f"auth.social_providers.{name}: ") for each in found.mistakes]


def test_the_name_of_a_provider_says_which_one_it_is() -> None:
    tables = {
        "github": CLIENT,
        "google": CLIENT,
        "okta": {**CLIENT, "base_url": "https://x.okta.com"},
        "facebook": CLIENT,
        "company": COMPANY,
        "forge": {**CLIENT, "driver": "github", "base_url": "https://git.example.com"},
    }
    found = sign_on_settings({"social_providers": tables, "secret_key": "of Directus 8"})
    assert found.mistakes == ()
    assert {name: each.driver for name, each in found.providers.items()} == {
        **{name: name for name in ("github", "google", "okta", "facebook")},
        "company": "openid",
        "forge": "github",
    }
    assert found.providers["google"].issuer == "https://accounts.google.com"
    assert found.providers["github"].base_url == "https://github.com"
    assert "client_secret" not in repr(found)


@pytest.mark.parametrize(
    ("name", "table", "wanted"),
    [
        ("github", {}, ["client_id is required", "client_secret is required"]),
        ("github", {**CLIENT, "client_secret": 7}, ["client_secret must be a text"]),
        ("github", {**CLIENT, "create_user": True}, ['there is no setting create_user; did you mean "create_users"?']),
        ("github", {**CLIENT, "group_claim": "x"}, ["group_claim is not a setting of the driver github"]),
        ("github", {**CLIENT, "create_users": "yes", "role": 3}, ["create_users must be true or false"]),
        ("github", {**CLIENT, "create_users": True}, ["create_users requires role or group_roles"]),
        ("github", {**CLIENT, "role": True}, ["role must be a role"]),
        ("github", {**CLIENT, "role": 2}, ["the public role is not a role of users"]),
        ("github", {**CLIENT, "scopes": "a b"}, ["scopes must be a list of texts"]),
        ("github", {**CLIENT, "scopes": ["a b"]}, ["scopes must be texts without blanks and quotation marks"]),
        ("github", {**CLIENT, "driver": "gitlab"}, ["driver must be one of openid, github, google, okta, facebook"]),
        ("github", {**CLIENT, "driver": ["github"]}, ["driver must be one of openid, github, google, okta, facebook"]),
        ("facebook", {**CLIENT, "graph_api_version": "../x"}, ["graph_api_version must be like v19.0"]),
        ("okta", CLIENT, ["base_url is required"]),
        ("company", CLIENT, ["issuer is required"]),
        ("company", {**COMPANY, "issuer": ""}, ["issuer is required"]),
        ("company", {**COMPANY, "scopes": ["email"]}, ["scopes must have openid"]),
        ("company", {**COMPANY, "group_claim": "groups"}, ["group_claim and group_roles require each other"]),
        ("company", {**COMPANY, "group_claim": "g", "group_roles": {"a": 2}}, ["the public role is not a role of users"]),
        ("company", {**COMPANY, "group_claim": "g", "group_roles": {"a": None}}, ["group_roles must be a table of roles"]),
        ("company", 7, ["must be a table"]),
    ],
)
def test_mistakes_are_named(name: str, table: Any, wanted: list[str]) -> None:
    assert mistakes(name, table) == wanted


@pytest.mark.parametrize("name", ["access_token", "a/b", "", "-x", "x" * 41, "ü"])
def test_names_that_are_not_parts_of_a_path_are_refused(name: str) -> None:
    assert mistakes(name, COMPANY)[0].startswith("the name must consist of")


@pytest.mark.parametrize(
    "url",
    [
        "http://id.example.com",
        "https://",
        "https://user@id.example.com",
        "https://id.example.com?x=1",
        "https://id.example.com#x",
        "https://id.exämple.com",
        "https://id.example.com/a b",
        "https://id.example.com:99999",
        "ftp://id.example.com",
        "id.example.com",
        "https://id.example.com/" + "x" * 255,
    ],
)
def test_addresses_of_providers_that_cannot_be_used_are_refused(url: str) -> None:
    assert len(mistakes("company", {**COMPANY, "issuer": url})) == 1
    assert len(mistakes("okta", {**CLIENT, "base_url": url})) == 1


@pytest.mark.parametrize(
    "url", ["http://localhost:8000/x", "http://127.0.0.1", "http://[::1]:80", "https://id.example.com:8443/a/b/"]
)
def test_addresses_of_providers(url: str) -> None:
    assert mistakes("company", {**COMPANY, "issuer": url}) == []


def test_a_public_client_of_openid_connect_needs_no_secret() -> None:
    assert mistakes("company", {"client_id": "x", "issuer": "https://id.example.com"}) == []


@pytest.mark.parametrize(
    "listed", ["https://a.example.com", [7], {"a": 1}, ["//a"], ["https://a.example.com/x"], ["*"], ["null"]]
)
def test_origins_that_are_none_are_named(listed: Any) -> None:
    found = sign_on_settings({"redirect_origins": listed})
    assert found.redirect_origins == frozenset()
    assert [each.startswith("auth.redirect_origins") for each in found.mistakes] == [True]


def test_tables_of_directus_8_without_providers_are_accepted() -> None:
    for auth in ({}, {"social_providers": None}, {"social_providers": {}}, {"secret_key": "x", "public_key": "y", "ttl": 20}):
        assert sign_on_settings(auth).mistakes == ()
    assert sign_on_settings({"social_providers": [1]}).mistakes == ("auth.social_providers must be a table",)


@given(
    st.text(max_size=60)
    | st.builds(lambda a, b, c: f"{a}shop.example.com{b}{c}", *[st.text(st.characters(codec="utf-8"), max_size=6)] * 3)
)
def test_a_page_that_is_accepted_begins_with_the_allowed_origin(text: str) -> None:
    for url in (text, f"https://{text}", f"https://shop.example.com{text}"):
        try:
            found = check_redirect(url, {"https://shop.example.com:443"})
        except ValueError:
            continue
        assert found.lower().startswith(("https://shop.example.com/", "https://shop.example.com:"))
        assert origin_of(found) == "https://shop.example.com:443"
        assert origin_of(with_parameters(found, error="true", code="1")) == "https://shop.example.com:443"


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("https://a/", "https://a/?code=1"),
        ("https://a/?x", "https://a/?x&code=1"),
        ("https://a/?x=%C3%BC&&y=+#f?g", "https://a/?x=%C3%BC&y=+&code=1#f?g"),
        ("https://a/?code=2&request%5Ftoken=x&error&errors=1", "https://a/?errors=1&code=1"),
    ],
)
def test_parameters_are_added_before_the_fragment_and_replace_their_like(url: str, wanted: str) -> None:
    assert with_parameters(url, code="1") == wanted
