// Runs before anything is painted, so that a theme chosen earlier never flashes in late.
document.documentElement.dataset.theme = (() => {
  try {
    return localStorage.getItem("imageherd-theme") || "auto";
  } catch {
    return "auto";
  }
})();
