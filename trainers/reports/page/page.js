"use strict";
(() => {
  /** Make an element with properties and children. */
  function make(tag, properties = {}, ...children) {
    const { data = {}, attributes = {}, ...rest } = properties;
    const element = Object.assign(document.createElement(tag), rest);
    Object.assign(element.dataset, data);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  }

  const within = (value, low, high) => Math.min(Math.max(value, low), high);

  // Light, dark, or as the system is.
  const THEMES = { "": "automatic", light: "light", dark: "dark" };
  function theme(button) {
    const show = (name) => {
      if (name) document.documentElement.dataset.theme = name;
      else delete document.documentElement.dataset.theme;
      button.querySelector("span").textContent = THEMES[name];
    };
    // A page from a file may have no storage.
    let now = "";
    try { now = localStorage.getItem("theme") || ""; } catch { /* the system's */ }
    if (!(now in THEMES)) now = "";
    show(now);
    button.hidden = false;
    button.addEventListener("click", () => {
      const names = Object.keys(THEMES);
      now = names[(names.indexOf(now) + 1) % names.length];
      show(now);
      try { localStorage.setItem("theme", now); } catch { /* until it is closed */ }
    });
  }

  // The part of the page that is read, in the contents.
  function contents(nav) {
    const links = [...nav.querySelectorAll("a")];
    const parts = links.map((link) => document.getElementById(link.hash.slice(1)));
    const mark = () => {
      let current = parts.findLastIndex((part) => part && part.getBoundingClientRect().top < 140);
      if (innerHeight + scrollY >= document.documentElement.scrollHeight - 2) current = parts.length - 1;
      links.forEach((link, index) => {
        if (index === Math.max(0, current)) link.setAttribute("aria-current", "true");
        else link.removeAttribute("aria-current");
      });
    };
    addEventListener("scroll", mark, { passive: true });
    mark();
  }

  // Tables are sorted by a column, then the other way round; empty cells come last.
  function sorting(table) {
    const headings = [...table.tHead.rows[0].cells];
    const compare = new Intl.Collator(undefined, { numeric: true }).compare;
    const value = (row, column) => {
      const cell = row.cells[column];
      return cell.dataset.value ? Number(cell.dataset.value) : cell.textContent.trim();
    };
    headings.forEach((heading, column) => {
      heading.querySelector("button").addEventListener("click", () => {
        const numeric = heading.classList.contains("number");
        const before = heading.getAttribute("aria-sort");
        const first = numeric ? "descending" : "ascending";
        const second = numeric ? "ascending" : "descending";
        const now = before === first ? second : first;
        for (const each of headings) each.setAttribute("aria-sort", each === heading ? now : "none");
        const sign = now === "ascending" ? 1 : -1;
        const rows = [...table.tBodies[0].rows].sort((one, other) => {
          const [a, b] = [value(one, column), value(other, column)];
          if (a === "" || b === "") return (a === "") - (b === "");
          if (typeof a === "number" && typeof b === "number") return sign * (a - b);
          return sign * compare(String(a), String(b));
        });
        table.tBodies[0].append(...rows);
      });
    });
  }

  // A chart tells the values under the pointer; arrow keys move from value to value.
  function reading(figure) {
    const plot = JSON.parse(figure.dataset.plot);
    const svg = figure.querySelector("svg");
    const line = figure.querySelector(".reading");
    const name = "http://www.w3.org/2000/svg";
    const cursor = svg.appendChild(document.createElementNS(name, "g"));
    cursor.setAttribute("class", "cursor");
    const place = ([low, high, start, end, logarithmic], value) => {
      const scale = logarithmic ? Math.log : (each) => each;
      return start + ((scale(value) - scale(low)) / (scale(high) - scale(low))) * (end - start);
    };
    const shown = () => plot.series.filter(([, number]) =>
      !figure.querySelector(`.series[data-number="${number}"]`).classList.contains("off"));
    const text = (value) => String(Number(value.toPrecision(5)));
    const clear = () => {
      cursor.replaceChildren();
      line.textContent = "";
      for (const strong of figure.querySelectorAll(".strong")) strong.classList.remove("strong");
    };
    const add = (tag, attributes) => {
      const element = document.createElementNS(name, tag);
      for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
      cursor.append(element);
    };
    const nearest = (points, x) => points.reduce((best, point) =>
      Math.abs(place(plot.x, point[0]) - x) < Math.abs(place(plot.x, best[0]) - x) ? point : best);
    let at = null;

    function tellPoint(x, y) {
      clear();
      let best = null;
      for (const [label, number, points] of shown()) {
        for (const point of points) {
          const distance = Math.hypot(place(plot.x, point[0]) - x, place(plot.y, point[1]) - y);
          if (!best || distance < best.distance) best = { label, number, point, distance };
        }
      }
      if (!best) return;
      figure.querySelector(`.series[data-number="${best.number}"]`).classList.add("strong");
      line.textContent = `${best.label}: ${text(best.point[1])} at ${text(best.point[0])}`;
      at = place(plot.x, best.point[0]);
    }

    function tellLine(x) {
      clear();
      const series = shown().filter(([, , points]) => points.length);
      if (!series.length) return;
      const step = nearest(series.flatMap(([, , points]) => points), x)[0];
      at = place(plot.x, step);
      add("line", { x1: at, x2: at, y1: plot.y[3], y2: plot.y[2] });
      const words = series.map(([label, number, points]) => {
        const point = nearest(points, at);
        add("circle", { cx: place(plot.x, point[0]), cy: place(plot.y, point[1]), r: 4, class: `c${number % 8}` });
        return series.length > 1 ? `${label}: ${text(point[1])}` : text(point[1]);
      });
      const more = words.length > 8 ? `, and ${words.length - 8} more` : "";
      line.textContent = `${text(step)}: ${words.slice(0, 8).join(", ")}${more}`;
    }

    const tell = plot.points ? tellPoint : tellLine;
    svg.addEventListener("pointermove", (event) => {
      const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
      tell(point.x, point.y);
    });
    svg.addEventListener("pointerleave", clear);
    svg.setAttribute("tabindex", "0");
    svg.addEventListener("blur", clear);
    svg.addEventListener("keydown", (event) => {
      const direction = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!direction) return;
      event.preventDefault();
      const places = [...new Set(shown().flatMap(([, , points]) => points.map((point) => place(plot.x, point[0]))))];
      places.sort((a, b) => a - b);
      const next = direction > 0
        ? places.find((each) => at === null || each > at + 0.01)
        : places.findLast((each) => at === null || each < at - 0.01);
      if (next !== undefined) {
        const owner = shown().flatMap(([, , points]) => points).find((point) => place(plot.x, point[0]) === next);
        tell(next, place(plot.y, owner[1]));
      }
    });
  }

  // A legend's keys switch series on and off, in all charts that it stands above.
  function switching(block) {
    for (const key of block.querySelectorAll(".keys button")) {
      key.addEventListener("click", () => {
        const on = key.getAttribute("aria-pressed") !== "true";
        key.setAttribute("aria-pressed", String(on));
        for (const series of block.querySelectorAll(`.series[data-number="${key.dataset.number}"]`)) {
          series.classList.toggle("off", !on);
        }
      });
    }
  }

  function copying(button) {
    const source = button.parentElement.querySelector("pre");
    button.addEventListener("click", async () => {
      let done = true;
      try { await navigator.clipboard.writeText(source.textContent); } catch {
        // Pages from files may have no clipboard: the command is selected, to be copied by key.
        getSelection().selectAllChildren(source);
        done = document.execCommand("copy");
      }
      button.textContent = done ? "Copied" : "Selected";
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
  }

  // Two pictures of a scene under a dividing line. Place and magnification stay when others are chosen.
  function viewing(viewer) {
    const scenes = [...viewer.querySelectorAll(".scene")].map((scene) => ({
      name: scene.dataset.name,
      width: Number(scene.dataset.width),
      height: Number(scene.dataset.height),
      scale: Number(scene.dataset.scale),
      layers: [...scene.querySelectorAll("figure")].map((figure) => ({
        ...figure.dataset,
        picture: figure.querySelector(".picture").src,
        error: figure.querySelector(".error")?.src,
      })),
    }));
    const LARGEST = 32;
    let scene = scenes[0];
    let choice = { left: null, right: null };
    let view = { zoom: 1, x: 0, y: 0 };  // x and y: what of the picture's sides lies before the stage's corner
    let divide = 50;
    let errors = false;

    const side = (name, label) => {
      const image = make("img", { alt: "", draggable: false });
      const select = make("select", { attributes: { "aria-label": `Picture on the ${name}` } });
      select.addEventListener("change", () => { choice[name] = select.value; show(); });
      return { image, select, tag: make("div", { className: `tag ${name}` }), label: make("label", {}, label, select),
        pane: make("div", { className: "pane" }, image) };
    };
    const sides = { left: side("left", "Left"), right: side("right", "Right") };
    const divider = make("div", { className: "divider" });
    const stage = make("div", { className: "stage", tabIndex: 0, attributes: { role: "group" } },
      sides.left.pane, sides.right.pane, divider, sides.left.tag, sides.right.tag);
    const slider = make("input", { type: "range", min: 0, max: 100, step: 1, value: 50,
      attributes: { "aria-label": "Dividing line between left and right" } });
    const button = (text, action, label) => {
      const made = make("button", { type: "button", textContent: text });
      if (label) made.setAttribute("aria-label", label);
      made.addEventListener("click", action);
      return made;
    };
    const percent = make("output");
    const zooms = make("div", { className: "zoom" },
      button("−", () => zoomTo(view.zoom / 1.5), "Smaller"), percent,
      button("+", () => zoomTo(view.zoom * 1.5), "Larger"), button("Fit", () => zoomTo(1)));
    const errorButton = button("Error maps", () => { errors = !errors; show(); });
    const strip = make("div", { className: "strip", attributes: { role: "group", "aria-label": "Images" } });
    scenes.forEach((each) => {
      const last = each.layers.at(-1);
      strip.append(make("button", { type: "button", title: each.name },
        make("img", { src: last.picture, alt: "" }), each.name));
      strip.lastChild.addEventListener("click", () => { scene = each; show(); });
    });
    const keys = make("p", { className: "note" });
    const key = (text) => make("kbd", { textContent: text });
    if (scenes.some((each) => each.layers.length > 1)) {
      keys.append("Drag the line, or move it by ", key("←"), " ", key("→"), "; ", key("1"), "–", key("9"),
        " choose the right picture, ", key("E"), " shows error maps. ");
    }
    keys.append("Magnify by the wheel, or by ", key("+"), " ", key("−"), " ", key("0"), ".");
    if (scenes.length > 1) keys.append(" ", key("N"), " ", key("P"), ": next and previous image.");
    const scaleNote = make("p", { className: "note" });
    const controls = make("div", { className: "controls" }, sides.left.label, sides.right.label, zooms, errorButton);
    const everything = make("div", { className: "interface" }, controls, stage, slider, strip, scaleNote, keys);

    function show() {
      const labels = scene.layers.map((layer) => layer.label);
      const target = scene.layers.find((layer) => layer.role === "target");
      const variants = scene.layers.filter((layer) => layer.role === "variant");
      const wanted = {
        left: scene.layers.find((layer) => layer.role === "input") || scene.layers[0],
        right: variants.at(-1) || target || scene.layers.at(-1),
      };
      const several = scene.layers.length > 1;
      for (const [name, { image, select, tag, label }] of Object.entries(sides)) {
        if (!labels.includes(choice[name])) choice[name] = wanted[name].label;
        if ([...select.options].map((option) => option.value).join("\n") !== labels.join("\n")) {
          select.replaceChildren(...labels.map((text) => make("option", { value: text, textContent: text })));
        }
        select.value = choice[name];
        const layer = scene.layers.find((each) => each.label === choice[name]);
        const error = errors && layer.error;
        const source = error ? layer.error : layer.picture;
        if (image.src !== source) image.src = source;
        image.alt = `${error ? "error of " : ""}${layer.label} of ${scene.name}`;
        tag.textContent = [error ? `error of ${layer.label}` : layer.label, layer.decibels].filter(Boolean).join(", ");
        label.hidden = !several;
        tag.hidden = !several;
      }
      sides.right.pane.hidden = divider.hidden = slider.hidden = !several;
      errorButton.hidden = !scene.scale;
      errorButton.setAttribute("aria-pressed", String(errors));
      scaleNote.hidden = !(errors && scene.scale);
      scaleNote.textContent = `Errors: mean of |picture − target| over the channels, from black (0) to light yellow (${scene.scale} of 1).`;
      stage.setAttribute("aria-label", `${scene.name}: ${choice.left} and ${choice.right}`);
      [...strip.children].forEach((each, index) => each.setAttribute("aria-pressed", String(scenes[index] === scene)));
      const shape = scene.width / scene.height;
      stage.style.aspectRatio = `${scene.width} / ${scene.height}`;
      stage.style.maxWidth = `min(100%, ${(74 * shape).toFixed(2)}vh, ${Math.max(640, 3 * scene.width)}px)`;
      slider.style.maxWidth = stage.style.maxWidth;
      lay();
    }

    function lay() {
      view.x = within(view.x, 0, 1 - 1 / view.zoom);
      view.y = within(view.y, 0, 1 - 1 / view.zoom);
      const magnified = (stage.clientWidth / scene.width) * view.zoom;
      for (const { image } of Object.values(sides)) {
        image.style.transform =
          `scale(${view.zoom}) translate(${(-100 * view.x).toFixed(4)}%, ${(-100 * view.y).toFixed(4)}%)`;
        image.classList.toggle("pixels", magnified >= 2);
      }
      percent.textContent = `${Math.round(100 * magnified)} %`;
      sides.right.pane.style.clipPath = `inset(0 0 0 ${divide}%)`;
      divider.style.left = `${divide}%`;
      slider.value = divide;
      stage.classList.toggle("zoomed", view.zoom > 1);
    }

    /** Magnify around a point, given as shares of the stage's sides. */
    function zoomTo(zoom, x = 0.5, y = 0.5) {
      const next = within(zoom, 1, LARGEST);
      view.x += x / view.zoom - x / next;
      view.y += y / view.zoom - y / next;
      view.zoom = next;
      lay();
    }

    const at = (event) => {
      const box = stage.getBoundingClientRect();
      return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    };
    const pointers = new Map();
    let action = null;
    const divideAt = (x) => { divide = within(Math.round(1000 * x) / 10, 0, 100); lay(); };
    const apart = () => {
      const [one, other] = [...pointers.values()];
      return Math.hypot(one[0] - other[0], one[1] - other[1]);
    };
    stage.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      stage.setPointerCapture(event.pointerId);
      const [x, y] = at(event);
      pointers.set(event.pointerId, [x, y]);
      if (pointers.size === 2) {
        action = { kind: "pinch", apart: apart(), zoom: view.zoom };
        return;
      }
      const near = Math.abs(x - divide / 100) * stage.clientWidth < 24;
      action = { kind: !divider.hidden && (near || view.zoom === 1) ? "divide" : "pan", x, y, view: { ...view } };
      if (action.kind === "divide") divideAt(x);
    });
    stage.addEventListener("pointermove", (event) => {
      if (!pointers.has(event.pointerId)) return;
      const [x, y] = at(event);
      pointers.set(event.pointerId, [x, y]);
      if (action.kind === "pinch" && pointers.size === 2) zoomTo((action.zoom * apart()) / action.apart);
      if (action.kind === "divide") divideAt(x);
      if (action.kind === "pan") {
        view.x = action.view.x - (x - action.x) / view.zoom;
        view.y = action.view.y - (y - action.y) / view.zoom;
        lay();
      }
    });
    const release = (event) => pointers.delete(event.pointerId);
    stage.addEventListener("pointerup", release);
    stage.addEventListener("pointercancel", release);
    stage.addEventListener("dblclick", (event) => zoomTo(view.zoom > 1 ? 1 : 4, ...at(event)));
    stage.addEventListener("wheel", (event) => {
      // The page scrolls on where there is nothing left to make smaller.
      if (view.zoom === 1 && event.deltaY > 0) return;
      event.preventDefault();
      zoomTo(view.zoom * Math.exp(-event.deltaY * 0.002), ...at(event));
    }, { passive: false });
    stage.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const step = 0.1 / view.zoom;
      const actions = {
        ArrowLeft: () => event.shiftKey ? pan(-step, 0) : divideAt(divide / 100 - 0.02),
        ArrowRight: () => event.shiftKey ? pan(step, 0) : divideAt(divide / 100 + 0.02),
        ArrowUp: () => pan(0, -step),
        ArrowDown: () => pan(0, step),
        "+": () => zoomTo(view.zoom * 1.5),
        "=": () => zoomTo(view.zoom * 1.5),
        "-": () => zoomTo(view.zoom / 1.5),
        0: () => zoomTo(1),
        e: () => { errors = !errors; show(); },
        n: () => { scene = scenes[(scenes.indexOf(scene) + 1) % scenes.length]; show(); },
        p: () => { scene = scenes.at(scenes.indexOf(scene) - 1); show(); },
      };
      const act = actions[event.key] || actions[event.key.toLowerCase()];
      const layer = /^[1-9]$/.test(event.key) && scene.layers[Number(event.key) - 1];
      if (layer) {
        choice.right = layer.label;
        show();
      } else if (act && !((event.key === "ArrowUp" || event.key === "ArrowDown") && view.zoom === 1)) {
        act();
      } else {
        return;
      }
      event.preventDefault();
    });
    function pan(x, y) { view.x += x; view.y += y; lay(); }
    slider.addEventListener("input", () => { divide = Number(slider.value); lay(); });
    new ResizeObserver(lay).observe(stage);

    strip.hidden = scenes.length < 2;
    viewer.prepend(everything);
    viewer.classList.add("enhanced");
    show();
  }

  // The page of a server asks whether the runs have changed.
  function watching(news) {
    const seconds = 5;
    let state = null;
    let touched = performance.now();
    for (const event of ["pointermove", "keydown", "wheel"]) {
      addEventListener(event, () => { touched = performance.now(); }, { passive: true });
    }
    news.querySelector("button").addEventListener("click", () => location.reload());
    setInterval(async () => {
      let now;
      try { now = await (await fetch("/state")).text(); } catch { return; }  // the server may come back
      if (state !== null && now !== state) {
        news.hidden = false;
        // Nobody is disturbed in the middle of something.
        if (performance.now() - touched > 2000 * seconds) location.reload();
      }
      state ??= now;
    }, 1000 * seconds);
  }

  // In print everything is unfolded.
  let unfolded = [];
  addEventListener("beforeprint", () => {
    unfolded = [...document.querySelectorAll("details:not([open])")];
    for (const each of unfolded) each.open = true;
    for (const each of document.querySelectorAll("img[loading=lazy]")) each.loading = "eager";
  });
  addEventListener("afterprint", () => { for (const each of unfolded) each.open = false; });

  theme(document.querySelector(".theme"));
  contents(document.querySelector("nav"));
  document.querySelectorAll("table.sortable").forEach(sorting);
  document.querySelectorAll(".chart").forEach(reading);
  document.querySelectorAll(".switchable").forEach(switching);
  document.querySelectorAll(".copy").forEach(copying);
  document.querySelectorAll(".viewer").forEach(viewing);
  if ("live" in document.body.dataset) watching(document.querySelector(".news"));
})();
