"use strict";
// The timeline: a lane for each class, with a bar for each detection and, below, one for each annotated action.
// A lane is one drawing with a path for each shade, not an element for each bar, so that thousands stay quick.

const BAR = 12, GAP = 2, TRUTH_BAR = 8; // heights, in CSS pixels
const NARROWEST_BAR = 2;
const MOST_ROWS = 12; // of overlapping bars in a lane; what is weaker shares the last
const MOST_LANES = 200;
const SHADES = 5;

/** Put each detection into the first row where it overlaps no better one. Returns the number of rows. */
function stackBars(detections) {
  const rows = []; // the bars of each in order of time; what found no room is drawn in the last, but not in here
  for (const detection of detections) {
    let number = 0;
    let place = -1;
    for (; number < rows.length; number++) {
      place = placeInRow(rows[number], detection);
      if (place >= 0) break;
    }
    if (place >= 0) rows[number].splice(place, 0, detection);
    else if (number < MOST_ROWS) rows.push([detection]);
    detection.row = Math.min(number, MOST_ROWS - 1);
  }
  return rows.length;
}

/** Where in a row without overlaps, ordered by time, there is room for a bar; -1 if there is none. */
function placeInRow(row, { start, end }) {
  let [low, high] = [0, row.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (row[middle].start < start) low = middle + 1;
    else high = middle;
  }
  const isFree = (low === 0 || row[low - 1].end <= start) && (low === row.length || end <= row[low].start);
  return isFree ? low : -1;
}

/**
 * Draw lanes into a list.
 * lanes: [{name, detections (best first), truth}]. view: {from, to}. best: the score of the darkest shade.
 */
function drawLanes(list, lanes, { view, width, best, hasTruth, describe }) {
  list.replaceChildren(
    ...lanes.slice(0, MOST_LANES).map((lane) => {
      const rows = stackBars(lane.detections);
      const truthTop = rows * (BAR + GAP);
      const height = Math.max(BAR + GAP, truthTop + (hasTruth ? TRUTH_BAR + GAP : 0));
      const drawing = draw("svg", { class: "track", role: "img", height, "aria-label": describe(lane) });
      const paths = new Map();
      for (const detection of lane.detections) {
        const shade = Math.min(SHADES - 1, Math.max(0, Math.floor((SHADES * detection.score) / best)));
        const kind = !hasTruth || detection.isExcused ? "found" : detection.match ? "right" : "wrong";
        const style = `bar ${kind} shade-${shade}`;
        const top = detection.row * (BAR + GAP);
        paths.set(style, (paths.get(style) ?? "") + barPath(detection, top, BAR, view, width));
      }
      const truth = lane.truth.map((row) => barPath(row, truthTop, TRUTH_BAR, view, width)).join("");
      if (truth) paths.set("bar truth", truth);
      for (const [style, d] of paths) if (d) drawing.append(draw("path", { class: style, d }));
      drawing.lane = lane;
      return make("li", { class: "lane" }, make("span", { class: "label" }, nameNode(lane.name)), drawing);
    }),
  );
}

/** The outline of a bar, cut at the edges of the view; nothing if it is outside. */
function barPath(row, top, height, view, width) {
  if (row.end < view.from || row.start > view.to) return "";
  const scale = width / (view.to - view.from);
  const left = Math.max(-1, (row.start - view.from) * scale);
  const right = Math.min(width + 1, Math.max((row.end - view.from) * scale, left + NARROWEST_BAR));
  return `M${left.toFixed(2)} ${top}H${right.toFixed(2)}v${height}H${left.toFixed(2)}z`;
}

/** The detection or annotation at a point of a lane's drawing; the best of several, or null. */
function barAt(drawing, x, y, view) {
  const width = drawing.clientWidth;
  const pixel = (view.to - view.from) / width;
  const time = view.from + x * pixel;
  const { detections, truth } = drawing.lane;
  const covers = (row) => row.start - pixel <= time && time <= Math.max(row.end, row.start + NARROWEST_BAR * pixel) + pixel;
  const row = Math.floor(y / (BAR + GAP));
  return detections.find((d) => d.row === row && covers(d)) ?? (detections.some((d) => d.row >= row) ? null : truth.find(covers)) ?? null;
}

/** Round times in the view, about one for each 90 pixels, and how many decimals tell them apart. */
function tickTimes(view, width, inSeconds) {
  const span = view.to - view.from;
  const steps = inSeconds
    ? [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400]
    : [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.25, 0.5];
  const step = steps.find((s) => (s / span) * width >= 90) ?? span;
  const times = [];
  for (let i = Math.ceil(view.from / step - 1e-9); i * step <= view.to + 1e-9; i++) times.push(i * step);
  return { times, decimals: step < (inSeconds ? 1 : 0.01) ? 1 : 0 };
}

function drawAxis(drawing, { view, width, inSeconds }) {
  const { times, decimals } = tickTimes(view, width, inSeconds);
  drawing.replaceChildren(
    ...times.flatMap((time) => {
      const x = ((time - view.from) / (view.to - view.from)) * width;
      const anchor = x < 20 ? "start" : x > width - 30 ? "end" : "middle";
      return [
        draw("path", { d: `M${x.toFixed(1)} 16v8` }),
        draw("text", { x: x.toFixed(1), y: 12, "text-anchor": anchor }, formatTime(time, inSeconds, decimals)),
      ];
    }),
  );
}
