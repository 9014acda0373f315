// Dark or light: the system's choice until the person makes one.

import { kept } from "./storage/kept.js";

const chosen = kept("local", "higgs-audio-theme");
const root = document.documentElement;

function isDark() {
  return (root.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
}

/** changed(): called after a switch. */
export function startTheme(changed) {
  const theme = chosen.get();
  if (theme === "dark" || theme === "light") root.dataset.theme = theme;
  document.getElementById("theme-button").onclick = () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    chosen.set(root.dataset.theme);
    changed();
  };
}
