"use strict";
// The page of one video. `state` and `view` say what is shown; after they change, one of the render functions draws it.

const inSeconds = data.in_seconds;
const toRow = ([label, start, end, score], i) => ({ name: data.labels[label], label, start, end, score, i });
const detections = data.detections.map(toRow);
const truth = (data.truth ?? []).map(toRow);
const ambiguous = (data.ambiguous ?? []).map(([start, end]) => ({ start, end }));
const hasTruth = data.truth !== null;
const best = detections.length ? detections[0].score : 1; // they come best first
const video = byId("video");
const view = { from: 0, to: data.end };
const state = { score: data.min_score, tiou: 0.5, query: "", time: 0, chosen: null, shown: [], shownTruth: [] };
let hasVideo = data.media !== null;
let curves = null;

const timeText = (time) => formatTime(time, inSeconds);

function verdict(row) {
  if (!hasTruth) return "";
  if (row.match) return "right";
  if (row.isExcused) return "not counted (ambiguous)";
  return row.overlap >= state.tiou ? "wrong (found already)" : "wrong";
}

// What is shown

function renderAll() {
  const query = state.query.trim().toLowerCase();
  const isAsked = (row) => !query || row.name.toLowerCase().includes(query);
  state.shown = detections.filter((row) => row.score >= state.score && isAsked(row));
  state.shownTruth = truth.filter(isAsked);
  if (!state.shown.includes(state.chosen)) state.chosen = null;
  renderTimeline();
  renderCount();
  table.show(state.shown);
}

function renderTimeline() {
  const lanes = new Map();
  const laneOf = (row) => {
    if (!lanes.has(row.label)) lanes.set(row.label, { name: row.name, detections: [], truth: [] });
    return lanes.get(row.label);
  };
  for (const row of state.shown) laneOf(row).detections.push(row);
  for (const row of state.shownTruth) laneOf(row).truth.push(row);
  const width = byId("axis").clientWidth;
  drawAxis(byId("axis"), { view, width, inSeconds });
  drawLanes(byId("lanes"), [...lanes.values()], { view, width, best: Math.max(1, best), hasTruth, describe: describeLane });
  byId("more").hidden = lanes.size <= MOST_LANES;
  byId("more").textContent = `${count(lanes.size - MOST_LANES, "more class", "more classes")}: raise the score, or search for a class.`;
  renderChosen();
  renderTime();
}

function describeLane({ name, detections: found, truth: annotated }) {
  const top = found[0];
  const detected = count(found.length, "detection");
  const bestOne = top ? `, the best from ${timeText(top.start)} to ${timeText(top.end)} with score ${top.score.toFixed(2)}` : "";
  const known = hasTruth ? `; ${count(annotated.length, "annotated action")}` : "";
  return `${plainName(name)}: ${detected}${bestOne}${known}`;
}

function describeBar(row) {
  const kind = row.score === undefined ? "annotated" : `score ${row.score.toFixed(4)} ${verdict(row)}`;
  return `${plainName(row.name)}\n${timeText(row.start)} to ${timeText(row.end)}\n${kind}`;
}

function renderCount() {
  byId("score-value").textContent = state.score.toFixed(2);
  byId("tiou-value").textContent = state.tiou.toFixed(2);
  const parts = [`${state.shown.length.toLocaleString("en")} of ${count(detections.length, "detection")}`];
  if (hasTruth) {
    const right = state.shown.filter((row) => row.match).length;
    const excused = state.shown.filter((row) => row.isExcused).length;
    parts.push(`${right} right and ${state.shown.length - right - excused} wrong at tIoU ${state.tiou.toFixed(2)}`);
    if (excused) parts.push(`${excused.toLocaleString("en")} not counted, because what is there is ambiguous`);
    parts.push(`${right} of ${count(state.shownTruth.length, "annotated action")} found`);
  }
  if (detections.length && !state.shown.length) parts.push(`the best one scores ${best.toFixed(2)}`);
  byId("count").textContent = `${parts.join("; ")}.`;
}

function renderChosen() {
  for (const old of document.querySelectorAll(".chosen")) old.remove();
  const row = state.chosen;
  byId("selected").textContent = "";
  if (!row) return;
  const judged = hasTruth ? `, ${verdict(row)} (largest tIoU ${row.overlap.toFixed(2)})` : "";
  const span = `${timeText(row.start)} to ${timeText(row.end)}`;
  byId("selected").append(nameNode(row.name), `, ${span}, score ${row.score.toFixed(4)}${judged}`);
  const drawing = [...document.querySelectorAll("#lanes .track")].find((track) => track.lane.detections.includes(row));
  if (!drawing) return; // its lane is one of those left out
  const d = barPath(row, row.row * (BAR + GAP), BAR, view, byId("axis").clientWidth);
  if (d) drawing.append(draw("path", { class: "chosen", d }));
}

function renderTime() {
  const axis = byId("axis");
  const offset = axis.getBoundingClientRect().left - byId("timeline").getBoundingClientRect().left;
  const now = byId("now");
  now.hidden = state.time < view.from || state.time > view.to;
  now.style.left = `${offset + ((state.time - view.from) / (view.to - view.from)) * axis.clientWidth}px`;
  byId("scrubber").setAttribute("aria-valuenow", state.time.toFixed(3));
  byId("scrubber").setAttribute("aria-valuetext", timeText(state.time));
  curves?.move(state.time);
}

// What changes it

/** Go to a time; the view follows. */
function seek(time) {
  setTime(Math.min(Math.max(time, 0), data.end));
  if (hasVideo) video.currentTime = inSeconds ? state.time : state.time * (video.duration || 0);
}

function setTime(time) {
  state.time = time;
  if (time >= view.from && time <= view.to) return renderTime();
  const span = view.to - view.from;
  setView(time - span / 2, time + span / 2);
}

function choose(row) {
  state.chosen = row;
  renderChosen();
  seek(row.start);
}

/** The next (1) or previous (-1) detection in order of time, seen from the chosen one or else from the playhead. */
function step(direction) {
  const order = [...state.shown].sort((a, b) => a.start - b.start || a.i - b.i);
  if (!order.length) return;
  let at = order.indexOf(state.chosen) + direction;
  if (!state.chosen) {
    at = order.findIndex((row) => row.start >= state.time);
    if (direction < 0) at = (at < 0 ? order.length : at) - 1;
  }
  if (order[at]) choose(order[at]);
}

function setView(from, to) {
  const span = Math.min(to - from, data.end);
  view.from = Math.min(Math.max(from, 0), data.end - span);
  view.to = view.from + span;
  renderTimeline();
  curves?.show();
  curves?.move(state.time);
}

function zoom(factor) {
  const span = Math.max((view.to - view.from) * factor, inSeconds ? Math.min(1, data.end) : 0.001);
  const centre = state.time >= view.from && state.time <= view.to ? state.time : (view.from + view.to) / 2;
  setView(centre - span / 2, centre + span / 2);
}

function togglePlaying() {
  if (!hasVideo) return;
  if (video.paused) video.play().catch(() => {}); // a browser may want a click first; then nothing plays
  else video.pause();
}

// Events

const waiting = new Set();

/** Draw before the next frame; what is asked for several times until then is drawn once. */
function later(work) {
  if (!waiting.size) {
    requestAnimationFrame(() => {
      const works = [...waiting];
      waiting.clear();
      for (const each of works) each();
    });
  }
  waiting.add(work);
}

const trackTime = (event, track) => {
  const box = track.getBoundingClientRect();
  return view.from + ((event.clientX - box.left) / box.width) * (view.to - view.from);
};

/** The drawing of a lane under the pointer, and its bar there, if there are any. */
function underPointer(event) {
  const drawing = event.target.closest(".track");
  const box = drawing?.getBoundingClientRect();
  return { drawing, row: drawing && barAt(drawing, event.clientX - box.left, event.clientY - box.top, view) };
}

byId("score").max = Math.max(1, Math.ceil(100 * best) / 100);
byId("score").value = state.score;
byId("score").addEventListener("input", (event) => {
  state.score = Number(event.target.value);
  later(renderAll);
});
byId("tiou").addEventListener("input", (event) => {
  state.tiou = Number(event.target.value);
  matchDetections(detections, truth, ambiguous, state.tiou);
  later(renderAll);
});
byId("query").addEventListener("input", (event) => {
  state.query = event.target.value;
  later(renderAll);
});
byId("controls").addEventListener("submit", (event) => event.preventDefault());
byId("zoom-in").addEventListener("click", () => zoom(0.5));
byId("zoom-out").addEventListener("click", () => zoom(2));
byId("whole").addEventListener("click", () => setView(0, data.end));
byId("scrubber").addEventListener("click", (event) => seek(trackTime(event, byId("axis"))));
byId("lanes").addEventListener("click", (event) => {
  const { drawing, row } = underPointer(event);
  if (!drawing) return;
  if (row?.score !== undefined) choose(row);
  else seek(row ? row.start : trackTime(event, drawing));
});
byId("lanes").addEventListener("mousemove", (event) => {
  const { drawing, row } = underPointer(event);
  if (drawing) drawing.parentNode.title = row ? describeBar(row) : "";
});

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  const tag = event.target.tagName;
  const typesText = tag === "INPUT" && event.target.type !== "range";
  // A key that the focused control uses itself is left to it.
  const isTaken = typesText || ((event.key.startsWith("Arrow") || event.key === "0") && ["INPUT", "VIDEO"].includes(tag)) ||
    (event.key === " " && ["BUTTON", "VIDEO", "INPUT", "SUMMARY"].includes(tag)) ||
    (event.key.startsWith("Arrow") && event.target.classList.contains("scroll"));
  if (isTaken) return;
  const far = (inSeconds ? 1 : 0.01) * (event.shiftKey ? 10 : 1);
  const actions = {
    " ": togglePlaying,
    ArrowLeft: () => seek(state.time - far),
    ArrowRight: () => seek(state.time + far),
    n: () => step(1),
    p: () => step(-1),
    "+": () => zoom(0.5),
    "-": () => zoom(2),
    0: () => setView(0, data.end),
  };
  const action = actions[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!action) return;
  event.preventDefault();
  action();
});

// The parts that not every video has

function showVideo() {
  byId("player").hidden = false;
  video.setAttribute("aria-label", plainName(data.video));
  video.addEventListener("error", () => {
    hasVideo = false;
    byId("player").hidden = true;
    byId("unplayable").hidden = false;
    byId("unplayable").append(
      "The video cannot be played: it is not at ", nameNode(data.media_name),
      " (seen from this page), or this browser does not know its format. Everything else works without it.",
    );
    describeSpace();
  });
  const follow = () => setTime(inSeconds ? Math.min(video.currentTime, data.end) : video.currentTime / (video.duration || 1));
  video.addEventListener("timeupdate", follow);
  video.addEventListener("seeked", follow);
  const animate = () => {
    follow();
    if (!video.paused && !video.ended) requestAnimationFrame(animate);
  };
  video.addEventListener("play", animate);
  video.src = data.media;
}

function describeSpace() {
  byId("space-key").hidden = byId("space-means").hidden = !hasVideo;
}

function showPoster() {
  byId("poster").hidden = false;
  byId("poster").append(
    ...data.poster.map(([time, source]) => {
      const button = make("button", { type: "button", title: timeText(time) }, make("img", { src: source, alt: `Go to ${timeText(time)}` }));
      button.addEventListener("click", () => seek(time));
      return button;
    }),
  );
}

function showKey() {
  const sample = (style) => draw("svg", { width: 28, height: 12, "aria-hidden": "true" }, draw("path", { class: `bar ${style}`, d: "M1 1h26v10h-26z" }));
  const meanings = hasTruth
    ? [["right shade-3", "right: overlaps an annotated action enough"], ["wrong shade-3", "wrong (dashed outline)"], ["truth", "annotated action, below"]]
    : [["found shade-4", "high score"], ["found shade-0", "low score"]];
  if (hasTruth && ambiguous.length) meanings.push(["found shade-3", "not counted: annotators were unsure"]);
  byId("key").append(...meanings.map(([style, meaning]) => make("li", {}, sample(style), meaning)));
}

function renderResized() {
  renderTimeline();
  curves?.resize();
  curves?.move(state.time);
}

function showCurves() {
  byId("curves-section").hidden = false;
  const names = data.curves.labels.map((label) => data.labels[label]);
  byId("curves").setAttribute("aria-label", `Curves of the scores of ${count(names.length, "class", "classes")} over time, from 0 to 1`);
  curves = drawCurves(byId("curves"), byId("legend"), {
    curves: data.curves, names, view, inSeconds, onSeek: seek,
    leftSpace: () => byId("axis").getBoundingClientRect().left - byId("timeline").getBoundingClientRect().left,
  });
}

const columns = [
  { title: "Class", value: (row) => row.name, cell: (row) => nameNode(row.name) },
  { title: "Start", value: (row) => row.start, number: true, cell: startButton },
  { title: "End", value: (row) => row.end, number: true, cell: (row) => timeText(row.end) },
  { title: "Score", value: (row) => row.score, number: true, descending: true, cell: (row) => row.score.toFixed(4) },
];
if (hasTruth) columns.push({ title: "Judged", value: verdict, cell: (row) => `${verdict(row)}, tIoU ${row.overlap.toFixed(2)}` });

function startButton(row) {
  const button = make("button", { type: "button", "aria-label": `Go to ${timeText(row.start)}, ${plainName(row.name)}` }, timeText(row.start));
  button.addEventListener("click", () => choose(row));
  return button;
}

const table = sortedTable(byId("table"), { caption: "The detections that are shown above", columns, pageSize: 50, sortBy: 3 });

byId("title").append(nameNode(data.video));
byId("run").textContent = data.run;
byId("notes").hidden = !data.notes.length;
byId("notes").append(...data.notes.map((note) => make("li", {}, nameNode(note))));
byId("tiou-control").hidden = !hasTruth;
byId("scrubber").setAttribute("aria-valuemin", "0");
byId("scrubber").setAttribute("aria-valuemax", String(data.end));
if (hasTruth) matchDetections(detections, truth, ambiguous, state.tiou);
showKey();
if (data.poster.length) showPoster();
if (hasVideo) showVideo();
describeSpace();
if (data.curves) showCurves();
renderAll();
let lastWidth = byId("axis").clientWidth;
new ResizeObserver(() => {
  if (byId("axis").clientWidth === lastWidth) return;
  lastWidth = byId("axis").clientWidth;
  later(renderResized);
}).observe(byId("axis"));
