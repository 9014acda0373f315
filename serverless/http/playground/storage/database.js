// One IndexedDB database for results and clips. Where it is refused (private windows), what is kept lasts as long as the
// page, and `lasting` is false.

const NAME = "higgs-audio-playground";
const STORES = ["results", "clips"];

export class Database {
  #database = null;

  get lasting() { return this.#database !== null; }

  async open() {
    try {
      this.#database = await new Promise((resolve, reject) => {
        const request = indexedDB.open(NAME, 2);
        request.onupgradeneeded = () => {
          for (const store of STORES) {
            if (!request.result.objectStoreNames.contains(store)) request.result.createObjectStore(store, { keyPath: "id" });
          }
        };
        request.onsuccess = () => resolve(request.result);
        request.onerror = () => reject(request.error);
        request.onblocked = () => reject(new Error("another tab holds an older database"));
      });
      this.#database.onversionchange = () => this.#giveUp();
    } catch {
      this.#database = null;
    }
  }

  all(store) { return this.#run(store, "readonly", (objects) => objects.getAll(), []); }
  clear(store) { return this.#run(store, "readwrite", (objects) => objects.clear()); }

  /** Puts and removes in one transaction. */
  change(store, { put = [], remove = [] }) {
    return this.#run(store, "readwrite", (objects) => {
      remove.forEach((id) => objects.delete(id));
      put.forEach((entry) => objects.put(entry));
      return objects.count();
    });
  }

  async #run(store, mode, work, otherwise) {
    if (!this.#database) return otherwise;
    try {
      return await new Promise((resolve, reject) => {
        const transaction = this.#database.transaction(store, mode);
        const request = work(transaction.objectStore(store));
        transaction.oncomplete = () => resolve(request.result);
        transaction.onabort = transaction.onerror = () => reject(transaction.error);
      });
    } catch {
      this.#giveUp(); // the disk is full or refused: go on in memory
      return otherwise;
    }
  }

  #giveUp() {
    this.#database?.close();
    this.#database = null;
  }
}
