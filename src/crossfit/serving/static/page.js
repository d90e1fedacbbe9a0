/* The search page: one state (query, filter, number of results), which is in the address. */
const $ = (id) => document.getElementById(id);
const STEP = 24, MOST = 192, WAIT = 180, LONGEST = 10;
const state = { text: "", id: "", file: null, where: "", k: STEP };
let about = null, look = { filters: [], sample: [] }, shown = [], open = -1;
let request = null, timer = 0, typing = false, token = sessionStorage.getItem("token") || "";

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (name in node && name !== "list" && typeof value !== "string") node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

/* ---- asking the service ---- */

class Refusal extends Error {}

async function ask(path, options = {}) {
  const headers = { ...options.headers };
  if (token) headers.Authorization = `Bearer ${token}`;
  let answer;
  try {
    answer = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal("The service cannot be reached; is crossfit serve still running?");
  }
  if (answer.ok) return answer;
  const body = await answer.json().catch(() => ({}));
  if (answer.status === 401) {
    $("access-note").textContent = token ? "The token is wrong; try again." : "Whoever started it knows the token.";
    $("token").value = "";
    if (!$("access").open) $("access").showModal();
    throw new Refusal(token ? "The token is wrong." : "This service needs a token.");
  }
  throw new Refusal(sentence(answer.status, body.error));
}

function sentence(status, given = "") {
  const why = given ? given.charAt(0).toUpperCase() + given.slice(1) : "";
  if (status === 413) return "This file is too large for the service" + (why ? `: ${given}.` : ".");
  if (status === 415) return "This file is of a type that cannot be searched with" + (why ? `: ${given}.` : ".");
  if (status === 429) return "Many people are searching at this moment; try again in a second.";
  if (status === 503 || status === 504) return "The service is too busy at this moment; try again soon.";
  return (why || `The service answered with an error (${status})`).replace(/\.?$/, ".");
}

const json = (body, signal) => ({
  method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" }, signal,
});

function form(fields, signal) {
  const body = new FormData();
  body.append("file", state.file, state.file.name || "file");
  for (const [name, value] of Object.entries(fields)) if (value !== undefined) body.append(name, value);
  return { method: "POST", body, signal };
}

/* Pictures and sounds; with a token they cannot be loaded by their address alone. */
async function source(node, path) {
  if (!token) { node.src = path; return; }
  try {
    const blob = await (await ask(path)).blob();
    const address = URL.createObjectURL(blob);
    const free = () => URL.revokeObjectURL(address);
    node.addEventListener(node.localName === "audio" ? "emptied" : "load", free, { once: true });
    node.src = address;
  } catch (error) {
    node.dispatchEvent(new Event("error"));
  }
}

/* ---- searching ---- */

const hasQuery = () => Boolean(state.text.trim() || state.id || state.file);

function address() {
  const parts = new URLSearchParams();
  if (state.text.trim()) parts.set("q", state.text.trim());
  if (state.id) parts.set("like", state.id);
  if (state.where) parts.set("where", state.where);
  const query = parts.toString();
  return query ? `?${query}` : location.pathname;
}

/* One entry of the history per query; letters that are typed in a row are one query. */
function remember(whileTyping = false) {
  const here = address();
  if (here === (location.search || location.pathname) && !state.file) return;
  history[whileTyping && typing ? "replaceState" : "pushState"](null, "", here);
  typing = whileTyping;
}

function later() {
  clearTimeout(timer);
  timer = setTimeout(() => { remember(true); search(); }, WAIT);
}

async function search() {
  clearTimeout(timer);
  request?.abort();
  const mine = request = new AbortController();
  showQuery();
  if (!hasQuery()) { start(); return; }
  document.body.classList.add("busy");
  const settings = { k: state.k, where: state.where || undefined };
  try {
    const options = state.file ? form(settings, mine.signal)
      : json(state.id ? { id: state.id, ...settings } : { text: state.text.trim(), ...settings }, mine.signal);
    const answer = await (await ask("/search", options)).json();
    fail("");
    show(answer.results[0], answer.took_ms);
  } catch (error) {
    if (error.name === "AbortError") return;
    if (!(error instanceof Refusal)) throw error;
    show([]);
    fail(error.message);
  } finally {
    if (request === mine) document.body.classList.remove("busy");
  }
}

function fail(words) {
  $("error").textContent = words;
  $("error").hidden = !words;
  if (words) $("status").textContent = "";
}

function start() {
  document.body.classList.remove("busy");
  fail("");
  if (about && !about.gallery.n) {
    show([]);
    $("status").textContent = "The gallery is empty; add items to it, and they will be found here.";
    return;
  }
  show(look.sample);
  $("status").textContent = look.sample.length ? "Some items of the gallery" : "";
}

function count(n, kind = about?.gallery.kind) {
  const names = { picture: "picture", sound: "sound", text: "text" };
  return `${n.toLocaleString("en")} ${names[kind] || "item"}${n === 1 ? "" : "s"}`;
}

function show(results, took) {
  const added = results.length > shown.length && shown.every((row, at) => row.id === results[at].id);
  const old = added ? shown.length : 0;
  const list = $("results");
  list.className = results[0]?.kind || about?.gallery.kind || "";
  const scores = results.map((row) => row.score).filter(Number.isFinite);
  const [low, high] = [Math.min(...scores, 0), Math.max(...scores)];
  const tiles = results.slice(old).map((row, at) => tile(row, old + at, (row.score - low) / (high - low)));
  if (old) list.append(...tiles); else list.replaceChildren(...tiles);
  shown = results;
  $("more").hidden = !hasQuery() || results.length < state.k || state.k >= MOST;
  if (took !== undefined) {
    $("status").textContent = results.length
      ? `${count(results.length)} in ${took < 10 ? took.toFixed(1) : Math.round(took)} ms, best first`
      : state.where ? "Nothing in the gallery passes the filter; change or clear it."
        : "The gallery is empty; add items to it, and they will be found here.";
  }
  if (old) tiles[0]?.querySelector("button")?.focus();
}

const TITLES = ["title", "name", "caption", "text", "label"];

function caption(row) {
  for (const name of TITLES) if (row.payload[name]) return String(row.payload[name]);
  return row.id;
}

function thumbnail(row, lazy = true) {
  const node = make("img", { alt: "", loading: lazy ? "lazy" : "eager", decoding: "async", class: "thumb" });
  node.addEventListener("error", () => node.replaceWith(make("span", { class: "lost" }, "no picture")), { once: true });
  source(node, `/items/${encodeURIComponent(row.id)}/thumbnail`);
  return node;
}

function player(row) {
  const node = make("audio", { controls: true, preload: "none", "aria-label": `Play ${caption(row)}` });
  node.addEventListener("play", () => {
    for (const other of document.querySelectorAll("audio")) if (other !== node) other.pause();
  });
  source(node, row.file);
  return node;
}

function meter(share) {
  const drawing = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  drawing.setAttribute("class", "meter");
  drawing.setAttribute("viewBox", "0 0 100 4");
  drawing.setAttribute("preserveAspectRatio", "none");
  drawing.setAttribute("aria-hidden", "true");
  const bar = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  bar.setAttribute("width", Math.max(0, Math.min(1, share || 0)) * 100);
  bar.setAttribute("height", 4);
  drawing.append(bar);
  return drawing;
}

function tile(row, at, share) {
  const words = caption(row), scored = Number.isFinite(row.score);
  const label = `${words}${scored ? `, score ${row.score.toFixed(3)}, result ${at + 1}` : ""}`;
  const text = make("span", { class: "words" }, words);
  const figure = scored ? make("span", { class: "score" }, row.score.toFixed(3)) : null;
  const button = make("button", { type: "button", class: "open", "aria-label": label, title: words.slice(0, 200) });
  if (row.kind === "picture") button.append(thumbnail(row));
  button.append(make("span", { class: "line" }, text, ...(figure ? [figure] : [])));
  if (scored) button.append(meter(share));
  button.addEventListener("click", () => view(at));
  return make("li", {}, button, row.kind === "sound" && row.file ? player(row) : null);
}

/* ---- the query: a text, a file, or an item of the gallery ---- */

function showQuery() {
  const given = Boolean(state.file || state.id);
  $("given").hidden = !given;
  $("text").placeholder = given ? "" : about?.accepts.includes("text") ? "Describe what you look for" : "Drop or choose a file to search with";
  document.body.classList.toggle("with-query", given);
  document.title = `${hasQuery() ? state.text.trim() || (state.id ? `Like ${state.id}` : state.file.name) : "Search"} – ${about?.name || "crossfit"}`;
  if (!given) return;
  const picture = $("given").querySelector(".pic"), name = $("given").querySelector(".name");
  const words = state.file ? state.file.name || "picture" : `like ${state.id}`;
  if (name.textContent === words && name.dataset.of === String(state.file?.lastModified)) return;
  name.textContent = words;
  name.dataset.of = String(state.file?.lastModified);
  picture.replaceChildren();
  if (state.file?.type.startsWith("image/")) {
    const node = make("img", { alt: "" });
    node.src = URL.createObjectURL(state.file);
    node.addEventListener("load", () => URL.revokeObjectURL(node.src), { once: true });
    node.addEventListener("error", () => node.remove(), { once: true });
    picture.append(node);
  } else if (state.id && about?.gallery.kind === "picture") {
    picture.append(thumbnail({ id: state.id, payload: {} }, false));
  }
}

function query(change) {
  Object.assign(state, { text: "", id: "", file: null, k: STEP }, change);
  $("text").value = state.text;
  remember();
  search();
}

function take(file) {
  if (!file) return;
  if (!about?.accepts.some((kind) => kind !== "text")) {
    fail("This service takes no files; search with a text.");
    return;
  }
  query({ file });
  $("drop-query").focus();
}

function similar(row) {
  $("item").close();
  query({ id: row.id });
  scrollTo(0, 0);
  $("drop-query").focus();
}

/* ---- recording: what browsers record is decoded again and sent as WAV ---- */

let recorder = null;

async function record() {
  if (recorder) { recorder.stop(); return; }
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ audio: true });
  } catch {
    fail("The microphone cannot be used; allow it for this page, or choose a file.");
    return;
  }
  const parts = [];
  recorder = new MediaRecorder(stream);
  recorder.addEventListener("dataavailable", (event) => parts.push(event.data));
  recorder.addEventListener("stop", async () => {
    clearTimeout(limit);
    for (const track of stream.getTracks()) track.stop();
    const type = recorder.mimeType;
    recorder = null;
    $("record").setAttribute("aria-pressed", "false");
    $("record").setAttribute("aria-label", "Record a sound");
    try {
      take(await asWav(new Blob(parts, { type })));
    } catch {
      fail("The recording is empty; try again.");
    }
  });
  const limit = setTimeout(() => recorder?.stop(), LONGEST * 1000);
  recorder.start();
  fail("");
  $("record").setAttribute("aria-pressed", "true");
  $("record").setAttribute("aria-label", "Stop recording");
  $("status").textContent = `Recording for at most ${LONGEST} seconds; press the button again to search.`;
}

async function asWav(blob) {
  const context = new AudioContext();
  const sound = await context.decodeAudioData(await blob.arrayBuffer());
  context.close();
  const samples = sound.getChannelData(0), data = new DataView(new ArrayBuffer(44 + 2 * samples.length));
  const ascii = (at, word) => [...word].forEach((letter, i) => data.setUint8(at + i, letter.charCodeAt(0)));
  ascii(0, "RIFF"); data.setUint32(4, 36 + 2 * samples.length, true); ascii(8, "WAVEfmt ");
  data.setUint32(16, 16, true); data.setUint16(20, 1, true); data.setUint16(22, 1, true);
  data.setUint32(24, sound.sampleRate, true); data.setUint32(28, 2 * sound.sampleRate, true);
  data.setUint16(32, 2, true); data.setUint16(34, 16, true);
  ascii(36, "data"); data.setUint32(40, 2 * samples.length, true);
  samples.forEach((value, at) => data.setInt16(44 + 2 * at, Math.max(-1, Math.min(1, value)) * 32767, true));
  return new File([data], "recording.wav", { type: "audio/wav" });
}

/* ---- filters: each column makes a term, and the terms are the expression ---- */

const word = (column) => /^[A-Za-z_]\w*$/.test(column) ? column : `column(${quoted(column)})`;
const quoted = (value) => `'${String(value).replace(/\\/g, "\\\\").replace(/'/g, "\\'").replace(/\n/g, "\\n")}'`;

function constant(value) {
  if (typeof value === "boolean") return value ? "True" : "False";
  return typeof value === "number" ? String(value) : quoted(value);
}

function terms() {
  const found = [];
  for (const box of $("columns").children) {
    const column = word(box.dataset.column);
    if (box.choices) {
      const [choice] = box.choices[box.querySelector("select").selectedIndex - 1] || [];
      if (choice !== undefined) found.push(`${column} == ${constant(choice)}`);
    } else {
      const [low, high] = box.querySelectorAll("input");
      if (low.value !== "" && low.validity.valid) found.push(`${column} >= ${Number(low.value)}`);
      if (high.value !== "" && high.validity.valid) found.push(`${column} <= ${Number(high.value)}`);
    }
  }
  return found;
}

function fromColumns() {
  $("where").value = terms().join(" and ");
  filter();
}

function filter() {
  state.where = $("where").value.trim();
  state.k = STEP;
  showFilter();
  remember();
  search();
}

function showFilter() {
  $("toggle").textContent = state.where ? `Filter: ${state.where}` : "Filters";
  $("toggle").classList.toggle("on", Boolean(state.where));
  $("clear").disabled = !state.where;
}

/* Show in the columns what the expression says, as far as it is a conjunction of their terms. */
function toColumns() {
  const wanted = new Set(state.where ? state.where.split(" and ") : []);
  for (const box of $("columns").children) {
    const column = word(box.dataset.column);
    if (box.choices) {
      const at = box.choices.findIndex(([value]) => wanted.has(`${column} == ${constant(value)}`));
      box.querySelector("select").selectedIndex = at + 1;
    } else {
      const [low, high] = box.querySelectorAll("input");
      for (const [node, sign] of [[low, ">="], [high, "<="]]) {
        const term = [...wanted].find((each) => each.startsWith(`${column} ${sign} `));
        node.value = term ? term.slice(column.length + sign.length + 2) : "";
      }
    }
  }
}

function buildFilters() {
  $("columns").replaceChildren(...look.filters.map((each) => {
    let box;
    if (each.choices) {
      const select = make("select", { "aria-label": each.column }, make("option", {}, "any"),
        ...each.choices.map(([value, n]) => make("option", {}, `${value} (${n.toLocaleString("en")})`)));
      box = make("label", {}, make("span", {}, each.column), select);
      box.choices = each.choices;
    } else {
      const bound = (name, value) => make("input", {
        type: "number", step: "any", "aria-label": `${each.column}, ${name}`, placeholder: String(value),
      });
      box = make("div", { class: "range", role: "group", "aria-label": each.column }, make("span", {}, each.column),
        make("span", { class: "pair" }, bound("at least", each.low), make("span", { "aria-hidden": "true" }, "–"), bound("at most", each.high)));
    }
    box.dataset.column = each.column;
    box.addEventListener("change", fromColumns);
    return box;
  }));
  const columns = Object.keys(about.gallery.columns);
  $("toggle").hidden = !columns.length;
  const first = look.filters[0];
  if (first) $("where").placeholder = first.choices ? `${word(first.column)} == ${constant(first.choices[0][0])}` : `${word(first.column)} > ${first.low}`;
}

/* ---- one item ---- */

function view(at) {
  open = at;
  const row = shown[at];
  $("item-name").textContent = caption(row).length > 90 ? row.id : caption(row);
  const media = $("media");
  media.className = row.kind;
  if (row.kind === "picture") {
    const node = make("img", { alt: caption(row) });
    node.addEventListener("error", () => node.replaceWith(make("p", {}, "The picture cannot be shown.")), { once: true });
    source(node, row.file);
    media.replaceChildren(node);
  } else if (row.kind === "sound") {
    media.replaceChildren(player(row));
  } else {
    media.replaceChildren(make("blockquote", {}, String(row.payload.text ?? caption(row))));
  }
  $("score").textContent = Number.isFinite(row.score) ? `Result ${row.rank} of ${shown.length}, score ${row.score.toFixed(4)}` : "";
  const facts = [["id", row.id], ...Object.entries(row.payload).filter(([name, value]) => name !== "id" && value !== null && value !== "" && !(name === "text" && row.kind === "text"))];
  $("payload").replaceChildren(...facts.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, typeof value === "object" ? JSON.stringify(value) : String(value))]));
  $("previous").disabled = at === 0;
  $("next").disabled = at === shown.length - 1;
  $("why").hidden = !hasQuery();
  $("why").setAttribute("aria-expanded", "false");
  $("because").hidden = true;
  if (!$("item").open) $("item").showModal();
  $("item").querySelector(".body").scrollTop = 0;
}

function step(by) {
  if (shown[open + by]) view(open + by);
}

async function because() {
  const box = $("because"), row = shown[open];
  const expanded = $("why").getAttribute("aria-expanded") === "true";
  $("why").setAttribute("aria-expanded", String(!expanded));
  box.hidden = expanded;
  if (expanded) return;
  box.replaceChildren(make("p", { class: "note" }, "Looking for the reasons …"));
  try {
    const asked = { item: row.id, ...(state.id ? { id: state.id } : { text: state.text.trim() }) };
    const answer = await (await ask("/explain", state.file ? form({ item: row.id }) : json(asked))).json();
    if (shown[open] !== row) return;
    reasons(box, row, answer);
    box.scrollIntoView({ block: "nearest", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    box.replaceChildren(make("p", {}, error.message));
  }
}

const signed = (value) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(3)}`;

function strip(rows) {
  return make("ul", { class: rows[0]?.kind === "picture" ? "strip pictures" : "strip" }, ...rows.map((row) => make("li", { title: caption(row) },
    row.kind === "picture" ? named(thumbnail(row), caption(row)) : make("span", {}, caption(row)))));
}

function end(label, { words, items }) {
  if (!items.length) return null;
  return make("div", { class: `end ${label.split(" ")[0]}` },
    make("p", {}, label, " ", words.length ? make("strong", {}, words.join(", ")) : "these items"),
    strip(items[0].kind === "text" ? items.slice(0, 3) : items));
}

function named(node, words) {
  node.alt = words;
  return node;
}

/* Weights become one of eleven classes, because the page has no inline styles. */
const level = (share) => `w${Math.round(Math.max(0, Math.min(1, share)) * 10)}`;

function marked(words) {
  return make("p", { class: "marked" }, ...words.flatMap(([text, share, label]) => [
    make("mark", { class: level(Math.abs(share)) + (share < 0 ? " against" : ""), title: label }, text), " "]));
}

function regions(row, boxes) {
  const canvas = make("canvas", { role: "img", "aria-label": "The picture, bright where the method looks" });
  const picture = new Image();
  picture.addEventListener("load", () => {
    const scale = Math.min(1, 480 / picture.naturalWidth);
    [canvas.width, canvas.height] = [picture.naturalWidth * scale, picture.naturalHeight * scale];
    const pen = canvas.getContext("2d");
    pen.drawImage(picture, 0, 0, canvas.width, canvas.height);
    const light = document.createElement("canvas");
    [light.width, light.height] = [canvas.width, canvas.height];
    const shade = light.getContext("2d");
    shade.fillStyle = "#000";
    shade.fillRect(0, 0, light.width, light.height);
    shade.globalCompositeOperation = "lighten";
    for (const [left, top, right, bottom, weight] of boxes) {
      const grey = Math.round(51 + 204 * Math.max(0, weight));
      shade.fillStyle = `rgb(${grey} ${grey} ${grey})`;
      shade.fillRect(left * light.width, top * light.height, (right - left) * light.width, (bottom - top) * light.height);
    }
    pen.globalCompositeOperation = "multiply";
    pen.drawImage(light, 0, 0);
  });
  source(picture, row.file);
  return canvas;
}

function reasons(box, row, answer) {
  const parts = [make("h3", {}, "Why this one")];
  for (const map of answer.attention) {
    if (map.words) parts.push(make("p", { class: "note" }, "What the method reads"), marked(map.words.map(([text, w]) => [text, w, `weight ${w.toFixed(2)}`])));
    if (map.regions && row.kind === "picture") parts.push(make("p", { class: "note" }, "Where the method looks"), regions(row, map.regions));
  }
  const words = answer.words.map(({ word: text, change }) => [text, change]);
  const most = Math.max(...words.map(([, change]) => Math.abs(change)), 1e-9);
  if (words.length) {
    parts.push(make("p", { class: "note" }, "Words, by how much the score falls without each of them"),
      marked(words.map(([text, change]) => [text, change / most, signed(change)])));
  }
  if (answer.directions.length) {
    const top = Math.abs(answer.directions[0].part);
    const rest = answer.score - answer.directions.reduce((sum, each) => sum + each.part, 0) - answer.rest;
    const stage = about.rerank ? " of the first stage" : "";
    parts.push(
      make("p", { class: "note" }, `The score ${answer.score.toFixed(3)}${stage} is a sum over ${answer.dimensions} shared directions. These ${answer.directions.length} ${answer.directions[0].part < 0 ? "take most away" : "add most"}; each leads towards some items of the gallery and away from others.`),
      make("ol", { class: "directions" }, ...answer.directions.map((each) => make("li", {},
        make("div", { class: "line" }, make("span", {}, `direction ${each.number}`), make("b", {}, signed(each.part))),
        meter(Math.abs(each.part) / (top || 1)), end("towards", each.towards), end("away from", each.away)))),
      make("p", { class: "sum" }, [
        answer.dimensions > answer.directions.length ? `The other ${answer.dimensions - answer.directions.length} together: ${signed(rest)}` : "",
        Math.abs(answer.rest) > 5e-4 ? `Correction: ${signed(answer.rest)}` : "",
      ].filter(Boolean).join("; ")));
  }
  if (answer.alike.length) parts.push(make("p", { class: "note" }, "Closest to it in the gallery"), strip(answer.alike));
  if (parts.length === 1) parts.push(make("p", { class: "note" }, "This method scores pairs as a whole; it does not show its reasons."));
  box.replaceChildren(...parts);
}

/* ---- keyboard, drop, paste, history ---- */

function move(key) {
  const buttons = [...document.querySelectorAll("#results .open")];
  const at = buttons.indexOf(document.activeElement);
  if (at < 0) return false;
  const top = (node) => Math.round(node.getBoundingClientRect().top);
  const firstRow = top(buttons[0]);
  const columns = Math.max(1, buttons.findIndex((node) => top(node) > firstRow + 8));
  const wide = buttons.every((node) => top(node) <= firstRow + 8) ? buttons.length : columns;
  const to = { ArrowRight: at + 1, ArrowLeft: at - 1, ArrowDown: at + wide, ArrowUp: at - wide, Home: 0, End: buttons.length - 1 }[key];
  if (to === undefined) return false;
  if (to < 0 && key === "ArrowUp") $("text").focus();
  else buttons[Math.max(0, Math.min(buttons.length - 1, to))].focus();
  return true;
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typed = event.target.closest("input, select, textarea, audio");
  if ($("item").open) {
    if (!typed && (event.key === "ArrowLeft" || event.key === "ArrowRight")) step(event.key === "ArrowLeft" ? -1 : 1);
    return;
  }
  if ($("access").open) return;
  if (event.key === "/" && !typed) {
    event.preventDefault();
    $("text").focus();
    $("text").select();
  } else if (event.target === $("text") && event.key === "ArrowDown") {
    event.preventDefault();
    document.querySelector("#results .open")?.focus();
  } else if (event.key === "Escape" && (event.target === $("text") || event.target.closest("#results, #given"))) {
    if (event.target !== $("text")) $("text").focus();
    else if (hasQuery()) query({});
  } else if (event.target === $("text") && event.key === "Backspace" && !$("text").value && (state.id || state.file)) {
    query({});
  } else if (!typed && move(event.key)) {
    event.preventDefault();
  }
});

$("text").addEventListener("input", () => {
  Object.assign(state, { text: $("text").value, id: "", file: null, k: STEP });
  later();
});
$("search").addEventListener("submit", (event) => {
  event.preventDefault();
  remember(true);
  typing = false;
  search();
});
$("home").addEventListener("click", (event) => {
  event.preventDefault();
  $("where").value = state.where = "";
  toColumns();
  showFilter();
  query({});
  $("text").focus();
});
$("drop-query").addEventListener("click", () => { query({}); $("text").focus(); });
$("choose").addEventListener("click", () => $("file").click());
$("file").addEventListener("change", () => { take($("file").files[0]); $("file").value = ""; });
$("record").addEventListener("click", record);
$("toggle").addEventListener("click", () => {
  $("filters").hidden = !$("filters").hidden;
  $("toggle").setAttribute("aria-expanded", String(!$("filters").hidden));
});
$("where").addEventListener("change", () => { filter(); toColumns(); });
$("where").addEventListener("keydown", (event) => {
  if (event.key !== "Enter") return;
  event.preventDefault();
  filter();
  toColumns();
});
$("clear").addEventListener("click", () => { $("where").value = ""; filter(); toColumns(); $("toggle").focus(); });
$("more").addEventListener("click", () => { state.k += STEP; search(); });
$("previous").addEventListener("click", () => step(-1));
$("next").addEventListener("click", () => step(1));
$("close").addEventListener("click", () => $("item").close());
$("item").addEventListener("click", (event) => { if (event.target === $("item")) $("item").close(); });
$("item").addEventListener("close", () => {
  for (const node of $("media").querySelectorAll("audio")) node.pause();
  document.querySelectorAll("#results .open")[open]?.focus();
});
$("similar").addEventListener("click", () => similar(shown[open]));
$("why").addEventListener("click", because);
$("access").addEventListener("close", () => {
  token = $("token").value.trim();
  sessionStorage.setItem("token", token);
  if (token) begin();
});

let depth = 0;
const carries = (event) => event.dataTransfer?.types.includes("Files");
document.addEventListener("dragenter", (event) => { if (carries(event)) { depth += 1; $("curtain").hidden = false; } });
document.addEventListener("dragleave", () => { depth = Math.max(0, depth - 1); if (!depth) $("curtain").hidden = true; });
document.addEventListener("dragover", (event) => { if (carries(event)) event.preventDefault(); });
document.addEventListener("drop", (event) => {
  depth = 0;
  $("curtain").hidden = true;
  if (!carries(event)) return;
  event.preventDefault();
  if ($("item").open) $("item").close();
  take(event.dataTransfer.files[0]);
});
document.addEventListener("paste", (event) => {
  const file = event.clipboardData?.files[0];
  if (!file) return;
  event.preventDefault();
  take(file);
});
addEventListener("popstate", () => { typing = false; fromAddress(); search(); });

function fromAddress() {
  const parts = new URLSearchParams(location.search);
  Object.assign(state, { text: parts.get("q") || "", id: parts.get("like") || "", file: null, where: parts.get("where") || "", k: STEP });
  if (state.id) state.text = "";
  $("text").value = state.text;
  $("where").value = state.where;
  toColumns();
  showFilter();
}

async function begin() {
  try {
    about = await (await ask("/about")).json();
    look = await (await ask("/gallery")).json();
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    fail(error.message);
    if (!about) return;
  }
  const files = about.accepts.filter((kind) => kind !== "text");
  $("about").textContent = `${count(about.gallery.n)}, searched by ${about.method || about.name}`;
  $("choose").hidden = !files.length;
  $("choose").setAttribute("aria-label", `Search with a ${files.join(" or a ")}`);
  $("choose").querySelector(".of-picture").toggleAttribute("hidden", !files.includes("picture"));
  $("choose").querySelector(".of-sound").toggleAttribute("hidden", files.includes("picture"));
  $("choose").title = $("choose").getAttribute("aria-label");
  $("file").accept = files.map((kind) => (kind === "picture" ? "image/*" : "audio/*")).join(",");
  $("record").hidden = !files.includes("sound") || !navigator.mediaDevices || !window.MediaRecorder;
  $("hint").textContent = files.length ? `Or drop, paste or choose a ${files.join(" or a ")}.` : "";
  $("text").disabled = !about.accepts.includes("text");
  buildFilters();
  fromAddress();
  if (state.where) { $("filters").hidden = false; $("toggle").setAttribute("aria-expanded", "true"); }
  await search();
  document.body.classList.add("ready");
}

begin();
