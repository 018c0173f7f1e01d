// Curves of slmlp serve: what the training logs hold, asked for again while a run may still train.
const node = (name, values, text = "") => {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(values)) made.setAttribute(key, value);
  made.textContent = text;
  return made;
};
const short = (value) => String(Number(value.toPrecision(4)));
const DASH = ["", "8 3", "4 2", "7 2 2 2", "2 2", "9 2 2 2 2 2"];

for (const figure of all(".served")) {
  const svg = figure.querySelector("svg.curves");
  const choose = figure.querySelector("select");
  const runs = all("[data-run]", figure).map((row) => ({ row, id: row.dataset.run, m: Number(row.dataset.m), rows: [], version: "" }));

  const draw = () => {
    const key = choose.value;
    const lines = runs.map((run) => run.rows.filter((row) => Number.isFinite(row[key])).map((row) => [row.step, row[key]]));
    const points = lines.flat();
    svg.replaceChildren();
    if (!points.length) return svg.append(node("text", { x: 20, y: 40, fill: "currentColor" }, "nothing is logged yet"));
    const [xs, ys] = [points.map(([x]) => x), points.map(([, y]) => y)];
    const [right, low, high] = [Math.max(...xs), Math.min(...ys), Math.max(...ys)];
    const x = (step) => 70 + (640 * step) / right;
    const y = (value) => 255 - (235 * (value - low)) / (high - low || 1);
    for (const share of [0, 1 / 3, 2 / 3, 1]) {
      const value = low + share * (high - low);
      svg.append(node("path", { d: `M70 ${y(value)}H710`, stroke: "var(--line)", fill: "none" }));
      svg.append(node("text", { x: 62, y: y(value) + 4, "text-anchor": "end", "font-size": 12, fill: "var(--soft)" }, short(value)));
      svg.append(node("text", { x: x(share * right), y: 278, "text-anchor": "middle", "font-size": 12, fill: "var(--soft)" }, Math.round(share * right)));
    }
    svg.append(node("text", { x: 710, y: 296, "text-anchor": "end", "font-size": 12, fill: "var(--soft)" }, "step"));
    runs.forEach((run, i) => {
      const d = lines[i].map(([step, value], at) => `${at ? "L" : "M"}${x(step).toFixed(1)} ${y(value).toFixed(1)}`).join("");
      const dash = DASH[(run.m + Math.floor(run.m / 6)) % 6];
      if (d) svg.append(node("path", { d, fill: "none", stroke: `var(--m${run.m % 6})`, "stroke-width": 2, "stroke-dasharray": dash, "data-run": run.id }));
    });
    svg.setAttribute("aria-label", `Training curves of ${key}`);
  };

  const tell = (run, state) => {
    const last = run.rows.at(-1);
    const steps = Number(run.row.dataset.steps);
    const at = last ? `, step ${last.step.toLocaleString("en")}${steps ? ` of ${steps.toLocaleString("en")}` : ""}, loss ${short(last.loss)}` : "";
    run.row.querySelector(".state").textContent = state + at;
    run.row.dataset.state = state;
  };

  const ask = async () => {
    let again = 10000; // a finished run may be gone on with elsewhere
    for (const run of runs) {
      try {
        const answer = await fetch(`/run/${run.id}/metrics?have=${encodeURIComponent(run.version)}`);
        if (!answer.ok) throw new Error(String(answer.status));
        const { state, version, rows } = await answer.json();
        if (rows) [run.rows, run.version] = [rows, version];
        tell(run, state);
        if (state === "training") again = 2000;
      } catch {
        run.row.querySelector(".state").textContent = "not to be reached";
      }
    }
    const keys = new Set(runs.flatMap((run) => Object.keys(run.rows.at(-1) ?? {})).filter((key) => !["step", "epoch"].includes(key)));
    for (const option of all("option", choose)) keys.delete(option.value);
    for (const key of keys) choose.append(new Option(key, key));
    draw();
    setTimeout(ask, again);
  };
  choose.addEventListener("change", draw);
  ask();
}
