"use strict";
// Which detections are right: the rule of the evaluation (ActivityNet's), which stale-eval applies too.

/** Intersection over union in time of two things with a start and an end. */
function temporalIou(a, b) {
  const overlap = Math.min(a.end, b.end) - Math.max(a.start, b.start);
  const union = Math.max(a.end, b.end) - Math.min(a.start, b.start);
  return overlap > 0 && union > 0 ? overlap / union : 0;
}

/**
 * Give each annotated action to the best-scoring detection of its class that overlaps it enough.
 * detections: best first, as they are evaluated; each gets `match`, the annotation or null, `overlap`, its tIoU, and
 * `isExcused`, whether it matches nothing but overlaps an ambiguous segment, so that it is neither right nor wrong.
 * As better detections choose first, leaving out weak ones changes nothing for the others.
 */
function matchDetections(detections, truth, ambiguous, tiou) {
  const byClass = groupByLabel(truth);
  const taken = new Set();
  for (const detection of detections) {
    const candidates = byClass.get(detection.label) ?? [];
    detection.match = null;
    detection.overlap = 0;
    let best = 0; // of those that are free
    for (const row of candidates) {
      const overlap = temporalIou(detection, row);
      detection.overlap = Math.max(detection.overlap, overlap);
      if (overlap >= tiou && overlap >= best && !taken.has(row)) { // of equal overlaps, the later annotation
        best = overlap;
        detection.match = row;
      }
    }
    if (detection.match) taken.add(detection.match);
    detection.isExcused = !detection.match && ambiguous.some((row) => temporalIou(detection, row) > 0);
  }
}

function groupByLabel(rows) {
  const groups = new Map();
  for (const row of rows) {
    if (!groups.has(row.label)) groups.set(row.label, []);
    groups.get(row.label).push(row);
  }
  return groups;
}
