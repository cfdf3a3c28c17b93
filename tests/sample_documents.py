"""Documents of six formats, made by the formats' own libraries: each has a fact at a known place, among pages of other
text."""

import io
from dataclasses import dataclass

FILLER = "The harbour office keeps its records in order, and the clerk counts barrels of salt and rope each morning. "


@dataclass(frozen=True)
class Sample:
    """A document with a fact, the question about it, and the place of the fact."""

    name: str
    data: bytes
    fact: str
    question: str
    place: str


def samples(pages: int = 12) -> list[Sample]:
    """A document of each format, with the fact two thirds down its pages."""
    at = pages * 2 // 3
    return [
        Sample("ferries.pdf", pdf(pages, at), *FACTS["ferries.pdf"], f"page {at}"),
        Sample("fares.docx", docx(pages, at), *FACTS["fares.docx"], "Fares of the island line"),
        Sample("storms.pptx", pptx(pages, at), *FACTS["storms.pptx"], f"slide {at}"),
        Sample("stock.xlsx", xlsx(pages, at), *FACTS["stock.xlsx"], "sheet Stores, row"),
        Sample("lights.html", html(pages, at), *FACTS["lights.html"], "The northern lighthouse"),
        Sample("tides.md", markdown(pages, at), *FACTS["tides.md"], "Spring tides, line"),
    ]


FACTS = {
    "ferries.pdf": ("The last ferry to Brandholm departs at 23:47", "When does the last ferry to Brandholm depart?"),
    "fares.docx": ("A bicycle costs 41 crowns", "How many crowns does a bicycle cost?"),
    "storms.pptx": ("The Ulrik storm flooded 318 cellars", "How many cellars did the Ulrik storm flood?"),
    "stock.xlsx": ("lanterns of brass | 733", "How many lanterns of brass are there?"),
    "lights.html": ("Its lamp flashes every 19 seconds", "How often does the lamp flash?"),
    "tides.md": ("The highest spring tide was 6.28 metres", "How high was the highest spring tide?"),
}


def pdf(pages: int, at: int) -> bytes:
    """Pages by pypdf, each with lines of text in a standard font."""
    from pypdf import PdfWriter
    from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

    writer = PdfWriter()
    names = {"Type": "Font", "Subtype": "Type1", "BaseFont": "Helvetica"}
    font = DictionaryObject({NameObject(f"/{key}"): NameObject(f"/{value}") for key, value in names.items()})
    for number in range(1, pages + 1):
        page = writer.add_blank_page(600, 800)
        lines = [FILLER.strip()] * 8
        if number == at:
            lines[4] = f"{FACTS['ferries.pdf'][0]}."
        content = DecodedStreamObject()
        content.set_data(
            ("BT /F 10 Tf 12 TL 20 780 Td " + " ".join(f"({line}) Tj T*" for line in lines) + " ET").encode()
        )
        page[NameObject("/Contents")] = writer._add_object(content)
        fonts = DictionaryObject({NameObject("/F"): font})
        page[NameObject("/Resources")] = DictionaryObject({NameObject("/Font"): fonts})
    return saved(writer.write)


def docx(pages: int, at: int) -> bytes:
    from docx import Document

    document = Document()
    for number in range(1, pages + 1):
        document.add_heading("Fares of the island line" if number == at else f"Chapter {number}", 2)
        document.add_paragraph(FILLER * 6)
        if number == at:
            table = document.add_table(1, 2)
            table.cell(0, 0).text = f"{FACTS['fares.docx'][0]}."
            table.cell(0, 1).text = "both ways"
    return saved(document.save)


def pptx(pages: int, at: int) -> bytes:
    from pptx import Presentation

    presentation = Presentation()
    for number in range(1, pages + 1):
        slide = presentation.slides.add_slide(presentation.slide_layouts[1])
        slide.shapes.title.text = f"Part {number}"
        slide.placeholders[1].text = FILLER * 6
        if number == at:
            slide.notes_slide.notes_text_frame.text = f"{FACTS['storms.pptx'][0]}."
    return saved(presentation.save)


def xlsx(pages: int, at: int) -> bytes:
    from openpyxl import Workbook

    book = Workbook()
    book.active.title = "Cover"
    book.active.append(["Stores of the harbour"])
    sheet = book.create_sheet("Stores")
    for number in range(1, pages * 12):
        sheet.append([f"barrels of salt, row {number % 7}", number * 3, FILLER[:60]])
        if number == at * 10:
            sheet.append(["lanterns of brass", 733])
    return saved(book.save)


def html(pages: int, at: int) -> bytes:
    from bs4 import BeautifulSoup

    soup = BeautifulSoup("<!doctype html><title>Lights</title><body></body>", "html.parser")
    for number in range(1, pages + 1):
        heading, text = soup.new_tag("h2"), soup.new_tag("p")
        heading.string = "The northern lighthouse" if number == at else f"Chapter {number}"
        text.string = FILLER * 6 + (f"{FACTS['lights.html'][0]}." if number == at else "")
        soup.body.extend([heading, text])
    return str(soup).encode()


def markdown(pages: int, at: int) -> bytes:
    parts = []
    for number in range(1, pages + 1):
        parts.append("# Spring tides" if number == at else f"# Chapter {number}")
        parts.append(FILLER * 6 + (f"\n\n{FACTS['tides.md'][0]}." if number == at else ""))
    return "\n\n".join(parts).encode()


def saved(save: object) -> bytes:
    out = io.BytesIO()
    save(out)
    return out.getvalue()
