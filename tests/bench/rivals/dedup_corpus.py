# SPDX-License-Identifier: Apache-2.0
"""A corpus of real text with planted copies: dedup_corpus.py OUT.jsonl [FOLDER ...] [--mb 200].

Documentation, manual pages and the like under the folders (default: what Debian installs), .gz unpacked, cut at
blank lines into documents of 2 to 8 kB, each exact text once; then every tenth gets one to three copies, one in four
of them exact, the rest with words replaced, dropped and put in until about .5, .55 ... .95 of the 5-word shingles are shared
(seeded). The order is that of a hash of the texts, so copies lie apart."""
import argparse
import gzip
import hashlib
import json
import os
import random

FOLDERS = ["/usr/share/doc", "/usr/share/man", "/usr/share/info", "/usr/share/perl", "/usr/lib/python3"]


def texts(folders):
    for folder in folders:
        for root, dirs, names in os.walk(folder):
            dirs.sort()
            for name in sorted(names):
                path = os.path.join(root, name)
                if os.path.islink(path) or not os.path.isfile(path) or os.path.getsize(path) > 20 << 20:
                    continue
                try:
                    with (gzip.open if name.endswith(".gz") else open)(path, "rb") as file:
                        data = file.read(30 << 20)
                    if b"\0" not in data[:4096]:
                        yield data.decode("utf-8")
                except (OSError, EOFError, UnicodeDecodeError):
                    continue


def documents(text):
    part = []
    size = 0
    for paragraph in text.split("\n\n"):
        part.append(paragraph[:8000])
        size += len(part[-1]) + 2
        if size > 3000:
            yield "\n\n".join(part)
            part, size = [], 0
    if size > 1000:
        yield "\n\n".join(part)


def edited(text, similarity, rng):
    words = text.split(" ")
    edits = round((1 - similarity) / (5 * (1 + similarity)) * len(text.split()))
    for _ in range(edits):
        at = rng.randrange(len(words))
        kind = rng.randrange(4)
        if kind == 0:
            del words[at]
        elif kind == 1:
            words.insert(at, rng.choice(words))
        else:
            words[at] = rng.choice(words)
        words = words or ["x"]
    return " ".join(words)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out")
    parser.add_argument("folders", nargs="*", default=FOLDERS)
    parser.add_argument("--mb", type=int, default=200)
    args = parser.parse_intermixed_args()
    rng = random.Random(1)
    seen, rows, size = set(), [], 0
    for text in texts(args.folders):
        for document in documents(text):
            key = hashlib.sha1(document.encode()).digest()
            if key in seen:
                continue
            seen.add(key)
            copies = [document]
            if rng.randrange(10) == 0:
                for _ in range(rng.randrange(1, 4)):
                    level = rng.randrange(13)
                    copies.append(document if level > 9 else edited(document, 0.5 + 0.05 * level, rng))
            for i, copy in enumerate(copies):
                rows.append((hashlib.sha1(copy.encode() + bytes([i])).digest(), copy))
                size += len(copy)
        if size > args.mb * 1_000_000:
            break
    rows.sort()
    with open(args.out, "w", encoding="utf-8") as out:
        for _, text in rows:
            out.write(json.dumps({"text": text}) + "\n")
    print(f"{len(rows)} documents, {size / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
