"use strict";
// The index of many videos: a row a video, with a link to its page.

/** A small timeline: a bar for each digit, which is the best score there in tenths. */
function sparkline(row) {
  const bars = [...row.timeline].map((digit, i) => (digit === "0" ? "" : `M${i} ${10 - digit}h1v${digit}h-1z`)).join("");
  const attributes = { class: "sparkline", viewBox: `0 0 ${row.timeline.length} 10`, preserveAspectRatio: "none", "aria-hidden": "true" };
  return draw("svg", attributes, draw("path", { d: bars }));
}

const rows = data.videos.map(([video, href, duration, found, classes, timeline]) => ({
  video, href, duration, found, timeline,
  classes: classes.map(([label, score]) => [data.labels[label], score]),
}));

const bestScore = (row) => (row.classes.length ? row.classes[0][1] : -1);

function classCell(row) {
  return row.classes.flatMap(([name, score], i) => [i ? ", " : "", nameNode(name), ` ${score.toFixed(2)}`]);
}

const table = sortedTable(byId("table"), {
  caption: "Videos; a header sorts by its column",
  pageSize: 200,
  sortBy: 0,
  columns: [
    { title: "Video", value: (row) => row.video.toLowerCase(), cell: (row) => make("a", { href: row.href }, nameNode(row.video)) },
    { title: "Duration", value: (row) => row.duration ?? -1, number: true, descending: true, cell: (row) => (row.duration === null ? "unknown" : formatTime(row.duration, true)) },
    { title: "Detections", value: (row) => row.found, number: true, descending: true, cell: (row) => row.found.toLocaleString("en") },
    { title: "Best classes, with their score", value: bestScore, descending: true, cell: classCell },
    { title: "When", value: (row) => row.timeline.search(/[^0]/), cell: sparkline },
  ],
});

function render() {
  const query = byId("query").value.trim().toLowerCase();
  const isAsked = (row) => [row.video, ...row.classes.map(([name]) => name)].some((text) => text.toLowerCase().includes(query));
  const shown = query ? rows.filter(isAsked) : rows;
  table.show(shown);
  byId("count").textContent = query ? `${shown.length.toLocaleString("en")} of ${count(rows.length, "video")}.` : "";
}

byId("title").textContent = count(rows.length, "video");
byId("run").textContent = data.run;
byId("summary").textContent =
  `Detections that score at least ${data.min_score.toFixed(2)} are counted. The bars of a timeline are the best scores over the length of the video.`;
byId("failed").hidden = !data.failed.length;
byId("failed-title").textContent = `${count(data.failed.length, "video")} failed`;
byId("failures").append(...data.failed.map(([video, reason]) => make("li", {}, nameNode(video), ": ", make("bdi", {}, cut(reason, LONGEST_TOOLTIP)))));
byId("query").addEventListener("input", render);
byId("controls").addEventListener("submit", (event) => event.preventDefault());
render();
