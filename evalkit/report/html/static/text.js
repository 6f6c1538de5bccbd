"use strict";
/* Text of models on a page: never as markup, with what cannot be seen made visible, and the difference of two texts. */
(() => {
  // Control characters, marks that turn the direction of writing, characters of no width.
  const ODD = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff]/;
  const PIECES = new RegExp(`(${ODD.source})\\1*|[ \\t]+|\\n|(?:(?!${ODD.source})[^ \\t\\n])+`, "g");
  const MOST_PIECES = 20000;
  const MOST_CELLS = 4e6;
  const WORDS = /\s+|\p{Script=Han}|[\p{L}\p{N}_]+|[^]/gu;

  function element(name, attributes = {}, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (value === null || value === undefined || value === false) continue;
      if (key === "class") made.className = value;
      else if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
      else made.setAttribute(key, value === true ? "" : value);
    }
    made.append(...children.filter((child) => child !== null && child !== undefined));
    return made;
  }

  function named(run) {
    const code = `U+${run.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;
    return element("span", { class: "odd", title: "a character that cannot be seen" },
      run.length > 1 ? `${code} ×${run.length}` : code);
  }

  function spaces(run) {
    if (run === "\n") return [element("span", { class: "space" }, "¶"), "\n"];
    return [element("span", { class: "space" }, run.replaceAll(" ", "·").replaceAll("\t", "→\t"))];
  }

  /* The text as nodes; with `white`, white space is drawn too. */
  function shown(text, white = false) {
    if (!white && !ODD.test(text)) return [text];
    const nodes = [];
    let plain = "";
    for (const [run] of text.matchAll(PIECES)) {
      const isOdd = ODD.test(run[0]);
      if ((isOdd || (white && /[ \t\n]/.test(run[0]))) && nodes.length < MOST_PIECES) {
        if (plain) nodes.push(plain);
        plain = "";
        nodes.push(...(isOdd ? [named(run)] : spaces(run)));
      } else {
        plain += isOdd ? "\ufffd" : run;
      }
    }
    return plain ? [...nodes, plain] : nodes;
  }

  /* A text that may have its middle left out: [text] or [beginning, number of characters, end]. */
  function cut(parts, white = false) {
    if (parts.length === 1) return shown(parts[0], white);
    const note = `${parts[1].toLocaleString("en")} characters are left out here; the run's folder has them`;
    return [...shown(parts[0], white), element("span", { class: "left-out" }, note), ...shown(parts[2], white)];
  }

  function whole(parts) {
    return parts.length === 1 ? parts[0] : parts[0] + parts[2];
  }

  /* The difference as [kind, text] with kind -1 (in a only), 0, 1 (in b only); by words, or by lines where texts are long. */
  function difference(a, b) {
    for (const unit of [WORDS, /[^\n]*\n|[^\n]+/g]) {
      const found = align(a.match(unit) || [], b.match(unit) || []);
      if (found) return found;
    }
    return [[-1, a], [1, b]];
  }

  function align(a, b) {
    let start = 0;
    while (start < a.length && start < b.length && a[start] === b[start]) start++;
    let end = 0;
    while (end < a.length - start && end < b.length - start && a[a.length - 1 - end] === b[b.length - 1 - end]) end++;
    const left = a.slice(start, a.length - end), right = b.slice(start, b.length - end);
    if (left.length * right.length > MOST_CELLS) return null;
    const steps = [[0, a.slice(0, start)], ...common(left, right), [0, end ? a.slice(-end) : []]];
    const merged = [];
    for (const [kind, words] of steps) {
      const text = Array.isArray(words) ? words.join("") : words;
      if (!text) continue;
      const last = merged[merged.length - 1];
      if (last && last[0] === kind) last[1] += text; else merged.push([kind, text]);
    }
    return merged;
  }

  /* Steps of the longest common subsequence of two lists of words. */
  function common(a, b) {
    const width = b.length + 1;
    const best = new Uint16Array((a.length + 1) * width);
    for (let i = a.length - 1; i >= 0; i--) {
      for (let j = b.length - 1; j >= 0; j--) {
        best[i * width + j] = a[i] === b[j]
          ? best[(i + 1) * width + j + 1] + 1
          : Math.max(best[(i + 1) * width + j], best[i * width + j + 1]);
      }
    }
    const steps = [];
    let i = 0, j = 0;
    while (i < a.length || j < b.length) {
      if (i < a.length && j < b.length && a[i] === b[j]) { steps.push([0, a[i]]); i++; j++; }
      else if (j >= b.length || (i < a.length && best[(i + 1) * width + j] >= best[i * width + j + 1])) steps.push([-1, a[i++]]);
      else steps.push([1, b[j++]]);
    }
    return steps;
  }

  Object.assign(evalkit, { element, shown, cut, whole, difference });
})();
