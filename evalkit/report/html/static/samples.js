"use strict";
/* The page of samples: an index of columns is loaded at once, prompts and outputs in chunks when they are looked at. */
(() => {
  const { element, shown, cut, whole, difference } = evalkit;
  const PAGE = 100;
  const KEPT_CHUNKS = 40;
  const [MISSING, TRUNCATED, AT_LIMIT, UNPARSED, FLAGGED, UNFINISHED, ABSENT] = [1, 2, 4, 8, 16, 32, 64];
  const SHOWS = {
    all: ["all", () => true],
    wrong: ["wrong", (row) => { const v = cellsA.value[row]; return v !== null && v < 1; }],
    right: ["right", (row) => cellsA.value[row] !== null && cellsA.value[row] >= 1],
    changed: ["changed", (row) => cellsB !== null && changed(row)],
    missing: ["without a verdict", (row) => flagged(row, MISSING)],
    unparsed: ["nothing extracted", (row) => flagged(row, UNPARSED)],
    limit: ["cut at the length limit", (row) => flagged(row, AT_LIMIT)],
    truncated: ["prompt cut at the left", (row) => flagged(row, TRUNCATED)],
    unfinished: ["ended in its reasoning", (row) => flagged(row, UNFINISHED)],
    flagged: ["flagged", (row) => flagged(row, FLAGGED)],
  };
  const SHAPES = [["circle", { cx: 6, cy: 6, r: 4 }], ["rect", { x: 2.4, y: 2.4, width: 7.2, height: 7.2 }],
    ["polygon", { points: "6,1 11,6 6,11 1,6" }], ["polygon", { points: "6,1 11,10 1,10" }]]; // as in charts.py
  const folder = document.body.dataset.folder;
  const at = (id) => document.getElementById(id);
  const number = (value) => value.toLocaleString("en");

  let index = null, cellsA = null, cellsB = null, order = [], haystack = null;
  const state = { q: "", show: "all", subset: "", sort: "order", a: 0, b: -1, row: -1, white: false, diff: false };
  let deep = { q: "", rows: null };

  // ---- data files: a script that calls evalkit.part(name, packed)

  const waiting = new Map(), chunks = new Map();
  evalkit.part = (name, packed) => { waiting.get(name)?.(packed); };

  function load(name) {
    return new Promise((resolve, reject) => {
      const script = element("script", { src: `${folder}/${name}.js` });
      waiting.set(name, resolve);
      script.onerror = () => reject(new Error(`${folder}/${name}.js cannot be read`));
      script.onload = () => script.remove();
      document.head.append(script);
    }).finally(() => waiting.delete(name)).then(unpack);
  }
  async function unpack(packed) {
    const bytes = Uint8Array.from(atob(packed), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return JSON.parse(await new Response(stream).text());
  }
  function chunk(kind, row) {
    const name = `${kind}-${Math.floor(row / index.chunk)}`;
    let found = chunks.get(name);
    if (!found) {
      found = load(name);
      found.catch(() => chunks.delete(name));
    }
    chunks.delete(name);
    chunks.set(name, found); // the newest last
    if (chunks.size > KEPT_CHUNKS) chunks.delete(chunks.keys().next().value);
    return found.then((rows) => rows[row % index.chunk]);
  }

  // ---- which rows

  const flagged = (row, flag) => Boolean(cellsA.flags[row] & flag) && !(cellsA.flags[row] & ABSENT);
  function changed(row) {
    if ((cellsA.flags[row] | cellsB.flags[row]) & ABSENT) return false;
    return cellsA.value[row] !== cellsB.value[row];
  }
  const id = (row) => `${index.subsets[index.subset[row]]}/${index.sample[row]}${index.draw[row] ? `#${index.draw[row]}` : ""}`;

  function searched() {
    const q = state.q.trim().toLowerCase();
    if (!q) return () => true;
    if (!haystack) {
      haystack = index.preview.map((preview, row) =>
        [id(row), preview, index.gold[row], ...index.cells.map((c) => c.answer[row])].join("\n").toLowerCase());
    }
    const inside = deep.q === q ? deep.rows : null;
    return (row) => haystack[row].includes(q) || Boolean(inside && inside.has(row));
  }

  function select() {
    const keep = SHOWS[state.show][1], hit = searched();
    const subset = state.subset === "" ? -1 : index.subsets.indexOf(state.subset);
    order = [];
    for (let row = 0; row < index.sample.length; row++) {
      const absent = cellsA.flags[row] & ABSENT && (!cellsB || cellsB.flags[row] & ABSENT);
      if (!absent && (subset < 0 || index.subset[row] === subset) && keep(row) && hit(row)) order.push(row);
    }
    const [by, down] = state.sort.endsWith("-") ? [state.sort.slice(0, -1), -1] : [state.sort, 1];
    if (by !== "order") {
      const values = cellsA[by];
      order.sort((x, y) => (values[x] === null) - (values[y] === null) || down * (values[x] - values[y]) || x - y);
    }
  }

  // ---- the list

  const place = () => Math.max(0, order.indexOf(state.row));
  let page = 0;

  function verdict(cells, row) {
    const value = cells.value[row], flags = cells.flags[row];
    if (flags & ABSENT) return element("span", { class: "verdict", title: "not run" }, "–");
    if (value === null) return element("span", { class: "verdict", title: flags & MISSING ? "no verdict" : "not judged by itself" }, flags & MISSING ? "!" : "·");
    if (value >= 1) return element("span", { class: "verdict right", title: "right" }, "✓");
    if (value > 0) return element("span", { class: "verdict part", title: "right in part" }, String(Math.round(100 * value)));
    return element("span", { class: "verdict wrong", title: "wrong" }, "✗");
  }

  function line(row) {
    const verdicts = [cellsA, cellsB].filter(Boolean).map((cells) => verdict(cells, row));
    const said = verdicts.map((v) => v.title).join(", ");
    return element("div", { class: "row", role: "option", id: `r${row}`, "aria-selected": String(row === state.row),
      "aria-label": `${id(row)}, ${said}`, onclick: () => choose(row, true) },
      element("span", { class: "dot", "aria-hidden": "true" }, ...verdicts),
      element("span", { class: "id" }, ...shown(id(row))),
      element("span", { class: "got" }, ...shown(cellsA.answer[row])),
      element("span", { class: "preview" }, ...shown(index.preview[row] || "(no preview)")));
  }

  function list() {
    const pages = Math.max(1, Math.ceil(order.length / PAGE));
    page = Math.min(page, pages - 1);
    const rows = order.slice(page * PAGE, (page + 1) * PAGE);
    at("rows").replaceChildren(...(rows.length ? rows.map(line) : [element("p", { class: "muted empty" }, "No sample fits.")]));
    at("rows").scrollTop = 0;
    at("count").textContent = order.length === index.sample.length
      ? `${number(order.length)} samples` : `${number(order.length)} of ${number(index.sample.length)} samples`;
    at("place").textContent = `${number(page + 1)} of ${number(pages)}`;
    at("previous").disabled = page === 0;
    at("next").disabled = page >= pages - 1;
    const q = state.q.trim().toLowerCase();
    at("deep").hidden = !q || deep.q === q;
    mark();
  }
  function mark() {
    for (const row of at("rows").querySelectorAll("[aria-selected=true]")) row.setAttribute("aria-selected", "false");
    const current = at(`r${state.row}`);
    if (current) {
      current.setAttribute("aria-selected", "true");
      current.scrollIntoView({ block: "nearest" });
      at("rows").setAttribute("aria-activedescendant", current.id);
    } else {
      at("rows").removeAttribute("aria-activedescendant");
    }
  }

  function refresh() {
    select();
    page = order.includes(state.row) ? Math.floor(place() / PAGE) : 0;
    list();
    remember();
  }

  async function searchDeep() {
    const q = state.q.trim().toLowerCase(), rows = new Set();
    const kinds = new Set();
    for (const column of [state.a, state.b].filter((c) => c >= 0)) kinds.add(`c${column}`).add(`p${index.columns[column].prompts}`);
    const last = Math.ceil(index.sample.length / index.chunk);
    for (let n = 0; n < last && q === state.q.trim().toLowerCase(); n++) {
      at("count").textContent = `searching, ${Math.round(100 * n / last)} %`;
      for (const kind of kinds) {
        const found = await load(`${kind}-${n}`).catch(() => ({}));
        for (const [offset, content] of Object.entries(found)) {
          if (JSON.stringify(strings(content)).toLowerCase().includes(JSON.stringify(q).slice(1, -1))) rows.add(n * index.chunk + Number(offset));
        }
      }
    }
    if (q !== state.q.trim().toLowerCase()) return;
    deep = { q, rows };
    refresh();
  }
  function strings(content) { // what a reader sees, without the keys
    return typeof content === "string" ? [content] : content && typeof content === "object" ? Object.values(content).flatMap(strings) : [];
  }

  // ---- one sample

  let asked = 0;
  async function choose(row, open = false) {
    state.row = row;
    if (open) document.body.classList.add("open");
    const where = order.indexOf(row);
    if (where >= 0 && Math.floor(where / PAGE) !== page) { page = Math.floor(where / PAGE); list(); } else mark();
    remember();
    const turn = ++asked;
    const columns = [state.a, ...(state.b >= 0 && state.b !== state.a ? [state.b] : [])];
    try {
      const groups = [...new Set(columns.map((c) => index.columns[c].prompts))];
      const [prompts, answers] = await Promise.all([
        Promise.all(groups.map((g) => chunk(`p${g}`, row))),
        Promise.all(columns.map((c) => index.cells[c].flags[row] & ABSENT ? null : chunk(`c${c}`, row))),
      ]);
      if (turn === asked) draw(row, columns, groups.map((g, i) => [g, prompts[i]]), answers);
    } catch (error) {
      if (turn === asked) at("sample").replaceChildren(element("p", { class: "notice" }, `${error.message}. Was the report's folder moved in part?`));
    }
  }

  function draw(row, columns, prompts, answers) {
    const where = order.indexOf(row);
    const texts = answers.map((answer) => answer && answer.output ? answer.output.map(([, ...parts]) => whole(parts)).join("") : null);
    const hasBoth = texts.length > 1 && texts.every((text) => text !== null);
    const head = element("div", { class: "title" },
      element("button", { type: "button", id: "back", onclick: back }, "‹ List"),
      element("h2", {}, ...shown(id(row))),
      element("button", { type: "button", "aria-label": "Previous sample", title: "k", disabled: where <= 0, onclick: () => step(-1) }, "‹"),
      element("button", { type: "button", "aria-label": "Next sample", title: "j", disabled: where < 0 || where >= order.length - 1, onclick: () => step(1) }, "›"),
      element("button", { type: "button", "aria-pressed": String(state.white), title: "s", onclick: toggleWhite }, "White space"),
      hasBoth ? element("button", { type: "button", id: "diff", "aria-pressed": String(state.diff), title: "d", onclick: toggleDiff }, "Differences") : null,
      element("button", { type: "button", id: "link", onclick: (event) => evalkit.copy(location.href, event.currentTarget) }, "Copy link"));
    const two = columns.length > 1 ? "pair two" : "pair";
    const apart = prompts.length > 1 && JSON.stringify(prompts[0][1]) !== JSON.stringify(prompts[1][1]);
    const asks = apart
      ? element("div", { class: "pair two" }, ...prompts.map(([, prompt], i) => promptBlock(prompt, [columns[i]])))
      : promptBlock(prompts[0][1], []);
    const gold = prompts.map(([, prompt]) => prompt).find(Boolean);
    const outputs = columns.map((column, i) => onSide(i, outputBlock(row, column, answers[i], i === 1 && state.diff && hasBoth ? texts : null)));
    const judged = columns.map((column, i) => answers[i] ? onSide(i, verdictBlock(row, column, answers[i], gold, optionsOf(prompts, column))) : null);
    at("sample").replaceChildren(head, asks, element("div", { class: two }, ...outputs, ...judged));
    at("sample").scrollTop = 0;
  }
  function onSide(side, block) { // on a narrow screen the sides follow one another
    block.classList.add(`side${side}`);
    return block;
  }
  const optionsOf = (prompts, column) => (prompts.find(([group]) => group === index.columns[column].prompts)?.[1]?.options) || [];

  function columnName(column) {
    return [swatch(column), element("span", {}, index.columns[column].label)];
  }
  function swatch(column) {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("viewBox", "0 0 12 12");
    svg.setAttribute("class", "key");
    svg.setAttribute("aria-hidden", "true");
    const [shape, place] = SHAPES[column % SHAPES.length];
    const drawn = document.createElementNS("http://www.w3.org/2000/svg", shape);
    for (const [k, v] of Object.entries({ ...place, class: `mark col${column % 8}` })) drawn.setAttribute(k, v);
    svg.append(drawn);
    return svg;
  }

  function promptBlock(prompt, columns) {
    const block = element("section", { class: "block", "aria-label": "Prompt" }, element("h3", {}, "Prompt", ...columns.flatMap(columnName)));
    if (!prompt || prompt.fault) {
      block.append(element("div", { class: "content muted" }, prompt ? prompt.fault : "not asked"));
      return block;
    }
    let shots = [];
    const flush = () => {
      if (!shots.length) return;
      const size = shots.reduce((sum, [, , ...parts]) => sum + whole(parts).length + (parts[1] || 0), 0);
      const inner = shots.map(([role, , ...parts]) => element("div", {}, role ? element("span", { class: "role" }, role) : null, ...cut(parts, state.white)));
      block.append(element("div", { class: "content" }, element("details", {}, element("summary", {}, `Exemplars, ${number(size)} characters`), ...inner)));
      shots = [];
    };
    for (const part of prompt.parts) {
      const [role, isExemplar, ...parts] = part;
      if (isExemplar) { shots.push(part); continue; }
      flush();
      block.append(element("div", { class: "content" }, role ? element("span", { class: "role" }, role) : null, ...cut(parts, state.white)));
    }
    flush();
    if (prompt.options && !prompt.parts.length) block.append(element("div", { class: "content muted" }, "The options have nothing in common; they are below."));
    return block;
  }

  function outputBlock(row, column, answer, diff) {
    if (answer && !answer.output) return element("span", { hidden: true });
    const title = element("h3", {}, ...columnName(column), verdict(index.cells[column], row), element("span", { class: "grow" }));
    const block = element("section", { class: "block", "aria-label": `Output of ${index.columns[column].label}` }, title);
    if (!answer) {
      block.append(element("div", { class: "content muted" }, "not run"));
      return block;
    }
    const facts = [answer.finish && `ended by ${answer.finish}`, answer.written && `${number(answer.written)} tokens`].filter(Boolean).join(", ");
    title.append(element("span", { class: "muted" }, facts));
    const content = element("div", { class: "content" });
    if (diff) {
      for (const [kind, text] of difference(...diff)) {
        content.append(...(kind ? [element(kind < 0 ? "del" : "ins", {}, ...shown(text, state.white))] : shown(text, state.white)));
      }
    } else {
      for (const [kind, ...parts] of answer.output) {
        if (kind === "marked") content.append(element("mark", { title: "what became the answer" }, ...cut(parts, state.white)));
        else if (kind === "thinking") content.append(element("details", {}, element("summary", {}, `Reasoning trace, ${number(whole(parts).length + (parts[1] || 0))} characters`), ...cut(parts, state.white)));
        else content.append(...cut(parts, state.white));
      }
    }
    if (!content.hasChildNodes()) content.append(element("span", { class: "muted" }, "(empty)"));
    block.append(content);
    return block;
  }

  function verdictBlock(row, column, answer, prompt, options) {
    const title = element("h3", {}, answer.output ? "Verdict" : columnName(column)[0], answer.output ? null : columnName(column)[1], verdict(index.cells[column], row));
    const block = element("section", { class: "block", "aria-label": `Verdict on ${index.columns[column].label}` }, title);
    if (answer.scores) block.append(optionTable(answer, options, index.gold[row]));
    const list = element("dl", { class: "answer" });
    const add = (name, nodes) => list.append(element("dt", {}, name), element("dd", {}, ...nodes));
    add("answer", answer.answer && whole(answer.answer) ? cut(answer.answer, state.white) : [element("span", { class: "muted" }, "none")]);
    add("gold", prompt && prompt.gold ? cut(prompt.gold, state.white) : shown(index.gold[row]));
    const values = Object.entries(answer.values || {}).map(([name, value]) => `${name} ${typeof value === "number" ? Math.round(value * 1e4) / 1e4 : value}`);
    add(answer.metric || "metric", values.length ? shown(values.join(", ")) : [element("span", { class: "muted" }, "no value")]);
    if (answer.margin !== undefined) add("margin", [`${answer.margin.toFixed(3)} nats`]);
    if (answer.fault) add("fault", [element("span", { class: "bad" }, ...shown(answer.fault))]);
    block.append(list);
    if (answer.steps && (answer.steps.length || answer.step_fault)) block.append(steps(answer));
    return block;
  }
  function steps(answer) {
    const items = answer.steps.map(([name, args, result]) => element("li", {},
      element("code", {}, ...shown(args.length ? `${name}(${args.join(", ")})` : name)), " gave ",
      whole(result) ? element("code", {}, ...cut(result, state.white)) : element("span", { class: "muted" }, "nothing")));
    if (answer.step_fault) items.push(element("li", { class: "bad" }, ...shown(answer.step_fault)));
    return element("ol", { class: "steps", "aria-label": "How the answer was extracted" }, ...items);
  }
  function optionTable(answer, options, gold) {
    const perToken = answer.mode === "ppl";
    const scores = Object.entries(answer.scores).filter(([, s]) => s[0] !== null);
    const best = Math.min(...scores.map(([, s]) => s[0]));
    const total = scores.reduce((sum, [, s]) => sum + Math.exp(best - s[0]), 0);
    const texts = new Map(options.map(([label, given, scored]) => [label, [given, scored]]));
    const rows = Object.entries(answer.scores).map(([label, [nll, tokens]]) => {
      const [given, scored] = texts.get(label) || [[""], [""]];
      const share = nll === null ? 0 : Math.exp(best - nll) / total;
      return element("tr", { class: nll === best ? "chosen" : null },
        element("th", { scope: "row" }, ...shown(label), nll === best ? " ◂" : "", label === gold ? element("span", { class: "tag" }, "gold") : null),
        element("td", { class: "scored" }, whole(given) ? element("span", { class: "muted" }, ...cut(given, state.white)) : null, ...cut(scored, state.white)),
        element("td", { class: "number" }, nll === null ? "–" : (-nll).toFixed(4)),
        element("td", { class: "number" }, number(tokens)),
        element("td", {}, element("meter", { value: share.toFixed(4), "aria-label": `share of ${label}` })));
    });
    return element("div", { class: "scroll" }, element("table", { class: "options" },
      element("thead", {}, element("tr", {}, element("th", { scope: "col" }, "Option"), element("th", { scope: "col" }, "Text"),
        element("th", { scope: "col", class: "number", title: "in nats; the highest is chosen" }, perToken ? "log-probability a token" : "log-probability"),
        element("th", { scope: "col", class: "number" }, "tokens"), element("th", { scope: "col" }, element("span", { class: "unseen" }, "Share")))),
      element("tbody", {}, ...rows)));
  }

  // ---- what the reader does

  function back() {
    document.body.classList.remove("open");
    at("rows").focus();
  }
  function step(by) {
    const where = order.indexOf(state.row), to = where < 0 ? 0 : where + by;
    if (to >= 0 && to < order.length) choose(order[to]);
  }
  function toggleWhite() {
    state.white = !state.white;
    if (state.row >= 0) choose(state.row);
  }
  function toggleDiff() {
    state.diff = !state.diff;
    if (state.row >= 0) choose(state.row);
  }
  function toggleShow(name) {
    state.show = state.show === name ? "all" : name;
    at("show").value = state.show;
    refresh();
  }
  function turnPage(by) {
    page += by;
    list();
  }

  function setColumns() {
    cellsA = index.cells[state.a];
    cellsB = state.b >= 0 && state.b !== state.a ? index.cells[state.b] : null;
    if (state.show === "changed" && !cellsB) state.show = "all";
    const rows = index.sample.map((_, row) => row).filter((row) => !(cellsA.flags[row] & ABSENT));
    const options = Object.entries(SHOWS).map(([name, [title, keep]]) => [name, title, rows.filter(keep).length])
      .filter(([name, , count]) => count || ["all", "right", "wrong", state.show].includes(name));
    at("show").replaceChildren(...options.map(([name, title, count]) => element("option", { value: name }, `${title} (${number(count)})`)));
    at("show").value = state.show;
  }

  // The address keeps the view, so that a link leads back to it.
  function remember() {
    const parts = new URLSearchParams();
    if (state.row >= 0) parts.set("id", id(state.row));
    if (index.columns.length > 1) {
      parts.set("a", index.columns[state.a].label);
      parts.set("b", state.b >= 0 ? index.columns[state.b].label : "");
    }
    for (const [name, usual] of [["show", "all"], ["q", ""], ["subset", ""], ["sort", "order"]]) {
      if (state[name] !== usual) parts.set(name, state[name]);
    }
    const hash = `#${parts}`;
    if (hash !== location.hash) history.replaceState(null, "", hash);
  }
  function recall() {
    const parts = new URLSearchParams(location.hash.slice(1));
    const column = (name, usual) => {
      if (!parts.has(name)) return usual;
      return index.columns.findIndex((c) => c.label === parts.get(name));
    };
    const has = index.cells.map((c) => c.flags.some((flags) => !(flags & ABSENT)));
    const first = Math.max(0, has.indexOf(true));
    state.a = Math.max(0, column("a", first));
    state.b = column("b", has.findIndex((some, i) => some && i !== state.a));
    state.show = SHOWS[parts.get("show")] ? parts.get("show") : "all";
    state.q = parts.get("q") || "";
    state.subset = index.subsets.includes(parts.get("subset")) ? parts.get("subset") : "";
    state.sort = parts.get("sort") || "order";
    state.row = -1;
    const wanted = parts.get("id");
    if (wanted) for (let row = 0; row < index.sample.length; row++) if (id(row) === wanted) { state.row = row; break; }
  }
  function fields() {
    const options = index.columns.map((c, i) => element("option", { value: String(i) }, c.label));
    at("a").replaceChildren(...options);
    at("b").replaceChildren(element("option", { value: "-1" }, "nothing"), ...options.map((o) => o.cloneNode(true)));
    at("label-a").hidden = at("label-b").hidden = index.columns.length < 2;
    at("subset").replaceChildren(element("option", { value: "" }, `all ${index.subsets.length}`), ...index.subsets.map((s) => element("option", { value: s }, s)));
    at("subset").parentElement.hidden = index.subsets.length < 2;
    at("a").value = String(state.a);
    at("b").value = String(state.b);
    at("search").value = state.q;
    at("subset").value = state.subset;
    at("sort").value = state.sort;
    if (!at("sort").value) at("sort").value = state.sort = "order";
  }
  function open() {
    recall();
    fields();
    setColumns();
    refresh();
    if (state.row < 0 && order.length) state.row = -1;
    if (state.row >= 0) choose(state.row, true);
    else if (order.length && matchMedia("(min-width: 761px)").matches) choose(order[0]);
  }

  function listen() {
    let timer = 0;
    at("search").addEventListener("input", (event) => {
      clearTimeout(timer);
      timer = setTimeout(() => { state.q = event.target.value; refresh(); }, 60);
    });
    for (const name of ["show", "subset", "sort"]) {
      at(name).addEventListener("change", (event) => { state[name] = event.target.value; refresh(); });
    }
    for (const name of ["a", "b"]) {
      at(name).addEventListener("change", (event) => {
        state[name] = Number(event.target.value);
        setColumns();
        refresh();
        if (state.row >= 0) choose(state.row);
      });
    }
    at("previous").addEventListener("click", () => turnPage(-1));
    at("next").addEventListener("click", () => turnPage(1));
    at("deep").addEventListener("click", searchDeep);
    at("help").addEventListener("click", () => at("keys").showModal());
    addEventListener("hashchange", open);
    document.addEventListener("keydown", (event) => {
      if (at("keys").open) return;
      if (event.key === "Escape") {
        if (event.target === at("search")) at("search").blur(); else back();
        return;
      }
      if (evalkit.typing(event)) {
        if (event.target === at("search") && (event.key === "ArrowDown" || event.key === "Enter")) { at("rows").focus(); step(order.includes(state.row) ? 1 : 0); }
        return;
      }
      const inText = event.target.closest && event.target.closest("#sample pre, button, summary, a");
      const acts = {
        j: () => step(1), k: () => step(-1), w: () => toggleShow("wrong"), s: toggleWhite, d: toggleDiff, "?": () => at("keys").showModal(),
        c: () => cellsB && toggleShow("changed"), "/": () => { document.body.classList.remove("open"); at("search").focus(); at("search").select(); },
        ...(inText ? {} : { ArrowDown: () => step(1), ArrowUp: () => step(-1), Enter: () => state.row >= 0 && choose(state.row, true) }),
      };
      if (acts[event.key]) {
        event.preventDefault();
        acts[event.key]();
      }
    });
  }

  async function start() {
    try {
      if (typeof DecompressionStream === "undefined") throw new Error("This browser is too old to unpack the samples");
      index = await load("index");
    } catch (error) {
      at("sample").replaceChildren(element("p", { class: "notice" }, `${error.message}.`));
      return;
    }
    listen();
    open();
    document.body.dataset.ready = "yes";
  }
  start();
})();
