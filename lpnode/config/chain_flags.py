"""Settings of ``lpnode serve`` for prices and the chain.

Source: discovery.md section 8; ``ethSigner``, ``redeemGas`` and ``ledgerRetention`` are
this node's own.
"""

from lpnode.config.settings import Kind, used_flag

_TEXT, _BOOL, _INT, _DURATION = Kind.TEXT, Kind.BOOL, Kind.INT, Kind.DURATION


PRICE_FLAGS = (
    used_flag(
        "Prices (on-chain)",
        "pricePerUnit",
        _TEXT,
        "",
        "of models without a price of their own in -aiModels: a number and a currency right "
        "behind it, 1200 (wei) or 0.5USD",
    ),
    used_flag(
        "Prices (on-chain)",
        "pixelsPerUnit",
        _TEXT,
        "1",
        "how many pixels -pricePerUnit is for; 1e12 is understood",
    ),
    used_flag(
        "Prices (on-chain)",
        "pricePerGateway",
        _TEXT,
        "",
        'JSON or a file of it: {"gateways": [{"ethaddress", "priceperunit", "pixelsperunit", '
        '"currency"}]}',
        "pricePerBroadcaster",
    ),
    used_flag(
        "Prices (on-chain)",
        "autoAdjustPrice",
        _BOOL,
        "true",
        "add what redeeming tickets costs to the prices that are quoted",
    ),
    used_flag(
        "Prices (on-chain)",
        "priceFeedAddr",
        _TEXT,
        "",
        "oracle for prices in a currency; empty: ETH / USD of Arbitrum One",
    ),
    used_flag(
        "Prices (on-chain)",
        "ticketEV",
        _TEXT,
        "8000000000",
        "wei that a ticket is worth on average; unless given, dear work gets tickets of more, so "
        "that a minute of live video is prepaid with a few",
    ),
    used_flag(
        "Prices (on-chain)",
        "maxFaceValue",
        _TEXT,
        "0",
        "most wei that a ticket may pay; 0: the sender's funds are the only limit",
    ),
    used_flag(
        "Prices (on-chain)",
        "livePaymentInterval",
        _DURATION,
        "5s",
        "how often a live stream is billed",
    ),
)

CHAIN_FLAGS = (
    used_flag(
        "Chain",
        "ethUrl",
        _TEXT,
        "",
        "JSON-RPC endpoints, comma list; the first healthy one is asked",
        is_secret=True,
    ),
    used_flag(
        "Chain", "ethController", _TEXT, "", "Controller contract; empty: that of the network"
    ),
    used_flag(
        "Chain",
        "ethKeystorePath",
        _TEXT,
        "",
        "key file (version 3) or a directory of them; empty: <dataDir>/keystore",
    ),
    used_flag(
        "Chain",
        "ethPassword",
        _TEXT,
        "",
        "password of the key file, or a file whose first line it is",
        is_secret=True,
    ),
    used_flag(
        "Chain", "ethAcctAddr", _TEXT, "", "the account, where there are several or a signer"
    ),
    used_flag(
        "Chain",
        "ethSigner",
        _TEXT,
        "",
        "URL of a remote signer (Web3Signer) that holds the key of -ethAcctAddr instead",
        is_secret=True,
    ),
    used_flag(
        "Chain",
        "ethOrchAddr",
        _TEXT,
        "",
        "orchestrator that tickets pay; empty: the account, which otherwise only pays for gas",
    ),
    used_flag("Chain", "aiServiceRegistry", _BOOL, "false", "use the AI ServiceRegistry contract"),
    used_flag("Chain", "maxGasPrice", _TEXT, "0", "wei; above it nothing is sent; 0: no limit"),
    used_flag("Chain", "minGasPrice", _TEXT, "", "wei; what gas costs at least in our reckoning"),
    used_flag("Chain", "gasLimit", _INT, "0", "of every transaction; 0: what the chain estimates"),
    used_flag(
        "Chain",
        "redeemGas",
        _INT,
        "0",
        "gas that redeeming a ticket takes; 0: 350000 on mainnet, 1200000 elsewhere",
    ),
    used_flag(
        "Chain",
        "ledgerRetention",
        _DURATION,
        "9600h",
        "after as long, 400 days, rows of the ledger are kept as daily totals only",
    ),
    used_flag("Chain", "transactionTimeout", _DURATION, "5m", "before a transaction is replaced"),
    used_flag(
        "Chain", "maxTransactionReplacements", _INT, "1", "how often it is, each 11 % dearer"
    ),
    used_flag("Chain", "blockPollingInterval", _INT, "5", "seconds between two looks at the chain"),
    used_flag(
        "Chain",
        "reward",
        _BOOL,
        "",
        "claim each round's reward; unless given, done when the account is the orchestrator",
    ),
    used_flag("Chain", "initializeRound", _BOOL, "false", "begin rounds that nobody has begun"),
    used_flag(
        "Chain",
        "initializeRoundMaxDelay",
        _DURATION,
        "30s",
        "wait a random time up to this first, since somebody else may pay for it",
    ),
)
