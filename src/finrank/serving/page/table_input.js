/** A pasted table as rows of cells: from a spreadsheet (tabs), CSV or HTML. */

import { readHtmlTable } from "./html_table.js";
import { oneLine, sameLength } from "./rows.js";

const FORMS = { "\t": "tab-separated", ",": "CSV", ";": "CSV with semicolons" };

/**
 * The rows of a table written in any of the three forms, all of the same length, with what was noticed on the way.
 *
 * readTable(',2009\nrevenue,"5,829"') is {rows: [["", "2009"], ["revenue", "5,829"]], form: "CSV", notes: []}.
 */
export function readTable(text) {
  if (text.trim() === "") return { rows: [], form: "", notes: [] };
  if (/<(table|tr)[\s>]/i.test(text)) return { ...readHtmlTable(text), form: "HTML" };
  const separator = separatorOf(text);
  const rows = separatedRows(text, separator).filter((row) => row.some((cell) => cell !== ""));
  return { rows: sameLength(rows), form: FORMS[separator], notes: unevenRows(rows) };
}

/** Rows as tab-separated text that readTable reads back as the same rows. */
export function asTabSeparated(rows) {
  const quoted = (cell) => (cell.startsWith('"') ? `"${cell.replaceAll('"', '""')}"` : cell);
  return rows.map((row) => row.map(quoted).join("\t")).join("\n");
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

function unevenRows(rows) {
  const width = rows[0].length;
  const place = rows.findIndex((row) => row.length > width);
  if (place > 0) {
    const hint = "a number with commas needs quotes in CSV";
    return [`Row ${place + 1} has ${rows[place].length} cells, the first row ${width}: ${hint}.`];
  }
  return width === 1 ? ["Only one column was found: separate cells by tabs or commas."] : [];
}
