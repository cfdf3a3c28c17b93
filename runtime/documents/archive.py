"""The zip archive that a DOCX, PPTX or XLSX file is: its members are judged by their sizes before one is unpacked.

A member whose declared size is wrong cannot expand further: `zipfile` reads no more than what is declared.
"""

import io
import zipfile

from .limits import DocumentLimits, UnreadableDocument

_COMPOUND = b"\xd0\xcf\x11\xe0"  # the format of older Office files, and of encrypted ones


def check_archive(data: bytes, limits: DocumentLimits) -> io.BytesIO:
    """Return the archive as a file for a library. Raises UnreadableDocument if it is damaged, encrypted, or expands
    beyond the limits."""
    if data.startswith(_COMPOUND):
        raise UnreadableDocument(
            "has a password, or the format of Office before 2007", "save it without a password, in the format of today"
        )
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, ValueError, OverflowError, OSError, NotImplementedError) as exc:
        raise UnreadableDocument("is damaged: it is not a complete Office file") from exc
    if any(member.flag_bits & 1 for member in members):
        raise UnreadableDocument("has a password", "save it without one")
    expanded = sum(member.file_size for member in members)
    if len(members) > limits.members or expanded > limits.expanded_bytes:
        raise UnreadableDocument(
            f"expands to {expanded:,} bytes in {len(members):,} parts; the limits are {limits.expanded_bytes:,} bytes "
            f"and {limits.members:,} parts",
            "split it, or save the part that matters as another file",
        )
    return io.BytesIO(data)
