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

  choice.closest("label").hidden = false;
  choice.addEventListener("change", colour);
  dark.addEventListener("change", colour);
  window.addEventListener("hashchange", unfold);
  // Paper shows everything, and as much of it as was open comes back afterwards.
  let opened = [];
  window.addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")];
    for (const one of opened) one.open = true;
  });
  window.addEventListener("afterprint", () => {
    for (const one of opened) one.open = false;
  });
  colour();
  unfold();
})();
