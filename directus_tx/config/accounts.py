"""The settings of users: sessions, accounts, SCIM."""

from attrs import frozen

from directus_tx.config.values import checked_setting, setting


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
class AccountSettings:
    """The section [accounts]: passwords that users have forgotten, and invitations."""

    # The lifetimes of links have limits because whoever finds a mail later must not get into an account by it.
    reset_minutes: int = checked_setting(
        60,
        "Minutes for which the link in a mail for a new password can be used, at most 10080.",
        largest=7 * 24 * 60,
    )
    invitation_days: int = checked_setting(
        30,
        "Days for which the link in an invitation can be used, at most 366.",
        largest=366,
    )
    reset_mails_per_hour: int = setting(
        5,
        "Maximum number of mails for a new password that a user gets in an hour. Further requests are answered alike, without a mail.",
    )
    mail_wait: float = setting(
        5.0,
        "Maximum time for which a request that causes such a mail waits until the mail server has it, in seconds. Mails that take longer"
        " are sent afterwards.",
    )
    change_mails: str = setting(
        "on",
        "Mails to users whose password or e-mail address has been changed, or whose two-factor authentication has been switched off or"
        " replaced: on, if the project has a mail server; or off.",
        choices=("on", "off"),
    )
    change_mails_per_hour: int = setting(
        5, "Maximum number of such mails that a user gets in an hour. Further changes are made without a mail."
    )
    unknown_address: str = setting(
        "refuse",
        "Answer to a request for a new password with an address that no active user has. refuse: 404, as in Directus 8; accept: the same"
        " answer, after the same work, as to others, so that nobody learns which addresses are known. Then signing in with a wrong password"
        " does not tell either that a user has been invited or is suspended from then on.",
        choices=("refuse", "accept"),
    )


@frozen
class ScimSettings:
    """The section [scim]."""

    form: str = setting(
        "accept",
        "Form of users and groups. accept: that of RFC 7643 for clients that accept application/scim+json, that of Directus 8 for others;"
        " standard: that of RFC 7643 for all.",
        choices=("accept", "standard"),
    )
    max_results: int = checked_setting(
        200,
        "Maximum number of users or groups in an answer, at most 1000.",
        largest=1000,
    )
    max_members: int = setting(
        10_000,
        "Maximum number of members that the groups in an answer have together, and that a request names. Answers with more are refused:"
        " clients can leave the members out.",
    )
