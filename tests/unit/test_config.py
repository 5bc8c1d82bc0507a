"""Settings from files and the environment."""

import pathlib

import pytest

from directus_tx.config import ConfigError, described, libpq_parameters, load


def test_without_anything_the_defaults_hold() -> None:
    settings = load(None, {})
    assert settings.server.listen == ("tcp:8080:interface=127.0.0.1",)
    assert settings.database.url == ""


def test_the_command_line_wins_over_the_environment_and_that_over_the_file(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "directus.toml"
    file.write_text('[server]\ndata_dir = "file"\nlog_format = "json"\n[database]\npool_size = 3\nqueue_timeout = 2\n')
    environ = {"DIRECTUS_SERVER_DATA_DIR": "environment", "DIRECTUS_DATABASE_POOL_SIZE": "4"}
    settings = load(str(file), environ, {("server", "listen"): ["tcp:1", "tcp:2"]})
    assert (settings.server.data_dir, settings.server.log_format) == ("environment", "json")
    assert (settings.database.pool_size, settings.database.queue_timeout) == (4, 2.0)
    assert settings.server.listen == ("tcp:1", "tcp:2")


def test_secrets_may_be_in_files_and_others_may_not(tmp_path: pathlib.Path) -> None:
    (tmp_path / "token").write_text("secret\n")
    assert load(None, {"DIRECTUS_SUPER_ADMIN_TOKEN_FILE": str(tmp_path / "token")}).super_admin_token == "secret"
    with pytest.raises(ConfigError):
        load(None, {"DIRECTUS_SERVER_DATA_DIR_FILE": str(tmp_path / "token")})


def test_every_mistake_is_named(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "directus.toml"
    file.write_text("nope = 1\n[server]\nmax_body_size = -1\nlisten = 5\n[database]\nurl = 'mysql://x'\ncolour = 1\n")
    with pytest.raises(ConfigError) as caught:
        load(str(file), {"DIRECTUS_DATABASE_POOL_SIZE": "many", "DIRECTUS_NOPE": ""})
    said = str(caught.value)
    for name in ("nope", "max_body_size", "listen", "database.url", "colour", "DIRECTUS_DATABASE_POOL_SIZE", "DIRECTUS_NOPE"):
        assert name in said


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(
            ("SERVER_PUBLIC_URL", value)
            for value in ("api.example.com", "ftp://a", "https://a?b=c", "https://a#b", "https://u@a", "https://a b")
        ),
        *(("ACCOUNTS_RESET_MINUTES", value) for value in ("0", "-1", "10081", "1" * 30)),
        *(("ACCOUNTS_INVITATION_DAYS", value) for value in ("0", "367")),
        ("ACCOUNTS_UNKNOWN_ADDRESS", "ignore"),
    ],
)
def test_settings_of_accounts_that_cannot_be_used_are_refused(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=name.partition("_")[2].lower()):
        load(None, {f"DIRECTUS_{name}": value})


@pytest.mark.parametrize("url", ["https://api.example.com", "http://localhost:8080/", "https://[2001:db8::1]:8443/d8/api"])
def test_the_public_url_is_that_of_a_host_and_a_path(url: str) -> None:
    assert load(None, {"DIRECTUS_SERVER_PUBLIC_URL": url}).server.public_url == url


def test_shown_settings_hide_secrets() -> None:
    secrets = {"DIRECTUS_SUPER_ADMIN_TOKEN": "t0ken", "DIRECTUS_DATABASE_URL": "postgresql://u:pw@h/d"}
    settings = load(None, secrets | {"DIRECTUS_STORAGE_KEY": "s3-key", "DIRECTUS_STORAGE_SECRET": "s3-secret"})
    for secret in ("t0ken", "pw", "s3-key", "s3-secret"):
        assert secret not in str(described(settings))


def test_urls_become_the_keywords_of_libpq() -> None:
    found = libpq_parameters("postgresql://u:p%40w@h:5433/d?sslmode=require")
    assert found == {"host": "h", "port": 5433, "user": "u", "password": "p@w", "dbname": "d", "sslmode": "require"}
    assert libpq_parameters("postgresql:///d?host=/run")["host"] == "/run"


@pytest.mark.parametrize("number", ["0", "65"])
def test_thumbnails_need_a_process_to_be_made_in(number: str) -> None:
    with pytest.raises(ConfigError, match=r"files\.thumbnail_processes: is a number between 1 and 64"):
        load(None, {"DIRECTUS_FILES_THUMBNAIL_PROCESSES": number})


@pytest.mark.parametrize(
    "url", ["postgresql://u:pw/xx@h/d", "postgresql://u:x@h:pw/d", "postgresql://[::pw/d", "postgresql://h:99999/pw"]
)
def test_no_part_of_a_database_url_that_is_not_valid_is_shown(url: str) -> None:
    with pytest.raises(ConfigError, match="no valid host or port") as raised:
        load(None, {"DIRECTUS_DATABASE_URL": url})
    assert "pw" not in str(raised.value)
