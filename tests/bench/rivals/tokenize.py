# SPDX-License-Identifier: Apache-2.0
"""Text to ids: `llmctl bench tokenize` and `llmctl tokenize pack` against tiktoken and tokenizers, in turns.

  python tests/bench/rivals/tokenize.py --llmctl BINARY [--encoding cl100k] TEXT...

TEXT: what tokenize_texts.py makes. MB/s (10^6 bytes), medians of the rounds, and how many times tiktoken's one thread
(`encode_ordinary`, the same pages of 64 KiB). "whole path" is the command from start to end: the vocabulary loaded,
the file read, the shard written and flushed. tokenizers is given the tokenizer.json that `tokenize convert` writes, and
the first 2 MB: it is slow.
"""
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

import contest

HERE = os.path.dirname(os.path.abspath(__file__))
KINDS = {"no cache": "one thread, no cache", "cached": "one thread, cache of 4 MiB", "threads": "caches",
         "to shard": "file to packed shard"}


def pages_of(text, size=1 << 16):
    at = 0
    while at < len(text):
        end = text.find("\n", at + size) + 1 if len(text) - at > size else len(text)
        end = end or len(text)
        yield text[at:end]
        at = end


def tiktoken_worker(case):
    sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(HERE)), "interop"))
    from tokenizer_parity import tiktoken_encodings
    encoding = tiktoken_encodings()[case["encoding"]][1]
    with open(case["text"], encoding="utf-8", newline="") as file:
        pages = list(pages_of(file.read()))

    def once(_):
        start = time.perf_counter()
        for page in pages:
            encoding.encode_ordinary(page)
        return os.path.getsize(case["text"]) / 1e6 / (time.perf_counter() - start)
    contest.answer(once)


def tokenizers_worker(case):
    import tokenizers
    tokenizer = tokenizers.Tokenizer.from_file(case["json"])
    with open(case["text"], encoding="utf-8", newline="") as file:
        text = file.read(2_000_000)

    def once(_):
        start = time.perf_counter()
        for page in pages_of(text):
            tokenizer.encode(page, add_special_tokens=False)
        return len(text.encode()) / 1e6 / (time.perf_counter() - start)
    contest.answer(once)


def bench(options, text, vocabulary):
    done = subprocess.run([options.llmctl, "bench", "tokenize", "--tokenizer", vocabulary, "--input", text, "--json"],
                          capture_output=True, text=True, check=True)
    rows = json.loads(done.stdout)["rows"]
    return {kind: next(r["value"] for r in rows if r["case"].endswith(ending)) for kind, ending in KINDS.items()}


def pack(options, text, vocabulary, folder):
    start = time.perf_counter()
    subprocess.run([options.llmctl, "tokenize", "pack", text, "--tokenizer", vocabulary, "--output",
                    os.path.join(folder, "packed"), "--force"], capture_output=True, check=True)
    return os.path.getsize(text) / 1e6 / (time.perf_counter() - start)


def main():
    parser = contest.parser(__doc__.splitlines()[0])
    parser.add_argument("texts", nargs="*")
    parser.add_argument("--encoding", default="cl100k", choices=["gpt2", "cl100k", "o200k"])
    options = contest.parse(parser)
    if options.worker:
        case = json.loads(options.worker)
        return {"tiktoken": tiktoken_worker, "tokenizers": tokenizers_worker}[case["rival"]](case)
    if not options.llmctl or not options.texts:
        parser.error("--llmctl and a text are needed")
    contest.need("tiktoken"), contest.need("tokenizers")
    sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(HERE)), "interop"))
    from tokenizer_parity import tiktoken_encodings
    vocabulary = str(tiktoken_encodings()[options.encoding][0])
    contest.table_head("text", "MB", "tiktoken", "tokenizers", *KINDS, "whole path")
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([options.llmctl, "tokenize", "convert", vocabulary, "--output", os.path.join(folder, "json")],
                       check=True, capture_output=True)
        for text in options.texts:
            case = {"text": text, "encoding": options.encoding, "json": os.path.join(folder, "json", "tokenizer.json")}
            with contextlib.ExitStack() as stack:
                rivals = {name: stack.enter_context(contest.Worker(1, rival=name, **case)) for name in ("tiktoken", "tokenizers")}
                values = contest.in_turns(options.rounds, {
                    **{name: worker.ask for name, worker in rivals.items()},
                    "llmctl": lambda text=text: bench(options, text, vocabulary),
                    "whole path": lambda text=text: pack(options, text, vocabulary, folder)}, list(rivals.values()))
            for kind in KINDS:
                values[kind] = [v[kind] for v in values["llmctl"]]
            base = statistics.median(values["tiktoken"])
            cells = [f"{contest.spread(values[k])}, {statistics.median(values[k]) / base:.1f}x" for k in (*KINDS, "whole path")]
            contest.table_row(os.path.basename(text), f"{os.path.getsize(text) / 1e6:.1f}", contest.spread(values["tiktoken"]),
                              contest.spread(values["tokenizers"]), *cells)


if __name__ == "__main__":
    main()
