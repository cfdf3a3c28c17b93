"""The tags of arguments as GLM-4.6V writes them, and the texts between two of them."""

from .regular.language import complement, concat, word
from .regular.pattern import searched

KEY, KEY_END = "<arg_key>", "</arg_key>"
VALUE, VALUE_END = "<arg_value>", "</arg_value>"
CALL_END = "</tool_call>"

# A string is not written with what begins a closing tag: each further character of it would take an engine 0.03 CPU
# seconds to compile.
WITHOUT_TAG = complement(searched("</arg"))
ANY_TEXT = concat(WITHOUT_TAG, word(VALUE_END))
