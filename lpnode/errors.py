"""Every exception that lpnode raises on purpose.

LpnodeError
  Refused              the request is understood and declined; its text is public
    NotAuthorised        bad signature, token or credentials
    NoCapacity           no slot is free for the model
    NotCapable           the node does not offer what was demanded
    PaymentUnreadable    the payment header cannot be decoded
    InsufficientBalance  the sender has not paid enough
    TicketRejected       a payment, or tickets in it, that the node does not take
    BadParameters        pipeline parameters that do not validate
    DiscoveryRefused     GetOrchestrator is declined
    NotRetried           a ticket that cannot be tried again
  ProtocolError        malformed bytes from a peer; closes that exchange only
    TooLarge             a body, head or segment over its limit
    PeerGone             the peer vanished in the middle of an exchange
  ChannelError         a trickle channel or segment that cannot be had
    NoSuchChannel        never created, deleted, or swept
    NoSuchSegment        not in the ring; carries the channel's write position
    EndOfChannel         the channel is closed; there is nothing more to read
  MediaError           ends the session, not the node
    DecodeError · EncodeError
  HostError            a model host failed or vanished; the slot is returned
    DeviceError · OutOfDeviceMemory
    ModelError           a model's files cannot be used; names the file and the tensor
  JobCancelled         whoever asked for a batch job wants it no more
  StorageFailed        what had to be on disk is not; the request fails, nothing is credited
  ChainError           RPC or contract failure; retried by its owner with back-off
    RpcUnavailable       no endpoint gave an answer in time
    RpcRefused           an endpoint understood the request and answered with an error
      CallReverted         a contract declined; carries its reason
    TransactionError     a transaction did not do its work
      GasPriceTooHigh      gas costs more than the operator allows; nothing was sent
      TransactionTimedOut  not mined in time; it may still be
      TransactionReverted  mined, and the contract declined
      TransactionLost      another transaction took its place
  PaymentRequired      a node asks for money, and nobody is there to pay
  SpendingLimitExceeded  a gateway would pay more than it may; nothing was sent
  ConfigError          at start only: says what was given and what would be accepted
    StoreInUse           another process has the payment store
    NoEvm                no Ethereum node for a local chain; says how to get one
  InvalidArgument      a caller's mistake, never caused by a peer
  NotBuilt             this build lacks the native part
"""


class LpnodeError(Exception):
    """Root of every exception lpnode raises on purpose."""


class Refused(LpnodeError):
    """The request is understood and declined; ``str()`` of it may be shown to the peer."""


class NotAuthorised(Refused):
    """Credentials are missing, wrong or expired."""


class NoCapacity(Refused):
    """No slot is free for the model. The text is what gateways match on."""

    def __init__(self, text: str = "insufficient capacity") -> None:
        super().__init__(text)


class NotCapable(Refused):
    """The node does not offer what was demanded."""


class PaymentUnreadable(Refused):
    """The payment header is not base64 of a Payment message."""


class InsufficientBalance(Refused):
    """The sender's balance does not cover the work."""

    def __init__(self, text: str = "Insufficient balance") -> None:
        super().__init__(text)


class TicketRejected(Refused):
    """A payment, or tickets in it, that the node does not take; gateways match on the text."""


class BadParameters(Refused):
    """Pipeline parameters that do not validate; the text names the field."""


class DiscoveryRefused(Refused):
    """GetOrchestrator is declined; the text is the whole gRPC message."""


class NotRetried(Refused):
    """There is no such ticket, or nothing would come of trying it again."""


class ProtocolError(LpnodeError):
    """Malformed bytes from a peer; closes that exchange only."""


class TooLarge(ProtocolError):
    """A body, head or segment is over its limit."""


class PeerGone(ProtocolError):
    """The peer vanished in the middle of an exchange."""


class ChannelError(LpnodeError):
    """A trickle channel or segment that cannot be had."""


class NoSuchChannel(ChannelError):
    """The channel was never created, or is deleted or swept."""


class NoSuchSegment(ChannelError):
    """The segment is not in the ring.

    ``latest`` is the channel's write position, where a reader can go on.
    """

    def __init__(self, text: str, *, latest: int) -> None:
        super().__init__(text)
        self.latest = latest


class EndOfChannel(ChannelError):
    """The channel is closed and there is nothing more to read."""


class MediaError(LpnodeError):
    """Media that cannot be processed; ends the session, not the node."""


class DecodeError(MediaError):
    """A packet or stream could not be decoded."""


class EncodeError(MediaError):
    """A frame could not be encoded."""


class HostError(LpnodeError):
    """A model host failed or vanished; the slot is returned."""


class DeviceError(HostError):
    """A device call failed; the text has call, code and reason."""


class OutOfDeviceMemory(HostError):
    """The device has not enough free memory."""


class ModelError(HostError):
    """A model's files cannot be used; the text names the file, and the tensor if there is one."""


class JobCancelled(LpnodeError):
    """A batch job ended early because whoever asked for it wants it no more."""


class StorageFailed(LpnodeError):
    """What had to be on disk is not; the request fails and nothing is credited."""


class ChainError(LpnodeError):
    """An RPC endpoint or a contract failed; whoever asked tries again later."""


class RpcUnavailable(ChainError):
    """No endpoint gave an answer in time."""


class RpcRefused(ChainError):
    """An endpoint understood the request and answered with an error.

    ``code`` is the JSON-RPC error code, ``data`` whatever came with it.
    """

    def __init__(self, text: str, *, code: int, data: object = None) -> None:
        super().__init__(text)
        self.code = code
        self.data = data


class CallReverted(RpcRefused):
    """A contract declined. ``reason`` is its own text, empty when it gave none."""

    def __init__(self, text: str, *, code: int, reason: str, data: object = None) -> None:
        super().__init__(text, code=code, data=data)
        self.reason = reason


class TransactionError(ChainError):
    """A transaction did not do its work."""


class GasPriceTooHigh(TransactionError):
    """Gas costs more than the operator allows; nothing was sent."""


class TransactionTimedOut(TransactionError):
    """The transaction was not mined in time. It may still be: ask the chain before a new one."""


class TransactionReverted(TransactionError):
    """The transaction was mined and the contract declined; its gas is spent."""


class TransactionLost(TransactionError):
    """Another transaction with the same nonce was mined; this one never will be."""


class PaymentRequired(LpnodeError):
    """A node asks for money, or for a signature, and no account was given; says what it costs."""


class SpendingLimitExceeded(LpnodeError):
    """A gateway would pay more than it may; nothing was sent. Names the limit."""


class ConfigError(LpnodeError):
    """A setting that cannot be used; says what was given and what would be accepted."""


class StoreInUse(ConfigError):
    """Another process, most likely the node, has the payment store."""


class NoEvm(ConfigError):
    """There is no Ethereum node for a local chain, or it did not start."""


class InvalidArgument(LpnodeError, ValueError):
    """A caller's mistake, never caused by a peer."""


class NotBuilt(LpnodeError):
    """This build lacks the native part; the text says how to get it."""


def first_cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The exception that ended nested task groups: the first leaf, which the others follow from."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
