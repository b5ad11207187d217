// Times as people read them; microseconds come in.
function timeText(us) {
  for (const [unit, scale] of [["s", 1e6], ["ms", 1e3]]) if (us >= scale) return `${(us / scale).toPrecision(3)} ${unit}`;
  return `${us.toPrecision(3)} us`;
}

// The timeline: a canvas, with a window [from, to] of the run in microseconds.
(function timeline() {
  const canvas = document.getElementById("timeline-canvas");
  const says = document.getElementById("timeline-says");
  const data = JSON.parse(document.getElementById("bars").textContent);
  const whole = data.seconds * 1e6;
  const head = 22, gap = 8, title = 16;
  let from = 0, to = whole, selected = -1, step = -1, drag = null;
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const lanes = data.lanes.map(() => []);
  data.bars.forEach((bar, index) => lanes[bar[0]].push(index));

  // Operations that run beside each other get rows of their own, three at most.
  const rows = data.lanes.map(() => 1);
  const row = new Array(data.bars.length).fill(0);
  lanes.forEach((bars, lane) => {
    const ends = [];
    for (const index of bars) {
      const bar = data.bars[index];
      let free = ends.findIndex((end) => end <= bar[3] + 0.25);
      if (free < 0) free = ends.length < 3 ? ends.length : 2;
      ends[free] = bar[3] + bar[4];
      row[index] = free;
    }
    rows[lane] = Math.max(1, ends.length);
  });

  function layout() {
    const height = canvas.clientHeight, count = rows.reduce((a, b) => a + b, 0);
    const unit = Math.max(8, (height - head - lanes.length * (gap + title)) / count);
    const tops = [];
    let y = head;
    rows.forEach((n) => { tops.push(y + title); y += title + n * unit + gap; });
    return { unit, tops };
  }

  function draw() {
    const ratio = window.devicePixelRatio || 1;
    const width = canvas.clientWidth, height = canvas.clientHeight;
    canvas.width = width * ratio; canvas.height = height * ratio;
    const ctx = canvas.getContext("2d");
    ctx.scale(ratio, ratio);
    ctx.fillStyle = colour("--page"); ctx.fillRect(0, 0, width, height);
    const at = (us) => (us - from) / (to - from) * width;
    const { unit, tops } = layout();
    const ink = colour("--ink"), quiet = colour("--quiet"), line = colour("--line"), on = colour("--on");
    ctx.font = "11px system-ui, sans-serif"; ctx.textBaseline = "middle";
    data.steps.forEach(([number, start, length], index) => {
      const x = at(start), end = at(start + length);
      if (end < 0 || x > width) return;
      if (index % 2) { ctx.fillStyle = colour("--card"); ctx.fillRect(x, 0, end - x, height); }
      ctx.strokeStyle = line; ctx.beginPath(); ctx.moveTo(x + 0.5, 0); ctx.lineTo(x + 0.5, height); ctx.stroke();
      if (end - x > 46) { ctx.fillStyle = quiet; ctx.fillText(`step ${number}`, Math.max(x, 0) + 4, head / 2); }
    });
    const kinds = data.kinds.map((kind) => ({ guards: 1, dispatch: 1, transfer: 1, execution: 1, compile: 1, host: 1, torch: 1 }[kind] ? colour(`--${kind}`) : colour("--execution")));
    lanes.forEach((bars, lane) => {
      ctx.fillStyle = quiet; ctx.fillText(data.lanes[lane], 4, tops[lane] - title / 2);
      let painted = -1;
      for (const index of bars) {
        const bar = data.bars[index];
        const x = at(bar[3]), end = at(bar[3] + bar[4]);
        if (end < 0 || x > width) continue;
        const w = Math.max(end - x, 0.7), y = tops[lane] + row[index] * unit;
        if (w < 1 && row[index] === 0 && x + w <= painted) continue;  // nothing to see
        if (row[index] === 0) painted = x + w;
        ctx.fillStyle = kinds[bar[2]];
        ctx.fillRect(x, y, w, unit - 1);
        if (w > 30) {
          ctx.save(); ctx.beginPath(); ctx.rect(Math.max(x, 0), y, Math.min(end, width) - Math.max(x, 0), unit); ctx.clip();
          ctx.fillStyle = on; ctx.fillText(data.names[bar[1]], Math.max(x, 0) + 3, y + unit / 2); ctx.restore();
        }
        if (index === selected) { ctx.lineWidth = 2; ctx.strokeStyle = ink; ctx.strokeRect(x - 1, y - 1, w + 2, unit + 1); ctx.lineWidth = 1; }
      }
    });
    ctx.fillStyle = quiet; ctx.textAlign = "right";
    ctx.fillText(`${timeText(to - from)} shown`, width - 4, head / 2); ctx.textAlign = "left";
  }

  function view(low, high) {
    const length = Math.min(whole, Math.max(2, high - low));
    from = Math.min(Math.max(0, low), whole - length); to = from + length;
    draw();
  }
  function zoom(factor, centre) {
    const middle = centre === undefined ? (from + to) / 2 : centre;
    view(middle - (middle - from) * factor, middle + (to - middle) * factor);
  }
  const pan = (part) => view(from + (to - from) * part, to + (to - from) * part);
  function select(index) {
    selected = index;
    const bar = data.bars[index];
    if (bar) {
      const kind = data.kinds[bar[2]];
      says.textContent = `${data.lanes[bar[0]]}: ${data.names[bar[1]]}${kind === data.names[bar[1]] ? "" : ` (${kind})`}, ${timeText(bar[4])}, at ${timeText(bar[3])}`;
      if (bar[3] + bar[4] < from || bar[3] > to) view(bar[3] - (to - from) / 2, bar[3] + (to - from) / 2);
    }
    draw();
  }
  function showStep() {
    if (!data.steps.length) return;
    step = (step + 1) % data.steps.length;
    const [number, start, length] = data.steps[step];
    view(start - length * 0.02, start + length * 1.02);
    says.textContent = `step ${number}: ${timeText(length)}`;
  }
  function next(by) {
    const lane = selected >= 0 ? data.bars[selected][0] : 2;
    const bars = lanes[lane];
    if (!bars.length) return;
    let place = bars.indexOf(selected);
    if (place < 0) place = bars.findIndex((index) => data.bars[index][3] >= from) - (by > 0 ? 1 : 0);
    select(bars[Math.min(bars.length - 1, Math.max(0, place + by))]);
  }
  const acts = { in: () => zoom(0.5), out: () => zoom(2), left: () => pan(-0.3), right: () => pan(0.3), step: showStep, all: () => view(0, whole) };
  document.querySelectorAll(".buttons [data-do]").forEach((button) => button.addEventListener("click", acts[button.dataset.do]));
  const keys = { ArrowUp: acts.in, "+": acts.in, "=": acts.in, ArrowDown: acts.out, "-": acts.out, ArrowLeft: acts.left, ArrowRight: acts.right, Home: acts.all, s: acts.step, n: () => next(1), p: () => next(-1) };
  canvas.addEventListener("keydown", (event) => {
    const act = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (act && !event.ctrlKey && !event.metaKey && !event.altKey) { event.preventDefault(); act(); }
  });
  const moment = (event) => from + (event.clientX - canvas.getBoundingClientRect().left) / canvas.clientWidth * (to - from);
  function barAt(event) {
    const { unit, tops } = layout();
    const y = event.clientY - canvas.getBoundingClientRect().top, us = moment(event);
    const slack = (to - from) / canvas.clientWidth * 2;
    for (let lane = 0; lane < lanes.length; lane++) {
      const r = Math.floor((y - tops[lane]) / unit);
      if (y < tops[lane] || r >= rows[lane]) continue;
      return lanes[lane].findLast((index) => row[index] === r && data.bars[index][3] - slack <= us && us <= data.bars[index][3] + data.bars[index][4] + slack) ?? -1;
    }
    return -1;
  }
  canvas.addEventListener("wheel", (event) => {
    if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) { event.preventDefault(); pan((event.deltaX || event.deltaY) / 1000); return; }
    if (document.activeElement !== canvas) return;  // the page scrolls until the timeline is chosen
    event.preventDefault(); zoom(event.deltaY > 0 ? 1.25 : 0.8, moment(event));
  }, { passive: false });
  const pointers = new Map();
  canvas.addEventListener("pointerdown", (event) => { canvas.focus(); canvas.setPointerCapture(event.pointerId); pointers.set(event.pointerId, event.clientX); drag = { x: event.clientX, moved: false }; });
  canvas.addEventListener("pointermove", (event) => {
    if (!pointers.has(event.pointerId)) { const bar = barAt(event); canvas.title = bar >= 0 ? `${data.names[data.bars[bar][1]]}: ${timeText(data.bars[bar][4])}` : ""; return; }
    const before = [...pointers.values()];
    pointers.set(event.pointerId, event.clientX);
    if (pointers.size === 2) {
      const now = [...pointers.values()];
      zoom(Math.abs(before[0] - before[1]) / Math.max(10, Math.abs(now[0] - now[1])));
    } else {
      const moved = event.clientX - before[0];
      if (Math.abs(event.clientX - drag.x) > 3) drag.moved = true;
      if (drag.moved) view(from - moved / canvas.clientWidth * (to - from), to - moved / canvas.clientWidth * (to - from));
    }
  });
  canvas.addEventListener("pointerup", (event) => { pointers.delete(event.pointerId); if (drag && !drag.moved) { const bar = barAt(event); if (bar >= 0) select(bar); } });
  canvas.addEventListener("pointercancel", (event) => pointers.delete(event.pointerId));
  window.addEventListener("resize", draw);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  // The first look is at a few steps in the middle of the run.
  if (data.steps.length > 4) { const at = Math.floor(data.steps.length / 2); view(data.steps[at - 1][1], data.steps[at + 1][1] + data.steps[at + 1][2]); } else draw();
  if (data.left_out) says.textContent = `The ${data.left_out} shortest bars are left out.`;
})();

// The modules: a row for each depth; a press on a node makes it the whole.
(function modules() {
  const place = document.getElementById("flame");
  if (!place) return;
  const says = document.getElementById("flame-says");
  const root = JSON.parse(document.getElementById("tree").textContent);
  let path = [root];
  const share = (node) => `${(100 * node[1] / (root[1] || 1)).toPrecision(3)}%`;
  const text = (node) => `${node[0]}: ${timeText(node[1] * 1e6)}, ${share(node)} of the device's time`;

  function draw(focused) {
    place.replaceChildren();
    const height = 24;
    let depth = 0;
    function add(node, level, left, width, leaf, go) {
      const button = document.createElement("button");
      button.type = "button";
      button.className = leaf ? "leaf" : `f${level % 5}`;
      button.style.cssText = `left:${left}%;width:${width}%;top:${level * height}px`;
      button.textContent = node[0]; button.title = text(node);
      button.setAttribute("role", "treeitem"); button.setAttribute("aria-level", level + 1); button.setAttribute("aria-label", text(node));
      button.addEventListener("focus", () => { says.textContent = text(node); });
      button.addEventListener("mouseenter", () => { says.textContent = text(node); });
      button.addEventListener("click", go);
      place.appendChild(button);
      depth = Math.max(depth, level);
      return button;
    }
    path.forEach((node, level) => {
      const button = add(node, level, 0, 100, false, () => { path = path.slice(0, level + 1); draw(true); });
      if (focused && level === path.length - 1) button.focus();
    });
    function below(node, level, left, width, trail) {
      let x = left;
      for (const child of node[2]) {
        const w = width * child[1] / (node[1] || 1);
        if (w >= 0.15) {
          const leaf = !child[2].length, own = [...trail, child];
          add(child, level, x, w, leaf, leaf ? () => { says.textContent = text(child); } : () => { path = own; draw(true); });
          below(child, level + 1, x, w, own);
        }
        x += w;
      }
    }
    below(path[path.length - 1], path.length, 0, 100, path);
    place.style.height = `${(depth + 1) * height + 2}px`;
  }
  place.addEventListener("keydown", (event) => {
    const buttons = Array.from(place.children), at = buttons.indexOf(document.activeElement);
    const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (by && buttons[at + by]) { event.preventDefault(); buttons[at + by].focus(); }
    if (event.key === "Escape" || event.key === "Backspace") { event.preventDefault(); path = path.slice(0, Math.max(1, path.length - 1)); draw(true); }
  });
  draw(false);
})();
