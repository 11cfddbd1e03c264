// The JSON API, spoken from the page; nothing else in the page calls fetch.
//
//   get(path, {signal})                   JSON of GET /api/<path>
//   binary(path, {signal})                ArrayBuffer of GET /api/<path>
//   post(path, body, {state, key, signal}) JSON of POST; body an object or FormData; state becomes
//                                         If-Match, key Idempotency-Key (newKey() makes one)
//   of(clustering, ...parts)              "clusterings/NAME/part/part", each part escaped
//   listen(clustering, {onState, onLost, onBack}) → stop(): the server's events; onLost(why, or null)
//
// Every failure is an ApiError: status (0: no answer), message (a sentence to show), and for a
// conflict (409) state and since, the edits that came between.

export class ApiError extends Error {
  constructor(status, sentence, body = {}) {
    super(sentence);
    this.status = status;
    this.state = body.state ?? null;
    this.since = body.since ?? [];
  }
}

const SILENCE = "The server does not answer. Is imageherd serve still running?";
const STRANGER = "This page is no longer signed in. Open the link that imageherd serve printed.";

async function failure(response) {
  let body = {};
  try {
    body = await response.json();
  } catch { /* An answer that is no JSON has nothing to say beyond its status. */ }
  if (response.status === 401) return new ApiError(401, STRANGER);
  const said = typeof body.detail === "string" ? body.detail : `The server answered ${response.status}.`;
  return new ApiError(response.status, said, body);
}

async function request(path, options) {
  let response;
  try {
    response = await fetch(`/api/${path}`, { credentials: "same-origin", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, SILENCE);
  }
  if (!response.ok) throw await failure(response);
  return response;
}

export const get = async (path, { signal } = {}) => (await request(path, { signal })).json();

export const binary = async (path, { signal } = {}) => (await request(path, { signal })).arrayBuffer();

export async function post(path, body, { state, key, signal } = {}) {
  const headers = {};
  if (state) headers["If-Match"] = `"${state}"`;
  if (key) headers["Idempotency-Key"] = key;
  const isForm = body instanceof FormData;
  if (!isForm) headers["Content-Type"] = "application/json";
  const sent = { method: "POST", headers, signal, body: isForm ? body : JSON.stringify(body ?? {}) };
  return (await request(path, sent)).json();
}

// crypto.randomUUID is absent where a page comes from another machine without TLS.
export function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

export const of = (clustering, ...parts) => ["clusterings", clustering, ...parts].map(encodeURIComponent).join("/");

const PATIENCE = 2500;

// A browser reopens a broken stream by itself, but gives up on an error answer: then we do.
export function listen(clustering, { onState, onLost, onBack }) {
  let source = null;
  let again = null;
  let worry = null;
  let lost = false;
  const open = () => {
    source = new EventSource(`/api/${of(clustering, "events")}`);
    source.onopen = () => {
      clearTimeout(worry);
      worry = null;
      if (lost) onBack();
      lost = false;
    };
    source.onmessage = (event) => {
      const { state } = JSON.parse(event.data);
      if (state) onState(state);
    };
    source.onerror = () => {
      worry ??= setTimeout(() => { lost = true; onLost(null); }, PATIENCE);
      if (source.readyState !== EventSource.CLOSED) return;
      again = setTimeout(open, PATIENCE);
      get("herd").catch((error) => { if (error.status === 401 && lost) onLost(error.message); });
    };
  };
  open();
  return () => {
    clearTimeout(again);
    clearTimeout(worry);
    source.close();
  };
}
