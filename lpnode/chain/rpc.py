"""JSON-RPC over several endpoints: the first healthy one is asked, the others stand in for it.

An endpoint that fails rests for a while that doubles with each failure. What every endpoint would
answer alike, such as a revert, is passed on at once.
"""

import asyncio
import json
import logging
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import urlsplit

import aiohttp

from lpnode.chain.hex_values import quantity
from lpnode.chain.revert import revert_reason
from lpnode.errors import CallReverted, ChainError, ConfigError, RpcRefused, RpcUnavailable

_MAX_ANSWER_BYTES = 64 * 2**20
_CHUNK_BYTES = 2**16
_MAX_WAIT_S = 4.0
_REVERTED = 3
_LIMIT_EXCEEDED = -32005
_INTERNAL_ERROR = -32603
# What nodes say when they are behind, overloaded or pruned: another one may know. Providers share
# the code -32000 for these and for real refusals, so the text decides. The first three are what the
# reference retries. Source: payments.md 4.6.
_PASSING = (
    "eof",
    "use of closed connection",
    "unsupported block number",
    "header not found",
    "unknown block",
    "block not found",
    "missing trie node",
    "rate limit",
    "too many requests",
    "request timed out",
    "timeout",
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RpcConfig:
    """Where the chain is asked. Times in seconds."""

    urls: tuple[str, ...] = field(repr=False)
    """In order of preference. May hold access keys, so only the host is ever logged."""
    chain_id: int | None = None
    """Endpoints of another chain are not used; None: the first endpoint decides."""
    is_chain_checked: bool = True
    """False for what serves no chain, such as a signer."""
    timeout_s: float = 20.0
    """For one answer of one endpoint."""
    max_attempts: int = 6
    """For one request, over all endpoints."""
    first_rest_s: float = 0.5
    max_rest_s: float = 60.0

    def __post_init__(self) -> None:
        if not self.urls:
            raise ConfigError("-ethUrl: on-chain mode needs at least one JSON-RPC URL")
        for url in self.urls:
            parts = urlsplit(url)
            if parts.scheme not in {"http", "https"} or not parts.hostname:
                raise ConfigError(
                    f"-ethUrl: a JSON-RPC URL is http(s)://host…, got the scheme {parts.scheme!r} "
                    f"and the host {parts.hostname!r}"
                )
        if self.timeout_s <= 0 or self.max_attempts <= 0:
            raise ConfigError(
                f"RPC time-out and attempts must be positive, got {self.timeout_s} s and "
                f"{self.max_attempts}"
            )
        if not 0 < self.first_rest_s <= self.max_rest_s:
            raise ConfigError(
                f"RPC rests must be positive and grow, got {self.first_rest_s} to "
                f"{self.max_rest_s} s"
            )


class _Endpoint:
    """One URL and how it has been doing."""

    __slots__ = ("is_checked", "is_wrong", "name", "num_failures", "rests_until_s", "url")

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.url = url
        self.name = f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)
        self.num_failures = 0
        self.rests_until_s = 0.0
        self.is_checked = False
        self.is_wrong = False
        """Serves another chain; never asked again."""


class _EndpointFailed(Exception):
    """This endpoint gave no usable answer; another may."""


class JsonRpc:
    """Sends requests. Open it with ``async with``; any number of tasks may share it."""

    def __init__(
        self,
        config: RpcConfig,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._config = config
        self._clock = clock
        self._sleep = sleep
        self._endpoints = [_Endpoint(url) for url in config.urls]
        self._chain_id = config.chain_id
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=self._config.timeout_s)
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._http is not None:
            await self._http.close()
            self._http = None

    @property
    def chain_id(self) -> int | None:
        """The chain of every endpoint that is used; None before the first answer."""
        return self._chain_id

    @property
    def healthy_endpoints(self) -> tuple[str, ...]:
        """Hosts that are not resting after a failure."""
        now_s = self._clock()
        return tuple(
            endpoint.name
            for endpoint in self._endpoints
            if not endpoint.is_wrong and endpoint.rests_until_s <= now_s
        )

    async def request(self, method: str, *params: object) -> Any:
        """Returns the result of a request that may be sent more than once.

        Raises:
            CallReverted: a contract declined.
            RpcRefused: an endpoint answered with another error; the others would too.
            RpcUnavailable: none gave an answer.
        """
        last_failure = "none was asked"
        for attempt in range(self._config.max_attempts):
            endpoint = self._next_endpoint()
            wait_s = endpoint.rests_until_s - self._clock()
            if wait_s > 0 and attempt:
                await self._sleep(min(wait_s, _MAX_WAIT_S))
            try:
                if self._config.is_chain_checked and not endpoint.is_checked:
                    await self._check_chain(endpoint)
                result = await self._ask(endpoint, method, params)
            except _EndpointFailed as failure:
                last_failure = str(failure)
                self._note_failure(endpoint, last_failure)
            except RpcRefused:
                endpoint.num_failures = 0
                raise
            else:
                if endpoint.num_failures:
                    _log.info("RPC endpoint %s answers again", endpoint.name)
                endpoint.num_failures = 0
                endpoint.rests_until_s = 0.0
                return result
        raise RpcUnavailable(
            f"{method}: no RPC endpoint answered in {self._config.max_attempts} attempts; "
            f"last: {last_failure}"
        )

    def _next_endpoint(self) -> _Endpoint:
        usable = [endpoint for endpoint in self._endpoints if not endpoint.is_wrong]
        if not usable:
            raise RpcUnavailable(f"no RPC endpoint serves chain {self._chain_id}")
        now_s = self._clock()
        for endpoint in usable:
            if endpoint.rests_until_s <= now_s:
                return endpoint
        return min(usable, key=lambda endpoint: endpoint.rests_until_s)

    async def _check_chain(self, endpoint: _Endpoint) -> None:
        try:
            served = quantity(await self._ask(endpoint, "eth_chainId", ()), "the chain id")
        except ChainError as exc:
            raise _EndpointFailed(f"{endpoint.name}: no chain id: {exc}") from exc
        if self._chain_id is None:
            self._chain_id = served
        if served != self._chain_id:
            endpoint.is_wrong = True
            _log.error(
                "RPC endpoint %s serves chain %d, not %d: it is not used",
                endpoint.name,
                served,
                self._chain_id,
            )
            raise _EndpointFailed(f"{endpoint.name}: serves chain {served}")
        endpoint.is_checked = True

    async def _ask(self, endpoint: _Endpoint, method: str, params: tuple[object, ...]) -> Any:
        assert self._http is not None, "open it with async with first"
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        try:
            async with self._http.post(endpoint.url, json=body, allow_redirects=False) as response:
                status = response.status
                text = await _bounded(response)
        except (aiohttp.ClientError, TimeoutError, OSError) as exc:
            # The exception's own text can hold the URL and with it an access key.
            raise _EndpointFailed(f"{endpoint.name}: {type(exc).__name__}") from exc
        try:
            answer = json.loads(text)
        except (ValueError, RecursionError) as exc:
            raise _EndpointFailed(f"{endpoint.name}: HTTP {status}, not JSON") from exc
        if not isinstance(answer, dict):
            raise _EndpointFailed(f"{endpoint.name}: HTTP {status}, not a JSON-RPC answer")
        error = answer.get("error")
        if isinstance(error, dict):
            raise _refusal(endpoint, method, error)
        if status != 200 or error is not None or "result" not in answer:
            raise _EndpointFailed(f"{endpoint.name}: HTTP {status}, not a JSON-RPC answer")
        return answer["result"]

    def _note_failure(self, endpoint: _Endpoint, reason: str) -> None:
        if endpoint.rests_until_s > self._clock():
            return  # requests that failed together are one failure
        endpoint.num_failures += 1
        doublings = min(endpoint.num_failures - 1, 16)
        rest_s = min(self._config.max_rest_s, self._config.first_rest_s * 2**doublings)
        # Spread, so that nodes that lost an endpoint together do not come back together.
        endpoint.rests_until_s = self._clock() + rest_s * random.uniform(0.75, 1.0)
        level = logging.WARNING if endpoint.num_failures == 1 else logging.DEBUG
        _log.log(level, "RPC endpoint failed and rests %.1f s: %s", rest_s, reason)


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    text = bytearray()
    async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
        text += chunk
        if len(text) > _MAX_ANSWER_BYTES:
            raise aiohttp.ClientPayloadError(f"more than {_MAX_ANSWER_BYTES} bytes")
    return bytes(text)


def _refusal(
    endpoint: _Endpoint, method: str, error: dict[str, Any]
) -> RpcRefused | _EndpointFailed:
    code = error.get("code")
    code = code if isinstance(code, int) else 0
    message = str(error.get("message", ""))
    details = error.get("data")
    text = f"{method}: {message}"
    reason = revert_reason(details, message)
    if reason is not None or code == _REVERTED:
        return CallReverted(text, code=code, reason=reason or "", data=details)
    lowered = message.lower()
    if code in (_LIMIT_EXCEEDED, _INTERNAL_ERROR) or any(part in lowered for part in _PASSING):
        return _EndpointFailed(f"{endpoint.name}: {text}")
    return RpcRefused(text, code=code, data=details)
