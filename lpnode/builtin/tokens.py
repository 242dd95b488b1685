"""A tokenizer of CLIP's kind whose every known word is one token."""

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

from lpnode.builtin.networks import NUM_TEXT_TOKENS

_WORD_END = "</w>"
START, END = "<|startoftext|>", "<|endoftext|>"


def write_tokenizer(folder: Path, words: list[str]) -> int:
    """Writes the files that ``transformers.CLIPTokenizer`` reads.

    Words outside ``words`` fall apart into shorter pieces, in the end into bytes.
    Returns: the number of tokens.
    """
    merges = _merges(words)
    alphabet = _byte_characters()
    tokens = [*alphabet, *(c + _WORD_END for c in alphabet), *(a + b for a, b in merges)]
    vocabulary = {token: index for index, token in enumerate([*tokens, START, END])}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False))
    lines = ["#version: 0.2", *(f"{a} {b}" for a, b in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n")
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": NUM_TEXT_TOKENS,
        "bos_token": START,
        "eos_token": END,
        "pad_token": END,
        "unk_token": END,
        "do_lower_case": True,
        "errors": "replace",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    special = {name: config[name] for name in config if name.endswith("_token")}
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=2) + "\n")
    return len(vocabulary)


def _merges(words: list[str]) -> list[tuple[str, str]]:
    """Joins the most frequent pair again and again until every word is one piece.

    Source: Sennrich, Haddow, Birch: Neural Machine Translation of Rare Words, algorithm 1.
    """
    pieces = {word: [*word[:-1], word[-1] + _WORD_END] for word in words}
    merges: list[tuple[str, str]] = []
    while True:
        pairs = Counter(pair for parts in pieces.values() for pair in pairwise(parts))
        if not pairs:
            return merges
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        for word, parts in pieces.items():
            pieces[word] = _joined(parts, best)


def _joined(parts: list[str], pair: tuple[str, str]) -> list[str]:
    joined: list[str] = []
    for part in parts:
        if joined and (joined[-1], part) == pair:
            joined[-1] += part
        else:
            joined.append(part)
    return joined


def _byte_characters() -> list[str]:
    """One printable character for each of the 256 bytes, as CLIP's vocabulary writes them.

    Source: OpenAI's GPT-2 encoder: printable Latin-1 stands for itself, others from U+0100 on.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + index) for index in range(len(rest))]
