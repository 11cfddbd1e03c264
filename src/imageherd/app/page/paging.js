// A long list of items, of which the parts that were looked at are here.
//
//   const pages = itemPages(page, signal, arrived)   page(offset, limit, signal) → promise of Items;
//                                                    arrived(from, to) is called for each part that comes
//   pages.item(i)             the item, or undefined: not here yet
//   await pages.load(a, b)    until items a to b (both included) are here
//   await pages.one(i)        one item; await pages.rows(a, b) the row numbers of all between
//   pages.forget()            all of it is out of date; answers still on their way are thrown away

const PAGE = 200;
const MOST = 1000;
const MANY = 5;

export function itemPages(page, signal, arrived) {
  let pages = new Map();
  let coming = new Map();
  let generation = 0;

  const pageOf = (i) => Math.floor(i / PAGE);

  function ask(p) {
    if (pages.has(p)) return pages.get(p);
    if (!coming.has(p)) coming.set(p, arrive(p));
    return coming.get(p);
  }

  async function arrive(p) {
    const mine = generation;
    try {
      const items = await page(p * PAGE, PAGE, signal);
      if (mine !== generation) return ask(p);
      pages.set(p, items);
      arrived(p * PAGE, p * PAGE + items.length);
      return items;
    } finally {
      if (mine === generation) coming.delete(p);
    }
  }

  async function between(a, b) {
    const found = await Promise.all(Array.from({ length: pageOf(b) - pageOf(a) + 1 }, (_, i) => ask(pageOf(a) + i)));
    return found.flat().slice(a - pageOf(a) * PAGE, b - pageOf(a) * PAGE + 1);
  }

  return {
    item: (i) => pages.get(pageOf(i))?.[i % PAGE],
    load: (a, b) => between(a, b),
    one: async (i) => (await between(i, i))[0],
    // Many are asked for in larger parts, one after the other, and not kept: only their rows are wanted.
    async rows(a, b) {
      if (pageOf(b) - pageOf(a) < MANY) return (await between(a, b)).map(({ row }) => row);
      const found = [];
      for (let from = a; from <= b; from += MOST) {
        for (const { row } of await page(from, Math.min(MOST, b - from + 1), signal)) found.push(row);
      }
      return found;
    },
    forget() {
      generation += 1;
      pages = new Map();
      coming = new Map();
    },
  };
}
