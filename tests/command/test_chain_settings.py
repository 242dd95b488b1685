"""Settings of prices and of the chain, as ``lpnode serve`` reads them."""

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from command.test_settings import configured

from lpnode.admission.tariff import BasePrice
from lpnode.chain.connection import ChainConfig, RemoteSignerConfig
from lpnode.chain.keystore import KeystoreConfig
from lpnode.errors import ConfigError
from lpnode.protocol.ethereum import parse_address

ADDRESS = "0x" + "ab" * 20
ARBITRUM = ("-network", "arbitrum-one-mainnet", "-ethUrl", "https://a.example, http://b:8545")
PRICED = ("-pricePerUnit", "1200")


def chain_of(*words: str) -> ChainConfig:
    chain = configured(*ARBITRUM, *PRICED, *words).chain
    assert chain is not None
    return chain


def test_a_node_is_off_chain_unless_it_is_told_otherwise() -> None:
    config = configured("-ethUrl", "https://a.example", *PRICED)
    assert config.chain is None
    assert config.network == "offchain"


def test_a_network_has_its_endpoints_its_chain_id_and_its_own_folder() -> None:
    config = configured(*ARBITRUM, *PRICED)
    assert config.chain is not None
    assert config.chain.rpc.urls == ("https://a.example", "http://b:8545")
    assert config.chain.rpc.chain_id == 42161
    assert config.data_dir.name == "arbitrum-one-mainnet"
    assert config.payment_store == config.data_dir / "payments.db"
    assert config.chain.account == KeystoreConfig(path=config.data_dir / "keystore")


def test_redeeming_takes_less_gas_on_mainnet() -> None:
    assert configured(*ARBITRUM, *PRICED).tickets.redeem_gas == 1_200_000
    on_l1 = ("-network", "mainnet", "-ethUrl", "http://a")
    assert configured(*on_l1, *PRICED).tickets.redeem_gas == 350_000
    assert configured(*on_l1, *PRICED, "-redeemGas", "9").tickets.redeem_gas == 9


def test_the_key_may_be_with_a_remote_signer() -> None:
    chain = chain_of("-ethSigner", "https://signer:9000", "-ethAcctAddr", ADDRESS)
    assert chain.account == RemoteSignerConfig(
        url="https://signer:9000", address=parse_address(ADDRESS)
    )
    with pytest.raises(ConfigError, match="-ethSigner needs -ethAcctAddr"):
        chain_of("-ethSigner", "https://signer:9000")


def test_rewards_are_claimed_by_the_orchestrators_own_account_alone_unless_told() -> None:
    assert chain_of().housekeeping.is_rewarding
    assert not chain_of("-ethOrchAddr", ADDRESS).housekeeping.is_rewarding
    assert not chain_of("-reward=false").housekeeping.is_rewarding
    assert chain_of("-reward", "-ethOrchAddr", ADDRESS).housekeeping.is_rewarding


def test_an_ev_that_is_given_is_not_scaled_with_the_price() -> None:
    assert configured().tickets.is_ev_scaled
    given = configured("-ticketEV", "1000").tickets
    assert (given.ev_wei, given.is_ev_scaled) == (1000, False)


def test_the_ledger_is_kept_for_as_long_as_the_operator_says() -> None:
    assert configured().ledger_retention_s == 400 * 86_400
    assert configured("-ledgerRetention", "2000h").ledger_retention_s == 2000 * 3600


def test_a_price_feed_is_read_only_where_a_price_needs_one(tmp_path: Path) -> None:
    assert chain_of().price_feed is None
    dollars = configured(*ARBITRUM, "-pricePerUnit", "0.5USD", "-pixelsPerUnit", "1e12")
    assert dollars.chain is not None
    assert dollars.chain.price_feed is not None
    models = tmp_path / "models.json"
    entry = {"pipeline": "live-video-to-video", "model_id": "noop", "price_per_unit": 1}
    models.write_text(json.dumps([entry | {"currency": "USD"}]))
    chain = chain_of("-aiModels", str(models), "-priceFeedAddr", ADDRESS)
    assert chain.price_feed == parse_address(ADDRESS)


def test_gateways_have_prices_of_their_own(tmp_path: Path) -> None:
    prices = {"ethAddress": ADDRESS, "pricePerUnit": 0.5, "pixelsPerUnit": 10, "currency": "wei"}
    document = json.dumps({"gateways": [prices]})
    file = tmp_path / "prices.json"
    file.write_text(document)
    for value in (document, str(file), document.replace("gateways", "broadcasters")):
        base = configured("-pricePerGateway", value, *PRICED).tariff.base
        assert base[None].wei(None) == 1200
        assert base[parse_address(ADDRESS)].wei(None) == Fraction(1, 20)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("-network", "mainnet"), "-network mainnet needs -ethUrl"),
        (("-network", "mine", "-ethUrl", "http://a"), "one of your own needs -ethController"),
        ((*ARBITRUM, "-ethUrl", "ws://a"), r"-ethUrl: a JSON-RPC URL is http\(s\)"),
        ((*ARBITRUM, "-ethOrchAddr", "0x12"), "-ethOrchAddr: an address is 0x and 40"),
        ((*ARBITRUM, "-ethOrchAddr", "0x" + "00" * 20), "must not be the zero address"),
        ((*ARBITRUM, "-maxGasPrice", "1gwei"), "-maxGasPrice: '1gwei' is not a whole number"),
        ((*ARBITRUM, "-maxGasPrice", "5", "-minGasPrice", "6"), "nor above -maxGasPrice"),
        (("-ticketEV", "-1"), "-ticketEV: '-1' is not a whole number of wei"),
        (("-ticketEV", "0"), "-ticketEV must be positive"),
        (("-ticketEV", "9", "-maxFaceValue", "9"), "must be more than -ticketEV"),
        (("-pricePerUnit", "-5"), "a price per unit is a number"),
        (("-pricePerUnit", "5", "-pixelsPerUnit", "0.5"), "-pixelsPerUnit must be a positive"),
        (("-livePaymentInterval", "0s"), "-livePaymentInterval must be positive"),
        (("-pricePerGateway", "{}"), 'a list under "gateways"'),
        (("-pricePerGateway", "x.json"), "neither a file nor JSON"),
        (("-pricePerGateway", '{"gateways": [{"ethaddress": "0x1"}]}'), "entry 1: an address"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_name_of_the_setting(
    words: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        configured(*words)


def test_base_prices_may_be_for_a_number_of_pixels() -> None:
    base: dict[Any, BasePrice] = dict(
        configured("-pricePerUnit", "3", "-pixelsPerUnit", "1e12").tariff.base
    )
    assert base[None].wei(None) == Fraction(3, 10**12)
