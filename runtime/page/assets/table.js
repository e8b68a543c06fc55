"use strict";
// A table that is sorted by clicking on its headers, and shows some rows at a time so that any number of them is quick.

/**
 * Fill a table.
 * place: an empty element.
 * columns: [{title, value(row) for sorting, cell(row) -> nodes or text, number: bool, descending: bool}].
 * Returns {show(rows)}, which puts other rows there, keeping the order that was chosen.
 */
function sortedTable(place, { caption, columns, pageSize, sortBy }) {
  const state = { rows: [], column: sortBy, descending: columns[sortBy].descending ?? false, page: 0 };
  const headers = columns.map((column, i) => {
    const button = make("button", { type: "button", class: "sort" }, column.title);
    button.addEventListener("click", () => {
      state.descending = i === state.column ? !state.descending : column.descending ?? false;
      state.column = i;
      state.page = 0;
      render();
    });
    return make("th", { scope: "col", class: column.number ? "number" : "" }, button);
  });
  const body = make("tbody");
  const table = make("table", {}, make("caption", {}, caption), make("thead", {}, make("tr", {}, ...headers)), body);
  const previous = make("button", { type: "button" }, "Previous rows");
  const next = make("button", { type: "button" }, "Next rows");
  const where = make("span", { role: "status" });
  const pager = make("p", { class: "pager" }, previous, next, where);
  previous.addEventListener("click", () => turn(-1));
  next.addEventListener("click", () => turn(1));
  // A table that is wider than the screen scrolls, which the keyboard has to be able to do too.
  place.append(make("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": caption }, table), pager);

  function turn(pages) {
    state.page += pages;
    render();
  }

  function render() {
    const { value } = columns[state.column];
    const sign = state.descending ? -1 : 1;
    const order = (a, b) => (a < b ? -sign : a > b ? sign : 0);
    const rows = state.rows.map((row) => [value(row), row]).sort(([a], [b]) => order(a, b));
    const first = state.page * pageSize;
    const shown = rows.slice(first, first + pageSize);
    body.replaceChildren(
      ...shown.map(([, row]) =>
        make("tr", {}, ...columns.map((column, i) => {
          const attributes = { class: column.number ? "number" : "" };
          if (i === 0) return make("th", { scope: "row", ...attributes }, ...[column.cell(row)].flat());
          return make("td", attributes, ...[column.cell(row)].flat());
        })),
      ),
    );
    headers.forEach((header, i) => {
      header.setAttribute("aria-sort", i !== state.column ? "none" : state.descending ? "descending" : "ascending");
    });
    pager.hidden = rows.length <= pageSize;
    previous.disabled = state.page === 0;
    next.disabled = first + pageSize >= rows.length;
    where.textContent = pager.hidden ? "" : ` ${first + 1} to ${first + shown.length} of ${rows.length.toLocaleString("en")}`;
  }

  return {
    show(rows) {
      Object.assign(state, { rows, page: 0 });
      render();
    },
  };
}
