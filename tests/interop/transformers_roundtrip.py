#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Folders that `llmctl train` wrote, in transformers; folders that transformers wrote, in llmctl; token ids of both."""
import pathlib

import lab

lab.need("torch", "transformers", "tokenizers", "safetensors")
import torch
from safetensors import safe_open

import torch_model
import transformers
from corpus import write_corpus

SEQ = 64
LLAMA = {"architectures": ["LlamaForCausalLM"], "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 2,
         "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128,
         "tie_word_embeddings": True}
GPT2 = {"architectures": ["GPT2LMHeadModel"], "n_embd": 48, "n_layer": 2, "n_head": 3, "n_positions": 128}
MIXTRAL = {**LLAMA, "architectures": ["MixtralForCausalLM"], "intermediate_size": 48, "num_local_experts": 6,
           "num_experts_per_tok": 2, "tie_word_embeddings": False}
QWEN3_MOE = {**LLAMA, "architectures": ["Qwen3MoeForCausalLM"], "head_dim": 24, "num_experts": 8, "num_experts_per_tok": 3,
             "moe_intermediate_size": 40, "norm_topk_prob": True, "decoder_sparse_step": 2, "tie_word_embeddings": False}
TEXTS = ["Once upon a time,\nthere were 42 sailors.",
         "  Two spaces, a tab\tand\r\n CRLF",
         "caf\u00e9 na\u00efve \u4f60\u597d \U0001f600!",
         "don't we'll I'M", "", " ", "1234567 + 89 = 1234656", "<|endoftext|>", "x" * 300]


def our_logits(args, model, batches, folder):
    batches.save(folder / "batch.safetensors")
    lab.run(args.dump, "logits", model, folder / "batch.safetensors", folder / "logits.safetensors")
    with safe_open(folder / "logits.safetensors", "pt") as out:
        return out.get_tensor("logits"), out.get_tensor("losses")


def compare_logits(figures, what, args, model, folder, limit, reference=None):
    """In f32 on both sides the largest difference of a logit; packed documents."""
    theirs = (reference or transformers.AutoModelForCausalLM.from_pretrained(
        model, attn_implementation="eager", dtype="auto")).eval()
    batches = torch_model.Batches(1, 1, 2, SEQ, 3, vocab=theirs.config.vocab_size)
    ours, _ = our_logits(args, model, batches, folder)
    ids, _, positions, mask = batches.step(0)
    with torch.no_grad():
        expected = torch_model.logits(theirs, ids, positions, mask).float()
    figures.at_most(f"{what}: logits, largest difference of values up to {expected.abs().max():.2f}",
                    (ours - expected).abs().max().item(), limit)


def compare_greedy(figures, what, args, model, tokens=40):
    """Decoding with a KV cache on both sides."""
    theirs = transformers.AutoModelForCausalLM.from_pretrained(model, attn_implementation="eager", dtype="auto").eval()
    prompt = torch.tensor([transformers.AutoTokenizer.from_pretrained(model)("the sailor sees")["input_ids"]])
    expected = theirs.generate(prompt, do_sample=False, max_new_tokens=tokens, min_new_tokens=tokens, pad_token_id=0)
    ours = lab.run_json(args.llmctl, "generate", model, "--prompt", "the sailor sees", "--temperature", "0",
                        "--max-tokens", tokens, "--ignore-eos")["ids"]
    figures.equal(f"{what}: {tokens} greedy tokens", ours, expected[0, prompt.shape[1]:].tolist())


def compare_ids(figures, what, args, folder):
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    for text in TEXTS:
        ours = lab.run_json(args.llmctl, "tokenize", "encode", "--tokenizer", folder, "--text", text,
                            "--parse-special")["ids"]
        expected = theirs(text)["input_ids"]
        if ours != expected:
            figures.equal(f"{what}: ids of {text!r}", ours, expected)
            return
    figures.equal(f"{what}: ids of {len(TEXTS)} texts", True, True)


def trained_here(figures, args, folder):
    tokens, packed = folder / "tokenizer", folder / "packed"
    text = write_corpus(folder / "text.txt")
    lab.run(args.llmctl, "tokenize", "train", text, "--vocab-size", "400", "--output", tokens, "--quiet")
    lab.run(args.llmctl, "tokenize", "pack", text, "--tokenizer", tokens, "--output", packed, "--quiet")
    compare_ids(figures, "tokenizer trained here", args, tokens)
    for name, model in (("llama", LLAMA), ("gpt2", GPT2), ("mixtral", MIXTRAL), ("qwen3_moe", QWEN3_MOE)):
        for compute, limit in (("f32", 1e-4), ("bf16", 0.1)):
            config = {"model": {**model, "vocab_size": 400}, "data": {"train": str(packed), "tokenizer": str(tokens)},
                      "unit": {"sequences": 4, "seq_len": SEQ}, "batch": {"units": 2},
                      "optimizer": {"learning_rate": 3e-3}, "schedule": {"steps": 20, "warmup_steps": 2},
                      "numerics": {"compute": compute}}
            run = folder / f"{name}-{compute}"
            lab.run(args.llmctl, "train", lab.write_json(folder / "train.json", config), "--run", run, "--quiet")
            saved = run / "checkpoints" / "step-20" / "model"
            what = f"{name} trained here in {compute}"
            compare_ids(figures, what, args, saved)
            compare_logits(figures, what, args, saved, folder, limit)
            if compute == "f32":
                compare_greedy(figures, what, args, saved)
            else:  # the same bf16 weights, all arithmetic in f32: what rounding alone costs
                reference = transformers.AutoModelForCausalLM.from_pretrained(saved, attn_implementation="eager",
                                                                              dtype=torch.float32)
                compare_logits(figures, f"{what}, against f32 arithmetic", args, saved, folder, limit, reference)


def written_there(figures, args, folder):
    models = {"llama": torch_model.llama(), "gpt2": torch_model.gpt2(),
              "llama, tied": torch_model.llama(tie_word_embeddings=True, attention_bias=True, mlp_bias=True),
              "gpt2, untied": torch_model.gpt2(tie_word_embeddings=False),
              "mixtral": torch_model.mixtral(), "qwen3": torch_model.qwen3(), "qwen3_moe": torch_model.qwen3_moe(),
              "qwen2_moe": torch_model.qwen2_moe()}
    for name, model in models.items():
        torch_model.shake(model)
        for shard in ("5GB", "40KB"):
            saved = folder / f"{name}-{shard}".replace(", ", "-")
            model.save_pretrained(saved, max_shard_size=shard)
            files = len(list(saved.glob("*.safetensors")))
            compare_logits(figures, f"{name} written by transformers, {files} files", args, saved, folder, 1e-4)
    bare = folder / "bare"  # of GPT2Model: names without "transformer."
    models["gpt2"].transformer.save_pretrained(bare)
    lab.write_json(bare / "config.json", models["gpt2"].config.to_dict() | {"architectures": ["GPT2LMHeadModel"]})
    compare_logits(figures, "gpt2 without its prefix", args, bare, folder, 1e-4, models["gpt2"])


def main():
    args = lab.arguments(__doc__)
    torch.set_num_threads(1)
    figures = lab.Figures()
    with lab.scratch() as name:
        folder = pathlib.Path(name)
        written_there(figures, args, folder)
        trained_here(figures, args, folder)
    figures.finish()


if __name__ == "__main__":
    main()
