// How busy the server is, as its /metrics say.

import { withKey } from "./key.js";
import { address } from "./stream.js";

const EVERY_MS = 2000;
const ROWS = [ // name here, text, metric, whether it counts up
  ["sessions", "Open sessions", "hetsyn_sessions_held", false],
  ["streams", "Streams", 'hetsyn_streams{transport="stream"}', false],
  ["chunks", "Chunks a second", 'hetsyn_chunks_total{outcome="applied"}', true],
  ["requests", "In flight", "hetsyn_requests_in_flight", false],
  ["steps", "Steps waiting", "hetsyn_waiting_steps", false],
];

/** Values of Prometheus's text format by name and labels. */
export function parseMetrics(text) {
  const values = new Map();
  for (const line of text.split("\n")) {
    const space = line.lastIndexOf(" ");
    if (!line.startsWith("#") && space > 0) values.set(line.slice(0, space), Number(line.slice(space + 1)));
  }
  return values;
}

/** Show the load in a list, as long as the page is looked at. */
export function showLoad(list) {
  const cells = ROWS.map(([, text]) => {
    const group = document.createElement("div");
    const [term, value] = [document.createElement("dt"), document.createElement("dd")];
    term.textContent = text;
    value.textContent = "–";
    group.append(term, value);
    list.append(group);
    return value;
  });
  let before = null;
  let refused = null; // a key that may not see it is not asked with again

  async function look() {
    const asked = withKey({ cache: "no-store" });
    const mine = asked.headers?.Authorization ?? "";
    if (document.hidden || mine === refused) return;
    let now;
    try {
      const response = await fetch(address("metrics"), asked);
      // a proxy does not show it, or this key may not see it
      list.parentElement.hidden = [401, 403, 404].includes(response.status);
      if (response.status === 401 || response.status === 403) refused = mine;
      if (!response.ok) throw new Error(response.statusText);
      now = { at_ms: performance.now(), values: parseMetrics(await response.text()) };
    } catch {
      before = null;
      for (const cell of cells) cell.textContent = "–";
      return;
    }
    ROWS.forEach(([, , metric, counts], n) => {
      let value = now.values.get(metric);
      if (counts) {
        const seconds = before && (now.at_ms - before.at_ms) / 1000;
        value = before ? Math.max(0, Math.round((value - before.values.get(metric)) / seconds)) : undefined;
      }
      cells[n].textContent = value === undefined ? "–" : value.toLocaleString("en");
    });
    before = now;
  }

  look();
  setInterval(look, EVERY_MS);
  document.addEventListener("visibilitychange", look);
}
