// Sorts and filters the table of exposed records; without it the table is whole.
"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const rows = [...table.tBodies[0].rows];
  const most = Number(table.dataset.most);
  const controls = document.getElementById(table.dataset.controls);
  const field = (name) => controls.querySelector(`[name=${name}]`);
  const show = () => {
    let shown = 0;
    for (const row of table.tBodies[0].rows) {
      const fits = (!field("label").value || row.dataset.label === field("label").value)
        && (!field("named") || !field("named").checked || row.dataset.named === "1");
      row.hidden = !fits || (!field("all").checked && shown >= most);
      shown += !row.hidden;
    }
    controls.querySelector("output").textContent = `${shown} shown`;
  };
  const key = (row, at) => {
    const text = row.cells[at].dataset.value ?? row.cells[at].textContent.trim();
    const number = parseFloat(text.replace(/[<,]/g, ""));
    return Number.isNaN(number) ? text : number;
  };
  const compare = (a, b) => (typeof a === typeof b ? (a < b ? -1 : a > b ? 1 : 0)
    : typeof a === "number" ? -1 : 1);
  table.querySelectorAll("thead th").forEach((head, at) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of table.querySelectorAll("thead th")) {
        other.removeAttribute("aria-sort");
      }
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      rows.sort((a, b) => (down ? -1 : 1) * compare(key(a, at), key(b, at)));
      table.tBodies[0].append(...rows);
      show();
    });
  });
  controls.addEventListener("input", show);
  controls.addEventListener("submit", (event) => event.preventDefault());
  controls.hidden = false;
  show();
}
