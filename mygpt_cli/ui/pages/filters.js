// The filters of generation that shape a draw, as in mygpt_cli/generation/logits.py, from logits to logits.
//
// A state holds the logits of the kept tokens, in the order of their ids, and of all others together `rest`:
// how many are `alive`, the `best` of their logits, and `sum`, the logsumexp of them for a temperature. Where a
// filter would keep only some of the rest, it cannot be redone: `partial` says so from there on.

const CUT = -Infinity;

/** Return the shares of the kept tokens and of the rest; both sum to 1. */
function shares(state) {
  const rest = state.rest && state.rest.alive ? state.rest.sum(state.degree) : CUT;
  let best = rest;
  for (const logit of state.logits) if (logit > best) best = logit;
  const raised = state.logits.map((logit) => Math.exp(logit - best));
  const other = Math.exp(rest - best);
  let total = other;
  for (const value of raised) total += value;
  return { kept: raised.map((value) => value / total), rest: other / total };
}

const withLogits = (state, logits, more = {}) => ({ ...state, logits, ...more });

/** Decide about the rest from its best logit: below the least that stays, all of it goes. */
function cutBelow(state, least, equalStays) {
  const logits = state.logits.map((logit) => (logit < least || (logit === least && !equalStays) ? CUT : logit));
  if (!state.rest || !state.rest.alive) return withLogits(state, logits);
  if (state.rest.best / state.degree < least) {
    return withLogits(state, logits, { rest: { ...state.rest, alive: 0 } });
  }
  return withLogits(state, logits, { partial: true });
}

function byTemperature(state, degree) {
  return withLogits(state, state.logits.map((logit) => logit / degree), { degree: state.degree * degree });
}

function byTopK(state, k) {
  const total = state.logits.length + (state.rest ? state.rest.count : 0);
  if (k >= total) return state;
  const sorted = [...state.logits].sort((a, b) => (a < b ? 1 : a > b ? -1 : 0));
  if (k > sorted.length) return withLogits(state, state.logits, { partial: Boolean(state.rest.alive) });
  return cutBelow(state, sorted[k - 1], true);
}

function byTopP(state, p) {
  // Best last, and among equal tokens the lower ids later, so that these stay.
  const order = state.logits.map((_, at) => at);
  order.sort((a, b) => (state.logits[a] < state.logits[b] ? -1 : state.logits[a] > state.logits[b] ? 1 : b - a));
  const found = shares(state);
  const logits = [...state.logits];
  if (!state.rest || !state.rest.alive) {
    let reached = 0;
    for (const at of order.slice(0, -1)) {
      reached += found.kept[at];
      if (reached <= 1 - p) logits[at] = CUT;
    }
    return withLogits(state, logits);
  }
  let reached = 0;
  let last = order.length;
  while (last > 0 && reached < p) reached += found.kept[order[--last]];
  for (const at of order.slice(0, last)) logits[at] = CUT;
  const least = logits[order[last]];
  if (reached >= p && least > state.rest.best / state.degree) {
    return withLogits(state, logits, { rest: { ...state.rest, alive: 0 } });
  }
  return withLogits(state, state.logits, { partial: true });
}

function byMinP(state, share) {
  const found = shares(state).kept;
  const least = share * Math.max(...found);
  const logits = state.logits.map((logit, at) => (found[at] < least ? CUT : logit));
  if (!state.rest || !state.rest.alive) return withLogits(state, logits);
  const best = Math.max(...state.logits);
  if (Math.exp(state.rest.best / state.degree - best) < share) {
    return withLogits(state, logits, { rest: { ...state.rest, alive: 0 } });
  }
  return withLogits(state, logits, { partial: true });
}

function byTypicalP(state, p) {
  if (state.rest && state.rest.alive) return withLogits(state, state.logits, { partial: true });
  const found = shares(state).kept;
  const surprise = found.map((share) => -Math.log(share));
  let entropy = 0;
  found.forEach((share, at) => { if (share > 0) entropy += share * surprise[at]; });
  const distance = surprise.map((bits) => Math.abs(bits - entropy));
  const order = found.map((_, at) => at).sort((a, b) => (distance[a] < distance[b] ? -1 : distance[a] > distance[b] ? 1 : 0));
  let reached = 0;
  let last = -1;
  do reached += found[order[++last]]; while (reached < p && last < order.length - 1);
  const farthest = distance[order[last]];
  return withLogits(state, state.logits.map((logit, at) => (distance[at] > farthest ? CUT : logit)));
}

const FILTERS = {
  "temperature": { act: byTemperature, off: 1 },
  "top-k": { act: byTopK, off: 0 },
  "top-p": { act: byTopP, off: 1 },
  "min-p": { act: byMinP, off: 0 },
  "typical-p": { act: byTypicalP, off: 1 },
};

/** Run the filters in their order; return the states after those that act, by name. */
function runFilters(state, order, settings) {
  const stages = [];
  for (const name of order) {
    const value = settings[name];
    if (name === "temperature" && value === 0) {
      const at = state.logits.indexOf(Math.max(...state.logits));
      const logits = state.logits.map((logit, place) => (place === at ? logit : CUT));
      const rest = state.rest && { ...state.rest, alive: 0 };
      stages.push({ name: "greedy", state: withLogits(state, logits, { rest }) });
      return stages;
    }
    if (value === FILTERS[name].off) continue;
    if (!state.partial) state = FILTERS[name].act(state, value);
    stages.push({ name, state });
  }
  return stages;
}

/** Return the intervals [low, high) of the kept tokens, end to end in the order of their ids. */
function intervals(found) {
  let total = 0;
  const ends = found.map((share) => (total += share));
  return ends.map((end, at) => [at ? ends[at - 1] / total : 0, end / total]);
}

/** Return the place of the token on which a draw falls. */
function fallsOn(spans, drawn) {
  return spans.findIndex(([, high]) => high > drawn);
}
