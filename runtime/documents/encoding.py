"""The encoding of a text document."""

import codecs

from .limits import UnreadableDocument

_MARKS = (  # those of UTF-32 begin with those of UTF-16
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_SAMPLE = 2**15  # bytes by which an encoding is detected
_LIKELY = "gb18030 big5 shift_jis euc_jp euc_kr cp1252 cp1251 cp1250 koi8_r cp1253 cp1254".split()


def decode(data: bytes) -> str:
    """Decode a text by its byte order mark, as UTF-16 if it contains zeros, as UTF-8 if that is valid, and otherwise
    in the encoding that its bytes suggest. Line ends become "\\n". Raises UnreadableDocument for what is no text."""
    return _decode(data).replace("\r\n", "\n").replace("\r", "\n")


def _decode(data: bytes) -> str:
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding, "replace")
    sample = data[:_SAMPLE]
    if zeros := sample.count(0):
        low, high = sample[::2].count(0), sample[1::2].count(0)
        if len(sample) < 2 or max(low, high) < 0.9 * zeros or zeros < len(sample) // 8:
            raise UnreadableDocument("is not text", "pass PDF, DOCX, PPTX, XLSX, HTML, Markdown, CSV or text")
        return data.decode("utf-16-le" if high > low else "utf-16-be", "replace")
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        return decoder.decode(data)  # a character that is cut at the end of the data is dropped
    except UnicodeDecodeError:
        return data.decode(_detect(sample), "replace")


def _detect(sample: bytes) -> str:
    try:
        from charset_normalizer import from_bytes
    except ImportError:
        return "cp1252"
    found = from_bytes(sample, cp_isolation=_LIKELY).best() or from_bytes(sample).best()
    return found.encoding if found else "cp1252"
