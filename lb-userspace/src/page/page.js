"use strict";
(() => {
  // Names come from the config and from checks: they are only ever set as text.
  const EVERY = 2000, KEPT = 60, ROWS = 40, EVENTS = 200, UNIT = ["", "k", "M", "G", "T"];
  const SVG = "http://www.w3.org/2000/svg";
  const byId = (id) => document.getElementById(id);
  const make = (name, className, text) => {
    const element = document.createElement(name);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const set = (node, text) => { if (node.textContent !== text) node.textContent = text; };
  const short = (number) => {
    if (number === null) return "–";
    let step = 0;
    while (number >= 999.5 && step < UNIT.length - 1) { number /= 1000; step += 1; }
    return (number >= 99.5 || (step === 0 && Number.isInteger(number)) ? number.toFixed(0) : number.toFixed(1)) + UNIT[step];
  };
  const span = (seconds) => {
    if (seconds < 1) return "now";
    for (const [size, word] of [[86400, "d"], [3600, "h"], [60, "min"]]) {
      if (seconds >= size) return Math.floor(seconds / size) + " " + word;
    }
    return Math.floor(seconds) + " s";
  };
  const digits = (number) => number >= 99.5 ? number.toFixed(0) : number.toPrecision(2);
  const duration = (seconds) => seconds === undefined || seconds === null ? "–"
    : seconds < 1 ? digits(seconds * 1000) + " ms" : digits(seconds) + " s";

  // Rates from counters, and the last of them for charts.
  const histories = new Map();
  const seen = new Set();
  let seconds = 0;
  const remember = (key, value) => {
    seen.add(key);
    let list = histories.get(key);
    if (!list) histories.set(key, list = []);
    list.push(value);
    if (list.length > KEPT) list.shift();
    return value;
  };
  const counters = new Map();
  const rate = (key, count) => {
    seen.add(key);
    const before = counters.get(key);
    counters.set(key, count);
    // After a restart with new tables the count begins anew.
    return before === undefined || seconds <= 0 || count < before ? null : (count - before) / seconds;
  };

  const chart = (label) => {
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("viewBox", "0 0 100 30");
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("role", "img");
    const area = document.createElementNS(SVG, "path"), curve = document.createElementNS(SVG, "path");
    area.setAttribute("class", "area");
    curve.setAttribute("class", "curve");
    svg.append(area, curve);
    return { svg, draw(values, words) {
      const known = values.filter((value) => value !== null);
      const highest = Math.max(0, ...known), scale = highest > 0 ? 25 / highest : 0;
      svg.setAttribute("aria-label", label + ", now " + words(known.at(-1) ?? null) + ", highest of two minutes " + words(highest));
      const step = 100 / (KEPT - 1), first = KEPT - known.length;
      const points = known.map((value, index) => ((first + index) * step).toFixed(1) + " " + (28.5 - value * scale).toFixed(1));
      curve.setAttribute("d", points.length > 1 ? "M" + points.join("L") : "");
      area.setAttribute("d", points.length > 1 ? "M" + points.join("L") + "L100 30L" + (first * step).toFixed(1) + " 30Z" : "");
    } };
  };

  // Good, so-so and bad as parts of a bar.
  const parts = () => {
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("viewBox", "0 0 100 8");
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("class", "parts");
    svg.setAttribute("role", "img");
    const rects = ["good", "warn", "bad"].map((name) => {
      const rect = document.createElementNS(SVG, "rect");
      rect.setAttribute("class", name);
      rect.setAttribute("height", "8");
      svg.append(rect);
      return rect;
    });
    return { svg, draw(counts, words) {
      const sum = Math.max(1, counts.reduce((all, one) => all + one, 0));
      let from = 0;
      rects.forEach((rect, index) => {
        const width = 100 * counts[index] / sum;
        rect.setAttribute("x", String(from));
        rect.setAttribute("width", String(width));
        from += width;
      });
      svg.setAttribute("aria-label", words);
    } };
  };

  const tiles = new Map();
  const tile = (name, value, unit, more, values, bad) => {
    let own = tiles.get(name);
    if (!own) {
      own = { box: make("div", "card tile"), value: make("span", "value"), more: make("span", "more"), chart: chart(name) };
      own.number = make("span"); own.unit = make("small");
      own.value.append(own.number, own.unit);
      own.box.append(make("span", "name", name), own.value, own.more);
      if (values) own.box.append(own.chart.svg);
      else own.box.append((own.parts = parts()).svg);
      byId("tiles").append(own.box);
      tiles.set(name, own);
    }
    set(own.number, value); set(own.unit, unit ? " " + unit : ""); set(own.more, more || "");
    own.box.classList.toggle("bad", Boolean(bad));
    if (values) own.chart.draw(values, (number) => short(number) + " " + unit);
    return own;
  };

  const COLUMNS = [
    ["Backend", (b) => b.name, "th"], ["State", (b) => rank(b), "state text"],
    ["Weight", (b) => b.weight], ["Flows", (b) => b.active_flows], ["New/s", (b) => b.rates.connections ?? -1],
    ["Packets/s", (b) => b.rates.packets ?? -1], ["bit/s", (b) => b.rates.bits ?? -1], ["Last 2 min", null, "chart"],
    ["Check", (b) => b.check_seconds ?? -1], ["Last check", null, "last text"],
  ];
  const rank = (b) => b.health === "down" ? 0 : b.state !== "ready" ? 1 : !b.in_rotation ? 2 : 3;
  const isProblem = (b) => b.health === "down" || b.state !== "ready" || (!b.in_rotation && b.role !== "backup" && b.weight > 0);
  const word = (b) => b.state === "maint" ? ["maint", "maint"] : b.health === "down" ? ["down", "down"]
    : b.state === "drain" ? ["drain", "drain"] : b.health !== "up" ? ["checking", "checking"]
    : b.role === "backup" && !b.in_rotation ? ["standby", "standby"] : b.in_rotation ? ["up", "up"]
    : ["out", "out of rotation"];

  const cards = new Map();
  const newCard = (service, isFirst) => {
    const card = { box: make("details", "card service"), rows: new Map(), chart: chart("New connections per second of " + service.name),
      sort: null, all: false, facts: {} };
    const summary = make("summary"), who = make("span", "who"), facts = make("span", "facts");
    card.where = make("span");
    who.append(make("b", "", service.name), card.where);
    for (const [key, label] of [["up", "in rotation"], ["flows", "flows"], ["new", "new/s"], ["bits", "bit/s"]]) {
      const fact = make("span"), value = make("b");
      fact.append(value, " " + label);
      facts.append(fact);
      card.facts[key] = value;
    }
    card.chip = make("span", "chip");
    facts.append(card.chip);
    summary.append(make("span", "mark", "▸"), who, facts, card.chart.svg);
    const scroll = make("div", "scroll"), table = make("table"), head = make("tr"), thead = make("thead");
    table.append(make("caption", "hidden", "Backends of " + service.name));
    COLUMNS.forEach(([label, by, kind], index) => {
      const cell = make("th", kind && kind.includes("text") ? "text" : "");
      cell.scope = "col";
      if (by) {
        const button = make("button", "", label);
        button.type = "button";
        button.addEventListener("click", () => {
          const again = card.sort && card.sort.index === index;
          card.sort = again && card.sort.up !== (index < 2) ? null : { index, up: again ? !card.sort.up : index < 2 };
          [...head.children].forEach((other, at) => {
            if (card.sort && at === card.sort.index) other.setAttribute("aria-sort", card.sort.up ? "ascending" : "descending");
            else other.removeAttribute("aria-sort");
          });
          drawRows(card);
        });
        cell.append(button);
      } else cell.textContent = label;
      head.append(cell);
    });
    thead.append(head);
    card.body = make("tbody");
    table.append(thead, card.body);
    card.more = make("button", "more-rows");
    card.more.type = "button";
    card.more.addEventListener("click", () => { card.all = !card.all; drawRows(card); });
    scroll.append(table, card.more);
    card.box.append(summary, scroll);
    card.box.open = isFirst;
    card.box.addEventListener("toggle", () => drawRows(card));
    return card;
  };

  const newRow = (backend) => {
    const row = { box: make("tr"), cells: [], chart: chart("Packets per second of " + backend.name) };
    COLUMNS.forEach(([label, , kind], index) => {
      const cell = make(index ? "td" : "th", kind === "th" ? "" : kind);
      if (index) cell.dataset.label = label; else cell.scope = "row";
      row.cells.push(cell);
    });
    row.where = make("span");
    row.cells[0].append(backend.name, row.where);
    row.chip = make("span", "chip");
    row.cells[1].append(row.chip);
    row.cells[7].append(row.chart.svg);
    row.box.append(...row.cells);
    return row;
  };

  const drawRows = (card) => {
    if (!card.box.open) return;
    let list = card.shown;
    if (card.sort) {
      const by = COLUMNS[card.sort.index][1], up = card.sort.up ? 1 : -1;
      list = [...list].sort((a, b) => { const x = by(a), y = by(b); return x < y ? -up : x > y ? up : 0; });
    } else if (list.length > ROWS) list = [...list].sort((a, b) => rank(a) - rank(b));
    const rows = card.all ? list : list.slice(0, ROWS);
    card.more.hidden = list.length <= ROWS;
    set(card.more, card.all ? "Show fewer" : "Show all " + list.length + " backends");
    const wanted = new Set(rows.map((backend) => backend.name));
    for (const [name, row] of card.rows) if (!wanted.has(name)) { row.box.remove(); card.rows.delete(name); }
    rows.forEach((backend, at) => {
      let row = card.rows.get(backend.name);
      if (!row) card.rows.set(backend.name, row = newRow(backend));
      const [className, text] = word(backend);
      if (row.chip.className !== "chip " + className) row.chip.className = "chip " + className;
      set(row.chip, text);
      row.chip.title = "since " + span(backend.since_seconds);
      const port = backend.address.includes(":") ? "[" + backend.address + "]:" : backend.address + ":";
      set(row.where, port + backend.port + (backend.role === "backup" ? " · backup" : ""));
      const { connections, packets, bits } = backend.rates;
      [[2, String(backend.weight)], [3, short(backend.active_flows)], [4, short(connections)], [5, short(packets)],
        [6, short(bits)], [8, duration(backend.check_seconds)], [9, backend.last_check || "–"]]
        .forEach(([index, said]) => set(row.cells[index], said));
      row.chart.draw(histories.get(backend.key) || [], short);
      if (card.body.children[at] !== row.box) card.body.insertBefore(row.box, card.body.children[at] || null);
    });
  };

  const drawServices = (services) => {
    const wish = byId("filter").value.trim().toLowerCase(), onlyProblems = byId("problems").checked;
    const place = byId("services"), seen = new Set();
    let count = 0;
    services.forEach((service, at) => {
      seen.add(service.name);
      let card = cards.get(service.name);
      if (!card) {
        cards.set(service.name, card = newCard(service, services.length <= 12));
        place.insertBefore(card.box, place.children[at] || null);
      }
      const where = (service.address.includes(":") ? "[" + service.address + "]" : service.address) + ":" + service.port;
      set(card.where, where + "/" + service.protocol + " · " + service.scheduler + " · " + service.forwarding +
        (service.firewall ? " · firewall: " + service.firewall.denied + " packets kept out" : ""));
      const inRotation = service.backends.filter((b) => b.in_rotation).length;
      set(card.facts.up, inRotation + "/" + service.backends.length);
      set(card.facts.flows, short(service.active_flows));
      set(card.facts.new, short(service.rates.connections));
      set(card.facts.bits, short(service.rates.bits));
      const problems = service.backends.filter(isProblem).length;
      const [state, said] = inRotation === 0 ? ["down", "nobody in rotation"] : problems ? ["out", problems + (problems === 1 ? " problem" : " problems")] : ["up", "all well"];
      card.chip.className = "chip " + state;
      set(card.chip, said);
      card.chart.draw(histories.get("s/" + service.name) || [], short);
      const named = (text) => text.toLowerCase().includes(wish);
      const whole = !wish || named(service.name) || named(where);
      card.shown = service.backends.filter((b) => (whole || named(b.name) || named(b.address)) && (!onlyProblems || isProblem(b)));
      const visible = (whole || card.shown.length > 0) && (!onlyProblems || card.shown.length > 0 || inRotation === 0);
      card.box.hidden = !visible;
      count += visible ? 1 : 0;
      if (visible) drawRows(card);
    });
    for (const [name, card] of cards) if (!seen.has(name)) { card.box.remove(); cards.delete(name); }
    let empty = byId("nothing");
    if (!empty) { empty = make("p", "card empty"); empty.id = "nothing"; place.append(empty); }
    empty.hidden = count > 0;
    set(empty, services.length ? (onlyProblems ? "No problems." : "Nothing has that name.") : "The config has no services.");
  };

  // A label, a count and a bar.
  const bar = (label, more) => {
    const line = { box: make("div", "verdict" + more), count: make("span", "count") };
    const row = make("div"), svg = document.createElementNS(SVG, "svg");
    row.append(make("span", "label", label), line.count);
    svg.setAttribute("viewBox", "0 0 100 5");
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("aria-hidden", "true");
    for (const name of ["trough", "part"]) {
      const rect = document.createElementNS(SVG, "rect");
      rect.setAttribute("class", name); rect.setAttribute("height", "5"); rect.setAttribute("width", "100");
      svg.append(rect);
      line.part = rect;
    }
    line.box.append(row, svg);
    return line;
  };

/*MYSQL*/
  const lines = new Map();
  const drawVerdicts = (verdicts) => {
    const place = byId("verdicts");
    const list = Object.entries(verdicts).map(([label, count]) => ({ label, count, rate: rate("v/" + label, count) }));
    const sum = list.reduce((all, one) => all + one.count, 0), drops = (one) => one.label.startsWith("drop_");
    const shown = list.filter((one) => one.count > 0).sort((a, b) => drops(b) - drops(a) || b.count - a.count);
    for (const [label, line] of lines) if (!shown.some((one) => one.label === label)) { line.box.remove(); lines.delete(label); }
    shown.forEach((one, at) => {
      let line = lines.get(one.label);
      if (!line) {
        line = bar(one.label, drops(one) ? " drop" : "");
        lines.set(one.label, line);
      }
      set(line.count, short(one.count) + (one.rate ? " · " + short(one.rate) + "/s" : ""));
      line.part.setAttribute("width", String(Math.max(0.4, 100 * one.count / sum)));
      if (place.children[at] !== line.box) place.insertBefore(line.box, place.children[at] || null);
    });
    let quiet = byId("quiet");
    if (!quiet) { quiet = make("p", "muted"); quiet.id = "quiet"; place.append(quiet); }
    const zeros = list.length - shown.length;
    const dropped = shown.filter(drops).reduce((all, one) => all + one.count, 0);
    set(quiet, (dropped ? "" : "Nothing was dropped. ") + zeros + " other verdicts are zero.");
    return remember("drops", shown.filter(drops).reduce((all, one) => all + (one.rate || 0), 0));
  };

  let since = 0, log = null;
  const drawEvents = (page) => {
    const place = byId("events");
    if (log !== null && page.log !== log) { place.replaceChildren(); since = 0; log = page.log; return; }
    log = page.log;
    since = page.next;
    for (const event of page.events) {
      const item = make("li", event.level), time = make("time"), date = new Date(event.time);
      time.dateTime = event.time;
      time.title = date.toLocaleString();
      time.textContent = date.toLocaleTimeString([], { hour12: false });
      item.append(time, make("span", "", event.message));
      place.prepend(item);
    }
    while (place.children.length > EVENTS) place.lastElementChild.remove();
    if (!place.children.length) place.append(make("li", "", "Nothing yet."));
  };

  let last = null;
  const draw = (status) => {
    const { agent, interfaces } = status;
    let connections = null, packets = null, bits = null, flows = 0, up = 0, well = 0, count = 0, empty = 0;
    const add = (sum, value) => value === null ? sum : (sum ?? 0) + value;
    for (const service of status.services) {
      const key = "s/" + service.name;
      service.rates = { connections: rate(key + "/c", service.connections), packets: rate(key + "/p", service.packets), bits: rate(key + "/b", service.bytes * 8) };
      remember(key, service.rates.connections);
      connections = add(connections, service.rates.connections);
      packets = add(packets, service.rates.packets);
      bits = add(bits, service.rates.bits);
      flows += service.active_flows;
      for (const backend of service.backends) {
        backend.key = "b/" + service.name + "/" + backend.name;
        backend.rates = { connections: rate(backend.key + "/c", backend.connections), packets: rate(backend.key + "/p", backend.packets), bits: rate(backend.key + "/b", backend.bytes * 8) };
        remember(backend.key, backend.rates.packets);
        count += 1;
        up += backend.health === "up" ? 1 : 0;
        well += backend.health === "up" && !isProblem(backend) ? 1 : 0;
      }
      empty += service.backends.some((b) => b.in_rotation) ? 0 : 1;
    }
    const at = interfaces.map((one) => one.name + " (" + one.xdp_mode + ")").join(", ");
    set(byId("about"), "version " + status.version + " · up " + span(agent.uptime_seconds) + (at ? " · steering on " + at : "") + " · config " + agent.config_file);
    remember("c", connections); remember("p", packets); remember("b", bits); remember("f", flows);
    const dropRate = drawVerdicts(status.verdicts);
    drawMysql(status.mysql);
    // What is gone from the config is forgotten.
    for (const map of [histories, counters]) {
      for (const key of map.keys()) if (!seen.has(key)) map.delete(key);
    }
    seen.clear();
    const health = tile("Backends up", up + " / " + count, "", empty ? empty + (empty === 1 ? " service has" : " services have") + " nobody" : status.services.length + (status.services.length === 1 ? " service" : " services"), null, empty > 0 || up < count);
    health.parts.draw([well, up - well, count - up], well + " well, " + (up - well) + " up but not in use, " + (count - up) + " not up");
    tile("New connections", short(connections), "/s", "", histories.get("c"));
    tile("Packets to backends", short(packets), "/s", "", histories.get("p"));
    tile("Bytes to backends", short(bits), "bit/s", "", histories.get("b"));
    const table = status.flow_tables.find((one) => one.name === "established");
    tile("Active flows", short(flows), "", table ? (100 * table.entries / table.capacity).toFixed(1) + " % of the table" : "", histories.get("f"), table && table.entries > 0.8 * table.capacity);
    tile("Dropped", short(dropRate), "/s", "", histories.get("drops"));
    byId("services-part").hidden = Boolean(status.mysql) && !status.services.length;
    last = status.services;
    drawServices(last);
  };

  const get = async (path) => {
    const answer = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(10000) });
    if (!answer.ok) throw new Error("it says " + answer.status);
    return answer.json();
  };
  let taken = null, lost = null;
  const look = async () => {
    const start = performance.now();
    if (!document.hidden || taken === null) {
      try {
        const [status, events] = await Promise.all([get("status.json"), get("events.json?since=" + since)]);
        // By the agent's clock, so that an answer which was made earlier, for another reader, does
        // not bend the curves. One of the same moment tells nothing new.
        const { pid, uptime_seconds: uptime } = status.agent;
        seconds = taken !== null && taken.pid === pid ? uptime - taken.uptime : 0;
        lost = null;
        if (taken === null || taken.pid !== pid || seconds > 0) draw(status);
        taken = { pid, uptime };
        drawEvents(events);
        byId("link").className = "link ok";
        set(byId("link-text"), "live");
        document.body.classList.remove("stale");
      } catch (error) {
        lost = lost || new Date();
        byId("link").className = "link lost";
        set(byId("link-text"), "no answer since " + lost.toLocaleTimeString([], { hour12: false }) + "; trying again");
        document.body.classList.add("stale");
      }
    }
    // What takes long is asked for less often.
    setTimeout(look, Math.max(EVERY, 5 * (performance.now() - start)));
  };
  byId("filter").addEventListener("input", () => last && drawServices(last));
  byId("problems").addEventListener("change", () => last && drawServices(last));
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && document.activeElement !== byId("filter") && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      byId("filter").focus();
    } else if (event.key === "Escape" && document.activeElement === byId("filter")) {
      byId("filter").value = "";
      byId("filter").blur();
      if (last) drawServices(last);
    }
  });
  look();
})();
