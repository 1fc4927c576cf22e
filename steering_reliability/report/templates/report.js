// Without script the page shows all completions, and folds open by hand or where the browser does.
(function () {
  function filterCompletions() {
    var form = document.getElementById("filter");
    if (!form) return;
    form.hidden = false;
    var words = document.getElementById("filter-words");
    var flipped = document.getElementById("filter-flipped");
    var result = document.getElementById("filter-result");
    var prompts = Array.from(document.querySelectorAll("details.prompt"));
    var texts = prompts.map(function (prompt) { return prompt.textContent.toLowerCase(); });
    function apply() {
      var wanted = words.value.trim().toLowerCase();
      var count = 0;
      prompts.forEach(function (prompt, index) {
        var fits = texts[index].indexOf(wanted) >= 0 &&
          (!flipped.checked || prompt.classList.contains("flipped"));
        prompt.hidden = !fits;
        if (fits) count += 1;
      });
      result.textContent = count + " of " + prompts.length + " prompts";
    }
    words.addEventListener("input", apply);
    flipped.addEventListener("change", apply);
    form.addEventListener("submit", function (event) { event.preventDefault(); });
    apply();
  }

  // Opens what holds the target of a link: not every browser does.
  function reveal(name) {
    var target = name && document.getElementById(name);
    if (!target) return;
    for (var holder = target; holder; holder = holder.parentElement) {
      if (holder.tagName === "DETAILS") holder.open = true;
    }
    target.scrollIntoView();
  }
  function revealAddressed() { reveal(decodeURIComponent(location.hash.slice(1))); }

  // Prints what is folded, but for completions and for what is a file of its own.
  var opened = [];
  function unfold() {
    opened = Array.from(document.querySelectorAll("details:not([open], .raw, .split, .prompt)"));
    opened.forEach(function (part) { part.open = true; });
  }
  function fold() {
    opened.forEach(function (part) { part.open = false; });
    opened = [];
  }

  filterCompletions();
  window.addEventListener("hashchange", revealAddressed);
  window.addEventListener("beforeprint", unfold);
  window.addEventListener("afterprint", fold);
  document.addEventListener("click", function (event) {
    var link = event.target.closest('a[href^="#"]');
    // The address does not change where it is there already.
    if (link && link.hash === location.hash) revealAddressed();
  });
  revealAddressed();
})();
