# SPDX-License-Identifier: Apache-2.0
"""Gopher, FineWeb and MinHash in datatrove and in llmctl, on the same documents, one core each:
datatrove_run.py LLMCTL CORPUS_FOLDER [--documents 3000]     (pip install "datatrove[processing]" spacy)

Both read JSON lines and write what is left as JSON lines; llmctl with --threads 1. datatrove runs one
worker, its stages one after another, as its own examples/fineweb.py has them. Its start (imports, spaCy)
is not counted; llmctl's is. Prints one JSON object.
"""
import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time


def sample(corpus, folder, documents):
    os.makedirs(folder)
    names = sorted(n for n in os.listdir(corpus) if n.startswith("part-"))
    lines = itertools.chain.from_iterable(open(os.path.join(corpus, n), encoding="utf-8") for n in names)
    with open(os.path.join(folder, "part-00.jsonl"), "w", encoding="utf-8") as out:
        size = sum(out.write(line) for line in itertools.islice(lines, documents))
    return size


def run_datatrove(data, work):
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
    from datatrove.pipeline.dedup.minhash import MinhashConfig
    from datatrove.pipeline.filters import FineWebQualityFilter, GopherQualityFilter, GopherRepetitionFilter
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers import JsonlWriter
    from datatrove.utils.hashing import HashConfig
    from datatrove.utils.word_tokenizers import load_word_tokenizer
    load_word_tokenizer("eng").word_tokenize("warm up")
    config = MinhashConfig(hash_config=HashConfig(precision=64), num_buckets=14, hashes_per_bucket=8, n_grams=5)
    kept, where = f"{work}/filtered", {k: f"{work}/{k}" for k in ("signatures", "buckets", "remove", "out")}
    stages = {
        "filter": [JsonlReader(data), GopherRepetitionFilter(), GopherQualityFilter(), FineWebQualityFilter(), JsonlWriter(kept)],
        "signatures": [JsonlReader(kept), MinhashDedupSignature(where["signatures"], config=config)],
        "buckets": [MinhashDedupBuckets(where["signatures"], where["buckets"], config=config)],
        "cluster": [MinhashDedupCluster(where["buckets"], where["remove"], config=config)],
        "write": [JsonlReader(kept), MinhashDedupFilter(where["remove"]), JsonlWriter(where["out"])],
    }
    seconds = {}
    for name, stage in stages.items():
        tasks = 14 if name == "buckets" else 1
        start = time.time()
        LocalPipelineExecutor(stage, tasks=tasks, workers=1, logging_dir=f"{work}/log/{name}").run()
        seconds[name] = time.time() - start
    out = subprocess.run(f"zcat {where['out']}/*.gz | wc -l", shell=True, capture_output=True, text=True).stdout
    return {"seconds": sum(seconds.values()), "stages": seconds, "documents_out": int(out)}


def run_llmctl(llmctl, data, work):
    config = {"output": f"{work}/llmctl", "sources": [{"name": "corpus", "inputs": [data]}],
              "filters": ["gopher_repetition", "gopher_quality", "fineweb"],
              "dedup": {"exact": False, "minhash": {"enabled": True}}}
    with open(f"{work}/config.json", "w", encoding="utf-8") as out:
        json.dump(config, out)
    start = time.time()
    result = subprocess.run([llmctl, "data", "run", f"{work}/config.json", "--threads", "1", "--json", "--quiet"],
                            capture_output=True, text=True, check=True)
    seconds = time.time() - start
    result = json.loads(result.stdout)
    return {"seconds": seconds, "stages": {s["name"]: s["seconds"] for s in result["stages"]},
            "documents_out": result["documents_out"]}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("llmctl")
    parser.add_argument("corpus")
    parser.add_argument("--documents", type=int, default=3000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        data = os.path.join(work, "data")
        size = sample(options.corpus, data, options.documents)
        ours = run_llmctl(options.llmctl, data, work)
        theirs = run_datatrove(data, work)
    for side in (ours, theirs):
        side["documents_per_second"] = options.documents / side["seconds"]
    json.dump({"documents": options.documents, "characters": size, "llmctl": ours, "datatrove": theirs,
               "ratio": theirs["seconds"] / ours["seconds"]}, sys.stdout, indent=1)
    print()


main()
