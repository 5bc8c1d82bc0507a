"""Limits the number of requests from one address and of one user, in this process. They are off by default."""

from collections.abc import Callable
from typing import Any

from directus_tx.config import RateLimitSettings
from directus_tx.errors import ApiError
from directus_tx.http.client import Proxies
from directus_tx.rate_limits import Limiter, Rate, limit_header, policy_header, refusal

UNLIMITED = frozenset({b"/health", b"/server/ping"})
"""The paths that load balancers ask."""


class RequestLimits:
    """The limits on requests. `addresses` and `users` are None if they are off. Answers to requests that a limit counts have the headers
    RateLimit and RateLimit-Policy. *seconds* is a monotonic clock."""

    def __init__(self, settings: RateLimitSettings, proxies: Proxies, seconds: Callable[[], float]) -> None:
        def limiter(number: int) -> Limiter | None:
            return Limiter(Rate(number), seconds) if number else None

        self.addresses = limiter(settings.requests_per_address)
        self.users = limiter(settings.requests_per_user)
        self._proxies = proxies

    def refusal_for_address(self, request: Any) -> ApiError | None:
        """Counts a request for its address. Returns the error if there were too many."""
        network = self._proxies.network(request)
        if self.addresses is None or network is None or request.path in UNLIMITED:
            return None
        return _count(request, self.addresses, network, "requests_per_address", "There were too many requests from this address")

    def check_user(self, request: Any, project: str, user: int) -> None:
        """Counts a request for its user. Raises TooManyRequests if there were too many."""
        if self.users is not None:
            error = _count(request, self.users, (project, user), "requests_per_user", "There were too many requests of this user")
            if error is not None:
                raise error


def _count(request: Any, limiter: Limiter, key: Any, name: str, reason: str) -> ApiError | None:
    wait = limiter.wait(key)
    if wait:
        # The error has the headers of the limit that is exceeded.
        return refusal(name, limiter.rate, wait, reason)
    limiter.add(key)
    for header, value in (
        (b"RateLimit-Policy", policy_header(name, limiter.rate)),
        (b"RateLimit", limit_header(name, limiter.remaining(key), limiter.used(key))),
    ):
        request.responseHeaders.addRawHeader(header, value.encode())
    return None
