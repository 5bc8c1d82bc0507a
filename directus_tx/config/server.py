"""The settings of the server itself."""

import re

from attrs import frozen

from directus_tx.config.values import checked_setting, setting

_PUBLIC_URL = re.compile(r"https?://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:\d{1,5})?(/[A-Za-z0-9._~/-]*)?")
_LISTENING = re.compile(r"(?P<kind>tcp[46]?|ssl):(port=)?(?P<port>\d+)")


def _check_public_url(text: str) -> None:
    if not _PUBLIC_URL.fullmatch(text):
        raise ValueError("takes a URL such as https://api.example.com, without a query")


@frozen
class ServerSettings:
    """The section [server]."""

    listen: tuple[str, ...] = setting(("tcp:8080:interface=127.0.0.1",), "Addresses to listen on, as Twisted endpoint strings.")
    data_dir: str = setting("var", "Directory of the projects, files and the embedded database.")
    log_format: str = setting("text", "Format of the log: one line of text or of JSON for each event.", choices=("text", "json"))
    log_file: str = setting("", "File that the log is appended to. Empty: standard output.")
    processes: int = setting(
        1,
        "Number of processes that serve the addresses in listen, each with all projects. max_connections, database.max_connections,"
        " spool_size and body_spool_size are divided between them; other limits hold for each.",
    )
    public_url: str = checked_setting(
        "",
        "URL at which clients reach this server, for the links in mails, for example https://api.example.com. Empty: the first address in"
        " listen, on localhost.",
        check=_check_public_url,
    )
    cache_control: str = setting("no-store", "Cache-Control of answers to signed-in users. Empty: the header is not sent.")
    hsts_max_age: int = setting(
        0,
        "Seconds for which browsers that have used https use nothing else for the host: Strict-Transport-Security in answers to requests by"
        " https, also those that trusted_proxies forward with X-Forwarded-Proto. 0: the header is not sent.",
    )
    admin_app: str = setting(
        "",
        "Directory with the files of an admin app, index.html among them, that are served below /admin/. Empty: there is none.",
    )
    admin_app_policy: str = setting(
        "", "Content-Security-Policy of the admin app. Empty: one that the app of Directus 8 works with."
    )
    extensions: str = setting(
        "",
        "Directory with extensions of the admin app, in interfaces/NAME, layouts/NAME and modules/NAME. Empty: there are none but those of"
        " plugins.",
    )
    trusted_proxies: tuple[str, ...] = setting(
        (), "Addresses or networks of proxies whose X-Forwarded-For is trusted. It is ignored from any other address."
    )
    max_connections: int = setting(
        0,
        "Maximum number of open connections. Beyond it, idle ones are closed, and new ones answered with 503. 0: as many as the limit"
        " on open files (RLIMIT_NOFILE) allows, at most 10000.",
    )
    max_connections_per_address: int = setting(
        0,
        "Maximum number of open connections from one IPv4 address or one IPv6 network of 64 bits, except trusted_proxies. 0: half of"
        " max_connections.",
    )
    backlog: int = setting(
        1024, "Maximum number of connections that wait to be accepted, for addresses in listen that do not set their own. 0: 50."
    )
    max_body_size: int = setting(100 * 2**20, "Maximum size of the body of a request, uploaded files included, in bytes.")
    request_timeout: float = setting(
        30.0, "Maximum time for the headers of a request to arrive, and maximum pause in its body, in seconds. 0: no limit."
    )
    body_timeout: float = setting(3600.0, "Maximum time for the whole body of a request to arrive, in seconds. 0: no limit.")
    min_body_rate: float = setting(
        1000.0,
        "Minimum average rate of a body that has been arriving for longer than request_timeout, in bytes per second. 0: no limit.",
    )
    keep_alive_timeout: float = setting(60.0, "Seconds after which a connection without a request is closed. 0: never.")
    stall_timeout: float = setting(
        60.0, "Seconds after which a connection is closed if the client reads nothing of an answer. 0: never."
    )
    spool_size: int = setting(
        2**30,
        "Maximum size of the temporary files that hold answers until clients read them, in bytes. Reading waits beyond it.",
    )
    body_spool_size: int = setting(
        2**30,
        "Maximum size of the temporary files that hold the bodies of requests, in bytes. Further bodies are answered with 503. An eighth"
        " of it is for callers without a valid token. Must be more than max_body_size.",
    )
    shutdown_delay: float = setting(
        0.0,
        "Seconds for which a server that is told to stop continues to accept requests, while /health tells load balancers to send"
        " no more.",
    )
    shutdown_timeout: float = setting(10.0, "Seconds that running requests have to finish when the server stops.")


def public_url(server: ServerSettings) -> str:
    """Returns the URL of the server for clients, without a slash at its end: that of the settings, or localhost."""
    if server.public_url:
        return server.public_url.rstrip("/")
    for each in server.listen:
        found = _LISTENING.match(each)
        if found is not None:
            return f"{'https' if found['kind'] == 'ssl' else 'http'}://localhost:{found['port']}"
    return "http://localhost"
