"""LangChain's ChatOpenAI."""

from features import BASE, MODEL, REST, SCHEMA, WEATHER, WHO, expect, expect_self, expect_shop, expect_weather, run
from features import get_weather as weather
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

responses = REST == ["responses"]
model = ChatOpenAI(
    base_url=f"{BASE}/v1",
    api_key="none",
    model=MODEL,
    max_retries=0,
    use_responses_api=responses,
    use_previous_response_id=responses,
)
get_weather = tool(weather)


def stream():
    chunks = list(model.stream(WHO))
    expect(len(chunks) > 5)
    expect_self("".join(chunk.text for chunk in chunks))


def tools():
    bound = model.bind_tools([get_weather])
    messages = [HumanMessage(WEATHER)]
    called = bound.invoke(messages)
    (call,) = called.tool_calls
    messages += [called, ToolMessage(get_weather.invoke(call["args"]), tool_call_id=call["id"])]
    expect_weather(bound.invoke(messages).text)


def schema():
    titled = {"title": "shop", "description": "A shop"} | SCHEMA
    expect_shop(model.with_structured_output(titled, method="json_schema").invoke("Is the shop open?"))
    expect_shop(model.with_structured_output(titled, method="function_calling").invoke("Is the shop open?"))


def second_turn():
    first = model.invoke(WHO)
    expect(model.invoke([HumanMessage(WHO), first, HumanMessage("Thank you")]).text)


run(
    chat=lambda: expect_self(model.invoke(WHO).text),
    stream=stream,
    tools=tools,
    schema=schema,
    second_turn=second_turn,
)
