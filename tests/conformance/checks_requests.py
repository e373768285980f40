"""Request fields: sections 2.1 to 2.7."""
import json
from typing import Literal

from runner import NotShown, calls, check, text, total, turn

ASK_CALL = "What is the weather in Oslo? Use the tool."
WEATHER = {"name": "get_weather", "description": "The weather of a city.", "input_schema": {
    "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": False}}
CLOCK = {"name": "get_time", "description": "The time in a zone.", "input_schema": {
    "type": "object", "properties": {"zone": {"type": "string"}}, "required": ["zone"], "additionalProperties": False}}
FORCED = {"type": "tool", "name": "get_weather", "disable_parallel_tool_use": True}
FORMAT = {"type": "json_schema", "schema": {"type": "object", "properties": {
    "city": {"type": "string", "enum": ["Oslo", "Rome", "Lima"]}, "in_europe": {"type": "boolean"}}, "required": ["city", "in_europe"],
    "additionalProperties": False}}
ASK_JSON = "Name Oslo, Rome or Lima, and whether it is in Europe, as JSON."


def user(content):
    return {"role": "user", "content": content}


def forced_call(s, **more):
    m = s.create(ASK_CALL, tools=[WEATHER, CLOCK], tool_choice=FORCED, **more)
    assert [b["name"] for b in calls(m)] == ["get_weather"], m["content"]
    return m


def history(s, content="Snow."):
    m = forced_call(s)
    call = calls(m)[0]
    return [user(ASK_CALL), {"role": "assistant", "content": [call]},
            user([{"type": "tool_result", "tool_use_id": call["id"], "content": content}])]


@check("2.1/model", "9/12")
def any_model_id_is_answered_and_echoed(s):
    for name in (s.model, "org/name:Q4 x", "no-such-model"):
        r = s.post({**s.body(max_tokens=1), "model": name})
        if r.status == 404:
            assert name != s.model and name in r.json["error"]["message"], str(r)
        else:
            assert r.status == 200 and r.json["model"] == name, str(r)
    s.refused(model=None)


@check("2.1/messages", "9/3")
def messages_may_be_strings_or_blocks(s):
    assert s.count([user("Say hello.")]) == s.count([user([{"type": "text", "text": "Say hello."}])])
    s.create([user("Hello."), user("Again."), {"role": "assistant", "content": "Hi."}, {"role": "assistant", "content": "There."},
              user("Go on.")], max_tokens=2)
    s.refused(messages=[])
    s.refused(messages=[{"role": "robot", "content": "x"}])


@check("2.1/messages")
def a_prefilled_answer_is_continued(s):
    m = s.create([user("Say hello."), {"role": "assistant", "content": "The answer is "}], max_tokens=20)
    assert not text(m).startswith("The answer is"), text(m)


@check("2.1/max_tokens", "4.2/max_tokens")
def max_tokens_is_required_and_obeyed(s):
    m = s.create("Write a long story.", max_tokens=3)
    assert m["stop_reason"] == "max_tokens" and m["usage"]["output_tokens"] <= 3, m
    body = s.body()
    del body["max_tokens"]
    r = s.post(body)
    assert r.status in (200, 400), str(r)
    s.refused(max_tokens=-1)
    s.refused(max_tokens="many")


@check("2.1/max_tokens", "9/6")
def max_tokens_0_fills_the_cache_and_says_nothing(s):
    prompt = "Remember this text well. " * 40
    m = s.create(prompt, max_tokens=0)
    assert m["content"] == [] and m["stop_reason"] == "max_tokens" and m["usage"]["output_tokens"] == 0, m
    again = s.create(prompt, max_tokens=1)["usage"]
    assert again["cache_read_input_tokens"] > 0.5 * total(again), again


@check("2.1/system", "9/6")
def system_may_be_a_string_or_blocks(s):
    a = s.count(system="You are a pirate.")
    assert a == s.count(system=[{"type": "text", "text": "You are a pirate.", "cache_control": {"type": "ephemeral"}}])
    assert a == s.count(system=[{"type": "text", "text": "x-anthropic-billing-header: cc_version=2; cch=0a1b2;"},
                                {"type": "text", "text": "You are a pirate."}])
    assert a > s.count()


@check("2.1/stream", "1/messages", "9/2")
def streams_and_whole_answers(s):
    s.stream()
    assert s.create()["type"] == "message"
    r = s.post(s.body(), "/v1/messages?beta=true")
    assert r.status == 200, str(r)


@check("2.1/stop_sequences", "4.2/stop_sequence")
def a_stop_sequence_cuts_and_is_named(s):
    whole = text(s.create(temperature=0))
    if len(whole) < 8:
        raise NotShown(f"the answer is too short to be cut: {whole!r}")
    stop = whole[4:8]
    m = s.create(temperature=0, stop_sequences=["no such text", stop])
    assert m["stop_reason"] == "stop_sequence" and m["stop_sequence"] == stop, m
    assert text(m) == whole[:whole.index(stop)], (text(m), whole)
    checker, _ = s.stream(temperature=0, stop_sequences=[stop])
    assert checker.message["stop_sequence"] == stop
    s.refused(stop_sequences=[5])


@check("2.1/sampling", "9/19")
def sampling_parameters_under_both_versions(s):
    for version in ("2023-06-01", "2026-10-21"):
        r = s.post(s.body(max_tokens=2, temperature=0.5, top_p=0.9, top_k=20), headers={"anthropic-version": version})
        assert r.status == 200, str(r)


@check("2.1/tools", "2.5/custom", "3.2/tool_use", "9/5", "9/17")
def a_forced_tool_is_called(s):
    m = forced_call(s)
    call = calls(m)[0]
    assert call["id"].startswith("toolu_") and isinstance(call["input"], dict) and "city" in call["input"], call
    assert call.get("caller") == {"type": "direct"}, "caller is a required key"
    assert m["stop_reason"] == "tool_use"
    assert calls(forced_call(s))[0]["id"] != call["id"], "ids must be unique"


@check("2.1/tools", "4.2/tool_use", "9/5")
def a_tool_is_called_of_the_model_s_own_accord(s):
    m = s.create(ASK_CALL, tools=[WEATHER, CLOCK])
    if not calls(m):
        raise NotShown(f"the model called no tool: {text(m)[:60]!r}")
    assert m["stop_reason"] == "tool_use"


@check("2.1/tool_choice", "9/17")
def tool_choices_are_enforced(s):
    m = s.create("Say hello.", tools=[WEATHER, CLOCK], tool_choice={"type": "any"})
    assert calls(m), m
    m = s.create(ASK_CALL, tools=[WEATHER, CLOCK], tool_choice={"type": "none"})
    assert not calls(m) and m["stop_reason"] != "tool_use", m
    one = s.create(ASK_CALL, tools=[WEATHER, CLOCK], tool_choice={"type": "any", "disable_parallel_tool_use": True})
    assert len(calls(one)) == 1, one
    some = s.create(ASK_CALL, tools=[WEATHER], tool_choice={"type": "auto", "disable_parallel_tool_use": True})
    assert len(calls(some)) <= 1, some
    s.refused(tools=[WEATHER], tool_choice={"type": "tool", "name": "no_such_tool"})


@check("2.1/thinking", "9/11")
def all_kinds_of_thinking_are_accepted(s):
    for kind in ({"type": "enabled", "budget_tokens": 1024}, {"type": "adaptive"}, {"type": "adaptive", "display": "omitted"},
                 {"type": "adaptive", "display": "summarized"}, {"type": "between_tools"}, {"type": "disabled"}):
        s.create(max_tokens=2000, thinking=kind)


@check("2.1/thinking", "3.2/thinking", "9/11")
def reasoning_is_a_thinking_block_with_a_signature(s):
    m = s.create("Think first: what is 2 + 2?", max_tokens=2000, thinking={"type": "enabled", "budget_tokens": 1024})
    assert "<think" not in text(m), text(m)
    thinking = [b for b in m["content"] if b["type"] == "thinking"]
    if not thinking:
        raise NotShown("the model did not reason")
    assert thinking[0]["signature"] and m["usage"]["output_tokens"] > 0
    hidden = s.create("Think first: what is 2 + 2?", max_tokens=2000, thinking={"type": "adaptive", "display": "omitted"})
    for b in hidden["content"]:
        assert b["type"] != "thinking" or (b["thinking"] == "" and b["signature"]), b
    off = s.create("Think first: what is 2 + 2?", max_tokens=2000, thinking={"type": "disabled"})
    assert all(b["type"] != "thinking" for b in off["content"])


@check("2.1/output_config")
def efforts_are_accepted(s):
    for effort in ("low", "medium", "high", "xhigh", "max"):
        s.create(max_tokens=2, output_config={"effort": effort})


@check("2.1/output_config", "2.6/format", "9/16")
def a_format_is_enforced(s):
    m = s.create(ASK_JSON, max_tokens=300, output_config={"format": FORMAT})
    texts = [b for b in m["content"] if b["type"] == "text"]
    if m["stop_reason"] == "max_tokens":
        raise NotShown("the model did not come to an end within max_tokens")
    assert len(texts) == 1, m
    assert set(json.loads(texts[0]["text"])) == {"city", "in_europe"}, m


@check("2.6/format", "9/16")
def the_sdk_parses_an_answer(s):
    import pydantic

    class City(pydantic.BaseModel):
        city: Literal["Oslo", "Rome", "Lima"]
        in_europe: bool
    m = s.sdk.messages.parse(model=s.model, max_tokens=300, messages=[user(ASK_JSON)], output_format=City)
    if m.stop_reason == "max_tokens":
        raise NotShown("the model did not come to an end within max_tokens")
    assert isinstance(m.parsed_output, City)


@check("2.6/strict", "9/16")
def strict_tools_get_inputs_that_fit(s):
    m = s.create(ASK_CALL, tools=[{**WEATHER, "strict": True}], tool_choice=FORCED)
    assert set(calls(m)[0]["input"]) == {"city"} and isinstance(calls(m)[0]["input"]["city"], str), m


@check("2.6/refused")
def a_format_that_cannot_be_kept_is_refused(s):
    s.refused(output_config={"format": {"type": "json_schema", "schema": {"$ref": "https://example.com/schema.json"}}})
    s.refused(output_config={"format": {"type": "xml"}})


@check("2.2/output_format")
def output_format_is_an_alias(s):
    m = s.create(ASK_JSON, max_tokens=300, output_format=FORMAT)
    if m["stop_reason"] == "max_tokens":
        raise NotShown("the model did not come to an end within max_tokens")
    assert set(json.loads(text(m))) == {"city", "in_europe"}
    s.refused(output_format=FORMAT, output_config={"format": FORMAT})


@check("2.1/accepted", "9/3")
def harmless_fields_are_accepted(s):
    m = s.create(max_tokens=2, cache_control={"type": "ephemeral", "ttl": "1h"}, metadata={"user_id": '{"session_id": "x"}'},
                 service_tier="auto", speed="fast", inference_geo="eu", container="container_1")
    assert m["usage"]["service_tier"] == "standard"


@check("2.1/container", "9/20")
def skills_are_refused_by_name(s):
    r = s.refused(container={"id": None, "skills": [{"type": "anthropic", "skill_id": "pdf", "version": "latest"}]})
    assert "container" in r.json["error"]["message"], str(r)


@check("2.1/diagnostics")
def diagnostics_are_answered(s):
    m = s.create(max_tokens=2, diagnostics={"previous_message_id": None})
    assert "diagnostics" in m
    m = s.create(max_tokens=2, diagnostics={"previous_message_id": "msg_unknown"})
    assert m["diagnostics"] is None or m["diagnostics"]["cache_miss_reason"]["type"] in (
        "previous_message_not_found", "unavailable"), m["diagnostics"]


@check("2.1/unknown", "9/3")
def unknown_fields_are_accepted(s):
    s.create(max_tokens=2, no_such_field={"a": [1]}, safeguards={}, data_flow="x")


@check("2.2/context_management", "9/3")
def context_edits_are_accepted(s):
    edits = [{"type": "clear_thinking_20251015", "keep": "all"}, {"type": "clear_tool_uses_20250919", "trigger": {
        "type": "input_tokens", "value": 100000}, "keep": {"type": "tool_uses", "value": 3}}]
    r = s.post(s.body(max_tokens=2, context_management={"edits": edits}), headers={"anthropic-beta": "context-management-2025-06-27"})
    assert r.status == 200, str(r)
    assert r.json.get("context_management", None) is None or isinstance(r.json["context_management"]["applied_edits"], list)
    assert s.count(context_management={"edits": edits}) > 0


@check("2.2/compaction")
def compaction_gives_one_block_or_a_400(s):
    r = s.post(s.body([user("Say hello."), {"role": "assistant", "content": "Hello."}, user("Thank you.")],
                      compaction={"type": "summarize"}), headers={"anthropic-beta": "compact-2026-09-04"})
    if r.status == 400:
        return "refused: " + r.json["error"]["message"][:80]
    assert r.status == 200 and [b["type"] for b in r.json["content"]] == ["compaction"], str(r)
    assert r.json["stop_reason"] == "compaction" and r.json["content"][0]["content"]


@check("2.2/mcp_servers", "9/20")
def mcp_servers_are_refused_by_name(s):
    r = s.refused(mcp_servers=[{"type": "url", "url": "https://example.com", "name": "x"}])
    assert "mcp_servers" in r.json["error"]["message"]


@check("2.2/accepted", "9/3")
def fields_of_betas_are_accepted(s):
    s.create([user("Say hello."), {"role": "system", "content": "Be brief.", "clear_at": "never", "output_config": {"effort": "low"}}],
             max_tokens=2000, fallbacks="default", billing_policy={"type": "x", "bill_to": "y"},
             output_config={"task_budget": {"type": "tokens", "total": 5000}},
             thinking={"type": "adaptive", "display": "updates", "block_binding": {"prefix_mismatch_behavior": "drop_block"}},
             cache_control={"type": "ephemeral", "evict_on_complete": True})


@check("2.2/tool_changes")
def tools_change_in_the_middle(s):
    past = history(s)
    addition = {"role": "system", "content": [{"type": "tool_addition", "tool": {"type": "tool_definition", "definition": {
        "name": "fly", "description": "Fly there.", "input_schema": {"type": "object", "properties": {}}}}}]}
    removal = {"role": "system", "content": [{"type": "tool_removal", "tool": {"type": "tool_reference", "name": "get_time"}}]}
    r = s.post(s.body(past + [addition], tools=[WEATHER, CLOCK], max_tokens=2))
    if r.status == 400:
        return "refused: " + r.json["error"]["message"][:80]
    assert r.status == 200, str(r)
    s.create(past + [removal], tools=[WEATHER, CLOCK], max_tokens=2)


@check("2.3/equal", "1/count_tokens", "9/15", "4.3/usage")
def counts_are_what_is_charged(s):
    for more in ({}, {"system": "Be brief."}, {"tools": [WEATHER, CLOCK]}, {"tools": [WEATHER], "tool_choice": {"type": "none"}},
                 {"thinking": {"type": "adaptive"}}):
        used = s.create("How many tokens are these?", max_tokens=2000 if "thinking" in more else 1, **more)["usage"]
        assert s.count("How many tokens are these?", **more) == total(used), more


@check("2.3/odd", "9/15")
def odd_counts(s):
    assert s.count("foo", tools=[WEATHER]) > s.count("foo", tools=[]) > 0
    past = [user("Hi."), {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": "x"},
                                                            {"type": "text", "text": "Hello."}]}, user("Bye.")]
    assert s.count(past, thinking={"type": "enabled", "budget_tokens": 1024}) > 0


THREADS = {"anthropic-beta": "message-threads-2026-08-12"}


def threaded(s, **more):
    r = s.post(s.body(**more), headers=THREADS)
    if r.status == 400 and r.code == "thread_unsupported_request":
        raise NotShown("threads are refused with thread_unsupported_request")
    return r


@check("2.2/thread", "9/7")
def threads_are_held_or_refused_with_their_code(s):
    r = s.post(s.body(thread={"type": "create"}, max_tokens=5), headers=THREADS)
    assert r.status == 200 or r.code == "thread_unsupported_request", str(r)


@check("2.4/continue", "9/7")
def a_thread_knows_what_was_before(s):
    r = threaded(s, messages=[user("My name is Ada. " * 20)], system="Be brief.", tools=[WEATHER], thread={"type": "create"}, max_tokens=5)
    assert r.status == 200, str(r)
    before = total(r.json["usage"])
    r = threaded(s, messages=[user("Say hello.")], thread={"type": "continue", "previous_message_id": r.json["id"]}, max_tokens=5)
    assert r.status == 200 and total(r.json["usage"]) > before, "the history is not in the prompt: " + str(r)


@check("2.4/codes", "9/7")
def threads_that_cannot_go_on_have_codes(s):
    r = threaded(s, messages=[user("Say hello.")], thread={"type": "create"}, max_tokens=5)
    assert r.status == 200, str(r)
    go_on = {"type": "continue", "previous_message_id": r.json["id"]}
    assert threaded(s, messages=[user("Again.")], thread=go_on, max_tokens=5).status == 200
    twice = threaded(s, messages=[user("Again.")], thread=go_on, max_tokens=5)
    assert (twice.status, twice.code) == (400, "thread_already_continued"), str(twice)
    lost = threaded(s, messages=[user("Again.")], thread={"type": "continue", "previous_message_id": "msg_none"}, max_tokens=5)
    assert (lost.status, lost.code) == (404, "thread_not_found"), str(lost)


@check("2.4/continue", "9/7")
def the_sdk_s_tool_runner_keeps_its_history(s):
    import anthropic

    @anthropic.beta_tool
    def get_weather(city: str) -> str:
        """The weather of a city."""
        return "Snow."
    runner = s.sdk.beta.messages.tool_runner(model=s.model, max_tokens=200, tools=[get_weather], messages=[user(ASK_CALL)], max_iterations=3)
    said = list(runner)
    if said[0].stop_reason != "tool_use":
        raise NotShown("the model called no tool")
    first, second = (sum(getattr(m.usage, k) or 0 for k in ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"))
                     for m in said[:2])
    assert second > first, "the second request knew less than the first"


@check("2.5/custom", "9/3")
def tool_definitions_may_carry_extras(s):
    s.create(max_tokens=2, tools=[{**WEATHER, "type": "custom", "input_examples": [{"city": "Rome"}], "allowed_callers": ["direct"],
                                   "eager_input_streaming": True, "cache_control": {"type": "ephemeral"}, "ownership_metadata": {}},
                                  {**CLOCK, "type": None}])


@check("2.5/deferred", "3.1/tool_reference", "9/21")
def deferred_tools_are_shown_where_they_are_referred_to(s):
    later = {**CLOCK, "defer_loading": True}
    assert s.count(tools=[WEATHER, later]) == s.count(tools=[WEATHER]), "a deferred tool changes the prompt"
    past = history(s)
    plain = s.count(past, tools=[WEATHER, later])
    past[-1]["content"][0]["content"] = [{"type": "tool_reference", "tool_name": "get_time"}]
    assert s.count(past, tools=[WEATHER, later]) > plain, "the reference shows nothing"


@check("2.5/client_tools")
def client_tools_of_the_api_need_no_schema(s):
    tools = [{"type": "bash_20250124", "name": "bash"}, {"type": "text_editor_20250728", "name": "str_replace_based_edit_tool"},
             {"type": "memory_20250818", "name": "memory"}]
    s.create(max_tokens=2, tools=tools)
    assert s.count(tools=tools) > s.count() + 20


@check("2.5/server_tools", "9/20")
def tools_of_the_server_are_refused_by_name(s):
    for kind, name in (("web_search_20250305", "web_search"), ("web_fetch_20250910", "web_fetch"), ("code_execution_20250825", "code_execution")):
        r = s.post(s.body(max_tokens=2, tools=[{"type": kind, "name": name}]))
        assert r.status == 200 or (r.status == 400 and name in r.json["error"]["message"]), str(r)


@check("2.5/unique")
def tool_names_are_unique(s):
    r = s.refused(tools=[WEATHER, WEATHER])
    assert r.code == "tool_name_conflict", str(r)


@check("2.7/unpaired", "9/13")
def a_call_without_result_is_refused_or_repaired(s):
    past = history(s)[:2] + [user("Never mind.")]
    r = s.post(s.body(past, tools=[WEATHER, CLOCK], max_tokens=2))
    assert r.status == 200 or "`tool_use` ids were found without `tool_result` blocks immediately after" in r.json["error"]["message"], str(r)


@check("2.7/unexpected", "9/13")
def a_result_for_no_call_is_refused(s):
    r = s.refused(messages=[user([{"type": "tool_result", "tool_use_id": "toolu_none", "content": "x"}])])
    assert "tool_use_id" in r.json["error"]["message"], str(r)


@check("2.7/tolerant", "9/3")
def odd_histories_are_tolerated(s):
    past = history(s)
    past[-1]["content"].insert(0, {"type": "text", "text": "Here:"})
    s.create(past, tools=[WEATHER, CLOCK], max_tokens=2)
    s.create([{"role": "assistant", "content": "Hello."}, user([{"type": "text", "text": ""}, {"type": "text", "text": "Hi."}])], max_tokens=2)
    marked = [{"type": "text", "text": f"Part {i}.", "cache_control": {"type": "ephemeral"}} for i in range(8)]
    s.create([user(marked)], max_tokens=2)


@check("2.7/system", "9/1")
def system_turns_are_rendered_in_place(s):
    start = [user("Tell me about the sea. " * 60)]
    s.create(start, max_tokens=2)
    reminder = {"role": "system", "content": "2000 tokens left"}
    as_blocks = {"role": "system", "content": [{"type": "text", "text": "2000 tokens left", "cache_control": {"type": "ephemeral"}}]}
    assert s.count(start + [reminder]) == s.count(start + [as_blocks])
    used = s.create(start + [reminder], max_tokens=2)["usage"]
    assert used["cache_read_input_tokens"] > 0.8 * total(used), f"a system turn behind the prompt disturbs its beginning: {used}"
    s.create([{"role": "system", "content": "First."}, *start, {"role": "assistant", "content": "Yes."}, reminder, user("Go on.")], max_tokens=2)


@check("3.1/tool_result", "9/5", "9/6")
def a_tool_loop_costs_only_its_new_tokens(s):
    long = user("The sea is wide and blue. " * 60 + ASK_CALL)
    m = s.create([long], tools=[WEATHER, CLOCK], tool_choice=FORCED)
    call = calls(m)[0]
    after = s.create([long, turn(m), user([{"type": "tool_result", "tool_use_id": call["id"], "content": "Snow."}])],
                     tools=[WEATHER, CLOCK], max_tokens=5)
    assert after["usage"]["cache_read_input_tokens"] >= 0.95 * total(m["usage"]), (m["usage"], after["usage"])
