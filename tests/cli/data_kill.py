# SPDX-License-Identifier: Apache-2.0
"""data run, killed: data_kill.py LLMCTL [KILLS]

The same digest and the same bytes of every file of the output for 1 and 2 threads, and after SIGKILL at
seeded moments of a run that is started again each time.
"""
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time

WORDS = ("the of and to in is that it was for on are as with his they at be this have from or one had by word but "
         "not what all were we when your can said there use an each which she do how their if will up other").split()


def write_corpus(folder):
    rng = random.Random(5)
    os.makedirs(folder)
    texts = []
    for part in range(6):
        with open(f"{folder}/part-{part}.jsonl", "w", encoding="utf-8") as out:
            for _ in range(300):
                lines = [" ".join(rng.choices(WORDS, k=rng.randrange(5, 30))) + "." for _ in range(rng.randrange(1, 12))]
                text = "\n".join(lines)
                if texts and rng.random() < 0.1:
                    text = rng.choice(texts)
                elif texts and rng.random() < 0.1:
                    text = rng.choice(texts).replace(".", " now.", 1)
                texts.append(text)
                out.write(json.dumps({"text": text}) + "\n")
            out.write("{broken\n")


def command(llmctl, work, output, *more):
    return [llmctl, "data", "run", f"{work}/config.json", "--output", f"{work}/{output}", "--json", "--quiet", *more]


def run(llmctl, work, output, *more):
    done = subprocess.run(command(llmctl, work, output, *more), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def files_of(folder):
    """Of the output; what says how long it took left out."""
    return {name: open(os.path.join(folder, name), "rb").read() for name in os.listdir(folder) if not name.endswith(".json")}


def kill_one(llmctl, work, output, after):
    """Whether it was still at work then."""
    process = subprocess.Popen(command(llmctl, work, output), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(after)
    if process.poll() is not None:
        return False
    process.send_signal(signal.SIGKILL)
    process.wait()
    return True


def check_pack(llmctl, work, kills, config, rng):
    with open(f"{work}/config.json", "w", encoding="utf-8") as out:
        json.dump(config, out)
    for output in ("one", "two", "killed"):
        subprocess.run(["rm", "-rf", f"{work}/{output}"], check=True)
    start = time.time()
    one = run(llmctl, work, "one", "--threads", "1")
    seconds = time.time() - start
    two = run(llmctl, work, "two", "--threads", "2")
    assert one["digest"] == two["digest"], "threads change the digest"
    killed, waits = 0, 0
    while killed < kills and waits < 20 * kills:
        waits += 1
        if kill_one(llmctl, work, "killed", rng.uniform(0.01, seconds * 0.6)):
            killed += 1
        else:  # it was done: from the start again, what is killed must be work
            subprocess.run(["rm", "-rf", f"{work}/killed"], check=True)
    assert killed == kills, f"only {killed} kills came in time"
    resumed = run(llmctl, work, "killed")
    assert resumed["digest"] == one["digest"], "kills change the digest"
    for key in ("documents_in", "documents_out", "dropped", "skipped"):
        assert resumed[key] == one[key] == two[key], (key, resumed[key], one[key])
    folder = one["output"]["folder"]
    expected = files_of(f"{work}/one/{folder}")
    for output in ("two", "killed"):
        found = files_of(f"{work}/{output}/{folder}")
        assert found == expected, f"{output}: files differ: {sorted(set(found) ^ set(expected)) or 'in bytes'}"
    print(f"{folder}: {one['documents_in']} in, {one['documents_out']} out, {killed} kills, digest {one['digest']}")


def main():
    llmctl, kills = os.path.abspath(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 3
    rng = random.Random(9)
    with tempfile.TemporaryDirectory() as work:
        write_corpus(f"{work}/corpus")
        with open(f"{work}/plain.txt", "w", encoding="utf-8") as out:
            out.write(" ".join(WORDS * 20))
        subprocess.run([llmctl, "tokenize", "train", f"{work}/plain.txt", "--vocab-size", "300", "--output", f"{work}/tok", "--quiet"],
                       check=True, capture_output=True)
        config = {"sources": [{"name": "a", "inputs": [f"{work}/corpus/part-[0-3].jsonl"], "weight": 2},
                              {"name": "b", "inputs": [f"{work}/corpus/part-[45].jsonl"], "weight": 1, "epochs": 2}],
                  "filters": [{"preset": "gopher_quality", "max_words": 200}], "scrub": {"enabled": True},
                  "dedup": {"memory_mb": 16, "minhash": {"enabled": True}, "lines": {"enabled": True}},
                  "pack": {"tokenizer": f"{work}/tok", "shard_tokens": 20000}}
        check_pack(llmctl, work, kills, config, rng)
        del config["pack"]
        check_pack(llmctl, work, kills, config, rng)


main()
