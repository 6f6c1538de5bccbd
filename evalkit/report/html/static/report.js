"use strict";
/* What every page has: the theme, folding rows, menus, copying. */
(() => {
  const THEMES = { "": ["◐", "as the system"], light: ["☀", "light"], dark: ["☾", "dark"] };
  const root = document.documentElement;

  function stored() {
    try { return localStorage.getItem("evalkit-theme") || ""; } catch { return ""; }
  }
  function setTheme(name) {
    if (name) root.dataset.theme = name; else delete root.dataset.theme;
    try { localStorage.setItem("evalkit-theme", name); } catch { /* a browser that keeps nothing for files */ }
    const button = document.getElementById("theme");
    if (button) {
      button.textContent = THEMES[name][0];
      button.setAttribute("aria-label", `Theme: ${THEMES[name][1]}`);
    }
  }
  function nextTheme() {
    const names = Object.keys(THEMES);
    setTheme(names[(names.indexOf(root.dataset.theme || "") + 1) % names.length]);
  }
  if (THEMES[stored()]) setTheme(stored()); // before the page is drawn

  function fold(button, open) {
    button.setAttribute("aria-expanded", String(open));
    for (const row of document.querySelectorAll("tr[data-below]")) {
      if (row.dataset.below === button.dataset.folds) row.hidden = !open;
    }
  }

  document.addEventListener("DOMContentLoaded", () => {
    setTheme(root.dataset.theme || "");
    document.getElementById("theme").addEventListener("click", nextTheme);
    const folds = [...document.querySelectorAll("button.fold")];
    const all = document.getElementById("fold-all");
    for (const button of folds) {
      fold(button, false);
      button.addEventListener("click", () => fold(button, button.getAttribute("aria-expanded") !== "true"));
    }
    if (all && folds.length) {
      all.hidden = false;
      all.addEventListener("click", () => {
        const open = folds.some((button) => button.getAttribute("aria-expanded") !== "true");
        folds.forEach((button) => fold(button, open));
        all.textContent = open ? "Fold all" : "Unfold all";
      });
    }
    for (const button of document.querySelectorAll("button.copy")) {
      button.addEventListener("click", () => evalkit.copy(button.parentElement.querySelector("pre").textContent, button));
    }
  });
  document.addEventListener("click", (event) => {
    for (const menu of document.querySelectorAll("details.menu[open]")) {
      if (!menu.contains(event.target)) menu.open = false;
    }
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") document.querySelectorAll("details.menu[open]").forEach((menu) => { menu.open = false; });
    if (event.key === "t" && !evalkit.typing(event)) nextTheme();
  });
  const opened = [];
  addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("main details:not([open])")) { details.open = true; opened.push(details); }
  });
  addEventListener("afterprint", () => { while (opened.length) opened.pop().open = false; });

  window.evalkit = {
    /* Whether a key press belongs to a field, or to a shortcut of the browser. */
    typing(event) {
      return event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName);
    },
    /* Put text on the clipboard; pages from the disk may not have the modern way. */
    async copy(text, button) {
      try {
        await navigator.clipboard.writeText(text);
      } catch {
        const field = document.createElement("textarea");
        field.value = text;
        document.body.append(field);
        field.select();
        document.execCommand("copy");
        field.remove();
      }
      const before = button.textContent;
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = before; }, 1200);
    },
  };
})();
