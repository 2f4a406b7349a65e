# SPDX-License-Identifier: Apache-2.0
"""`llmctl tokenize train` against Hugging Face's BpeTrainer on one text, in one run.

  python tests/bench/rivals/bpe_train.py BINARY TEXT [--mb N ...] [--vocab-size V]

For each size: seconds, MB/s and peak memory of either (ours on one and two threads), whether the merges are equal,
and whether ours are equal with a memory limit that makes it spill. TEXT: any UTF-8 file. Needs `tokenizers`.
"""
import argparse
import codecs
import json
import os
import subprocess
import sys
import tempfile
import time

RIVAL = """
import sys, time
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
text = open(sys.argv[1], encoding="utf-8", newline="").read()
tokenizer = Tokenizer(models.BPE())
tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
trainer = trainers.BpeTrainer(vocab_size=int(sys.argv[2]) - 3, show_progress=False,
                              initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
start = time.time()
tokenizer.train_from_iterator([text], trainer)
print(time.time() - start)
tokenizer.save(sys.argv[3])
"""


def timed(command):
    """Seconds of wall clock and peak bytes of a child, and its output."""
    start = time.time()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    out = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{command[0]} failed")
    return time.time() - start, usage.ru_maxrss * 1024, out


def cut(text, part, size):
    """The first `size` bytes, to a whole code point; little of it in memory, which a child's peak would begin with."""
    with open(text, "rb") as source, open(part, "wb") as target:
        decoder = codecs.getincrementaldecoder("utf-8")("ignore")
        left = size
        while block := source.read(min(left, 1 << 20)):
            left -= len(block)
            target.write(decoder.decode(block).encode())
    return os.path.getsize(part)


def merges_of(path):
    with open(path, encoding="utf-8") as file:
        return [tuple(m if isinstance(m, list) else m.split(" ")) for m in json.load(file)["model"]["merges"]]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("text")
    parser.add_argument("--mb", type=int, nargs="+", default=[20])
    parser.add_argument("--vocab-size", type=int, default=32768)
    args = parser.parse_args()
    different = 0
    print("| MB | who | seconds | MB/s | peak MB | merges equal |\n|---|---|---|---|---|---|")
    for mb in args.mb:
        with tempfile.TemporaryDirectory() as folder:
            part = os.path.join(folder, "part.txt")
            size = cut(args.text, part, mb * 1000000) / 1e6
            rival = os.path.join(folder, "rival.json")
            seconds, peak, out = timed([sys.executable, "-c", RIVAL, part, str(args.vocab_size), rival])
            seconds = float(out)  # without reading
            want = merges_of(rival)
            print(f"| {mb} | tokenizers | {seconds:.1f} | {size / seconds:.1f} | {peak / 1e6:.0f} | - |", flush=True)
            runs = [("ours, 1 thread", ["--threads", "1"]), ("ours, 2 threads", ["--threads", "2"]),
                    ("ours, 2 threads, --memory 20MB", ["--threads", "2", "--memory", "20MB"])]
            for number, (name, flags) in enumerate(runs):
                made = os.path.join(folder, str(number))
                seconds, peak, _ = timed([args.binary, "tokenize", "train", part, "--vocab-size", str(args.vocab_size),
                                          "--pattern", "gpt2", "--output", made, "--quiet", "--json", *flags])
                equal = merges_of(os.path.join(made, "tokenizer.json")) == want
                different += not equal
                print(f"| {mb} | {name} | {seconds:.2f} | {size / seconds:.0f} | {peak / 1e6:.0f} | {equal} |", flush=True)
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
