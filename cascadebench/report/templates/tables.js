// Lets a reader sort and filter the tables and save them as CSV or LaTeX, all from what stands in their cells.
(() => {
  "use strict";
  const DASH = "–";
  const words = new Intl.Collator("en", { numeric: true, sensitivity: "base" });

  function element(tag, attributes = {}, text = "") {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.textContent = text;
    return made;
  }

  const leaves = (table) => [...table.tHead.querySelectorAll("th[scope=col]")];
  const bodyRows = (body) => [...body.rows].filter((row) => !row.classList.contains("group"));
  const groupOf = (body) => body.querySelector("tr.group th > span")?.textContent.trim() ?? "";
  const mainText = (cell) => cell.querySelector(":scope > span")?.textContent ?? "";
  const notesOf = (cell) => [...cell.querySelectorAll("small")];

  // A number as a program writes it: without thin spaces, with a hyphen for the minus sign.
  const plain = (text) => text.replaceAll("\u202f", "").replaceAll("−", "-").replace(/^[+±](?=\d)/, "");

  // What is saved of a cell or of a line in it: the number without rounding if there is one, else the text.
  function exact(holder, text, isNumber) {
    if (holder.dataset.value !== undefined) return holder.dataset.value;
    if (text === DASH) return "";
    return isNumber ? plain(text) : text;
  }

  // Sorting, within each group of rows.

  function sortKey(cell, isNumber) {
    const text = mainText(cell) || notesOf(cell).map((note) => note.textContent).join(" ");
    if (!isNumber) return text === DASH ? "" : text;
    const value = Number.parseFloat(exact(cell, text, true));
    return Number.isNaN(value) ? null : value;
  }

  function compare(a, b) {
    return typeof a === "number" ? a - b : words.compare(a, b);
  }

  function sort(table, place, direction) {
    const isNumber = leaves(table)[place].classList.contains("number");
    for (const body of table.tBodies) {
      const keyed = bodyRows(body).map((row) => ({ row, key: sortKey(row.cells[place], isNumber) }));
      const missing = ({ key }) => key === null || key === "";
      keyed.sort((a, b) => {
        if (direction === "none") return a.row.dataset.place - b.row.dataset.place;
        if (missing(a) || missing(b)) return missing(a) - missing(b);
        return compare(a.key, b.key) * (direction === "ascending" ? 1 : -1);
      });
      body.append(...keyed.map(({ row }) => row));
    }
  }

  function addSorting(table) {
    for (const body of table.tBodies) bodyRows(body).forEach((row, place) => (row.dataset.place = place));
    leaves(table).forEach((head, place, heads) => {
      const button = element("button", { type: "button", class: "sort" });
      button.append(...head.childNodes);
      head.append(button);
      // Of numbers the largest is looked for first.
      const turns = head.classList.contains("number") ? ["descending", "ascending"] : ["ascending", "descending"];
      button.addEventListener("click", () => {
        const next = [...turns, "none"][turns.indexOf(head.getAttribute("aria-sort")) + 1];
        for (const other of heads) other.removeAttribute("aria-sort");
        if (next !== "none") head.setAttribute("aria-sort", next);
        sort(table, place, next);
      });
    });
  }

  // The filter.

  function addFilter(table, tools) {
    const label = element("label", {}, "Filter rows");
    const input = element("input", { type: "search", autocomplete: "off", spellcheck: "false" });
    const count = element("span", { role: "status" });
    label.append(input);
    tools.append(label, count);
    const rows = [...table.tBodies].flatMap(bodyRows);
    const texts = new Map();
    input.addEventListener("input", () => {
      const wanted = input.value.trim().toLowerCase();
      if (!texts.size) for (const row of rows) {
        texts.set(row, [groupOf(row.parentNode), ...[...row.cells].map((cell) => cell.innerText)].join(" ").toLowerCase());
      }
      for (const row of rows) row.hidden = !texts.get(row).includes(wanted);
      for (const body of table.tBodies) body.hidden = bodyRows(body).every((row) => row.hidden);
      count.textContent = wanted ? `${rows.filter((row) => !row.hidden).length} of ${rows.length} rows` : "";
    });
  }

  // What is saved: the rows that are shown, in their order.

  function shownRows(table) {
    return [...table.tBodies].flatMap((body) =>
      bodyRows(body).filter((row) => !row.hidden).map((row) => ({ group: groupOf(body), cells: [...row.cells] })));
  }

  // Title of the group of columns over every column, empty without one.
  function overs(table) {
    if (table.tHead.rows.length === 1) return leaves(table).map(() => "");
    const [first, ...others] = table.tHead.rows[0].cells;
    return ["", ...others.flatMap((cell) => Array(cell.colSpan).fill(cell.textContent.trim()))];
  }

  const quoted = (value) => (/[",\r\n]/.test(value) ? `"${String(value).replaceAll('"', '""')}"` : value);
  window.csv = (rows) => rows.map((row) => row.map(quoted).join(",")).join("\r\n") + "\r\n";

  function titles(table) {
    const short = leaves(table).map((head) => head.textContent.trim());
    const over = overs(table);
    return short.map((title, place) =>
      over[place] && short.indexOf(title) !== short.lastIndexOf(title) ? `${over[place]}: ${title}` : title);
  }

  // A column for every cell's value, and one for each kind of line under the values.
  function asCsv(table) {
    const rows = shownRows(table);
    const heads = leaves(table);
    const grouped = rows.some((row) => row.group);
    const columns = titles(table).map((title, place) => {
      const cells = rows.map((row) => row.cells[place]);
      const names = [...new Set(cells.flatMap((cell) => notesOf(cell).map((note) => note.dataset.name ?? "")))];
      return { title, isNumber: heads[place].classList.contains("number"), names };
    });
    const lines = rows.map(({ group, cells }) => [
      ...(grouped ? [group] : []),
      ...columns.flatMap(({ isNumber, names }, place) => [
        exact(cells[place], mainText(cells[place]), isNumber),
        ...names.map((name) => notesOf(cells[place]).filter((note) => (note.dataset.name ?? "") === name)
          .map((note) => exact(note, note.textContent, false)).join("; ")),
      ]),
    ]);
    const head = columns.flatMap(({ title, names }) => [title, ...names.map((name) => `${title}, ${name || "note"}`)]);
    return window.csv([[...(grouped ? ["Group"] : []), ...head], ...lines]);
  }

  const LATEX = {
    "\\": "\\textbackslash{}", "{": "\\{", "}": "\\}", $: "\\$", "&": "\\&", "#": "\\#", "%": "\\%", _: "\\_",
    "^": "\\textasciicircum{}", "~": "\\textasciitilde{}", "<": "\\textless{}", ">": "\\textgreater{}",
    "−": "$-$", "×": "$\\times$", "÷": "$\\div$", "±": "$\\pm$", "≠": "$\\neq$", "…": "\\ldots{}", "–": "--",
    "“": "``", "”": "''", "\u202f": "\\,",
  };
  const escaped = (text) => text.trim().replace(/\s*\n\s*/g, " ").replace(/./gu, (sign) => LATEX[sign] ?? sign);

  function latexTitle(head) {
    const [main, below] = [head.cloneNode(true), head.querySelector("sub")?.textContent];
    main.querySelector("sub")?.remove();
    return escaped(main.textContent) + (below ? `\\textsubscript{${escaped(below)}}` : "");
  }

  // Columns of long texts get a width, others are as wide as what they hold.
  function alignments(table, rows) {
    return leaves(table).map((head, place) => {
      if (head.classList.contains("number")) return "r";
      const longest = Math.max(...rows.map(({ cells }) => mainText(cells[place]).length));
      return longest > 40 ? "p{0.25\\linewidth}" : "l";
    }).join("");
  }

  function latexHead(table) {
    const over = table.tHead.rows.length > 1 ? [...table.tHead.rows[0].cells].slice(1) : [];
    const line = `${leaves(table).map(latexTitle).join(" & ")} \\\\`;
    if (!over.length) return [line];
    let start = 2;
    const rules = [];
    const groups = over.map((cell) => {
      const [first, last] = [start, start + cell.colSpan - 1];
      start = last + 1;
      if (!cell.textContent) return "& ".repeat(cell.colSpan - 1);
      rules.push(`\\cmidrule(lr){${first}-${last}}`);
      return `\\multicolumn{${cell.colSpan}}{c}{${escaped(cell.textContent)}}`;
    });
    return [` & ${groups.join(" & ")} \\\\`, rules.join(" "), line];
  }

  // Lines under a value become rows under its row.
  function latexRows(cells) {
    const depth = Math.max(...cells.map((cell) => notesOf(cell).length));
    const below = Array.from({ length: depth }, (_, level) => cells.map((cell) => {
      const text = escaped(notesOf(cell)[level]?.textContent ?? "");
      return text && `{\\scriptsize ${text}}`;
    }));
    const first = cells.map((cell) => escaped(mainText(cell)));
    return [...(first.some(Boolean) ? [first] : []), ...below].map((row) => `${row.join(" & ")} \\\\`);
  }

  function asLatex(table) {
    const rows = shownRows(table);
    const width = leaves(table).length;
    const body = rows.flatMap(({ group, cells }, place) => {
      const title = group && group !== rows[place - 1]?.group
        ? [...(place ? ["\\midrule"] : []), `\\multicolumn{${width}}{l}{\\emph{${escaped(group)}}} \\\\`] : [];
      return [...title, ...latexRows(cells)];
    });
    return [
      "% In the preamble: \\usepackage{booktabs}", "\\begin{table}", "\\centering",
      `\\caption{${escaped(table.caption.textContent)}}`, `\\label{tab:${table.id}}`,
      `\\begin{tabular}{${alignments(table, rows)}}`, "\\toprule", ...latexHead(table), "\\midrule", ...body,
      "\\bottomrule", "\\end{tabular}", "\\end{table}", "",
    ].join("\n");
  }

  function save(name, text, type) {
    const link = element("a", { download: name });
    link.href = URL.createObjectURL(new Blob([text], { type: `${type};charset=utf-8` }));
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  }

  const formats = { CSV: ["csv", "text/csv", asCsv], LaTeX: ["tex", "application/x-tex", asLatex] };
  for (const table of document.querySelectorAll("table")) {
    const tools = element("div", { class: "tools" });
    for (const [format, [ending, type, write]] of Object.entries(formats)) {
      const button = element("button", { type: "button", "aria-label": `${format} of the table ${table.id}` }, format);
      button.addEventListener("click", () => save(`${table.id}.${ending}`, write(table), type));
      tools.append(button);
    }
    if (table.dataset.filtered !== undefined) addFilter(table, tools);
    table.closest(".scroll").before(tools);
    addSorting(table);
  }
})();
