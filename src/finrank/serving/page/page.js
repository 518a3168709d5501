/** The page: reads the form, asks the service, shows the ranking or what is wrong. */

import { counted, element, tableBox } from "./elements.js";
import { rankingSummary, rankingView, valueless } from "./ranking_view.js";
import { curlCommand, health, rank } from "./service.js";
import { asTabSeparated, readTable } from "./table_input.js";

const FIELDS = ["question", "table", "text", "candidates", "key"];
const byId = (id) => document.getElementById(id);
const form = byId("ask");
const [question, table, text, candidates, key] = FIELDS.map(byId);
const inputs = [question, table, text, candidates];

let ranking = false; // A request is under way.
let untouched = ["", "", "", ""]; // The inputs as an example, or nobody, left them.

function announce(sentence) {
  byId("status").textContent = sentence;
}

// Reading the form

/** The request, the line of each candidate (from 1), and what keeps it from being sent. */
function readForm() {
  const written = candidates.value.split("\n").map((line) => line.trim());
  const lines = written.flatMap((line, place) => (line === "" ? [] : [place + 1]));
  const sentences = text.value.split("\n").map((line) => line.trim()).filter((line) => line !== "");
  const faults = [];
  // Anything else cannot stand in a header of HTTP.
  if (!/^[!-~]*$/.test(key.value.trim())) {
    faults.push({ field: "key", message: "A key holds only letters, digits and signs of ASCII, without spaces." });
  }
  if (question.value.trim() === "") faults.push({ field: "question", message: "Write the question to be answered." });
  if (lines.length === 0) {
    const message = "Write at least one candidate: a program such as subtract(5829, 5735), or a value.";
    faults.push({ field: "candidates", message });
  }
  const rows = readTable(table.value).rows;
  const asked = lines.map((line) => written[line - 1]);
  const request = { question: question.value.trim(), table: rows, text: sentences, candidates: asked };
  return { request, lines, faults };
}

function previewTable(extra = []) {
  const { rows, form: kind, notes } = readTable(table.value);
  const size = `Read as ${kind}: ${counted(rows.length, "row")}, ${counted(rows[0]?.length ?? 0, "column")}.`;
  byId("table-read").textContent = [...(kind ? [size] : []), ...notes, ...extra].join(" ");
  byId("table-preview").replaceChildren(...(rows.length > 0 ? [tableBox(rows, "The table as it was read")] : []));
}

/** Tables that are pasted as HTML become tab-separated text, and lines around them sentences where there are none. */
function pasteTable(event) {
  const plain = event.clipboardData.getData("text/plain");
  const html = event.clipboardData.getData("text/html") || plain;
  if (!/<table[\s>]/i.test(html)) return;
  const { rows, notes, around } = readTable(html);
  if (rows.length === 0) return;
  event.preventDefault();
  table.setRangeText(asTabSeparated(rows), table.selectionStart, table.selectionEnd, "end");
  if (around.length > 0 && text.value.trim() === "") {
    text.value = around.join("\n");
    notes.push(`${counted(around.length, "line")} around the table went into the sentences.`);
  }
  changed();
  previewTable(notes);
}

function changed() {
  byId("outdated").hidden = byId("answers").childElementCount === 0;
}

// Examples

function fill(values) {
  inputs.forEach((input, place) => (input.value = values[place]));
  clearFaults();
  changed();
  previewTable();
}

function useExample(example) {
  const before = inputs.map((input) => input.value);
  const own = before.some((value, place) => value !== untouched[place]);
  untouched = [example.question, asTabSeparated(example.table), example.text.join("\n"), example.candidates.join("\n")];
  fill(untouched);
  byId("undo").hidden = !own;
  byId("undo").onclick = () => {
    fill(before);
    byId("undo").hidden = true;
    question.focus();
    announce("What you had written is back.");
  };
  announce(`Filled in: ${example.title}.`);
}

async function offerExamples() {
  const examples = await (await fetch("examples.json")).json();
  for (const example of examples) {
    const button = element("button", { type: "button", class: "quiet" }, example.title);
    button.addEventListener("click", () => useExample(example));
    byId("undo").before(button);
  }
}

// What is wrong

function clearFaults() {
  byId("faults").replaceChildren();
  for (const field of FIELDS) {
    byId(field).removeAttribute("aria-invalid");
    byId(`${field}-fault`).textContent = "";
  }
}

/** Shows faults, {field or null, message, line?}, at their fields and in one alert; the focus goes to the first. */
function showFaults(faults) {
  const items = faults.map(({ field, message }) => {
    if (!FIELDS.includes(field)) return element("li", {}, message);
    byId(field).setAttribute("aria-invalid", "true");
    byId(`${field}-fault`).textContent = message;
    const name = document.querySelector(`label[for=${field}]`).textContent;
    return element("li", {}, element("a", { href: `#${field}` }, name), ": ", message);
  });
  const title = element("strong", {}, "This could not be ranked.");
  const list = element("ul", {}, ...items);
  const alert = element("div", { class: "message bad", role: "alert", tabindex: "-1" }, title, list);
  byId("faults").replaceChildren(alert);
  const [{ field, line }] = faults;
  const place = FIELDS.includes(field) ? byId(field) : alert;
  place.focus();
  if (line) selectLine(place, line);
}

function selectLine(area, line) {
  const lines = area.value.split("\n");
  const start = lines.slice(0, line - 1).reduce((sum, one) => sum + one.length + 1, 0);
  area.setSelectionRange(start, start + lines[line - 1].length);
}

/** The service's fault as one of ours: "candidates.1" is the second candidate, on its line of the field. */
function faultOf({ message, field, status }, lines) {
  if (status === 401) {
    byId("key-part").hidden = false;
    const refused = key.value.trim() !== "";
    return { field: "key", message: refused ? "The service refuses this key." : "The service asks for an API key." };
  }
  const [, name, index] = /^(\w+)(?:\D*(\d+))?/.exec(field ?? "") ?? [];
  const line = name === "candidates" && index ? lines[Number(index)] : undefined;
  return { field: name ?? null, message: line ? `Line ${line}: ${message.replace(`${field}: `, "")}` : message, line };
}

// Ranking

async function submit(event) {
  event.preventDefault();
  if (ranking) return;
  clearFaults();
  const { request, lines, faults } = readForm();
  if (faults.length > 0) {
    showFaults(faults);
    return;
  }
  setRanking(true);
  try {
    showRanking(await rank(request, key.value.trim()), request, lines);
  } catch (fault) {
    announce("");
    showFaults([faultOf(fault, lines)]);
  } finally {
    setRanking(false);
  }
}

function setRanking(now) {
  ranking = now;
  byId("rank").setAttribute("aria-disabled", String(now));
  byId("rank").textContent = now ? "Ranking…" : "Rank";
  byId("result").setAttribute("aria-busy", String(now));
  if (now) announce("Ranking…");
}

function showRanking(response, request, lines) {
  byId("empty").hidden = true;
  byId("outdated").hidden = true;
  byId("answers").replaceChildren(rankingView(response, request, announce));
  byId("curl").textContent = curlCommand(request, key.value.trim() !== "");
  byId("curl-part").hidden = false;
  const tokens = response.usage ? ` · ${counted(response.usage.prompt_tokens, "token")} read` : "";
  byId("made-by").textContent = `Ranked by ${response.model}${tokens}`;
  const failed = valueless(response).map(({ index, error }) => `Line ${lines[index]}: ${error}`);
  byId("candidates-fault").textContent = failed.join("\n");
  announce(rankingSummary(response));
  byId("result-heading").focus();
}

async function copyCurl() {
  try {
    await navigator.clipboard.writeText(byId("curl").textContent);
    announce("The command is copied.");
    byId("copied").textContent = "Copied";
  } catch {
    // Browsers refuse the clipboard to pages without TLS on other hosts than this one.
    getSelection().selectAllChildren(byId("curl"));
    byId("copied").textContent = "Selected: copy it with Ctrl+C";
  }
}

async function showHealth() {
  const said = await health();
  if (said?.status === "draining") byId("health").textContent = "The service is shutting down. ·";
  else byId("health").textContent = said?.model ? `Model ${said.model} ·` : said ? "" : "The service does not answer.";
}

form.addEventListener("submit", submit);
form.addEventListener("input", changed);
form.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
});
table.addEventListener("input", () => previewTable());
table.addEventListener("paste", pasteTable);
byId("faults").addEventListener("click", (event) => {
  const target = event.target.closest("a");
  if (!target) return;
  event.preventDefault();
  byId(target.hash.slice(1)).focus();
});
byId("copy").addEventListener("click", copyCurl);
previewTable(); // Browsers keep what was typed over a reload.
offerExamples();
showHealth();
