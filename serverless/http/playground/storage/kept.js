// Words that the browser keeps between visits or for a tab. Where it refuses (blocked cookies, a full disk), they last as
// long as the page.

const memory = { local: new Map(), session: new Map() };

/** The browser's own storage; null where even to look at it is refused. */
function storage(area) {
  try {
    return window[`${area}Storage`];
  } catch {
    return null;
  }
}

/** area: "local" lasts between visits, "session" as long as the tab. */
export function kept(area, name) {
  return {
    /** What was kept, or null. */
    get() {
      if (memory[area].has(name)) return memory[area].get(name);
      try {
        return storage(area)?.getItem(name) ?? null;
      } catch {
        return null;
      }
    },

    /** null forgets it. Returns whether it outlives the page. */
    set(value) {
      memory[area].set(name, value);
      try {
        if (value === null) storage(area).removeItem(name);
        else storage(area).setItem(name, value);
      } catch {
        return false;
      }
      memory[area].delete(name);
      return true;
    },
  };
}
