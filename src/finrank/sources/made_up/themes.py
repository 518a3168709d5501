"""The subjects of the embedded data's tables, and the labels of their rows."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Theme:
    """The subject of a page's table, and the labels that its rows are drawn from."""

    subject: str
    total: str
    parts: tuple[str, ...]  # these rows add up to the total
    similar: tuple[str, ...]  # rows easily mistaken for the total or a part
    signed: str  # a row that may be negative
    rate: str  # a row of percentages
    physical_unit: str | None = None  # None: money, in millions or thousands


THEMES = (
    Theme(
        "revenue by source",
        "total revenue",
        ("product revenue", "service revenue", "license revenue", "subscription revenue"),
        ("cost of revenue", "deferred revenue", "unbilled revenue"),
        "other income net",
        "gross margin",
    ),
    Theme(
        "operating expenses",
        "total operating expenses",
        ("research expense", "marketing expense", "administrative expense", "depreciation expense"),
        ("interest expense", "prepaid expenses", "nonoperating expenses"),
        "restructuring adjustments",
        "effective tax rate",
    ),
    Theme(
        "outstanding debt",
        "total debt",
        ("senior notes", "term loans", "credit line borrowings", "convertible notes"),
        ("interest paid on debt", "debt issuance costs", "notes receivable"),
        "fair value adjustment of debt",
        "average interest rate",
    ),
    Theme(
        "inventories",
        "total inventories",
        ("raw materials", "work in process", "finished goods", "spare parts"),
        ("inventory reserve", "consigned inventories", "cost of goods sold"),
        "change in lifo reserve",
        "share of inventories at lifo",
    ),
    Theme(
        "net sales by region",
        "total net sales",
        ("north america net sales", "europe net sales", "asia net sales", "latin america net sales"),
        ("intersegment sales", "sales returns", "export sales backlog"),
        "currency effect on sales",
        "operating margin",
    ),
    Theme(
        "current assets",
        "total current assets",
        ("cash and cash equivalents", "short-term investments", "accounts receivable", "prepaid assets"),
        ("restricted cash", "long-term investments", "long-term receivables"),
        "change in working capital",
        "return on assets",
    ),
    Theme(
        "pension plan assets",
        "total plan assets",
        ("equity securities", "debt securities", "real estate funds", "cash held by the plan"),
        ("benefit obligation", "employer contributions", "benefits paid"),
        "actual return on plan assets",
        "discount rate",
    ),
    Theme(
        "loans by type",
        "total loans",
        ("commercial loans", "mortgage loans", "consumer loans", "credit card loans"),
        ("loans held for sale", "allowance for loan losses", "unfunded loan commitments"),
        "net loan recoveries",
        "loan yield",
    ),
    Theme(
        "capital expenditures",
        "total capital expenditures",
        ("store expenditures", "warehouse expenditures", "technology expenditures", "fleet expenditures"),
        ("committed expenditures", "maintenance expense", "depreciation of equipment"),
        "change in accrued expenditures",
        "share of leased equipment",
    ),
    Theme(
        "income taxes",
        "total income taxes",
        ("federal taxes", "state taxes", "foreign taxes", "local taxes"),
        ("taxes paid in cash", "payroll taxes", "taxes payable"),
        "deferred tax adjustment",
        "statutory rate abroad",
    ),
    Theme(
        "electricity generation",
        "total generation",
        ("coal generation", "nuclear generation", "gas generation", "wind generation"),
        ("purchased power", "contracted generation", "power used by plants"),
        "net exports of power",
        "capacity factor",
        physical_unit="gigawatt hours",
    ),
    Theme(
        "freight volumes",
        "total volume",
        ("coal volume", "grain volume", "automotive volume", "chemical volume"),
        ("contracted volume", "empty car volume", "third party volume"),
        "adjustment of volume",
        "on-time delivery rate",
        physical_unit="thousands of tons",
    ),
)
