// Before anything is drawn, so that a dark page does not flash white. A classic script, since modules wait.
try {
  const theme = localStorage.getItem("glm4-edge.theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // Storage is closed to this page: the system's own theme it is.
}
