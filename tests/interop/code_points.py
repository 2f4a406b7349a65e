# SPDX-License-Identifier: Apache-2.0
"""Every code point through each normalizer of Hugging Face's tokenizers and through ours: the bytes that come out,
read from the ids of a vocabulary of single bytes."""
import pathlib
import tempfile

import lab

lab.need("tokenizers")
import tokenizers  # noqa: E402
from tokenizers import decoders, models, normalizers, pre_tokenizers  # noqa: E402
from tokenizer_texts import ids_of  # noqa: E402

BYTES = [b for b in range(256) if 33 <= b <= 126 or 161 <= b <= 172 or b >= 174]
REST = [b for b in range(256) if b not in BYTES]
BYTE_OF = {chr(b): b for b in BYTES} | {chr(256 + i): b for i, b in enumerate(REST)}
NORMALIZERS = {
    "BertNormalizer": normalizers.BertNormalizer(),
    "clean_text": normalizers.BertNormalizer(True, False, False, False),
    "handle_chinese_chars": normalizers.BertNormalizer(False, True, False, False),
    "strip_accents": normalizers.BertNormalizer(False, False, True, False),
    "StripAccents": normalizers.StripAccents(), "Lowercase": normalizers.Lowercase(), "NFC": normalizers.NFC(),
    "NFD": normalizers.NFD(), "NFKC": normalizers.NFKC(), "NFKD": normalizers.NFKD(), "Nmt": normalizers.Nmt(),
    "Strip": normalizers.Strip()}


def bytewise(normalizer):
    alphabet = sorted(BYTE_OF)
    made = tokenizers.Tokenizer(models.BPE(vocab={c: BYTE_OF[c] for c in alphabet}, merges=[]))
    made.normalizer = normalizer
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    return made


def main():
    args = lab.arguments(__doc__.splitlines()[0])
    points = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    texts = ["1".join(points[i:i + 32]) for i in range(0, len(points), 32)]  # a digit joins nothing
    figures = lab.Figures()
    with tempfile.TemporaryDirectory() as folder:
        scratch = pathlib.Path(folder)
        for name, normalizer in NORMALIZERS.items():
            path = scratch / "tokenizer.json"
            bytewise(normalizer).save(str(path))

            def differing(some):
                given = ids_of(args.llmctl, path, some, scratch)
                return [t for t, ids in zip(some, given) if bytes(ids) != normalizer.normalize_str(t).encode()]

            around = [c for text in differing(texts) for c in text.split("1")]
            wrong = [f"U+{ord(c):04X}" for c in differing(["1" + c + "1" for c in around if c]) for c in c.strip("1")]
            figures.check(f"{name}: {len(points)} code points, {len(around)} in differing texts, {len(wrong)} alone {wrong[:12]}",
                          not around)
    figures.finish()


if __name__ == "__main__":
    main()
