"""Why a contract declined, from what a node says about it.

Source: Solidity documentation, "Panic via assert and Error via require".
"""

_ERROR = bytes.fromhex("08c379a0")
_PANIC = bytes.fromhex("4e487b71")
_WORD = 32
_MARK = "execution reverted"


def revert_reason(details: object, message: str) -> str | None:
    """Returns the contract's reason, empty when it gave none, or None when this is no revert.

    Args:
        details: the ``data`` of a JSON-RPC error: hex text, or an object that holds it.
        message: the error's text; nodes that send no data put the reason behind
            ``execution reverted``.
    """
    if isinstance(details, dict):
        details = details.get("data")
    raw = b""
    if isinstance(details, str) and details[:2] == "0x":
        try:
            raw = bytes.fromhex(details[2:])
        except ValueError:
            raw = b""
    if raw[:4] == _ERROR:
        return _text(raw[4:])
    if raw[:4] == _PANIC:
        return f"panic 0x{int.from_bytes(raw[4 : 4 + _WORD], 'big'):02x}"
    start = message.lower().find(_MARK)
    if start < 0:
        return None
    return message[start + len(_MARK) :].removeprefix(":").strip()


def _text(encoded: bytes) -> str:
    length = int.from_bytes(encoded[_WORD : 2 * _WORD], "big")
    return encoded[2 * _WORD : 2 * _WORD + min(length, len(encoded))].decode(errors="replace")
