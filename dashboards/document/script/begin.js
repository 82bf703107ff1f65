// Draws everything of the page from the JSON that stands before its place.
document.body.append(tip);
tip.hidden = true;
for (const kept of document.querySelectorAll("script[type='application/json']")) {
  const data = JSON.parse(kept.text), host = kept.nextElementSibling;
  if (kept.className === "explorer") explorer(host, data);
  else watch(host, () => drawChart(host, data));
}
for (const table of document.querySelectorAll(".wide table")) sortable(table);
