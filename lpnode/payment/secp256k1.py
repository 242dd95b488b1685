"""Hands the libsecp256k1 that coincurve carries to native code, which calls it without the GIL.

The three functions are of libsecp256k1's stable interface. Recovery only reads the context, so all
threads share it.
"""

from coincurve._libsecp256k1 import ffi, lib
from coincurve.context import GLOBAL_CONTEXT

from lpnode._native import ticket as native


def _address(name: str) -> int:
    return int(ffi.cast("uintptr_t", ffi.addressof(lib, name)))


def load_secp256k1() -> native.Secp256k1:
    """Returns the library and its context, both of which live as long as the process."""
    return native.Secp256k1(
        context=int(ffi.cast("uintptr_t", GLOBAL_CONTEXT.ctx)),
        parse_compact=_address("secp256k1_ecdsa_recoverable_signature_parse_compact"),
        recover=_address("secp256k1_ecdsa_recover"),
        serialize=_address("secp256k1_ec_pubkey_serialize"),
    )
