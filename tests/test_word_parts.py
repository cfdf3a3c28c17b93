"""What a DOCX has beside paragraphs and tables: it is read, each part once, and a damaged one is named."""

import pytest

import edge

from .hostile_documents import PLAIN_XML, paragraph, word

pytest.importorskip("docx")

BOX = (
    '<w:p><w:r><mc:AlternateContent xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006">'
    "<mc:Choice><w:drawing><w:txbxContent>{inside}</w:txbxContent></w:drawing></mc:Choice>"
    "<mc:Fallback><w:pict><w:txbxContent>{inside}</w:txbxContent></w:pict></mc:Fallback>"
    "</mc:AlternateContent></w:r><w:r><w:t>Beside the box.</w:t></w:r></w:p>"
)
CHART = (
    '<w:p><w:r><w:drawing><c:chart xmlns:c="http://schemas.openxmlformats.org/drawingml/2006/chart" '
    'xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships" r:id="chart"/>'
    "</w:drawing></w:r></w:p>"
)
CHART_PART = (
    b'<c:chartSpace xmlns:c="http://schemas.openxmlformats.org/drawingml/2006/chart" '
    b'xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main"><c:chart><c:title><c:tx><c:rich><a:p><a:r>'
    b"<a:t>Passengers </a:t></a:r><a:r><a:t>by year</a:t></a:r></a:p></c:rich></c:tx></c:title></c:chart>"
    b"</c:chartSpace>"
)


def mark(kind, number):
    return f'<w:p><w:r><w:t>Fares rose.</w:t></w:r><w:r><w:{kind}Reference w:id="{number}"/></w:r></w:p>'


def part(root, inside):
    return f'<w:{root} xmlns:w="{PLAIN_XML}/wordprocessingml/2006/main">{inside}</w:{root}>'.encode()


NOTES = (
    f'<w:footnote w:type="separator" w:id="0">{paragraph("no note")}</w:footnote>'
    f'<w:footnote w:id="2">{paragraph("By 12 crowns.")}{paragraph("Since May.")}</w:footnote>'
)


def build(body, **parts):
    """A DOCX with these parts, by the relations that lead to them."""
    kinds = {name: name.rstrip("0123456789") for name in parts}
    rels = "".join(
        f'<Relationship Id="{name}" Type="{PLAIN_XML}/officeDocument/2006/relationships/{kinds[name]}" '
        f'Target="{name}.xml"/>'
        for name in parts
    )
    members = {f"word/{name}.xml": content for name, content in parts.items()}
    root = f'<Relationships xmlns="{PLAIN_XML}/package/2006/relationships">{rels}</Relationships>'
    return word(body, more=members | {"word/_rels/document.xml.rels": root.encode()})


def read(body, **parts):
    return edge.read_document(("a.docx", build(body, **parts)))


CASES = {
    "a text box, once": (BOX.format(inside=paragraph("In the box.")), {}, "Beside the box.\nIn the box."),
    "a box in a box": (
        BOX.format(inside=paragraph("Outer.") + BOX.format(inside=paragraph("Inner."))),
        {},
        "Beside the box.\nOuter.\nInner.Beside the box.",
    ),
    "a footnote": (mark("footnote", 2), {"footnotes": part("footnotes", NOTES)},
                   "Fares rose.\n[footnote: By 12 crowns. Since May.]"),
    "an endnote that is missing": (mark("endnote", 2), {}, "Fares rose."),
    "the separator is no note": (mark("footnote", 0), {"footnotes": part("footnotes", NOTES)}, "Fares rose."),
    "a chart": (paragraph("Chart:") + CHART, {"chart": CHART_PART}, "Chart:\n[chart: Passengers by year]"),
    "a chart that is missing": (paragraph("Chart:") + CHART, {}, "Chart:"),
    "headers and footers": (
        paragraph("Text."),
        {
            "footer1": part("ftr", paragraph("Page of 9")),
            "header1": part("hdr", paragraph("Island line")),
            "header2": part("hdr", paragraph("Island line")),
            "header3": part("hdr", f"<w:tbl><w:tr><w:tc>{paragraph('Secret')}</w:tc></w:tr></w:tbl>"),
        },
        "Text.\n\nIsland line\n\nSecret\n\nPage of 9",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("body", "parts", "text"), CASES.values(), ids=CASES.keys())
def test_it_is_read(body, parts, text):
    found = read(body, **parts)
    assert found.text == text
    assert found.notes == ()


def test_places_are_headings_and_what_the_part_is():
    found = read(paragraph("Text."), header=part("hdr", paragraph("Island line")))
    assert [section.place for section in found.sections] == ["", "header"]


def test_a_library_s_own_headers_are_read():
    import io

    import docx

    document = docx.Document()
    document.add_paragraph("Text.")
    document.sections[0].header.paragraphs[0].text = "Island line"
    document.add_section().footer.paragraphs[0].text = "Second part"
    out = io.BytesIO()
    document.save(out)
    assert edge.read_document(("a.docx", out.getvalue())).text == "Text.\n\nIsland line\n\nSecond part"


DAMAGED = {
    "not XML": (mark("footnote", 2), {"footnotes": b"<w:footnotes"}),
    "bytes": (CHART + paragraph("Fares rose."), {"chart": bytes(range(256))}),
    "undeclared": (mark("footnote", 2), {"footnotes": b"<w:footnotes/>"}),
}


@pytest.mark.parametrize(("body", "parts"), DAMAGED.values(), ids=DAMAGED.keys())
def test_a_damaged_part_is_named_and_the_rest_read(body, parts):
    found = read(body, **parts)
    assert found.text == "Fares rose."
    assert found.notes == (f"its part /word/{next(iter(parts))}.xml is damaged, and was not read",)


def test_one_part_that_many_refer_to_is_parsed_once_and_bounded():
    """1 MB of a note, referred to 20,000 times, is read to the limit on characters; a chart as often."""
    note = f'<w:footnote w:id="2">{paragraph("tide " * 200_000)}</w:footnote>'
    found = read(mark("footnote", 2) * 20_000, footnotes=part("footnotes", note))
    assert len(found.text) < 9 * 2**20
    assert "only the first 8,388,608 characters were read" in found.notes[0]
    charts = read((paragraph("Chart:") + CHART) * 20_000, chart=CHART_PART.replace(b"by year", b"by year " * 1000))
    assert charts.text


@pytest.mark.parametrize("where", ["footnotes", "header", "chart"])
def test_entities_and_links_of_a_part_stay_what_they_are(where):
    head = b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd"><!ENTITY a "haha"><!ENTITY b "&a;&a;&a;">]>'
    inside = (
        head
        + {
            "footnotes": part("footnotes", f'<w:footnote w:id="2">{paragraph("&x;&b;")}</w:footnote>'),
            "header": part("hdr", paragraph("&x;&b;")),
            "chart": CHART_PART.replace(b"by year", b"&x;&b;"),
        }[where]
    )
    found = read(mark("footnote", 2) + CHART, **{where: inside})
    assert "root:" not in found.text
    assert "haha" not in found.text
