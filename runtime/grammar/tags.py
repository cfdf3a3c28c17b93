"""The tags of arguments as GLM-4.6V writes them."""

KEY, KEY_END = "<arg_key>", "</arg_key>"
VALUE, VALUE_END = "<arg_value>", "</arg_value>"
CALL_END = "</tool_call>"
