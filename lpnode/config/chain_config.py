"""Settings by name → which chain, which account, and how tickets are made."""

from pathlib import Path

from lpnode.chain.connection import ChainConfig, RemoteSignerConfig
from lpnode.chain.controller import AI_SERVICE_REGISTRY
from lpnode.chain.gas_price import GasPriceConfig
from lpnode.chain.housekeeping import HousekeepingConfig
from lpnode.chain.keystore import KeystoreConfig
from lpnode.chain.price_feed import DEFAULT_PRICE_FEED
from lpnode.chain.rpc import RpcConfig
from lpnode.chain.state import ChainStateConfig
from lpnode.chain.transactions import TransactionsConfig
from lpnode.config.settings import Settings
from lpnode.errors import ConfigError, InvalidArgument
from lpnode.payment.params import PricingConfig
from lpnode.protocol.ethereum import Address, parse_address

OFF_CHAIN = "offchain"
MAINNET = 1
CHAIN_IDS = {"mainnet": MAINNET, "arbitrum-one-mainnet": 42161}

_REDEEM_GAS = {MAINNET: 350_000}
_REDEEM_GAS_ELSEWHERE = 1_200_000


def chain_config(settings: Settings, data_dir: Path, *, needs_rate: bool) -> ChainConfig | None:
    """Returns what ``-network`` and the settings of the group Chain say; None off-chain.

    ``data_dir`` has the keystore unless another is named. ``needs_rate``: whether a price is in a
    currency.
    Raises: ConfigError: names the setting.
    """
    network = settings.text("network")
    if network == OFF_CHAIN:
        return None
    urls = tuple(part.strip() for part in settings.text("ethUrl").split(",") if part.strip())
    if not urls:
        raise ConfigError(
            f"-network {network} needs -ethUrl: a JSON-RPC endpoint of that chain; "
            f"-network {OFF_CHAIN} is for a node that is not paid"
        )
    controller = address_setting(settings, "ethController")
    if network not in CHAIN_IDS and controller is None:
        raise ConfigError(
            f"-network {network!r} is none of {OFF_CHAIN}, {', '.join(CHAIN_IDS)}; "
            "one of your own needs -ethController"
        )
    recipient = address_setting(settings, "ethOrchAddr")
    rate = address_setting(settings, "priceFeedAddr") or DEFAULT_PRICE_FEED
    poll_s = float(settings.integer("blockPollingInterval"))
    return ChainConfig(
        rpc=RpcConfig(urls=urls, chain_id=CHAIN_IDS.get(network)),
        account=_account(settings, data_dir),
        recipient=recipient,
        controller=controller,
        service_registry=AI_SERVICE_REGISTRY if settings.boolean("aiServiceRegistry") else None,
        price_feed=rate if needs_rate else None,
        gas_price=GasPriceConfig(
            max_wei=whole_setting(settings, "maxGasPrice") or None,
            min_wei=whole_setting(settings, "minGasPrice"),
            poll_s=poll_s,
        ),
        state=ChainStateConfig(poll_s=poll_s),
        transactions=TransactionsConfig(
            timeout_s=settings.seconds("transactionTimeout"),
            max_replacements=settings.integer("maxTransactionReplacements"),
            gas_limit=settings.integer("gasLimit") or None,
        ),
        housekeeping=HousekeepingConfig(
            # The orchestrator's own account alone can claim it.
            is_rewarding=(
                settings.boolean("reward") if settings.is_given("reward") else recipient is None
            ),
            is_initializing_rounds=settings.boolean("initializeRound"),
            max_delay_s=settings.seconds("initializeRoundMaxDelay"),
        ),
    )


def ticket_config(settings: Settings) -> PricingConfig:
    """Returns how tickets are made. Raises: ConfigError: names the setting."""
    gas = settings.integer("redeemGas")
    if gas < 0:
        raise ConfigError(f"{settings.origin('redeemGas')} must not be negative, got {gas}")
    chain_id = CHAIN_IDS.get(settings.text("network"))
    default_gas = _REDEEM_GAS_ELSEWHERE
    if chain_id is not None:
        default_gas = _REDEEM_GAS.get(chain_id, default_gas)
    return PricingConfig(
        ev_wei=whole_setting(settings, "ticketEV"),
        redeem_gas=gas or default_gas,
        max_face_value_wei=whole_setting(settings, "maxFaceValue") or None,
        # An EV that the operator chose is the one that tickets have.
        is_ev_scaled=not settings.is_given("ticketEV"),
    )


def address_setting(settings: Settings, name: str) -> Address | None:
    """Returns the value of a setting that is an address; None when it is empty.

    Raises: ConfigError.
    """
    text = settings.text(name)
    try:
        return parse_address(text) if text else None
    except InvalidArgument as error:
        raise ConfigError(f"{settings.origin(name)}: {error}") from error


def whole_setting(settings: Settings, name: str) -> int:
    """Returns a number of wei, which may be larger than 64 bits; 0 when it is empty.

    Raises: ConfigError: it is no whole number, or negative.
    """
    text = settings.text(name) or "0"
    if not (text.isascii() and text.isdecimal()):
        raise ConfigError(f"{settings.origin(name)}: {text!r} is not a whole number of wei")
    return int(text)


def _account(settings: Settings, data_dir: Path) -> KeystoreConfig | RemoteSignerConfig:
    address = address_setting(settings, "ethAcctAddr")
    signer = settings.text("ethSigner")
    if not signer:
        path = settings.text("ethKeystorePath")
        return KeystoreConfig(
            path=Path(path).expanduser() if path else data_dir / "keystore",
            password=settings.text("ethPassword"),
            address=address,
        )
    if not signer.startswith(("http://", "https://")):
        raise ConfigError(f"{settings.origin('ethSigner')} must be an http or https URL")
    if address is None:
        raise ConfigError(f"{settings.origin('ethSigner')} needs -ethAcctAddr: whose key it holds")
    return RemoteSignerConfig(url=signer, address=address)
