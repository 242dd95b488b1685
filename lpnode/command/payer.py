"""The paying account of a command: its key, its limits, and its chain if one is given."""

import argparse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from fractions import Fraction
from urllib.parse import urlsplit

from lpnode.errors import ConfigError, InvalidArgument
from lpnode.gateway.key_file import read_key_file
from lpnode.gateway.live_payment import LivePayer, LivePaymentConfig
from lpnode.gateway.sender_account import SenderAccount
from lpnode.gateway.spending_limits import SpendingLimits
from lpnode.protocol.ethereum import Account, Address, parse_address

_ONLY_WITH_KEY = {
    "password_file": "--password-file",
    "max_price": "--max-price",
    "eth_url": "--eth-url",
    "eth_controller": "--eth-controller",
    "stop_paying": "--stop-paying",
}


@asynccontextmanager
async def opened_payer(arguments: argparse.Namespace) -> AsyncIterator[LivePayer | None]:
    """The payer that ``lpnode stream``'s arguments describe; None without ``--pay``.

    Raises: ConfigError: an argument that cannot be used. ChainError: no answer from ``--eth-url``.
    """
    if arguments.pay is None:
        for name, flag in _ONLY_WITH_KEY.items():
            if getattr(arguments, name) is not None:
                raise ConfigError(f"{flag} needs --pay KEYFILE")
        yield None
        return
    _check(arguments)
    account = read_key_file(arguments.pay, arguments.password_file)
    limits = SpendingLimits(
        max_price=_price(arguments.max_price),
        max_ticket_ev_wei=arguments.max_ticket_ev,
        max_total_ev_wei=arguments.max_total_ev,
    )
    config = LivePaymentConfig(
        interval_s=arguments.payment_interval, stop_after_s=arguments.stop_paying
    )
    controller = _controller(arguments.eth_controller)
    if arguments.eth_url is None:
        yield LivePayer(account, limits, config)
        return
    async with SenderAccount.opened(arguments.eth_url, account.address, controller) as chain:
        yield LivePayer(account, limits, config, chain=chain)


def signing_account(arguments: argparse.Namespace) -> Account | None:
    """The account that signs ``lpnode probe``'s question; None without ``--key``.

    Raises: ConfigError: a key file that cannot be used, or a password without one.
    """
    if arguments.key is None:
        if arguments.password_file is not None:
            raise ConfigError("--password-file needs --key KEYFILE")
        return None
    return read_key_file(arguments.key, arguments.password_file)


def _check(arguments: argparse.Namespace) -> None:
    for name in ("max_ticket_ev", "max_total_ev", "payment_interval"):
        if not getattr(arguments, name) > 0:
            flag = "--" + name.replace("_", "-")
            raise ConfigError(f"{flag} must be positive, got {getattr(arguments, name)}")
    if arguments.stop_paying is not None and not arguments.stop_paying >= 0:
        raise ConfigError(f"--stop-paying must not be negative, got {arguments.stop_paying:g}")
    url = None if arguments.eth_url is None else urlsplit(arguments.eth_url)
    if url is not None and not (url.scheme in ("http", "https") and url.hostname):
        # The URL may hold an access key, so it is not repeated.
        raise ConfigError("--eth-url must be the http(s) URL of a JSON-RPC endpoint")


def _price(text: str | None) -> Fraction | None:
    if text is None:
        return None
    try:
        price = Fraction(text)
    except (ValueError, ZeroDivisionError):
        price = Fraction(-1)
    if price < 0:
        raise ConfigError(f"--max-price {text!r}: must be wei per unit, such as 1200 or 0.5")
    return price


def _controller(text: str | None) -> Address | None:
    try:
        return None if text is None else parse_address(text)
    except InvalidArgument as error:
        raise ConfigError(f"--eth-controller: {error}") from error
