"""What of the native code is there: modules, the instruction set they use, CUDA."""

import importlib
from dataclasses import dataclass

NATIVE_MODULES = ("ticket", "media", "mpegts", "effect", "diffusion")


@dataclass(frozen=True, slots=True)
class NativeModule:
    """One compiled module. ``problem`` is empty when it imports."""

    name: str
    detail: str
    problem: str


def native_modules() -> list[NativeModule]:
    """Imports each compiled module and asks it what it was built with."""
    return [_examined(name) for name in NATIVE_MODULES]


def _examined(name: str) -> NativeModule:
    try:
        module = importlib.import_module(f"lpnode._native.{name}")
    except ImportError as error:
        return NativeModule(name, "", str(error))
    # Only the module with several paths has this function.
    simd_path = getattr(module, "best_simd_path", None)
    return NativeModule(name, simd_path() if simd_path else "", "")
