"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  heads.forEach((head, index) => head.querySelector("button").addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending";
    const value = row => row.cells[index].dataset.value, rows = [...body.rows];
    rows.sort((a, b) => {
      const x = value(a), y = value(b);
      if (x === "" || y === "") return (x === "") - (y === "");
      const order = isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y;
      return down ? -order : order;
    });
    heads.forEach(other => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    body.append(...rows);
  }));
}
for (const pair of document.querySelectorAll(".pair")) {
  const views = pair.querySelector(".views"), input = pair.querySelector("input"), button = pair.querySelector("button");
  const show = () => views.style.setProperty("--split", `${input.value}%`);
  const follow = event => {
    if (!event.buttons) return;
    const box = views.getBoundingClientRect();
    input.value = 100 * (event.clientX - box.left) / box.width;
    show();
  };
  input.addEventListener("input", show);
  views.addEventListener("pointerdown", follow);
  views.addEventListener("pointermove", follow);
  button.addEventListener("click", () => button.setAttribute("aria-pressed", String(pair.classList.toggle("large"))));
  show();
}
