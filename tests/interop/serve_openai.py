#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""openai_client.py against `llmctl serve` of a small chat model and a moderation classifier, both trained here; and
the ids of chat prompts against transformers' rendering of the saved template."""
import pathlib
import subprocess
import sys

import lab

lab.need("openai", "transformers")
import transformers

from corpus import write_chats, write_requests

CONFIG = {"model": {"architectures": ["LlamaForCausalLM"], "hidden_size": 64, "intermediate_size": 160,
                    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 400,
                    "max_position_embeddings": 256, "tie_word_embeddings": True},
          "unit": {"sequences": 4, "seq_len": 128}, "batch": {"units": 2}, "optimizer": {"learning_rate": 3e-3},
          "schedule": {"steps": 250, "warmup_steps": 20}}


def chat_model(args, folder):
    chats = write_chats(folder / "chats.jsonl")
    lab.run(args.llmctl, "tokenize", "train", chats, "--vocab-size", "400", "--output", folder / "tok", "--quiet")
    lab.run(args.llmctl, "tokenize", "pack", chats, "--tokenizer", folder / "tok", "--output", folder / "packed",
            "--quiet")
    config = {**CONFIG, "data": {"train": str(folder / "packed"), "tokenizer": str(folder / "tok")}}
    lab.run(args.llmctl, "train", lab.write_json(folder / "train.json", config), "--run", folder / "run", "--quiet")
    return folder / "run" / "checkpoints" / "step-250" / "model"


def classifier(args, folder):
    requests = write_requests(folder / "requests.jsonl")
    result = lab.run_json(args.llmctl, "moderate", "train", "--data", requests, "--output", folder / "guard")
    print(f"      classifier: calibration error (ECE) {result['ece']:.4f} over {result['texts_measured']} texts, "
          f"mean AUROC {result['mean_auroc']:.4f}")
    return folder / "guard"


def check_template(server, model):
    """The prompt ids of conversations are those of apply_chat_template."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    hello = {"role": "user", "content": "Hello, caf\u00e9!"}
    answer = {"role": "assistant", "content": " 1 + 2 = 3.\n"}
    system = {"role": "system", "content": "Be brief."}
    figures = lab.Figures()
    empty = {"role": "user", "content": ""}
    for messages in ([hello], [system, hello], [system, hello, answer, hello], [hello, answer, empty]):
        body = {"model": "small-chat", "messages": messages, "max_tokens": 1, "return_token_ids": True}
        ids = server.post("/v1/chat/completions", body)["choices"][0]["prompt_token_ids"]
        text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        expected = tokenizer(text, add_special_tokens=False)["input_ids"]
        figures.equal(f"prompt ids of {len(messages)} messages", ids, expected)
    return figures.failed


def main():
    args = lab.arguments(__doc__)
    with lab.scratch() as name:
        folder = pathlib.Path(name)
        model, guard = chat_model(args, folder), classifier(args, folder)
        client = pathlib.Path(__file__).with_name("openai_client.py")
        with lab.Server(args.llmctl, model, "--model-name", "small-chat", "--moderation", guard) as server:
            wrong = check_template(server, model)
            wrong += subprocess.run([sys.executable, client, server.url, "small-chat"]).returncode
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
