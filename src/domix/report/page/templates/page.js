"use strict";
(() => {
  const root = document.documentElement;
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const button = document.getElementById("theme");
  let chosen = null; // what the reader chose; null: what the system says
  try { chosen = localStorage.getItem("theme"); } catch { /* storage may be closed to local files */ }

  function paint(theme) {
    root.dataset.theme = theme;
    button.textContent = theme === "dark" ? "Light" : "Dark";
    button.setAttribute("aria-label", `Switch to the ${theme === "dark" ? "light" : "dark"} theme`);
  }
  const wanted = () => chosen ?? (dark.matches ? "dark" : "light");
  button.hidden = false;
  button.addEventListener("click", () => {
    chosen = root.dataset.theme === "dark" ? "light" : "dark";
    try { localStorage.setItem("theme", chosen); } catch { /* the choice then lasts as long as the page */ }
    paint(chosen);
  });
  dark.addEventListener("change", () => paint(wanted()));
  paint(wanted());

  const told = document.getElementById("told"); // read aloud by screen readers
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    const body = table.tBodies[0];
    heads.forEach((head, column) => {
      const sorter = document.createElement("button");
      sorter.type = "button";
      sorter.append(...[...head.childNodes].filter((node) => node.nodeName !== "SMALL"));
      head.prepend(sorter);
      sorter.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") !== "descending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const value = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
        const compare = (a, b) => {
          const [x, y] = [value(a), value(b)];
          const difference = Number(x) - Number(y);
          return Number.isNaN(difference) ? x.localeCompare(y) : difference;
        };
        body.append(...[...body.rows].sort((a, b) => (down ? compare(b, a) : compare(a, b))));
        told.textContent = `Sorted by ${sorter.textContent}, ${down ? "descending" : "ascending"}`;
      });
    });
  }

  // Tables cut to one kind of images and one measure.
  const filters = ["place", "metric"].map((name) => [name, document.getElementById(`${name}-filter`)]);
  function cut() {
    for (const row of document.querySelectorAll("table.filtered tbody tr")) {
      row.hidden = filters.some(([name, select]) => select?.value && row.dataset[name] !== select.value);
    }
  }
  filters.forEach(([, select]) => select?.addEventListener("change", cut));

  // Lists cut to what a field names.
  document.querySelectorAll('input[type="search"]').forEach((field) => {
    const parts = [...document.getElementById(field.getAttribute("aria-controls")).querySelectorAll("details")];
    const told = field.parentElement.querySelector('[role="status"]');
    field.addEventListener("input", () => {
      const wanted = field.value.trim().toLowerCase();
      parts.forEach((part) => { part.hidden = !part.dataset.name.includes(wanted); });
      const left = parts.filter((part) => !part.hidden).length;
      told.textContent = wanted ? `${left} of ${parts.length} ${told.dataset.what}` : "";
    });
  });

  // On paper: everything open, dark ink on white.
  let folded = [];
  window.addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll("details:not([open]):not(.class-view):not(.unit-view):not(.model-card)")];
    folded.forEach((part) => { part.open = true; });
    root.dataset.theme = "light";
  });
  window.addEventListener("afterprint", () => {
    folded.forEach((part) => { part.open = false; });
    paint(wanted());
  });
})();
