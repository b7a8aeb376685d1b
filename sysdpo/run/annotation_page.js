"use strict";

const main = document.querySelector("main");
const said = document.querySelector("#said");
const RETRY = 500; // milliseconds
const CHOICES = { ArrowLeft: "left", ArrowRight: "right", t: "tie", " ": "tie" };
let busy = false;

function say(sentence) {
  said.textContent = sentence;
}

// The server may have been stopped; what is sent again is not counted twice.
async function send(path, told) {
  if (busy) return;
  busy = true;
  document.body.classList.add("busy");
  for (;;) {
    try {
      const answer = await fetch(path, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify(told),
      });
      const text = await answer.text();
      if (answer.ok) {
        main.innerHTML = text; // the server has escaped all that models have written
        say("");
        scrollTo(0, 0);
      } else {
        say(text);
      }
      break;
    } catch {
      say("The server does not answer. Your judgement is sent again until it does.");
      await new Promise((resolve) => setTimeout(resolve, RETRY));
    }
  }
  busy = false;
  document.body.classList.remove("busy");
}

function judge(preferred) {
  const { annotator, pair } = main.querySelector("article")?.dataset ?? {};
  if (pair) send("/judgements", { annotator, pair, preferred });
}

function undo() {
  const { annotator, last } = main.querySelector("article")?.dataset ?? {};
  if (last) send("/undo", { annotator, pair: last });
}

function toggleSteps() {
  const steps = [...main.querySelectorAll("details")];
  const open = steps.some((each) => !each.open);
  for (const each of steps) each.open = open;
}

main.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button?.dataset.preferred) judge(button.dataset.preferred);
  else if (button && "undo" in button.dataset) undo();
});

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  if (event.target.closest("input")) return;
  // On what can be opened by itself, the space bar does that.
  if (event.key === " " && event.target.closest("summary, a, button")) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (key in CHOICES) judge(CHOICES[key]);
  else if (key === "u") undo();
  else if (key === "i") toggleSteps();
  else return;
  event.preventDefault();
});
