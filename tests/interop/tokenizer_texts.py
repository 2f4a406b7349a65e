# SPDX-License-Identifier: Apache-2.0
"""What the tokenizer scripts share: strings that are hard to tokenize, drawn by a seed, ids by llmctl, comparing."""
import json
import random
import subprocess
import unicodedata

import lab

SCRIPTS = [(0x41, 0x7A), (0xC0, 0x24F), (0x370, 0x3FF), (0x400, 0x52F), (0x590, 0x5FF), (0x600, 0x6FF), (0x900, 0x97F),
           (0xE00, 0xE7F), (0x1100, 0x11FF), (0x1E00, 0x1EFF), (0x3040, 0x30FF), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3),
           (0x10400, 0x1044F), (0x20000, 0x2A6DF), (0xFF00, 0xFFEF), (0x2000, 0x206F), (0x2070, 0x209F), (0x2150, 0x218F)]
SPACES = " \t\n\r\x0b\x0c\x85\xa0\u1680\u2000\u2005\u2009\u200a\u200b\u2028\u2029\u202f\u205f\u3000\u180e\ufeff"
EMOJI = ["\U0001F600", "\U0001F468\u200d\U0001F469\u200d\U0001F467", "\U0001F1E9\U0001F1EA", "\u2764\ufe0f", "\U0001F44D\U0001F3FD"]
WORDS = ["the", "The", "THE", "don't", "DON'T", "we'LL", "it'\u017f", "I'd", "x86", "caf\u00e9", "cafe\u0301", "na\u00efve",
         "\u0130stanbul", "\u03a3\u03af\u03c3\u03c5\u03c6\u03bf\u03c2", "HTTPResponse", "foo_bar", "\u65e5\u672c\u8a9e", "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35",
         "\u0928\u092e\u0938\u094d\u0924\u0947", "\ufb01n", "\u212b", "\u01c5"]
MARKS = [c for c in range(0x300, 0x11000) if unicodedata.category(chr(c))[0] == "M"]
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|fim_prefix|>", "<|endofprompt|>", "[CLS]", "[UNK]", "[SEP]", "<s>", "</s>",
            "<unk>", "<|endoftext|", "[MASK]", "<pad>"]


def any_point(draw):
    while True:
        c = draw.randrange(0x110000)
        if not 0xD800 <= c < 0xE000:
            return chr(c)


def part(draw):
    kind = draw.randrange(14)
    if kind == 0:
        return draw.choice(WORDS) + " " * draw.randrange(2)
    if kind == 1:
        low, high = draw.choice(SCRIPTS)
        return "".join(chr(draw.randint(low, high)) for _ in range(draw.randint(1, 8)))
    if kind == 2:
        return "".join(draw.choice(SPACES) for _ in range(draw.randint(1, 6)))
    if kind == 3:
        return draw.choice("aeo\u05d0\u0e01\u4e00") + "".join(chr(draw.choice(MARKS)) for _ in range(draw.randint(1, 4)))
    if kind == 4:
        return draw.choice(EMOJI)
    if kind == 5:
        return "".join(draw.choice("0123456789\u0663\u096a\u00b2\u2167") for _ in range(draw.randint(1, 9)))
    if kind == 6:
        return "".join(draw.choice("!?.,:;'\"()[]{}<>/\\|@#$%^&*-_+=~`\u2014\u2026\u3002\u00bf") for _ in range(draw.randint(1, 6)))
    if kind == 7:
        return draw.choice(SPECIALS)
    if kind == 8:
        return draw.choice("a \n=-\u3042\u00e9.\u0301") * draw.choice([2, 3, 7, 17, 64, 200])
    if kind == 9:
        return any_point(draw)  # assigned or not
    if kind == 10:
        return draw.choice([" '", "'"]) + draw.choice(["s", "S", "t", "re", "VE", "m", "ll", "D", "\u017f", "x"])
    if kind == 11:
        return draw.choice(["\r\n", "\n\n", " \n", "\n ", "  ", "\t\t"])
    return draw.choice(WORDS[:9]) + draw.choice([" ", "\n", ", "])


def adversarial(count, seed):
    draw = random.Random(seed)
    return ["".join(part(draw) for _ in range(draw.randint(1, 10))) for _ in range(count)]


def texts_of(count, seed):
    """Every file of ../shared/data/text, and so many strings."""
    files = sorted(p for p in lab.shared("data/text").rglob("*") if p.is_file())
    print(f"{len(files)} files, {count} strings of seed {seed}", flush=True)
    return [p.read_text(encoding="utf-8", errors="replace") for p in files], adversarial(count, seed)


def encoded(llmctl, tokenizer, texts, scratch, *flags):
    """What `llmctl tokenize encode` says of each text: an object with ids, and offsets where asked for."""
    source, output = scratch / "in.jsonl", scratch / "out.jsonl"
    source.write_text("".join(json.dumps({"text": t}) + "\n" for t in texts))
    command = [llmctl, "tokenize", "encode", "--tokenizer", tokenizer, "--input", source, "--output", output, "--force", *flags]
    lab.run(*command)
    return [json.loads(line) for line in output.read_text().splitlines()]


def ids_of(llmctl, tokenizer, texts, scratch, *flags):
    return [line["ids"] for line in encoded(llmctl, tokenizer, texts, scratch, *flags)]


def compare(figures, name, texts, ours, theirs):
    """ours: one list per text; theirs: the function that gives it."""
    assert len(ours) == len(texts), f"{name}: {len(ours)} lines for {len(texts)} texts"
    wrong = [i for i in range(len(texts)) if ours[i] != theirs(texts[i])]
    for i in wrong[:5]:
        print(f"  {name}: {ascii(texts[i][:300])}\n    ours   {ours[i][:40]}\n    theirs {theirs(texts[i])[:40]}")
    figures.append((name, len(texts), len(wrong)))
    print(f"{name:36} {len(texts):7} texts {len(wrong):6} differ", flush=True)


def finish(figures):
    wrong = [name for name, _, differ in figures if differ]
    print("no differences" if not wrong else f"differences in {', '.join(wrong)}")
    raise SystemExit(1 if wrong else 0)
