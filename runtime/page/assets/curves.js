"use strict";
// Curves of the class scores over time, drawn by uPlot. Its own legend needs a mouse, so there are buttons instead.

const DASHES = [[], [6, 3], [2, 2], [8, 3, 2, 3]]; // colour alone tells too little
const dashOf = (i) => DASHES[i % DASHES.length];

/** Draw them into `place`. Returns {show(view), move(time), resize()}. */
function drawCurves(place, legend, { curves, names, view, inSeconds, leftSpace, onSeek }) {
  const shown = names.map(() => true);
  const now = make("div", { class: "now" });
  let plot = null;
  const ticks = () => tickTimes(view, place.clientWidth - leftSpace(), inSeconds); // like those of the timeline
  // A label at the very edge would be cut off.
  const isInside = (time) => time <= view.to - 0.03 * (view.to - view.from);
  const tickLabel = (time) => (isInside(time) ? formatTime(time, inSeconds, ticks().decimals) : "");

  function build() {
    const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
    const axis = { stroke: colour("--faint"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false } };
    plot?.destroy();
    plot = new uPlot(
      {
        width: place.clientWidth,
        height: 180,
        padding: [8, 0, 0, 0],
        legend: { show: false },
        cursor: { drag: { x: false, y: false }, y: false },
        scales: { x: { time: false, range: () => [view.from, view.to] }, y: { range: [0, 1] } },
        axes: [
          { ...axis, size: 30, splits: () => ticks().times, values: (_, times) => times.map(tickLabel) },
          { ...axis, size: Math.max(40, leftSpace()) },
        ],
        series: [
          {},
          ...names.map((_, i) => ({ stroke: colour(`--curve-${i}`), dash: dashOf(i), width: 2, show: shown[i] })),
        ],
      },
      [curves.times, ...curves.scores],
      place,
    );
    plot.over.append(now);
    plot.over.addEventListener("click", (event) => onSeek(plot.posToVal(event.offsetX, "x")));
  }

  legend.replaceChildren(
    ...names.map((name, i) => {
      const line = draw("path", { d: "M0 6h24", class: `curve-${i}`, "stroke-dasharray": dashOf(i).join(" ") });
      const sample = draw("svg", { width: 24, height: 12, "aria-hidden": "true" }, line);
      const button = make("button", { type: "button", "aria-pressed": "true" }, sample, " ", nameNode(name));
      button.addEventListener("click", () => {
        shown[i] = !shown[i];
        button.setAttribute("aria-pressed", String(shown[i]));
        plot.setSeries(i + 1, { show: shown[i] });
      });
      return button;
    }),
  );
  build();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", build);
  return {
    show: () => plot.setData(plot.data, true), // the scale asks for the view anew
    resize: build,
    move(time) {
      now.hidden = time < view.from || time > view.to;
      // Not plot.valToPos, which knows a new view only later.
      now.style.left = `${(100 * (Math.min(Math.max(time, view.from), view.to) - view.from)) / (view.to - view.from)}%`;
    },
  };
}
