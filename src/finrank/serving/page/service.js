/** Talking to the service that this page comes from. */

const LONGEST_WAIT_MS = 120_000;
// Relative, so that the page also works below a path of a proxy.
const addressOf = (path) => new URL(path, document.baseURI).href;

/** Why there is no ranking: `field` is the part of the request at fault, null where none is; `status` the HTTP one. */
export class ServiceError extends Error {
  constructor(message, { type = "", field = null, status = 0 } = {}) {
    super(message);
    Object.assign(this, { type, field, status });
  }
}

/** The service's ranking of a request (POST /v1/rank). Throws ServiceError, with a message for people. */
export async function rank(request, apiKey) {
  const headers = { "Content-Type": "application/json" };
  if (apiKey) headers.Authorization = `Bearer ${apiKey}`;
  let response;
  let body;
  try {
    const signal = AbortSignal.timeout(LONGEST_WAIT_MS);
    response = await fetch(addressOf("v1/rank"), { method: "POST", headers, body: JSON.stringify(request), signal });
    body = await response.text();
  } catch (fault) {
    throw new ServiceError(
      fault.name === "TimeoutError"
        ? `The service gave no answer within ${LONGEST_WAIT_MS / 1000} seconds. Try again with fewer candidates.`
        : "The service cannot be reached. See whether it still runs, then try again.",
    );
  }
  const read = parsed(body);
  if (response.ok && Array.isArray(read?.answers)) return read;
  const { type, message, field } = read?.error ?? {};
  const unreadable = `The service answered with status ${response.status} and no reason that can be read. Try again.`;
  throw new ServiceError(message ?? unreadable, { type, field, status: response.status });
}

/** What the service says of itself (GET /health; 503 while it shuts down); null when it says nothing. */
export async function health() {
  try {
    const response = await fetch(addressOf("health"));
    return response.ok || response.status === 503 ? await response.json() : null;
  } catch {
    return null;
  }
}

/** The request as a shell command. The key itself is never written: it is taken from the environment. */
export function curlCommand(request, withKey) {
  const body = readableJson(request).replaceAll("'", "'\\''");
  const key = withKey ? ["  -H \"Authorization: Bearer $FINRANK_API_KEY\" \\"] : [];
  return [
    `curl -sS '${addressOf("v1/rank")}' \\`,
    ...key,
    "  -H 'Content-Type: application/json' \\",
    `  --data-raw '${body}'`,
  ].join("\n");
}

/** JSON with one line per field, and per item of a list. */
function readableJson(request) {
  const fields = Object.entries(request).map(([name, value]) => {
    const items = Array.isArray(value) && value.length > 0;
    const text = items ? `[\n  ${value.map((one) => JSON.stringify(one)).join(",\n  ")}\n ]` : JSON.stringify(value);
    return ` ${JSON.stringify(name)}: ${text}`;
  });
  return `{\n${fields.join(",\n")}\n}`;
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
