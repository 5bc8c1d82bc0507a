"""The GraphQL names of collections and fields. GraphQL allows letters of ASCII, digits and underscores, and no digit at the beginning."""

import re

SYSTEM = "directus_"

_OTHER = re.compile(r"[^A-Za-z0-9_]")


def _replacement(found: "re.Match[str]") -> str:
    return "_" if found[0].isascii() else f"_u{ord(found[0]):04x}"


def graphql_name(name: str) -> str:
    """Returns the GraphQL name of a collection or a field. ASCII characters that GraphQL does not allow become underscores, other
    characters "_u" and their hexadecimal number: "größe" is "gr_u00f6_u00dfe". An underscore is put in front of a digit. Names that begin
    with two underscores are those of introspection, so only one of them is kept."""
    found = _OTHER.sub(_replacement, name)
    if found.startswith("__"):
        found = "_" + found.lstrip("_")
    return f"_{found}" if not found or found[0].isdigit() else found


def type_name(collection: str) -> str:
    """Returns the name of the type of a collection, in which the words between underscores begin with capital letters: "ArticlesTags".
    Those of system collections are singular: "DirectusUser"."""
    found = _capitalized(graphql_name(collection))
    return found.removesuffix("s") if collection.startswith(SYSTEM) else found


def filter_name(collection: str) -> str:
    """Returns the name of the type of filters of a collection: "DirectusUsersFilter"."""
    return _capitalized(graphql_name(collection)) + "Filter"


def _capitalized(name: str) -> str:
    found = "".join([word[:1].upper() + word[1:] for word in name.split("_")])
    return f"_{found}" if not found or found[0].isdigit() else found
