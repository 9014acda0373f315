// The last results, kept in this browser only. Where IndexedDB is refused (private windows), they last as long as the page.

const KEEP = 12;
const STORE = "results";

export class History {
  #database = null;
  items = []; // newest first: {id, text, blob, suffix, input, facts}

  async open() {
    try {
      this.#database = await new Promise((resolve, reject) => {
        const request = indexedDB.open("higgs-audio-playground", 1);
        request.onupgradeneeded = () => request.result.createObjectStore(STORE, { keyPath: "id" });
        request.onsuccess = () => resolve(request.result);
        request.onerror = () => reject(request.error);
      });
      this.items = (await this.#run("readonly", (store) => store.getAll())).sort((a, b) => b.id - a.id);
    } catch {
      this.#database = null;
    }
  }

  async add(item) {
    this.items.unshift(item);
    const dropped = this.items.splice(KEEP);
    try {
      await this.#run("readwrite", (store) => {
        dropped.forEach((old) => store.delete(old.id));
        return store.put(item);
      });
    } catch {
      this.#database = null; // the disk is full or refused: go on in memory
    }
  }

  async clear() {
    this.items = [];
    await this.#run("readwrite", (store) => store.clear()).catch(() => {});
  }

  #run(mode, work) {
    if (!this.#database) return Promise.resolve([]);
    return new Promise((resolve, reject) => {
      const request = work(this.#database.transaction(STORE, mode).objectStore(STORE));
      request.onsuccess = () => resolve(request.result);
      request.onerror = () => reject(request.error);
    });
  }
}
