"""Protobuf messages in header fields: standard base64 with padding, strictly."""

import binascii
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from lpnode.errors import ProtocolError

M = TypeVar("M", bound=Message)


class NotBase64(ProtocolError):
    """The field is not base64 of the standard alphabet with padding."""


class NotAMessage(ProtocolError):
    """The bytes are not a message of the expected type."""


def decode_message(kind: type[M], field: str) -> M:
    """Returns the message in a header field; an empty field is an empty message.

    Raises: NotBase64, NotAMessage.
    Source: payments.md sections 2.2 and 2.3 (RFC 4648 section 4).
    """
    try:
        raw = binascii.a2b_base64(field, strict_mode=True) if field else b""
    except (binascii.Error, ValueError) as error:  # ValueError: not ASCII
        raise NotBase64(str(error)) from error
    try:
        return kind.FromString(raw)
    except DecodeError as error:
        raise NotAMessage(f"not a {kind.DESCRIPTOR.full_name} message") from error


def encode_message(message: Message) -> str:
    """Returns the header field that carries ``message``."""
    return binascii.b2a_base64(message.SerializeToString(), newline=False).decode()
