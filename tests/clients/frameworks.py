"""One tool loop each with langchain-anthropic and litellm, as their users write it. Run in build/venv-clients:
frameworks.py langchain|litellm URL. Prints what happened as JSON; test_frameworks.py knows what it must be."""
import json
import sys

QUESTION = "What is the weather in Oslo? [[first]]"
RESULT = "Snow. [[third]]"


def langchain(url):
    from langchain_anthropic import ChatAnthropic
    from langchain_core.messages import HumanMessage, ToolMessage
    from langchain_core.tools import tool

    @tool
    def get_weather(city: str, days: int = 1) -> str:
        """The weather of a city."""
        return RESULT

    model = ChatAnthropic(model="claude-opus-5-5", base_url=url, api_key="dummy", max_tokens=400, max_retries=0)
    bound, messages, ran = model.bind_tools([get_weather]), [HumanMessage(QUESTION)], []
    while True:
        answer = bound.invoke(messages)
        messages.append(answer)
        if not answer.tool_calls:
            break
        for call in answer.tool_calls:
            ran.append([call["name"], call["args"]])
            messages.append(ToolMessage(get_weather.invoke(call["args"]), tool_call_id=call["id"]))
    streamed = "".join(piece.text for piece in model.stream([HumanMessage("Hello [[plain]]")]))
    return {"ran": ran, "text": answer.text, "streamed": streamed, "input": answer.usage_metadata["input_tokens"]}


def litellm(url):
    import litellm as module
    module.suppress_debug_info = True
    tools = [{"type": "function", "function": {"name": "get_weather", "description": "The weather of a city.", "parameters": {
        "type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}, "required": ["city"]}}}]
    base = {"model": "anthropic/claude-opus-5-5", "api_base": url, "api_key": "dummy", "max_tokens": 400, "num_retries": 0}
    messages, ran = [{"role": "user", "content": QUESTION}], []
    while True:
        answer = module.completion(**base, messages=messages, tools=tools)
        message = answer.choices[0].message
        messages.append(message.model_dump(exclude_none=True))
        if not message.tool_calls:
            break
        for call in message.tool_calls:
            ran.append([call.function.name, json.loads(call.function.arguments)])
            messages.append({"role": "tool", "tool_call_id": call.id, "content": RESULT})
    pieces = module.completion(**base, messages=[{"role": "user", "content": "Hello [[plain]]"}], stream=True)
    streamed = "".join(p.choices[0].delta.content or "" for p in pieces)
    return {"ran": ran, "text": message.content, "streamed": streamed, "input": answer.usage.prompt_tokens}


print(json.dumps({"langchain": langchain, "litellm": litellm}[sys.argv[1]](sys.argv[2])))
