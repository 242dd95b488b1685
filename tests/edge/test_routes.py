"""The table of routes, and what failures look like from outside."""

import pytest

from lpnode.edge.exchange import Headers, Request, Response
from lpnode.edge.routes import ANY, Route, Router
from lpnode.edge.status import grpc_status, http_status
from lpnode.errors import (
    BadParameters,
    DeviceError,
    DiscoveryRefused,
    InsufficientBalance,
    InvalidArgument,
    NoCapacity,
    NoSuchChannel,
    NotAuthorised,
    PaymentUnreadable,
    ProtocolError,
    TooLarge,
)


class NoBody:
    async def read(self) -> bytes:
        return b""


def asked(method: str, path: str) -> Request:
    return Request(method, path, "", Headers(), NoBody())


def named(name: str) -> Route:
    async def handler(request: Request) -> Response:
        return Response(200, [], name.encode())

    path, _, methods = name.partition(" ")
    return Route(path=path, handler=handler, methods=methods or "GET")


@pytest.fixture
def router() -> Router:
    names = ["/a GET", "/a POST", "/a/* PUT", "/a/b/* GET", "/any " + ANY]
    return Router([named(name) for name in names])


@pytest.mark.parametrize(
    ("method", "path", "answer"),
    [
        ("GET", "/a", b"/a GET"),
        ("HEAD", "/a", b"/a GET"),
        ("POST", "/a", b"/a POST"),
        ("PUT", "/a/x/y", b"/a/* PUT"),
        ("GET", "/a/b/c", b"/a/b/* GET"),
        ("BREW", "/any", b"/any *"),
    ],
)
async def test_the_longest_match_answers(
    router: Router, method: str, path: str, answer: bytes
) -> None:
    assert (await router(asked(method, path))).body == answer


async def test_a_path_that_nobody_serves_is_404(router: Router) -> None:
    assert (await router(asked("GET", "/ab"))).status == 404


async def test_a_method_that_a_path_does_not_take_is_405_with_those_it_does(
    router: Router,
) -> None:
    answer = await router(asked("DELETE", "/a"))
    assert answer.status == 405
    assert ("Allow", "GET, HEAD, POST") in answer.headers


def test_a_route_without_a_leading_slash_is_a_mistake() -> None:
    with pytest.raises(InvalidArgument, match="slash"):
        Router([named("a")])


@pytest.mark.parametrize(
    ("error", "http", "grpc"),
    [
        (NotAuthorised("bad token"), (403, "bad token"), (2, "bad token")),
        (NoCapacity(), (503, "insufficient capacity"), (2, "insufficient capacity")),
        (PaymentUnreadable("not base64"), (402, "not base64"), (2, "not base64")),
        (InsufficientBalance(), (400, "Insufficient balance"), (2, "Insufficient balance")),
        (
            BadParameters("width: 7"),
            (500, "live-video-to-video container returned 400: width: 7"),
            (2, "live-video-to-video container returned 400: width: 7"),
        ),
        (DiscoveryRefused("Capped"), (400, "Capped"), (2, "Capped")),
        (ProtocolError("bad json"), (400, "bad json"), (13, "bad json")),
        (TooLarge("9 bytes"), (413, "9 bytes"), (8, "9 bytes")),
        (NoSuchChannel("gone"), (404, "gone"), (2, "gone")),
        (DeviceError("cudaMalloc at 0x7f"), (500, "the model host failed"),
         (13, "the model host failed")),
        (RuntimeError("secret"), (500, "internal error"), (13, "internal error")),
    ],
)  # fmt: skip
def test_each_failure_has_its_status_and_text(
    error: Exception, http: tuple[int, str], grpc: tuple[int, str]
) -> None:
    assert http_status(error) == http
    assert grpc_status(error) == grpc
