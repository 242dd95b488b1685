"""``lpnode probe URL``: asks a node what a gateway asks it, and shows the answer."""

import argparse
import asyncio
import json
import math
from collections.abc import Iterator
from fractions import Fraction

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from lpnode.command.foreign_text import shown
from lpnode.command.payer import signing_account
from lpnode.command.payment_report import odds_text
from lpnode.errors import (
    ConfigError,
    DiscoveryRefused,
    InvalidArgument,
    LpnodeError,
    ProtocolError,
)
from lpnode.gateway.amounts import amount_text, price_text
from lpnode.gateway.credentials import address_signature
from lpnode.gateway.discover import (
    Discovered,
    demand_for,
    dial_uri,
    discovery_request,
    faults_of,
    get_orchestrator,
    is_unsigned,
)
from lpnode.gateway.network_capabilities import network_capabilities
from lpnode.gateway.ticket_terms import ticket_terms
from lpnode.protocol import lp_rpc_pb2 as pb
from lpnode.protocol.capability import (
    CAPABILITY_NAMES,
    LIVE_VIDEO_TO_VIDEO,
    from_bitstring,
    meets,
    pipeline_of,
)
from lpnode.protocol.ethereum import Account, checksum_text, to_address

_GIB = 1 << 30


def run(arguments: argparse.Namespace) -> int:
    """Probes ``arguments.url``. 0: usable by gateways, 1: not, or no answer; 2: no such address.

    Raises: ConfigError: the time-out or the key file cannot be used.
    """
    if not 0 < arguments.timeout < math.inf:
        raise ConfigError(f"--timeout must be positive, got {arguments.timeout:g}")
    errors = Console(stderr=True)
    request = _request(signing_account(arguments), arguments.model)
    try:
        uri = dial_uri(arguments.url)
        found = asyncio.run(get_orchestrator(uri, request, timeout_s=arguments.timeout))
    except InvalidArgument as error:
        errors.print(shown(f"lpnode probe: {error}"))
        return 2
    except LpnodeError as error:
        errors.print(shown(f"lpnode probe: {type(error).__name__}: {error}"))
        if isinstance(error, DiscoveryRefused) and is_unsigned(error):
            errors.print("An on-chain node answers signed requests only: give a key with --key.")
        return 1
    if arguments.json:
        print(json.dumps(network_capabilities([found]), indent=2))
    else:
        Console().print(report(found, arguments.model))
    return 1 if faults_of(found.info) else 0


def _request(account: Account | None, model_id: str | None) -> pb.OrchestratorRequest:
    demand = None if model_id is None else demand_for(LIVE_VIDEO_TO_VIDEO, model_id)
    if account is None:
        return discovery_request(demand, ignore_capacity=True)
    return discovery_request(
        demand,
        sender=account.address,
        signature=address_signature(account),
        ignore_capacity=True,
    )


def report(found: Discovered, model_id: str | None = None) -> RenderableType:
    """Returns the tables that describe a node to a person.

    ``model_id``: what prices and tickets were asked for; None: the base price.
    """
    parts: list[RenderableType] = [_summary(found, model_id), _models(found.info)]
    if found.info.hardware:
        parts.append(_hardware(found.info))
    parts += _tickets(found.info, model_id or "the base price")
    parts += [Text("fault: ", "red") + shown(fault) for fault in faults_of(found.info)]
    return Group(*parts)


def _summary(found: Discovered, model_id: str | None) -> Table:
    info = found.info
    table = Table(title=shown(f"Node at {found.uri}"), show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    recipient = info.ticket_params.recipient
    others = [
        CAPABILITY_NAMES.get(bit, str(bit)) for bit in from_bitstring(info.capabilities.bitstring)
    ]
    rows = {
        "answered in": f"{found.latency_s * 1000:.1f} ms, connection included",
        "transcoder": info.transcoder or "none",
        "address": checksum_text(to_address(info.address)),
        "ticket recipient": checksum_text(to_address(recipient))
        if recipient
        else "none: off-chain",
        "version": info.capabilities.version or "none",
        "demands of gateways": info.capabilities.constraints.minVersion or "no minimum version",
        f"price of {model_id}" if model_id else "base price": _price(info.price_info)
        if info.HasField("price_info")
        else "free: off-chain",
        "auth session": info.auth_token.session_id or "none",
        "further nodes": ", ".join(info.nodes) or "none",
        "capabilities": ", ".join(others),
    }
    for name, value in rows.items():
        table.add_row(name, shown(value))
    return table


def _tickets(info: pb.OrchestratorInfo, what: str) -> Iterator[RenderableType]:
    """What tickets for the price of ``what`` must look like; nothing where that is free."""
    try:
        terms = ticket_terms(info)
    except ProtocolError:  # one of the faults
        return
    if terms is None:
        return
    params = terms.params
    table = Table(title=shown(f"Tickets for {what}"), show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    rows = {
        "price": price_text(terms.price),
        "face value": amount_text(params.face_value_wei),
        "odds": odds_text(terms.odds),
        "expected value": amount_text(params.expected_value),
        "expire at": f"L1 block {params.expiration_block}",
        "round": str(params.creation_round),
    }
    for name, value in rows.items():
        table.add_row(name, value)
    yield table


def _models(info: pb.OrchestratorInfo) -> Table:
    table = Table(title="Models", title_justify="left")
    for heading in ("pipeline", "model", "warm", "free", "in use", "runner", "price", "matches"):
        table.add_column(heading, overflow="fold")
    without_price = "base" if info.HasField("price_info") else "free"
    prices = {(price.capability, price.constraint): price for price in info.capabilities_prices}
    for capability, constraints in sorted(info.capabilities.constraints.PerCapability.items()):
        for model_id, model in sorted(constraints.models.items()):
            price = prices.get((capability, model_id))
            is_match = meets(demand_for(capability, model_id), info.capabilities)
            table.add_row(
                pipeline_of(capability),
                shown(model_id),
                "yes" if model.warm else "no",
                str(model.capacity),
                str(model.capacityInUse),
                shown(model.runnerVersion or "none"),
                _price(price) if price else without_price,
                "yes" if is_match else "[red]no[/]",
            )
    return table


def _hardware(info: pb.OrchestratorInfo) -> Table:
    table = Table(title="Hardware", title_justify="left")
    for heading in ("pipeline", "model", "GPU", "name", "compute", "memory free / total"):
        table.add_column(heading, overflow="fold")
    for item in info.hardware:
        if not item.gpu_info:
            table.add_row(shown(item.pipeline), shown(item.model_id), "none", "", "", "")
        for index, gpu in sorted(item.gpu_info.items()):
            table.add_row(
                shown(item.pipeline),
                shown(item.model_id),
                shown(index),
                shown(gpu.name),
                f"{gpu.major}.{gpu.minor}",
                f"{gpu.memory_free / _GIB:.1f} / {gpu.memory_total / _GIB:.1f} GiB",
            )
    return table


def _price(price: pb.PriceInfo) -> str:
    if price.pixelsPerUnit <= 0:
        return f"{price.pricePerUnit} / {price.pixelsPerUnit}"
    return f"{float(Fraction(price.pricePerUnit, price.pixelsPerUnit)):g} wei per unit"
