# SPDX-License-Identifier: Apache-2.0
"""Filters against datatrove's own, twice: with its English tokenizer replaced by ours (every verdict, rule and
edited text must be equal), and with its own spaCy words (how many verdicts differ is printed, with limits)."""
import collections
import gzip
import json
import random
import subprocess
import sys
import time

import lab

lab.need("datatrove", "spacy")
import datatrove.pipeline.filters.c4_filters as c4_module  # noqa: E402
import datatrove.pipeline.filters.fineweb_quality_filter as fineweb_module  # noqa: E402
import datatrove.pipeline.filters.gopher_quality_filter as quality_module  # noqa: E402
import datatrove.pipeline.filters.gopher_repetition_filter as repetition_module  # noqa: E402
from datatrove.data import Document  # noqa: E402

RULES = {  # datatrove's reason -> ours
    "gopher_short_doc": "short_doc", "gopher_long_doc": "long_doc", "gopher_below_avg_threshold": "short_words",
    "gopher_above_avg_threshold": "long_words", "gopher_too_many_hashes": "hashes",
    "gopher_too_many_ellipsis": "ellipses", "gopher_too_many_bullets": "bullet_lines",
    "gopher_too_many_end_ellipsis": "ellipsis_lines", "gopher_below_alpha_threshold": "alpha_words",
    "gopher_enough_stop_words": "stop_words", "too_few_sentences": "few_sentences",
    "line_punct_ratio": "line_punct", "short_line_ratio": "short_lines", "char_dup_ratio": "dup_line_chars",
    "list_ratio": "newline_ratio"}
for n in range(5, 11):
    RULES[f"duplicated_{n}_n_grams"] = f"dup_{n}_gram"
for n in range(2, 5):
    RULES[f"top_{n}_gram"] = f"top_{n}_gram"


class Ours:
    """quality_dump in one mode, a line in and a line out."""

    def __init__(self, program, *arguments):
        self.process = subprocess.Popen([program, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __call__(self, text):
        self.process.stdin.write(json.dumps(text) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


def filters():
    return [("gopher_repetition", repetition_module.GopherRepetitionFilter()),
            ("gopher_quality", quality_module.GopherQualityFilter()),
            ("c4_fineweb", c4_module.C4QualityFilter(filter_no_terminal_punct=False)),
            ("fineweb", fineweb_module.FineWebQualityFilter())]


def theirs(chain, text):
    """(rule or None, edited text)"""
    document = Document(text=text, id="0")
    for preset, one in chain:
        verdict = one.filter(document)
        if isinstance(verdict, tuple):
            keep, reason = verdict
            if not keep:
                return f"{preset}.{RULES.get(reason, reason)}", document.text
        elif not verdict:
            return preset, document.text
    return None, document.text


def web_texts():
    folder = lab.shared("data/web")
    with gzip.open(folder / "cc_en_head-0091.jsonl.gz", "rt") as lines:
        texts = [json.loads(line)["text"] for line in lines]
    with gzip.open(folder / "whirlwind.warc.wet.gz", "rb") as wet:
        texts += [part.decode("utf-8", "replace").strip() for part in wet.read().split(b"\r\n\r\n")]
    articles = lab.shared("data/web/articles")
    for path in sorted(articles.rglob("*.json")):
        truth = json.loads(path.read_text())
        if isinstance(truth, dict):
            texts += [v["articleBody"] for v in truth.values() if isinstance(v, dict) and "articleBody" in v]
    for path in sorted(lab.shared("data/text/wikipedia_mars").glob("*.txt")):
        texts.append(path.read_text(errors="replace"))
    return [t for t in texts if t]


def edited(texts, seed):
    """The same texts with what filters look for planted in: repeats, short lines, bullets, marks, odd breaks."""
    random.seed(seed)
    plants = ["[12]", "[citation needed]", "lorem ipsum dolor", "{x}", "This site uses cookies.", "JavaScript is off.",
              "- item", "\u2022 item", "more ...", "wait\u2026", "#tag", "\x85", "\u2028", "\r\n", "\n\n\n", "SALE", "\u00a0",
              "don't can't U.S.A. e.g. foo@bar.org http://a.b/c?d=e", "10,000 3.14% \u4e2d\u6587\u3002", "a" * 1200]
    out = []
    for text in texts:
        lines = text.split("\n")
        for _ in range(random.randrange(1, 8)):
            at = random.randrange(len(lines))
            kind = random.randrange(4)
            if kind == 0:
                lines[at] += " " + random.choice(plants)
            elif kind == 1:
                lines.insert(at, random.choice(plants))
            elif kind == 2:
                lines[at:at] = [lines[random.randrange(len(lines))]] * random.randrange(1, 5)
            else:
                words = lines[at].split(" ")
                cut = random.randrange(len(words))
                lines[at] = " ".join(words[:cut] + words[max(0, cut - 6):cut] * random.randrange(1, 4) + words[cut:])
        out.append("\n".join(lines[:random.randrange(1, len(lines) + 1)]))
    return out


def compare(program, texts):
    ours, words = Ours(program, "filters", '["fineweb_recipe"]'), Ours(program, "words")
    modules = (quality_module, repetition_module, fineweb_module)
    own = {m: m.split_into_words for m in modules}
    own_sentences = c4_module.split_into_sentences
    chain = filters()
    answers = [ours(t) for t in texts]
    spacy_start = time.process_time()
    with_spacy = [theirs(chain, t) for t in texts]
    spacy_seconds = time.process_time() - spacy_start
    for m in modules:
        m.split_into_words = lambda text, language="": words(text)["words"]
    c4_module.split_into_sentences = lambda text, language="": [None] * words(text)["sentences"]
    with_ours = [theirs(chain, t) for t in texts]
    for m in modules:
        m.split_into_words = own[m]
    c4_module.split_into_sentences = own_sentences
    return answers, with_spacy, with_ours, spacy_seconds


def report(name, texts, answers, with_spacy, with_ours):
    wrong, other, verdicts, rules = 0, 0, 0, collections.Counter()
    for text, answer, (spacy_rule, _), (rule, edit) in zip(texts, answers, with_spacy, with_ours):
        both = {answer["rule"], rule} == {"c4_fineweb.lorem_ipsum", "c4_fineweb.curly_bracket"}
        if answer["rule"] != rule and not both:  # a text with both: theirs stops at the first line of either
            wrong += 1
            print(f"  {name}: ours {answer['rule']}, datatrove's with our words {rule}: {text[:60]!r}")
        if rule is None and edit != answer["text"]:
            wrong += 1
            print(f"  {name}: edited texts differ: {text[:60]!r}")
        if answer["rule"] != spacy_rule:
            other += 1
            verdicts += (answer["rule"] is None) != (spacy_rule is None)
            rules[f"{spacy_rule} -> {answer['rule']}"] += 1
    print(f"{name}: {len(texts)} texts, {sum(a['rule'] is None for a in answers)} kept; with our words {wrong} differ; "
          f"with spaCy's {other} rules differ, {verdicts} verdicts: {dict(rules)}")
    return wrong, verdicts / len(texts)


def main():
    options = lab.arguments(__doc__)
    program = str(options.build / "tests/interop/quality_dump")
    texts = web_texts()
    failures = 0
    for name, some in (("web", texts), ("planted", [t for seed in range(6) for t in edited(texts, seed)])):
        wrong, verdicts = report(name, some, *compare(program, some)[:3])
        failures += wrong + (verdicts > 0.03)
    sys.exit(1 if failures else 0)


main()
