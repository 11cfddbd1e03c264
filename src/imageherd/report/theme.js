// Runs before anything is painted: a theme chosen earlier, or "#dark" / "#light" in the address, which "&" parts.
document.documentElement.dataset.theme = (() => {
  const asked = /[#&](dark|light)(?=&|$)/.exec(location.hash);
  if (asked) return asked[1];
  try {
    return localStorage.getItem("imageherd-theme") || "auto";
  } catch {
    return "auto";
  }
})();
