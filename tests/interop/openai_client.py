#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The unmodified OpenAI Python client against a running `llmctl serve`.

    openai_client.py http://127.0.0.1:8080 [MODEL] [--no-chat] [--no-moderation]

Lists models, chats whole and streamed, completes with log-probabilities and echo, asks for a
moderation, and checks that errors arrive as the client's own exceptions. Exits 1 on a mismatch.
"""
import argparse
import sys

import openai


def expect(condition, what):
    if not condition:
        sys.exit(f"openai_client: {what}")
    print(f"ok  {what}")


def check_models(client, model):
    names = [m.id for m in client.models.list()]
    model = model or names[0]
    expect(model in names, f"models.list has {model}")
    one = client.models.retrieve(model)
    expect(one.id == model and one.object == "model", "models.retrieve gives it")
    return model


def check_chat(client, model):
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is 12 + 30?"}]
    options = dict(model=model, messages=messages, max_tokens=24, temperature=0)
    whole = client.chat.completions.create(**options, logprobs=True, top_logprobs=3)
    choice = whole.choices[0]
    expect(choice.message.role == "assistant", "a chat answer has the assistant's role")
    expect(choice.finish_reason in ("stop", "length"), "a chat answer says why it ended")
    used = whole.usage
    expect(used.total_tokens == used.prompt_tokens + used.completion_tokens, "usage adds up")
    entries = choice.logprobs.content
    expect(all(e.logprob <= 0 and len(e.top_logprobs) == 3 for e in entries), "chat log-probabilities")
    text, reasons, usage, roles = "", [], None, []
    for chunk in client.chat.completions.create(**options, stream=True, stream_options={"include_usage": True}):
        usage = chunk.usage or usage
        for c in chunk.choices:
            text += c.delta.content or ""
            roles += [c.delta.role] if c.delta.role else []
            reasons += [c.finish_reason] if c.finish_reason else []
    expect(text == choice.message.content and text, "the streamed chat has the whole one's text, and there is some")
    expect(reasons == [choice.finish_reason] and roles == ["assistant"], "one role, one finish_reason")
    expect(usage is not None and usage == used, "the streamed usage is the whole one's")
    print("    " + repr(text[:100]))


def check_completions(client, model):
    options = dict(model=model, prompt="Once upon a time", max_tokens=8, temperature=0)
    scored = client.completions.create(**options, logprobs=2, echo=True).choices[0]
    plain = client.completions.create(**options, extra_body={"return_token_ids": True}).choices[0]
    expect(scored.text.endswith(plain.text), "echo is the prompt and the same completion")
    lp = scored.logprobs
    sizes = {len(lp.tokens), len(lp.token_logprobs), len(lp.top_logprobs), len(lp.text_offset)}
    expect(len(sizes) == 1, "log-probability lists have one length")
    expect(lp.token_logprobs[0] is None and all(x <= 0 for x in lp.token_logprobs[1:]), "the first token has none")
    expect(lp.text_offset == sorted(lp.text_offset), "text offsets rise")
    expect(0 < len(plain.token_ids) <= 8, "return_token_ids gives ids")
    pieces = [c.choices[0].text for c in client.completions.create(**options, stream=True)]
    expect("".join(pieces) == plain.text, "the streamed completion has the whole one's text")
    two = client.completions.create(**dict(options, prompt=["One", "Two"], n=2, temperature=1, seed=7))
    again = client.completions.create(**dict(options, prompt=["One", "Two"], n=2, temperature=1, seed=7))
    expect([c.index for c in two.choices] == [0, 1, 2, 3], "two prompts, two choices each")
    expect([c.text for c in two.choices] == [c.text for c in again.choices], "the same seed, the same texts")


def check_moderation(client):
    answer = client.moderations.create(model="omni-moderation-latest", input=["good morning", "I will attack you"])
    expect(len(answer.results) == 2, "one moderation result per input")
    scores = answer.results[1].category_scores
    expect(0 <= scores.violence <= 1, "category scores are probabilities")
    expect(isinstance(answer.results[0].flagged, bool), "results are flagged or not")


def check_errors(client, model):
    try:
        client.completions.create(model=model, prompt="x", temperature=-1)
        expect(False, "a negative temperature is refused")
    except openai.BadRequestError as e:
        expect(e.param == "temperature" and e.request_id, "a negative temperature is refused by name")
    try:
        client.models.retrieve("no-such-model")
        expect(False, "an unknown model is not found")
    except openai.NotFoundError as e:
        expect(e.code == "model_not_found", "an unknown model is not found")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("model", nargs="?")
    parser.add_argument("--key", default="none")
    parser.add_argument("--no-chat", action="store_true", help="the model has no chat template")
    parser.add_argument("--no-moderation", action="store_true", help="the server has no classifier")
    args = parser.parse_args()
    client = openai.OpenAI(base_url=args.url.rstrip("/") + "/v1", api_key=args.key, max_retries=0, timeout=120)
    model = check_models(client, args.model)
    if not args.no_chat:
        check_chat(client, model)
    check_completions(client, model)
    if not args.no_moderation:
        check_moderation(client)
    check_errors(client, model)
    print("all as expected")


if __name__ == "__main__":
    main()
