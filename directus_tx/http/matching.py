"""Finds the route of a request.

Klein asks werkzeug, which binds a map, follows a state machine of regular expressions and raises an exception for each request without a
route; that takes a tenth of the time of a small request. The routes of the API consist of static parts and arguments that are one part
each, so a tree of dictionaries finds them. It finds what werkzeug finds in the same map.
"""

import re
from collections.abc import Sequence
from typing import Any, Final

from attrs import field, frozen, mutable
from werkzeug.routing import Map, Rule

WRONG_METHOD: Final = "wrong method"
"""Returned for a path that only has routes of other methods."""

_PART = re.compile(r"<(?P<argument>\w+)>|(?P<static>[^<>]*)")


@frozen
class Match:
    """A route: its endpoint in the map, and the arguments of the path."""

    endpoint: str
    arguments: dict[str, str]


@mutable(eq=False)
class _Node:
    """The routes of one method whose paths begin alike. `static` has the nodes by the next part, `argument` the node for any other part.
    `rule` is the endpoint of the path that ends here, with the names and places of its arguments."""

    static: dict[str, "_Node"] = field(factory=dict)
    argument: "_Node | None" = None
    rule: tuple[str, tuple[tuple[str, int], ...]] | None = None


class RouteTable:
    """The routes of a werkzeug map, whose endpoints are texts.

    Raises ValueError if the map has a rule that the table does not support: one with a converter, one that applies to a host or has
    default arguments, and one whose path ends with a slash without another one for the path without it, to which werkzeug redirects.
    """

    def __init__(self, url_map: Map) -> None:
        self._methods: dict[str, _Node] = {}
        rules = list(url_map.iter_rules())
        paths = {(rule.rule, method) for rule in rules for method in rule.methods or ()}
        for rule in rules:
            if (
                not rule.methods
                or rule.defaults
                or rule.subdomain
                or rule.host
                or rule.redirect_to
                or rule.websocket
                or rule.alias
            ):
                raise ValueError(f"{rule.rule} is not only a path with methods")
            for method in rule.methods:
                if rule.rule != "/" and rule.rule.endswith("/") and (rule.rule[:-1], method) not in paths:
                    raise ValueError(f"{rule.rule} requires a route for {rule.rule[:-1]}")
                self._add(method, rule)

    def _add(self, method: str, rule: Rule) -> None:
        node = self._methods.setdefault(method, _Node())
        arguments = []
        for place, part in enumerate(rule.rule.removeprefix("/").split("/")):
            found = _PART.fullmatch(part)
            if found is None:
                raise ValueError(f"{rule.rule}: <{part}> is not the name of an argument")
            if found["argument"]:
                arguments.append((found["argument"], place))
                if node.argument is None:
                    node.argument = _Node()
                node = node.argument
            else:
                node = node.static.setdefault(part, _Node())
        # As in werkzeug, the first of several equal rules counts.
        node.rule = node.rule or (rule.endpoint, tuple(arguments))

    def match(self, method: str, parts: Sequence[str]) -> Match | str | None:
        """Returns the route of a method and the decoded parts of a path, of which there is at least one: [""] is the path "/". A part may
        contain a slash, which separates nothing. Returns WRONG_METHOD or None if there is none."""
        node = self._methods.get(method)
        rule = None if node is None else _find(node, parts, 0)
        if rule is not None:
            endpoint, arguments = rule
            return Match(endpoint, {name: parts[place] for name, place in arguments})
        for node in self._methods.values():
            if _find(node, parts, 0) is not None:
                return WRONG_METHOD
        return None


def _find(node: _Node, parts: Sequence[str], place: int) -> Any:
    """Returns the rule of a path. A static part takes precedence over an argument, which must not be empty."""
    if place == len(parts):
        return node.rule
    part = parts[place]
    following = node.static.get(part)
    if following is not None:
        found = _find(following, parts, place + 1)
        if found is not None:
            return found
    if node.argument is not None and part:
        return _find(node.argument, parts, place + 1)
    return None
