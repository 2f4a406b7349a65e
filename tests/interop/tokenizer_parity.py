# SPDX-License-Identifier: Apache-2.0
"""Ids of llmctl against tiktoken and Hugging Face tokenizers: every text of ../shared/data/text and 100,000 generated
strings, for gpt2, cl100k, o200k and four tokenizer.json of Hugging Face's own trainers; and what `tokenize convert`
writes, opened by tokenizers."""
import base64
import json
import pathlib
import subprocess
import tempfile

import lab

lab.need("tiktoken", "tokenizers")
import tiktoken  # noqa: E402
import tiktoken_ext.openai_public as published  # noqa: E402
import tokenizers  # noqa: E402
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers  # noqa: E402
from tokenizer_texts import compare, finish, ids_of, texts_of  # noqa: E402

FOLDER = lab.shared("data/tokenizers")


def ranks(content):
    return {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in content.split(b"\n") if line)}


def tiktoken_encodings():
    """The published ones, from the files at hand instead of the network."""
    published.load_tiktoken_bpe = lambda url, expected_hash=None: ranks((FOLDER / url.split("/")[-1]).read_bytes())
    published.data_gym_to_mergeable_bpe_ranks = lambda vocab_bpe_file, encoder_json_file, **_: gpt2_ranks()
    return {"gpt2": (FOLDER / "gpt2-encoder.json", tiktoken.Encoding(**published.gpt2())),
            "cl100k": (FOLDER / "cl100k_base.tiktoken", tiktoken.Encoding(**published.cl100k_base())),
            "o200k": (FOLDER / "o200k_base.tiktoken", tiktoken.Encoding(**published.o200k_base()))}


def gpt2_ranks():
    printable = [b for b in range(256) if 33 <= b <= 126 or 161 <= b <= 172 or b >= 174]
    rest = [b for b in range(256) if b not in printable]
    byte_of = {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(rest)}
    vocab = json.loads((FOLDER / "gpt2-encoder.json").read_text())
    return {bytes(byte_of[c] for c in token): rank for token, rank in vocab.items() if token != "<|endoftext|>"}


def trained(corpus):
    """tokenizer.json of Hugging Face's own trainers: byte-level BPE, Unigram, WordPiece, Metaspace BPE with bytes."""
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe = tokenizers.Tokenizer(models.BPE())
    bpe.normalizer = normalizers.NFC()
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    bpe.post_processor = processors.ByteLevel(trim_offsets=False)
    bpe.train_from_iterator(corpus, trainers.BpeTrainer(vocab_size=3000, initial_alphabet=alphabet, show_progress=False,
                                                        special_tokens=["<|endoftext|>", "<|im_start|>"]))
    unigram = tokenizers.Tokenizer(models.Unigram())
    unigram.normalizer = normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC(),
                                               normalizers.Replace(tokenizers.Regex(" {2,}"), " ")])
    unigram.pre_tokenizer = pre_tokenizers.Metaspace()
    unigram.decoder = decoders.Metaspace()
    unigram.train_from_iterator(corpus, trainers.UnigramTrainer(vocab_size=8000, unk_token="<unk>", show_progress=False,
                                                                special_tokens=["<s>", "</s>", "<unk>"]))
    words = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    words.normalizer = normalizers.BertNormalizer()
    words.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    words.decoder = decoders.WordPiece()
    words.train_from_iterator(corpus, trainers.WordPieceTrainer(vocab_size=8000, show_progress=False,
                                                                special_tokens=["[UNK]", "[CLS]", "[SEP]", "[MASK]"]))
    words.post_processor = processors.BertProcessing(("[SEP]", words.token_to_id("[SEP]")), ("[CLS]", words.token_to_id("[CLS]")))
    split = tokenizers.Tokenizer(models.BPE(unk_token="[UNK]", fuse_unk=True))
    split.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents(), normalizers.Lowercase(),
                                             normalizers.Strip()])
    split.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.Punctuation("merged_with_previous"),
                                                   pre_tokenizers.Digits(individual_digits=True)])
    split.train_from_iterator(corpus, trainers.BpeTrainer(vocab_size=8000, show_progress=False,
                                                          special_tokens=["[UNK]", "<pad>"]))
    return {"hf-bpe": bpe, "hf-unigram": unigram, "hf-wordpiece": words, "hf-bpe-words": split}


def main():
    args = lab.arguments(__doc__.splitlines()[0], ("--strings", 100000), ("--seed", 6))
    files, strings = texts_of(args.strings, args.seed)
    figures = []
    with tempfile.TemporaryDirectory() as name:
        scratch = pathlib.Path(name)
        both = files + strings
        for encoding, (path, tik) in tiktoken_encodings().items():
            compare(figures, f"{encoding} as text", both, ids_of(args.llmctl, path, both, scratch), tik.encode_ordinary)
            compare(figures, f"{encoding} with specials", both, ids_of(args.llmctl, path, both, scratch, "--parse-special"),
                    lambda t, e=tik: e.encode(t, allowed_special="all"))
            subprocess.run([args.llmctl, "tokenize", "convert", path, "--output", scratch / encoding], check=True, capture_output=True)
            written = tokenizers.Tokenizer.from_file(str(scratch / encoding / "tokenizer.json"))
            few = files + strings[:5000]
            compare(figures, f"{encoding} converted, in tokenizers", few, [written.encode(t).ids for t in few],
                    lambda t, e=tik: e.encode(t, allowed_special="all"))
        corpus = [line for text in files for line in text.splitlines() if line]
        for kind, theirs in trained(corpus).items():
            path = scratch / kind / "tokenizer.json"
            path.parent.mkdir()
            theirs.save(str(path))
            compare(figures, kind, both, ids_of(args.llmctl, path, both, scratch, "--parse-special"), lambda t, e=theirs: e.encode(t).ids)
    finish(figures)


if __name__ == "__main__":
    main()
