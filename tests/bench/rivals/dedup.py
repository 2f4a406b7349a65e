# SPDX-License-Identifier: Apache-2.0
"""MinHash deduplication beside datatrove's, in turns, one thread each: dedup.py --test-data BUILD/tests/test_data
--corpus CORPUS.jsonl (dedup_corpus.py makes one). Prints Markdown: speed on the first documents of the corpus, then
llmctl alone as the corpus grows, then recall and precision against every pair at Jaccard .7 or more.

datatrove (pip install "datatrove[processing]" spacy) runs its four steps as its example does, in this process,
once per turn; llmctl's turn is a process that reads the file, writes signatures and clusters them. Both are given
FineWeb's parameters. What counts is wall time: put `nice -n -5` or an idle machine around it."""
import argparse
import contextlib
import io
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time


def llmctl(args, **settings):
    env = dict(os.environ, LLMCTL_DEDUP_CORPUS=args.corpus)
    env |= {f"LLMCTL_DEDUP_{k.upper()}": str(v) for k, v in settings.items()}
    start = time.monotonic()
    done = subprocess.run([args.test_data, "[dedup_bench]"], env=env, capture_output=True, text=True)
    rows = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if not rows:
        sys.exit(done.stdout + done.stderr)
    row = json.loads(rows[0])
    row["wall"] = time.monotonic() - start
    return row


def datatrove(path, folder):
    from datatrove.data import Document
    from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
    from datatrove.pipeline.dedup.minhash import MinhashConfig
    from datatrove.utils.hashing import HashConfig
    from loguru import logger
    logger.remove()
    config = MinhashConfig(hash_config=HashConfig(precision=64), n_grams=5, num_buckets=14, hashes_per_bucket=8)

    def documents():
        with open(path, encoding="utf-8") as file:
            for i, line in enumerate(file):
                yield Document(text=json.loads(line)["text"], id=str(i))
    seconds = []

    def timed(call):
        start = time.monotonic()
        result = call()
        seconds.append(time.monotonic() - start)
        return result
    with contextlib.redirect_stderr(io.StringIO()):
        timed(lambda: MinhashDedupSignature(f"{folder}/sig", config).run(documents(), 0, 1))
        timed(lambda: [MinhashDedupBuckets(f"{folder}/sig", f"{folder}/dups", config=config).run(None, b, 14)
                       for b in range(14)])
        timed(lambda: MinhashDedupCluster(f"{folder}/dups", f"{folder}/remove", config=config).run(None, 0, 1))
        kept = timed(lambda: sum(1 for _ in MinhashDedupFilter(f"{folder}/remove").run(documents(), 0, 1)))
    return {"seconds": seconds, "kept": kept}


def beside(args):
    with tempfile.TemporaryDirectory() as folder:
        part = f"{folder}/part.jsonl"
        size = 0
        with open(args.corpus, encoding="utf-8") as source, open(part, "w", encoding="utf-8") as out:
            for _, line in zip(range(args.documents), source):
                out.write(line)
                size += len(json.loads(line)["text"].encode())
        ours, theirs = [], []
        for turn in range(args.turns):
            theirs.append(datatrove(part, f"{folder}/{turn}"))
            shutil.rmtree(f"{folder}/{turn}")
            ours.append(llmctl(args, documents=args.documents, preset="fineweb"))
    median = statistics.median
    rows = [("signatures", median(r["signature_seconds"] for r in ours), median(r["seconds"][0] for r in theirs)),
            ("buckets, verified pairs, clusters", median(r["cluster_seconds"] for r in ours),
             median(sum(r["seconds"][1:3]) for r in theirs)),
            ("whole, file in to verdicts", median(r["wall"] for r in ours), median(sum(r["seconds"]) for r in theirs))]
    print(f"\n{args.documents} documents, {size / 1e6:.1f} MB, 14 x 8 hashes of 5 words; "
          f"kept {args.documents - ours[0]['removed']} (datatrove {theirs[0]['kept']})\n")
    print("| step, one thread | llmctl | datatrove | ratio |\n|---|---|---|---|")
    for name, a, b in rows:
        print(f"| {name} | {size / 1e6 / a:.1f} MB/s, {args.documents / a:.0f} docs/s | {size / 1e6 / b:.2f} MB/s, "
              f"{args.documents / b:.0f} docs/s | {b / a:.0f}x |")


def growth(args):
    total = sum(1 for _ in open(args.corpus, encoding="utf-8"))
    print("\n| documents | MB | wall s | signatures MB/s | clusters s | candidates | spilled MB | peak MiB |\n"
          "|---|---|---|---|---|---|---|---|")
    for share in (4, 2, 1):
        r = llmctl(args, documents=total // share, preset="verified", mib=args.mib)
        print(f"| {r['documents']} | {r['bytes'] / 1e6:.0f} | {r['wall']:.2f} | {r['signatures_mb_s']:.0f} | "
              f"{r['cluster_seconds']:.2f} | {r['candidates']} | {r['spilled_bytes'] / 1e6:.0f} | {r['peak_mib']} |")


def truth(args):
    for preset in ("verified", "fineweb", "dolma3"):
        t = llmctl(args, preset=preset, truth=1, documents=args.truth)["truth"]
        bins = ", ".join(f"{b['from']:.2f}: {b['found'] / b['pairs']:.4f} of {b['pairs']}" for b in t["by_jaccard"])
        print(f"\n{preset}: recall of pairs by Jaccard {bins}; at .8 or more {t['found_at_.8'] / t['pairs_at_.8']:.4f} of "
              f"{t['pairs_at_.8']} pairs, {t['removed_of_them'] / t['copies_at_.8']:.4f} of {t['copies_at_.8']} copies "
              f"removed; precision {t['clustered_rightly'] / t['clustered']:.4f} of {t['clustered']} documents")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--test-data", required=True)
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--documents", type=int, default=6000, help="for the turns with datatrove")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--mib", type=int, default=32, help="memory_bytes of llmctl as the corpus grows")
    parser.add_argument("--truth", type=int, default=100_000, help="documents whose pairs are all compared; 0: none")
    parser.add_argument("--only", choices=["beside", "growth", "truth"])
    args = parser.parse_args()
    for name, run in (("beside", beside), ("growth", growth), ("truth", truth)):
        if args.only in (None, name) and (name != "truth" or args.truth):
            run(args)


if __name__ == "__main__":
    main()
