/** Footnote marks in HTML: 5,829<sup>3</sup> is the number 5,829, neither 58,293 nor two numbers. */

const RAISED_BY_STYLE = /vertical-align:\s*super|(?:^|[;\s])top:\s*-/;
const MARK = /^(?:\[.{1,20}\]|\(?(?:\d{1,2}|[a-z]|[ivx]{2,4}|[*†‡§¶#]{1,3})\)?)$/i;
const BETWEEN_MARKS = /[\s,]+|(?<=[\])])(?=[[(])/;
// Behind these a raised 2 or 3 is a square or a cube; not behind "£m" and "£100m".
const UNIT = /(?<![a-z$€£¥]|[$€£¥]\s?[\d.,]+)(?:m|km|cm|mm|ft|CO)$/;
const POWER_OF_TEN = /[a-z×·*] ?\(?10$/i;
const FRACTION = /^\s*[/⁄]\s*(?:$|(?:[248]|16|32)(?![\d.,]))/;
const NEAR = 40; // Characters that are looked at before and behind a mark.

/** Takes footnote marks out of a page. Units, ordinals, fractions and powers stay, as 10^6; no digits are joined. */
export function dropFootnoteMarks(page) {
  for (const one of page.querySelectorAll("sup, sub, span, font")) {
    const before = textBeside(one, "previousNode");
    const raised = one.matches("sup, sub") || (RAISED_BY_STYLE.test(one.getAttribute("style")) && before.trim() !== "");
    if (!raised) continue;
    const text = one.textContent.trim();
    const power = /^\d{1,2}$/.test(text) ? POWER_OF_TEN.test(before) : /^[-−]\d+$/.test(text) && /\w$/.test(before);
    const unit = one.matches("sub") ? /[A-Z]$/.test(before) : /^[23]$/.test(text) && UNIT.test(before);
    const beside = [one.nextSibling, one.previousSibling].map((node) => node?.textContent ?? "");
    const fraction = FRACTION.test(beside[0]) || /^\s*[/⁄]\s*$/.test(beside[1]);
    if (power) one.before("^");
    else if (!isMark(text) || unit || fraction) one.before(/\d$/.test(before) && /^\d/.test(text) ? " " : "");
    else one.replaceWith(separator(before, textBeside(one, "nextNode")));
  }
  for (const link of page.querySelectorAll("a[href*='#']")) {
    const text = link.textContent.trim();
    const before = textBeside(link, "previousNode");
    // Other links are values, as in "$ (32)", or the number of a note, as in "see note 5".
    const behind = /^\w/.test(text) ? /[\p{L}\d%)]$/u : /[\p{L}\d][^$£€¥]*$/u;
    if (isMark(text) && behind.test(before)) link.replaceWith(separator(before, textBeside(link, "nextNode")));
  }
}

/** True for one mark or several, as in "3", "(a)", "[note 2]", "*, †" or "(1)(2)". */
function isMark(text) {
  return MARK.test(text) || text.split(BETWEEN_MARKS).every((part) => MARK.test(part));
}

/** What stands in place of a mark between two texts. */
function separator(before, after) {
  return /[\p{L}\d]$/u.test(before) && /^[\p{L}\d]/u.test(after) ? " " : "";
}

/** The text next to an element, before it ("previousNode") or behind ("nextNode"), within its cell. */
function textBeside(one, step) {
  const page = one.ownerDocument;
  const walker = page.createTreeWalker(one.closest("td, th") ?? page, NodeFilter.SHOW_TEXT);
  walker.currentNode = one;
  let text = "";
  while (text.length < NEAR && walker[step]()) {
    const { data } = walker.currentNode;
    if (!one.contains(walker.currentNode)) text = step === "nextNode" ? text + data : data + text;
  }
  return step === "nextNode" ? text.slice(0, NEAR) : text.slice(-NEAR);
}
