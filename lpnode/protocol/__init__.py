"""Wire forms without I/O: messages, headers and the small rules that go with them."""
