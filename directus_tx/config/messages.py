"""The settings of what the server sends: messages of the outbox, requests, mails."""

import ipaddress

from attrs import frozen

from directus_tx.config.values import checked_setting, setting


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

    allowed_networks: tuple[str, ...] = checked_setting(
        (),
        "Networks or addresses that requests may be sent to beside the public internet, for example 10.1.0.0/16. Without them, addresses of"
        " this machine and of private networks are refused.",
        check=ipaddress.ip_network,
    )
    connect_timeout: float = setting(5.0, "Maximum time for a connection to be made, in seconds.")
    read_timeout: float = setting(10.0, "Maximum pause in an answer, in seconds.")
    total_timeout: float = setting(15.0, "Maximum time for a request and its answer, in seconds.")
    max_answer: int = setting(64 * 1024, "Maximum size of an answer, in bytes. The rest is not read.")
    ca_file: str = setting(
        "", "File of certificate authorities that are trusted beside those of the system, in PEM format, for requests by https."
    )


@frozen
class WebhookSettings:
    """The section [webhooks]: webhooks that are asked before items are written."""

    before_timeout: float = setting(
        2.0, "Maximum time for which a request asks webhooks before it writes, all together, in seconds. Then it goes on."
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
