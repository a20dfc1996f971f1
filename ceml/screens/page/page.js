"use strict";
// Shows the frames that /events sends; each is whole, so that nothing is lost when the server starts anew.
const SPAN_S = 120, POINTS = 200; // the plots hold the longer of the two: time may run faster than life
const $ = (id) => document.getElementById(id);
const history = [];
let run = null;

const known = (value) => typeof value === "number";
const figures = (value, digits) => known(value) ? value.toFixed(digits) : "–";
const percent = (value) => known(value) ? (100 * value).toFixed(1) : "–";
const four = (value) => known(value) ? Number(value.toPrecision(4)).toString() : "–";
function put(id, text) { if ($(id).textContent !== text) $(id).textContent = text; }

function make(kind, name, text) {
  const made = document.createElement(kind);
  if (name) made.className = name;
  if (text !== undefined) made.textContent = text;
  return made;
}

function level(name, value) {
  if (typeof value === "string") return value;
  if (name.endsWith("_hz")) return `${Number((value / 1e6).toPrecision(6))} MHz`;
  return name.endsWith("_w") ? `${value} W` : String(value);
}

function excess(share) {
  if (share < 10) return `${percent(share)} %`;
  return share < 1000 ? `${four(share)} times the bound` : "over 1000 times the bound";
}

function row(name, value, share, grave) {
  const made = make("div", grave ? "row grave" : "row");
  made.append(make("span", "", name), make("span", "value", value));
  if (known(share)) {
    const bar = make("div", "bar"), inside = make("i");
    inside.style.width = `${100 * Math.min(Math.max(share, 0), 1)}%`;
    bar.append(inside);
    made.append(bar);
  }
  return made;
}

function rows(id, made, nothing) {
  $(id).replaceChildren(...(made.length ? made : [make("span", "quiet", nothing)]));
}

function ago(seconds) {
  if (seconds < 200) return `${Math.max(seconds, 0).toFixed(0)} s ago`;
  return seconds < 6000 ? `${(seconds / 60).toFixed(0)} min ago` : `${(seconds / 3600).toFixed(1)} h ago`;
}

function plot(id, key, limit) {
  const end = history[history.length - 1].at, seen = history.filter((point) => known(point[key]));
  const highest = Math.max(...seen.map((point) => point[key]), known(limit) ? limit : 0);
  const top = highest > 0 ? Number((highest * 1.2).toPrecision(2)) : 1;
  const span = Math.max(SPAN_S, end - history[0].at);
  const x = (at) => (100 * (1 - (end - at) / span)).toFixed(2), y = (value) => (100 * (1 - value / top)).toFixed(2);
  let path = "", last = null;
  for (const point of history) {
    if (!known(point[key])) { last = null; continue; }
    const joined = last !== null && point.wall - last.wall < 5000 && point.run === last.run;
    path += `${joined ? "L" : "M"}${x(point.at)} ${y(point[key])}`;
    last = point;
  }
  const box = $(id);
  if (!box.firstChild) {
    const space = "http://www.w3.org/2000/svg", svg = document.createElementNS(space, "svg");
    svg.setAttribute("viewBox", "0 0 100 100");
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("role", "img");
    for (const name of ["cap", "line"]) {
      const drawn = document.createElementNS(space, "path");
      drawn.setAttribute("class", name);
      svg.append(drawn);
    }
    const scale = make("div", "scale"), time = make("div", "time");
    scale.append(make("span"), make("span", "", "0"));
    time.append(make("span"), make("span", "", "now"));
    box.append(scale, svg, time);
  }
  const svg = box.querySelector("svg");
  svg.querySelector(".line").setAttribute("d", path);
  svg.querySelector(".cap").setAttribute("d", known(limit) ? `M0 ${y(limit)}L100 ${y(limit)}` : "");
  svg.setAttribute("aria-label", `${key}, now ${four(history[history.length - 1][key])}`);
  box.querySelector(".time span").textContent = ago(span);
  box.querySelector(".scale span").textContent = Number(top.toPrecision(2)).toString();
}

function show(frame) {
  const status = frame.status, latest = status.phase === "paused" ? null : status.latest; // it is from before the pause
  if (run !== frame.run) { run = frame.run; history.length = 0; put("said", ""); }
  const at = status.at_s;
  history.push({
    at, wall: Date.now(), run, power: status.power_w, rate: status.phase === "waiting" ? null : latest && latest.rate_hz,
  });
  while (history.length > POINTS && at - history[0].at > SPAN_S) history.shift();

  put("phase", status.phase === "idle" ? "settled" : status.phase);
  put("app", status.app === null ? "no program" : status.app);
  put("platform", [...new Set([status.platform, ...status.labels])].join(", "));
  document.title = `${figures(status.power_w, 2)} W · ${status.app || "CEML"}`;
  put("power", figures(status.power_w, 2));
  const left = known(status.budget_w) && known(status.power_w) ? status.budget_w - status.power_w : null;
  put("cap", !known(status.budget_w) ? "no cap" : `cap ${four(status.budget_w)} W, ` + (left === null ? "headroom not known"
    : left >= 0 ? `${left.toFixed(2)} W headroom` : `EXCEEDED by ${(-left).toFixed(2)} W`));
  $("cap").classList.toggle("grave", left !== null && left < 0);
  put("rate", four(latest && latest.rate_hz));
  put("steps", `${status.steps.toFixed(0)} steps in ${status.seconds.toFixed(0)} s`);
  put("energy", four(latest && latest.energy_j));
  put("joules", known(status.energy_j) ? `${four(status.energy_j)} J since the start` : "power is not measured");
  const ends = status.saving === null && status.saving_between;
  put("saving", ends ? `${(100 * ends[0]).toFixed(0)} to ${(100 * ends[1]).toFixed(0)}` : percent(status.saving));
  put("baseline", status.baseline === null ? "" : `${ends ? "(95 %) " : ""}of J/step against ${status.baseline}`
    + (status.others ? `; beware: power is of ${status.others}, too` : "")
    + (known(status.saving_so_far) ? `; ${percent(status.saving_so_far)} % over all so far` : ""));
  plot("plot-power", "power", status.budget_w);
  plot("plot-rate", "rate", null);

  rows("knobs", Object.entries(status.configuration || {}).map(([name, value]) =>
    row(name.replace(/_[a-z]+$/, ""), level(name, value), known(value) ? value / status.highest[name] : null)), "not known");
  const most = Math.max(...Object.values(status.rails_w).filter(known), 1e-9);
  rows("rails", Object.entries(status.rails_w).map(([name, watts]) => {
    const cap = status.rail_budgets_w[name];
    const told = `${figures(watts, 2)} W${known(cap) ? ` of ${four(cap)} W` : ""}`;
    return row(name, told, known(watts) ? watts / (known(cap) ? cap : most) : null, known(cap) && watts > cap);
  }), "no power is measured here");
  rows("limits", status.limits.map((limit) => row(limit.name, !known(limit.headroom) ? "not known"
    : limit.headroom >= 0 ? `${percent(limit.headroom)} %` : `! exceeded by ${excess(-limit.headroom)}`,
    limit.headroom, known(limit.headroom) && limit.headroom < 0)), "none");
  const holds = status.decided && !status.decided.feasible ? ". THE LIMITS CANNOT ALL HOLD." : "";
  put("why", status.why + holds);
  $("why").classList.toggle("grave", holds !== "");
  put("objective", status.objective);
  put("counts", `${status.decisions} decisions in this run, ${status.states_tried} states tried since the program came or last `
    + `changed, ${status.profiling_s.toFixed(1)} s of profiling` + (known(status.temperature_c) ? `, hottest ${status.temperature_c.toFixed(1)} °C` : ""));
  $("happened").replaceChildren(...status.happened.slice().reverse().map((entry) => {
    const made = make("li", entry.grave ? "grave" : "");
    made.append(make("span", "ago", ago(at - entry.at_s)), make("span", "what", (entry.grave ? "! " : "") + entry.what),
      make("span", "text", entry.text));
    return made;
  }));
  $("read-only").hidden = frame.writable;
  $("change").hidden = !frame.writable;
}

function linked(state, text) { document.body.dataset.link = state; put("link", text); }

const STALE_MS = 3000; // frames come five times a second: without one for so long the server hangs, or the network
let heard = Date.now();
setInterval(() => {
  const silent = Date.now() - heard;
  if (silent > STALE_MS && document.body.dataset.link !== "lost") linked("stale", `no news for ${(silent / 1000).toFixed(0)} s`);
}, 500);

function listen() {
  const source = new EventSource("events");
  source.onmessage = (event) => { heard = Date.now(); show(JSON.parse(event.data)); linked("live", "live"); };
  source.onerror = () => {
    linked("lost", "no server: trying again");
    if (source.readyState === EventSource.CLOSED) setTimeout(listen, 1000);
  };
}

async function ask(verb) {
  const said = { version: 1, verb };
  if (verb === "budget") said.limits = { budget: $("budget").value.trim() };
  if (verb === "objective") said.objective = $("aim").value.trim();
  if (said.objective === "" || (said.limits && said.limits.budget === "")) {
    put("said", verb === "budget" ? "name a budget such as 8W, or none" : "name an objective such as edp");
    return;
  }
  put("said", "…");
  try {
    const reply = await fetch("ask", {
      method: "POST", body: JSON.stringify(said), credentials: "same-origin",
      headers: { "Content-Type": "application/json", "Authorization": `Bearer ${$("token").value.trim()}` },
    });
    const told = await reply.json();
    put("said", told.ok ? `done: ${told.result.objective}, limits ${told.result.limits.join(", ") || "none"}` : told.error.text);
    $("said").classList.toggle("grave", !told.ok);
  } catch (error) {
    put("said", `not asked: ${error.message}`);
    $("said").classList.add("grave");
  }
}

$("change").addEventListener("submit", (event) => {
  event.preventDefault();
  ask(event.submitter ? event.submitter.dataset.verb : "budget");
});
for (const [id, verb] of [["budget", "budget"], ["aim", "objective"], ["token", null]]) {
  $(id).addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    if (verb) ask(verb);
  });
}
listen();
