// Draws every chart from its specification, in the colour scheme of the reader's system.
(() => {
  "use strict";
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const specifications = read("chart-specifications");
  const themes = read("chart-themes");
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const drawn = new Map();

  async function draw(place) {
    const scheme = dark.matches ? "dark" : "light";
    drawn.get(place)?.finalize();
    const result = await vegaEmbed(place, specifications[place.dataset.chart], {
      config: themes[scheme],
      renderer: "svg",
      ast: true, // an interpreter instead of new Function(): the page's policy allows no evaluated code
      actions: { export: true, source: false, compiled: false, editor: false },
      downloadFileName: place.dataset.chart,
    });
    place.dataset.scheme = scheme;
    const menu = place.querySelector("summary");
    menu?.setAttribute("aria-label", "Save this chart as SVG or PNG");
    menu?.setAttribute("title", "Save this chart as SVG or PNG");
    drawn.set(place, result);
  }

  async function drawAll() {
    for (const place of document.querySelectorAll("[data-chart]")) {
      try {
        await draw(place);
      } catch (error) {
        place.textContent = `This chart could not be drawn (${error.message}). The tables hold the same values.`;
      }
    }
  }

  dark.addEventListener("change", drawAll);
  drawAll();
})();
