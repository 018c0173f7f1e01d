"use strict";
// What the other scripts share: look-ups, the box beside the pointer, the clipboard.
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const SVG = "http://www.w3.org/2000/svg";
const hidden = new Set(); // contenders that the reader hides, by their place
const tip = document.body.appendChild(document.createElement("div"));
tip.className = "tip";
tip.role = "status";
tip.hidden = true;

const place = (x, y) => {
  tip.hidden = false;
  const { width, height } = tip.getBoundingClientRect();
  const left = x + 18 + width > innerWidth ? x - 18 - width : x + 18;
  const top = Math.min(Math.max(8, y - height / 2), innerHeight - height - 8);
  tip.style.transform = `translate(${Math.max(8, left)}px, ${top}px)`;
};

const pointed = (element, show, leave) => {
  element.addEventListener("pointermove", show);
  element.addEventListener("pointerdown", show);
  element.addEventListener("pointerleave", (event) => {
    if (event.pointerType !== "touch") leave(); // what a finger has called up stays until the next touch
  });
  document.addEventListener("pointerdown", (event) => {
    if (!element.contains(event.target)) leave();
  }, true);
};

const copy = async (button, text, shown) => {
  button.parentNode.querySelector(".copied")?.remove();
  if (shown) getSelection().selectAllChildren(shown); // what is left to the reader where the clipboard is refused
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    button.textContent = shown ? "Selected" : "Copy it from below";
    if (shown) return;
    const area = document.createElement("textarea");
    area.className = "copied";
    area.readOnly = true;
    area.value = text;
    area.setAttribute("aria-label", "The table as CSV");
    button.after(area);
    area.select();
  }
};

for (const part of all(".script")) part.hidden = false; // of no use without this script
for (const button of all("[data-copy]")) {
  const code = document.getElementById(button.dataset.copy);
  button.addEventListener("click", () => copy(button, code.textContent, code));
}
