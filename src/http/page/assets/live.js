// Keeps the page fresh: progress in place, everything else by loading the page anew when a run begins or ends. Without
// this script the page is the same and has to be loaded by hand.
(function () {
  "use strict";
  if (!window.EventSource || !document.querySelector("main[data-live]")) return;
  var known = null;
  var busy = false;

  function refresh() {
    // Nobody's typing is taken away.
    var typing = document.activeElement && /^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName);
    if (busy || typing || document.hidden) return;
    busy = true;
    fetch(location.href, { credentials: "same-origin" })
      .then(function (answer) {
        if (answer.redirected) { location.reload(); return ""; }
        return answer.ok ? answer.text() : "";
      })
      .then(function (text) {
        if (!text) return;
        var fresh = new DOMParser().parseFromString(text, "text/html").querySelector("main");
        var main = document.querySelector("main");
        if (!fresh || !main) return;
        var open = Array.prototype.map.call(main.querySelectorAll("details[open]"), function (one) { return one.id; });
        main.replaceChildren.apply(main, fresh.childNodes);
        open.forEach(function (id) {
          var one = id && document.getElementById(id);
          if (one) one.open = true;
        });
      })
      .catch(function () {})
      .then(function () { busy = false; });
  }

  function human(amount, unit) {
    if (unit !== "bytes") return String(amount);
    var units = ["B", "KiB", "MiB", "GiB", "TiB"], n = 0;
    while (amount >= 1024 && n < units.length - 1) { amount /= 1024; n += 1; }
    return (n ? amount.toFixed(1) : amount) + " " + units[n];
  }

  function show(runs) {
    runs.forEach(function (run) {
      var place = document.querySelector('[data-run="' + run.id + '"]');
      var stage = run.progress;
      if (!place || !stage) return;
      var bar = place.querySelector("progress"), said = place.querySelector("[data-said]");
      if (bar && stage.total) { bar.max = stage.total; bar.value = stage.done; } else if (bar) { bar.removeAttribute("value"); }
      if (said) {
        said.textContent = stage.name + ": " + human(stage.done, stage.unit) + (stage.total ? " of " + human(stage.total, stage.unit) : "")
          + (stage.detail ? ", " + stage.detail : "");
      }
    });
  }

  var source = new EventSource("/api/v1/events");
  source.addEventListener("runs", function (event) {
    var runs = JSON.parse(event.data);
    var now = runs.map(function (run) { return run.id + run.outcome; }).join();
    if (known !== null && known !== now) refresh();
    known = now;
    show(runs);
  });
  setInterval(refresh, 60000);
})();
