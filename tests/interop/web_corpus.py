# SPDX-License-Identifier: Apache-2.0
"""Extraction and WARC reading beside others: trafilatura and resiliparse on the articles, warcio on the crawls.

F1 as ../shared/README.md says: words are \\w+ runs, 4-gram counts give precision and recall of a page, averaged
over pages; F1 of the two means. Also for two halves (every other page by name). All on one thread, in one run,
each page three times, the best kept. Bars: F1 .94 and within a hundredth of trafilatura's, five times its speed.
"""
import collections
import gzip
import json
import re
import subprocess
import time

import lab

lab.need("trafilatura", "resiliparse", "warcio")
import trafilatura  # noqa: E402
from resiliparse.extract.html2text import extract_plain_text  # noqa: E402
from resiliparse.parse.html import HTMLTree  # noqa: E402
from warcio.archiveiterator import ArchiveIterator  # noqa: E402


def shingles(text, n=4):
    words = re.findall(r"\w+", text or "")
    return collections.Counter(tuple(words[i:i + n]) for i in range(max(1, len(words) - n + 1))) if words else \
        collections.Counter()


def page_score(truth, text):
    want, got = shingles(truth), shingles(text)
    hit = sum((want & got).values())
    return hit / max(1, sum(got.values())), hit / max(1, sum(want.values()))


def f1(scores):
    precision, recall = (sum(s[i] for s in scores) / len(scores) for i in (0, 1))
    return precision, recall, 2 * precision * recall / (precision + recall)


def timed(function, page):
    best, text = 1e9, None
    for _ in range(3):
        start = time.perf_counter()
        text = function(page)
        best = min(best, time.perf_counter() - start)
    return text, best


def ours(program, what, files):
    done = subprocess.run([program, what, *map(str, files)], capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def extraction(program):
    folder = lab.shared("data/web/articles")
    truth = {k: v["articleBody"] for k, v in json.loads((folder / "ground-truth.json").read_text()).items()}
    names = sorted(truth)
    files = [folder / "html" / f"{n}.html.gz" for n in names]
    pages = [gzip.open(f).read() for f in files]
    rows = {"llmctl": [(r["text"], r["seconds"]) for r in ours(program, "extract", files)]}
    rows["trafilatura"] = [timed(lambda p: trafilatura.extract(p, include_comments=False), p) for p in pages]
    rows["resiliparse"] = [timed(lambda p: extract_plain_text(HTMLTree.parse_from_bytes(p, "utf-8"), main_content=True,
                                                              alt_texts=False), p) for p in pages]
    print(f"{len(pages)} pages, {sum(map(len, pages)) / 1e6:.1f} MB of HTML")
    print("| | precision | recall | F1 | F1, half A | F1, half B | ms a page | MB/s |\n|---|---|---|---|---|---|---|---|")
    result = {}
    for who, row in rows.items():
        scores = [page_score(truth[n], text) for n, (text, _) in zip(names, row)]
        seconds = sum(s for _, s in row)
        p, r, f = f1(scores)
        result[who] = f, seconds
        print(f"| {who} | {p:.3f} | {r:.3f} | {f:.4f} | {f1(scores[0::2])[2]:.4f} | {f1(scores[1::2])[2]:.4f} | "
              f"{1e3 * seconds / len(pages):.2f} | {sum(map(len, pages)) / 1e6 / seconds:.0f} |")
    return result


def crawls(program):
    names = ["sample-0000.warc.gz", "whirlwind.warc.gz", "whirlwind.warc.wet.gz", "whirlwind.warc.wat.gz"]
    files = [lab.shared(f"data/web/{n}") for n in names]
    wrong = 0
    for file, mine in zip(files, ours(program, "ingest", files)):
        with open(file, "rb") as stream:
            theirs = sum(1 for _ in ArchiveIterator(stream))
        print(f"{file.name}: {mine['seen']} records seen, {mine['records']} used; warcio sees {theirs}")
        wrong += theirs != mine["seen"]
    return wrong


def main():
    args = lab.arguments(__doc__)
    program = args.build / "tests" / "interop" / "interop_web"
    figures = lab.Figures()
    figures.at_most("WARC files with other counts than warcio's", crawls(program), 0)
    result = extraction(program)
    figures.at_least("F1 of llmctl", result["llmctl"][0], 0.94)
    figures.at_least("F1 over trafilatura's", result["llmctl"][0] / result["trafilatura"][0], 0.99)
    figures.at_least("speed over trafilatura's", result["trafilatura"][1] / result["llmctl"][1], 5.0)
    figures.finish()


if __name__ == "__main__":
    main()
