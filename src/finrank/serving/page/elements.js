/** Making elements. Text only ever becomes text nodes, never markup, so nothing that people paste can run. */

/** element("p", {class: "note"}, "a < b") is <p class="note">a &lt; b</p>; false and null are left out, true is "". */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== false && value != null) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== false && child != null));
  return made;
}

/** The words that only screen readers speak. */
export function spoken(text) {
  return element("span", { class: "spoken" }, text);
}

/**
 * A table whose first row is the header, in a box that scrolls by itself and can be reached by keyboard. `isUsed(row,
 * column)` tells the cells to mark: bold, boxed and spoken, not by colour alone.
 */
export function tableBox(rows, name, isUsed = () => false) {
  const cellOf = (text, row, column) => {
    const heading = text !== "" && (row === 0 || column === 0);
    const scope = heading && (row === 0 ? "col" : "row");
    const used = isUsed(row, column);
    const content = used ? element("mark", {}, text, spoken(" (used)")) : text;
    return element(heading ? "th" : "td", { scope, class: column > 0 && "number" }, content);
  };
  const lines = rows.map((cells, row) => element("tr", {}, ...cells.map((text, column) => cellOf(text, row, column))));
  const [header, ...body] = lines;
  const table = element("table", {}, element("thead", {}, header), element("tbody", {}, ...body));
  return element("div", { class: "scroll", role: "region", "aria-label": name, tabindex: "0" }, table);
}

/** counted(1, "cell") is "1 cell", counted(2, "cell") is "2 cells". */
export function counted(number, noun) {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}
