"""Documents made to cost, to load something, or to break a reader: a name and the content of each."""

import io
import zipfile
import zlib
from collections.abc import Iterator

PLAIN_XML = "http://schemas.openxmlformats.org"


def word(body: str | bytes, *, head: str = "", more: dict[str, bytes] | None = None, main: str = "") -> bytes:
    """A DOCX whose body is this XML; `head` precedes the root element, `more` are further members."""
    main = main or "application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"
    raw = body if isinstance(body, bytes) else body.encode()
    root = f'<w:document xmlns:w="{PLAIN_XML}/wordprocessingml/2006/main"><w:body>'
    members = {
        "[Content_Types].xml": f'<Types xmlns="{PLAIN_XML}/package/2006/content-types"><Default Extension="rels" '
        'ContentType="application/vnd.openxmlformats-package.relationships+xml"/><Default Extension="xml" '
        f'ContentType="application/xml"/><Override PartName="/word/document.xml" ContentType="{main}"/></Types>',
        "_rels/.rels": f'<Relationships xmlns="{PLAIN_XML}/package/2006/relationships"><Relationship Id="a" '
        f'Type="{PLAIN_XML}/officeDocument/2006/relationships/officeDocument" Target="word/document.xml"/>'
        "</Relationships>",
    }
    content = f'<?xml version="1.0"?>{head}{root}'.encode() + raw + b"</w:body></w:document>"
    return archive(
        {**{name: text.encode() for name, text in members.items()}, "word/document.xml": content, **(more or {})}
    )


def archive(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return out.getvalue()


def paragraph(text: str) -> str:
    return f"<w:p><w:r><w:t>{text}</w:t></w:r></w:p>"


def sheet(rows: str, *, dimension: str = "A1:B2") -> bytes:
    """An XLSX whose sheet has these rows."""
    import openpyxl

    book = openpyxl.Workbook()
    book.active.append(["tide"])
    out = io.BytesIO()
    book.save(out)
    with zipfile.ZipFile(out) as file:
        members = {name: file.read(name) for name in file.namelist()}
    members["xl/worksheets/sheet1.xml"] = (
        f'<worksheet xmlns="{PLAIN_XML}/spreadsheetml/2006/main"><dimension ref="{dimension}"/><sheetData>{rows}'
        "</sheetData></worksheet>"
    ).encode()
    return archive(members)


def pdf(*objects: str | bytes, root: str = "1 0 R") -> bytes:
    """A PDF of these objects, numbered from 1, without a table of them: readers rebuild it."""
    out = b"%PDF-1.5\n"
    for number, body in enumerate(objects, start=1):
        out += b"%d 0 obj\n" % number + (body if isinstance(body, bytes) else body.encode()) + b"\nendobj\n"
    return out + f"trailer\n<</Size {len(objects) + 1}/Root {root}>>\nstartxref\n0\n%%EOF\n".encode()


def stream(data: bytes, entries: str = "/Filter/FlateDecode") -> bytes:
    return f"<<{entries}/Length {len(data)}>>\nstream\n".encode() + data + b"\nendstream"


CATALOG = "<</Type/Catalog/Pages 2 0 R>>"
PAGES = "<</Type/Pages/Kids[3 0 R]/Count 1>>"
PAGE = "<</Type/Page/Parent 2 0 R/Contents 4 0 R/Resources<</XObject<</X 5 0 R>>/Font<</F 6 0 R>>>>/MediaBox[0 0 9 9]>>"
LAUGHS = (
    "<!DOCTYPE a [<!ENTITY a '"
    + "ha" * 500
    + "'>"
    + "".join(f"<!ENTITY {name} '{f'&{before};' * 20}'>" for before, name in zip("abcdefg", "bcdefgh", strict=True))
    + "]>"
)


def hostile(listener: str = "http://127.0.0.1:9") -> Iterator[tuple[str, str, bytes]]:
    """Yield what each document is, its name and its content. `listener` is where links lead."""
    xxe = f'<!DOCTYPE a [<!ENTITY x SYSTEM "{listener}/x"><!ENTITY y SYSTEM "file:///etc/passwd">]>'
    yield "a zip bomb", "a.docx", word(b"<w:p/>" + b"<!--" + b" " * 300_000_000 + b"-->")
    yield "a zip bomb below the limit", "a.docx", word(b"<w:p/>" * 20_000_000)
    yield "a bomb of text", "a.docx", word(paragraph("tide " * 20_000_000))
    yield "a bomb of members", "a.pptx", archive({f"{number}": b"" for number in range(20_000)})
    yield "a zip in zips", "a.xlsx", archive({"a.zip": archive({"b.zip": archive({"c": b" " * 10_000_000})})})
    yield (
        "a row far below",
        "a.xlsx",
        sheet('<row r="1048576"><c r="XFD1048576"><v>1</v></c></row>', dimension="A1:XFD1048576"),
    )
    yield (
        "wide rows",
        "a.xlsx",
        sheet("".join(f'<row r="{n}"><c r="XFD{n}"><v>1</v></c></row>' for n in range(1, 50_000))),
    )
    yield "many cells", "a.xlsx", sheet("<row>" + "<c><v>1</v></c>" * 8_000_000 + "</row>")
    yield "entities in entities", "a.docx", word(paragraph("&h;"), head=LAUGHS)
    yield "entities of a sheet", "a.xlsx", archive({"[Content_Types].xml": (LAUGHS + "<Types>&h;</Types>").encode()})
    yield "external entities", "a.docx", word(paragraph("&x;&y;"), head=xxe)
    yield (
        "external entities of HTML",
        "a.html",
        f"{xxe}<p>&x;&y;<img src='{listener}/i'><link href='{listener}/c'>".encode(),
    )
    yield "deep XML", "a.docx", word("<w:p>" * 100_000 + "</w:p>" * 100_000)
    yield "deep tables", "a.docx", word("<w:tbl><w:tr><w:tc>" * 80 + "</w:tc></w:tr></w:tbl>" * 80)
    rels = f'<Relationships xmlns="{PLAIN_XML}/package/2006/relationships"><Relationship Id="a" TargetMode="External" '
    rels += (
        f'Type="{PLAIN_XML}/officeDocument/2006/relationships/attachedTemplate" Target="{listener}/t"/></Relationships>'
    )
    yield "links out", "a.docx", word(paragraph("tide"), more={"word/_rels/document.xml.rels": rels.encode()})
    macro = "application/vnd.ms-word.document.macroEnabled.main+xml"
    yield "macros", "a.docm", word(paragraph("tide"), more={"word/vbaProject.bin": b"\xd0\xcf\x11\xe0"}, main=macro)
    yield "a broken archive", "a.docx", word(paragraph("tide"))[:-200]
    yield "another program's archive", "a.docx", archive({"a": b"b"})
    yield "pages in a loop", "a.pdf", pdf(CATALOG, "<</Type/Pages/Kids[2 0 R 2 0 R]/Count 9>>")
    yield (
        "parents in a loop",
        "a.pdf",
        pdf(
            CATALOG,
            "<</Type/Pages/Kids[3 0 R]/Parent 3 0 R/Count 1>>",
            "<</Type/Pages/Kids[2 0 R]/Parent 2 0 R/Count 1>>",
        ),
    )
    yield (
        "a form in itself",
        "a.pdf",
        pdf(
            CATALOG,
            PAGES,
            PAGE,
            stream(zlib.compress(b"/X Do")),
            stream(
                zlib.compress(b"/X Do /X Do"),
                "/Type/XObject/Subtype/Form/Resources<</XObject<</X 5 0 R>>>>/Filter/FlateDecode",
            ),
        ),
    )
    yield "a length in itself", "a.pdf", pdf(CATALOG, PAGES, PAGE, "<</Length 4 0 R>>\nstream\nBT ET\nendstream")
    yield "a bomb of a page", "a.pdf", pdf(CATALOG, PAGES, PAGE, stream(zlib.compress(b"q Q " * 50_000_000, 9)))
    twice = zlib.compress(zlib.compress(b" " * 500_000_000, 9), 9)
    yield "a bomb in a bomb", "a.pdf", pdf(CATALOG, PAGES, PAGE, stream(twice, "/Filter[/FlateDecode/FlateDecode]"))
    kids = " ".join(["3 0 R"] * 500_000)
    yield (
        "a page many times",
        "a.pdf",
        pdf(CATALOG, f"<</Type/Pages/Kids[{kids}]/Count 500000>>", PAGE, stream(zlib.compress(b"BT (tide) Tj ET"))),
    )
    yield (
        "a script",
        "a.pdf",
        pdf(
            f"<</Type/Catalog/Pages 2 0 R/OpenAction<</S/URI/URI({listener}/p)>>>>",
            PAGES,
            PAGE,
            stream(zlib.compress(b"BT /F 9 Tf (tide) Tj ET")),
            "null",
            "<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
        ),
    )
    yield (
        "a table of objects in a loop",
        "a.pdf",
        b"%PDF-1.5\nxref\n0 1\n0000000000 65535 f \ntrailer\n<</Size 1/Root 1 0 R/Prev 9>>\nstartxref\n9\n%%EOF",
    )
    yield "deep arrays", "a.pdf", pdf(CATALOG, "[" * 200_000)
    yield "a broken PDF", "a.pdf", b"%PDF-1.7\n" + bytes(range(256)) * 4000
    for what, piece in {
        "comments": "<!--",
        "quotes": "<a b='",
        "ends": "</",
        "depth": "<div>",
        "cells": "<td>",
    }.items():
        yield f"HTML of {what}", "a.html", b"<p>tide</p>" + piece.encode() * (3_000_000 // len(piece))
    yield "a line without end", "a.md", b"# " + b"tide " * 3_000_000
    yield "fences", "a.md", b"```\n# a\n" * 1_000_000
    yield "zeros", "a.txt", bytes(60_000_000)
    yield "random bytes", "a.txt", zlib.compress(bytes(range(256)) * 3) * 9000
    yield "a long text", "a.txt", b"tide\n" * 12_000_000
