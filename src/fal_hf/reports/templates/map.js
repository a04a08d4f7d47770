"use strict";
// The point nearest to the pointer tells its video; the wheel and dragging change what part of the map is seen; a label
// of the legend dims all others.
const rows = JSON.parse(document.getElementById("rows").textContent);
const svg = document.querySelector(".map svg");
const dots = [...svg.querySelectorAll("circle")];
const tip = document.getElementById("tip");
const WHOLE = { x: -30, y: -30, side: 1060 };
const REACH = 24; // pixels from the pointer to a point
let view = { ...WHOLE };
let chosen = null;
let drag = null;
let here = null;

function show() {
  svg.setAttribute("viewBox", `${view.x} ${view.y} ${view.side} ${view.side}`);
  const radius = (6 * view.side) / WHOLE.side;
  for (const dot of dots) {
    dot.setAttribute("r", radius);
    dot.setAttribute("stroke-width", radius / 5);
  }
}

function place(event) {
  return new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
}

function nearest(event) {
  const at = place(event);
  const reach = REACH / svg.getScreenCTM().a;
  let best = null;
  let least = reach * reach;
  rows.forEach((row, number) => {
    if (chosen !== null && row.color !== chosen) return;
    const distance = (1000 * row.x - at.x) ** 2 + (1000 * row.y - at.y) ** 2;
    if (distance < least) [best, least] = [number, distance];
  });
  return best;
}

function tell(number, event) {
  if (here !== null) dots[here].classList.remove("here");
  here = number;
  tip.hidden = number === null;
  if (number === null) return;
  dots[number].classList.add("here");
  const { name, label, seconds, picture } = rows[number];
  const image = tip.querySelector("img");
  image.hidden = !picture;
  if (picture) image.src = picture;
  tip.querySelector("strong").textContent = label;
  const times = seconds ? `, ${seconds[0]} to ${seconds[1]} s` : "";
  tip.querySelector("p.quiet").textContent = name + times;
  const box = tip.parentElement.getBoundingClientRect();
  const [x, y] = [event.clientX - box.left, event.clientY - box.top];
  tip.style.left = `${Math.max(4, Math.min(x + 16, box.width - tip.offsetWidth - 4))}px`;
  tip.style.top = `${Math.max(4, y + 16 + tip.offsetHeight > box.height ? y - tip.offsetHeight - 12 : y + 16)}px`;
}

svg.addEventListener("pointermove", (event) => {
  if (drag && event.buttons) {
    const scale = svg.getScreenCTM().a;
    view.x = drag.x - (event.clientX - drag.clientX) / scale;
    view.y = drag.y - (event.clientY - drag.clientY) / scale;
    show();
  }
  tell(nearest(event), event);
});
svg.addEventListener("pointerdown", (event) => {
  drag = { x: view.x, y: view.y, clientX: event.clientX, clientY: event.clientY };
  tell(nearest(event), event);
});
svg.addEventListener("pointerup", () => (drag = null));
svg.addEventListener("pointerleave", (event) => {
  drag = null;
  tell(null, event);
});
svg.addEventListener("dblclick", () => {
  view = { ...WHOLE };
  show();
});
svg.addEventListener(
  "wheel",
  (event) => {
    event.preventDefault();
    const at = place(event);
    const side = Math.min(WHOLE.side, Math.max(WHOLE.side / 64, view.side * 1.0015 ** event.deltaY));
    const share = side / view.side;
    view = { x: at.x - (at.x - view.x) * share, y: at.y - (at.y - view.y) * share, side };
    show();
  },
  { passive: false },
);
for (const button of document.querySelectorAll(".legend button")) {
  button.addEventListener("click", () => {
    const color = Number(button.dataset.color);
    chosen = chosen === color ? null : color;
    for (const other of document.querySelectorAll(".legend button"))
      other.setAttribute("aria-pressed", String(Number(other.dataset.color) === chosen));
    rows.forEach((row, number) => dots[number].classList.toggle("dim", chosen !== null && row.color !== chosen));
  });
}
show();
