/** Tables out of HTML, the clipboard's or pasted source, read in an inert document: nothing runs or loads. */

import { dropFootnoteMarks } from "./footnote_marks.js";
import { oneLine, sameLength } from "./rows.js";

const MOST_SPAN = 200; // Browsers allow 1000; no report needs it, and a table is copied into every column it spans.
const BLOCKS = "p, div, li, h1, h2, h3, h4, h5, h6, section, article, blockquote, dt, dd, pre";
const AMOUNT = /^[\d\s$€£¥%(),.+−–—-]+(?:[mk]|bn|thousand|million|billion)?\)?$/i;
const YEAR_OR_DATE = /^(?:\d\d?[./-]\d\d?[./-])?(?:19|20)\d\d(?:[–/-]\d{2,4}){0,2}\s*(?:\(\w\)|\*+)?$/;
// Labels that stand beside headings: "", "(in millions)", "In thousands, except per share data", "Year ended".
const HEADER_LABEL = /^$|^\(.*\)$|\bin (?:\S+ )?(?:thousands|millions|billions)\b|\bended\b|\bas of\b/i;

/**
 * The largest table of an HTML text as rows, header rows joined into one, and the lines of text around the tables.
 *
 * A heading that spans columns stands over each of them, a cell that spans rows in each; columns that split a number
 * from its "$" or ")" become one.
 */
export function readHtmlTable(html) {
  const page = inertPage(/<table[\s>]/i.test(html) ? html : `<table>${html}</table>`);
  const tables = [...page.querySelectorAll("table")].filter((one) => !one.querySelector("table"));
  const size = (table) => table.querySelectorAll("td, th").length;
  const largest = tables.reduce((best, one) => (best === null || size(one) > size(best) ? one : best), null);
  const { rows, notes } = largest ? tidied(spreadOut(largest)) : { rows: [], notes: [] };
  if (tables.length > 1) notes.push(`The largest of ${tables.length} tables was taken.`);
  if (rows.length === 0) notes.push("No cells were found in this HTML.");
  return { rows, notes, around: linesAround(page) };
}

/** The text of a piece of HTML on one line: "<b>5,829</b><sup>3</sup>" is "5,829". */
export function plainText(html) {
  return oneLine(inertPage(html).body.textContent);
}

/** The page of an HTML text, with its line ends as text and without footnote marks. */
function inertPage(html) {
  const page = new DOMParser().parseFromString(html, "text/html");
  page.querySelectorAll("script, style, template, noscript, head").forEach((one) => one.remove());
  const texts = page.createTreeWalker(page, NodeFilter.SHOW_TEXT);
  // Line ends in the source only wrap it; those of the page are made from its elements.
  while (texts.nextNode()) texts.currentNode.data = texts.currentNode.data.replace(/\s+/g, " ");
  page.querySelectorAll("br").forEach((one) => one.replaceWith("\n"));
  dropFootnoteMarks(page);
  return page;
}

/** Rows of {text, heading} with spans spread out: headings over all their columns, other cells in the first. */
function spreadOut(table) {
  const grid = [];
  [...table.rows].forEach((row, place) => {
    const line = (grid[place] ??= []);
    const cells = [...row.cells];
    const amounts = cells.slice(1).some((cell) => isAmount(cell.textContent));
    const bold = cells.every((cell) => cell.tagName === "TH");
    const heading = row.parentElement.tagName === "THEAD" || (bold && !amounts);
    for (const cell of cells) {
      let column = 0;
      while (line[column]) column += 1;
      const text = oneLine(cell.textContent);
      const width = Math.min(cell.colSpan, MOST_SPAN);
      const height = Math.min(cell.rowSpan || table.rows.length, table.rows.length - place);
      for (let down = 0; down < height; down += 1) {
        const target = (grid[place + down] ??= []);
        for (let right = 0; right < width; right += 1) {
          target[column + right] = { text, heading, first: right === 0 };
        }
      }
    }
  });
  return grid.map((line) => Array.from(line, (cell) => cell ?? { text: "", heading: false, first: true }));
}

function tidied(grid) {
  const notes = [];
  const filled = grid.filter((line) => line.some((cell) => cell.text !== ""));
  while (filled.length > 1 && isTitle(filled[0])) notes.push(`Left out as a title: “${filled.shift()[0].text}”.`);
  if (filled.length === 0) return { rows: [], notes };
  const headers = headerRows(filled);
  const header = joinedHeader(filled.slice(0, headers));
  const body = filled.slice(headers).map((line) => withSigns(line.map((cell) => (cell.first ? cell.text : ""))));
  return { rows: withoutSplitColumns(sameLength([header, ...body])), notes };
}

/** True for one cell over the whole width, as in "Consolidated results, in millions". */
function isTitle(line) {
  const [start, ...rest] = line;
  return start.text !== "" && rest.length > 0 && rest.every((cell) => !cell.first && cell.text === start.text);
}

/** How many rows at the top are header: marked as such, or headings beside no label. The first always is. */
function headerRows(lines) {
  const texts = lines.map((line) => line.map((cell) => cell.text));
  const isHeader = (line, place) =>
    line.every((cell) => cell.heading) || areHeadings(texts[place], texts[place - 1][0]);
  const body = lines.findIndex((line, place) => place > 0 && !isHeader(line, place));
  return Math.max(body, 1);
}

/** True for ["(in millions)", "2009", "2008"]; false for amounts: a row of them without a label is a subtotal. */
function areHeadings([label, ...texts], labelAbove) {
  if (!HEADER_LABEL.test(label) && label !== labelAbove) return false;
  const filled = texts.filter((text) => text !== "");
  return filled.length > 0 && filled.every((text) => /[\p{L}\d]/u.test(text) && !isAmount(text));
}

function isAmount(text) {
  return AMOUNT.test(text.trim()) && !YEAR_OR_DATE.test(text.trim());
}

/** One header row out of several: "Year ended" above "2009" is "Year ended 2009". */
function joinedHeader(lines) {
  const width = Math.max(...lines.map((line) => line.length));
  return Array.from({ length: width }, (_, column) => {
    const texts = lines.map((line) => line[column]?.text ?? "");
    return texts.filter((text, place) => text !== "" && text !== texts[place - 1]).join(" ");
  });
}

/** Lone signs joined to their number: ["revenue", "$", "(5", ")"] becomes ["revenue", "", "$ (5)", ""]. */
function withSigns(row) {
  const cells = [...row];
  for (let column = 1; column < cells.length; column += 1) {
    if (/^[$€£¥]? ?\(?$/.test(cells[column]) && /^[\d(.-]/.test(cells[column + 1] ?? "")) {
      const space = cells[column].endsWith("(") || cells[column] === "" ? "" : " ";
      cells[column + 1] = cells[column] + space + cells[column + 1];
      cells[column] = "";
    } else if (/^(\)? ?%|\) ?%?|% ?\))$/.test(cells[column])) {
      const before = cells.findLastIndex((text, place) => place > 0 && place < column && text !== "");
      if (before > 0) {
        cells[before] += cells[column];
        cells[column] = "";
      }
    }
  }
  return cells;
}

/** Neighbouring columns under one heading become one where no row has text in both; columns without text go. */
function withoutSplitColumns(rows) {
  const columns = rows[0].map((_, column) => rows.map((row) => row[column]));
  const kept = [];
  for (const column of columns) {
    const last = kept.at(-1);
    const clash = column.some((text, row) => row > 0 && text !== "" && last?.[row] !== "");
    if (last?.[0] === column[0] && !clash) kept[kept.length - 1] = last.map((text, row) => text || column[row]);
    else kept.push(column);
  }
  const filled = kept.filter((column, place) => place === 0 || column.some((text) => text !== ""));
  return rows.map((_, row) => filled.map((column) => column[row]));
}

/** The lines of text outside all tables. */
function linesAround(page) {
  page.querySelectorAll("table").forEach((one) => one.replaceWith("\n"));
  page.querySelectorAll(BLOCKS).forEach((one) => {
    one.before("\n");
    one.after("\n");
  });
  return page.body.textContent.split("\n").map(oneLine).filter((line) => line !== "");
}
