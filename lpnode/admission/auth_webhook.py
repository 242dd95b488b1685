"""The operator's own say in who may discover the node (``-authWebhookUrl``).

Source: discovery.md section 3.5.
"""

import asyncio
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import aiohttp

from lpnode.errors import ConfigError, DiscoveryRefused
from lpnode.protocol.ethereum import Address, checksum_text

_log = logging.getLogger(__name__)

_PRICE_KEPT_S = 30 * 60
_MAX_BODY_BYTES = 64 * 1024
_MAX_PRICES = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthWebhookConfig:
    """``url`` is asked on every GetOrchestrator and must answer within ``timeout_s``."""

    url: str
    timeout_s: float = 2.0

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise ConfigError(f"-authWebhookUrl must be an http(s) URL, got {self.url!r}")
        if self.timeout_s <= 0:
            raise ConfigError(f"the webhook's time limit must be positive, got {self.timeout_s} s")


class AuthWebhook:
    """Asks the webhook and remembers the prices it gave. ``http`` belongs to the caller."""

    def __init__(
        self,
        config: AuthWebhookConfig,
        http: aiohttp.ClientSession,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._http = http
        self._clock = clock
        self._prices: dict[Address, tuple[float, Fraction]] = {}

    async def authenticate(self, sender: Address) -> Fraction | None:
        """Returns the base price the webhook gave this sender in the last 30 minutes, if any.

        Raises: DiscoveryRefused: it answered something else than 200 with JSON, or not at all.
        """
        try:
            async with (
                asyncio.timeout(self._config.timeout_s),
                self._http.post(self._config.url, json={"id": checksum_text(sender)}) as response,
            ):
                body = await _start_of(response.content)
                status = response.status
        except (aiohttp.ClientError, TimeoutError) as error:
            # Where the webhook lives is the operator's own business, not the gateway's.
            _log.warning("the auth webhook did not answer: %s", str(error) or type(error).__name__)
            raise DiscoveryRefused("authentication failed: no answer from the webhook") from error
        if status != 200:
            raise DiscoveryRefused(f"authentication failed: {body.decode(errors='replace')}")
        price = _price_in(body)
        now = self._clock()
        if price is not None:
            self._remember(sender, now, price)
            return price
        since, kept = self._prices.get(sender, (now - _PRICE_KEPT_S, None))
        return kept if now - since < _PRICE_KEPT_S else None

    def _remember(self, sender: Address, now: float, price: Fraction) -> None:
        self._prices.pop(sender, None)
        self._prices[sender] = (now, price)
        while len(self._prices) > _MAX_PRICES:  # the oldest answer goes first
            del self._prices[next(iter(self._prices))]


async def _start_of(content: aiohttp.StreamReader) -> bytes:
    """The body, cut off where no sensible answer would still go on."""
    body = bytearray()
    while len(body) < _MAX_BODY_BYTES and (piece := await content.read(_MAX_BODY_BYTES)):
        body += piece
    return bytes(body[:_MAX_BODY_BYTES])


def _price_in(body: bytes) -> Fraction | None:
    try:
        answer: Any = json.loads(body)
    except ValueError as error:
        raise DiscoveryRefused(f"authentication failed: {error}") from error
    info: Any = answer.get("priceInfo") if isinstance(answer, dict) else None
    if info is None:
        return None
    price: Any = info.get("pricePerUnit") if isinstance(info, dict) else None
    pixels: Any = info.get("pixelsPerUnit") if isinstance(info, dict) else None
    if not (_is_count(price) and _is_count(pixels)) or pixels == 0:
        raise DiscoveryRefused("authentication failed: priceInfo is not a price")
    return Fraction(price, pixels)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
