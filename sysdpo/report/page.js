// What the page does by itself: it searches in examples and draws the training curves. Tables are sorted by a library.
"use strict";

// Examples without the words that are searched for are hidden; those with them are opened.
for (const box of document.querySelectorAll(".search")) {
  const field = box.querySelector("input");
  const examples = [...document.getElementById(field.getAttribute("aria-controls")).querySelectorAll(".example")];
  box.hidden = false;
  field.addEventListener("input", () => {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const example of examples) {
      const text = example.textContent.toLowerCase();
      example.hidden = !words.every((word) => text.includes(word));
      if (words.length) example.open = !example.hidden;
    }
    const found = examples.filter((example) => !example.hidden).length;
    box.querySelector("output").textContent = words.length ? `${found} of ${examples.length}` : "";
  });
}

const dark = matchMedia("(prefers-color-scheme: dark)");

// A colour chosen for white paper, lightened on a dark page.
function shade(colour) {
  if (!dark.matches) return colour;
  const parts = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  return `rgb(${parts.map((part) => Math.round(part + (255 - part) * 0.4)).join(" ")})`;
}

function panelOptions(panel, width, key) {
  const style = getComputedStyle(document.documentElement);
  const axis = { stroke: style.getPropertyValue("--soft"), grid: { stroke: style.getPropertyValue("--line"), width: 1 } };
  const show = (plot, value) => (value === null || value === undefined ? "–" : String(value));
  return {
    title: panel.title,
    width,
    height: 260,
    scales: { x: { time: false } },
    cursor: { sync: { key } },
    focus: { alpha: 0.25 },
    axes: [{ ...axis, label: "update", labelSize: 20, size: 34 }, { ...axis, size: 56 }],
    series: [
      { label: "update", value: show },
      ...panel.rows.map((row) => ({
        label: row.label,
        stroke: shade(row.colour),
        width: row.dashed ? 1.5 : 2.5,
        dash: row.dashed ? [7, 3] : undefined,
        spanGaps: true,
        points: { show: false },
        value: show,
      })),
    ],
  };
}

function drawCurves(box, key) {
  const panels = JSON.parse(box.querySelector("script").textContent);
  const plots = [];
  const draw = () => {
    plots.splice(0).forEach((plot) => plot.destroy());
    const columns = box.clientWidth > 760 ? 2 : 1;
    const width = Math.floor((box.clientWidth - (columns - 1) * 24) / columns);
    for (const panel of panels) {
      const data = [panel.steps, ...panel.rows.map((row) => row.values)];
      plots.push(new uPlot(panelOptions(panel, width, key), data, box));
    }
  };
  draw();
  dark.addEventListener("change", draw);
  let width = box.clientWidth;
  new ResizeObserver(() => {
    if (box.clientWidth !== width) {
      width = box.clientWidth;
      draw();
    }
  }).observe(box);
}

[...document.querySelectorAll(".curves")].forEach((box, index) => drawCurves(box, `curves ${index}`));
for (const hint of document.querySelectorAll(".scripted")) hint.hidden = false;
