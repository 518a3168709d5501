/** Candidates as people write them, one per line: a program, a value, or `program = value`. */

/**
 * What the service takes, the line each candidate stands on (from 1), and the faults.
 *
 * readCandidates("add(1, 2)\n\n12%\nadd(1, 2) = 3").candidates is
 * ["add(1, 2)", {answer: 0.12}, {program: "add(1, 2)", answer: 3}], its lines [1, 3, 4].
 */
export function readCandidates(text) {
  const read = { candidates: [], lines: [], faults: [] };
  text.split("\n").forEach((raw, place) => {
    const line = raw.trim();
    if (line === "") return;
    const { candidate, fault } = readLine(line);
    if (fault) read.faults.push({ line: place + 1, message: `Line ${place + 1}: ${fault}` });
    else {
      read.candidates.push(candidate);
      read.lines.push(place + 1);
    }
  });
  return read;
}

function readLine(line) {
  const value = readValue(line);
  if (value !== null) return { candidate: { answer: value } };
  const both = /^(.+\))\s*=(.*)$/.exec(line);
  if (!both) return { candidate: line };
  const given = readValue(both[2]);
  if (given === null) return { fault: `after “=” comes a number, yes or no; found “${both[2].trim()}”.` };
  return { candidate: { program: both[1], answer: given } };
}

/** The value of a number as reports write it, "yes" or "no"; null for other text. "$ 1,637" is 1637, "(32)" is -32. */
export function readValue(text) {
  const trimmed = text.trim().toLowerCase().replace("\u2212", "-");
  if (trimmed === "yes" || trimmed === "no") return trimmed;
  const bracketed = /^[$€£]?\s*\((.*)\)$/.exec(trimmed);
  const parts = /^([+-]?\s*[$€£]?|[$€£]\s*[+-])\s*(\d[\d,]*\.?\d*|\.\d+)(e[+-]?\d+)?\s*(%?)$/.exec(
    bracketed ? bracketed[1].trim() : trimmed,
  );
  if (!parts || (bracketed && /[+-]/.test(parts[1]))) return null;
  const [, signs, digits, exponent = "", percent] = parts;
  // Moving the exponent instead of dividing keeps 12.3% at 0.123, without rounding errors.
  const power = Number(exponent.slice(1) || 0) - (percent ? 2 : 0);
  const size = Number(`${digits.replaceAll(",", "")}e${power}`);
  if (!Number.isFinite(size)) return null;
  return size !== 0 && (signs.includes("-") || bracketed) ? -size : size;
}
