/** A ranking as people read it: how sure it is, answers with bars, and where on the page their numbers come from. */

import { counted, element, spoken, tableBox } from "./elements.js";

const FOLD_SENTENCES_ABOVE = 8; // Further sentences that no program uses are folded away on longer pages.
const UNIT = "\u00a0%"; // Never on a line of its own.

/**
 * Everything a response says about its request, as a fragment. The selected answer shows its evidence; `announce` is
 * called with a sentence about it when another one is selected.
 */
export function rankingView(response, request, announce) {
  const { answers, warnings = [] } = response;
  const evidence = element("div", { class: "evidence" });
  const cards = answers.map((answer, place) => answerCard(answer, place, request));
  const show = (place) => {
    evidence.replaceChildren(...evidenceView(answers[place], request));
    cards[place].append(evidence);
  };
  const fieldset = element(
    "fieldset",
    { class: "answers" },
    element("legend", {}, "Most probable first. Select one to see where its numbers come from."),
    ...cards,
  );
  fieldset.addEventListener("change", (event) => {
    const place = Number(event.target.value);
    const before = cards[place].getBoundingClientRect().top;
    show(place);
    // The card above has folded: what was selected stays where it was on the screen.
    window.scrollBy(0, cards[place].getBoundingClientRect().top - before);
    announce(evidenceSummary(answers[place]));
  });
  if (answers.length > 0) show(0);
  const view = document.createDocumentFragment();
  view.append(confidenceBox(response), ...(warnings.length > 0 ? [warningBox(warnings)] : []), fieldset);
  return view;
}

/** The ranking in a sentence, for the status line and screen readers. */
export function rankingSummary(response) {
  const { answers, abstain } = response;
  if (answers.length === 0) return "No answers.";
  const [best] = answers;
  const first = `${counted(answers.length, "answer")}. First: ${valueText(best)}, ${percent(best.probability)}.`;
  const failed = valueless(response).length;
  const rest = failed > 0 ? ` ${counted(failed, "candidate")} without a value.` : "";
  return first + (abstain ? " Too unsure to be relied on." : "") + rest;
}

/** The candidates without a value in the order of the request, each as {index, error}. */
export function valueless({ answers }) {
  const failed = answers.filter(({ answer, error }) => answer === null && error);
  const each = failed.flatMap(({ indices, error }) => indices.map((index) => ({ index, error })));
  return each.sort((one, other) => one.index - other.index);
}

/** A probability for people: 0.7124 is "71.2 %". Never 0 % or 100 % of what is only close to it. */
export function percent(probability) {
  if (probability > 0 && probability < 0.0005) return `under 0.1${UNIT}`;
  if (probability < 1 && probability >= 0.9995) return `over 99.9${UNIT}`;
  return (100 * probability).toFixed(1) + UNIT;
}

/** An answer's value for people: 11564 is "11,564", and null, of a program that fails, "no value". */
export function valueText({ answer }) {
  return typeof answer === "number" ? number(answer) : answer ?? "no value";
}

function number(value, digits = 5) {
  const tiny = value !== 0 && Math.abs(value) < 1e-5;
  return tiny ? value.toExponential(3) : value.toLocaleString("en-US", { maximumFractionDigits: digits });
}

function confidenceBox({ answers, abstain, calibrated, threshold }) {
  if (answers[0]?.answer === null) {
    return messageBox("warning", "No answer", "What ranks first has no value; the reason is below.");
  }
  const first = `The first answer has a probability of ${percent(answers[0]?.probability ?? 0)}`;
  const limit = threshold === null ? "" : `this model's threshold of ${percent(threshold)}`;
  if (abstain) {
    return messageBox("warning", "Too unsure to answer", `${first}, below ${limit}. Check it before you use it.`);
  }
  if (!calibrated) {
    const why = "Nobody has measured how often this model's probabilities come true: read them as an order, no more.";
    return messageBox("plain", "Confidence unknown", why);
  }
  if (threshold === null) {
    return messageBox("plain", "No threshold", `${first}, calibrated. This model has none, and never abstains.`);
  }
  return messageBox("good", "Sure enough to answer", `${first}, at or above ${limit}.`);
}

function messageBox(kind, title, text) {
  return element("p", { class: `message ${kind}` }, element("strong", {}, title), " ", text);
}

function warningBox(warnings) {
  const list = element("ul", {}, ...warnings.map((warning) => element("li", {}, warning)));
  return element("div", { class: "message warning" }, element("strong", {}, "Please note"), list);
}

function answerCard(answer, place, request) {
  const choice = element("input", { type: "radio", name: "answer", value: String(place), checked: place === 0 });
  const bar = element("span", { class: "bar", "aria-hidden": "true" }, element("span", { class: "filled" }));
  bar.firstChild.style.setProperty("--share", `${100 * answer.probability}%`);
  const kind = answer.answer === null ? "value none" : "value";
  const label = element(
    "label",
    {},
    choice,
    element("span", { class: "rank", "aria-hidden": "true" }, `${place + 1}.`),
    element("span", { class: kind }, valueText(answer), asPercentage(answer)),
    element("span", { class: "probability" }, spoken(", probability "), percent(answer.probability)),
    bar,
  );
  return element("div", { class: "answer" }, label, support(answer, request));
}

/** " = 1.639 %" behind 0.01639: percentages come out as fractions. */
function asPercentage({ answer }) {
  const shown = typeof answer === "number" && answer !== 0 && Math.abs(answer) < 1;
  return shown && element("span", { class: "percentage" }, ` = ${number(100 * answer, 3)}${UNIT}`);
}

function support({ answer, programs, index, indices, error, score }, { candidates }) {
  const places = indices.map((each) => each + 1);
  const scored = score === null ? "not scored" : `score ${score.toFixed(2)}`;
  const from = `${places.length === 1 ? "Candidate" : "Candidates"} ${places.join(", ")} · ${scored}`;
  const fault = answer === null ? "No value:" : "Does not execute:";
  const codes = programs.length === 0 && answer === null ? [candidates[index]] : programs;
  return element(
    "div",
    { class: "support" },
    codes.length > 0
      ? element("ul", {}, ...codes.map((code) => element("li", {}, element("code", {}, code))))
      : element("p", {}, "A value without a program."),
    error && element("p", { class: "fails" }, element("strong", {}, fault), ` ${error}`),
    element("p", { class: "note" }, from),
  );
}

function evidenceSummary(answer) {
  const { cells, sentences } = answer.evidence;
  const marked = `${counted(cells.length, "cell")} and ${counted(sentences.length, "sentence")} marked`;
  return `${valueText(answer)}: ${marked}.`;
}

function evidenceView(answer, { table, text }) {
  const { cells, sentences } = answer.evidence;
  const used = new Set(cells.map(([row, column]) => `${row},${column}`));
  const isUsed = (row, column) => used.has(`${row},${column}`);
  const parts = [element("h3", {}, "Where its numbers come from"), evidenceNote(answer)];
  if (table.length > 0) parts.push(tableBox(table, "The table, used cells marked", isUsed));
  if (text.length > 0) parts.push(...sentenceLists(text, new Set(sentences)));
  return parts;
}

function evidenceNote({ programs, evidence }) {
  const note = (...words) => element("p", { class: "note" }, ...words);
  if (programs.length === 0) return note("Without a program nothing says where this value comes from.");
  const found = evidence.cells.length + evidence.sentences.length > 0;
  const program = element("code", {}, programs[0]);
  return note(found ? "Marked: what holds the numbers of " : "Nothing on the page holds the numbers of ", program);
}

function sentenceLists(text, used) {
  const item = (place) => {
    const number = String(place + 1);
    if (!used.has(place)) return element("li", { value: number }, text[place]);
    return element("li", { value: number, class: "used" }, element("mark", {}, text[place]), spoken(" (used)"));
  };
  const list = (places) => element("ol", { class: "sentences" }, ...places.map(item));
  const places = text.map((_, place) => place);
  if (places.length <= FOLD_SENTENCES_ABOVE) return [list(places)];
  const others = places.filter((place) => !used.has(place));
  const summary = element("summary", {}, `${counted(others.length, "other sentence")}`);
  return [list(places.filter((place) => used.has(place))), element("details", {}, summary, list(others))];
}
