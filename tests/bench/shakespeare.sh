#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Tiny Shakespeare: 0.82M parameters, 2,000 steps of 12 x 64 bytes; nats per character over all of the
# last tenth. Usage: tests/bench/shakespeare.sh [build/llmctl] [../shared/data/text/tinyshakespeare.txt]
set -euo pipefail
llmctl=$(realpath "${1:-build/llmctl}")
text=$(realpath "${2:-../shared/data/text/tinyshakespeare.txt}")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
total=$(wc -c <"$text")
head -c $((total * 9 / 10)) "$text" >train.txt
tail -c +$((total * 9 / 10 + 1)) "$text" >held-out.txt
cat >train.json <<'J'
{"model": {"architectures": ["LlamaForCausalLM"], "hidden_size": 128, "intermediate_size": 344,
           "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 32,
           "vocab_size": 256, "max_position_embeddings": 256, "rms_norm_eps": 1e-5,
           "initializer_range": 0.06, "tie_word_embeddings": true},
 "data": {"train": "train", "validation": "held-out", "tokenizer": "tokenizer"},
 "unit": {"sequences": 12, "seq_len": 64}, "batch": {"units": 1},
 "optimizer": {"learning_rate": 4e-3, "beta2": 0.99, "weight_decay": 0.1},
 "schedule": {"kind": "cosine", "steps": 2000, "warmup_steps": 100, "min_ratio": 0.02}}
J
"$llmctl" tokenize train train.txt --vocab-size 256 --pattern none --output tokenizer --quiet
"$llmctl" tokenize pack train.txt --tokenizer tokenizer --output train --quiet
"$llmctl" tokenize pack held-out.txt --tokenizer tokenizer --output held-out --quiet
"$llmctl" train train.json --run run
for stride in 64 32; do
  "$llmctl" evaluate run/checkpoints/step-2000/model --input held-out.txt --context 64 --stride $stride --quiet
done
