#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# One table: the digest of the weights after ten steps of a small run, over threads, instruction sets,
# units per pass, recompute, and a stop at step 7 with a resume; for 1 and for 4 leaves.
# Usage: tests/bench/digests.sh [build/llmctl]
set -euo pipefail
llmctl=$(realpath "${1:-build/llmctl}")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
for i in $(seq 2000); do echo "line $i holds $((i * i % 97)) and $((i % 13)) words"; done >text.txt
"$llmctl" tokenize train text.txt --vocab-size 256 --pattern none --output tokenizer --quiet >/dev/null
"$llmctl" tokenize pack text.txt --tokenizer tokenizer --output packed --quiet >/dev/null
isas=$("$llmctl" --version --json | python3 -c 'import json,sys; print(*json.load(sys.stdin)["instruction_sets"])')
status=0
for leaves in 1 4; do
  cat >train.json <<J
{"model": {"architectures": ["LlamaForCausalLM"], "hidden_size": 96, "intermediate_size": 256,
           "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 24,
           "vocab_size": 256, "max_position_embeddings": 64, "tie_word_embeddings": true,
           "llmctl": {"leaves": {"attention": $leaves, "mlp": $leaves, "vocab": $leaves}}},
 "data": {"train": "packed"}, "unit": {"sequences": 2, "seq_len": 48}, "batch": {"units": 8},
 "schedule": {"steps": 10, "warmup_steps": 2}, "optimizer": {"learning_rate": 2e-3}}
J
  first=
  row() { # name, flags...
    local name=$1 digest
    shift
    digest=$("$llmctl" train "$@" --run run --json --quiet 2>/dev/null |
      python3 -c 'import json,sys; print(json.load(sys.stdin)["digest"])')
    first=${first:-$digest}
    [ "$digest" = "$first" ] || status=1
    printf '%-8s %-28s %s%s\n' "$leaves" "$name" "$digest" "$([ "$digest" = "$first" ] || echo '  DIFFERS')"
    rm -rf run
  }
  [ "$leaves" = 1 ] && printf '%-8s %-28s %s\n' leaves run digest
  row "2 threads, units 1x8" train.json --threads 2
  row "1 thread" train.json --threads 1
  row "units 2x4" train.json --parallel.units-per-pass 2
  row "units 8x1" train.json --parallel.units-per-pass 8
  row "recompute" train.json --parallel.recompute block
  for isa in $isas; do row "$isa" train.json --isa "$isa"; done
  "$llmctl" train train.json --run run --stop-after 7 --quiet >/dev/null 2>&1 || [ $? = 130 ]
  row "stopped at 7 and resumed" --resume
done
exit $status
