"""The settings of what clients may ask for, and how often."""

from attrs import frozen

from directus_tx.config.values import setting


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
    max_repeated_size: int = setting(
        32 * 2**20,
        "Maximum size of related items in one item that are shown there more than once, for example the books of an author in each of the"
        " books, counted each further time, in bytes.",
    )
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
class GraphQLSettings:
    """The section [graphql]: what is possible with GraphQL, and how large documents and their answers may be."""

    introspection: str = setting(
        "all",
        "Who may ask for the schema. all; users: those who are signed in; administrators; none: nobody.",
        choices=("all", "users", "administrators", "none"),
    )
    max_described: int = setting(
        1_000_000,
        "Maximum number of values in an answer about the schema: names, descriptions and so on. A list of all types has about ten for each"
        " field.",
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
