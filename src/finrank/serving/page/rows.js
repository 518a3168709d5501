/** What reading a table from any form needs: cells of one line, rows of one length. */

/** A cell's text on one line, without odd spaces. */
export function oneLine(text) {
  return text.replace(/\s+/g, " ").trim();
}

/** The rows with empty cells added, so that all are as long as the longest. */
export function sameLength(rows) {
  const width = Math.max(0, ...rows.map((row) => row.length));
  return rows.map((row) => [...row, ...Array(width - row.length).fill("")]);
}
