// Filters the completions; without script the page shows all of them.
(function () {
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
})();
