"""Method and path → handler, as one readable table; 404, 405 and 413 are made here."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass

from lpnode.edge.exchange import Body, Handler, Request, Response, text_response
from lpnode.edge.status import error_response, is_unexpected
from lpnode.errors import InvalidArgument, PeerGone, TooLarge

logger = logging.getLogger(__name__)

ANY = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One line of the table.

    ``path`` is matched whole, or as a prefix if it ends with ``/*``. ``methods`` may be ``ANY``;
    HEAD comes with GET. ``max_body_bytes`` is None where the handler limits its body itself.
    """

    path: str
    handler: Handler
    methods: str = "GET"
    max_body_bytes: int | None = 1 << 20


class Router:
    """A Handler that passes each request to its route, and answers every failure with text."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._exact: dict[str, list[Route]] = {}
        self._prefixes: list[tuple[str, list[Route]]] = []
        prefixes: dict[str, list[Route]] = {}
        for route in routes:
            if not route.path.startswith("/"):
                raise InvalidArgument(f"a path begins with a slash, got {route.path!r}")
            if route.path.endswith("/*"):
                prefixes.setdefault(route.path[:-1], []).append(route)
            else:
                self._exact.setdefault(route.path, []).append(route)
        self._prefixes = sorted(prefixes.items(), key=lambda item: -len(item[0]))

    async def __call__(self, request: Request) -> Response:
        """Answers ``request``; raises only PeerGone and what a failing node cannot contain."""
        try:
            found = self._find(request)
            if isinstance(found, Response):
                return found
            limit = found.max_body_bytes
            if limit is not None:
                announced = request.headers.get("content-length")
                if announced.isdigit() and int(announced[:18]) > limit:
                    raise TooLarge(f"request body is over {limit} bytes")
                request.body = _LimitedBody(request.body, limit)
            return await found.handler(request)
        except PeerGone:
            raise
        except Exception as error:
            if is_unexpected(error):
                logger.exception("%s %s failed", request.method, request.path)
            return error_response(error)

    def _find(self, request: Request) -> Route | Response:
        routes = self._exact.get(request.path)
        if routes is None:
            routes = next(
                (routes for start, routes in self._prefixes if request.path.startswith(start)), None
            )
        if routes is None:
            return text_response(404, "404 page not found\n")
        wanted = "GET" if request.method == "HEAD" else request.method
        allowed: set[str] = set()
        for route in routes:
            methods = route.methods.split(",")
            if wanted in methods or ANY in methods:
                return route
            allowed.update(methods)
        if "GET" in allowed:
            allowed.add("HEAD")
        return text_response(405, "Method Not Allowed\n", ("Allow", ", ".join(sorted(allowed))))


class _LimitedBody:
    """A body that may not exceed its route's limit."""

    __slots__ = ("_body", "_left", "_limit")

    def __init__(self, body: Body, limit: int) -> None:
        self._body = body
        self._limit = limit
        self._left = limit

    async def read(self) -> bytes:
        piece = await self._body.read()
        self._left -= len(piece)
        if self._left < 0:
            raise TooLarge(f"request body is over {self._limit} bytes")
        return piece
