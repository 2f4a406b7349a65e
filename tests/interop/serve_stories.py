#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Greedy ids of stories260K through the server, alone and in a crowd of 16, at 1 and 2 threads; then the
throughput of 16 clients against one."""
import concurrent.futures
import json
import time

import lab

CROWD = 16
PROMPTS = ["Once upon a time", "The dog", "Lily and Ben", "One day, a bird", "In the garden", "Tom was sad because",
           "\"Hello\", said", "There was a big", "A little boy", "Mom said", "It was a sunny day", "The cat and",
           "She found a", "He wanted to", "They played", "At night"]


def ask(server, prompt, tokens):
    body = {"model": "stories260K", "prompt": prompt, "max_tokens": tokens, "temperature": 0, "return_token_ids": True}
    return server.post("/v1/completions", body)["choices"][0]["token_ids"]


def throughput(server, clients, per_client, tokens):
    """Generated tokens per second of so many clients asking one request after another."""
    def client(number):
        return sum(len(ask(server, PROMPTS[(number + i) % len(PROMPTS)], tokens)) for i in range(per_client))

    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        start = time.monotonic()
        made = sum(pool.map(client, range(clients)))
        return made / (time.monotonic() - start)


def check_ids(figures, server, what, expected):
    figures.equal(f"{what}: alone, 200 ids are the expected ones", ask(server, "", 200), expected)
    figures.equal(f"{what}: alone, the prompt as ids", ask(server, [1], 200), expected)
    alone = [ask(server, p, 120) for p in PROMPTS]
    with concurrent.futures.ThreadPoolExecutor(CROWD + 1) as pool:
        crowd = [pool.submit(ask, server, p, 120) for p in PROMPTS]
        mine = pool.submit(ask, server, "", 200)
        figures.equal(f"{what}: among {CROWD} others", mine.result(), expected)
        figures.equal(f"{what}: the {CROWD} others as when alone", [c.result() for c in crowd], alone)


def main():
    args = lab.arguments(__doc__, ("--tokens", 160), ("--requests", 6))
    model = lab.shared("models/stories260K")
    expected = json.loads((model / "expected_greedy.json").read_text())["ids"]
    figures = lab.Figures()
    for threads in (1, 2):
        with lab.Server(args.llmctl, model, "--threads", threads) as server:
            what = f"{threads} thread{'s' * (threads > 1)}"
            check_ids(figures, server, what, expected)
            one = throughput(server, 1, args.requests, args.tokens)
            many = throughput(server, CROWD, args.requests, args.tokens)
            print(f"      {what}: {one:.0f} tokens/s with 1 client, {many:.0f} with {CROWD}, {many / one:.2f}x")
    figures.finish()


if __name__ == "__main__":
    main()
