# SPDX-License-Identifier: Apache-2.0
"""Texts for tokenize.py, each line seen once: tokenize_texts.py OUTPUT DEB... [--megabytes 24] [--text FILE...]

DEB are Debian packages (apt-get download linux-doc-6.1 python3.11-doc postgresql-doc-15 rust-doc debian-handbook
libreoffice-help-{en-us,zh-cn,ja,hi} libreoffice-l10n-{th,hi} debian-reference-{zh-cn,ja}): HTML pages lose their
tags (corpus.py), message catalogues (.mo) give their translations. --text adds plain files (../shared/data/text).
A line of 40 bytes or more that was seen before is left out, in every language, and so are pages with fewer than three
letters or spaces in four characters. A line is in a language when a third of its letters are in that script.
OUTPUT gets english.txt, chinese.txt, japanese.txt, thai.txt and hindi.txt; the same packages give the same bytes.
"""
import argparse
import gettext
import io
import os
import random
import subprocess
import sys
import tarfile

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from corpus import text_of  # noqa: E402

SCRIPTS = {"english": ((0x41, 0x7A),), "chinese": ((0x4E00, 0x9FFF),), "thai": ((0xE00, 0xE7F),),
           "japanese": ((0x3040, 0x30FF), (0x4E00, 0x9FFF)), "hindi": ((0x900, 0x97F),)}
PATHS = {"chinese": ("/zh-CN/", "/zh_CN/", ".zh-cn.", "chinese"), "japanese": ("/ja/", "/ja-JP/", ".ja.", "japanese"),
         "thai": ("/th/", "thai"), "hindi": ("/hi/", "hindi")}


def language_of(path):
    return next((name for name, marks in PATHS.items() if any(m in path for m in marks)), "english")


def pages_of(package):
    process = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE)
    with tarfile.open(fileobj=process.stdout, mode="r|") as tar:
        for member in tar:
            if not member.isfile() or not member.name.endswith((".html", ".txt", ".rst", ".md", ".mo")):
                continue
            raw = tar.extractfile(member).read()
            if member.name.endswith(".mo"):
                strings = gettext.GNUTranslations(io.BytesIO(raw))._catalog.values()
                text = "\n".join(s for s in strings if isinstance(s, str))
            else:
                text = raw.decode("utf-8", "replace")
                text = text_of(text) if member.name.endswith(".html") else text
            yield member.name, text
    process.wait()


def is_prose(text):
    head = text[:4000]
    return len(text) > 400 and sum(c.isalpha() or c in " \n" for c in head) > 0.75 * len(head)


def is_in(language, line):
    letters = [ord(c) for c in line if c.isalpha()]
    ours = sum(any(a <= c <= b for a, b in SCRIPTS[language]) for c in letters)
    return language == "english" or ours * 3 > len(letters)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("output")
    parser.add_argument("packages", nargs="+")
    parser.add_argument("--text", nargs="*", default=[])
    parser.add_argument("--megabytes", type=float, default=24)
    options = parser.parse_args()
    pages = {name: [] for name in SCRIPTS}
    for path in options.text:
        with open(path, encoding="utf-8") as file:
            pages[language_of(os.path.basename(path))].append(file.read())
    for package in sorted(options.packages):
        for name, text in pages_of(package):
            if is_prose(text) or name.endswith(".mo"):
                pages[language_of(name)].append(text)
    os.makedirs(options.output, exist_ok=True)
    for language, texts in pages.items():
        random.Random(6).shuffle(texts)
        seen, size = set(), 0
        with open(os.path.join(options.output, language + ".txt"), "w", encoding="utf-8") as file:
            for line in (line for text in texts for line in text.split("\n")):
                if size > options.megabytes * 1e6:
                    break
                if not is_in(language, line) or (len(line.encode()) >= 40 and line in seen):
                    continue
                seen.add(line)
                file.write(line + "\n")
                size += len(line.encode()) + 1
        print(f"{language}: {size / 1e6:.1f} MB of {len(texts)} pages")


if __name__ == "__main__":
    main()
