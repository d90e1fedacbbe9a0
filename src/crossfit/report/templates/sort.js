"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
  const body = table.tBodies[0];
  heads.forEach((head, at) => {
    const button = head.querySelector("button");
    if (!button) return;
    button.addEventListener("click", () => {
      const now = head.getAttribute("aria-sort");
      const order = now ? (now === "ascending" ? "descending" : "ascending") : head.dataset.order;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      const rows = [...body.rows].filter((row) => !row.classList.contains("chance"));
      const chance = [...body.rows].filter((row) => row.classList.contains("chance"));
      const value = (row) => row.cells[at].dataset.value;
      const words = (row) => row.cells[at].textContent.trim();
      rows.sort((a, b) => {
        const x = value(a), y = value(b);
        if (x !== undefined && y !== undefined) return sign * (x - y);
        // Cells without a number come last in both orders.
        if (x !== undefined || y !== undefined) return x === undefined ? 1 : -1;
        return sign * words(a).localeCompare(words(b), undefined, { numeric: true });
      });
      body.append(...rows, ...chance);
      document.getElementById("status").textContent = `sorted by ${button.textContent}, ${order}`;
    });
  });
}
