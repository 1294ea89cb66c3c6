// What the pages do in the browser: searching and filtering, the theme, the keyboard, copying, being offline.
(() => {
  const chosen = { modality: new Set(), task: new Set(), state: new Set(), source: new Set() };
  let words = [], order = "";

  const fits = (card) =>
    words.every((word) => card.dataset.words.includes(word)) &&
    Object.entries(chosen).every(([name, values]) =>
      !values.size || card.dataset[name].split(" ").some((one) => values.has(one)));

  const ORDERS = {
    "": (a, b) => a.dataset.index - b.dataset.index,
    used: (a, b) => b.dataset.used - a.dataset.used,
    recent: (a, b) => b.dataset.recent - a.dataset.recent,
    memory: (a, b) => b.dataset.memory - a.dataset.memory,
    name: (a, b) => a.dataset.name.localeCompare(b.dataset.name),
  };

  let isApplying = false;
  function apply() {
    const grid = document.querySelector(".ps-grid");
    if (!grid || isApplying) return;
    isApplying = true;
    const cards = [...grid.querySelectorAll(".ps-card")].sort(ORDERS[order]);
    const groups = [...grid.querySelectorAll(".ps-group")];
    const cardsOf = (group) => cards.filter((card) => card.dataset.modality === group.dataset.modality);
    let num = 0;
    for (const card of cards) {
      card.hidden = !fits(card);
      num += !card.hidden;
    }
    for (const group of groups) group.hidden = order !== "" || cardsOf(group).every((card) => card.hidden);
    const inOrder = order === "" && groups.length ? groups.flatMap((group) => [group, ...cardsOf(group)]) : [...groups, ...cards];
    if (inOrder.some((one, at) => one !== grid.children[at])) grid.append(...inOrder);
    const shown = document.getElementById("ps-shown"), none = document.getElementById("ps-none");
    if (shown && shown.textContent !== String(num)) shown.textContent = num;
    if (none) none.hidden = num > 0;
    const sort = document.getElementById("ps-sort");
    if (sort) sort.value = order;
    for (const one of document.querySelectorAll(".ps-choice"))
      one.setAttribute("aria-pressed", chosen[one.dataset.filter].has(one.dataset.value));
    queueMicrotask(() => { isApplying = false; });
  }

  function clear() {
    words = [];
    for (const values of Object.values(chosen)) values.clear();
    const search = document.getElementById("ps-search");
    if (search) search.value = "";
    apply();
  }

  function setTheme(isDark) {
    document.body.classList.toggle("dark", isDark);
    localStorage.setItem("pipeserve-theme", isDark ? "dark" : "light");
  }

  async function copy(button) {
    await navigator.clipboard.writeText(button.dataset.copy);
    const label = button.textContent;
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = label; }, 1200);
  }

  function unfold(button) {
    const isOpen = button.parentElement.classList.toggle("ps-open");
    button.setAttribute("aria-expanded", isOpen);
    button.textContent = isOpen ? "Show less" : "Show all of it";
    if (!isOpen) button.parentElement.scrollIntoView({ block: "nearest" });
  }

  document.addEventListener("click", (event) => {
    const one = event.target.closest("[data-filter],[data-clear],[data-theme-toggle],[data-copy],[data-unfold]");
    if (!one) return;
    if (one.dataset.filter) {
      const values = chosen[one.dataset.filter];
      values.delete(one.dataset.value) || values.add(one.dataset.value);
      apply();
    } else if ("clear" in one.dataset) clear();
    else if ("copy" in one.dataset) copy(one);
    else if ("unfold" in one.dataset) unfold(one);
    else setTheme(!document.body.classList.contains("dark"));
  });
  document.addEventListener("input", (event) => {
    if (event.target.id !== "ps-search") return;
    words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
    apply();
  });
  document.addEventListener("change", (event) => {
    if (event.target.id === "ps-sort") { order = event.target.value; apply(); }
  });
  document.addEventListener("keydown", (event) => {
    const isTyping = event.target.closest("input, textarea, select, [contenteditable=true]");
    const search = document.getElementById("ps-search");
    if (event.key === "/" && !isTyping && search) { event.preventDefault(); search.focus(); }
    if (event.key === "Escape" && search && (event.target === search || !isTyping)) { clear(); search.blur(); }
  });

  const AWAY = "The server cannot be reached. Trying again…", LEAVING = "The server is shutting down: it takes no new requests.";
  function offline(why) {
    let note = document.getElementById("ps-offline");
    if (!why) { note?.remove(); return; }
    if (!note) {
      note = Object.assign(document.createElement("div"), { id: "ps-offline" });
      note.setAttribute("role", "status");
      document.body.append(note);
    }
    if (note.textContent !== why) note.textContent = why;
  }
  async function look() {
    try {
      const answer = await fetch("/readyz", { cache: "no-store" });
      if (document.getElementById("ps-offline") && answer.ok) location.reload();
      offline(answer.ok ? "" : LEAVING);
    } catch { offline(AWAY); }
  }
  window.addEventListener("offline", () => offline(AWAY));
  window.addEventListener("online", look);
  setInterval(() => { if (!document.hidden) look(); }, 5_000);

  function start() {
    const stored = localStorage.getItem("pipeserve-theme");
    if (stored) document.body.classList.toggle("dark", stored === "dark");
    new MutationObserver((changes) => {
      if (!isApplying && changes.some((one) => one.addedNodes.length)) apply();
    }).observe(document.body, { childList: true, subtree: true });
    apply();
  }
  if (document.body) start();
  else document.addEventListener("DOMContentLoaded", start);
})();
