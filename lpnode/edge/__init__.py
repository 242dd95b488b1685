"""The outside: bytes and status codes stop here."""
