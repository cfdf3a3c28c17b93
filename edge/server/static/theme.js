// The theme, set before the first paint, so that a dark page does not flash white. A classic script: modules load later.
try {
  const theme = localStorage.getItem("glm4-edge.theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // Storage is not available: the system's theme remains.
}
