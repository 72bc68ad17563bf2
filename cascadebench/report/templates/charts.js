// Draws a chart when it comes near the screen, in the page's colours, and lets go of it when it is far away again; saves
// it; changes what a figure shows.
(() => {
  "use strict";
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const { charts, parts } = read("chart-specifications");
  const themes = read("chart-themes");
  const places = [...document.querySelectorAll("[data-chart]")];
  const drawn = new Map(); // place -> promise of what is drawn there, as Vega-Embed returns it
  let printing = false;
  let keeping = false; // all drawings, wherever they are

  // Paper is white whatever the screen is.
  const scheme = () => (printing ? "light" : document.documentElement.dataset.scheme);
  const seedOf = (place) => place.closest("figure").querySelector("select[name=seed]")?.value;

  // What is in several charts is written once: {"part": 3} stands for it.
  function whole(value) {
    if (value === null || typeof value !== "object") return value;
    if (Array.isArray(value)) return value.map(whole);
    if ("part" in value) return whole(parts[value.part]);
    return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, whole(inner)]));
  }

  // Rows of the columns that they are written in; equal values that follow each other are written as runs.
  function rowsOf({ names, columns }) {
    const values = columns.map((column) =>
      Array.isArray(column)
        ? column
        : column.runs.flatMap((value, at, runs) => (at % 2 ? [] : Array(runs[at + 1]).fill(value))),
    );
    return (values[0] ?? []).map((_, row) =>
      Object.fromEntries(
        names.map((name, at) => [name, values[at][row]]).filter(([, value]) => value !== null),
      ),
    );
  }

  function chart(place) {
    const { datasets, ...specification } = whole(charts[place.dataset.chart]);
    const rows = Object.entries(datasets).map(([name, columns]) => [name, rowsOf(columns)]);
    return { ...specification, datasets: Object.fromEntries(rows) };
  }

  // A specification under the seed that is chosen: its parameter "seed" gets another value.
  function specificationOf(place) {
    const specification = chart(place);
    const seed = seedOf(place);
    if (seed === undefined) return specification;
    const params = specification.params.map((one) => (one.name === "seed" ? { ...one, value: seed } : one));
    return { ...specification, params };
  }

  async function embed(place, earlier) {
    const drawing = place.querySelector(".drawing");
    try {
      (await earlier)?.finalize();
      const target = drawing.firstElementChild ?? drawing.appendChild(document.createElement("div"));
      const result = await vegaEmbed(target, specificationOf(place), {
        config: themes[scheme()],
        renderer: "svg",
        ast: true, // an interpreter instead of new Function(): the page's policy allows no evaluated code
        actions: false,
        tooltip: { theme: scheme() },
      });
      place.dataset.drawn = scheme();
      return result;
    } catch (error) {
      drawing.textContent = `This chart could not be drawn (${error.message}). The tables hold the same values.`;
      return undefined;
    }
  }

  // Draws what is not yet drawn as it should be; a chart that is not shown has no width to be drawn in.
  function draw(place) {
    const state = JSON.stringify([scheme(), seedOf(place)]);
    if (place.dataset.state !== state && place.clientWidth) {
      place.dataset.state = state;
      drawn.set(place, embed(place, drawn.get(place)));
    }
    return drawn.get(place);
  }

  // Drawings take memory; the room of one that is gone is kept by its style.
  async function release(place) {
    const earlier = drawn.get(place);
    drawn.delete(place);
    delete place.dataset.state;
    (await earlier)?.finalize();
    if (drawn.has(place)) return; // near again meanwhile
    delete place.dataset.drawn;
    place.querySelector(".drawing").replaceChildren();
  }

  // One after the other, so that the page answers between two charts; not those that a reader has passed meanwhile.
  const near = new Set();
  let queue = Promise.resolve();
  function enqueue(place) {
    queue = queue
      .then(() => new Promise((resolve) => setTimeout(resolve)))
      .then(() => (near.has(place) ? draw(place) : undefined));
  }

  const observer = new IntersectionObserver(
    (entries) => {
      for (const { target, isIntersecting } of entries) {
        if (isIntersecting) near.add(target);
        else near.delete(target);
        if (isIntersecting) enqueue(target);
      }
    },
    { rootMargin: "600px" },
  );
  const farther = new IntersectionObserver(
    (entries) => {
      for (const { target, isIntersecting } of entries) {
        if (!isIntersecting && !keeping && drawn.has(target)) release(target);
      }
    },
    { rootMargin: "4000px" },
  );

  // Observing anew reports where every chart is, and so draws those near that look different now.
  function refresh(some, observers = [observer]) {
    for (const one of observers) {
      for (const place of some) {
        one.unobserve(place);
        one.observe(place);
      }
    }
  }

  function drawAll() {
    keeping = true;
    return Promise.all(places.map(draw)).then(() => undefined);
  }
  window.drawAllCharts = drawAll; // for programs that read the page: nothing is left for later

  function save(name, address) {
    const link = document.createElement("a");
    link.href = address;
    link.download = name;
    link.click();
  }

  function table(place) {
    const sets = Object.values(chart(place).datasets);
    const rows = sets.reduce((most, rows) => (rows.length > most.length ? rows : most), []);
    const names = [...new Set(rows.flatMap(Object.keys))];
    return window.csv([names, ...rows.map((row) => names.map((name) => row[name] ?? ""))]);
  }

  const formats = {
    SVG: async (view) => URL.createObjectURL(new Blob([await view.toSVG()], { type: "image/svg+xml" })),
    PNG: async (view) => view.toImageURL("png", 2),
    CSV: async (_, place) => URL.createObjectURL(new Blob([table(place)], { type: "text/csv" })),
  };

  for (const place of places) {
    const tools = document.createElement("div");
    tools.className = "tools";
    for (const [format, address] of Object.entries(formats)) {
      const button = tools.appendChild(document.createElement("button"));
      button.type = "button";
      button.textContent = format;
      button.setAttribute("aria-label", `${format} of the chart ${charts[place.dataset.chart].title}`);
      button.addEventListener("click", async () => {
        const { view } = await draw(place);
        save(`${place.dataset.chart}.${format.toLowerCase()}`, await address(view, place));
      });
    }
    place.append(tools);
  }

  // A panel is shown while everything that it shows is chosen.
  for (const choices of document.querySelectorAll("figure .choices")) {
    const figure = choices.closest("figure");
    const panels = [...figure.querySelectorAll("[data-chart]")];
    choices.hidden = false;
    choices.addEventListener("change", () => {
      const off = [...choices.querySelectorAll("input:not(:checked)")];
      for (const place of panels) {
        const shows = JSON.parse(place.dataset.shows);
        place.hidden = off.some((input) => shows[input.name] === input.value);
      }
      figure.querySelector(".nothing").hidden = panels.some((place) => !place.hidden);
      refresh(panels);
    });
  }

  document.addEventListener("colours", () => refresh(places));
  window.addEventListener("beforeprint", () => {
    printing = true;
    drawAll();
  });
  window.addEventListener("afterprint", () => {
    printing = keeping = false;
    refresh(places, [observer, farther]);
  });
  refresh(places, [observer, farther]);
})();
