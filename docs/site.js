// Typesets formulas, and lets the keyboard scroll what is wider than its box.
const here = new URL(".", document.currentScript.src);

function add(element, address) {
  return new Promise((loaded) => {
    const tag = document.createElement(element);
    tag.onload = loaded;
    Object.assign(tag, address);
    document.head.append(tag);
  });
}

// KaTeX is loaded only where there are formulas.
async function typeset() {
  const formulas = document.querySelectorAll(".arithmatex");
  if (formulas.length === 0) return;
  await Promise.all([
    add("link", { rel: "stylesheet", href: new URL("katex/katex.min.css", here) }),
    add("script", { src: new URL("katex/katex.min.js", here) }),
  ]);
  for (const formula of formulas) {
    const source = formula.textContent.trim().slice(2, -2); // between \( and \), or \[ and \]
    katex.render(source, formula, { displayMode: formula.tagName === "DIV", throwOnError: false });
  }
}

function letScroll() {
  for (const box of document.querySelectorAll(".md-typeset__scrollwrap, div.arithmatex")) {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  }
}

addEventListener("load", async () => {
  await typeset();
  await document.fonts.ready;
  letScroll();
  document.body.dataset.ready = "";
});
addEventListener("resize", letScroll);
