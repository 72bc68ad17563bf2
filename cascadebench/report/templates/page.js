// The page's colours, and places inside folded parts. Other scripts hear of new colours by the event "colours".
(() => {
  "use strict";
  const root = document.documentElement;
  const choice = document.getElementById("colours");
  const dark = window.matchMedia("(prefers-color-scheme: dark)");

  function colour() {
    root.dataset.scheme = choice.value || (dark.matches ? "dark" : "light");
    document.dispatchEvent(new Event("colours"));
  }

  // A link may lead to a table that is folded away.
  function unfold() {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const folded = target?.closest("details:not([open])");
    if (folded) {
      folded.open = true;
      target.scrollIntoView();
    }
  }

  // A table that is wider than a sheet is printed smaller, so that no column is cut off.
  const SHEET = 700; // CSS pixels between the margins of A4
  const PRINTED = 2 / 3; // size of a table's text on paper, of that on the screen
  function fitTables() {
    const tables = [...document.querySelectorAll("table")];
    for (const table of tables) table.style.width = "min-content";
    const widths = tables.map((table) => table.offsetWidth * PRINTED);
    tables.forEach((table, place) => {
      table.style.width = "";
      table.style.setProperty("--print-zoom", Math.min(1, SHEET / widths[place]));
    });
  }

  for (const one of [choice.closest("label"), document.querySelector(".hint")]) one.hidden = false;
  choice.addEventListener("change", colour);
  dark.addEventListener("change", colour);
  window.addEventListener("hashchange", unfold);
  // Paper shows everything, and as much of it as was open comes back afterwards.
  let opened = [];
  window.addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")];
    for (const one of opened) one.open = true;
    fitTables();
  });
  window.addEventListener("afterprint", () => {
    for (const one of opened) one.open = false;
  });
  colour();
  unfold();
})();
