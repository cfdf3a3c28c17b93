"""Chat templates in the styles of those who train GLM-4 further, each with the layout that it was written for.

`said`: OpenAI's messages as they are. `parsed`: those with arguments as objects. `native`: GLM-4's own messages.
`text`: messages without a place for calls, which stand in the text. Tools are OpenAI's, or bare functions.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class TrainerTemplate:
    """A template, the layout of its messages, and what else it is for."""

    source: str
    messages: str = "text"
    result: str = "user"  # the role of a result in a text
    bare_tools: bool = False
    tools: bool = False
    reasoning: bool = False
    parts: bool = False


CHATML = """\
{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}\
{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""

CHATML_DEFAULT_SYSTEM = """\
{% if not messages or messages[0]['role'] != 'system' %}
{{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {{- '<|im_start|>' ~ message.role ~ '\\n' ~ (message.content | trim) ~ '<|im_end|>\\n' }}
{%- endfor %}
{{- '<|im_start|>assistant\\n' if add_generation_prompt }}"""

LLAMA3_HEADERS = """\
{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' \
+ message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}\
{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}\
{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"""

LLAMA3_TOOLS = """\
{{- bos_token }}
{%- if not date_string is defined %}{%- set date_string = strftime_now("%d %b %Y") %}{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}{%- set messages = messages[1:] %}
{%- else %}{%- set system_message = "" %}{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\nToday Date: " + date_string + "\\n\\n" }}
{%- if tools is not none %}
    {{- "Respond in the format {\\"name\\": function name, \\"parameters\\": dictionary}.\\n\\n" }}
    {%- for t in tools %}{{- t | tojson(indent=4) }}{{- "\\n\\n" }}{%- endfor %}
{%- endif %}
{{- system_message }}{{- "<|eot_id|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}
        {{- message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}
            {{- raise_exception("This model only supports single tool-calls at once!") }}
        {%- endif %}
        {%- set tool_call = message.tool_calls[0].function %}
        {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n{"name": "' + tool_call.name + '", "parameters": ' }}
        {{- tool_call.arguments | tojson }}{{- "}<|eot_id|>" }}
    {%- else %}
        {{- "<|start_header_id|>ipython<|end_header_id|>\\n\\n" }}
        {%- if message.content is mapping or message.content is iterable and message.content is not string %}
            {{- message.content | tojson }}
        {%- else %}{{- message.content }}{%- endif %}
        {{- "<|eot_id|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif %}"""

MISTRAL_INST = """\
{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] + '\\n\\n' %}\
{% set messages = messages[1:] %}{% else %}{% set system = '' %}{% endif %}{% for message in messages %}\
{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}\
{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}\
{% if message['role'] == 'user' %}{{ '[INST] ' + (system if loop.first else '') + message['content'] + ' [/INST]' }}\
{% else %}{{ ' ' + message['content'] + eos_token }}{% endif %}{% endfor %}"""

MISTRAL_TOOLS = """\
{{- bos_token }}
{%- set ns = namespace(last_user=0) %}
{%- for m in messages %}{%- if m.role == "user" %}{%- set ns.last_user = loop.index0 %}{%- endif %}{%- endfor %}
{%- for message in messages %}
    {%- if message.role == "user" %}
        {%- if tools is not none and loop.index0 == ns.last_user %}
            {{- "[AVAILABLE_TOOLS] [" }}
            {%- for tool in tools %}
                {{- '{"type": "function", "function": {' }}
                {%- for key, val in tool.function.items() if key != "return" %}
                    {%- if val is string %}{{- '"' + key + '": "' + val + '"' }}
                    {%- else %}{{- '"' + key + '": ' + val|tojson }}{%- endif %}
                    {%- if not loop.last %}{{- ", " }}{%- endif %}
                {%- endfor %}
                {{- "}}" }}{%- if not loop.last %}{{- ", " }}{%- else %}{{- "]" }}{%- endif %}
            {%- endfor %}
            {{- "[/AVAILABLE_TOOLS]" }}
        {%- endif %}
        {{- "[INST] " + message.content + "[/INST]" }}
    {%- elif message.tool_calls is defined and message.tool_calls is not none %}
        {{- "[TOOL_CALLS] [" }}
        {%- for tool_call in message.tool_calls %}
            {%- set out = tool_call.function|tojson %}
            {{- out[:-1] }}{{- ', "id": "' + tool_call.id + '"}' }}
            {%- if not loop.last %}{{- ", " }}{%- else %}{{- "]" + eos_token }}{%- endif %}
        {%- endfor %}
    {%- elif message.role == "assistant" %}{{- " " + message.content|trim + eos_token }}
    {%- elif message.role == "tool" %}
        {{- '[TOOL_RESULTS] {"content": ' + message.content|string + ", " }}
        {{- '"call_id": "' + message.tool_call_id + '"}[/TOOL_RESULTS]' }}
    {%- elif message.role == "system" %}{{- "[SYSTEM_PROMPT]" + message.content + "[/SYSTEM_PROMPT]" }}
    {%- endif %}
{%- endfor %}"""

ALPACA = """\
{{ bos_token if bos_token else '' }}{% if messages[0]['role'] == 'system' %}{{ messages[0]['content'] }}{% else %}\
Below is an instruction that describes a task. Write a response that appropriately completes the request.{% endif %}

{% for message in messages %}
{% if message['role'] == 'user' %}
### Instruction:
{{ message['content'] }}

{% elif message['role'] == 'assistant' %}
### Response:
{{ message['content'] }}{{ eos_token }}

{% endif %}
{% endfor %}
{% if add_generation_prompt %}
### Response:
{% endif %}"""

VICUNA = """\
{%- for m in messages -%}
{%- if m.role == 'system' -%}{{ m.content ~ ' ' }}
{%- elif m.role == 'user' -%}{{ 'USER: ' ~ m.content ~ ' ' }}
{%- else -%}{{ 'ASSISTANT: ' ~ m.content ~ eos_token }}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}ASSISTANT:{%- endif -%}"""

HERMES = """\
{{- bos_token }}{{- '<|im_start|>system\\n' }}
{%- if messages[0]['role'] == 'system' %}{{- messages[0]['content'] }}{%- else %}{{- 'You are Hermes.' }}{%- endif %}
{%- if tools %}
    {{- "\\n\\n# Tools\\n\\n<tools>" }}
    {%- for tool in tools %}{{- "\\n" }}{{- tool | tojson }}{%- endfor %}
    {{- "\\n</tools>\\n\\n<tool_call>\\n{\\"name\\": <name>, \\"arguments\\": <args>}\\n</tool_call>" }}
{%- endif %}
{{- '<|im_end|>\\n' }}
{%- for message in messages %}
    {%- if message.role == "user" or (message.role == "system" and not loop.first) \
or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {{- '<|im_start|>' + message.role }}
        {%- if message.content %}{{- '\\n' + message.content }}{%- endif %}
        {%- for tool_call in message.tool_calls %}
            {%- if tool_call.function is defined %}{%- set tool_call = tool_call.function %}{%- endif %}
            {{- '\\n<tool_call>\\n{"name": "' }}{{- tool_call.name }}{{- '", "arguments": ' }}
            {{- tool_call.arguments | tojson }}{{- '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == "tool" %}
        {%- if (loop.index0 == 0) or (messages[loop.index0 - 1].role != "tool") %}{{- '<|im_start|>user' }}{%- endif %}
        {{- '\\n<tool_response>\\n' }}{{- message.content }}{{- '\\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}{{- '<|im_end|>\\n' }}{%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"""

THINKING_CHATML = """\
{%- if tools %}{{- '<|im_start|>system\\n' }}
    {%- for tool in tools %}{{- tool | tojson }}{{- "\\n" }}{%- endfor %}{{- '<|im_end|>\\n' }}{%- endif %}
{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" %}
        {%- set ns.multi_step_tool = false %}{%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content if message.content is string else '' %}
    {%- if message.role == "user" or message.role == "system" %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {%- set reasoning_content = '' %}
        {%- if message.reasoning_content is string %}{%- set reasoning_content = message.reasoning_content %}
        {%- elif '</think>' in content %}
            {%- set reasoning_content = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.last_query_index and (loop.last or reasoning_content) %}
            {{- '<|im_start|>assistant\\n<think>\\n' + reasoning_content.strip('\\n') + '\\n</think>\\n\\n' + content }}
        {%- else %}{{- '<|im_start|>' + message.role + '\\n' + content }}{%- endif %}
        {%- for tool_call in message.tool_calls or [] %}
            {{- '\\n<tool_call>\\n{"name": "' + tool_call.function.name + '", "arguments": ' }}
            {%- if tool_call.function.arguments is string %}{{- tool_call.function.arguments }}
            {%- else %}{{- tool_call.function.arguments | tojson }}{%- endif %}
            {{- '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == "tool" %}{{- '<tool_response>\\n' + content + '\\n</tool_response>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}
{%- endif %}"""

LLAMA_FACTORY_GLM4 = """\
{{ '[gMASK]<sop>' }}{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}\
{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}{% endif %}\
{% if system_message is defined %}{{ '<|system|>\\n' + system_message }}{% endif %}{% for message in loop_messages %}\
{% set content = message['content'] %}{% if message['role'] == 'user' %}{{ '<|user|>\\n' + content + '<|assistant|>' }}\
{% elif message['role'] == 'assistant' %}{{ '\\n' + content }}{% endif %}{% endfor %}"""

SWIFT_GLM4 = """\
[gMASK]<sop>{% for m in messages %}{% if m.role == 'system' %}<|system|>
{{ m.content }}{% elif m.role == 'user' %}<|user|>
{{ m.content }}{% elif m.role == 'observation' %}<|observation|>
{{ m.content }}{% elif m.role == 'assistant' %}<|assistant|>{{ m.metadata or '' }}
{{ m.content }}{% endif %}{% endfor %}{% if tools %}<|system|>
{% for tool in tools %}
## {{ tool.function.name }}

{{ tool.function | tojson(indent=4, sort_keys=True, separators=(',', ': ')) }}
{% endfor %}{% endif %}{% if add_generation_prompt %}<|assistant|>{% endif %}"""

UNSLOTH = """\
{%- macro turn(role, content, close=true) -%}
<|{{ role }}|>
{{ content }}{{ eos_token if close else '' }}
{%- endmacro -%}
{%- set ns = namespace(system='', seen=false) -%}
{%- for m in messages if m.role == 'system' -%}{%- set ns.system = ns.system + m.content -%}{%- endfor -%}
[gMASK]<sop>{{ turn('system', ns.system) if ns.system else '' }}
{%- for m in messages -%}
    {%- if m.role == 'system' -%}{%- continue -%}{%- endif -%}
    {{- turn(m.role, m.content, close=not loop.last) -}}
{%- endfor -%}
{%- if add_generation_prompt -%}<|assistant|>{%- endif -%}"""

TRL_GENERATION = """\
[gMASK]<sop>
{%- for message in messages %}
{%- if message.role == "assistant" %}<|assistant|>
{% generation %}{{ message.content }}{{ eos_token }}{% endgeneration %}
{%- else %}<|{{ message.role }}|>
{{ message.content }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}<|assistant|>
{% endif %}"""

GEMMA = """\
{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}\
{% for message in messages %}{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}\
{% set role = message['role'] %}{% endif %}{{ '<start_of_turn>' + role + '\\n' + message['content'] | trim \
+ '<end_of_turn>\\n' }}{% endfor %}{% if add_generation_prompt %}{{'<start_of_turn>model\\n'}}{% endif %}"""

DOCUMENTS = """\
{%- if documents %}<|system|>
{% for doc in documents %}
Document: {{ loop.index0 }}
title: {{ doc.title }}
{{ doc['text'] }}
{% endfor %}{%- endif %}
{%- if tools %}<|tools|>
{{ tools | tojson(indent=2) }}
{%- endif %}
{%- for m in messages %}<|{{ m.role }}{{ ' name=' + m.name if m.name else '' }}|>
{{ m.content }}
{%- for c in m.tool_calls or [] %}
Action: {{ c['function']['name'] }} {{ c['function']['arguments'] }}
{%- endfor %}
{%- endfor %}
{%- if add_generation_prompt %}<|assistant|>{%- endif %}"""

ZEPHYR = """\
{% for message in messages %}
{% if message['role'] == 'user' %}
{{ '<|user|>\\n' + message['content'] + eos_token }}
{% elif message['role'] == 'system' %}
{{ '<|system|>\\n' + message['content'] + eos_token }}
{% elif message['role'] == 'assistant' %}
{{ '<|assistant|>\\n'  + message['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}"""

DISTILLED = """\
{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}\
{% set ns = namespace(system_prompt='') %}{%- for m in messages %}{%- if m['role'] == 'system' %}\
{% set ns.system_prompt = ns.system_prompt ~ m['content'] %}{%- endif %}{%- endfor %}{{bos_token}}{{ns.system_prompt}}\
{%- for message in messages %}{%- if message['role'] == 'user' %}{{'<User>' + message['content']}}{%- endif %}\
{%- if message['role'] == 'assistant' and message['tool_calls'] %}{%- for tool in message['tool_calls'] %}\
{{'<call>' + tool['type'] + '<sep>' + tool['function']['name'] + '\\n```json\\n' + tool['function']['arguments'] \
+ '\\n```'}}{%- endfor %}{{'<end>'}}{%- elif message['role'] == 'assistant' %}{% set content = message['content'] %}\
{% if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif %}\
{{'<Assistant>' + content + eos_token}}{%- endif %}{%- if message['role'] == 'tool' %}\
{{'<output>' + message['content'] + '</output>'}}{%- endif %}{%- endfor %}\
{% if add_generation_prompt %}{{'<Assistant><think>\\n'}}{% endif %}"""

NATIVE_BARE = """\
[gMASK]<sop>{%- if tools -%}<|system|>
{%- for tool in tools %}

## {{ tool.name }}

{{ tool | tojson(indent=4) }}
{%- endfor %}{%- endif -%}
{%- for message in messages %}<|{{ message.role }}|>{{ message.metadata }}
{{ message.content }}{%- endfor %}{%- if add_generation_prompt %}<|assistant|>{% endif %}"""

ARGUMENT_TAGS = """\
[gMASK]<sop>
{%- if tools -%}<|system|>
<tools>
{% for tool in tools %}
{{ tool | tojson(ensure_ascii=False) }}
{% endfor %}
</tools>{%- endif -%}
{%- macro visible_text(content) -%}
{%- if content is string -%}{{- content }}
{%- elif content is iterable and content is not mapping -%}
{%- for item in content if item.type == 'text' -%}{{- item.text }}{%- endfor -%}{%- endif -%}
{%- endmacro -%}
{% for m in messages %}
{%- if m.role == 'user' %}<|user|>
{{ visible_text(m.content) }}
{%- elif m.role == 'assistant' %}<|assistant|>
{{ (m.content.split('</think>') | last).strip() }}
{%- if m.tool_calls %}{%- for tc in m.tool_calls %}{%- if tc.function %}{%- set tc = tc.function %}{%- endif %}
{{ '\\n<tool_call>' + tc.name }}
{% set args = tc.arguments %}{% for k, v in args.items() %}
<arg_key>{{ k }}</arg_key>
<arg_value>{{ v | tojson(ensure_ascii=False) if v is not string else v }}</arg_value>
{% endfor %}
</tool_call>{% endfor %}{% endif %}
{%- elif m.role == 'tool' %}<|observation|>
<tool_response>
{{ m.content }}
</tool_response>
{%- elif m.role == 'system' %}<|system|>
{{ visible_text(m.content) }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt -%}<|assistant|>
{%- endif %}"""

PARTS = """\
{{ bos_token }}{% for message in messages %}<|{{ message.role }}|>
{% for part in message.content if part.type == 'text' %}{{ part.text }}{% endfor %}{% endfor %}\
{% if add_generation_prompt %}<|assistant|>{% endif %}"""

PHI = """\
{% for message in messages %}{% if message['role'] == 'system' and message['tools'] %}\
{{ '<|' + message['role'] + '|>' + message['content'] + '<|tool|>' + message['tools'] | tojson + '<|/tool|><|end|>' }}\
{% else %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endif %}{% endfor %}\
{% if add_generation_prompt %}{{ '<|assistant|>' }}{% else %}{{ eos_token }}{% endif %}"""

FLAT_CALLS = """\
{%- if tools %}{{ tools | map(attribute='function') | list | tojson }}
{% endif %}
{%- for m in messages -%}
{%- if m.tool_calls %}<|assistant|>{{ m.content }}{% for c in m.tool_calls %}
call {{ c.id }} {{ c.name }}: {{ c.arguments }}{% endfor %}
{%- else %}<|{{ m.role }}|>{{ (m.tool_call_id ~ ' ') if m.tool_call_id else '' }}{{ m.content }}
{%- endif %}
{%- endfor %}<|assistant|>"""

TEMPLATES = {
    "ChatML": TrainerTemplate(CHATML, result="tool"),
    "ChatML, a default system message": TrainerTemplate(CHATML_DEFAULT_SYSTEM, result="tool"),
    "Llama 3's headers": TrainerTemplate(LLAMA3_HEADERS, result="tool"),
    "Llama 3's tools and date": TrainerTemplate(LLAMA3_TOOLS, "parsed", tools=True),
    "[INST]": TrainerTemplate(MISTRAL_INST),
    "[INST] with tools": TrainerTemplate(MISTRAL_TOOLS, "parsed", tools=True),
    "Alpaca": TrainerTemplate(ALPACA),
    "Vicuna": TrainerTemplate(VICUNA),
    "Hermes": TrainerTemplate(HERMES, "parsed", tools=True),
    "ChatML that thinks": TrainerTemplate(THINKING_CHATML, "said", tools=True, reasoning=True),
    "LLaMA-Factory's GLM-4": TrainerTemplate(LLAMA_FACTORY_GLM4),
    "swift's GLM-4": TrainerTemplate(SWIFT_GLM4, "native", tools=True),
    "macros and namespaces": TrainerTemplate(UNSLOTH, result="observation"),
    "{% generation %}": TrainerTemplate(TRL_GENERATION, result="observation"),
    "no system message": TrainerTemplate(GEMMA, result="tool"),
    "documents": TrainerTemplate(DOCUMENTS, "said", tools=True),
    "Zephyr": TrainerTemplate(ZEPHYR),
    "a distilled thinker": TrainerTemplate(DISTILLED, "said", reasoning=True),
    "bare tools": TrainerTemplate(NATIVE_BARE, "native", bare_tools=True, tools=True),
    "arguments in tags": TrainerTemplate(ARGUMENT_TAGS, "parsed", tools=True, reasoning=True),
    "content in parts": TrainerTemplate(PARTS, result="observation", parts=True),
    "tools of a system message": TrainerTemplate(PHI, result="observation", tools=True),
    "calls without a function": TrainerTemplate(FLAT_CALLS, "flat", tools=True),
}
