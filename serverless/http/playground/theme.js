// Dark or light: the system's choice until the person makes one.

const KEY = "higgs-audio-theme";
const root = document.documentElement;

function isDark() {
  return (root.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
}

/** changed(): called after a switch. */
export function startTheme(changed) {
  const kept = localStorage.getItem(KEY);
  if (kept === "dark" || kept === "light") root.dataset.theme = kept;
  document.getElementById("theme-button").onclick = () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    localStorage.setItem(KEY, root.dataset.theme);
    changed();
  };
}
