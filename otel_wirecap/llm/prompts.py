"""What requests and answers of different protocols have in common: turns, tools by name, parameters, the end.

Known are OpenAI's chat (and whoever speaks like it) and its responses, Anthropic, Gemini and Bedrock's converse.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from otel_wirecap.llm.answers import answered_model, usage_of
from otel_wirecap.llm.dialects.interface import Json, objects_in
from otel_wirecap.llm.dialects.registry import answer_dialect, conversation_dialect, event_dialect, ours
from otel_wirecap.llm.requests import asks_for_stream, requested_model
from otel_wirecap.llm.schemas import common_schema
from otel_wirecap.llm.turns import turns_of

_FINISHES: Final = {
    "end_turn": "stop", "stop_sequence": "stop", "completed": "stop", "max_tokens": "length",
    "max_output_tokens": "length", "model_context_window_exceeded": "length", "incomplete": "length",
    "tool_use": "tool_calls", "function_call": "tool_calls", "refusal": "content_filter", "safety": "content_filter",
    "guardrail_intervened": "content_filter", "content_filtered": "content_filter", "recitation": "content_filter",
    "blocklist": "content_filter", "prohibited_content": "content_filter", "spii": "content_filter",
}  # fmt: skip
_BUILT_IN: Final = {
    "googleSearch": "web_search", "google_search": "web_search", "googleSearchRetrieval": "web_search",
    "web_search_preview": "web_search", "web_search_options": "web_search", "codeExecution": "code_execution",
    "code_interpreter": "code_execution", "urlContext": "web_fetch",
}  # fmt: skip
"""Names of the same tool of a provider."""
_SAMPLING: Final = frozenset({"seed", "presence_penalty", "frequency_penalty", "n"})
_LACKS: Final = {
    "openai-chat": frozenset({"top_k"}),
    "openai-responses": _SAMPLING | {"top_k", "stop"},
    "anthropic": _SAMPLING,
    "gemini": frozenset({"parallel_tool_calls"}),
    "bedrock": _SAMPLING | {"top_k", "parallel_tool_calls", "response_format", "thinking"},
}
"""Parameters that a protocol has no member for."""
_CHOICES: Final = {"any": "required", "auto": None, "validated": None}
_SCHEMAS: Final = ("input_schema", "parameters", "inputSchema", "parametersJsonSchema", "parameters_json_schema")
_PARAMETERS: Final = {
    "temperature": ("temperature",), "top_p": ("top_p", "topP"), "top_k": ("top_k", "topK"), "seed": ("seed",),
    "presence_penalty": ("presence_penalty", "presencePenalty"),
    "frequency_penalty": ("frequency_penalty", "frequencyPenalty"),
    "max_tokens": (*ours.max_tokens_members, "max_output_tokens"),
    "stop": ("stop", "stop_sequences", "stopSequences"), "n": ("n", "candidateCount", "candidate_count"),
}  # fmt: skip
_NO_THINKING: Final = (None, False, 0, "", "none", "disabled")
_EFFORTS: Final = (
    "type", "effort", "enabled", "thinkingBudget", "thinking_budget", "thinkingLevel", "thinking_level",
    "includeThoughts", "include_thoughts",
)  # fmt: skip


class Request(NamedTuple):
    """A request.

    Attributes:
        path: the URL's path; ``query``: its query.
        body: the parsed body.
    """

    path: str
    query: str
    body: Any

    @property
    def protocol(self) -> str | None:
        """The name of its dialect; None where it is no request for a conversation's next message."""
        dialect = conversation_dialect(self.path, self.body)
        return None if dialect is None else dialect.name


def answer_protocol(body: object) -> str | None:
    """The protocol of an answer's parsed body; None where it is not known, as with errors."""
    if isinstance(body, list):
        return answer_protocol(body[0]) if body else None
    dialect = answer_dialect(body)
    return None if dialect is None else dialect.name


def common_requests(before: Request, after: Request) -> tuple[Json, Json] | None:
    """What a request, and the one that was made of it, ask for, in the same shape for all protocols.

    Returns:
        Of each ``model``, ``system``, ``messages`` (see ``turns_of``), ``tools`` (name to ``description`` and
        ``schema``), ``parameters``, as far as both protocols have them. Ids of tool calls, what the model thought, and
        marks for caches are left out. None where the two are of one protocol, or not of known ones.
    """
    names = [one.protocol for one in (before, after)]
    if None in names or names[0] == names[1]:
        return None
    lacks = frozenset[str]().union(*(_LACKS.get(str(name), ()) for name in names))
    asked, passed_on = _common(before, lacks), _common(after, lacks)
    wanted, sent = asked["parameters"], passed_on["parameters"]
    if names[1] == "anthropic" and "max_tokens" not in wanted:
        sent.pop("max_tokens", None)  # Anthropic wants one
    if "anthropic" in names and "json" in (wanted.get("response_format"), sent.get("response_format")):
        wanted.pop("response_format", None)  # Anthropic has no JSON without a schema
        sent.pop("response_format", None)
    media = [[one for turn in told["messages"] for one in turn.get("media", ())] for told in (asked, passed_on)]
    if any("url" in one for one in media[0]) != any("url" in one for one in media[1]):
        for one in (*media[0], *media[1]):  # the proxy has fetched what is shown, or stored it
            kind = one["type"]
            one.clear()
            one["type"] = kind
    return asked, passed_on


def _common(request: Request, lacks: frozenset[str]) -> Json:
    path, query, body = request
    system, turns = turns_of([*_system(body), *_messages(body)])
    parameters = _parameters(body) | {"stream": asks_for_stream(path, query, body)}
    return {
        "model": requested_model(path, body),
        **({"system": system} if system else {}),
        "messages": turns,
        "tools": dict(_tools(body)),
        "parameters": {name: value for name, value in parameters.items() if value is not None and name not in lacks},
    }


def common_answer(body: Any) -> Json:
    """What an answer says, in the same shape for all protocols.

    Args:
        body: the parsed body; of a stream the assembled message.

    Returns:
        ``model``, ``choices`` (each ``text``, ``finish``, and if it has any ``tool_calls``, ``media``), ``usage``, and
        of an error its ``error``.
    """
    usage = usage_of(body)
    told: Json = {"model": answered_model(body), "choices": []}
    if usage is not None:
        told["usage"] = {"input": usage.input, "output": usage.output, "cached": usage.cached}
    answer = _whole(body) if isinstance(body, list) else body
    if not isinstance(answer, dict):
        return told
    dialect = answer_dialect(answer)
    for message, finish in () if dialect is None else dialect.choices(answer):
        _, turns = turns_of([("assistant", message)])
        choice = {"text": "", **next(iter(turns), {})}
        choice.pop("role", None)
        name = str(finish or "").lower()
        choice["finish"] = _FINISHES.get(name, name) or None
        if "tool_calls" in choice and choice["finish"] == "stop":
            choice["finish"] = "tool_calls"
        told["choices"].append(choice)
    error = answer.get("error")
    if error:
        told["error"] = str(error.get("message", error)) if isinstance(error, dict) else str(error)
    return told


def _whole(answers: list[Any]) -> Any:
    """The answer that a list of events adds up to: Gemini's stream without SSE."""
    events = list(objects_in(answers))
    found = event_dialect(events[0]) if events else None
    if found is None:
        return next(iter(events), None)
    assembly = found[1]
    for event in events:
        assembly.add(event, 0)
    return assembly.message() or events[-1]


def _system(body: Json) -> Iterator[tuple[str, Any]]:
    return (("system", body[name]) for name in ours.system_members if body.get(name))


def _messages(body: Json) -> Iterator[tuple[Any, Any]]:
    turns: Any = next((body[name] for name in ours.turn_members if name in body), [])
    for turn in [turns] if isinstance(turns, str | dict) else _list(turns):
        if isinstance(turn, str):
            yield "user", turn
        elif isinstance(turn, dict):
            kind = turn.get("type")
            if isinstance(kind, str) and kind != "message":  # an item of OpenAI's responses
                role = turn.get("role") or ("user" if kind.endswith("_output") else "assistant")
                yield role, [turn]
            else:
                yield turn.get("role") or "user", turn


# -- tools and parameters ----------------------------------------------------------------------------


def _tools(body: Json) -> Iterator[tuple[str, Json]]:
    config = body.get("toolConfig")
    listed = [*objects_in(body.get("tools")), *objects_in(body.get("functions"))]
    listed += objects_in(config.get("tools")) if isinstance(config, dict) else ()
    if "web_search_options" in body:
        listed.append({"type": "web_search"})
    for tool in listed:
        declared = tool.get("functionDeclarations", tool.get("function_declarations"))
        yield from (_tool(one) for one in objects_in(declared))
        if declared is None:
            yield _tool(tool)


def _tool(tool: Json) -> tuple[str, Json]:
    inner = next((tool[name] for name in ("function", "toolSpec", "custom") if isinstance(tool.get(name), dict)), tool)
    name = str(inner.get("name") or inner.get("type") or next(iter(inner), ""))
    told = {"description": inner.get("description"), "schema": common_schema(next(_members(inner, _SCHEMAS), None))}
    return _BUILT_IN.get(name, name), {key: value for key, value in told.items() if value}


def _members(holder: Json, names: tuple[str, ...]) -> Iterator[Any]:
    return (holder[name] for name in names if holder.get(name) is not None)


def _parameters(body: Json) -> Json:
    config = next(_members(body, ("generationConfig", "generation_config", "inferenceConfig")), None)
    holder = body | config if isinstance(config, dict) else body
    told = {name: next(_members(holder, names), None) for name, names in _PARAMETERS.items()}
    told["stop"] = [told["stop"]] if isinstance(told["stop"], str) else told["stop"] or None
    told["n"] = None if told["n"] == 1 else told["n"]
    choice = body.get("tool_choice")
    one_at_a_time = body.get("parallel_tool_calls") is False or (
        isinstance(choice, dict) and choice.get("disable_parallel_tool_use") is True
    )
    return told | {
        "tool_choice": _tool_choice(body),
        "parallel_tool_calls": False if one_at_a_time else None,
        "response_format": _response_format(holder),
        "thinking": _thinks(holder) or None,
    }


def _tool_choice(body: Json) -> str | None:
    choice = next(_members(body, ("tool_choice", "function_call")), None)
    config = next(_members(body, ("toolConfig", "tool_config")), None)
    if choice is None and isinstance(config, dict):
        choice = next(_members(config, ("functionCallingConfig", "function_calling_config", "toolChoice")), None)
    if isinstance(choice, dict):
        allowed = _list(next(_members(choice, ("allowedFunctionNames", "allowed_function_names")), None))
        inner = next((choice[name] for name in ("function", "tool") if isinstance(choice.get(name), dict)), choice)
        names = [*allowed[:1], *_members(inner, ("name", "mode", "type")), *choice]
        choice = names[0] if names else None
    if not isinstance(choice, str):
        return None
    return _CHOICES.get(choice.lower(), choice.lower() if choice.isupper() else choice)


def _response_format(holder: Json) -> Any:
    """``json``, or the schema that the answer is to have; None where it is text."""
    text, config = holder.get("text"), holder.get("output_config")
    form = next(_members(holder, ("response_format", "output_format")), None)
    for nested in (text, config):
        if form is None and isinstance(nested, dict):
            form = nested.get("format")
    if form is None:
        schemas = ("responseJsonSchema", "responseSchema", "response_json_schema", "response_schema")
        if schema := next(_members(holder, schemas), None):
            return common_schema(schema)
        kind = next(_members(holder, ("responseMimeType", "response_mime_type")), None)
        return "json" if kind == "application/json" else None
    if not isinstance(form, dict) or form.get("type") == "text":
        return None
    held = form.get("json_schema")
    schema = (held if isinstance(held, dict) else form).get("schema")
    return common_schema(schema) if schema else "json"


def _thinks(holder: Json) -> bool:
    """Whether the model is told to think before it answers."""
    thinking = next(_members(holder, ("thinking", "thinkingConfig", "thinking_config", "reasoning")), None)
    effort = holder.get("reasoning_effort")
    if isinstance(thinking, dict):
        return any(one not in _NO_THINKING for one in _members(thinking, _EFFORTS))
    return thinking not in _NO_THINKING or effort not in _NO_THINKING


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
