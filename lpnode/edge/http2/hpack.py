"""HPACK: header blocks to fields and back.

Decoding keeps the peer's dynamic table; its work and memory are linear in the block's length, so
a megabyte of tiny fields is no weapon. Encoding never uses a dynamic table of its own: our
responses have few fields, and the fixed ones can be encoded once for the whole process.

Source: RFC 7541.
"""

from collections import deque
from collections.abc import Iterable

from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hpack.table import HeaderTable

from lpnode.errors import ProtocolError, TooLarge

Field = tuple[bytes, bytes]

STATIC_TABLE: tuple[Field, ...] = tuple(
    (bytes(name), bytes(value)) for name, value in HeaderTable.STATIC_TABLE
)
FIELD_OVERHEAD = 32  # what a field counts beside its bytes: RFC 7541 section 4.1
DEFAULT_TABLE_BYTES = 4096
_EOS = 256
_MAX_INTEGER = 1 << 28

_STATIC_NAMES: dict[bytes, int] = {}
for _index, (_name, _) in enumerate(STATIC_TABLE, start=1):
    _STATIC_NAMES.setdefault(_name, _index)
_STATIC_FIELDS = {field: index for index, field in enumerate(STATIC_TABLE, start=1)}


class _Huffman:
    """Decodes a byte at a time: the step for (state, byte) is worked out once, when first met."""

    def __init__(self) -> None:
        # A node is [left, right]; a child is a node number, or -1 - symbol for a leaf.
        self._nodes: list[list[int]] = [[0, 0]]
        self._steps: list[dict[int, tuple[int, bytes]]] = [{}]
        self._final = {0}  # states in which a string may end: at most 7 one bits of padding
        for symbol, (code, length) in enumerate(
            zip(REQUEST_CODES, REQUEST_CODES_LENGTH, strict=True)
        ):
            self._insert(symbol, code, length)
        node = 0
        for _ in range(7):
            node = self._nodes[node][1]
            self._final.add(node)

    def _insert(self, symbol: int, code: int, length: int) -> None:
        node = 0
        for shift in range(length - 1, 0, -1):
            bit = code >> shift & 1
            child = self._nodes[node][bit]
            if child == 0:
                child = len(self._nodes)
                self._nodes.append([0, 0])
                self._steps.append({})
                self._nodes[node][bit] = child
            node = child
        self._nodes[node][code & 1] = -1 - symbol

    def decode(self, data: bytes) -> bytes:
        state = 0
        out = []
        steps = self._steps
        for byte in data:
            step = steps[state].get(byte)
            if step is None:
                step = self._step(state, byte)
            state, symbols = step
            out.append(symbols)
        if state not in self._final:
            raise ProtocolError("Huffman string ends inside a symbol")
        return b"".join(out)

    def _step(self, state: int, byte: int) -> tuple[int, bytes]:
        node = state
        symbols = bytearray()
        for shift in range(7, -1, -1):
            child = self._nodes[node][byte >> shift & 1]
            if child < 0:
                symbol = -1 - child
                if symbol == _EOS:
                    raise ProtocolError("Huffman string holds the end-of-string symbol")
                symbols.append(symbol)
                child = 0
            node = child
        step = (node, bytes(symbols))
        self._steps[state][byte] = step
        return step


_HUFFMAN = _Huffman()


class HeaderDecoder:
    """One direction of one connection.

    ``generation`` changes with the dynamic table: two equal blocks decode to equal fields while
    it stays the same.
    """

    def __init__(self, max_list_bytes: int) -> None:
        self.generation = 0
        self._max_list_bytes = max_list_bytes
        self._table: deque[Field] = deque()
        self._table_bytes = 0
        self._table_limit = DEFAULT_TABLE_BYTES

    def decode(self, block: bytes) -> list[Field]:
        """Decodes one whole block.

        Raises:
            TooLarge: the fields exceed the list limit; the table is in order and the connection
                can go on.
            ProtocolError: the block is malformed; the connection cannot go on.
        """
        fields: list[Field] = []
        pos = 0
        size = 0
        limit = self._max_list_bytes
        end = len(block)
        try:
            while pos < end:
                byte = block[pos]
                if byte & 0x80:
                    index = byte & 0x7F
                    pos += 1
                    if index == 0x7F:
                        index, pos = _integer(block, pos, index)
                    field = self._lookup(index)
                elif byte & 0x40:
                    field, pos = self._literal(block, pos, 0x3F)
                    self._add(field)
                elif byte & 0x20:
                    if fields or size:
                        raise ProtocolError("table size update after a field")
                    new_limit = byte & 0x1F
                    pos += 1
                    if new_limit == 0x1F:
                        new_limit, pos = _integer(block, pos, new_limit)
                    self._resize(new_limit)
                    continue
                else:
                    field, pos = self._literal(block, pos, 0x0F)
                size += len(field[0]) + len(field[1]) + FIELD_OVERHEAD
                if size <= limit:
                    fields.append(field)
                elif size > 4 * limit:
                    raise ProtocolError(f"header list is over four times the limit of {limit}")
        except IndexError:
            raise ProtocolError("header block is truncated") from None
        if size > limit:
            raise TooLarge(f"header fields of {size} bytes; the limit is {limit}")
        return fields

    def _lookup(self, index: int) -> Field:
        if index == 0:
            raise ProtocolError("header index 0")
        if index <= len(STATIC_TABLE):
            return STATIC_TABLE[index - 1]
        index -= len(STATIC_TABLE) + 1
        if index >= len(self._table):
            raise ProtocolError("header index beyond the table")
        return self._table[index]

    def _literal(self, block: bytes, pos: int, mask: int) -> tuple[Field, int]:
        index = block[pos] & mask
        pos += 1
        if index == mask:
            index, pos = _integer(block, pos, mask)
        if index:
            name = self._lookup(index)[0]
        else:
            name, pos = _string(block, pos)
        value, pos = _string(block, pos)
        return (name, value), pos

    def _add(self, field: Field) -> None:
        self.generation += 1
        self._table.appendleft(field)
        self._table_bytes += len(field[0]) + len(field[1]) + FIELD_OVERHEAD
        self._evict()

    def _resize(self, limit: int) -> None:
        if limit > DEFAULT_TABLE_BYTES:
            raise ProtocolError(f"table size {limit} is over {DEFAULT_TABLE_BYTES}")
        self.generation += 1
        self._table_limit = limit
        self._evict()

    def _evict(self) -> None:
        while self._table_bytes > self._table_limit:
            name, value = self._table.pop()
            self._table_bytes -= len(name) + len(value) + FIELD_OVERHEAD


def encode_field(name: bytes, value: bytes) -> bytes:
    """One field that needs no dynamic table. ``name`` is in lower case."""
    whole = _STATIC_FIELDS.get((name, value))
    if whole is not None:
        return _encode_integer(whole, 7, 0x80)
    index = _STATIC_NAMES.get(name)
    if index is not None:
        return _encode_integer(index, 4, 0) + _encode_string(value)
    return b"\0" + _encode_string(name) + _encode_string(value)


def encode(fields: Iterable[Field]) -> bytes:
    """A header block that needs no dynamic table. Names are in lower case."""
    return b"".join([encode_field(name, value) for name, value in fields])


def _integer(block: bytes, pos: int, value: int) -> tuple[int, int]:
    shift = 0
    while True:
        byte = block[pos]
        pos += 1
        value += (byte & 0x7F) << shift
        if value > _MAX_INTEGER or shift > 28:
            raise ProtocolError("integer in a header block is too large")
        if not byte & 0x80:
            return value, pos
        shift += 7


def _string(block: bytes, pos: int) -> tuple[bytes, int]:
    first = block[pos]
    length = first & 0x7F
    pos += 1
    if length == 0x7F:
        length, pos = _integer(block, pos, length)
    end = pos + length
    if end > len(block):
        raise ProtocolError("string runs over the end of its header block")
    value = block[pos:end]
    return (_HUFFMAN.decode(value) if first & 0x80 else value), end


def _encode_integer(value: int, prefix_bits: int, first: int) -> bytes:
    mask = (1 << prefix_bits) - 1
    if value < mask:
        return bytes((first | value,))
    out = bytearray((first | mask,))
    value -= mask
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _encode_string(value: bytes) -> bytes:
    return _encode_integer(len(value), 7, 0) + value
