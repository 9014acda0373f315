// The dialog for the API key. The key is kept until the tab is closed.

import * as api from "./api.js";

const $ = (id) => document.getElementById(id);

/** Tells "saved" when a key was given. */
export class KeyDialog extends EventTarget {
  constructor() {
    super();
    $("key-button").onclick = () => this.ask();
    $("key-dialog").querySelector(".close").onclick = () => $("key-dialog").close("cancel");
    $("key-dialog").onclose = () => {
      if ($("key-dialog").returnValue === "save") {
        api.key.set($("key").value.trim());
        this.dispatchEvent(new Event("saved"));
      }
      $("key").value = "";
    };
  }

  ask(reason) {
    if ($("key-dialog").open) return;
    $("key-help").textContent = `${reason ?? "This server may ask for a key."} It is kept until this tab is closed.`;
    $("key").value = api.key.get();
    $("key-dialog").returnValue = "";
    $("key-dialog").showModal();
  }
}
