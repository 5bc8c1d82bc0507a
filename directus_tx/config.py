"""The server's settings: from a TOML file and the environment into frozen values, every mistake reported at once.

A setting `key` of `[section]` is `DIRECTUS_SECTION_KEY` in the environment, one of no section `DIRECTUS_KEY`; a secret may also be
read from the file that `..._FILE` names. The environment wins over the file.
"""

import ipaddress
import pathlib
import re
import tomllib
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

from attrs import Attribute, field, fields, frozen, has

from directus_tx.suggestions import suggestion

PREFIX = "DIRECTUS_"
PLUGINS = "plugins"
"""The section of plugins."""

PLUGIN_PREFIX = "DIRECTUS_PLUGINS_"
T = TypeVar("T")


def setting(default: Any, about: str, *, secret: bool = False, choices: tuple[str, ...] = ()) -> Any:
    """A setting with its default and its description, which etc/directus.toml repeats."""
    return field(default=default, metadata={"about": about, "secret": secret, "choices": choices})


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
    public_url: str = setting(
        "",
        "URL at which clients reach this server, for the links in mails, for example https://api.example.com. Empty: the first address in"
        " listen, on localhost.",
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


@frozen
class DatabaseSettings:
    """The section [database]."""

    url: str = setting(
        "",
        "URL of the database server of the projects: postgresql://user:password@host:port/dbname. New databases are created through"
        " a connection to dbname. Empty: the embedded PostgreSQL.",
        secret=True,
    )
    pool_size: int = setting(10, "Maximum number of connections of one project.")
    max_connections: int = setting(
        0,
        "Maximum number of connections of all projects of this process together. 0: what the database server allows, less a tenth,"
        " shared equally with other server processes on it.",
    )
    idle_timeout: float = setting(60.0, "Seconds after which an idle connection is closed.")
    queue_size: int = setting(
        1000, "Maximum number of requests of one project that wait for a connection. Further requests are answered with 503."
    )
    queue_timeout: float = setting(10.0, "Seconds that a request waits for a connection before it is answered with 503.")
    statement_timeout: float = setting(30.0, "Maximum duration of a statement, in seconds.")
    lock_timeout: float = setting(
        1.0,
        "Maximum time that a change of the schema waits for a table in use, in seconds. Meanwhile other requests for that table wait."
        " After four attempts it is answered with 503. 0: no limit.",
    )
    plan_cache_size: int = setting(
        8 * 2**20,
        "Maximum size of the compiled queries that are kept for each project, in bytes (approximate). A query that takes more than a"
        " sixteenth of it is not kept.",
    )
    schema_interval: float = setting(
        10.0,
        "Seconds after which the next request checks whether other programs have changed the tables; six times that if event triggers tell"
        " of changes. 0: never.",
    )
    event_trigger: str = setting(
        "auto",
        "Whether PostgreSQL tells of changes of tables by other programs, by event triggers, which only superusers can create. auto: in"
        " databases that the server has created; on: also in other databases; off: not, and existing ones are dropped.",
        choices=("auto", "on", "off"),
    )
    schemas: tuple[str, ...] = setting(
        (),
        "Schemas beside public whose tables and views are collections, too, with names such as sales.orders. A project file can have"
        " its own list.",
    )


@frozen
class LimitSettings:
    """The section [limits]: what a single request may ask for. A refusal names its setting."""

    max_depth: int = setting(10, "Maximum number of relations that a path in fields, filter or deep follows.")
    max_conditions: int = setting(100, "Maximum number of conditions in the filters of a query, including those in deep.")
    max_relations: int = setting(
        30, "Maximum number of relations that the filters of a query follow, counting each time a relation is named."
    )
    max_values: int = setting(10_000, "Maximum number of values in a condition.")
    max_fields: int = setting(1000, "Maximum number of expressions in fields.")
    max_members: int = setting(100, "Maximum number of members of sort, groups, groupby, aggregate, status, lang and meta each.")
    max_joins: int = setting(50, "Maximum number of many-to-one fields that a query expands.")
    max_lists: int = setting(50, "Maximum number of one-to-many fields that a query expands. Each takes a statement.")
    max_columns: int = setting(1500, "Maximum number of columns that a statement reads, at most 1500: PostgreSQL allows 1664.")
    max_rows: int = setting(0, "Maximum number of items in a list, including with limit=-1. 0: no limit.")
    max_keys: int = setting(500, "Maximum number of keys in the path of a request.")
    max_payload_size: int = setting(
        16 * 2**20, "Maximum size of a JSON body, or of the fields of a form without its files, in bytes."
    )
    max_public_payload_size: int = setting(2**20, "The same for requests without a valid token.")
    max_payload_values: int = setting(200_000, "Maximum number of values in a JSON body, objects and lists included.")
    max_matched_length: int = setting(
        100_000,
        "Maximum length of a value that is matched with a pattern (validation, password_policy), in characters. 0: no limit.",
    )
    max_matching_time: float = setting(
        1.0, "Maximum processor time for matching the values of one request with patterns, in seconds. 0: no limit."
    )


@frozen
class HistorySettings:
    """The section [history]: how long activity and revisions are kept."""

    retention: tuple[str, ...] = setting(
        (),
        'How much history of each collection is kept: "articles=90d" (days), "articles=10000" (the newest records),'
        ' "articles=90d 10000" (both), "*=365d" (all other collections). Empty: all of it.',
    )
    prune_interval: float = setting(3600.0, "Seconds between two runs that remove old history.")


@frozen
class OutboxSettings:
    """The section [outbox]: how messages to the outside world, webhooks and mail, are delivered."""

    concurrency: int = setting(100, "Maximum number of messages that are delivered at the same time.")
    destination_concurrency: int = setting(
        8, "Maximum number of messages of a project that are delivered to one server at the same time."
    )
    max_attempts: int = setting(
        12, "Number of attempts after which a message is dead: it is kept, but not tried again unless it is asked for."
    )
    first_pause: float = setting(
        5.0,
        "Seconds between the first attempt and the second, on average. Each further pause is three times as long, up to max_pause.",
    )
    max_pause: float = setting(86400.0, "Maximum time between two attempts, in seconds.")
    poll_interval: float = setting(
        15.0, "Seconds between two looks for messages of which the database has not notified the process."
    )
    retention_days: float = setting(
        7.0, "Days for which delivered messages and their attempts are kept; 0: forever. Dead and held messages are always kept."
    )
    prune_interval: float = setting(3600.0, "Seconds between two runs that remove old delivered messages.")


@frozen
class OutgoingSettings:
    """The section [outgoing]: requests that the server makes itself, for example to webhooks."""

    allowed_networks: tuple[str, ...] = setting(
        (),
        "Networks or addresses that requests may be sent to beside the public internet, for example 10.1.0.0/16. Without them, addresses of"
        " this machine and of private networks are refused.",
    )
    connect_timeout: float = setting(5.0, "Maximum time for a connection to be made, in seconds.")
    read_timeout: float = setting(10.0, "Maximum pause in an answer, in seconds.")
    total_timeout: float = setting(15.0, "Maximum time for a request and its answer, in seconds.")
    max_answer: int = setting(64 * 1024, "Maximum size of an answer, in bytes. The rest is not read.")
    ca_file: str = setting(
        "", "File of certificate authorities that are trusted beside those of the system, in PEM format, for requests by https."
    )


@frozen
class SessionSettings:
    """The section [sessions]: the cookies of users who are signed in."""

    same_site: str = setting(
        "lax",
        "Attribute SameSite of session cookies. none: also pages of other sites can use them, if cors.origin of the project names their"
        " origin; browsers require https for it.",
        choices=("lax", "strict", "none"),
    )
    secure: str = setting(
        "auto",
        "Attribute Secure of session cookies. auto: for requests by https, also those that trusted_proxies forward with"
        " X-Forwarded-Proto; always: for all requests.",
        choices=("auto", "always"),
    )
    prune_interval: float = setting(3600.0, "Seconds between two runs that remove expired sessions.")


@frozen
class RateLimitSettings:
    """The section [rate_limits]: how often something may happen in a minute. What exceeds a limit is answered with 429."""

    requests_per_address: int = setting(
        0,
        "Maximum number of requests in a minute from one IPv4 address or one IPv6 network of 64 bits, except /health and /server/ping."
        " 0: no limit.",
    )
    requests_per_user: int = setting(0, "Maximum number of requests in a minute of one user. 0: no limit.")
    failures_per_address: int = setting(
        60,
        "Maximum number of failed attempts in a minute to sign in to a project from one address, those with tokens that do not exist"
        " included. 0: no limit.",
    )
    failures_per_account: int = setting(
        30,
        "Maximum number of failed attempts in a minute to sign in to one account. Addresses from which the user has a session are counted"
        " by themselves. 0: no limit.",
    )
    prune_interval: float = setting(600.0, "Seconds between two runs that remove failed attempts that count no more.")


@frozen
class AccountSettings:
    """The section [accounts]: passwords that users have forgotten, and invitations."""

    reset_minutes: int = setting(60, "Minutes for which the link in a mail for a new password can be used, at most 10080.")
    invitation_days: int = setting(30, "Days for which the link in an invitation can be used, at most 366.")
    reset_mails_per_hour: int = setting(
        5,
        "Maximum number of mails for a new password that a user gets in an hour. Further requests are answered alike, without a mail.",
    )
    mail_wait: float = setting(
        5.0,
        "Maximum time for which a request that causes such a mail waits until the mail server has it, in seconds. Mails that take longer"
        " are sent afterwards.",
    )
    unknown_address: str = setting(
        "refuse",
        "Answer to a request for a new password with an address that no active user has. refuse: 404, as in Directus 8; accept: the same"
        " answer, after the same work, as to others, so that nobody learns which addresses are known. Then signing in with a wrong password"
        " does not tell either that a user has been invited or is suspended from then on.",
        choices=("refuse", "accept"),
    )


@frozen
class WebhookSettings:
    """The section [webhooks]: webhooks that are asked before items are written."""

    before_timeout: float = setting(
        2.0, "Maximum time for which a request asks webhooks before it writes, all together, in seconds. Then it goes on."
    )


@frozen
class FileSettings:
    """The section [files]: files that clients upload."""

    max_size: int = setting(
        2 * 2**30,
        "Maximum size of an uploaded file, in bytes. Uploads by multipart form are not limited by server.max_body_size and body_timeout:"
        " their bytes go to the storage as they arrive.",
    )
    max_uploads: int = setting(
        200, "Maximum number of files that are received at the same time. Further ones are answered with 503."
    )
    upload_lifetime: float = setting(
        86400.0, "Seconds for which an unfinished upload by tus can be continued after its last bytes. Then it is removed."
    )
    max_unfinished: int = setting(
        1000,
        "Maximum number of unfinished uploads by tus of a user of a project, and of all callers who are not signed in together.",
    )
    prune_interval: float = setting(600.0, "Seconds between two runs that remove expired uploads.")
    import_timeout: float = setting(
        60.0, "Maximum time in which a file that is added by its URL must arrive, in seconds. The limits of [outgoing] also hold."
    )
    thumbnail_processes: int = setting(
        2,
        "Number of processes that make thumbnails, which are started when they are first needed. The processes of server.processes share"
        " them, and have at least one each.",
    )
    thumbnail_memory: int = setting(
        2**30,
        "Maximum memory of a process that makes thumbnails, in bytes. A picture takes up to about 8 bytes for each pixel, and the process"
        " itself about 30 MiB.",
    )
    thumbnail_seconds: float = setting(
        10.0, "Maximum processor time in which a thumbnail must be made, in seconds. Then the process that makes it is ended."
    )
    max_thumbnails: int = setting(
        64, "Maximum number of thumbnails that are being made or wait for that. Further ones are answered with 503."
    )
    thumbnail_timeout: float = setting(30.0, "Maximum time that a request waits for a thumbnail to be made, in seconds.")
    thumbnail_max_age: int = setting(
        86400, "Seconds for which browsers and caches may use a thumbnail without asking whether the file has changed."
    )
    max_picture_size: int = setting(128 * 2**20, "Maximum size of the files of which thumbnails are made, in bytes.")
    max_pixels: int = setting(
        50_000_000, "Maximum number of pixels of the pictures of which thumbnails are made. No more are ever decoded."
    )
    max_thumbnail_side: int = setting(4096, "Maximum width and height of thumbnails, in pixels.")
    max_share_seconds: int = setting(
        7 * 86400, "Maximum time for which POST /files/:id/share makes an address at which anybody can read the file, in seconds."
    )
    presigned_seconds: int = setting(3600, "Time in which a browser must begin to send a file to the storage itself, in seconds.")
    max_presigned: int = setting(100, "Maximum number of such files of a user that have not been completed.")
    redirect_size: int = setting(
        0,
        "Size in bytes from which a file is not sent by the server: the answer redirects to an address of the storage, if the storage"
        " offers that (s3). 0: the server sends all files.",
    )
    redirect_seconds: int = setting(300, "Time for which such an address can be used, in seconds.")


@frozen
class GraphQLSettings:
    """The section [graphql]: what is possible with GraphQL, and how large documents and their answers may be."""

    introspection: str = setting(
        "all",
        "Who may ask for the schema. all; users: those who are signed in; administrators; none: nobody.",
        choices=("all", "users", "administrators", "none"),
    )
    mutations: str = setting(
        "off",
        "Whether items can be written. off: schemas have no mutations, as in Directus 8.",
        choices=("off", "on"),
    )
    console: str = setting(
        "on", "Whether browsers that open the address of GraphQL get a page to try queries with.", choices=("off", "on")
    )
    max_length: int = setting(100_000, "Maximum length of a document, in characters.")
    max_tokens: int = setting(5000, "Maximum number of tokens of a document: names, values, brackets and other signs.")
    max_depth: int = setting(20, "Maximum number of levels of fields in each other, except fields about the schema.")
    max_fields: int = setting(1000, "Maximum number of fields that a document asks for, those of fragments counted each time.")
    max_aliases: int = setting(200, "Maximum number of aliases of a document, likewise.")
    max_lists: int = setting(
        200,
        "Maximum number of lists that a document reads, each of which takes a statement: root fields, and lists of related items.",
    )
    max_items: int = setting(
        1_000_000,
        "Maximum number of items that a document may ask for by its limits: a list without limit counts for default_limit items, one"
        " inside of items for 10.",
    )
    max_answer_size: int = setting(32 * 2**20, "Maximum size of a list in an answer, in bytes.")


@frozen
class ScimSettings:
    """The section [scim]."""

    form: str = setting(
        "accept",
        "Form of users and groups. accept: that of RFC 7643 for clients that accept application/scim+json, that of Directus 8 for others;"
        " standard: that of RFC 7643 for all.",
        choices=("accept", "standard"),
    )
    max_results: int = setting(200, "Maximum number of users or groups in an answer, at most 1000.")
    max_members: int = setting(
        10_000,
        "Maximum number of members that the groups in an answer have together, and that a request names. Answers with more are refused:"
        " clients can leave the members out.",
    )


@frozen
class MailSettings:
    """The section [mail]: the mail server of projects that name none in their project file, and limits for all."""

    host: str = setting("", "Host of the mail server. Empty: there is none.")
    port: int = setting(0, "Port of the mail server. 0: 25, with starttls 587, with tls 465.")
    encryption: str = setting(
        "starttls",
        "Encryption of connections to the mail server. none: only if the server offers it; starttls: required; tls: from the beginning.",
        choices=("none", "starttls", "tls"),
    )
    username: str = setting("", "User name for the mail server. Empty: the server does not sign in.")
    password: str = setting("", "Password for the mail server.", secret=True)
    sender: str = setting("", "Address that mails of projects without mail_from come from.")
    ca_file: str = setting(
        "",
        "File of certificate authorities that are trusted beside those of the system, in PEM format, for connections to mail servers.",
    )
    timeout: float = setting(20.0, "Maximum time for a step of sending a mail, in seconds.")
    max_size: int = setting(2**20, "Maximum length of the body of a mail of a user, in characters.")
    max_recipients: int = setting(100, "Maximum number of recipients of a mail of a user.")


@frozen
class StorageSettings:
    """The section [storage]: where the files of projects are stored whose project file does not say that."""

    adapter: str = setting(
        "local",
        "Kind of storage. local: on a disk; s3: in a bucket of Amazon S3, or of another server that has its protocol. Plugins can add"
        " others.",
    )
    root: str = setting(
        "",
        "Directory (local), or beginning of the keys of objects (s3), with a part for each project. Empty: the directory storage of"
        " data_dir, or nothing.",
    )
    quota: int = setting(
        0,
        "Maximum size of all files of a project together, unfinished uploads by tus included, in bytes. Files that would exceed it are"
        " refused. 0: no limit.",
    )
    bucket: str = setting("", "Bucket (s3).")
    region: str = setting("", "Region of the bucket (s3). Empty: us-east-1.")
    endpoint: str = setting("", "URL of the server (s3), for example https://s3.example.com. Empty: Amazon.")
    addressing: str = setting(
        "",
        "Place of the bucket in URLs (s3). path: in the path; virtual: in the name of the host. Empty: in the name of the host of Amazon,"
        " in the path of other servers.",
        choices=("", "path", "virtual"),
    )
    key: str = setting(
        "", "Access key (s3). Empty: that of the environment variable AWS_ACCESS_KEY_ID, or of the machine.", secret=True
    )
    secret: str = setting("", "Secret access key (s3).", secret=True)
    ca_file: str = setting(
        "",
        "File of certificate authorities that are trusted beside those of the system, in PEM format, for connections to endpoint.",
    )


@frozen
class PluginSettings:
    """The section [plugins]: Python code that extends the server."""

    directory: str = setting(
        "", "Directory with plugins beside those of installed packages: files NAME.py and packages NAME. Empty: there is none."
    )
    enabled: tuple[str, ...] = setting(
        (),
        "Names of the plugins that are loaded, in the order in which their hooks are called. Empty: all that are found, in the order of"
        " their names.",
    )
    disabled: tuple[str, ...] = setting(
        (),
        "Names of plugins that are not loaded. A project file can have a table plugins, with lists enabled and disabled, for what holds in"
        " the project.",
    )
    on_error: str = setting(
        "refuse",
        "What happens if a plugin cannot be loaded. refuse: the server does not start; skip: it starts without it, and the log names it.",
        choices=("refuse", "skip"),
    )
    hook_timeout: float = setting(
        10.0, "Seconds after which a hook that waits for something is cut off. 0: no limit. Requests that it has to allow fail."
    )
    slow_hook: float = setting(1.0, "Seconds from which the log names a hook that has taken so long. 0: never.")
    block_limit: float = setting(
        2.0,
        "Seconds for which the process may answer no requests because of what it is doing itself, before the log says what that is and, if"
        " it is a plugin, names it. 0: no limit.",
    )


@frozen
class Retention:
    """How much history of a collection is kept: `days`, and the newest `records`; None is no limit. "*" is every other collection."""

    collection: str
    days: int | None = None
    records: int | None = None


def retention_of(text: str) -> Retention:
    """What a text of `history.retention` means. Raises ValueError."""
    found = re.fullmatch(r"\s*(?P<collection>[^=]+?)\s*=\s*(?:(?P<days>\d{1,6})d)?\s*(?:\s*(?P<records>\d{1,12}))?\s*", text)
    if found is None or (found["days"] is None and found["records"] is None):
        raise ValueError(f'"{text}" is not like "articles=90d", "articles=10000" or "articles=90d 10000"')
    days, records = found["days"], found["records"]
    return Retention(found["collection"], None if days is None else int(days), None if records is None else int(records))


@frozen
class PluginTables:
    """The settings of plugins, which are read when these are loaded: the sections [plugins.NAME] by name, and the environment variables
    DIRECTUS_PLUGINS_..."""

    tables: Mapping[str, Mapping[str, Any]] = field(factory=dict, repr=False)
    variables: Mapping[str, str] = field(factory=dict, repr=False)


@frozen
class Settings:
    """All settings. `super_admin_token` is empty where none is configured."""

    super_admin_token: str = setting(
        "",
        "Token for creating and deleting projects. Empty: it is generated at the first start, printed once, and kept in the file"
        " super_admin_token of the data directory.",
        secret=True,
    )
    server: ServerSettings = ServerSettings()
    database: DatabaseSettings = DatabaseSettings()
    limits: LimitSettings = LimitSettings()
    history: HistorySettings = HistorySettings()
    outbox: OutboxSettings = OutboxSettings()
    outgoing: OutgoingSettings = OutgoingSettings()
    sessions: SessionSettings = SessionSettings()
    rate_limits: RateLimitSettings = RateLimitSettings()
    accounts: AccountSettings = AccountSettings()
    webhooks: WebhookSettings = WebhookSettings()
    files: FileSettings = FileSettings()
    graphql: GraphQLSettings = GraphQLSettings()
    scim: ScimSettings = ScimSettings()
    mail: MailSettings = MailSettings()
    storage: StorageSettings = StorageSettings()
    plugins: PluginSettings = PluginSettings()
    plugin_tables: PluginTables = PluginTables()


class ConfigError(Exception):
    """The configuration is wrong: `mistakes` has a line for each fault."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


SECTIONS: Mapping[str, type] = {
    "server": ServerSettings,
    "database": DatabaseSettings,
    "limits": LimitSettings,
    "history": HistorySettings,
    "outbox": OutboxSettings,
    "outgoing": OutgoingSettings,
    "sessions": SessionSettings,
    "rate_limits": RateLimitSettings,
    "accounts": AccountSettings,
    "webhooks": WebhookSettings,
    "files": FileSettings,
    "graphql": GraphQLSettings,
    "scim": ScimSettings,
    "mail": MailSettings,
    "storage": StorageSettings,
    "plugins": PluginSettings,
}


def load(path: str | None, environ: Mapping[str, str], overrides: Mapping[tuple[str, str], Any] | None = None) -> Settings:
    """The settings of a file (or none), the environment and the command line. Raises ConfigError with every mistake."""
    mistakes: list[str] = []
    table: dict[str, Any] = {}
    if path is not None:
        try:
            table = tomllib.loads(pathlib.Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError([f"{path}: {error.strerror}"]) from None
        except ValueError as error:
            raise ConfigError([f"{path}: {error}"]) from None
    values: dict[tuple[str, str], Any] = {}
    tables: dict[str, Mapping[str, Any]] = {}
    for section, content in table.items():
        if section == PLUGINS and isinstance(content, dict):
            tables = {name: each for name, each in content.items() if isinstance(each, dict)}
            content = {name: each for name, each in content.items() if name not in tables}
            if not content:
                continue
        if section in SECTIONS and isinstance(content, dict):
            values |= {(section, key): value for key, value in content.items()}
        else:
            values[("", section)] = content
    known = {("", "super_admin_token"): fields(Settings).super_admin_token} | {
        (section, each.name): each for section, cls in SECTIONS.items() for each in fields(cls)
    }
    for name in list(values):
        if name not in known:
            dotted = ".".join(part for part in name if part)
            names = (".".join(part for part in each if part) for each in known)
            mistakes.append(f"{path}: there is no setting {dotted}{suggestion(dotted, names)}")
    variables = {name: text for name, text in environ.items() if name.startswith(PLUGIN_PREFIX)}
    own = {_variable(name) for name in known}
    variables = {name: text for name, text in variables.items() if name not in own}
    rest = {name: text for name, text in environ.items() if name not in variables}
    values |= _from_environment(known, rest, mistakes)
    values |= overrides or {}
    found = {name: _checked(name, known[name], value, mistakes) for name, value in values.items() if name in known}
    if mistakes:
        raise ConfigError(mistakes)
    return Settings(
        super_admin_token=found.get(("", "super_admin_token"), ""),
        plugin_tables=PluginTables(tables, variables),
        **{
            section: cls(**{key: value for (owner, key), value in found.items() if owner == section})
            for section, cls in SECTIONS.items()
        },
    )


def _variable(name: tuple[str, str]) -> str:
    """Returns the environment variable of a setting."""
    return PREFIX + re.sub(r"\W", "_", "_".join(part for part in name if part)).upper()


def plugin_settings(given: PluginTables, plugin: str, cls: "type[T] | None") -> "T | None":
    """Returns the settings of a plugin as an instance of the class that it has registered, if any: from its table and from the environment.
    Raises ConfigError with every mistake."""
    section = f"{PLUGINS}.{plugin}"
    known = {(section, name): each for name, each in _attributes(cls).items()}
    mistakes: list[str] = []
    names = {_variable(name) for name in known}
    variables = {name: text for name, text in given.variables.items() if name.removesuffix("_FILE") in names or name in names}
    table = {**given.tables.get(plugin, {})}
    table |= {name: value for (_, name), value in _from_environment(known, variables, mistakes).items()}
    try:
        found = read_table(cls, table, label=section)
    except ConfigError as error:
        mistakes += error.mistakes
    if mistakes:
        raise ConfigError(mistakes)
    return found


def unknown_plugin_settings(given: PluginTables, classes: "Mapping[str, type | None]") -> list[str]:
    """Returns a line for each section and environment variable that is not of one of the plugins, whose classes of settings are given."""
    mistakes = [
        f"{PLUGINS}.{name}: there is no plugin {name}{suggestion(name, classes)}" for name in given.tables if name not in classes
    ]
    known = {
        _variable((f"{PLUGINS}.{plugin}", name)): each
        for plugin, cls in classes.items()
        for name, each in _attributes(cls).items()
    }
    for variable in given.variables:
        secret = known.get(variable.removesuffix("_FILE"))
        if variable not in known and (secret is None or not secret.metadata["secret"]):
            mistakes.append(f"{variable}: there is no such setting{suggestion(variable, known)}")
    return mistakes


def _attributes(cls: "type | None") -> "dict[str, Attribute[Any]]":
    found: dict[str, Attribute[Any]] = {} if cls is None else {each.name: each for each in fields(cls)}
    return found


def _from_environment(
    known: Mapping[tuple[str, str], "Attribute[Any]"], environ: Mapping[str, str], mistakes: list[str]
) -> dict[tuple[str, str], Any]:
    names = {_variable(name): name for name in known}
    found: dict[tuple[str, str], Any] = {}
    for variable, text in environ.items():
        if not variable.startswith(PREFIX):
            continue
        name, from_file = names.get(variable), False
        if name is None and variable.endswith("_FILE"):
            name, from_file = names.get(variable.removesuffix("_FILE")), True
        if name is None or (from_file and not known[name].metadata["secret"]):
            mistakes.append(f"{variable}: there is no such setting{suggestion(variable, names)}")
            continue
        if from_file:
            try:
                text = pathlib.Path(text).read_text(encoding="utf-8").strip()
            except OSError as error:
                mistakes.append(f"{variable}: {error}")
                continue
        found[name] = _of_text(known[name], text, variable, mistakes)
    return found


def _of_text(attribute: "Attribute[Any]", text: str, variable: str, mistakes: list[str]) -> Any:
    kind = type(attribute.default)
    if kind is tuple:
        return [part.strip() for part in text.split(",") if part.strip()]
    if kind is bool and text.lower() in _TRUTHS:
        return _TRUTHS[text.lower()]
    if kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            mistakes.append(f"{variable}: {text!r} is no number")
            return attribute.default
    return text


_TRUTHS = {"true": True, "1": True, "false": False, "0": False}


def read_table(cls: "type[T] | None", table: Mapping[str, Any], others: Iterable[str] = (), label: str = "") -> "T | None":
    """Returns the settings of a table as an instance of an attrs class whose attributes `setting` has made; None without a class, which
    has no settings. *others* are settings of the table that are read elsewhere; they are only suggested. *label* is the name of the table
    in messages. Raises ConfigError with every mistake."""
    known = _attributes(cls)
    mistakes: list[str] = []
    values = {}
    for key, value in table.items():
        if key in known:
            values[key] = _checked((label, key), known[key], value, mistakes)
        else:
            mistakes.append(f"there is no setting {f'{label}.' if label else ''}{key}{suggestion(key, (*known, *others))}")
    if mistakes:
        raise ConfigError(mistakes)
    return None if cls is None else cls(**values)


def check_class(cls: Any) -> None:
    """Raises ValueError if `read_table` cannot read settings of a class, which a plugin has made."""
    if not isinstance(cls, type) or not has(cls):
        raise ValueError("settings must be an attrs class")
    for each in fields(cls):
        if type(each.default) not in (str, int, float, bool, tuple) or not {"about", "secret", "choices"} <= set(each.metadata):
            raise ValueError(
                f"the setting {each.name} must be made with setting(), with a text, a number, true, false or a tuple of texts"
            )


def _checked(name: tuple[str, str], attribute: "Attribute[Any]", value: Any, mistakes: list[str]) -> Any:
    """The value as the setting's type, or the default and one mistake more."""
    label = ".".join(part for part in name if part)
    kind = type(attribute.default)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if kind is tuple and isinstance(value, (list, tuple)) and all(isinstance(member, str) for member in value):
        value = tuple(value)
    if kind is tuple and isinstance(value, str):
        value = (value,)
    if type(value) is not kind:
        wanted = {str: "text", int: "a whole number", float: "a number", bool: "true or false", tuple: "a list of texts"}[kind]
        mistakes.append(f"{label}: takes {wanted}")
    elif isinstance(value, (int, float)) and value < 0:
        mistakes.append(f"{label}: takes no negative number")
    elif isinstance(value, int) and label in _LARGEST and not 1 <= value <= _LARGEST[label]:
        mistakes.append(f"{label}: is a number between 1 and {_LARGEST[label]}")
    elif attribute.metadata["choices"] and value not in attribute.metadata["choices"]:
        mistakes.append(f"{label}: is one of {', '.join(attribute.metadata['choices'])}")
    elif label == "database.url" and value:
        try:
            libpq_parameters(value)
        except ValueError as error:
            mistakes.append(f"{label}: {error}")
        return value
    elif label == "server.public_url" and value:
        if not _PUBLIC_URL.fullmatch(value):
            mistakes.append(f"{label}: takes a URL such as https://api.example.com, without a query")
        return value
    elif label == "outgoing.allowed_networks":
        for text in value or ():
            try:
                ipaddress.ip_network(text)
            except ValueError as error:
                mistakes.append(f"{label}: {error}")
        return value
    elif label == "history.retention":
        for text in value or ():
            try:
                retention_of(text)
            except ValueError as error:
                mistakes.append(f"{label}: {error}")
        return value
    else:
        return value
    return attribute.default


# The lifetimes of links have limits because whoever finds a mail later must not get into an account by it.
_LARGEST = {
    "accounts.reset_minutes": 7 * 24 * 60,
    "accounts.invitation_days": 366,
    "files.thumbnail_processes": 64,
    "scim.max_results": 1000,
}
"""The largest values of settings that have one. They must be at least 1."""

_PUBLIC_URL = re.compile(r"https?://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:\d{1,5})?(/[A-Za-z0-9._~/-]*)?")
_LISTENING = re.compile(r"(?P<kind>tcp[46]?|ssl):(port=)?(?P<port>\d+)")


def public_url(server: ServerSettings) -> str:
    """Returns the URL of the server for clients, without a slash at its end: that of the settings, or localhost."""
    if server.public_url:
        return server.public_url.rstrip("/")
    for each in server.listen:
        found = _LISTENING.match(each)
        if found is not None:
            return f"{'https' if found['kind'] == 'ssl' else 'http'}://localhost:{found['port']}"
    return "http://localhost"


def libpq_parameters(url: str) -> dict[str, Any]:
    """The libpq keywords of a postgresql:// URL. Raises ValueError where it is none."""
    parts = urlsplit(url)
    if parts.scheme not in ("postgresql", "postgres"):
        raise ValueError("takes postgresql://user:password@host:port/dbname")
    found: dict[str, Any] = dict(parse_qsl(parts.query))
    for key, value in (
        ("host", parts.hostname),
        ("port", parts.port),
        ("user", parts.username),
        ("password", parts.password),
        ("dbname", parts.path.lstrip("/") or "postgres"),
    ):
        if value is not None:
            found[key] = unquote(value) if isinstance(value, str) else value
    return found


def described(settings: Settings) -> dict[str, Any]:
    """The settings as nested plain values, secrets hidden."""

    def shown(owner: Any) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for each in fields(type(owner)):
            value = getattr(owner, each.name)
            if isinstance(value, PluginTables):
                continue
            if each.name in SECTIONS and owner is settings:
                found[each.name] = shown(value)
            elif each.metadata["secret"]:
                found[each.name] = "(hidden)" if value else ""
            else:
                found[each.name] = list(value) if isinstance(value, tuple) else value
        return found

    return shown(settings)
