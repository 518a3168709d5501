/** A pasted table as rows of cells: from a spreadsheet (tabs), CSV, Markdown or HTML. */

import { counted } from "./elements.js";
import { plainText, readHtmlTable } from "./html_table.js";
import { oneLine, sameLength } from "./rows.js";

const FORMS = { "\t": "tab-separated", ",": "CSV", ";": "CSV with semicolons" };
const BAR = /(?<!\\)\|/;
const DASHES = /^(?=.*\|)[\s|:]*-[\s|:-]*$/; // Between the header and the rows of a Markdown table.

/**
 * The rows of a table written in any of these forms, all of the same length, with what was noticed on the way.
 *
 * readTable(',2009\nrevenue,"5,829"') is {rows: [["", "2009"], ["revenue", "5,829"]], form: "CSV", notes: []}.
 */
export function readTable(text) {
  if (text.trim() === "") return { rows: [], form: "", notes: [] };
  if (/<(table|tr)[\s>]/i.test(text)) return { ...readHtmlTable(text), form: "HTML" };
  const barred = barredLines(text);
  if (barred) return readMarkdownTable(barred);
  const separator = separatorOf(text);
  const rows = separatedRows(text, separator).filter((row) => row.some((cell) => cell !== ""));
  const notes = unevenRows(rows, "a number with commas needs quotes in CSV");
  return { rows: sameLength(rows), form: FORMS[separator], notes };
}

/** Rows as tab-separated text that readTable reads back as the same rows. */
export function asTabSeparated(rows) {
  const quoted = (cell) => (cell.startsWith('"') ? `"${cell.replaceAll('"', '""')}"` : cell);
  return rows.map((row) => row.map(quoted).join("\t")).join("\n");
}

/**
 * The lines of a Markdown table, its line of dashes and how many other lines there are; null for other texts.
 *
 * Without a line of dashes all lines must have bars, as in " | 2009\nrevenue | 5,829".
 */
function barredLines(text) {
  const all = text.split("\n").map((line) => line.trim());
  const written = all.filter((line) => line !== "");
  const place = all.findIndex((line, at) => at > 0 && DASHES.test(line) && BAR.test(all[at - 1]));
  if (place < 0) {
    return !text.includes("\t") && written.every((line) => BAR.test(line)) ? { lines: written, others: 0 } : null;
  }
  const end = all.findIndex((line, at) => at > place && !BAR.test(line));
  const lines = [all[place - 1], ...all.slice(place + 1, end < 0 ? all.length : end)];
  return { lines, dashes: all[place], others: written.length - lines.length - 1 };
}

function readMarkdownTable({ lines, dashes, others }) {
  const edged = (dashes ? [dashes] : lines).every((line) => line.startsWith("|"));
  const inner = (line) => (edged ? line.replace(/^\|/, "") : line).replace(/(?<!\\)\|$/, "");
  const rows = lines.map((line) => inner(line).split(BAR).map(markdownCell));
  const left = others > 0 ? [`Left out: ${counted(others, "line")} around the table.`] : [];
  return { rows: sameLength(rows), form: "Markdown", notes: [...left, ...unevenRows(rows, "a bar in a cell is \\|")] };
}

/** A cell without Markdown's own signs and footnotes: "**$ 5,829**[^1]" is "$ 5,829". */
function markdownCell(written) {
  const text = written.trim().replace(/\[\^[^\]]*\]/g, "").replace(/^([*_`]{1,3})([^*_`]+)\1$/, "$2");
  const plain = text.replace(/\\([!-/:-@[-`{-~])/g, "$1");
  return /<\/?[a-z][^>]*>|&#?\w+;/i.test(plain) ? plainText(plain) : oneLine(plain);
}

function separatorOf(text) {
  if (text.includes("\t")) return "\t";
  const [first] = text.trim().replace(/"[^"]*"/g, "").split("\n");
  return first.split(";").length > first.split(",").length ? ";" : ",";
}

/** Rows of separated cells. A cell in quotes may hold the separator, line ends and doubled quotes (RFC 4180). */
function separatedRows(text, separator) {
  const plain = new RegExp(`[^${separator}\r\n]*`, "y");
  // A quote that is not closed before the next separator is an ordinary character, as in: 5" pipes.
  const quoted = new RegExp(` *"([^"]*(?:""[^"]*)*)" *(?=[${separator}\r\n]|$)`, "y");
  const rows = [[]];
  let place = 0;
  for (;;) {
    quoted.lastIndex = plain.lastIndex = place;
    const found = quoted.exec(text);
    const [whole] = found ?? plain.exec(text);
    rows.at(-1).push(oneLine(found ? found[1].replaceAll('""', '"') : whole));
    place += whole.length;
    if (place >= text.length) return rows;
    if (text[place] !== separator) {
      rows.push([]);
      if (text.startsWith("\r\n", place)) place += 1;
    }
    place += 1;
  }
}

function unevenRows(rows, hint) {
  const width = rows[0].length;
  const place = rows.findIndex((row) => row.length > width);
  if (place > 0) {
    return [`Row ${place + 1} has ${rows[place].length} cells, the first row ${width}: ${hint}.`];
  }
  return width === 1 ? ["Only one column was found: separate cells by tabs or commas."] : [];
}
