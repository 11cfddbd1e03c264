// Compare: this clustering beside another one of the herd, or beside itself as it was trained.
//
//   ?with=NAME          groups side by side, and the flows between those that are not the same
//   ?with=NAME&a=3&b=5  the images in group 3 here and group 5 there; with only one of them, those of
//                       it that the other side has elsewhere; changed=all: all that changed groups

import * as api from "./api.js";
import { count, heading, make, message, named, nameOf, NOWHERE, percent } from "./dom.js";
import { picture } from "./pictures.js";
import { imageTiles, sureness } from "./tiles.js";

const FLOWS = 24;
const GROUPS = 40;

export async function show(root, context) {
  const { store, params: { query } } = context;
  const others = store.herd.clusterings.map(({ name }) => name).filter((name) => name !== store.name);
  const wanted = query.get("with");
  const other = wanted === store.name || others.includes(wanted) ? wanted : others[0] ?? store.name;
  const inside = ["a", "b"].map((side) => query.get(side)).map((uid) => (/^-?\d+$/.test(uid ?? "") ? Number(uid) : null));
  const whole = inside.every((uid) => uid === null) && !query.has("changed");
  return (whole ? sideBySide : images)(root, context, { other, others, a: inside[0], b: inside[1] });
}

const titleOf = (name, answer) => (answer?.as_trained ? "as it was trained" : name);

// The other side's groups have the colours of their counterparts here; those without one have none.
function groupsOf(answer) {
  const here = new Map(answer.a.clusters.map((group) => [group.uid, group]));
  const there = new Map(answer.b.clusters.map((group) => {
    const { colour = null, colour_dark: dark = null } = here.get(group.match) ?? {};
    return [group.uid, { ...group, colour, colour_dark: dark }];
  }));
  return [here, there];
}

async function sideBySide(root, context, { other, others }) {
  const { store, to, signal, notices } = context;
  const choice = make("select", { id: "compare-with", "aria-label": "Compare with" }, ...others.map((name) => option(name, name)), option(store.name, "itself, as it was trained"));
  // In place: the arrow keys go from choice to choice, and must not lose the focus on the way.
  choice.addEventListener("change", () => {
    other = choice.value;
    history.replaceState(null, "", to("compare", { with: other }));
    load().catch(notices.problem);
  });
  const facts = make("p", { class: "facts-line" });
  const body = make("div", { class: "comparison" });
  root.append(make("div", { class: "view-head" }, make("div", {}, heading(`Compare ${store.name}`), facts),
    make("div", { class: "controls" }, make("label", { class: "with" }, make("span", {}, "With"), choice))), body);
  let all = { flows: false, groups: false };

  function option(value, label) {
    return make("option", { value, selected: value === other }, label);
  }

  let turn = 0;
  async function load() {
    const mine = ++turn;
    root.setAttribute("aria-busy", "true");
    const answer = await api.get(`${api.of(store.name, "compare")}?with=${encodeURIComponent(other)}`, { signal })
      .finally(() => { if (mine === turn) root.removeAttribute("aria-busy"); });
    if (mine !== turn) return;
    const n = answer.n_both;
    const theirs = titleOf(other, answer);
    facts.textContent = !n ? "The two have no image in common." : answer.n_changed
      ? `${count(n - answer.n_changed)} of ${store.things(n)} are in the same group; ${count(answer.n_changed)} (${percent(answer.n_changed / n)}) changed.`
      : `All ${store.things(n)} are in the same groups.`;
    body.replaceChildren(...(n ? [numbers(answer, theirs), answer.n_changed ? flows(answer, theirs) : null, groups(answer, theirs)] : [advice()]).filter(Boolean));
    if (!others.length && !answer.n_changed) body.prepend(advice());
  }

  function advice() {
    return make("p", { class: "why-not" }, "There is no other clustering to compare with. Another one is made by, for example: ",
      make("code", {}, ...[`imageherd cluster ${store.herd.name} `, "--name finer ", "--n-clusters 20"].map((part) => make("span", {}, part))));
  }

  function numbers({ agreement, a, b, as_trained: asTrained }, theirs) {
    const [mine, there] = [a, b].map((side) => side.clusters.filter(({ uid }) => uid !== NOWHERE).length);
    return make("div", { class: "agreement" },
      make("p", {}, make("b", {}, agreement.ari.toFixed(3)), " adjusted Rand index, ", make("b", {}, agreement.ami.toFixed(3)), " adjusted mutual information: 1 is the same groups, 0 no more than chance."),
      mine === there ? null : make("p", {}, `${count(mine)} groups here, ${count(there)} `, asTrained ? null : "in ", make("bdi", {}, theirs), ": of a group that is several on the other side, the largest part stays and the rest counts as changed."));
  }

  // What moved, from where to where, the most first: the length of the bar says how many.
  function flows(answer, theirs) {
    const [a, b] = groupsOf(answer);
    const most = answer.pairs[0]?.size ?? 1;
    const shown = all.flows ? answer.pairs : answer.pairs.slice(0, FLOWS);
    const list = make("ol", { class: "flows" }, ...shown.map((flow) => make("li", {},
      make("a", { href: to("compare", { with: other, a: flow.a, b: flow.b }), class: "flow" },
        make("span", { class: "flow-covers", "aria-hidden": "true" }, ...flow.rows.slice(0, 4).map((row) => picture(row, { size: 96 }))),
        make("span", { class: "flow-names" }, named(a.get(flow.a)), make("span", { class: "arrow", "aria-label": "to" }, "→"), named(b.get(flow.b))),
        make("span", { class: "flow-size" }, count(flow.size)),
        bar(flow.size / most)))));
    return make("section", { "aria-labelledby": "flows-title" },
      make("div", { class: "section-head" }, make("h2", { id: "flows-title" }, "What changed groups"),
        make("p", {}, "Here → ", make("bdi", {}, theirs), ", the most first. ", make("a", { href: to("compare", { with: other, changed: "all" }) }, `All ${count(answer.n_changed)}`))),
      list, more("flows", shown.length, answer.pairs.length, answer.n_pairs, answer));
  }

  function bar(share) {
    const element = make("i", { class: "bar-of", "aria-hidden": "true" });
    element.style.setProperty("--share", share);
    return element;
  }

  function groups(answer, theirs) {
    const [a, b] = groupsOf(answer);
    const same = new Map(answer.matched.map((pair) => [pair.a, pair]));
    const lines = [...a.values()].map((group) => [group, b.get(group.match) ?? null, same.get(group.uid)?.size ?? 0]);
    // Largest first: the first that names a group says where most of it is on the other side.
    const most = { a: new Map(), b: new Map() };
    for (const pair of answer.pairs) {
      if (!most.a.has(pair.a)) most.a.set(pair.a, [b.get(pair.b), pair]);
      if (!most.b.has(pair.b)) most.b.set(pair.b, [a.get(pair.a), pair]);
    }
    const alone = [...b.values()].filter((group) => group.match === null).map((group) => [null, group, 0]);
    const every = [...lines, ...alone];
    const shown = all.groups ? every : every.slice(0, GROUPS);
    const head = (text, more = {}) => make("th", { scope: "col", ...more }, text);
    return make("section", { "aria-labelledby": "groups-title" },
      make("div", { class: "section-head" }, make("h2", { id: "groups-title" }, "Groups side by side"),
        make("p", {}, "Matched so that as few as can be change groups.")),
      make("div", { class: "side-by-side" }, make("table", {},
        make("thead", {}, make("tr", {}, head(make("bdi", {}, store.name)), head(make("bdi", {}, theirs)), head("In both", { class: "n" }), head("Only here", { class: "n" }), head("Only there", { class: "n" }))),
        make("tbody", {}, ...shown.map((each) => line(each, most))))),
      more("groups", shown.length, every.length, every.length, answer));
  }

  function line([here, there, n], most) {
    const link = (size, query, what) => (size ? make("a", { href: to("compare", { with: other, ...query }), "aria-label": what }, count(size)) : "–");
    const names = [here, there].map((group) => group && nameOf(group));
    return make("tr", {}, here ? cell(here, true) : nobody(most.b.get(there.uid), "from"), there ? cell(there, false) : nobody(most.a.get(here.uid), "in"),
      make("td", { class: "n", "data-label": "in both" }, here && there ? link(n, { a: here.uid, b: there.uid }, `${count(n)} in both ${names[0]} and ${names[1]}`) : "–"),
      make("td", { class: "n", "data-label": "only here" }, here ? link(here.left, { a: here.uid }, `${count(here.left)} of ${names[0]}, here only`) : "–"),
      make("td", { class: "n", "data-label": "only there" }, there ? link(there.left, { b: there.uid }, `${count(there.left)} of ${names[1]}, there only`) : "–"));
  }

  function nobody(known, word) {
    if (!known) return make("td", { class: "nobody" }, "no counterpart");
    const [group, { a, b, size }] = known;
    return make("td", { class: "nobody" }, make("div", {}, make("a", { href: to("compare", { with: other, a, b }) }, count(size)), ` ${word} `, named(group)));
  }

  function cell(group, ours) {
    return make("td", {}, make("div", { class: "group" },
      make("span", { class: "flow-covers", "aria-hidden": "true" }, ...group.medoids.slice(0, 3).map((row) => picture(row, { size: 96 }))),
      make("span", { class: "group-name" }, ours && store.cluster(group.uid) ? make("a", { href: to("cluster", { uid: group.uid }) }, named(group)) : named(group), make("span", { class: "size" }, store.things(group.size)))));
  }

  // All of a thousand groups at once would be a wall of text; the smallest flows never leave the server.
  function more(which, shown, known, total, answer) {
    if (shown === known) return known < total ? make("p", { class: "quiet" }, `and ${count(total - known)} smaller ones`) : null;
    return make("button", { type: "button", class: "plain", id: `more-${which}`, onclick: () => {
      all = { ...all, [which]: true };
      const fresh = (which === "flows" ? flows : groups)(answer, titleOf(other, answer));
      body.querySelector(`[aria-labelledby="${which}-title"]`).replaceWith(fresh);
      fresh.querySelectorAll("li, tbody tr")[shown].querySelector("a")?.focus();
    } }, `Show all ${count(known)}`);
  }

  const off = store.subscribe(() => load().catch(notices.problem));
  await load();
  return off;
}

// The images of one flow, as a grid like any other.
async function images(root, context, { other, a, b }) {
  const { store, to, signal, notices } = context;
  const path = `${api.of(store.name, "compare", "rows")}?${new URLSearchParams({ with: other, ...(a === null ? {} : { a }), ...(b === null ? {} : { b }) })}`;
  const ask = (offset, limit) => api.get(`${path}&offset=${offset}&limit=${limit}`, { signal });
  const facts = make("p", { class: "facts-line" });
  const title = heading("");
  root.append(make("p", { class: "back" }, make("a", { href: to("compare", { with: other }) }, "← Compare")),
    make("div", { class: "view-head" }, make("div", {}, title, facts)));
  const theirName = other === store.name ? "as it was trained" : `in ${other}`;
  const tiles = imageTiles({
    context, label: "Images that changed groups", within: a, page: async (offset, limit) => (await ask(offset, limit)).items,
    remark: (item) => (a !== null && b !== null ? sureness(item) : `${nameOf({ uid: item.uid, name: item.cluster })} → ${nameOf({ uid: item.other_uid, name: item.other_cluster })}`),
  });
  const nobody = make("div");
  root.append(nobody, tiles.element);

  async function describe() {
    const [{ size, items: [first] }, sides] = await Promise.all([ask(0, 1), names()]);
    const [here, there] = sides;
    title.replaceChildren(...(here && there ? [named(here), " → ", named(there)] : here ? [named(here)] : there ? [named(there)] : ["What changed groups"]));
    const moved = here && there ? `here in ${nameOf(here)}, ${theirName} in ${nameOf(there)}`
      : here ? `here in ${nameOf(here)}, ${theirName} elsewhere` : there ? `${theirName} in ${nameOf(there)}, here elsewhere` : `in another group ${theirName}`;
    facts.textContent = size ? `${store.things(size)}, ${moved}; the surest first.` : "";
    nobody.replaceChildren(...(first ? [] : [message("Nothing is left here.")]));
    await tiles.reload(size);
  }

  async function names() {
    const [ours, theirs] = groupsOf(await api.get(`${api.of(store.name, "compare")}?with=${encodeURIComponent(other)}&limit=1`, { signal }));
    const pick = (uid, side) => (uid === null ? null : side.get(uid) ?? (uid === NOWHERE ? { uid } : { uid, name: "" }));
    return [pick(a, ours), pick(b, theirs)];
  }

  const off = store.subscribe(() => describe().catch(notices.problem));
  await describe();
  return () => { off(); tiles.stop(); };
}
