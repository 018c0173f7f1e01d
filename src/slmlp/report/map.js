// The map: the image under the pointer is found on every map, and so is its class.
if (document.getElementById("map-data")) {
  const data = JSON.parse(document.getElementById("map-data").textContent);
  const maps = all(".map").map((svg, i) => {
    const id = `map-${i}`;
    for (const group of all(`[id^="${id}-c"]`, svg)) group.dataset.c = group.id.slice(id.length + 2);
    const groups = all("[data-c]", svg);
    for (const group of groups) group.classList.add("of");
    const here = svg.appendChild(document.createElementNS(SVG, "circle"));
    here.setAttribute("class", "here");
    return { svg, groups, here, places: data.places[id] };
  });
  let kept = null; // the class held by a press in the legend

  const light = (shown) => {
    for (const { svg, groups } of maps) {
      svg.classList.toggle("dim", shown !== null);
      for (const group of groups) group.classList.toggle("on", Number(group.dataset.c) === shown);
    }
  };
  const point = (image) => {
    for (const { here, places } of maps) {
      here.setAttribute("r", image === null ? 0 : 19);
      if (image === null) continue;
      here.setAttribute("cx", places[image][0]);
      here.setAttribute("cy", places[image][1]);
    }
    light(image === null ? kept : data.of[image]);
  };
  const fill = (image) => {
    tip.replaceChildren();
    if (data.boxes) {
      const picture = document.createElementNS(SVG, "svg");
      picture.setAttribute("viewBox", data.boxes[image]);
      const use = picture.appendChild(document.createElementNS(SVG, "use"));
      use.setAttribute("href", "#sprite");
      tip.append(picture);
    }
    tip.append(data.classes[data.of[image]]);
  };
  const leave = () => {
    tip.hidden = true;
    point(null);
  };
  const find = (map, event) => {
    const box = map.svg.getBoundingClientRect();
    const scale = map.svg.viewBox.baseVal.width / box.width;
    const x = (event.clientX - box.left) * scale, y = (event.clientY - box.top) * scale;
    let best = null, least = 20 ** 2;
    map.places.forEach(([px, py], i) => {
      const d = (px - x) ** 2 + (py - y) ** 2;
      if (d < least) [best, least] = [i, d];
    });
    return best;
  };
  const show = (map, event) => {
    const image = find(map, event);
    if (image === null) return leave();
    point(image);
    fill(image);
    place(event.clientX, event.clientY);
  };
  for (const map of maps) {
    pointed(map.svg, (event) => show(map, event), leave);
  }

  const buttons = all(".classes button");
  for (const button of buttons) {
    const c = Number(button.dataset.c);
    button.addEventListener("pointerenter", () => light(c));
    button.addEventListener("pointerleave", () => light(kept));
    button.addEventListener("click", () => {
      kept = kept === c ? null : c;
      for (const other of buttons) other.setAttribute("aria-pressed", String(Number(other.dataset.c) === kept));
      light(kept);
    });
  }
}
