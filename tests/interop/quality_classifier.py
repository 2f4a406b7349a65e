# SPDX-License-Identifier: Apache-2.0
"""The quality classifier on sites it never saw, beside fastText where that is installed: paragraphs of articles
against what stands around them on their pages (../shared/data/web/articles). Pages are dealt to training and test
by turns; no page is in both."""
import gzip
import html
import json
import pathlib
import re
import subprocess
import sys
import tempfile

import lab


def visible_lines(page):
    page = re.sub(r"(?is)<(script|style|noscript|svg)\b.*?</\1>|<!--.*?-->", " ", page)
    page = re.sub(r"(?i)<(/?(p|div|li|ul|td|tr|h\d|br|nav|a|section|header|footer|span))\b[^>]*>", "\n", page)
    lines = (" ".join(html.unescape(re.sub(r"<[^>]*>", " ", line)).split()) for line in page.split("\n"))
    return [line for line in lines if line]


def pieces(lines, size):
    """Lines joined to texts of about `size` characters."""
    out, now = [], ""
    for line in lines:
        now += line + "\n"
        if len(now) >= size:
            out.append(now)
            now = ""
    return out


def documents():
    folder = lab.shared("data/web/articles")
    truth = json.loads((folder / "ground-truth.json").read_text())
    for number, name in enumerate(sorted(truth)):
        body = truth[name]["articleBody"]
        with gzip.open(folder / "html" / f"{name}.html.gz", "rb") as file:
            page = file.read().decode("utf-8", "replace")
        flat = " ".join(body.split())
        around = [line for line in visible_lines(page) if line not in flat]
        for text in pieces(body.split("\n"), 300):
            yield number, text, "good"
        for text in pieces(around, 300):
            yield number, text, "other"


def fasttext_auroc(train, test):
    try:
        import fasttext
    except ImportError:
        return None
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        for _, text, label in train:
            file.write(f"__label__{label} " + text.replace("\n", " ").lower() + "\n")
        file.flush()
        model = fasttext.train_supervised(file.name, wordNgrams=2, minn=3, maxn=5, epoch=5, lr=0.5, dim=16, thread=1,
                                          bucket=1 << 21, verbose=0)
    scores = []
    for _, text, label in test:
        for _, predicted in [(0, model.f.predict(text.replace("\n", " ").lower() + "\n", 2, 0.0, "strict"))]:
            scores.append((dict((name, p) for p, name in predicted)["__label__good"], label == "good"))
    scores.sort()
    good, wins, other = 0, 0.0, 0
    for _, is_good in scores:  # ties are too few to matter
        if is_good:
            good += 1
            wins += other
        else:
            other += 1
    return wins / (good * other)


def main():
    options = lab.arguments(__doc__)
    all_documents = list(documents())
    train, test = [d for d in all_documents if d[0] % 2 == 0], [d for d in all_documents if d[0] % 2 == 1]
    with tempfile.TemporaryDirectory() as name:
        files = []
        for part, some in (("train", train), ("test", test)):
            files.append(pathlib.Path(name) / f"{part}.jsonl")
            files[-1].write_text("".join(json.dumps({"text": t, "label": label}) + "\n" for _, t, label in some))
        made = subprocess.run([str(options.build / "tests/interop/quality_dump"), "classify", *map(str, files)], text=True,
                              capture_output=True, check=True)
    ours = json.loads(made.stdout)
    size = sum(len(t) for _, t, _ in test) / 1e6
    print(f"{len(train)} texts to learn from, {len(test)} of other sites ({size:.1f} MB): AUROC {ours['auroc']:.4f}, "
          f"training {ours['training_seconds']:.1f} s, scoring {size / ours['scoring_seconds']:.1f} MB/s")
    rival = fasttext_auroc(train, test)
    print("fastText is not installed" if rival is None else f"fastText on the same texts: {rival:.4f}")
    sys.exit(0 if ours["auroc"] >= (0.9 if rival is None else rival - 0.02) else 1)


if __name__ == "__main__":
    main()
