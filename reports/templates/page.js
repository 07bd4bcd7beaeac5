"use strict";
// Sorting and filtering of the full table; everything else works without this script.
(() => {
  const FILTERS = ["format", "shape", "dtype", "direction", "regime", "sparsity", "batch"];

  const number = (values, place) => (typeof values[place] === "number" ? values[place] : null);

  const compare = (values, sign) => (a, b) => {
    const numeric = values.some((value) => typeof value === "number");
    const [x, y] = numeric ? [number(values, a), number(values, b)] : [values[a], values[b]];
    if (x === y) return a - b;
    if (x === null || x === "") return 1;
    if (y === null || y === "") return -1;
    return sign * (x < y ? -1 : 1);
  };

  const sortable = (table, data) => {
    const body = table.tBodies[0];
    const rows = [...body.rows];
    const names = Object.keys(data);
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const button = document.createElement("button");
      button.textContent = head.textContent;
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const places = rows.map((_, place) => place);
        places.sort(compare(data[names[column]], down ? -1 : 1));
        body.append(...places.map((place) => rows[place]));
      });
    });
    return rows;
  };

  const choice = (name, values, changed) => {
    const select = document.createElement("select");
    select.append(new Option("all", ""));
    for (const value of values) {
      const text = name === "sparsity" ? `${+(100 * value).toPrecision(3)} %` : value;
      select.append(new Option(text, value));
    }
    select.addEventListener("change", changed);
    const label = document.createElement("label");
    label.append(`${name} `, select);
    return { name, select, label };
  };

  const filtered = (box, rows, data) => {
    const apply = () => rows.forEach((row, place) => {
      row.hidden = !choices.every(({ name, select }) =>
        select.value === "" || String(data[name][place]) === select.value);
    });
    const known = (name) => [...new Set(data[name])].filter((value) => value !== null);
    const ordered = (name) => known(name).sort((a, b) => (a < b ? -1 : 1));
    const choices = FILTERS.map((name) => choice(name, ordered(name), apply));
    box.append(...choices.map(({ label }) => label));
    box.hidden = false;
  };

  for (const article of document.querySelectorAll("article")) {
    const stored = article.querySelector("script.data");
    if (!stored) continue;
    const data = JSON.parse(stored.textContent);
    const rows = sortable(article.querySelector("table.full"), data);
    filtered(article.querySelector(".filters"), rows, data);
  }
})();
