"""How the page reads tables that people paste: from spreadsheets, CSV, Markdown and HTML."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.helpers.browser import FILES, launched, needs_chromium

pytestmark = needs_chromium
HOST = "http://page.test"


@pytest.fixture(scope="module")
def page() -> Iterator[Any]:
    """A page whose modules can be imported; its files come from the disk, no server runs."""

    def send(route: Any) -> None:
        route.fulfill(path=FILES / route.request.url.removeprefix(f"{HOST}/"))

    with launched() as browser:
        page = browser.new_page()
        page.route(f"{HOST}/blank", lambda route: route.fulfill(body="", content_type="text/html"))
        page.route(f"{HOST}/*.js", send)
        page.goto(f"{HOST}/blank")
        yield page


def call(page: Any, module: str, function: str, *arguments: Any) -> Any:
    """The result of a function of one of the page's modules."""
    return page.evaluate(
        "async ([module, name, given]) => (await import(module))[name](...given)",
        [f"/{module}", function, list(arguments)],
    )


def read_table(page: Any, text: str) -> dict[str, Any]:
    read: dict[str, Any] = call(page, "table_input.js", "readTable", text)
    return read


REVENUE = [["", "2009", "2008"], ["revenue", "$ 5,829", "(5,735)"]]


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("\t2009\t2008\nrevenue\t$ 5,829\t(5,735)", "tab-separated"),
        ("\t2009\t2008\r\nrevenue\t$ 5,829\t(5,735)\r\n\r\n", "tab-separated"),
        (',2009,2008\nrevenue,"$ 5,829","(5,735)"', "CSV"),
        (', 2009 , 2008\r\n "revenue" , "$ 5,829" , "(5,735)"\r\n', "CSV"),
        (";2009;2008\nrevenue;$ 5,829;(5,735)", "CSV with semicolons"),
        ("|  | 2009 | 2008 |\n| --- | :---: | ---: |\n| revenue | $ 5,829 | (5,735) |\n", "Markdown"),
        ("| | 2009 | 2008\r\n|-|-|-\r\n| revenue | $ 5,829 | (5,735)", "Markdown"),
        (" | 2009 | 2008\n---|---|---\nrevenue | $ 5,829 | (5,735)", "Markdown"),
        ("\n | 2009 | 2008\nrevenue | $ 5,829 | (5,735)\n", "Markdown"),
        ("| | **2009** | 2008[^1] |\n|---|---|---|\n| `revenue` | \\$ 5,829<sup>3</sup> | (5,735) |", "Markdown"),
        (
            "<table><tr><td></td><td>2009</td><td>2008</td></tr>"
            "<tr><td>revenue</td><td>$ 5,829</td><td>(5,735)</td></tr></table>",
            "HTML",
        ),
        ("<tr><th><th>2009<th>2008<tr><th scope=row>revenue</th><td><b>$&nbsp;5,829</b><td>\n (5,735) ", "HTML"),
    ],
)
def test_one_table_in_all_its_forms(page: Any, text: str, form: str) -> None:
    assert read_table(page, text) == {"rows": REVENUE, "form": form, "notes": []} | (
        {"around": []} if form == "HTML" else {}
    )


def test_quotes_hold_separators_line_ends_and_quotes(page: Any) -> None:
    rows = [["", "2009"], ['"quoted" words', '5" pipe'], ["a, b", "$ 1,000"]]
    assert read_table(page, call(page, "table_input.js", "asTabSeparated", rows))["rows"] == rows
    assert read_table(page, 'a,"b\nc","d ""e"""\n"1,000",,2')["rows"] == [["a", "b c", 'd "e"'], ["1,000", "", "2"]]
    assert read_table(page, 'pipes\tsize\n5" pipes\t"wide')["rows"] == [["pipes", "size"], ['5" pipes', '"wide']]


def test_markdown_tables_among_other_lines(page: Any) -> None:
    table = "| (in millions) | 2009 |\n|---|---|\n| a \\| b | 1,000 |\n|  | 5 |\n| fees |"
    rows = [["(in millions)", "2009"], ["a | b", "1,000"], ["", "5"], ["fees", ""]]
    assert read_table(page, table) == {"rows": rows, "form": "Markdown", "notes": []}
    second = "| other | table |\n|---|---|\n| c | 2 |"
    among = read_table(page, f"# Results\n\n{table}\n\n{second}\nSource: us")
    assert among == {"rows": rows, "form": "Markdown", "notes": ["Left out: 5 lines around the table."]}
    uneven = read_table(page, "| x | 2009 |\n|---|---|\n| a | b | 1 |")
    assert "Row 2 has 3 cells" in uneven["notes"][0]
    assert "\\|" in uneven["notes"][0]
    assert read_table(page, "a|b\t2009\nc|d\t5")["form"] == "tab-separated"
    assert read_table(page, "a|b,2009\nc,5")["form"] == "CSV"


def test_what_looks_wrong_is_said(page: Any) -> None:
    uneven = read_table(page, ",2009,2008\nrevenue,5,829,5,735")
    assert "Row 2 has 5 cells" in uneven["notes"][0]
    assert [len(row) for row in uneven["rows"]] == [5, 5]
    assert "Only one column" in read_table(page, "revenue 5829")["notes"][0]
    assert "No cells" in read_table(page, "<table></table>")["notes"][0]
    assert read_table(page, " \n ") == {"rows": [], "form": "", "notes": []}


def test_a_filings_table_becomes_one_column_per_year(page: Any) -> None:
    """As filings write it: a title, headings over three columns each, "$" and ")" in columns of their own."""
    html = """<p>Our results follow.</p><table>
      <tr><td colspan=7>Consolidated results</td></tr>
      <tr><td></td><td colspan=6>Year ended</td></tr>
      <tr><td></td><td colspan=3>2009</td><td colspan=3>2008</td></tr>
      <tr><td>revenue</td><td>$</td><td>5,829</td><td></td><td>$</td><td>5,735</td><td></td></tr>
      <tr><td>loss</td><td></td><td>(32</td><td>)</td><td colspan=2>4</td><td></td></tr>
      <tr><td>margin</td><td colspan=2>22</td><td>%</td><td></td><td>21.5</td><td>%</td></tr>
      <tr><td colspan=7>Segments:</td></tr></table>
      <p>Revenue<br>grew in
      all regions.</p>"""
    read = read_table(page, html)
    assert read["rows"] == [
        ["", "Year ended 2009", "Year ended 2008"],
        ["revenue", "$ 5,829", "$ 5,735"],
        ["loss", "(32)", "4"],
        ["margin", "22%", "21.5%"],
        ["Segments:", "", ""],
    ]
    assert read["notes"] == ["Left out as a title: “Consolidated results”."]
    assert read["around"] == ["Our results follow.", "Revenue", "grew in all regions."]


def test_cells_over_several_rows_are_in_each_and_endless_spans_end(page: Any) -> None:
    html = """<table><thead><tr><th rowspan=2>segment<th rowspan=2>kind<th colspan=2>revenue<tr><th>2009<th>2008</thead>
      <tr><td rowspan=2>north<td>rail<td>1<td>2<tr><td>road<td>3<td>4</table>"""
    header = ["segment", "kind", "revenue 2009", "revenue 2008"]
    assert read_table(page, html)["rows"] == [header, ["north", "rail", "1", "2"], ["north", "road", "3", "4"]]
    endless = "<table><tr><td>a<td colspan=100000>b<tr><td rowspan=60000>c<td>d</table>"
    assert read_table(page, endless)["rows"] == [["a", "b"], ["c", "d"]]


def html_table(rows: list[list[str]], tag: str = "td") -> str:
    """Rows as HTML; a text that ends in > brings its own tags."""
    lines = ("".join(text if text.endswith(">") else f"<{tag}>{text}</{tag}>" for text in row) for row in rows)
    return f"<table>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


ENDED = "<td colspan=2>Year ended December 31,</td>"
YEARS = ["Year ended December 31, 2009", "Year ended December 31, 2008"]
# A subtotal, a row, and a total, of which two have no label.
BODY = [["", "1,234", "(56)"], ["revenue", "$ 5,829", "$ 5,735"], ["", "5,829 million", "22%"]]


@pytest.mark.parametrize(
    ("top", "header"),
    [
        ([["(in millions)", "2009", "2008"]], ["(in millions)", "2009", "2008"]),
        ([["", "2009", "2008"]], ["", "2009", "2008"]),
        ([["", ENDED], ["(in millions)", "2009", "2008"]], ["(in millions)", *YEARS]),
        ([["(in millions)", ENDED], ["", "2009", "2008"]], ["(in millions)", *YEARS]),
        ([["<td rowspan=2>(in millions)</td>", ENDED], ["2009", "2008"]], ["(in millions)", *YEARS]),
        ([["<td rowspan=2>Segment</td>", ENDED], ["2009", "2008"]], ["Segment", *YEARS]),
        ([["", ENDED], ["In thousands, except per share", "2009", "2008"]], ["In thousands, except per share", *YEARS]),
        (
            [["", "Reported", "(restated)"], ["Years ended", "6/30/2009", "30.6.2008"]],
            ["Years ended", "Reported 6/30/2009", "(restated) 30.6.2008"],
        ),
    ],
)
def test_header_rows_with_a_unit_and_rows_without_a_label(page: Any, top: list[list[str]], header: list[str]) -> None:
    for tag in ("td", "th"):  # some pages write every cell as a heading
        assert read_table(page, html_table(top + BODY, tag))["rows"] == [header, *BODY]


def test_a_row_of_years_with_a_label_of_its_own_stays_below_the_header(page: Any) -> None:
    rows = [["(in millions)", "north", "south"], ["opened in", "1999", "2005"], ["", "—", "n/a"]]
    assert read_table(page, html_table(rows))["rows"] == rows


@pytest.mark.parametrize("separator", ["\t", ",", ";", " | "])
def test_units_and_rows_without_a_label_in_separated_cells(page: Any, separator: str) -> None:
    rows = [["(in millions)", "2009", "2008"], ["", "1234", "(56)"], ["revenue", "5829", "2005"], ["", "2004", "2005"]]
    assert read_table(page, "\n".join(separator.join(row) for row in rows))["rows"] == rows


def test_the_largest_of_several_tables_is_taken(page: Any) -> None:
    small = "<table><tr><td>menu</td></tr></table>"
    large = "<table><tr><td></td><td>2009</td></tr><tr><td>revenue</td><td>1</td></tr></table>"
    nested = f"<table><tr><td>{small}</td><td>{large}</td></tr></table>"
    read = read_table(page, nested)
    assert read["rows"] == [["", "2009"], ["revenue", "1"]]
    assert read["notes"] == ["The largest of 2 tables was taken."]


def test_nothing_of_the_pasted_html_runs_or_loads(page: Any) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    cell = "a<img src='/gone.png' onerror='window.ran = 1'><script>window.ran = 2</script>"
    around = "<iframe src='/gone'></iframe><link rel=stylesheet href='/gone.css'>"
    assert read_table(page, f"<table><tr><td>{cell}</td></tr></table>{around}")["rows"] == [["a"]]
    page.wait_for_timeout(200)
    assert page.evaluate("window.ran") is None
    assert [url for url in asked if "gone" in url] == []


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("5,829<sup>3</sup>", "5,829"),
        ("5,829 <sup>(3)</sup>", "5,829"),
        ("5,829<sub>3</sub>", "5,829"),
        ("5,829<sup>1, 2</sup>", "5,829"),
        ("5,829<sup>[1]</sup><sup>[note 2]</sup>", "5,829"),
        ("5,829<sup>[1][2]</sup> million", "5,829 million"),
        ("$ (32)<sup>a</sup>", "$ (32)"),
        ("22<sup>*</sup>%", "22%"),
        ("<sup>1</sup>5,829", "5,829"),
        ("5<sup>a</sup>8", "5 8"),
        ("Revenue<sup>(iv)</sup>, net<sup>†‡</sup>", "Revenue, net"),
        ("revenue <span style='position: relative; top: -3.15pt'>(1)</span>", "revenue"),
        ("5,829<span style='vertical-align:super;font-size:6pt'>3</span>", "5,829"),
        ("£m<sup>2</sup>", "£m"),
        ("EBITDA<sup>2</sup>", "EBITDA"),
        ("5,829<a href='#fn1'>[1]</a>", "5,829"),
        ("5,829 <a href='http://report.test/10-k#fn1'>(a)</a>", "5,829"),
        ("5,829<a href='#fn1'>1</a>", "5,829"),
        ("1,000 m<sup>2</sup>", "1,000 m2"),
        ("tonnes of CO<sub>2</sub>e", "tonnes of CO2e"),
        ("volume in 10<sup>6</sup> barrels", "volume in 10^6 barrels"),
        ("5.2 × 10<sup>-3</sup>", "5.2 × 10^-3"),
        ("$ 10<sup>6</sup>", "$ 10"),
        ("5,829<sup>123</sup>", "5,829 123"),
        ("7<sup>3</sup>/<sub>8</sub>%", "7 3/8%"),
        ("7<sup>3</sup>/8 % notes", "7 3/8 % notes"),
        ("sales<sup>1</sup>/assets", "sales/assets"),
        ("10<sup>-6</sup>", "10^-6"),
        ("£ 100m<sup>2</sup>", "£ 100m"),
        ("100m<sup>2</sup>", "100m2"),
        ("1<sup>st</sup> quarter, 10<sup>th</sup> year", "1st quarter, 10th year"),
        ("<span style='color:red'>3</span>", "3"),
        ("5 <span style='margin-top:-1px'>3</span>", "5 3"),
        ("-32 (32)", "-32 (32)"),
        ("5,829 (1)", "5,829 (1)"),
        ("see note <a href='#n5'>5</a>", "see note 5"),
        ("US$ <a href='#net'>(32)</a>", "US$ (32)"),
        ("<a href='#n5'>5</a>", "5"),
    ],
)
def test_footnote_marks_go_and_join_no_number(page: Any, html: str, text: str) -> None:
    table = f"<table><tr><td>label</td><td>2009</td></tr><tr><td>{html}</td><td>{html}</td></tr></table>"
    read = read_table(page, f"<p>Of {html} .</p>{table}")
    assert read["rows"][1] == [text, text]
    assert read["around"] == [f"Of {text} ."]


def test_a_column_of_footnote_marks_goes(page: Any) -> None:
    html = """<tr><td></td><td colspan=2>2009</td><td colspan=2>2008</td></tr>
      <tr><td>revenue</td><td>5,829</td><td><sup>(1)</sup></td><td>5,735</td><td><sup>2</sup></td></tr>"""
    assert read_table(page, html)["rows"] == [["", "2009", "2008"], ["revenue", "5,829", "5,735"]]


@pytest.mark.parametrize(
    ("probability", "text"),
    [(0.7124, "71.2 %"), (0, "0.0 %"), (1, "100.0 %"), (1e-9, "under 0.1 %"), (0.99999, "over 99.9 %")],
)
def test_probabilities_in_words(page: Any, probability: float, text: str) -> None:
    assert call(page, "ranking_view.js", "percent", probability).replace("\u00a0", " ") == text
