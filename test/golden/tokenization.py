# Makes tokenization.json: what the Rust library "tokenizers" makes of generated strings, for each component that Chorus
# implements and for definitions as real models have them, over the demo's vocabulary. The strings are not stored: the test
# makes them by the same rule. Needs tokenizers 0.22.1. From the repository's root:
# python3 test/golden/tokenization.py > test/golden/tokenization.json
import json
import sys

from tokenizers import Tokenizer

BASE = json.load(open("models/demo/base/tokenizer.json"))
STRINGS, BLOCK = 3000, 50  # of each definition; a digest stands for a block
SIZE = len(BASE["model"]["vocab"])

PIECES = [
    *[" ", " ", "  ", "   ", "\n", "\n\n", "\t", "\r\n", "\u0085", "\ufeff", "\u00a0", "\u3000", "\u200b", "\u200d"],
    *["\u2028", "foo", "Bar", "import", " the", "x", "A", "_", "__init__", "1", "12", "345", "6789", "3.14", "0x1F"],
    *["\u0663\u0664", "\u00bd", "\u2167", "\u0e53", "\u4e09", "\u00b2", "\u2460", "'s", "'S", "'LL", "'re", "\u2019s"],
    *["!", "?!", "...", "\u2026", "\u2014", "\u00bf", "\u3001", "\u300c\u300d", "$", "+", "=", "`", "^", "|", "~", "-->"],
    *["(", ")", "{", "}", "[", "]", ";", ":", ",", ".", "#", "%", "@", "\\", "/", '"', "\u20ac", "\u00a7", "\u00a9"],
    *["na\u00efve", "e\u0301", "\u0301", "\u00c5", "\u212b", "\ufb01", "\uff21", "\u1e9e", "\u03a3", "\u03a0\u0391\u03a3"],
    *["\u0130", "\u00df", "\u0141", "\u540d\u524d", "\u3072\u3089", "\ud55c\uae00", "\u1112\u1161\u11ab", "\u0928\u093f"],
    *["\u0645\u0631", "\u0438\u0306", "\U0001f680", "\U0001f468\u200d\U0001f469", "\U0001d7d9", "\U00010400", "\u0120"],
    *["<|endoftext|>", "<|im_start|>", "<tok>", "<word>", "wor", "\u2581", "\u00e9", "<mask>", "tok>", "<to", "$&", "$1"],
]


def strings():
    """A linear congruential generator's, which is the same in every language."""
    state = 1
    for _ in range(STRINGS):
        text = ""
        length = 0
        while True:
            state = (state * 1664525 + 1013904223) & 0xFFFFFFFF
            if length == 0:
                length = 1 + (state >> 8) % 14
                continue
            text += PIECES[(state >> 8) % len(PIECES)]
            length -= 1
            if length == 0:
                break
        yield text


def digest(ids, before):
    for id in [*ids, -1]:
        before = (before * 31 + id + 2) & 0xFFFFFFFF
    return before


def split(regex=None, behavior="Isolated", invert=False, string=None):
    pattern = {"Regex": regex} if string is None else {"String": string}
    return {"type": "Split", "pattern": pattern, "behavior": behavior, "invert": invert}


def sequence(*cutters):
    return {"pre_tokenizer": {"type": "Sequence", "pretokenizers": list(cutters)}}


def byte_level(use_regex=True, prefix=False):
    return {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": True, "use_regex": use_regex}


BYTES = byte_level(use_regex=False)
DIGITS = {"type": "Digits", "individual_digits": True}


def added(*tokens):
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
    return {
        "added_tokens": BASE["added_tokens"]
        + [{"id": SIZE + i, "content": content, **plain, **flags} for i, (content, flags) in enumerate(tokens)]
    }


def normalized(normalizer):
    return {"normalizer": normalizer}


# The expressions are those of the models' own tokenizer.json files.
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
O200K = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
DEEPSEEK3 = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CJK = "[一-龥぀-ゟ゠-ヿ]+"
FLAGS = ({"lstrip": True}, {"rstrip": True}, {"lstrip": True, "rstrip": True}, {"single_word": True})
BEHAVIORS = ("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous")
PUNCTUATION = [{"type": "Punctuation", "behavior": behavior} for behavior in BEHAVIORS]

DEFINITIONS = {
    "GPT-2": {},
    "Llama 3": {**sequence(split(LLAMA3), BYTES), "model": {"ignore_merges": True}},
    "Qwen 2 and 3": {**normalized({"type": "NFC"}), **sequence(split(QWEN2), BYTES), **added(("<|im_start|>", {"special": True}))},
    "SmolLM and StarCoder": sequence(DIGITS, byte_level()),
    "DeepSeek Coder": sequence(
        split("[\r\n]"), split(r"\s?\p{L}+"), split(r"\s?\p{P}+"), split("[一-龥ࠀ-一가-퟿]+"), DIGITS, BYTES
    ),
    "DeepSeek V3": {
        **normalized({"type": "Sequence", "normalizers": []}),
        **sequence(split(r"\p{N}{1,3}"), split(CJK), split(DEEPSEEK3), BYTES),
    },
    "GPT-4o": sequence(split(O200K, "Removed", True), BYTES),
    "Falcon": sequence(
        {"type": "Punctuation", "behavior": "Contiguous"}, byte_level(), {"type": "Digits", "individual_digits": False}, split("[0-9][0-9][0-9]")
    ),
    "Phi": added(*[(" " * n, {"normalized": True}) for n in (2, 3, 4)], ("\t\t", {"normalized": True})),
    "RoBERTa": {**sequence(byte_level(prefix=True)), **added(("<mask>", {"lstrip": True, "special": True}))},
    "ByteLevel without its expression": sequence(BYTES),
    "ByteLevel with a space before": sequence(byte_level(prefix=True)),
    "Digits, each": sequence(DIGITS, BYTES),
    "Digits, together": sequence({"type": "Digits", "individual_digits": False}, BYTES),
    **{f"Punctuation, {cutter['behavior']}": sequence(cutter, BYTES) for cutter in PUNCTUATION},
    "Punctuation": sequence({"type": "Punctuation"}, BYTES),
    **{f"Split at a text, {behavior}": sequence(split(string=".", behavior=behavior), BYTES) for behavior in BEHAVIORS},
    **{f"Split at an expression, {behavior}": sequence(split(r"\s|\p{Lu}", behavior), BYTES) for behavior in BEHAVIORS},
    **{f"Split inverted, {behavior}": sequence(split(r"\p{L}+|\s", behavior, True), BYTES) for behavior in BEHAVIORS},
    **{f"Split at nothing, {behavior}": sequence(split(r"\d*", behavior), BYTES) for behavior in BEHAVIORS},
    **{kind: normalized({"type": kind}) for kind in ("NFC", "NFD", "NFKC", "NFKD", "Lowercase")},
    "Replace a text": normalized({"type": "Replace", "pattern": {"String": "oo"}, "content": "$& $1"}),
    "Replace by an expression": normalized({"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": "▁"}),
    "Prepend": normalized({"type": "Prepend", "prepend": "▁"}),
    **{
        f"Strip, {side}": normalized({"type": "Strip", "strip_left": side != "right", "strip_right": side != "left"})
        for side in ("left", "right", "both")
    },
    "normalizers in sequence": normalized({"type": "Sequence", "normalizers": [{"type": "NFKC"}, {"type": "Lowercase"}]}),
    "added tokens": added(("<tok>", {}), ("<word>", {"special": True}), ("tok", {}), ("wor", {})),
    **{f"added tokens with {' and '.join(flags)}": added(("<tok>", flags), ("wor", flags), ("名前", flags)) for flags in FLAGS},
    "added tokens, normalized": {
        **normalized({"type": "Sequence", "normalizers": [{"type": "NFKC"}, {"type": "Lowercase"}]}),
        **added(("Wor", {"normalized": True}), ("ﬁ", {"normalized": True}), ("<to", {"normalized": False})),
    },
    "an added token that is a byte": {
        "added_tokens": BASE["added_tokens"]
        + [{**BASE["added_tokens"][0], "id": BASE["model"]["vocab"]["Ġ"], "content": "Ġ", "special": False}]
    },
    "ignore_merges": {"model": {"ignore_merges": True}},
    "a vocabulary without some bytes": {"model": {"without": ["!", "x", "Ã", "©"]}},
    "and with an unknown token": {"model": {"without": ["!", "x", "Ã", "©"], "unk_token": "<|unk|>"}},
    "and with unknown ones as one": {"model": {"without": ["!", "x", "Ã", "©"], "unk_token": "<|unk|>", "fuse_unk": True}},
}


def built(change):
    """The demo's tokenizer.json with parts in place of its own; `without` takes tokens, and merges of them, away."""
    model = {**BASE["model"], **change.get("model", {})}
    gone = model.pop("without", [])
    keeps = lambda token: not any(character in token for character in gone) or token.startswith("<|")
    model["vocab"] = {token: id for token, id in model["vocab"].items() if keeps(token)}
    model["merges"] = [pair for pair in model["merges"] if keeps("".join(pair) if isinstance(pair, list) else pair)]
    return Tokenizer.from_str(json.dumps({**BASE, **change, "model": model, "post_processor": None}))


def case(name, change):
    tokenizer = built(change)
    digests, current = [], 0
    for index, text in enumerate(strings()):
        current = digest(tokenizer.encode(text, add_special_tokens=False).ids, current)
        if (index + 1) % BLOCK == 0:
            digests.append(f"{current:x}")
            current = 0
    return {"name": name, "change": change, "digests": " ".join(digests)}


if len(sys.argv) > 1:  # ids of one definition's strings, to find out why a digest differs
    tokenizer = built(DEFINITIONS[sys.argv[1]])
    print(json.dumps([[text, tokenizer.encode(text, add_special_tokens=False).ids] for text in strings()]))
else:
    cases = [case(name, change) for name, change in DEFINITIONS.items()]
    rows = ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases)
    print(f'{{"pieces": {json.dumps(PIECES)}, "strings": {STRINGS}, "block": {BLOCK}, "cases": [\n{rows}\n]}}')
