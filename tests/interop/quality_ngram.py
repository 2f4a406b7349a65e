# SPDX-License-Identifier: Apache-2.0
"""The n-gram model against KenLM: its query side (PyPI) reads the ARPA file we write and must give our scores;
with --lmplz PROGRAM, the perplexity of held-out text under KenLM's own estimate, within 0.5 %."""
import json
import math
import pathlib
import subprocess
import sys
import tempfile

import lab

lab.need("kenlm")
import kenlm  # noqa: E402


def sentences():
    """Lines of real text, one sentence or verse each: training, held out, and another language."""
    shakespeare = lab.shared("data/text/tinyshakespeare.txt").read_text().lower().splitlines()
    wiki = (lab.shared("data/text/wikipedia_mars") / "english.utf8.txt").read_text(errors="replace").splitlines()
    lines = [line.strip() for line in shakespeare + wiki if line.strip()]
    held = lines[::10] + ["never seen zzyzx words qqqq", "the"]
    return [line for i, line in enumerate(lines) if i % 10], held


def perplexity(total, tokens):
    return math.pow(10, -total / tokens)


def main():
    options = lab.arguments(__doc__, ("--lmplz", ""))
    program = str(options.build / "tests/interop/quality_dump")
    train, held = sentences()
    failures = 0
    for order in (3, 5):
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            made = subprocess.run([program, "ngram", str(order), name, str(4 << 20)], input="\n".join(train) + "\n",
                                  text=True, capture_output=True, check=True)
            print(f"order {order}: {len(train)} lines, {json.loads(made.stdout)}")
            asked = subprocess.run([program, "score", str(folder / "model")], text=True, capture_output=True, check=True,
                                   input="".join(json.dumps(line) + "\n" for line in held))
            ours = [json.loads(line) for line in asked.stdout.splitlines()]
            tokens = sum(s["tokens"] for s in ours)
            mine = perplexity(sum(s["log10"] for s in ours), tokens)
            arpa = kenlm.Model(str(folder / "arpa"))
            worst = max(abs(arpa.score(line) - s["log10"]) for line, s in zip(held, ours))
            print(f"  perplexity {mine:.4f}; our ARPA in KenLM's query: largest difference of a line {worst:.2e} (log10)")
            failures += worst > 1e-3
            if options.lmplz:
                (folder / "train.txt").write_text("\n".join(train) + "\n")
                subprocess.run([options.lmplz, "-o", str(order), "-S", "200M", "-T", name, "--discount_fallback",
                                "--text", str(folder / "train.txt"), "--arpa", str(folder / "theirs.arpa")],
                               check=True, capture_output=True)
                theirs = kenlm.Model(str(folder / "theirs.arpa"))
                other = perplexity(sum(theirs.score(line) for line in held), tokens)
                print(f"  lmplz {other:.4f}, {100 * (mine / other - 1):+.4f} %")
                failures += abs(mine / other - 1) > 0.005
    sys.exit(1 if failures else 0)


main()
