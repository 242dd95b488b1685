"""Settings of ``lpnode serve`` for prices and the chain.

Source: discovery.md section 8; ``ethSigner`` and ``redeemGas`` are this node's own.
"""

from lpnode.config.settings import Flag, Kind

_TEXT, _BOOL, _INT, _DURATION = Kind.TEXT, Kind.BOOL, Kind.INT, Kind.DURATION


def _flag(
    group: str,
    name: str,
    kind: Kind,
    default: str,
    text: str,
    *aliases: str,
    is_secret: bool = False,
) -> Flag:
    return Flag(name, kind, default, text, group, aliases, is_secret=is_secret)


PRICE_FLAGS = (
    _flag(
        "Prices (on-chain)",
        "pricePerUnit",
        _TEXT,
        "",
        "of models without a price of their own in -aiModels: a number and a currency right "
        "behind it, 1200 (wei) or 0.5USD",
    ),
    _flag(
        "Prices (on-chain)",
        "pixelsPerUnit",
        _TEXT,
        "1",
        "how many pixels -pricePerUnit is for; 1e12 is understood",
    ),
    _flag(
        "Prices (on-chain)",
        "pricePerGateway",
        _TEXT,
        "",
        'JSON or a file of it: {"gateways": [{"ethaddress", "priceperunit", "pixelsperunit", '
        '"currency"}]}',
        "pricePerBroadcaster",
    ),
    _flag(
        "Prices (on-chain)",
        "autoAdjustPrice",
        _BOOL,
        "true",
        "add what redeeming tickets costs to the prices that are quoted",
    ),
    _flag(
        "Prices (on-chain)",
        "priceFeedAddr",
        _TEXT,
        "",
        "oracle for prices in a currency; empty: ETH / USD of Arbitrum One",
    ),
    _flag(
        "Prices (on-chain)",
        "ticketEV",
        _TEXT,
        "8000000000",
        "wei that a ticket is worth on average; unless given, dear work gets tickets of more, so "
        "that a minute of live video is prepaid with a few",
    ),
    _flag(
        "Prices (on-chain)",
        "maxFaceValue",
        _TEXT,
        "0",
        "most wei that a ticket may pay; 0: the sender's funds are the only limit",
    ),
    _flag(
        "Prices (on-chain)",
        "livePaymentInterval",
        _DURATION,
        "5s",
        "how often a live stream is billed",
    ),
)

CHAIN_FLAGS = (
    _flag(
        "Chain",
        "ethUrl",
        _TEXT,
        "",
        "JSON-RPC endpoints, comma list; the first healthy one is asked",
        is_secret=True,
    ),
    _flag("Chain", "ethController", _TEXT, "", "Controller contract; empty: that of the network"),
    _flag(
        "Chain",
        "ethKeystorePath",
        _TEXT,
        "",
        "key file (version 3) or a directory of them; empty: <dataDir>/keystore",
    ),
    _flag(
        "Chain",
        "ethPassword",
        _TEXT,
        "",
        "password of the key file, or a file whose first line it is",
        is_secret=True,
    ),
    _flag("Chain", "ethAcctAddr", _TEXT, "", "the account, where there are several or a signer"),
    _flag(
        "Chain",
        "ethSigner",
        _TEXT,
        "",
        "URL of a remote signer (Web3Signer) that holds the key of -ethAcctAddr instead",
        is_secret=True,
    ),
    _flag(
        "Chain",
        "ethOrchAddr",
        _TEXT,
        "",
        "orchestrator that tickets pay; empty: the account, which otherwise only pays for gas",
    ),
    _flag("Chain", "aiServiceRegistry", _BOOL, "false", "use the AI ServiceRegistry contract"),
    _flag("Chain", "maxGasPrice", _TEXT, "0", "wei; above it nothing is sent; 0: no limit"),
    _flag("Chain", "minGasPrice", _TEXT, "", "wei; what gas costs at least in our reckoning"),
    _flag("Chain", "gasLimit", _INT, "0", "of every transaction; 0: what the chain estimates"),
    _flag(
        "Chain",
        "redeemGas",
        _INT,
        "0",
        "gas that redeeming a ticket takes; 0: 350000 on mainnet, 1200000 elsewhere",
    ),
    _flag("Chain", "transactionTimeout", _DURATION, "5m", "before a transaction is replaced"),
    _flag("Chain", "maxTransactionReplacements", _INT, "1", "how often it is, each 11 % dearer"),
    _flag("Chain", "blockPollingInterval", _INT, "5", "seconds between two looks at the chain"),
    _flag(
        "Chain",
        "reward",
        _BOOL,
        "false",
        "claim each round's reward; unless given, done when the account is the orchestrator",
    ),
    _flag("Chain", "initializeRound", _BOOL, "false", "begin rounds that nobody has begun"),
    _flag(
        "Chain",
        "initializeRoundMaxDelay",
        _DURATION,
        "30s",
        "wait a random time up to this first, since somebody else may pay for it",
    ),
)
