// Shows one trace of a report, and searches those of its group. What a trace says goes into the
// page as text and never as markup. The address names it: trace.html?x=<group>&t=<id>#block-3.
"use strict";

(() => {
  const $ = (id) => document.getElementById(id);
  const asked = new URLSearchParams(location.search);
  const group = asked.get("x") || "";
  const wanted = asked.get("t") || "";
  const SHOWN = 500; // rows of the list
  const MARKED = 2000; // hits in one trace
  const LONG = 3000; // characters; what was sent and is longer is folded
  const PARTS = { sent: "What was sent", "came back": "What came back", wanted: "What was wanted" };

  // A folder of the report and a file in it, nothing else: the address may be anybody's.
  const PATH = /^traces\/[A-Za-z0-9][\w.-]*\/[a-z0-9-]+\/(\d+|index)\.js$/;
  const only = (path) => {
    if (!PATH.test(path)) throw new TypeError("not a file of traces");
    return path;
  };
  const policy = window.trustedTypes
    ? window.trustedTypes.createPolicy("ratchet", { createScriptURL: only })
    : { createScriptURL: only };

  // Data: a file is a script that calls ratchet() with JSON -------------------------------------

  const told = new Map();
  window.ratchet = (json) => told.set(document.currentScript, JSON.parse(json));

  const files = new Map();
  const load = (name) => {
    if (!files.has(name)) files.set(name, fetched(`traces/${group}/${name}.js`));
    return files.get(name);
  };
  const fetched = (path) =>
    new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.addEventListener("load", () => resolve(told.get(script)));
      script.addEventListener("error", () => reject(new Error(`${path} cannot be read.`)));
      script.src = policy.createScriptURL(path);
      document.head.append(script);
    });
  const text = (file, said) => (typeof said === "number" ? file.texts[said] : said);

  // Text: whatever cannot be seen is shown by its number ----------------------------------------

  // Line feeds and tabs are seen. Joiners between two letters of other scripts, and a selector
  // behind a character, are how these and emoji are written.
  const UNSEEN = new RegExp(
    "(?![\\n\\t\\u200c\\u200d\\ufe0e\\ufe0f]|\\r\\n)[\\p{Cc}\\p{Cs}\\p{Zl}\\p{Zp}\\ufff9-\\ufffb" +
      "\\p{Noncharacter_Code_Point}\\p{Default_Ignorable_Code_Point}]" +
      "|(?<![^\\x00-\\x7f])[\\u200c\\u200d]|[\\u200c\\u200d](?![^\\x00-\\x7f])" +
      "|(?<![0-9#*\\u00a9-\\u{10ffff}])[\\ufe0e\\ufe0f]" +
      "|(?<=[\\ufe0e\\ufe0f])[\\ufe0e\\ufe0f]|(?<=[\\u200c\\u200d])[\\u200c\\u200d\\ufe0e\\ufe0f]",
    "gu",
  );
  const wrote = new WeakMap(); // what stands in a node, to write it again without marks
  const write = (node, said) => {
    wrote.set(node, said);
    let at = 0;
    for (const { 0: unseen, index } of said.matchAll(UNSEEN)) {
      const number = unseen.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
      node.append(said.slice(at, index), make("span", "unseen", `U+${number}`));
      at = index + unseen.length;
    }
    node.append(said.slice(at));
    return node;
  };
  const make = (tag, kind, said) => {
    const node = document.createElement(tag);
    if (kind) node.className = kind;
    if (said !== undefined) write(node, said);
    return node;
  };

  // One trace -----------------------------------------------------------------------------------

  const show = (file, trace, name) => {
    const article = $("trace");
    article.replaceChildren(make("h1", "", name), summary(trace.facts), opener());
    let part = "";
    trace.blocks.forEach(([within, role, kind, tool, said], at) => {
      if (within !== part) article.append(make("h2", "", PARTS[(part = within)] || within));
      article.append(block(`block-${at + 1}`, role, kind, tool, text(file, said)));
    });
    if (!trace.blocks.some(([within]) => within === "came back")) {
      article.append(make("p", "note", "Nothing came back that has words."));
    }
    bodies(article, file, trace.bodies);
    article.setAttribute("aria-busy", "false");
    document.title = `${name} · trace · Ratchet`;
  };

  const summary = (facts) => {
    const list = make("dl", "facts");
    for (const [name, said] of facts) {
      const row = make("div", ["Why", "Error"].includes(name) ? "wide" : "");
      row.append(make("dt", "", name), make("dd", "said", said));
      list.append(row);
    }
    return list;
  };

  const opener = () => {
    const button = make("button", "", "Unfold all blocks");
    button.type = "button";
    button.addEventListener("click", () => {
      for (const fold of $("trace").querySelectorAll(".block details")) fold.open = true;
    });
    return button;
  };

  const block = (id, role, kind, tool, said) => {
    const fold = make("details");
    fold.open = said.length <= LONG || !["system", "user", "tool"].includes(role);
    const head = make("summary");
    head.append(make("b", "", role), " ", kind === "text" ? "" : kind, tool ? ": " : "");
    if (tool) head.append(make("code", "", tool));
    head.append(make("span", "size", ` ${said.length.toLocaleString("en")} characters`));
    const body = make("pre", "said", said);
    body.dir = "auto";
    fold.append(head, body);
    return linked(id, role, fold);
  };

  const linked = (id, role, fold) => {
    const section = make("section", `block ${/^[a-z]+$/.test(role) ? role : ""}`);
    section.id = id;
    section.tabIndex = -1;
    const anchor = make("a", "anchor", `#${id.replace("block-", "")}`);
    anchor.href = `#${id}`;
    anchor.setAttribute("aria-label", `Link to ${id.replace("-", " ")}`);
    section.append(fold, anchor);
    return section;
  };

  const bodies = (article, file, kept) => {
    const names = Object.keys(kept);
    if (names.length) article.append(make("h2", "", "As the provider has it"));
    for (const name of names) {
      const fold = make("details");
      fold.append(make("summary", "", `the provider's own ${name}`));
      fold.addEventListener("toggle", () => {
        if (fold.children.length > 1) return;
        const body = make("pre", "said", kept[name].map((said) => text(file, said)).join("\n"));
        fold.append(body);
      });
      article.append(linked(name, "provider", fold));
    }
  };

  const reveal = (node) => {
    for (let up = node; up; up = up.parentElement) if (up.tagName === "DETAILS") up.open = true;
  };

  const follow = () => {
    const found = location.hash ? $(location.hash.slice(1)) : null;
    for (const old of document.querySelectorAll(".target")) old.classList.remove("target");
    if (!found || !found.classList.contains("block")) return;
    found.classList.add("target");
    reveal(found.querySelector("details"));
    found.scrollIntoView({ block: "start" });
    found.focus({ preventScroll: true });
  };

  // The list ------------------------------------------------------------------------------------

  const rowOf = ([id, file, job, fixture, side, repeat, score, split, failed]) => ({
    id, file, job, fixture, side, repeat, score, split, failed,
  });
  const percent = (score) => (score === null ? "–" : `${Math.round(100 * score)}%`);
  const address = (id, query) => {
    const made = new URLSearchParams({ x: group, t: id });
    if (query) made.set("q", query);
    return `trace.html?${made}`;
  };

  const list = (rows, query) => {
    const shown = rows.slice(0, SHOWN).map((row) => entry(row, query));
    if (rows.length > SHOWN) {
      shown.push(make("li", "small", `and ${rows.length - SHOWN} more: search to choose`));
    }
    $("traces").replaceChildren(...shown);
    const here = $("traces").querySelector("[aria-current]");
    const room = $("traces").closest("aside");
    if (here) room.scrollTop = here.offsetTop - room.clientHeight / 2;
  };

  const entry = (row, query) => {
    const link = make("a");
    link.href = address(row.id, query);
    if (row.id === wanted) link.setAttribute("aria-current", "page");
    const about = make("span", "of-case", row.fixture || row.id);
    const run = row.repeat === null || row.job === "meta" ? "" : `run ${row.repeat + 1}`;
    const kept = row.split === "train" ? "" : "held-out";
    const words = [["task", "meta"].includes(row.job) ? "" : row.job, row.side, run, row.failed ? "failed" : "", kept];
    about.append(make("span", "of-run", words.filter(Boolean).join(", ")));
    link.append(about, make("span", "score", percent(row.score)));
    const item = make("li");
    item.append(link);
    return item;
  };

  const neighbours = (index, rows) => {
    const point = (id, row, url, label) => {
      const item = $(id);
      item.hidden = !url;
      if (!url) return;
      item.firstChild.setAttribute("href", url);
      if (label) item.firstChild.textContent = label;
    };
    const at = rows.findIndex((row) => row.id === wanted);
    const near = (step) => (at < 0 || !rows[at + step] ? "" : address(rows[at + step].id));
    point("home", null, /^(skills\/[\w./-]+|index)\.html$/.test(index.url) ? index.url : "", index.label);
    point("earlier", null, near(-1));
    point("later", null, near(1));
  };

  // Search --------------------------------------------------------------------------------------

  const COMPARE = {
    "<": (a, b) => a < b, "<=": (a, b) => a <= b, ">": (a, b) => a > b, ">=": (a, b) => a >= b,
    "=": (a, b) => Math.abs(a - b) < 0.005, ":": (a, b) => Math.abs(a - b) < 0.005,
  };
  const understood = (query) => {
    const words = [];
    const tests = [];
    for (const [, quoted, bare] of query.matchAll(/"([^"]+)"?|(\S+)/g)) {
      const field = bare && /^(case|side|job|split):(.+)$/i.exec(bare);
      const score = bare && /^score(<=|>=|<|>|=|:)(?:(none)|([\d.]+)(%?))$/i.exec(bare);
      if (field) {
        const name = field[1].toLowerCase() === "case" ? "fixture" : field[1].toLowerCase();
        tests.push((row) => row[name].toLowerCase().includes(field[2].toLowerCase()));
      } else if (score && score[2]) {
        tests.push((row) => row.score === null);
      } else if (score) {
        const limit = Number(score[3]) / (score[4] ? 100 : 1);
        tests.push((row) => row.score !== null && COMPARE[score[1]](row.score, limit));
      } else {
        words.push((quoted || bare).toLowerCase());
      }
    }
    return { words, tests };
  };

  const says = (file, trace, words) => {
    const said = [...trace.facts.map(([, fact]) => fact),
      ...trace.blocks.map((one) => text(file, one[4]))].map((one) => one.toLowerCase());
    return words.every((word) => said.some((one) => one.includes(word)));
  };

  let searches = 0;
  const search = async (rows) => {
    const mine = ++searches;
    const query = $("words").value.trim();
    const { words, tests } = understood(query);
    mark(words);
    const chosen = rows.filter((row) => tests.every((test) => test(row)));
    if (!words.length) return listed(chosen, rows, query);
    const names = [...new Set(chosen.map((row) => row.file))];
    const found = new Set();
    for (const [at, name] of names.entries()) {
      if (names.length > 1) $("count").textContent = `Searching ${at + 1} of ${names.length} files`;
      const file = await load(name);
      if (mine !== searches) return; // something else is asked for by now
      for (const one of file.traces) if (says(file, one, words)) found.add(one.id);
    }
    listed(chosen.filter((row) => found.has(row.id)), rows, query);
  };

  const listed = (chosen, rows, query) => {
    const few = query ? `${chosen.length.toLocaleString("en")} of ` : "";
    $("count").textContent = `${few}${rows.length.toLocaleString("en")} traces`;
    list(chosen, query);
    $("traces").setAttribute("aria-busy", "false");
  };

  let hits = [];
  let marked = 0;
  let now = -1;
  const mark = (words) => {
    // A thousand marks taken out one by one take a browser many seconds.
    for (const body of new Set(hits.map((hit) => hit.closest(".said")))) {
      body.replaceChildren();
      write(body, wrote.get(body));
    }
    marked = 0;
    now = -1;
    const long = words.filter((word) => word.length > 1); // one letter is everywhere
    if (long.length) {
      const escaped = long.map((word) => word.replace(/[\\^$.*+?()[\]{}|/-]/g, "\\$&"));
      const pattern = new RegExp(escaped.join("|"), "gi");
      for (const body of $("trace").querySelectorAll(".said")) surround(body, pattern);
    }
    hits = [...$("trace").querySelectorAll("mark")];
    tell(words);
  };

  const surround = (body, pattern) => {
    const nodes = [];
    const walker = document.createTreeWalker(body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) nodes.push(walker.currentNode);
    for (const node of nodes) {
      const parts = [];
      let at = 0;
      for (const { 0: hit, index } of node.data.matchAll(pattern)) {
        if (++marked > MARKED) break;
        const made = document.createElement("mark");
        made.textContent = hit;
        parts.push(node.data.slice(at, index), made);
        at = index + hit.length;
      }
      if (parts.length) node.replaceWith(...parts, node.data.slice(at));
    }
  };

  const tell = (words) => {
    const most = hits.length >= MARKED ? " or more" : "";
    const where = now < 0 ? "" : `${now + 1} of `;
    $("hits").textContent = words.length ? `${where}${hits.length}${most} in this trace` : "";
    $("up").hidden = $("down").hidden = !hits.length;
  };

  const step = (by) => {
    if (!hits.length) {
      if (by > 0) $("traces").querySelector("a")?.focus();
      return;
    }
    if (now < 0 && by < 0) now = 0;
    hits[now]?.classList.remove("now");
    now = (now + by + hits.length) % hits.length;
    hits[now].classList.add("now");
    reveal(hits[now]);
    hits[now].scrollIntoView({ block: "center" });
    tell([""]);
  };

  const listen = (rows) => {
    const box = $("words");
    let waiting = 0;
    const clear = () => {
      box.value = "";
      search(rows).catch(fail);
    };
    box.addEventListener("input", () => {
      clearTimeout(waiting);
      $("traces").setAttribute("aria-busy", "true");
      waiting = setTimeout(() => search(rows).catch(fail), 120);
    });
    $("up").addEventListener("click", () => step(-1));
    $("down").addEventListener("click", () => step(1));
    document.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
      const inBox = event.target === box;
      if (event.key === "/" && !inBox) {
        box.focus();
        box.select();
      } else if (event.key === "Escape" && (inBox || box.value)) {
        clear();
      } else if (inBox && (event.key === "ArrowDown" || (event.key === "Enter" && !event.shiftKey))) {
        step(1);
      } else if (inBox && (event.key === "ArrowUp" || event.key === "Enter")) {
        step(-1);
      } else {
        return;
      }
      event.preventDefault();
    });
  };

  // Begin ---------------------------------------------------------------------------------------

  const fail = (error) => {
    $("trace").replaceChildren(
      make("h1", "", "No such trace"),
      make("p", "", group ? String(error.message) : "Open a trace from the page of an experiment or a case."),
    );
    $("trace").setAttribute("aria-busy", "false");
  };

  const begin = async () => {
    if (matchMedia("(max-width: 48rem)").matches) $("listed").open = false;
    tell([]);
    const index = await load("index");
    const rows = index.traces.map(rowOf);
    neighbours(index, rows);
    listed(rows, rows, "");
    listen(rows);
    const row = rows.find((one) => one.id === wanted);
    if (!row) throw new Error(wanted ? `There is no trace ${wanted} in this list.` : "Choose one from the list.");
    const file = await load(row.file);
    show(file, file.traces.find((one) => one.id === wanted), row.fixture || row.id);
    $("words").value = asked.get("q") || "";
    if ($("words").value) await search(rows);
    addEventListener("hashchange", follow);
    follow();
  };

  begin().catch(fail);
})();
