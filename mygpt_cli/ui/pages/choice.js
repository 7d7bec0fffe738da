// A recorded step, chosen from again with given settings.

/** Return the model's logits of a step, and the state after the filters that stay as they were. */
function recorded(step) {
  const own = step.logits.map((logit) => (logit === null ? CUT : Math.fround(logit)));
  const early = [];
  let logits = own;
  for (const stage of step.stages) {
    logits = [...logits];
    stage.places.forEach((place, at) => { logits[place] = stage.logits[at] === null ? CUT : stage.logits[at]; });
    early.push({ name: stage.name, state: { logits, degree: 1, rest: restOf(step, early.length) } });
  }
  const sums = new Map(data.temperatures.map((degree, at) => [degree, at]));
  const rest = step.rest && {
    count: step.rest.count,
    alive: step.rest.alive,
    best: step.rest.best === null ? CUT : step.rest.best,
    sum: (degree) => orCut(step.rest.sums[sums.get(degree)]),
  };
  return { own: { logits: own, degree: 1, rest: restOf(step, -1) }, early, left: { logits, degree: 1, rest } };
}

const orCut = (value) => (value === null ? CUT : value);

/** Return the rest of a step by the model itself, or after one of the first filters. */
function restOf(step, at) {
  if (!step.rest) return null;
  const sum = orCut(at < 0 ? step.rest.own : step.rest.stages[at]);
  return { count: step.rest.count, alive: sum === CUT ? 0 : step.rest.count, best: 0, sum: () => sum };
}

/** Choose again: the stages, the shares at the end, and the id of the token that the draw of the seed picks. */
function choose(step, settings) {
  const from = recorded(step);
  const shaped = runFilters(from.left, data.order, settings);
  const stages = [...from.early, ...shaped].map(({ name, state }) => ({
    name,
    partial: Boolean(state.partial),
    logits: state.logits,
    rest: state.rest ? state.rest.alive : 0,
    shares: state.partial ? null : shares(state),
  }));
  const end = shaped.length ? shaped[shaped.length - 1].state : from.left;
  const id = (place) => (step.ids ? step.ids[place] : place);
  const result = { own: shares(from.own), logits: from.own.logits, stages, final: null, picked: null, spans: null };
  if (end.partial) return result;
  result.final = shares(end);
  if (!end.rest || !end.rest.alive) {
    result.spans = intervals(result.final.kept);
    result.picked = id(fallsOn(result.spans, step.draw));
  } else {
    const degree = data.order.includes("temperature") ? settings.temperature : 1;
    result.picked = step.rest.picks[data.temperatures.indexOf(degree)];
  }
  return result;
}
