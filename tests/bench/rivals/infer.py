# SPDX-License-Identifier: Apache-2.0
"""Prefill, decode and batched decode: llama.cpp (as llama-cpp-python builds it) beside `llmctl bench`; tokens/s.

Models of random weights, Llama blocks: 124M (12 layers, d 768, 12 heads, ff 2048, vocabulary 50,257, tied) and TinyLlama's
1.1B (22 layers, d 2048, 32 heads of which 4 hold keys, ff 5632, vocabulary 32,000). They are written as bf16 GGUF into
--models once; llama.cpp's own quantiser makes q8_0 and q4_0 of them. As in llama-bench, decoding takes given tokens and
samples none; prefill computes one row of logits.
"""
import json
import pathlib
import sys
import tempfile
import time

import contest

SHAPES = {"124M": {"layers": 12, "hidden": 768, "heads": 12, "kv_heads": 12, "inner": 2048, "vocab": 50257, "tied": True},
          "1.1B": {"layers": 22, "hidden": 2048, "heads": 32, "kv_heads": 4, "inner": 5632, "vocab": 32000, "tied": False}}
OURS = {"bf16": "bf16", "q8_0": "int8", "q4_0": "int4"}
CASES = {"prefill": ("prefill", 1, 512), "decode": ("decode", 1, 128), "decode8": ("decode", 8, 128),
         "decode32": ("decode", 32, 128)}
PROMPT = 8  # tokens before a decode, as llmctl has it


def write_gguf(path, shape):
    np, gguf = contest.need("numpy"), contest.need("gguf")
    random = np.random.default_rng(1)
    writer = gguf.GGUFWriter(path, "llama", use_temp_file=False)
    writer.add_context_length(4096)
    writer.add_vocab_size(shape["vocab"])
    writer.add_embedding_length(shape["hidden"])
    writer.add_block_count(shape["layers"])
    writer.add_feed_forward_length(shape["inner"])
    writer.add_head_count(shape["heads"])
    writer.add_head_count_kv(shape["kv_heads"])
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(shape["hidden"] // shape["heads"])
    writer.add_tokenizer_model("none")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)

    def matrix(name, rows, cols):
        bits = (random.standard_normal((rows, cols), dtype=np.float32) * np.float32(0.02)).view(np.uint32) >> 16
        writer.add_tensor(name + ".weight", bits.astype(np.uint16).view(np.uint8), raw_dtype=gguf.GGMLQuantizationType.BF16)

    def ones(name):
        writer.add_tensor(name + ".weight", np.ones(d, dtype=np.float32))

    d, kv = shape["hidden"], shape["hidden"] // shape["heads"] * shape["kv_heads"]
    matrix("token_embd", shape["vocab"], d)
    for i in range(shape["layers"]):
        ones(f"blk.{i}.attn_norm")
        ones(f"blk.{i}.ffn_norm")
        for name, rows, cols in [("attn_q", d, d), ("attn_k", kv, d), ("attn_v", kv, d), ("attn_output", d, d),
                                 ("ffn_gate", shape["inner"], d), ("ffn_up", shape["inner"], d), ("ffn_down", d, shape["inner"])]:
            matrix(f"blk.{i}.{name}", rows, cols)
    ones("output_norm")
    if not shape["tied"]:
        matrix("output", shape["vocab"], d)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def quiet(llama):
    quiet.callback = llama.llama_log_callback(lambda level, text, data: None)  # kept: C holds on to it
    llama.llama_log_set(quiet.callback, None)
    llama.llama_backend_init()


def model_file(folder, size, kind):
    """The path of a model; made when it is not there."""
    path = folder / f"{size}-{kind}.gguf"
    if path.exists():
        return path
    part = path.with_suffix(".part")
    if kind == "bf16":
        write_gguf(part, SHAPES[size])
    else:
        llama = contest.need("llama_cpp")
        quiet(llama)
        params = llama.llama_model_quantize_default_params()
        params.ftype = {"q8_0": llama.LLAMA_FTYPE_MOSTLY_Q8_0, "q4_0": llama.LLAMA_FTYPE_MOSTLY_Q4_0}[kind]
        if llama.llama_model_quantize(str(model_file(folder, size, "bf16")).encode(), str(part).encode(), params):
            sys.exit(f"infer.py: llama.cpp could not quantise {size} to {kind}")
    part.rename(path)
    return path


def worker(case):
    llama = contest.need("llama_cpp")
    quiet(llama)
    what, sequences, tokens = case["what"], case["sequences"], case["tokens"]
    model = llama.llama_model_load_from_file(case["file"].encode(), llama.llama_model_default_params())
    params = llama.llama_context_default_params()
    params.n_ctx = sequences * (PROMPT + tokens + 56) // 64 * 64
    params.n_batch = params.n_ubatch = max(512, sequences * PROMPT)
    params.n_seq_max = sequences
    params.n_threads = params.n_threads_batch = case["threads"]
    context = llama.llama_init_from_model(model, params)
    vocab = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model))
    batch = llama.llama_batch_init(params.n_batch, 0, 1)

    def decode(first, count):
        """So many tokens of every sequence from this position; logits of the last one each."""
        batch.n_tokens = sequences * count
        for i in range(batch.n_tokens):
            at = i % count
            batch.token[i] = (i * 37 + first * 131 + 3) % vocab
            batch.pos[i] = first + at
            batch.n_seq_id[i] = 1
            batch.seq_id[i][0] = i // count
            batch.logits[i] = at == count - 1
        if llama.llama_decode(context, batch):
            sys.exit("infer.py: llama_decode failed")
        llama.llama_synchronize(context)

    def once():
        llama.llama_memory_clear(llama.llama_get_memory(context), True)
        if what == "decode":
            decode(0, PROMPT)
        start = time.perf_counter()
        if what == "prefill":
            decode(0, tokens)
        else:
            for i in range(tokens):
                decode(PROMPT + i, 1)
        return sequences * tokens / (time.perf_counter() - start)

    once()
    contest.answer(lambda _: {"value": once(), "rss": contest.peak_rss_mb()})


def compare(args, size, kind, name, threads):
    what, sequences, tokens = CASES[name]
    file = str(model_file(args.models, size, kind))
    with contest.Worker(threads, file=file, what=what, sequences=sequences, tokens=tokens) as w:
        contenders = {"llama.cpp": lambda: w.ask()["value"]}
        if args.llmctl:
            ours = [what, "--model", size, "--dtype", OURS[kind], "--batch", str(sequences), "--tokens", str(tokens)]
            contenders["llmctl"] = lambda: contest.llmctl_value(args.llmctl, threads, *ours)["value"]
        values = contest.in_turns(args.rounds, contenders, [w])
        rss = w.ask()["rss"]
    contest.table_row(size, kind, name, threads, contest.spread(values["llama.cpp"]), rss,
                     *contest.ours_and_ratio(values, "llama.cpp"))


def main():
    p = contest.parser(__doc__)
    p.add_argument("--models", type=pathlib.Path, default=pathlib.Path(tempfile.gettempdir()) / "rival-models",
                   help="scratch folder of the GGUF files (5 GB)")
    p.add_argument("--sizes", nargs="+", default=list(SHAPES), choices=list(SHAPES))
    p.add_argument("--kinds", nargs="+", default=list(OURS), choices=list(OURS))
    p.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    args = contest.parse(p)
    if args.worker:
        return worker(json.loads(args.worker))
    args.models.mkdir(parents=True, exist_ok=True)
    contest.table_head("model", "weights", "case", "threads", "llama.cpp tokens/s", "its peak RSS MB", "llmctl tokens/s", "ratio")
    for size in args.sizes:
        for kind in args.kinds:
            for name in args.cases:
                for threads in args.threads:
                    with contest.row_or_reason(size, kind, name, threads):
                        compare(args, size, kind, name, threads)


if __name__ == "__main__":
    sys.exit(main())
