# SPDX-License-Identifier: Apache-2.0
"""How many planted copies a run found: planted.py RUN CORPUS PLANTED.jsonl

RUN was made by `data run` with exact and minhash on every document of CORPUS (corpus.py; no filters, so that a
line's number is its place). A planted pair is found when both come to one survivor. Jaccard is of the sets of 5
words in a row, lower case, letters and digits only, computed here. Prints one JSON object: recall by Jaccard, and
of a sample of the documents MinHash dropped, the share whose survivor is at .72 or more, and at .5.
"""
import json
import os
import random
import re
import struct
import sys

WORD = re.compile(r"[^\W_]+")


def columns(path):
    data = open(path, "rb").read()
    rows, count = struct.unpack_from("<QI", data, 8)
    at, names = 20, []
    for _ in range(count):
        _, length = struct.unpack_from("<BI", data, at)
        names.append(data[at + 5:at + 5 + length].decode())
        at += 5 + length
    at += 8
    out = {}
    for name in names:
        out[name] = struct.unpack_from(f"<{rows}Q", data, at)
        at += rows * 8 + 8
    return out


def shingles(text):
    words = WORD.findall(text.lower())
    return {" ".join(words[i:i + 5]) for i in range(max(1, len(words) - 4))}


def jaccard(a, b):
    a, b = shingles(a), shingles(b)
    return len(a & b) / max(1, len(a | b))


def main():
    run, corpus, planted = sys.argv[1:]
    texts, place = {}, {}
    parts = sorted(n for n in os.listdir(corpus) if n.startswith("part-"))
    for number, name in enumerate(parts):
        for line, text in enumerate(open(os.path.join(corpus, name), encoding="utf-8")):
            document = json.loads(text)
            place[document["id"]] = number << 40 | line
            texts[number << 40 | line] = document["text"]
    survivor, near = {}, []
    for stage in ("03-exact", "04-minhash"):
        for number in range(len(parts)):
            verdicts = columns(f"{run}/{stage}/part-{number:05}.verdicts")
            for line, rule in enumerate(verdicts["rule"]):
                if rule:
                    survivor[number << 40 | line] = verdicts["survivor"][line]
                    if stage == "04-minhash":
                        near.append(number << 40 | line)

    def root(document):
        while document in survivor:
            document = survivor[document]
        return document

    bands = {}
    for line in open(planted, encoding="utf-8"):
        pair = json.loads(line)
        a, b = place[pair["id"]], place[pair["of"]]
        band = min(10, int(jaccard(texts[a], texts[b]) * 10 + 1e-9))
        found, of = bands.get(band, (0, 0))
        bands[band] = (found + (root(a) == root(b)), of + 1)
    found = sum(f for band, (f, _) in bands.items() if band >= 8)
    of = sum(n for band, (_, n) in bands.items() if band >= 8)
    sample = random.Random(1).sample(near, min(500, len(near)))
    direct = [jaccard(texts[d], texts[survivor[d]]) for d in sample]
    json.dump({"recall_at_0.8": found / max(1, of), "pairs_at_0.8": of,
               "by_jaccard": {f"{b / 10:.1f}": list(bands[b]) for b in sorted(bands, reverse=True)},
               "dropped_by_minhash": len(near), "sample": len(sample),
               "survivor_at_0.72": sum(j >= 0.72 for j in direct) / max(1, len(direct)),
               "survivor_at_0.5": sum(j >= 0.5 for j in direct) / max(1, len(direct))}, sys.stdout, indent=1)
    print()


main()
