# SPDX-License-Identifier: Apache-2.0
"""Ids of llmctl against sentencepiece 0.2.3 on its own .model files: every text of ../shared/data/text whole and 20,000
generated strings, for models of both kinds with the options that change text and cuts."""
import pathlib
import tempfile

import lab

lab.need("sentencepiece")
import sentencepiece  # noqa: E402
from tokenizer_texts import compare, finish, ids_of, texts_of  # noqa: E402

KEPT = {"normalization_rule_name": "identity", "remove_extra_whitespaces": False}
MODELS = {"unigram": {}, "unigram-bytes": {"byte_fallback": True, **KEPT},
          "unigram-user": {"user_defined_symbols": ["<sep>", "ing", " the", "inge", "e\u0301", "\u65e5\u672c"], "byte_fallback": True},
          "unigram-fold": {"normalization_rule_name": "nfkc_cf", "add_dummy_prefix": False, "split_digits": True},
          "bpe": {}, "bpe-bytes": {"byte_fallback": True, "split_digits": True, "allow_whitespace_only_pieces": True, **KEPT},
          "bpe-user": {"user_defined_symbols": ["<sep>", "ing", " the", "inge"], "byte_fallback": True}}


def main():
    args = lab.arguments(__doc__.splitlines()[0], ("--strings", 20000), ("--seed", 6))
    files, strings = texts_of(args.strings, args.seed)
    texts = files + [t for t in strings if "\0" not in t]  # NUL ends a text there
    figures = []
    with tempfile.TemporaryDirectory() as name:
        scratch = pathlib.Path(name)
        corpus = scratch / "corpus.txt"
        corpus.write_text("\n".join(line for text in files for line in text.splitlines() if line))
        for kind, options in MODELS.items():
            prefix = str(scratch / kind)
            sentencepiece.SentencePieceTrainer.train(input=str(corpus), model_prefix=prefix, vocab_size=6000,
                                                     model_type=kind.split("-")[0], minloglevel=2, hard_vocab_limit=False,
                                                     **options)
            theirs = sentencepiece.SentencePieceProcessor(model_file=f"{prefix}.model")
            compare(figures, kind, texts, ids_of(args.llmctl, f"{prefix}.model", texts, scratch), theirs.encode)
    finish(figures)


if __name__ == "__main__":
    main()
