// Charts: numbers under the pointer or the arrow keys, contenders that can be hidden, the baseline of a comparison.
for (const chart of all(".chart")) {
  const hits = all(".hit", chart);
  if (!hits.length) continue;
  for (const hit of hits) {
    const title = hit.querySelector("title");
    hit.lines = title.textContent.split("\n");
    title.remove(); // the browser's own would come late, beside the page's
  }
  let at = null;
  const leave = () => {
    if (!at) return;
    at.classList.remove("on");
    at = null;
    tip.hidden = true;
  };
  const point = (hit, x, y) => {
    leave();
    if (!hit) return;
    at = hit;
    at.classList.add("on");
    const of = hit.dataset.of.split(" ");
    const lines = hit.lines.filter((_, i) => !hidden.has(of[i]));
    tip.replaceChildren(...lines.map((line) => Object.assign(document.createElement("div"), { textContent: line })));
    place(x, y);
  };
  const under = (event) => point(event.target.closest?.(".hit"), event.clientX, event.clientY);
  pointed(chart, under, leave);
  chart.addEventListener("blur", leave);
  chart.tabIndex = 0;
  chart.setAttribute("aria-label", `${chart.getAttribute("aria-label")}. Arrow keys read the values.`);
  chart.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") return leave();
    if (!step) return;
    event.preventDefault();
    const shown = hits.filter((hit) => !hit.classList.contains("off"));
    const next = at ? shown.indexOf(at) + step : step > 0 ? 0 : shown.length - 1;
    const hit = shown[Math.min(Math.max(next, 0), shown.length - 1)];
    const box = hit.getBoundingClientRect();
    point(hit, box.left + box.width / 2, box.top + box.height / 2);
  });
}

const keys = all(".key [data-m]");
for (const key of keys) {
  const button = document.createElement("button");
  button.type = "button";
  button.dataset.m = key.dataset.m;
  button.title = "Hide or show everywhere on this page";
  button.setAttribute("aria-pressed", "true");
  button.append(...key.childNodes);
  key.replaceWith(button);
  button.addEventListener("click", () => {
    const m = button.dataset.m;
    if (!hidden.delete(m)) hidden.add(m);
    for (const part of all(`[data-m="${m}"]`)) {
      if (part.closest(".key")) part.setAttribute("aria-pressed", String(!hidden.has(m)));
      else part.classList.toggle("off", hidden.has(m));
    }
  });
}

for (const select of all(".choice select")) {
  const options = all(".option", select.closest(".choice"));
  select.addEventListener("change", () => options.forEach((one, i) => { one.hidden = i !== select.selectedIndex; }));
  select.selectedIndex = 0; // a browser may keep what was chosen before a reload
}
