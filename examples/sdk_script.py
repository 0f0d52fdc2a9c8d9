"""A plain script with the openai SDK; capture it unchanged.

The SDK itself reads ``OPENAI_BASE_URL`` and ``OPENAI_API_KEY``::

    WIRE_CAPTURE_FILE=capture.jsonl otel-wirecap run -- python examples/sdk_script.py
"""

import os

from openai import OpenAI

with OpenAI() as client:
    stream = client.chat.completions.create(
        model=os.environ.get("MODEL", "gpt-4o-mini"),
        messages=[{"role": "user", "content": "Say hello in one short sentence."}],
        stream=True,
    )
    for chunk in stream:
        if chunk.choices and chunk.choices[0].delta.content:
            print(chunk.choices[0].delta.content, end="", flush=True)
    print()
