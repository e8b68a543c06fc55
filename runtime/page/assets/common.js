"use strict";
// What the scripts of all pages share. Class names, file names and messages are untrusted: they become text nodes and
// values of harmless attributes here, never markup.

const data = JSON.parse(document.getElementById("data").textContent);
const LONGEST_NAME = 80; // characters of a name that are shown; the tooltip has more
const LONGEST_TOOLTIP = 1000;

const byId = (id) => document.getElementById(id);

/** An element with attributes and children; strings become text. */
function make(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** Like `make`, for elements of SVG. */
function draw(tag, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

/** A name that cannot change the direction of the text around it, cut if it is very long. */
function nameNode(name) {
  const node = make("bdi", {}, cut(name, LONGEST_NAME));
  if (name.length > LONGEST_NAME) node.title = cut(name, LONGEST_TOOLTIP);
  return node;
}

/** A name for attributes, where nothing can isolate it: the marks that change direction are taken out. */
function plainName(name) {
  return cut(name.replace(/[\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, ""), LONGEST_NAME);
}

/** The first characters of a text, none of them halved. */
function cut(text, length) {
  return text.length > length ? `${text.slice(0, length).replace(/[\ud800-\udbff]$/, "")}…` : text;
}

/** 75.25 as 1:15.3, or 0.5 as 50 % where the length of the video is not known. */
function formatTime(time, inSeconds, decimals = 1) {
  if (!inSeconds) return `${(100 * time).toFixed(decimals)} %`;
  const ticks = Math.round(time * 10 ** decimals); // whole ticks, so that 59.97 becomes 1:00.0 and not 0:60.0
  const seconds = ticks / 10 ** decimals;
  const hours = Math.floor(seconds / 3600);
  const minutes = Math.floor((seconds % 3600) / 60);
  const rest = (seconds % 60).toFixed(decimals).padStart(decimals ? 3 + decimals : 2, "0");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
}

const count = (n, singular, plural = `${singular}s`) => `${n.toLocaleString("en")} ${n === 1 ? singular : plural}`;
