// The last results, kept in this browser only.

const KEEP = 12;

export class History {
  #database;
  items = []; // newest first: {id, text, blob, suffix, facts, codes, input, form}

  constructor(database) {
    this.#database = database;
  }

  async open() {
    this.items = (await this.#database.all("results")).sort((a, b) => b.id - a.id);
  }

  async add(item) {
    this.items.unshift(item);
    const dropped = this.items.splice(KEEP);
    await this.#database.change("results", { put: [item], remove: dropped.map((old) => old.id) });
  }

  async remove(id) {
    this.items = this.items.filter((item) => item.id !== id);
    await this.#database.change("results", { remove: [id] });
  }

  async clear() {
    this.items = [];
    await this.#database.clear("results");
  }
}
