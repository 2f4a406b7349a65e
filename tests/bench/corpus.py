# SPDX-License-Identifier: Apache-2.0
"""A corpus of real text with copies planted in it: corpus.py OUTPUT DEB... [--megabytes 200] [--seed 1]

DEB are packages of documentation (apt-get download linux-doc-6.1 python3.11-doc rust-doc ...): their HTML
pages and text files become documents, tags taken out by a few expressions (this is no test of extraction).
OUTPUT gets part-NN.jsonl, eight of them, lines {"text", "url", "id"} in a seeded order, and planted.jsonl,
one line a planted copy: {"id", "of", "edits"}. edits is 0 for exact copies, else the share of words that were
replaced one by one; each tears up to 5 shingles of 5 words. The same packages and seed give the same bytes.
"""
import argparse
import html
import json
import os
import random
import re
import subprocess
import tarfile

DROP = re.compile(r"<(script|style|head|nav)\b.*?</\1>|<!--.*?-->", re.S | re.I)
BREAK = re.compile(r"<(?:/?(?:p|div|h\d|li|tr|pre|ul|ol|table|dt|dd|section|blockquote)|br)\b[^>]*>", re.I)
TAG = re.compile(r"<[^>]*>")
SPACE = re.compile(r"[ \t\r\f\v]+")
BLANK = re.compile(r"\s*\n\s*")
EDITS = (0.0, 0.005, 0.01, 0.02, 0.04, 0.06, 0.1)


def text_of(page):
    page = TAG.sub("", BREAK.sub("\n", DROP.sub(" ", page)))
    return BLANK.sub("\n", SPACE.sub(" ", html.unescape(page))).strip()


def documents(package):
    name = os.path.basename(package).split("_")[0]
    process = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE)
    with tarfile.open(fileobj=process.stdout, mode="r|") as tar:
        for member in tar:
            if not member.isfile() or not member.name.endswith((".html", ".txt", ".rst", ".md")):
                continue
            raw = tar.extractfile(member).read().decode("utf-8", "replace")
            text = text_of(raw) if member.name.endswith(".html") else raw
            if len(text) > 200:
                yield {"text": text, "url": f"deb:{name}{member.name[1:]}"}
    process.wait()


def edited(rng, text, share):
    words = text.split(" ")
    for i in range(len(words)):
        if rng.random() < share:
            words[i] = f"w{rng.randrange(10 ** 6)}"
    return " ".join(words)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("output")
    parser.add_argument("packages", nargs="+")
    parser.add_argument("--megabytes", type=float, default=200)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    corpus, total = [], 0
    for package in sorted(options.packages):
        for document in documents(package):
            corpus.append(document)
            total += len(document["text"].encode())
    rng.shuffle(corpus)
    while total < options.megabytes * 1e6 or total > options.megabytes * 1.5e6:
        if total < options.megabytes * 1e6:
            raise SystemExit(f"the packages hold {total / 1e6:.0f} MB of text, give more of them")
        total -= len(corpus.pop()["text"].encode())
    for number, document in enumerate(corpus):
        document["id"] = number
    planted = []
    for original in rng.sample(corpus, len(corpus) // 20):
        share = rng.choice(EDITS)
        copy = {"text": edited(rng, original["text"], share) if share else original["text"],
                "url": original["url"] + "#copy", "id": len(corpus)}
        planted.append({"id": copy["id"], "of": original["id"], "edits": share})
        corpus.append(copy)
    rng.shuffle(corpus)
    os.makedirs(options.output, exist_ok=True)
    for part in range(8):
        with open(os.path.join(options.output, f"part-{part:02}.jsonl"), "w", encoding="utf-8") as out:
            for document in corpus[part::8]:
                out.write(json.dumps(document, ensure_ascii=False) + "\n")
    with open(os.path.join(options.output, "planted.jsonl"), "w", encoding="utf-8") as out:
        for line in planted:
            out.write(json.dumps(line) + "\n")
    print(f"{len(corpus)} documents, {len(planted)} planted, {total / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
